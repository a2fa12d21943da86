//! Makes events of notices: what is over at once is nothing, what comes and goes is one event, and what begins together
//! is told together. No actor, no clock of its own, and nobody is told anything from here.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, MonoTime, Notice, WallTime};
use meerkat_settings::NoticesSettings;
use tracing::warn;

use crate::rules::{Now, Promise};

/// Facts that are known at a time. Each is a camera, an actor, a channel or a file.
const MAX_FACTS: usize = 1024;
/// What follows the first of its kind within this time becomes part of the same message, even if it has not settled.
const GATHER: Duration = Duration::from_secs(2);
/// A moment of which nobody says that it is over is known for so long.
const MOMENT: Duration = Duration::from_secs(24 * 3_600);

/// What tells one fact from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fact {
    pub kind: EventKind,
    pub camera: Option<CameraId>,
    pub subject: String,
}

/// How far a fact has come.
#[derive(Debug)]
enum State {
    /// It may be over at once; what happens in a moment is `over` by now and is told all the same.
    Settling { since: MonoTime, began: WallTime, detail: String, over: Option<(WallTime, String)> },
    /// It is an event.
    Holds { since: MonoTime, event: Event, promises: Vec<Promise> },
    /// It may begin again at once.
    Calming { since: MonoTime, ended: WallTime, detail: String, event: Event, promises: Vec<Promise> },
}

/// What became of one fact.
#[derive(Debug, PartialEq)]
pub(super) struct Turn {
    pub fact: Fact,
    /// Its event; the phase says what happened.
    pub event: Event,
    /// What is said about it.
    pub detail: String,
    /// Who is to be told of its end; empty at its start.
    pub promises: Vec<Promise>,
}

/// Every fact that holds or may hold.
pub(super) struct NoticeBook {
    settings: NoticesSettings,
    facts: BTreeMap<Fact, State>,
    entropy: Box<dyn FnMut() -> [u8; 10] + Send>,
}

impl NoticeBook {
    /// Nothing is known. `entropy` makes ids of the same moment differ.
    pub fn new(settings: NoticesSettings, entropy: impl FnMut() -> [u8; 10] + Send + 'static) -> Self {
        Self { settings, facts: BTreeMap::new(), entropy: Box::new(entropy) }
    }

    /// Puts new settings in force.
    pub fn reload(&mut self, settings: NoticesSettings) {
        self.settings = settings;
    }

    /// Takes what was noticed.
    pub fn take(&mut self, notice: Notice, now: Now) {
        let Notice { kind, camera, subject, holds, detail } = notice;
        let fact = Fact { kind, camera, subject };
        let state = match (self.facts.remove(&fact), holds) {
            (None, false) => return,
            (None, true) if self.facts.len() >= MAX_FACTS => {
                return warn!(kind = %fact.kind, subject = fact.subject, "too many notices hold: one is not told");
            }
            (None, true) => State::Settling { since: now.mono, began: now.wall, detail, over: None },
            // It was nothing. But what happens in a moment has happened all the same.
            (Some(State::Settling { since, began, detail: first, .. }), false) => {
                if !is_momentary(fact.kind) {
                    return;
                }
                State::Settling { since, began, detail: first, over: Some((now.wall, detail)) }
            }
            (Some(State::Holds { event, promises, .. }), false) => {
                State::Calming { since: now.mono, ended: now.wall, detail, event, promises }
            }
            (Some(State::Calming { event, promises, .. }), true) => {
                State::Holds { since: now.mono, event, promises }
            }
            (Some(state), _) => state,
        };
        self.facts.insert(fact, state);
    }

    /// What has begun or is over by now: several turns in one list are one message.
    pub fn due(&mut self, now: MonoTime) -> Vec<Vec<Turn>> {
        let mut lists = Vec::new();
        for kind in EventKind::ALL.into_iter().filter(|kind| kind.is_notice()) {
            for phase in [EventPhase::Started, EventPhase::Ended] {
                lists.extend(Some(self.due_of(kind, phase, now)).filter(|turns| !turns.is_empty()));
            }
        }
        lists.extend(Some(self.forgotten(now)).filter(|turns| !turns.is_empty()));
        lists
    }

    fn due_of(&mut self, kind: EventKind, phase: EventPhase, now: MonoTime) -> Vec<Turn> {
        let wait = if phase == EventPhase::Started { self.settings.settle } else { self.settings.calm };
        let waiting: Vec<(Fact, Duration)> = self
            .facts
            .iter()
            .filter(|(fact, _)| fact.kind == kind)
            .filter_map(|(fact, state)| match (state, phase) {
                (State::Settling { since, .. }, EventPhase::Started)
                | (State::Calming { since, .. }, EventPhase::Ended) => {
                    Some((fact.clone(), now.since(*since)))
                }
                _ => None,
            })
            .collect();
        if !waiting.iter().any(|(_, age)| *age >= wait) {
            return Vec::new();
        }
        let along = waiting.into_iter().filter(|(_, age)| age.saturating_add(GATHER) >= wait);
        along.filter_map(|(fact, _)| self.turn(fact)).collect()
    }

