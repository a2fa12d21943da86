//! Makes events of notices: what is over at once is nothing, what comes and goes is one event, and what begins together
//! is told together. What still holds after a restart is the same event. No actor, no clock of its own, and nobody is
//! told anything from here.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, MonoTime, Notice, WallTime};
use meerkat_settings::NoticesSettings;
use tracing::warn;

use crate::rules::{Now, Promise};

/// Facts that are known at a time. Each is a camera, an actor, a channel or a file.
pub(crate) const MAX_FACTS: usize = 1024;
/// What follows the first of its kind within this time becomes part of the same message, even if it has not settled.
const GATHER: Duration = Duration::from_secs(2);
/// A moment of which nobody says that it is over is known for so long.
const MOMENT: Duration = Duration::from_secs(24 * 3_600);
/// Whoever is to say that something holds still has at least so long for it, however short the grace of a start is.
const LEAST_GRACE: Duration = Duration::from_secs(5);
/// What is said of the end of something of which nobody says that it holds still.
const NO_LONGER: &str = "no longer so after a restart of the node";

/// What tells one fact from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    pub kind: EventKind,
    pub camera: Option<CameraId>,
    pub subject: String,
}

/// A fact that was an event when an earlier run of the node ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Carried {
    pub fact: Fact,
    /// Its event, as it began.
    pub event: Event,
    /// Who is to be told of its end.
    pub promises: Vec<Promise>,
}

/// How far a fact has come.
#[derive(Debug)]
enum State {
    /// It may be over at once; what happens in a moment is `over` by now and is told all the same.
    Settling { since: MonoTime, began: WallTime, detail: String, over: Option<(Now, String)> },
    /// It is an event.
    Holds { lease: Lease, event: Event, promises: Vec<Promise> },
    /// It may begin again at once.
    Calming { since: MonoTime, ended: WallTime, detail: String, event: Event, promises: Vec<Promise> },
}

/// How long a fact holds.
#[derive(Debug, Clone, Copy)]
enum Lease {
    /// Until somebody says that it is over.
    Open,
    /// No longer than until then: it was a moment.
    Moment { until: MonoTime },
    /// No longer than until then, unless somebody says once more that it holds: it did so in an earlier run.
    Unconfirmed { until: MonoTime },
}

impl Lease {
    fn of(kind: EventKind, now: MonoTime) -> Self {
        if is_over_by_itself(kind) { Self::Moment { until: now.after(MOMENT) } } else { Self::Open }
    }
}

