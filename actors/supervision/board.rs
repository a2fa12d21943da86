//! The board on which every actor has a card: state, generation, restarts, last error. Read by status and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use meerkat_base::{CameraId, Clock, WallTime, metric};
use metrics::{counter, gauge};
use serde::Serialize;

use super::{ActorKind, Failure};

/// Whether an actor can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// It runs, or waits for work.
    Running,
    /// It failed and waits for its next try.
    BackingOff,
}

/// What the board says of one actor.
#[derive(Debug, Clone, Serialize)]
pub struct ActorReport {
    /// Its kind.
    pub kind: ActorKind,
    /// The camera it serves, for those that serve one.
    pub camera: Option<CameraId>,
    /// How often it has been built, from 1.
    pub generation: u32,
    /// Whether it can work.
    pub state: ActorState,
    /// How often it was built anew after a failure.
    pub restarts: u32,
    /// Why it last failed.
    pub last_error: Option<String>,
    /// When it last failed.
    pub last_failure: Option<WallTime>,
}

/// The card of one actor; it leaves the board when the actor is done, or when its last holder drops it.
#[derive(Debug)]
pub struct Card {
    kind: ActorKind,
    camera: Option<CameraId>,
    generation: AtomicU32,
    up: AtomicBool,
    done: AtomicBool,
    restarts: AtomicU32,
    last: Mutex<Option<(String, WallTime)>>,
}

impl Card {
    /// Kind of the actor.
    pub fn kind(&self) -> ActorKind {
        self.kind
    }

    /// Camera of the actor, if it serves one.
    pub fn camera(&self) -> Option<&CameraId> {
        self.camera.as_ref()
    }

    /// How often it has been built.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Says that it will never work again, because its work is over. A thread that hangs may hold the card still.
    pub fn done(&self) {
        self.done.store(true, Ordering::Release);
    }

    fn is_shown(&self) -> bool {
        !self.done.load(Ordering::Acquire)
    }

    /// Says that it was built (again); returns the new generation.
    pub fn built(&self) -> u32 {
        self.up.store(true, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Says that it failed and will be built again.
    pub fn failed(&self, failure: &Failure, now: WallTime) {
        self.up.store(false, Ordering::Release);
        self.restarts.fetch_add(1, Ordering::AcqRel);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((failure.to_string(), now));
        counter!(metric::ACTOR_RESTARTS, "actor" => self.kind.as_str(), "reason" => failure.reason())
            .increment(1);
    }

    fn report(&self) -> ActorReport {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ActorReport {
            kind: self.kind,
            camera: self.camera.clone(),
            generation: self.generation(),
            state: if self.is_up() { ActorState::Running } else { ActorState::BackingOff },
            restarts: self.restarts.load(Ordering::Acquire),
            last_error: last.as_ref().map(|(error, _)| error.clone()),
            last_failure: last.map(|(_, at)| at),
        }
    }
}

/// Measures time in which the process was running.
pub(crate) struct Stopwatch {
    board: Board,
    origin: Instant,
    before: Duration,
}

impl Stopwatch {
    /// Since it was begun, in milliseconds, without the time for which the process stood still.
    pub fn millis(&self) -> u64 {
        let still = self.board.stood_still().saturating_sub(self.before);
        u64::try_from(self.origin.elapsed().saturating_sub(still).as_millis()).unwrap_or(u64::MAX)
    }
}

/// All cards. Clones share the board.
#[derive(Clone)]
pub struct Board {
    clock: Arc<dyn Clock>,
    cards: Arc<Mutex<Vec<Weak<Card>>>>,
    abandoned: Arc<AtomicUsize>,
    stood_still_micros: Arc<AtomicU64>,
}

impl Board {
    /// An empty board.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        for kind in ActorKind::ALL {
            gauge!(metric::ACTOR_UP, "actor" => kind.as_str()).set(1.0);
            gauge!(metric::MAILBOX_DEPTH, "actor" => kind.as_str()).set(0.0);
            counter!(metric::MAILBOX_REFUSED, "actor" => kind.as_str()).absolute(0);
            for reason in ["panic", "error", "hang"] {
                counter!(metric::ACTOR_RESTARTS, "actor" => kind.as_str(), "reason" => reason).absolute(0);
            }
        }
        gauge!(metric::ABANDONED_THREADS).set(0.0);
        Self { clock, cards: Arc::default(), abandoned: Arc::default(), stood_still_micros: Arc::default() }
    }

