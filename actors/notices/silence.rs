//! Notices cameras that send nothing. Cameras that are configured, and those that said a name; connections without one
//! come and go as they like.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, MonoTime, Notice, NoticeSink};
use tracing::warn;

use crate::camera::Cameras;

/// How often cameras are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// Cameras that are followed without being configured.
const MAX_UNCONFIGURED: usize = 256;
/// Of those, the ones of whose silence people are told at a time: whoever may connect can make names up.
const MAX_UNCONFIGURED_TOLD: usize = 32;
/// A camera that nobody configured and that has sent nothing for so long is waited for no more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6 * 3_600);

/// One camera at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    pub camera: CameraId,
    pub configured: bool,
    /// Its last frame; none before the first.
    pub last: Option<MonoTime>,
    /// Silence after which it is missed.
    pub silent_after: Duration,
}

/// What is known of a camera.
#[derive(Debug)]
struct Followed {
    sign: Sign,
    /// Since when it is followed.
    since: MonoTime,
    /// That was when the node started.
    since_start: bool,
    is_silent: bool,
    /// Its silence was noticed, and so its end will be.
    told: bool,
}

/// Follows all cameras.
pub(crate) struct Silence {
    /// When the node started; none after the first look.
    started: Option<MonoTime>,
    /// Cameras that were silent when an earlier run ended; none after the first look.
    silent: BTreeSet<CameraId>,
    looked: Option<MonoTime>,
    followed: BTreeMap<CameraId, Followed>,
    /// That there are too many was said.
    complained: bool,
}

impl Silence {
    /// The node starts. `silent` are cameras of whose silence people were told by an earlier run: they are silent until
    /// they send.
    pub fn new(started: MonoTime, silent: BTreeSet<CameraId>) -> Self {
        Self { started: Some(started), silent, looked: None, followed: BTreeMap::new(), complained: false }
    }

    /// Looks at every camera, when it is time.
    pub fn tick(&mut self, now: MonoTime, cameras: &Cameras, sink: &dyn NoticeSink) {
        if self.looked.is_some_and(|at| now.since(at) < INTERVAL) {
            return;
        }
        self.looked = Some(now);
        let settings = cameras.settings();
        let signs = cameras.all().into_iter().filter(|camera| camera.id().is_named()).map(|camera| Sign {
            camera: camera.id().clone(),
            configured: settings.cameras.contains_key(camera.id()),
            last: camera.last_frame_mono(),
            silent_after: camera.settings().silent_after,
        });
        self.look(now, signs.collect(), settings.notify.notices.start_grace, sink);
    }

    fn look(&mut self, now: MonoTime, signs: Vec<Sign>, grace: Duration, sink: &dyn NoticeSink) {
        let here: BTreeSet<CameraId> = signs.iter().map(|sign| sign.camera.clone()).collect();
        let started = self.started.take();
        let (since, since_start) = (started.unwrap_or(now), started.is_some());
        for camera in std::mem::take(&mut self.silent) {
            // Whether it is configured is known with its sign.
            let sign =
                Sign { camera: camera.clone(), configured: false, last: None, silent_after: Duration::ZERO };
            let known = Followed { sign, since, since_start, is_silent: true, told: true };
            self.followed.insert(camera, known);
        }
        let mut too_many = None;
        for sign in signs {
            if let Some(known) = self.followed.get_mut(&sign.camera) {
                // A camera that came back under its name has not sent anything yet: its last frame was before.
                let last = sign.last.or(known.sign.last);
                known.sign = Sign { last, ..sign };
            } else if self.may_follow(&sign, now) {
                let camera = sign.camera.clone();
                let known = Followed { sign, since, since_start, is_silent: false, told: false };
                self.followed.insert(camera, known);
            } else if sends(&sign, now) {
                too_many = Some(sign.camera);
            }
        }
        self.leave_out(&here, now, sink);
        let others = |known: &&Followed| !known.sign.configured && known.told;
        let mut told = self.followed.values().filter(others).count();
        for (id, known) in &mut self.followed {
            let limit = match known.sign.last {
                Some(_) => known.sign.silent_after,
                None => known.sign.silent_after.max(grace),
            };
            let is_silent = match known.sign.last {
                Some(last) => now.since(last) > limit,
                // One that was silent before the node started is so until it sends.
                None => known.is_silent || now.since(known.since) > limit,
            };
            if is_silent == known.is_silent {
                continue;
            }
            known.is_silent = is_silent;
            if !is_silent {
                if std::mem::take(&mut known.told) {
                    sink.raise(notice(id, false, String::new()));
                }
                continue;
            }
            if !known.sign.configured {
                if told >= MAX_UNCONFIGURED_TOLD {
                    too_many = Some(id.clone());
                    continue;
                }
                told += 1;
            }
            let detail = match (known.sign.last, known.since_start) {
                (Some(_), _) => format!("no picture for {} s", limit.as_secs_f32()),
                (None, true) => "no picture since the node started".to_owned(),
                (None, false) => "no picture since it was configured".to_owned(),
            };
            known.told = true;
            sink.raise(notice(id, true, detail));
        }
        self.complain(too_many, told);
    }