/// What became of one fact.
#[derive(Debug, Clone, PartialEq)]
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

    /// Goes on with what held when an earlier run ended: its beginning was told then, and its end is told when it comes.
    /// To be called once, before anything is noticed.
    pub fn carry(&mut self, carried: Vec<Carried>, now: Now) {
        let grace = self.settings.start_grace.max(LEAST_GRACE);
        for Carried { fact, event, promises } in carried {
            let lease = match fact.kind {
                // Whoever follows cameras and channels goes on with what was known, and says when it is over.
                EventKind::CameraSilent | EventKind::ChannelFailing => Lease::Open,
                EventKind::StoreDamaged => {
                    let left = MOMENT.saturating_sub(age(event.started, now.wall));
                    Lease::Moment { until: now.mono.after(left) }
                }
                _ => Lease::Unconfirmed { until: now.mono.after(grace) },
            };
            self.facts.insert(fact, State::Holds { lease, event, promises });
        }
    }

    /// Ends what was said of channels that are gone: nobody tries them any more.
    pub fn forget_channels(&mut self, is_there: impl Fn(&str) -> bool, now: Now) {
        let gone: Vec<Fact> = self
            .facts
            .keys()
            .filter(|fact| fact.kind == EventKind::ChannelFailing && !is_there(&fact.subject))
            .cloned()
            .collect();
        for fact in gone {
            self.over(fact, "no longer configured", now);
        }
    }

    fn over(&mut self, fact: Fact, detail: &str, now: Now) {
        let Fact { kind, camera, subject } = fact;
        self.take(Notice { kind, camera, subject, holds: false, detail: detail.to_owned() }, now);
    }

    /// Whether something is known of the fact of a notice.
    pub fn knows(&self, notice: &Notice) -> bool {
        let Notice { kind, camera, subject, .. } = notice;
        self.facts.contains_key(&Fact { kind: *kind, camera: camera.clone(), subject: subject.clone() })
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
            // It was nothing. But what happens in a moment has happened all the same, and so has what was not told
            // only because nothing could be written.
            (Some(State::Settling { since, began, detail: first, .. }), false) => {
                if !is_momentary(fact.kind) && now.mono.since(since) < self.settings.settle {
                    return;
                }
                State::Settling { since, began, detail: first, over: Some((now, detail)) }
            }
            // It goes on after all.
            (Some(State::Settling { since, began, detail: first, over: Some(_) }), true)
                if !is_momentary(fact.kind) =>
            {
                State::Settling { since, began, detail: first, over: None }
            }
            (Some(State::Holds { event, promises, .. }), false) => {
                State::Calming { since: now.mono, ended: now.wall, detail, event, promises }
            }
            (
                Some(
                    State::Calming { event, promises, .. }
                    | State::Holds { lease: Lease::Unconfirmed { .. }, event, promises },
                ),
                true,
            ) => State::Holds { lease: Lease::of(fact.kind, now.mono), event, promises },
            (Some(state), _) => state,
        };
        self.facts.insert(fact, state);
    }

    /// What has begun or is over by now: several turns in one list are one message.
    pub fn due(&mut self, now: Now) -> Vec<Vec<Turn>> {
        self.end_unconfirmed(now);
        let now = now.mono;
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

    /// What held in an earlier run and nobody has noticed in this one was over before, or is now.
    fn end_unconfirmed(&mut self, now: Now) {
        let ended = self.leased(|lease| matches!(lease, Lease::Unconfirmed { until } if now.mono >= until));
        for fact in ended {
            self.over(fact, NO_LONGER, now);
        }
    }

    fn leased(&self, is_meant: impl Fn(Lease) -> bool) -> Vec<Fact> {
        let facts = self.facts.iter().filter(|(_, state)| match state {
            State::Holds { lease, .. } => is_meant(*lease),
            State::Settling { .. } | State::Calming { .. } => false,
        });
        facts.map(|(fact, _)| fact.clone()).collect()
    }

    /// Moments of which nobody said that they are over: their events end, and nobody is told so.
    fn forgotten(&mut self, now: MonoTime) -> Vec<Turn> {
        let facts = self.leased(|lease| matches!(lease, Lease::Moment { until } if now >= until));
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
                    None => State::Holds { lease: Lease::of(fact.kind, since), event: own, promises },
                    Some((at, detail)) => {
                        State::Calming { since: at.mono, ended: at.wall, detail, event: own, promises }
                    }
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

fn age(started: WallTime, now: WallTime) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(started.0)).unwrap_or_default())
}

