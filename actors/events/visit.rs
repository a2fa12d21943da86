//! The state machine that makes one event of one visit: hits within a window start it, absence ends it, and a
//! cool-down keeps the same from starting again at once. No actor, no clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use meerkat_base::{
    CameraId, Detection, Event, EventId, EventKind, EventPhase, MonoTime, Rect, Sighting, WallTime,
};
use meerkat_settings::{EventSettings, EventsSettings};

use super::Seen;
use crate::camera::Camera;
use crate::faces::UNKNOWN;

/// An update is told at most this often.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Sightings kept between two updates.
const MAX_SIGHTINGS: usize = 16;
/// Guard alarms happen in a moment; their event lasts this long, so that the clip shows what followed.
const ALARM_LENGTH: Duration = Duration::from_secs(5);

/// A visit is told apart by camera, kind and, for faces, by whose face it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    camera: CameraId,
    kind: EventKind,
    identity: Option<String>,
}

/// What happened to an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The event as it is now; its phase says what happened.
    pub event: Event,
    /// Time of the frame that brought the change, for durations.
    pub at: MonoTime,
    /// Whether every frame that showed it so far came from a camera that had proved itself.
    pub proven: bool,
}

#[derive(Debug)]
struct Visit {
    /// Which life of the camera it happens in.
    life: u64,
    /// Whether each of the last looks was a hit, newest last.
    looks: VecDeque<bool>,
    last_look_seq: u64,
    /// Where the last hit was.
    boxes: Vec<Rect>,
    /// Whether the last hit was in a frame of a camera that had proved itself.
    proven: bool,
    running: Option<Running>,
    /// No new event before this time.
    quiet_until: Option<MonoTime>,
    last_seen: MonoTime,
}

#[derive(Debug)]
struct Running {
    event: Event,
    last_hit: MonoTime,
    last_hit_wall: WallTime,
    last_update: MonoTime,
    /// Whether all hits were in frames of a camera that had proved itself.
    proven: bool,
}

/// All visits of all cameras.
pub struct Visits {
    settings: EventsSettings,
    visits: BTreeMap<Key, Visit>,
    entropy: Box<dyn FnMut() -> [u8; 10] + Send>,
}

impl Visits {
    /// Nobody is there yet. `entropy` makes ids of the same moment differ.
    pub fn new(settings: EventsSettings, entropy: impl FnMut() -> [u8; 10] + Send + 'static) -> Self {
        Self { settings, visits: BTreeMap::new(), entropy: Box::new(entropy) }
    }

    /// Puts new settings in force.
    pub fn reload(&mut self, settings: EventsSettings) {
        self.settings = settings;
    }

    fn rules(&self, kind: EventKind) -> EventSettings {
        match kind {
            EventKind::Motion => self.settings.motion.clone(),
            EventKind::Person => self.settings.person.clone(),
            EventKind::Face => self.settings.face.clone(),
            // Notices never come here; if one did, it would be an alarm like these.
            _ => EventSettings { start_hits: 1, window: 1, end: ALARM_LENGTH, cooldown: Duration::ZERO },
        }
    }

    /// Takes what was seen in one frame; returns what changed by it. One that shows what may not be seen any more, because
    /// the mask changed while it was being looked at, counts for nothing.
    pub fn see(&mut self, seen: &Seen) -> Vec<Change> {
        let camera = seen.camera.id();
        let mut changes = self.end_other_lives(&seen.camera);
        if seen.camera.is_outdated(seen.seq) {
            return changes;
        }
        let mut groups: BTreeMap<Option<String>, Vec<Detection>> = BTreeMap::new();
        for detection in &seen.detections {
            let identity = (seen.kind == EventKind::Face)
                .then(|| detection.identity.clone().unwrap_or_else(|| UNKNOWN.to_owned()));
            groups.entry(identity).or_default().push(detection.clone());
        }
        // Whoever is followed and was not seen this time has missed a look.
        let absent: Vec<Key> = self
            .visits
            .keys()
            .filter(|key| {
                key.camera == *camera && key.kind == seen.kind && !groups.contains_key(&key.identity)
            })
            .cloned()
            .collect();
        for key in absent {
            let window = self.rules(seen.kind).window;
            if let Some(visit) = self.visits.get_mut(&key) {
                visit.note(false, seen.seq, window);
            }
        }
        for (identity, detections) in groups {
            let key = Key { camera: camera.clone(), kind: seen.kind, identity };
            changes.extend(self.hit(key, seen, detections));
        }
        changes
    }

