//! A station: one component with its card, run by a crew, one piece of work at a time. No threads here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::board::Card;
use super::crew::Shared;
use super::{ActorKind, Failure};

/// Threads that may hang over the pictures of one camera before it has to wait for one of them to come back.
const MOST_HANGING: usize = 2;
/// How long such a camera waits until that is looked at again.
pub(super) const REST: Duration = Duration::from_secs(30);

/// What a component wants after a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do; others get their turn first.
    Again,
    /// Nothing to do until somebody wakes it.
    Idle,
    /// Nothing to do until somebody wakes it or this much time has passed (to within 50 ms).
    Sleep(Duration),
    /// Its work is over; the station closes.
    Done,
}

/// A plain struct that works in pieces. It owns its state; it is dropped when it fails.
pub trait Component: Send {
    /// Does one piece of work. Called when woken, and at least once after being built.
    fn step(&mut self) -> Result<Step, Failure>;
}

/// Builds a component, at first and after each failure.
pub type Factory = Arc<dyn Fn() -> Result<Box<dyn Component>, Failure> + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing to do.
    Idle,
    /// Waits for a thread of the crew.
    Queued,
    /// A thread is at it.
    Running,
    /// A thread is at it and it was woken meanwhile.
    RunningWoken,
    /// Failed; the crew's timer will queue it.
    Down,
    /// Closed for good.
    Done,
}

struct Body {
    phase: Phase,
    component: Option<Box<dyn Component>>,
    /// `None` once the station is closed: what a factory holds may hold the station.
    factory: Option<Factory>,
    backoff: Backoff,
    built_at: Option<Instant>,
    /// When one that is down is built again.
    due: Option<Instant>,
}

impl Body {
    /// Closes for good; what it held is to be dropped without the lock.
    fn close(&mut self) -> (Option<Box<dyn Component>>, Option<Factory>) {
        self.phase = Phase::Done;
        (self.component.take(), self.factory.take())
    }
}

pub(super) struct Core {
    pub(super) card: Arc<Card>,
    pub(super) deadline: Duration,
    body: Mutex<Body>,
    crew: Weak<Shared>,
    /// Threads that were given up over its work and have not come back.
    hanging: AtomicUsize,
}

/// What a worker finds when it takes up a station.
pub(super) enum Turn {
    Work(Box<dyn Component>),
    Build,
    Nothing,
}

impl Core {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(self: &Arc<Self>) {
        let mut body = self.body();
        match body.phase {
            Phase::Idle => body.phase = Phase::Queued,
            Phase::Running => {
                body.phase = Phase::RunningWoken;
                return;
            }
            Phase::Queued | Phase::RunningWoken | Phase::Down | Phase::Done => return,
        }
        drop(body);
        self.enqueue();
    }

    /// Queues a station that has waited out its back-off.
    pub(super) fn revive(self: &Arc<Self>) {
        let mut body = self.body();
        if body.phase != Phase::Down {
            return;
        }
        body.phase = Phase::Queued;
        drop(body);
        self.enqueue();
    }

    fn enqueue(self: &Arc<Self>) {
        if let Some(crew) = self.crew.upgrade() {
            crew.enqueue(Arc::clone(self));
        }
    }

    /// A worker begins its turn.
    pub(super) fn begin(&self) -> Turn {
        let mut body = self.body();
        if body.phase != Phase::Queued {
            return Turn::Nothing;
        }
        body.phase = Phase::Running;
        match body.component.take() {
            Some(component) => Turn::Work(component),
            None => Turn::Build,
        }
    }

    pub(super) fn build(&self) -> Result<Box<dyn Component>, Failure> {
        let factory = self.body().factory.clone();
        let factory = factory.ok_or_else(|| Failure::error("the station is closed"))?;
        let component = factory()?;
        self.body().built_at = Some(Instant::now());
        self.card.built();
        Ok(component)
    }

