//! What a home is told about: the cameras, what goes on at each, and the messages that say so. Whether they arrive is
//! the link's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meerkat_base::{CameraId, Clock, EventId, EventKind, EventPhase, WallTime};
use tracing::warn;

use super::presence::Presence;
use super::{Message, MqttSettings, discovery, topics};
use crate::alert::{Alert, Digest};

/// Cameras at most, unnamed ones included; more have events but no entities.
pub const MAX_CAMERAS: usize = 256;

/// What goes on, kept while settings are reloaded and channels built anew: their events go on, too.
#[derive(Clone, Default)]
pub struct MqttMemory {
    channels: Arc<Mutex<BTreeMap<String, Arc<Mutex<Known>>>>>,
    before: Arc<Vec<GoingOn>>,
}

/// What began in an earlier life of the node and goes on in this one, as notices do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingOn {
    /// Which event.
    pub event: EventId,
    /// Where.
    pub camera: CameraId,
    /// What it is.
    pub kind: EventKind,
    /// When it began.
    pub started: WallTime,
}

impl MqttMemory {
    /// At the start of the node.
    pub fn new(before: Vec<GoingOn>) -> Self {
        Self { channels: Arc::default(), before: Arc::new(before) }
    }

    fn of(&self, channel: &str, now: WallTime) -> Arc<Mutex<Known>> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Mutex::new(Known::new(now, &self.before)));
        Arc::clone(channels.entry(channel.to_owned()).or_insert_with(fresh))
    }
}

struct Known {
    /// When this life of the node began.
    since: WallTime,
    /// Cameras that alerts named and the configuration does not, with what people call them.
    met: BTreeMap<CameraId, Option<String>>,
    presences: BTreeMap<(CameraId, EventKind), Presence>,
    /// Cameras that have shown something in this life of the node, or have come back from silence.
    seen: BTreeSet<CameraId>,
}

impl Known {
    fn new(since: WallTime, before: &[GoingOn]) -> Self {
        let mut presences: BTreeMap<(CameraId, EventKind), Presence> = BTreeMap::new();
        for GoingOn { event, camera, kind, started } in before {
            let presence = presences.entry((camera.clone(), *kind)).or_default();
            presence.hear(*kind, *event, *started, EventPhase::Started, false);
        }
        Self { since, met: BTreeMap::new(), presences, seen: BTreeSet::new() }
    }
}

/// The cameras of one channel and their states.
pub(super) struct Home {
    settings: MqttSettings,
    known: Arc<Mutex<Known>>,
    clock: Arc<dyn Clock>,
}

impl Home {
    pub fn new(settings: MqttSettings, memory: &MqttMemory, clock: Arc<dyn Clock>) -> Self {
        let known = memory.of(&settings.name, clock.wall());
        Self { settings, known, clock }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with everything that a newcomer must be told, while no alert can change it.
    pub fn with_greeting(&self, tell: impl FnOnce(Vec<Message>)) {
        let known = self.lock();
        let mut messages = discovery::node(&self.settings);
        for (camera, name) in self.cameras(&known) {
            messages.extend(discovery::camera(&self.settings, camera, name));
        }
        messages.push(Message::retained(topics::availability(&self.settings), super::ONLINE));
        for (camera, _) in self.cameras(&known) {
            for kind in EventKind::ALL {
                messages.extend(self.state(&known, camera, kind));
            }
        }
        for kind in EventKind::ALL {
            messages.extend(self.state(&known, &CameraId::node(), kind));
        }
        tell(messages);
    }

    /// Takes what an alert says and does something with the messages that follow from it, while no other alert can
    /// change it: states are published in the order in which they came about.
    pub fn with_news<R>(&self, alert: &Alert, tell: impl FnOnce(Vec<Message>) -> R) -> R {
        let mut known = self.lock();
        let mut messages = Vec::new();
        let is_met = alert.camera.is_node() || self.meet(&mut known, alert, &mut messages);
        if is_met {
            let now = self.clock.wall();
            // A clock that was set back says nothing about which life an event belongs to.
            let is_over = alert.started < known.since && now >= known.since;
            let key = (alert.camera.clone(), alert.kind);
            let presence = known.presences.entry(key).or_default();
            let was_on = presence.is_on();
            presence.hear(alert.kind, alert.event, alert.started, alert.phase, is_over);
            let is_alive = !alert.kind.is_notice()
                || (alert.kind == EventKind::CameraSilent && alert.phase == EventPhase::Ended);
            // What went on until now is over now, whenever it began.
            let is_of_now = !is_over || was_on;
            let is_new = is_alive && is_of_now && known.seen.insert(alert.camera.clone());
            messages.extend(self.state(&known, &alert.camera, alert.kind));
            if is_new && alert.kind != EventKind::CameraSilent {
                messages.extend(self.state(&known, &alert.camera, EventKind::CameraSilent));
            }
        }
        tell(messages)
    }

    /// The same for a digest: ends may be among what it sums up.
    pub fn with_digest<R>(&self, digest: &Digest, tell: impl FnOnce(Vec<Message>) -> R) -> R {
        let mut known = self.lock();
        let mut messages = Vec::new();
        for line in &digest.counts {
            if let Some(presence) = known.presences.get_mut(&(line.camera.clone(), line.kind)) {
                presence.settle(digest.newest);
                messages.extend(self.state(&known, &line.camera, line.kind));
            }
        }
        tell(messages)
    }

    /// Whether a discovery topic is one of ours.
    pub fn announces(&self, topic: &str) -> bool {
        let known = self.lock();
        let cameras = self.cameras(&known).into_iter();
        let mut all = cameras.flat_map(|(camera, name)| discovery::camera(&self.settings, camera, name));
        all.any(|message| message.topic == topic)
            || discovery::node(&self.settings).iter().any(|message| message.topic == topic)
    }

    fn cameras<'k>(&'k self, known: &'k Known) -> Vec<(&'k CameraId, Option<&'k str>)> {
        let configured = self.settings.cameras.iter().map(|(camera, name)| (camera, name.as_deref()));
        let met = known.met.iter().map(|(camera, name)| (camera, name.as_deref()));
        configured.chain(met.filter(|(camera, _)| !self.is_configured(camera))).collect()
    }