    /// Ends what began in an earlier life of this camera: its ring and its recorder are gone, and its frames are counted
    /// from the beginning. Whoever is still there begins an event of this life, which is recorded.
    fn end_other_lives(&mut self, camera: &Camera) -> Vec<Change> {
        let mut changes = Vec::new();
        let others = self.visits.iter_mut();
        for (_, visit) in
            others.filter(|(key, visit)| key.camera == *camera.id() && visit.life != camera.life())
        {
            changes.extend(visit.running.take().map(Running::end));
            visit.life = camera.life();
            visit.looks.clear();
            visit.boxes.clear();
        }
        changes
    }

    fn hit(&mut self, key: Key, seen: &Seen, detections: Vec<Detection>) -> Option<Change> {
        let rules = self.rules(key.kind);
        let visit = self.visits.entry(key.clone()).or_insert_with(|| Visit {
            life: seen.camera.life(),
            looks: VecDeque::new(),
            last_look_seq: 0,
            boxes: Vec::new(),
            proven: seen.proven,
            running: None,
            quiet_until: None,
            last_seen: seen.mono,
        });
        // A hit long after the one before belongs to another visit.
        if visit.running.is_none() && seen.mono.since(visit.last_seen) > rules.end {
            visit.looks.clear();
        }
        // A phantom jumps about, a person does not: hits that start an event overlap each other.
        let boxes: Vec<Rect> = detections.iter().map(|detection| detection.bbox).collect();
        if visit.running.is_none() && key.kind == EventKind::Person && !visit.follows(&boxes) {
            visit.looks.clear();
        }
        // What anybody can send adds nothing to what a proven camera saw.
        if visit.running.is_none() && visit.proven != seen.proven {
            visit.looks.clear();
        }
        visit.proven = seen.proven;
        visit.boxes = boxes;
        visit.note(true, seen.seq, rules.window);
        visit.last_seen = seen.mono;
        let score = detections.iter().map(|d| d.score).fold(0.0, f32::max);
        let sighting = Sighting { wall: seen.wall, seq: seen.seq, detections };
        if let Some(running) = &mut visit.running {
            running.last_hit = seen.mono;
            running.last_hit_wall = seen.wall;
            running.proven &= seen.proven;
            running.event.score = running.event.score.max(score);
            running.event.phase = EventPhase::Updated;
            if running.event.sightings.len() < MAX_SIGHTINGS {
                running.event.sightings.push(sighting);
            }
            if seen.mono.since(running.last_update) < UPDATE_INTERVAL {
                return None;
            }
            running.last_update = seen.mono;
            return Some(running.tell(seen.mono));
        }
        let hits = visit.looks.iter().filter(|&&hit| hit).count();
        let quiet = visit.quiet_until.is_some_and(|until| seen.mono < until);
        if quiet || hits < rules.start_hits as usize {
            return None;
        }
        let event = Event {
            id: EventId::new(seen.wall, (self.entropy)()),
            camera: key.camera,
            kind: key.kind,
            phase: EventPhase::Started,
            started: seen.wall,
            started_seq: seen.seq,
            ended: None,
            score,
            identities: key.identity.into_iter().collect(),
            sightings: vec![sighting],
        };
        let mut running = Running {
            event,
            last_hit: seen.mono,
            last_hit_wall: seen.wall,
            last_update: seen.mono,
            proven: seen.proven,
        };
        let change = running.tell(seen.mono);
        visit.running = Some(running);
        Some(change)
    }

