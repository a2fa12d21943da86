//! What a death of the node left open: events are over with it, and whoever was to be told of their end is. Notices go
//! on: a camera does not send again because the node was restarted.

use std::collections::BTreeSet;

use meerkat_base::{CameraId, EventId, EventKind, EventPhase, WallTime};
use meerkat_settings::Settings;
use meerkat_store::{ClipWish, Fate, Orphan, Store, StoreError, ToldAlert};
use tracing::warn;

use super::book::{Carried, Fact, MAX_FACTS, is_forgotten};
use crate::rules::{Promise, Rules, Said};

/// What an earlier run left open, sorted.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Events that are over.
    pub closed: usize,
    /// Notices that go on.
    pub carried: Vec<Carried>,
}

impl Left {
    /// Cameras that were silent.
    pub fn silent(&self) -> BTreeSet<CameraId> {
        let silent = self.carried.iter().filter(|carried| carried.fact.kind == EventKind::CameraSilent);
        silent.filter_map(|carried| carried.fact.camera.clone()).collect()
    }
}

/// Closes what an earlier run left open and does not go on, with the clips for who hears of the end only. To be called once, before any event of this run.
pub(crate) fn close_orphans(
    store: &mut Store,
    rules: &Rules,
    settings: &Settings,
    wishes: &[ClipWish],
    now: WallTime,
) -> Result<Left, StoreError> {
    let mut carried: Vec<Carried> = Vec::new();
    let mut over: Vec<EventId> = Vec::new();
    let mut known: BTreeSet<Fact> = BTreeSet::new();
    let closed = store.close_orphans(now, |orphan| {
        let promises = promises(orphan);
        if !outlives(orphan.event.kind) {
            let alerts = told(orphan, &promises, rules, settings);
            if !alerts.is_empty() {
                over.push(orphan.event.id);
            }
            return Fate::Ends(alerts);
        }
        let camera = Some(orphan.event.camera.clone()).filter(|camera| !camera.is_node());
        let fact = Fact { kind: orphan.event.kind, camera, subject: orphan.subject.clone() };
        // More than can be followed, or the same twice: it is over for the list of events, and nobody is told what is
        // not so.
        if known.len() >= MAX_FACTS || !known.insert(fact.clone()) {
            return Fate::Ends(Vec::new());
        }
        let mut event = orphan.event.clone();
        (event.phase, event.ended) = (EventPhase::Started, None);
        carried.push(Carried { fact, event, promises });
        Fate::Lasts
    })?;
    if let Err(error) = store.follow_ends(&over, wishes, now) {
        warn!(%error, "clips do not follow the ends of events that an earlier run left open");
    }
    Ok(Left { closed, carried })
}

/// Whether something holds without regard to whether the node runs. Who watched has left with it.
fn outlives(kind: EventKind) -> bool {
    kind.is_notice() && kind != EventKind::Viewer
}

/// Whether an event that an earlier run left open and that began then goes on after a start now.
pub fn goes_on(kind: EventKind, started: WallTime, now: WallTime) -> bool {
    outlives(kind) && !is_forgotten(kind, started, now)
}

fn promises(orphan: &Orphan) -> Vec<Promise> {
    let Some(kept) = &orphan.promises else { return Vec::new() };
    serde_json::from_value(kept.clone()).unwrap_or_else(|error| {
        warn!(event = %orphan.event.id, %error, "it is unknown who is to be told of the end of an event");
        Vec::new()
    })
}