    fn is_configured(&self, camera: &CameraId) -> bool {
        self.settings.cameras.iter().any(|(configured, _)| configured == camera)
    }

    /// Whether the camera has entities; announces one that is new.
    fn meet(&self, known: &mut Known, alert: &Alert, messages: &mut Vec<Message>) -> bool {
        if self.is_configured(&alert.camera) || known.met.contains_key(&alert.camera) {
            return true;
        }
        if self.settings.cameras.len() + known.met.len() >= MAX_CAMERAS {
            warn!(channel = self.settings.name, camera = %alert.camera, "too many cameras: it gets no entities");
            return false;
        }
        known.met.insert(alert.camera.clone(), alert.camera_name.clone());
        messages.extend(discovery::camera(&self.settings, &alert.camera, alert.camera_name.as_deref()));
        for kind in EventKind::ALL {
            messages.extend(self.state(known, &alert.camera, kind));
        }
        true
    }

    /// How one kind stands at one camera, where that is told at all.
    fn state(&self, known: &Known, camera: &CameraId, kind: EventKind) -> Option<Message> {
        if !self.settings.kinds.contains(&kind) {
            return None;
        }
        let is_on = known.presences.get(&(camera.clone(), kind)).is_some_and(Presence::is_on);
        let (what, payload) = match (camera.is_node(), kind) {
            (true, EventKind::CameraSilent) => return None,
            (true, kind) if !kind.is_notice() => return None,
            (false, EventKind::CameraSilent) => {
                let payload = match (is_on, known.seen.contains(camera)) {
                    (true, _) => discovery::OFF,
                    (false, true) => discovery::ON,
                    (false, false) => discovery::UNKNOWN,
                };
                ("online", payload)
            }
            (false, kind) if !topics::has_state(&self.settings, kind) => return None,
            (_, kind) => (kind.as_str(), if is_on { discovery::ON } else { discovery::OFF }),
        };
        Some(Message::retained(topics::camera(&self.settings, camera, what), payload))
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::ManualClock;
    use uuid::Uuid;

    use super::*;
    use crate::alert::tests::alert;

    #[test]
    fn what_went_on_before_a_restart_is_on_from_the_start_until_it_is_over() {
        let mut settings = MqttSettings::new("home", "127.0.0.1", "node1");
        settings.cameras = vec![(CameraId::parse("front").unwrap(), None)];
        let now = WallTime(1_795_300_000_000_000);
        let began = |number: u128, camera: CameraId, kind| GoingOn {
            event: EventId(Uuid::from_u128(number)),
            camera,
            kind,
            started: now.offset_micros(-3_600_000_000),
        };
        let silent = began(1, CameraId::parse("front").unwrap(), EventKind::CameraSilent);
        let low = began(2, CameraId::node(), EventKind::DiskLow);
        let memory = MqttMemory::new(vec![silent.clone(), low]);
        let home = Home::new(settings.clone(), &memory, Arc::new(ManualClock::new(now)));
        let greeted = |home: &Home, camera: &CameraId, what: &str| {
            let topic = topics::camera(&settings, camera, what);
            let mut found = Vec::new();
            home.with_greeting(|messages| {
                let own = messages.into_iter().filter(|message| message.topic == topic);
                found.extend(own.map(|message| String::from_utf8_lossy(&message.payload).into_owned()));
            });
            found
        };
        assert_eq!(greeted(&home, &silent.camera, "online"), [discovery::OFF]);
        assert_eq!(greeted(&home, &CameraId::node(), "disk_low"), [discovery::ON]);
        assert_eq!(greeted(&home, &CameraId::node(), "clock_jump"), [discovery::OFF]);
        // Its beginning, which was not delivered before the restart, changes nothing; its end does.
        let mut told = alert(EventKind::CameraSilent, None);
        (told.event, told.started) = (silent.event, silent.started);
        for (phase, expected) in [(EventPhase::Started, discovery::OFF), (EventPhase::Ended, discovery::ON)] {
            told.phase = phase;
            home.with_news(&told, |_| {});
            assert_eq!(greeted(&home, &silent.camera, "online"), [expected], "{phase:?}");
        }
    }
}