    /// Ends what has not been seen for long enough. Called several times a second.
    pub fn tick(&mut self, now: MonoTime) -> Vec<Change> {
        let mut changes = Vec::new();
        let rules: BTreeMap<EventKind, EventSettings> =
            EventKind::SEEN.into_iter().map(|kind| (kind, self.rules(kind))).collect();
        self.visits.retain(|key, visit| {
            let Some(rules) = rules.get(&key.kind) else { return false };
            if let Some(running) = visit.running.take_if(|running| now.since(running.last_hit) >= rules.end) {
                changes.push(running.end());
                visit.looks.clear();
                visit.quiet_until = Some(now.after(rules.cooldown));
            }
            // Forget whoever is gone: memory follows the people in sight, not everybody ever seen.
            let cooling = visit.quiet_until.is_some_and(|until| now < until);
            visit.running.is_some() || cooling || now.since(visit.last_seen) < rules.end
        });
        changes
    }

    /// Ends everything that runs, because the node goes down.
    pub fn end_all(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for visit in self.visits.values_mut() {
            changes.extend(visit.running.take().map(Running::end));
        }
        self.visits.clear();
        changes
    }

    /// Events that run.
    pub fn running(&self) -> usize {
        self.visits.values().filter(|visit| visit.running.is_some()).count()
    }
}

impl Visit {
    /// Whether one of these boxes overlaps one of the hit before.
    fn follows(&self, boxes: &[Rect]) -> bool {
        self.boxes.is_empty()
            || boxes.iter().any(|new| self.boxes.iter().any(|old| new.intersection(old) > 0.0))
    }

    fn note(&mut self, hit: bool, seq: u64, window: u32) {
        // Two groups of one frame are one look.
        if seq == self.last_look_seq && !self.looks.is_empty() {
            return;
        }
        self.last_look_seq = seq;
        self.looks.push_back(hit);
        while self.looks.len() > window as usize {
            self.looks.pop_front();
        }
    }
}

impl Running {
    /// The event as it is now, with the sightings since it was last told.
    fn tell(&mut self, at: MonoTime) -> Change {
        let told = self.event.clone();
        self.event.sightings.clear();
        Change { event: told, at, proven: self.proven }
    }