    /// Stops following whom nobody waits for any more.
    fn leave_out(&mut self, here: &BTreeSet<CameraId>, now: MonoTime, sink: &dyn NoticeSink) {
        self.followed.retain(|id, known| {
            let detail = if known.sign.configured {
                // A configured camera is always here; one that is not any more has left the settings.
                if here.contains(id) {
                    return true;
                }
                "no longer configured".to_owned()
            } else {
                if now.since(known.sign.last.unwrap_or(known.since)) < FORGOTTEN_AFTER {
                    return true;
                }
                let hours = FORGOTTEN_AFTER.as_secs() / 3_600;
                format!("it is not configured and has sent nothing for {hours} hours: no longer waited for")
            };
            if known.told {
                sink.raise(notice(id, false, detail));
            }
            false
        });
    }

    /// A camera that nobody configured counts from its first frame.
    fn may_follow(&self, sign: &Sign, now: MonoTime) -> bool {
        let others = || self.followed.values().filter(|known| !known.sign.configured).count();
        sign.configured || (sends(sign, now) && others() < MAX_UNCONFIGURED)
    }

    /// Says once that there are too many, and again only after there was room.
    fn complain(&mut self, too_many: Option<CameraId>, told: usize) {
        match too_many {
            Some(camera) if !self.complained => {
                self.complained = true;
                warn!(
                    %camera,
                    "too many cameras without configuration: this one and others are not missed when they are silent"
                );
            }
            None if told < MAX_UNCONFIGURED_TOLD / 2 => self.complained = false,
            _ => {}
        }
    }
}

/// Whether it sends at present.
fn sends(sign: &Sign, now: MonoTime) -> bool {
    sign.last.is_some_and(|last| now.since(last) <= sign.silent_after)
}