    /// Moments of which nobody said that they are over: their events end, and nobody is told so.
    fn forgotten(&mut self, now: MonoTime) -> Vec<Turn> {
        let is_forgotten = |fact: &Fact, state: &State| match state {
            State::Holds { since, .. } => is_over_by_itself(fact.kind) && now.since(*since) >= MOMENT,
            State::Settling { .. } | State::Calming { .. } => false,
        };
        let facts: Vec<Fact> = self
            .facts
            .iter()
            .filter(|(fact, state)| is_forgotten(fact, state))
            .map(|(f, _)| f.clone())
            .collect();
        let mut turns = Vec::new();
        for fact in facts {
            if let Some(State::Holds { mut event, .. }) = self.facts.remove(&fact) {
                event.phase = EventPhase::Ended;
                event.ended = Some(event.started);
                turns.push(Turn { fact, event, detail: String::new(), promises: Vec::new() });
            }
        }
        turns
    }

    /// The next step of a fact that waits for it.
    fn turn(&mut self, fact: Fact) -> Option<Turn> {
        match self.facts.remove(&fact)? {
            State::Settling { since, began, detail, over } => {
                let event = self.event(&fact, began);
                let (own, promises) = (event.clone(), Vec::new());
                let state = match over {
                    None => State::Holds { since, event: own, promises },
                    Some((ended, detail)) => State::Calming { since, ended, detail, event: own, promises },
                };
                self.facts.insert(fact.clone(), state);
                Some(Turn { fact, event, detail, promises: Vec::new() })
            }
            State::Calming { ended, detail, mut event, promises, .. } => {
                event.phase = EventPhase::Ended;
                event.ended = Some(ended.max(event.started));
                Some(Turn { fact, event, detail, promises })
            }
            state @ State::Holds { .. } => {
                self.facts.insert(fact, state);
                None
            }
        }
    }

    /// Notes who is told of the end of a fact.
    pub fn promise(&mut self, fact: &Fact, given: Vec<Promise>) {
        match self.facts.get_mut(fact) {
            Some(State::Holds { promises, .. } | State::Calming { promises, .. }) => *promises = given,
            Some(State::Settling { .. }) | None => {}
        }
    }

    fn event(&mut self, fact: &Fact, began: WallTime) -> Event {
        Event {
            id: EventId::new(began, (self.entropy)()),
            camera: fact.camera.clone().unwrap_or_else(CameraId::node),
            kind: fact.kind,
            phase: EventPhase::Started,
            started: began,
            started_seq: 0,
            ended: None,
            score: 0.0,
            identities: Vec::new(),
            sightings: Vec::new(),
        }
    }
}

/// What happens in a moment is told even if it is over in the next.
fn is_momentary(kind: EventKind) -> bool {
    is_over_by_itself(kind) || kind == EventKind::Viewer
}