/// Whether something that an earlier run left open was a moment, and longer ago than it is known.
pub(super) fn is_forgotten(kind: EventKind, started: WallTime, now: WallTime) -> bool {
    kind == EventKind::StoreDamaged && age(started, now) >= MOMENT
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
            self.book.take(notice, self.now());
        }

        fn now(&self) -> Now {
            Now { wall: self.clock.wall(), mono: self.clock.mono() }
        }

        /// An event of an earlier run that began so many hours ago.
        fn carried(&self, kind: EventKind, camera: &str, subject: &str, hours: i64) -> Carried {
            let camera = (!camera.is_empty()).then(|| CameraId::parse(camera).unwrap());
            let started = self.clock.wall().offset_micros(-hours * 3_600_000_000);
            let fact = Fact { kind, camera, subject: subject.to_owned() };
            let event = Event {
                id: EventId::new(started, [7; 10]),
                camera: fact.camera.clone().unwrap_or_else(CameraId::node),
                kind,
                phase: EventPhase::Started,
                started,
                started_seq: 0,
                ended: None,
                score: 0.0,
                identities: Vec::new(),
                sightings: Vec::new(),
            };
            let severity = meerkat_base::Severity::Warning;
            let promises = vec![Promise { channel: "a".to_owned(), rule: "r".to_owned(), severity }];
            Carried { fact, event, promises }
        }

        fn silent(&mut self, camera: &str, holds: bool) {
            self.say(EventKind::CameraSilent, camera, holds);
        }

        /// What is told after so many seconds: cameras and phase of each list.
        fn after(&mut self, secs: u64) -> Vec<(Vec<String>, EventPhase)> {
            self.clock.advance(Duration::from_secs(secs));
            let lists = self.book.due(self.now());
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
        let ended = scene.book.due(scene.now());
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
    fn what_was_long_enough_is_told_though_it_is_over_before_it_could_be() {
        let mut scene = Scene::new();
        scene.silent("yard", true);
        scene.clock.advance(Duration::from_secs(600));
        scene.silent("yard", false);
        assert_eq!(scene.after(0), list(&["yard"], STARTED));
        assert_eq!(scene.after(10), list(&["yard"], ENDED));
        // And what began once more is told as one that goes on.
        scene.silent("yard", true);
        scene.clock.advance(Duration::from_secs(600));
        scene.silent("yard", false);
        scene.silent("yard", true);
        assert_eq!(scene.after(0), list(&["yard"], STARTED));
        assert_eq!(scene.after(600), []);
    }

    #[test]
    fn what_holds_still_after_a_restart_neither_ends_nor_begins() {
        for kind in [EventKind::DiskLow, EventKind::RecordingRefused, EventKind::ActorFailing] {
            let mut scene = Scene::new();
            let carried = scene.carried(kind, "", "", 3);
            scene.book.carry(vec![carried.clone()], scene.now());
            assert_eq!(scene.after(59), []);
            scene.say(kind, "", true);
            assert_eq!(scene.after(600), [], "{kind}");
            scene.say(kind, "", false);
            scene.clock.advance(Duration::from_secs(10));
            let ended = scene.book.due(scene.now()).remove(0).remove(0);
            assert_eq!((ended.event.id, &ended.promises), (carried.event.id, &carried.promises), "{kind}");
            assert_eq!(ended.event.phase, ENDED);
            assert_eq!(scene.after(600), []);
        }
    }

    #[test]
    fn what_was_over_while_the_node_was_down_is_over_at_the_end_of_the_grace() {
        let mut scene = Scene::new();
        let carried = scene.carried(EventKind::DiskLow, "", "", 3);
        scene.book.carry(vec![carried.clone()], scene.now());
        assert_eq!(scene.after(60), [], "it may begin again at once");
        scene.clock.advance(Duration::from_secs(10));
        let ended = scene.book.due(scene.now()).remove(0).remove(0);
        assert_eq!((ended.event.id, ended.detail.as_str()), (carried.event.id, NO_LONGER));
        assert_eq!(ended.promises, carried.promises);
        // From then on it is news.
        scene.say(EventKind::DiskLow, "", true);
        assert_eq!(scene.after(3), list(&["node~"], STARTED));
    }

    #[test]
    fn cameras_and_channels_hold_until_somebody_says_that_they_are_well() {
        let mut scene = Scene::new();
        let carried = [
            scene.carried(EventKind::CameraSilent, "yard", "", 3),
            scene.carried(EventKind::ChannelFailing, "", "office", 3),
            scene.carried(EventKind::ChannelFailing, "", "gone", 3),
        ];
        scene.book.carry(carried.to_vec(), scene.now());
        assert_eq!(scene.after(40_000), []);
        scene.silent("yard", false);
        assert_eq!(scene.after(10), list(&["yard"], ENDED));
        scene.book.forget_channels(|name| name == "office", scene.now());
        scene.clock.advance(Duration::from_secs(10));
        let lists = scene.book.due(scene.now());
        let ended: Vec<&str> = lists.iter().flatten().map(|turn| turn.fact.subject.as_str()).collect();
        assert_eq!(ended, ["gone"]);
        assert_eq!(scene.after(40_000), []);
    }

    #[test]
    fn a_moment_of_an_earlier_run_is_forgotten_a_day_after_it_was() {
        let mut scene = Scene::new();
        let carried = [
            scene.carried(EventKind::StoreDamaged, "", "spool", 23),
            scene.carried(EventKind::StoreDamaged, "", "older", 50),
        ];
        scene.book.carry(carried.to_vec(), scene.now());
        let lists = scene.book.due(scene.now());
        assert_eq!(lists[0][0].fact.subject, "older");
        assert!(lists[0][0].promises.is_empty(), "{lists:?}");
        assert_eq!(scene.after(3_599), []);
        assert_eq!(scene.after(1), list(&["node~"], ENDED));
    }

    #[test]
    fn promises_are_kept_until_the_end() {
        let mut scene = Scene::new();
        scene.silent("yard", true);
        scene.clock.advance(Duration::from_secs(3));
        let turn = scene.book.due(scene.now()).remove(0).remove(0);
        let severity = meerkat_base::Severity::Warning;
        let promise = Promise { channel: "a".to_owned(), rule: "r".to_owned(), severity };
        scene.silent("yard", false);
        scene.book.promise(&turn.fact, vec![promise.clone()]);
        scene.clock.advance(Duration::from_secs(10));
        assert_eq!(scene.book.due(scene.now())[0][0].promises, [promise]);
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