    /// A worker ends its turn well. Returns how long to sleep, if the component asked for that.
    pub(super) fn end(self: &Arc<Self>, component: Box<dyn Component>, step: Step) -> Option<Duration> {
        let mut body = self.body();
        let woken = body.phase == Phase::RunningWoken;
        if body.phase == Phase::Done {
            return None;
        }
        body.component = Some(component);
        if woken || step == Step::Again {
            body.phase = Phase::Queued;
            drop(body);
            self.enqueue();
            return None;
        }
        body.phase = Phase::Idle;
        match step {
            Step::Sleep(wait) => Some(wait),
            Step::Done => {
                let left = body.close();
                self.card.done();
                drop(body);
                drop(left);
                None
            }
            Step::Again | Step::Idle => None,
        }
    }

    /// The component is lost. Returns how long to wait before the next is built.
    pub(super) fn fail(&self, failure: &Failure, random: f64) -> Option<Duration> {
        let crew = self.crew.upgrade()?;
        let mut body = self.body();
        if body.phase == Phase::Done {
            return None;
        }
        body.phase = Phase::Down;
        body.component = None;
        let uptime = body.built_at.take().map(|at| at.elapsed()).unwrap_or_default();
        let own = body.backoff.next(uptime, random);
        let wait = if self.rests() { own.max(REST) } else { own };
        body.due = Some(Instant::now() + wait);
        drop(body);
        self.card.failed(failure, crew.board.clock().wall());
        Some(wait)
    }

    /// It waits for so much longer before it is built again.
    pub(super) fn put_off(&self, wait: Duration) {
        self.body().due = Some(Instant::now() + wait);
    }

    /// Whether it can work within this time, as far as is known: false while it waits longer for its restart.
    fn is_back_within(&self, limit: Duration) -> bool {
        let body = self.body();
        let soon = Instant::now() + limit;
        body.phase != Phase::Down || (!self.rests() && body.due.is_none_or(|due| due <= soon))
    }

    /// A thread hangs over its work and was given up.
    pub(super) fn hangs(&self) {
        self.hanging.fetch_add(1, Ordering::AcqRel);
    }

    /// A thread that was given up over its work came back.
    pub(super) fn came_back(&self) {
        self.hanging.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether so many threads hang over the pictures of its camera that it gets no more of them for now: the next
    /// picture would hang the next one, and the node goes down with the last.
    pub(super) fn rests(&self) -> bool {
        self.card.kind().sees_pictures()
            && self.card.camera().is_some()
            && self.hanging.load(Ordering::Acquire) >= MOST_HANGING
    }

    fn close(&self) {
        let left = self.body().close();
        self.card.done();
        drop(left);
    }
}

/// The handle by which others wake a station. Closing is explicit, or happens when the component is done.
#[derive(Clone)]
pub struct Station {
    core: Arc<Core>,
}

impl Station {
    pub(super) fn new(
        card: Arc<Card>,
        deadline: Duration,
        backoff: Backoff,
        factory: Factory,
        crew: Weak<Shared>,
    ) -> Self {
        let body = Body {
            phase: Phase::Idle,
            component: None,
            factory: Some(factory),
            backoff,
            built_at: None,
            due: None,
        };
        let hanging = AtomicUsize::new(0);
        Self { core: Arc::new(Core { card, deadline, body: Mutex::new(body), crew, hanging }) }
    }

    /// Says that there is work. Cheap, never blocks.
    pub fn wake(&self) {
        self.core.wake();
    }

    /// Whether the component can work; false while it waits for its restart.
    pub fn is_up(&self) -> bool {
        self.core.card.is_up()
    }

    /// Whether the component can work within this time, as far as is known. False while it rests for longer after it
    /// failed again and again: then nobody needs to wait for it.
    pub fn is_back_within(&self, limit: Duration) -> bool {
        self.core.is_back_within(limit)
    }

    /// Drops the component (after the piece of work in hand) and never builds it again.
    pub fn close(&self) {
        self.core.close();
    }

    /// Kind of the actor.
    pub fn kind(&self) -> ActorKind {
        self.core.card.kind()
    }

    /// How often it has been built.
    pub fn generation(&self) -> u32 {
        self.core.card.generation()
    }
}