fn told(orphan: &Orphan, promises: &[Promise], rules: &Rules, settings: &Settings) -> Vec<ToldAlert> {
    let camera = settings.camera(&orphan.event.camera);
    let said = Said { camera_name: camera.name.as_deref(), ..Said::default() };
    rules.alerts(&orphan.event, &rules.end(promises), said)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use meerkat_base::{Clock, Event, ManualClock, Severity};
    use meerkat_store::{ClipRow, ClipState, EventRow, Report, StoreOptions};

    use super::*;
    use crate::testing::{NOON, camera, cameras, event, frame, settings};

    struct Scene {
        _folder: tempfile::TempDir,
        store: Store,
        clock: ManualClock,
        rules: Rules,
        settings: Settings,
        number: u8,
    }

    impl Scene {
        fn new(keys: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
            let clock = ManualClock::new(NOON);
            let hook = [
                ("notify.channels.a.type", "webhook"),
                ("notify.channels.a.url", "https://example.org/a"),
                ("notify.channels.a.secret", "0123456789abcdef"),
            ];
            let settings = settings(&[&hook[..], keys].concat());
            let rules = Rules::new(&settings, Arc::new(clock.clone()));
            Self { _folder: folder, store, clock, rules, settings, number: 0 }
        }

        /// An event of the run that is about to end, with its promises.
        fn begin(&mut self, kind: EventKind, subject: &str, promised: bool) -> Event {
            self.number += 1;
            let door = camera(&cameras(&self.clock, &[]), "door");
            let event = Event { kind, ..event(&frame(&door, &self.clock).0, self.number) };
            let promise = Promise {
                channel: "a".to_owned(),
                rule: "channel a".to_owned(),
                severity: Severity::Warning,
            };
            let promises = if promised { vec![promise] } else { Vec::new() };
            let report = Report {
                event: event.clone(),
                detail: None,
                snoozed: false,
                subject: Some(subject.to_owned()),
                promises: serde_json::to_value(&promises).ok(),
                attendance: None,
                alerts: Vec::new(),
            };
            self.store.report(&[report], self.clock.wall()).unwrap();
            event
        }

        fn restart(&mut self) -> Left {
            self.clock.advance(Duration::from_secs(60));
            let wishes = [ClipWish { channel: "a".to_owned(), kinds: vec![EventKind::Person] }];
            close_orphans(&mut self.store, &self.rules, &self.settings, &wishes, self.clock.wall()).unwrap()
        }

        fn row(&self, event: &Event) -> EventRow {
            self.store.event(event.id).unwrap().unwrap()
        }

        /// Channels that are told of the end of an event, and when.
        fn told(&self, event: &Event) -> Vec<(String, EventPhase, WallTime)> {
            let rows = self.store.alerts_of(event.id).unwrap();
            rows.into_iter().map(|row| (row.channel, row.phase, row.next_attempt_at)).collect()
        }
    }

    #[test]
    fn the_end_of_what_was_cut_off_is_told_to_whom_it_was_promised() {
        let mut scene = Scene::new(&[]);
        let (promised, other) =
            (scene.begin(EventKind::Person, "", true), scene.begin(EventKind::Person, "", false));
        let viewer = scene.begin(EventKind::Viewer, "192.0.2.7", true);
        assert_eq!(scene.restart().closed, 3);
        let now = scene.clock.wall();
        for event in [&promised, &viewer] {
            assert_eq!(scene.told(event), [("a".to_owned(), EventPhase::Ended, now)]);
        }
        assert_eq!(scene.told(&other), []);
        assert!(scene.row(&promised).interrupted);
        assert_eq!(scene.restart().closed, 0);
    }

    #[test]
    fn the_clips_of_what_was_cut_off_follow_its_end() {
        let mut scene = Scene::new(&[]);
        let event = scene.begin(EventKind::Person, "", true);
        let clip = ClipRow {
            event: Some(event.id),
            camera: event.camera.clone(),
            path: "capture/clip/door/a.mp4".to_owned(),
            started: event.started,
            duration: Duration::from_secs(5),
            frames: 50,
            bytes: 4,
            sha256: None,
            state: ClipState::Ok,
            skipped: 0,
            missing: None,
        };
        scene.store.book_clip(&[clip], &[], scene.clock.wall()).unwrap();
        scene.restart();
        let rows = scene.store.alerts_of(event.id).unwrap();
        let clips: Vec<_> = rows.iter().map(|row| (row.phase, row.clip.as_deref())).collect();
        let ended = EventPhase::Ended;
        assert_eq!(clips, [(ended, None), (ended, Some("capture/clip/door/a.mp4"))]);
    }

    #[test]
    fn in_quiet_hours_that_waits_as_everything_else() {
        // It is noon.
        let quiet = [("notify.channels.a.quiet_hours", "11:00-13:00"), ("notify.time_zone", "UTC")];
        let mut scene = Scene::new(&quiet);
        let cut_off: Vec<Event> = (0..2).map(|_| scene.begin(EventKind::Person, "", true)).collect();
        scene.restart();
        let told: Vec<_> = cut_off.iter().flat_map(|event| scene.told(event)).collect();
        assert_eq!(told.len(), 1, "one message: {told:?}");
        assert!(told[0].2 > scene.clock.wall(), "{told:?}");
    }

    #[test]
    fn notices_go_on() {
        let mut scene = Scene::new(&[]);
        let silent = scene.begin(EventKind::CameraSilent, "", true);
        let failing = scene.begin(EventKind::ActorFailing, "motion", true);
        let again = scene.begin(EventKind::ActorFailing, "motion", true);
        let left = scene.restart();
        assert_eq!(left.closed, 1, "the same twice is one");
        let facts: Vec<(EventKind, &str)> =
            left.carried.iter().map(|carried| (carried.fact.kind, carried.fact.subject.as_str())).collect();
        assert_eq!(facts, [(EventKind::CameraSilent, ""), (EventKind::ActorFailing, "motion")]);
        let first = &left.carried[0];
        assert_eq!(
            (first.event.id, first.event.phase, first.event.ended),
            (silent.id, EventPhase::Started, None)
        );
        assert_eq!(first.promises.len(), 1);
        assert_eq!(left.silent().into_iter().collect::<Vec<_>>(), std::slice::from_ref(&silent.camera));
        for event in [&silent, &failing, &again] {
            assert_eq!(scene.told(event), [], "nobody is told what is not so");
        }
        assert_eq!((scene.row(&silent).ended, scene.row(&failing).ended), (None, None));
        assert!(scene.row(&again).interrupted);
    }
}