    /// It ended with its last sighting.
    fn end(mut self) -> Change {
        self.event.phase = EventPhase::Ended;
        self.event.ended = Some(self.last_hit_wall);
        let at = self.last_hit;
        self.tell(at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meerkat_base::{Clock, ManualClock};

    use super::*;
    use crate::testing::{NOON, camera, cameras, cover_all, found, frame, settings};

    const STEP: Duration = Duration::from_millis(200);
    /// What the tests count on; the defaults may change.
    const RULES: [(&str, &str); 6] = [
        ("events.person.start_hits", "3"),
        ("events.person.window", "6"),
        ("events.face.start_hits", "2"),
        ("events.face.window", "4"),
        ("events.face.end_secs", "3"),
        ("events.motion.start_hits", "3"),
    ];

    fn rules(changes: &[(&str, &str)]) -> EventsSettings {
        let mut all = RULES.to_vec();
        all.retain(|(key, _)| !changes.iter().any(|(changed, _)| changed == key));
        all.extend(changes);
        settings(&all).events
    }

    /// A camera, a clock and the machine under test.
    struct Scene {
        clock: ManualClock,
        camera: Arc<Camera>,
        visits: Visits,
    }

    impl Scene {
        fn new(changes: &[(&str, &str)]) -> Self {
            let clock = ManualClock::new(NOON);
            let camera = camera(&cameras(&clock, &[]), "door");
            let mut number = 0u8;
            let entropy = move || {
                number = number.wrapping_add(1);
                [number; 10]
            };
            Self { visits: Visits::new(rules(changes), entropy), clock, camera }
        }

        /// One look after [`STEP`] at the camera's next frame.
        fn look(&mut self, kind: EventKind, detections: Vec<Detection>) -> Vec<Change> {
            self.clock.advance(STEP);
            let (frame, _) = frame(&self.camera, &self.clock);
            self.visits.see(&Seen::of(&self.camera, &frame, kind, detections))
        }

        fn person(&mut self, is_there: bool) -> Vec<Change> {
            self.look(EventKind::Person, if is_there { vec![found("person", 0.8, None)] } else { Vec::new() })
        }

        fn faces(&mut self, names: &[Option<&str>]) -> Vec<Change> {
            let found = names.iter().map(|name| found("face", 0.7, *name)).collect();
            self.look(EventKind::Face, found)
        }

        /// Nothing comes for so long; what ends meanwhile?
        fn pause(&mut self, length: Duration) -> Vec<Change> {
            let mut changes = Vec::new();
            let end = self.clock.mono().after(length);
            while self.clock.mono() < end {
                self.clock.advance(STEP);
                changes.extend(self.visits.tick(self.clock.mono()));
            }
            changes
        }

        /// Looks with somebody there until an event starts.
        fn start(&mut self) -> Event {
            for _ in 0..20 {
                if let Some(change) = self.person(true).pop() {
                    assert_eq!(change.event.phase, EventPhase::Started);
                    return change.event;
                }
            }
            panic!("no event starts");
        }
    }

    #[test]
    fn what_was_seen_before_the_mask_changed_counts_for_nothing() {
        let mut scene = Scene::new(&[]);
        for look in 0..2 {
            assert_eq!(scene.person(true), [], "look {look}");
        }
        // The third is being looked at when the mask changes.
        scene.clock.advance(STEP);
        let (frame, _) = frame(&scene.camera, &scene.clock);
        cover_all(&scene.camera);
        let seen = Seen::of(&scene.camera, &frame, EventKind::Person, vec![found("person", 0.8, None)]);
        assert_eq!(scene.visits.see(&seen), []);
        assert_eq!(scene.person(true).len(), 1, "and the next one is the third");
    }

    #[test]
    fn hits_among_the_last_looks_start_an_event() {
        // Three of six.
        let mut scene = Scene::new(&[]);
        for is_there in [true, false, true, false, false] {
            assert_eq!(scene.person(is_there), []);
        }
        let started = scene.person(true);
        assert_eq!(started.len(), 1, "the third hit among six looks");
        let event = &started[0].event;
        assert_eq!((event.phase, event.started_seq, event.score), (EventPhase::Started, 6, 0.8));
        assert_eq!((event.started, started[0].at), (scene.clock.wall(), scene.clock.mono()));
        assert_eq!(event.sightings.len(), 1);
    }

    #[test]
    fn hits_too_far_apart_are_not_one_visit() {
        let mut scene = Scene::new(&[("events.person.end_secs", "30")]);
        for _ in 0..6 {
            for is_there in [true, false, false] {
                assert_eq!(scene.person(is_there), [], "never three hits among six looks");
            }
        }
        let mut scene = Scene::new(&[("events.person.end_secs", "1")]);
        for _ in 0..10 {
            assert_eq!(scene.person(true), []);
            scene.clock.advance(Duration::from_millis(1_500));
        }
    }

    #[test]
    fn one_visit_is_one_event_until_nobody_was_seen_for_long_enough() {
        let mut scene = Scene::new(&[("events.person.end_secs", "2")]);
        let event = scene.start();
        let mut updates = Vec::new();
        for n in 0..50 {
            // Missed now and then, for less than the end.
            updates.extend(scene.person(n % 7 < 3));
            assert_eq!(scene.visits.tick(scene.clock.mono()), [], "look {n}");
        }
        assert!(updates.iter().all(|c| c.event.id == event.id && c.event.phase == EventPhase::Updated));
        assert!((6..=10).contains(&updates.len()), "ten seconds, one update in each: {}", updates.len());
        for pair in updates.windows(2) {
            assert!(pair[1].at.since(pair[0].at) >= UPDATE_INTERVAL);
        }
        let (last, last_mono) = (updates.last().unwrap().clone(), scene.clock.mono());
        scene.person(true);
        let seen_last = scene.clock.wall();
        let ended = scene.pause(Duration::from_secs(5));
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].event.phase, EventPhase::Ended);
        assert_eq!(ended[0].event.id, last.event.id);
        assert_eq!(ended[0].event.ended, Some(seen_last), "it ends with its last sighting");
        assert_eq!(ended[0].at, last_mono.after(STEP));
        assert_eq!(scene.visits.running(), 0);
    }