/// Whoever notices it need not say that it is over.
fn is_over_by_itself(kind: EventKind) -> bool {
    matches!(kind, EventKind::ClockJump | EventKind::StoreDamaged)
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Clock, ManualClock};

    use super::*;
    use crate::testing::{NOON, settings};

    struct Scene {
        clock: ManualClock,
        book: NoticeBook,
    }

    impl Scene {
        fn new() -> Self {
            let mut number = 0u8;
            let entropy = move || {
                number = number.wrapping_add(1);
                [number; 10]
            };
            let notices =
                settings(&[("notify.notices.settle_secs", "3"), ("notify.notices.calm_secs", "10")]);
            Self { clock: ManualClock::new(NOON), book: NoticeBook::new(notices.notify.notices, entropy) }
        }

        fn say(&mut self, kind: EventKind, camera: &str, holds: bool) {
            let camera = (!camera.is_empty()).then(|| CameraId::parse(camera).unwrap());
            let detail = if holds { "begins" } else { "over" }.to_owned();
            let notice = Notice { kind, camera, subject: String::new(), holds, detail };
            let now = Now { wall: self.clock.wall(), mono: self.clock.mono() };
            self.book.take(notice, now);
        }

        fn silent(&mut self, camera: &str, holds: bool) {
            self.say(EventKind::CameraSilent, camera, holds);
        }

        /// What is told after so many seconds: cameras and phase of each list.
        fn after(&mut self, secs: u64) -> Vec<(Vec<String>, EventPhase)> {
            self.clock.advance(Duration::from_secs(secs));
            let lists = self.book.due(self.clock.mono());
            lists
                .iter()
                .map(|turns| {
                    let cameras = turns.iter().map(|turn| turn.event.camera.to_string()).collect();
                    (cameras, turns[0].event.phase)
                })
                .collect()
        }
    }

    fn list(cameras: &[&str], phase: EventPhase) -> Vec<(Vec<String>, EventPhase)> {
        vec![(cameras.iter().map(|camera| (*camera).to_owned()).collect(), phase)]
    }

    const STARTED: EventPhase = EventPhase::Started;
    const ENDED: EventPhase = EventPhase::Ended;

    #[test]
    fn what_holds_is_told_once_and_so_is_its_end() {
        let mut scene = Scene::new();
        scene.silent("yard", true);
        assert_eq!(scene.after(2), []);
        scene.silent("yard", true);
        assert_eq!(scene.after(1), list(&["yard"], STARTED));
        scene.silent("yard", true);
        assert_eq!(scene.after(100), []);
        scene.silent("yard", false);
        let over = scene.clock.wall();
        assert_eq!(scene.after(9), []);
        scene.clock.advance(Duration::from_secs(1));
        let ended = scene.book.due(scene.clock.mono());
        assert_eq!((ended[0][0].event.ended, ended[0][0].detail.as_str()), (Some(over), "over"));
        assert_eq!(scene.after(100), []);
        scene.silent("yard", false);
        assert_eq!(scene.after(100), [], "what never began is never over");
    }

    #[test]
    fn what_is_over_at_once_is_nothing_and_what_comes_and_goes_is_one_event() {
        let mut scene = Scene::new();
        scene.silent("yard", true);
        scene.after(2);
        scene.silent("yard", false);
        assert_eq!(scene.after(100), []);
        scene.silent("yard", true);
        assert_eq!(scene.after(3), list(&["yard"], STARTED));
        for _ in 0..20 {
            scene.silent("yard", false);
            assert_eq!(scene.after(9), []);
            scene.silent("yard", true);
            assert_eq!(scene.after(9), []);
        }
        scene.silent("yard", false);
        assert_eq!(scene.after(10), list(&["yard"], ENDED));
    }

    #[test]
    fn what_begins_together_is_told_together() {
        let mut scene = Scene::new();
        for camera in ["a", "b"] {
            scene.silent(camera, true);
        }
        assert_eq!(scene.after(2), []);
        for camera in ["c", "d"] {
            scene.silent(camera, true);
        }
        scene.say(EventKind::DiskLow, "", true);
        let told = scene.after(1);
        assert_eq!(told, list(&["a", "b", "c", "d"], STARTED), "the disk has not settled");
        assert_eq!(scene.after(2), list(&["node~"], STARTED));
        for camera in ["a", "b", "c", "d"] {
            scene.silent(camera, false);
            assert_eq!(scene.after(0), []);
        }
        assert_eq!(scene.after(10), list(&["a", "b", "c", "d"], ENDED));
    }

    #[test]
    fn a_moment_is_told_though_it_is_over() {
        let mut scene = Scene::new();
        scene.say(EventKind::ClockJump, "", true);
        scene.say(EventKind::ClockJump, "", false);
        assert_eq!(scene.after(3), list(&["node~"], STARTED));
        assert_eq!(scene.after(10), list(&["node~"], ENDED));
        // Nobody says that it is over.
        scene.say(EventKind::StoreDamaged, "", true);
        assert_eq!(scene.after(3), list(&["node~"], STARTED));
        assert_eq!(scene.after(20 * 3_600), []);
        assert_eq!(scene.after(4 * 3_600), list(&["node~"], ENDED));
        assert!(scene.book.facts.is_empty());
    }

    #[test]
    fn promises_are_kept_until_the_end() {
        let mut scene = Scene::new();
        scene.silent("yard", true);
        scene.clock.advance(Duration::from_secs(3));
        let turn = scene.book.due(scene.clock.mono()).remove(0).remove(0);
        let severity = meerkat_base::Severity::Warning;
        let promise = Promise { channel: "a".to_owned(), rule: "r".to_owned(), severity };
        scene.silent("yard", false);
        scene.book.promise(&turn.fact, vec![promise.clone()]);
        scene.clock.advance(Duration::from_secs(10));
        assert_eq!(scene.book.due(scene.clock.mono())[0][0].promises, [promise]);
    }

    #[test]
    fn there_are_not_too_many() {
        let mut scene = Scene::new();
        for n in 0..MAX_FACTS + 10 {
            scene.silent(&format!("c{n}"), true);
        }
        assert_eq!(scene.book.facts.len(), MAX_FACTS);
    }
}
