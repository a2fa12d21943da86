//! The state machine that makes one event of one visit: hits within a window start it, absence ends it, and a
//! cool-down keeps the same from starting again at once. No actor, no clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use meerkat_base::{
    CameraId, Detection, Event, EventId, EventKind, EventPhase, MonoTime, Rect, Sighting, WallTime,
};
use meerkat_settings::{EventSettings, EventsSettings};

use super::Seen;
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
}

#[derive(Debug)]
struct Visit {
    /// Whether each of the last looks was a hit, newest last.
    looks: VecDeque<bool>,
    last_look_seq: u64,
    /// Where the last hit was.
    boxes: Vec<Rect>,
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
            EventKind::ObjectMoved | EventKind::ObjectRemoved => {
                EventSettings { start_hits: 1, window: 1, end: ALARM_LENGTH, cooldown: Duration::ZERO }
            }
        }
    }

    /// Takes what was seen in one frame; returns what changed by it.
    pub fn see(&mut self, seen: &Seen) -> Vec<Change> {
        let camera = seen.camera.id();
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
        let mut changes = Vec::new();
        for (identity, detections) in groups {
            let key = Key { camera: camera.clone(), kind: seen.kind, identity };
            changes.extend(self.hit(key, seen, detections));
        }
        changes
    }

    fn hit(&mut self, key: Key, seen: &Seen, detections: Vec<Detection>) -> Option<Change> {
        let rules = self.rules(key.kind);
        let visit = self.visits.entry(key.clone()).or_insert_with(|| Visit {
            looks: VecDeque::new(),
            last_look_seq: 0,
            boxes: Vec::new(),
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
        visit.boxes = boxes;
        visit.note(true, seen.seq, rules.window);
        visit.last_seen = seen.mono;
        let score = detections.iter().map(|d| d.score).fold(0.0, f32::max);
        let sighting = Sighting { wall: seen.wall, seq: seen.seq, detections };
        if let Some(running) = &mut visit.running {
            running.last_hit = seen.mono;
            running.last_hit_wall = seen.wall;
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
        let mut running =
            Running { event, last_hit: seen.mono, last_hit_wall: seen.wall, last_update: seen.mono };
        let change = running.tell(seen.mono);
        visit.running = Some(running);
        Some(change)
    }

    /// Ends what has not been seen for long enough. Called several times a second.
    pub fn tick(&mut self, now: MonoTime) -> Vec<Change> {
        let mut changes = Vec::new();
        let rules: BTreeMap<EventKind, EventSettings> =
            EventKind::ALL.into_iter().map(|kind| (kind, self.rules(kind))).collect();
        self.visits.retain(|key, visit| {
            let Some(rules) = rules.get(&key.kind) else { return false };
            if let Some(running) = &mut visit.running
                && now.since(running.last_hit) >= rules.end
            {
                running.event.phase = EventPhase::Ended;
                running.event.ended = Some(running.last_hit_wall);
                let at = running.last_hit;
                changes.push(running.tell(at));
                visit.running = None;
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
            if let Some(mut running) = visit.running.take() {
                running.event.phase = EventPhase::Ended;
                running.event.ended = Some(running.last_hit_wall);
                changes.push(running.tell(running.last_hit));
            }
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
        Change { event: told, at }
    }
}