    #[test]
    fn a_cool_down_keeps_the_same_from_starting_again_at_once() {
        let mut scene = Scene::new(&[("events.person.end_secs", "1"), ("events.person.cooldown_secs", "4")]);
        let first = scene.start();
        let ended = scene.pause(Duration::from_millis(1_200));
        assert_eq!(ended.len(), 1);
        let quiet_from = scene.clock.mono();
        let second = scene.start();
        assert_ne!(second.id, first.id);
        let waited = scene.clock.mono().since(quiet_from);
        assert!(waited >= Duration::from_secs(3) && waited <= Duration::from_secs(5), "{waited:?}");
        // Whoever stayed all the time is seen right after it.
        assert!(waited <= Duration::from_secs(4) + STEP * 2);
    }

    #[test]
    fn each_face_is_a_visit_of_its_own_and_the_unknown_are_one() {
        let mut scene = Scene::new(&[]);
        assert_eq!(scene.faces(&[Some("ann"), None]), []);
        let started = scene.faces(&[Some("ann"), Some("bob"), None, None]);
        let who: Vec<&[String]> = started.iter().map(|c| c.event.identities.as_slice()).collect();
        assert_eq!(who, [["ann".to_owned()], [UNKNOWN.to_owned()]], "two hits each; bob had one");
        assert_eq!(started[1].event.sightings[0].detections.len(), 2);
        let started = scene.faces(&[Some("bob")]);
        assert_eq!(started.len(), 1);
        assert_eq!(started[0].event.identities, ["bob"]);
        assert_eq!(scene.visits.running(), 3);
        // Bob stays, the others end.
        let mut ended = Vec::new();
        for _ in 0..20 {
            scene.faces(&[Some("bob")]);
            ended.extend(scene.visits.tick(scene.clock.mono()));
        }
        assert_eq!(ended.len(), 2);
        assert_eq!(scene.visits.running(), 1);
    }

    #[test]
    fn a_phantom_that_jumps_about_is_no_person() {
        let mut scene = Scene::new(&[]);
        for n in 0..20 {
            let mut phantom = found("person", 0.9, None);
            phantom.bbox = Rect::new(100.0 * (n % 3) as f32, 0.0, 50.0, 90.0);
            assert_eq!(scene.look(EventKind::Person, vec![phantom]), [], "look {n}");
        }
    }