fn notice(camera: &CameraId, holds: bool, detail: String) -> Notice {
    let camera = Some(camera.clone());
    Notice { kind: EventKind::CameraSilent, camera, subject: String::new(), holds, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notices::Notices;

    const GRACE: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> MonoTime {
        MonoTime(secs * 1_000_000_000)
    }

    fn sign(camera: &str, configured: bool, last: Option<u64>) -> Sign {
        let camera = CameraId::from_shown(camera).unwrap();
        Sign { camera, configured, last: last.map(at), silent_after: Duration::from_secs(5) }
    }

    /// What is noticed at a moment: cameras and whether they are silent.
    fn look(silence: &mut Silence, now: u64, signs: &[Sign]) -> Vec<(String, bool)> {
        let notices = Notices::new();
        silence.look(at(now), signs.to_vec(), GRACE, &notices);
        notices.take().into_iter().map(|n| (n.camera.unwrap().to_string(), n.holds)).collect()
    }

    fn yard(holds: bool) -> Vec<(String, bool)> {
        vec![("yard".to_owned(), holds)]
    }

    #[test]
    fn a_camera_is_missed_after_its_limit_and_found_with_its_next_frame() {
        let mut silence = Silence::new(at(0), BTreeSet::new());
        assert_eq!(look(&mut silence, 10, &[sign("yard", true, Some(10))]), []);
        assert_eq!(look(&mut silence, 15, &[sign("yard", true, Some(10))]), []);
        assert_eq!(look(&mut silence, 16, &[sign("yard", true, Some(10))]), yard(true));
        assert_eq!(look(&mut silence, 99, &[sign("yard", true, Some(10))]), []);
        assert_eq!(look(&mut silence, 100, &[sign("yard", true, Some(100))]), yard(false));
    }

    #[test]
    fn one_that_never_came_is_missed_after_the_grace_of_the_start() {
        let mut silence = Silence::new(at(0), BTreeSet::new());
        assert_eq!(look(&mut silence, 60, &[sign("yard", true, None)]), []);
        assert_eq!(look(&mut silence, 61, &[sign("yard", true, None)]), yard(true));
        assert_eq!(look(&mut silence, 62, &[sign("yard", true, Some(62))]), yard(false));
        // Taken out of the configuration while it is silent.
        assert_eq!(look(&mut silence, 70, &[sign("yard", true, Some(62))]), yard(true));
        assert_eq!(look(&mut silence, 71, &[]), yard(false));
        assert_eq!(look(&mut silence, 99, &[]), []);
    }

    #[test]
    fn one_that_said_a_name_is_missed_even_when_it_has_left() {
        let mut silence = Silence::new(at(0), BTreeSet::new());
        assert_eq!(look(&mut silence, 1, &[sign("yard", false, None)]), []);
        assert_eq!(look(&mut silence, 100, &[sign("yard", false, None)]), [], "it never sent anything");
        assert_eq!(look(&mut silence, 101, &[sign("yard", false, Some(101))]), []);
        assert_eq!(look(&mut silence, 107, &[]), yard(true));
        assert_eq!(look(&mut silence, 108, &[sign("yard", false, None)]), [], "connected is not sending");
        assert_eq!(look(&mut silence, 109, &[sign("yard", false, Some(109))]), yard(false));
    }

    #[test]
    fn one_that_was_silent_before_the_node_started_is_so_until_it_sends() {
        let silent = ["gate", "yard"].map(|id| CameraId::parse(id).unwrap());
        let mut silence = Silence::new(at(0), silent.into());
        let (gate, yard) = (sign("gate", false, None), sign("yard", true, None));
        assert_eq!(look(&mut silence, 1, std::slice::from_ref(&yard)), [], "that is known");
        assert_eq!(look(&mut silence, 1_000, &[yard, gate]), []);
        let back = [sign("yard", true, Some(1_001)), sign("gate", false, Some(1_001))];
        let both = [("gate".to_owned(), false), ("yard".to_owned(), false)];
        assert_eq!(look(&mut silence, 1_001, &back), both);
        assert_eq!(look(&mut silence, 1_010, &back), both.map(|(id, _)| (id, true)));
    }

    #[test]
    fn one_that_is_added_later_has_the_grace_of_a_start() {
        let mut silence = Silence::new(at(0), BTreeSet::new());
        assert_eq!(look(&mut silence, 1, &[]), []);
        assert_eq!(look(&mut silence, 1_000, &[sign("yard", true, None)]), []);
        assert_eq!(look(&mut silence, 1_060, &[sign("yard", true, None)]), []);
        assert_eq!(look(&mut silence, 1_061, &[sign("yard", true, None)]), yard(true));
    }

    #[test]
    fn names_that_somebody_makes_up_are_neither_many_messages_nor_for_ever() {
        let mut silence = Silence::new(at(0), BTreeSet::new());
        let names = |from: usize| -> Vec<Sign> {
            (from..from + 2 * MAX_UNCONFIGURED).map(|n| sign(&format!("c{n}"), false, Some(10))).collect()
        };
        let own = sign("yard", true, Some(10));
        let all = [names(0), vec![own.clone()]].concat();
        assert_eq!(look(&mut silence, 10, &all), []);
        assert_eq!(silence.followed.len(), MAX_UNCONFIGURED + 1);
        assert!(silence.complained, "once");
        let told = look(&mut silence, 20, &all);
        assert_eq!(told.len(), MAX_UNCONFIGURED_TOLD + 1);
        assert!(told.contains(&("yard".to_owned(), true)), "whoever is configured is missed all the same");
        assert_eq!(look(&mut silence, 30, &all), []);
        // They are told to be over as they were told, and make room for others; who is connected still is not back.
        let hours = FORGOTTEN_AFTER.as_secs();
        let over = look(&mut silence, 10 + hours, &all);
        assert_eq!(over.len(), MAX_UNCONFIGURED_TOLD);
        assert!(over.iter().all(|(_, holds)| !holds));
        assert_eq!(silence.followed.len(), 1);
        assert_eq!(look(&mut silence, 11 + hours, &all), []);
        assert!(!silence.complained);
        let late = sign("late", false, Some(12 + hours));
        assert_eq!(look(&mut silence, 12 + hours, &[late.clone(), own.clone()]), []);
        assert_eq!(look(&mut silence, 20 + hours, &[late, own]), [("late".to_owned(), true)]);
    }
}