    fn cards(&self) -> MutexGuard<'_, Vec<Weak<Card>>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> Vec<Arc<Card>> {
        self.cards().iter().filter_map(Weak::upgrade).filter(|card| card.is_shown()).collect()
    }

    /// Puts up a card for an actor that is about to be built for the first time.
    pub fn card(&self, kind: ActorKind, camera: Option<CameraId>) -> Arc<Card> {
        let card = Arc::new(Card {
            kind,
            camera,
            generation: AtomicU32::new(0),
            up: AtomicBool::new(true),
            done: AtomicBool::new(false),
            restarts: AtomicU32::new(0),
            last: Mutex::new(None),
        });
        let mut cards = self.cards();
        cards.retain(|known| known.strong_count() > 0);
        cards.push(Arc::downgrade(&card));
        card
    }

    /// Counts a failure of an actor that is not built again (a session closes its connection instead).
    pub fn count_failure(&self, kind: ActorKind, failure: &Failure) {
        counter!(metric::ACTOR_RESTARTS, "actor" => kind.as_str(), "reason" => failure.reason()).increment(1);
    }

    /// What every card says, by kind and camera.
    pub fn reports(&self) -> Vec<ActorReport> {
        let mut reports: Vec<ActorReport> = self.shown().iter().map(|card| card.report()).collect();
        reports.sort_by(|a, b| (a.kind, &a.camera).cmp(&(b.kind, &b.camera)));
        reports
    }

    /// Kinds of which an actor waits for its restart.
    pub fn down(&self) -> Vec<ActorKind> {
        let mut kinds: Vec<ActorKind> =
            self.shown().iter().filter(|card| !card.is_up()).map(|card| card.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Brings the `actor_up` series up to date.
    pub fn publish(&self) {
        let mut up: BTreeMap<ActorKind, bool> = ActorKind::ALL.into_iter().map(|k| (k, true)).collect();
        for kind in self.down() {
            up.insert(kind, false);
        }
        for (kind, is_up) in up {
            gauge!(metric::ACTOR_UP, "actor" => kind.as_str()).set(f64::from(u8::from(is_up)));
        }
    }

    /// Time for which the whole process stood still, as far as the watch could tell. Nobody is to blame for it: it does
    /// not count against any deadline.
    pub(super) fn stood_still(&self) -> Duration {
        Duration::from_micros(self.stood_still_micros.load(Ordering::Acquire))
    }

    /// Says that the process stood still for a while.
    pub(super) fn excuse(&self, still: Duration) {
        let micros = u64::try_from(still.as_micros()).unwrap_or(u64::MAX);
        self.stood_still_micros.fetch_add(micros, Ordering::AcqRel);
    }

    /// A stopwatch that begins now.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch { board: self.clone(), origin: Instant::now(), before: self.stood_still() }
    }

    /// Counts a thread that was given up; returns how many there are now.
    pub fn abandon_thread(&self) -> usize {
        let now = self.abandoned.fetch_add(1, Ordering::AcqRel) + 1;
        gauge!(metric::ABANDONED_THREADS).set(now as f64);
        now
    }

    /// Says that a thread that had been given up came back after all and has ended.
    pub fn thread_returned(&self) {
        let before = self.abandoned.fetch_sub(1, Ordering::AcqRel);
        gauge!(metric::ABANDONED_THREADS).set(before.saturating_sub(1) as f64);
    }

    /// Threads given up and still hanging.
    pub fn abandoned_threads(&self) -> usize {
        self.abandoned.load(Ordering::Acquire)
    }

    /// The clock failures are dated with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}