    #[test]
    fn a_guard_alarm_starts_at_once_and_lasts_its_time() {
        let mut scene = Scene::new(&[]);
        let started = scene.look(EventKind::ObjectRemoved, vec![found("object_removed", 1.0, None)]);
        assert_eq!(started.len(), 1);
        assert_eq!(scene.pause(ALARM_LENGTH - STEP * 2), []);
        let ended = scene.pause(STEP * 3);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].event.kind, EventKind::ObjectRemoved);
        assert_eq!(
            scene.look(EventKind::ObjectRemoved, vec![found("x", 1.0, None)]).len(),
            1,
            "no cool-down"
        );
    }

    #[test]
    fn cameras_and_kinds_do_not_mix() {
        let mut scene = Scene::new(&[]);
        let other = camera(&cameras(&scene.clock, &[]), "yard");
        for n in 0..2 {
            assert_eq!(scene.person(true), []);
            let (frame, _) = frame(&other, &scene.clock);
            let seen = Seen::of(&other, &frame, EventKind::Person, vec![found("person", 0.8, None)]);
            assert_eq!(scene.visits.see(&seen), [], "two hits each, {n}");
            assert_eq!(scene.look(EventKind::Motion, vec![found("motion", 0.8, None)]), []);
        }
        assert_eq!(scene.person(true).len(), 1);
        assert_eq!(scene.visits.running(), 1);
    }

    #[test]
    fn an_event_ends_with_the_life_of_its_camera_and_whoever_is_there_begins_the_next_at_once() {
        let mut scene = Scene::new(&[("events.person.cooldown_secs", "60")]);
        let first = scene.start();
        scene.person(true);
        let seen_last = scene.clock.wall();
        // It left and was seen off; another one comes under its name.
        scene.camera = camera(&cameras(&scene.clock, &[]), "door");
        let ended = scene.person(false);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].event.id, ended[0].event.phase), (first.id, EventPhase::Ended));
        assert_eq!(ended[0].event.ended, Some(seen_last));
        let second = scene.start();
        assert_ne!(second.id, first.id);
        assert!(second.started_seq < first.started_seq + 3, "counted from the beginning");
        assert_eq!(scene.visits.running(), 1);
    }

    #[test]
    fn only_pictures_of_a_proven_camera_make_a_proven_event() {
        let mut scene = Scene::new(&[]);
        let mut look = |proven: bool| {
            scene.clock.advance(STEP);
            let (frame, _) = frame(&scene.camera, &scene.clock);
            let seen = Seen {
                proven,
                ..Seen::of(&scene.camera, &frame, EventKind::Face, vec![found("face", 0.7, Some("ann"))])
            };
            scene.visits.see(&seen).pop().map(|change| (change.event.phase, change.proven))
        };
        assert_eq!(look(false), None);
        assert_eq!(look(true), None, "two hits, but one of them from anybody");
        assert_eq!(look(true), Some((EventPhase::Started, true)));
        let mut after = |proven: bool| (0..6).find_map(|_| look(proven));
        assert_eq!(after(true), Some((EventPhase::Updated, true)));
        assert_eq!(after(false), Some((EventPhase::Updated, false)), "from here on it may be a photograph");
        assert_eq!(after(true), Some((EventPhase::Updated, false)));
        let over = scene.visits.end_all();
        assert_eq!(over.iter().map(|change| change.proven).collect::<Vec<_>>(), [false]);
    }

    #[test]
    fn memory_follows_who_is_in_sight() {
        let mut scene = Scene::new(&[("events.face.cooldown_secs", "2")]);
        for n in 0..2_000 {
            let name = format!("person {n}");
            scene.faces(&[Some(&name)]);
            scene.faces(&[Some(&name)]);
            scene.visits.tick(scene.clock.mono());
            // 3 s until the end and 2 s of cool-down, at two looks of 0.2 s for each.
            assert!(scene.visits.visits.len() <= 15, "{}", scene.visits.visits.len());
        }
        scene.pause(Duration::from_secs(10));
        assert_eq!(scene.visits.visits.len(), 0);

        let mut scene = Scene::new(&[]);
        scene.start();
        for _ in 0..1_000 {
            // So fast that hundreds of frames come between two updates.
            scene.clock.advance(Duration::from_millis(1));
            let (frame, _) = frame(&scene.camera, &scene.clock);
            let seen = Seen::of(&scene.camera, &frame, EventKind::Person, vec![found("person", 0.8, None)]);
            for change in scene.visits.see(&seen) {
                assert!(change.event.sightings.len() <= MAX_SIGHTINGS);
            }
        }
        let visit = scene.visits.visits.values().next().unwrap();
        assert!(
            visit.looks.len() <= 6 && visit.running.as_ref().unwrap().event.sightings.len() <= MAX_SIGHTINGS
        );
    }

    #[test]
    fn everything_ends_when_the_node_goes_down() {
        let mut scene = Scene::new(&[]);
        let person = scene.start();
        scene.faces(&[Some("ann")]);
        scene.faces(&[Some("ann")]);
        let ended = scene.visits.end_all();
        assert_eq!(ended.len(), 2);
        assert!(ended.iter().all(|c| c.event.phase == EventPhase::Ended && c.event.ended.is_some()));
        assert!(ended.iter().any(|c| c.event.id == person.id));
        assert_eq!((scene.visits.end_all(), scene.visits.running()), (Vec::new(), 0));
    }

    #[test]
    fn new_rules_hold_from_the_next_look() {
        let mut scene = Scene::new(&[]);
        assert_eq!(scene.person(true), []);
        scene.visits.reload(rules(&[("events.person.start_hits", "2")]));
        assert_eq!(scene.person(true).len(), 1);
    }
}
