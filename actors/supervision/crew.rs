//! A crew: threads that run stations in fair turns. A thread that hangs in native code is given up and replaced.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use meerkat_base::CameraId;
use tracing::{error, info, warn};

use super::backoff::{Backoff, BackoffSettings};
use super::board::Board;
use super::pulse::Pulse;
use super::station::{Component, Core, Factory, REST, Station, Step, Turn};
use super::{ActorKind, Failure, panic_message};

/// How a crew is made up.
#[derive(Debug, Clone)]
pub struct CrewSettings {
    /// Name of the crew and of its threads.
    pub name: &'static str,
    /// Number of threads, at least 1.
    pub threads: usize,
    /// Added to the threads' niceness (0 to 19): work that may wait behind the frame path.
    pub niceness: i32,
    /// Back-off of its stations.
    pub backoff: BackoffSettings,
}

pub(super) struct Shared {
    settings: CrewSettings,
    pub(super) board: Board,
    queue: Mutex<VecDeque<Arc<Core>>>,
    queued: Condvar,
    workers: Mutex<Vec<Worker>>,
    timers: Mutex<Vec<Timer>>,
    stopping: AtomicBool,
    linger: Duration,
    lingering: AtomicBool,
    /// Threads are missing.
    short: AtomicBool,
    /// Bytes of a thread's stack: with absurdly many none can be started.
    #[cfg(test)]
    stack: std::sync::atomic::AtomicUsize,
}

struct Worker {
    job: Arc<Mutex<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Job {
    current: Option<Current>,
    abandoned: bool,
}

/// The piece of work in hand.
struct Current {
    core: Arc<Core>,
    since: Instant,
    /// How long the process had stood still by then.
    stood_still: Duration,
    /// Of threads with a low priority.
    pulse: Option<Pulse>,
}

/// What a turn leaves: the component and what it wants, or nothing when there was nothing to do.
type Worked = Option<(Box<dyn Component>, Step)>;

struct Timer {
    due: Instant,
    core: std::sync::Weak<Core>,
    revive: bool,
}

thread_local! {
    /// Address of the crew whose turn this thread is running, 0 outside of turns.
    static IN_TURN_OF: Cell<usize> = const { Cell::new(0) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number in 0..1 that differs from call to call; good enough to spread restarts.
fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}

impl Shared {
    pub(super) fn enqueue(self: &Arc<Self>, core: Arc<Core>) {
        let mut queue = lock(&self.queue);
        let was_empty = queue.is_empty();
        queue.push_back(core);
        drop(queue);
        // A worker that queues the next station of the way takes it up itself right after: waking a second
        // thread for it would cost more than the work.
        let own_turn = IN_TURN_OF.get() == Arc::as_ptr(self) as usize;
        // A thread that lingers looks at the queue by itself, and once more after it has stopped lingering.
        let looked_for = self.lingering.load(Ordering::SeqCst);
        if !(was_empty && (own_turn || looked_for)) {
            self.queued.notify_one();
        }
    }

    /// The next station, and when the waiting for it began. `busy`: work came so fast that it is worth looking
    /// for more before going to sleep; waking a thread takes longer than storing a picture.
    fn next(&self, busy: bool) -> Option<Arc<Core>> {
        if busy && let Some(core) = self.linger() {
            return Some(core);
        }
        let mut queue = lock(&self.queue);
        loop {
            if let Some(core) = queue.pop_front() {
                return Some(core);
            }
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Looks for work without sleeping, one thread at a time, for as long as the crew was told to.
    fn linger(&self) -> Option<Arc<Core>> {
        if self.lingering.swap(true, Ordering::SeqCst) {
            return None;
        }
        let began = Instant::now();
        while began.elapsed() < self.linger {
            if let Ok(mut queue) = self.queue.try_lock()
                && let Some(core) = queue.pop_front()
            {
                // Under the queue's lock: whoever queues next sees that nobody lingers any more.
                self.lingering.store(false, Ordering::SeqCst);
                return Some(core);
            }
            // Whoever has the work for us may be waiting for this very processor.
            thread::yield_now();
        }
        self.lingering.store(false, Ordering::SeqCst);
        None
    }

    fn set_timer(&self, wait: Duration, core: &Arc<Core>, revive: bool) {
        lock(&self.timers).push(Timer { due: Instant::now() + wait, core: Arc::downgrade(core), revive });
    }

    fn fail(&self, core: &Arc<Core>, failure: &Failure) {
        let Some(wait) = core.fail(failure, random()) else { return };
        warn!(
            actor = %core.card.kind(),
            camera = core.card.camera().map(tracing::field::display),
            generation = core.card.generation(),
            %failure,
            restart_in_ms = wait.as_millis() as u64,
            "actor failed"
        );
        self.set_timer(wait, core, true);
    }

    fn work(self: &Arc<Self>, job: &Mutex<Job>) {
        if self.settings.niceness > 0 {
            let _ = rustix::process::setpriority_process(None, self.settings.niceness);
        }
        let mut busy = false;
        loop {
            let waiting_since = Instant::now();
            let Some(core) = self.next(busy) else { return };
            busy = waiting_since.elapsed() < self.linger * 4;
            let stood_still = self.board.stood_still();
            let pulse = (self.settings.niceness > 0).then(Pulse::take);
            let since = Instant::now();
            lock(job).current = Some(Current { core: Arc::clone(&core), since, stood_still, pulse });
            IN_TURN_OF.set(Arc::as_ptr(self) as usize);
            let outcome = catch_unwind(AssertUnwindSafe(|| -> Result<Worked, Failure> {
                let mut component = match core.begin() {
                    Turn::Nothing => return Ok(None),
                    Turn::Work(component) => component,
                    Turn::Build => core.build()?,
                };
                let step = component.step()?;
                Ok(Some((component, step)))
            }));
            IN_TURN_OF.set(0);
            let mut job = lock(job);
            job.current = None;
            if job.abandoned {
                // The watch gave this thread up; the station has long got a new component elsewhere.
                drop(job);
                core.came_back();
                self.board.thread_returned();
                return;
            }
            drop(job);
            match outcome {
                Ok(Ok(Some((component, step)))) => {
                    if let Some(wait) = core.end(component, step) {
                        self.set_timer(wait, &core, false);
                    }
                }
                Ok(Ok(None)) => {}
                Ok(Err(failure)) => self.fail(&core, &failure),
                Err(payload) => self.fail(&core, &Failure::Panic(panic_message(payload.as_ref()))),
            }
        }
    }

    fn threads(&self) -> usize {
        self.settings.threads.max(1)
    }

    /// Starts the threads that are missing: at first all of them, later those in place of the ones that were given up.
    /// Where none can be started now (too many processes, no memory) the next look tries again.
    fn fill_up(self: &Arc<Self>) {
        if self.stopping.load(Ordering::Acquire) {
            return;
        }
        let missing = self.threads().saturating_sub(lock(&self.workers).len());
        let hired = (0..missing).take_while(|_| self.hire()).count();
        let is_short = hired < missing;
        if self.short.swap(is_short, Ordering::AcqRel) && !is_short {
            info!(crew = self.settings.name, "all threads are there again");
        }
    }

    /// Starts one thread; false when that cannot be done now.
    fn hire(self: &Arc<Self>) -> bool {
        let job = Arc::new(Mutex::new(Job::default()));
        let (shared, own_job) = (Arc::clone(self), Arc::clone(&job));
        let builder = thread::Builder::new().name(self.settings.name.to_owned());
        #[cfg(test)]
        let builder = builder.stack_size(self.stack.load(Ordering::Acquire));
        match builder.spawn(move || shared.work(&own_job)) {
            Ok(thread) => {
                lock(&self.workers).push(Worker { job, thread: Some(thread) });
                true
            }
            Err(error) => {
                // Tried twenty times a second; said once.
                if !self.short.load(Ordering::Acquire) {
                    error!(crew = self.settings.name, %error, "no thread could be started; it is tried again");
                }
                false
            }
        }
    }
}

/// A crew of threads. Clones share it.
#[derive(Clone)]
pub struct Crew {
    shared: Arc<Shared>,
}

impl Crew {
    /// Starts the threads.
    pub fn start(settings: CrewSettings, board: Board) -> Self {
        Self::start_lingering(settings, board, Duration::ZERO)
    }

    /// As [`Crew::start`]; while work comes in quick succession, one thread looks for more for `linger` before it
    /// goes to sleep. For short work that somebody waits for; on a single core it would only be in the way.
    pub fn start_lingering(settings: CrewSettings, board: Board, linger: Duration) -> Self {
        let shared = Arc::new(Shared {
            settings,
            board,
            queue: Mutex::default(),
            queued: Condvar::new(),
            workers: Mutex::default(),
            timers: Mutex::default(),
            stopping: AtomicBool::new(false),
            linger,
            lingering: AtomicBool::new(false),
            short: AtomicBool::new(false),
            #[cfg(test)]
            stack: std::sync::atomic::AtomicUsize::new(2 << 20),
        });
        shared.fill_up();
        Self { shared }
    }

    /// Opens a station. The component is built at its first waking, on a thread of the crew; building counts
    /// against `deadline` like any piece of work.
    pub fn station(
        &self,
        kind: ActorKind,
        camera: Option<CameraId>,
        deadline: Duration,
        factory: impl Fn() -> Result<Box<dyn Component>, Failure> + Send + Sync + 'static,
    ) -> Station {
        let card = self.shared.board.card(kind, camera);
        let backoff = Backoff::new(self.shared.settings.backoff);
        let factory: Factory = Arc::new(factory);
        Station::new(card, deadline, backoff, factory, Arc::downgrade(&self.shared))
    }

    /// Number of threads the crew was made with.
    pub fn threads(&self) -> usize {
        self.shared.threads()
    }

    /// Makes starting a thread impossible, or possible again.
    #[cfg(test)]
    pub(super) fn set_stack(&self, bytes: usize) {
        self.shared.stack.store(bytes, Ordering::Release);
    }

    /// Gives up threads that are past their deadline and wakes what is due. Called by the watch.
    pub(super) fn tick(&self, now: Instant) {
        let due: Vec<Timer> = lock(&self.shared.timers).extract_if(.., |t| t.due <= now).collect();
        for timer in due {
            let Some(core) = timer.core.upgrade() else { continue };
            match timer.revive {
                true if core.rests() => {
                    core.put_off(REST);
                    self.shared.set_timer(REST, &core, true);
                }
                true => core.revive(),
                false => core.wake(),
            }
        }
        let mut lost = Vec::new();
        let stood_still = self.shared.board.stood_still();
        lock(&self.shared.workers).retain(|worker| {
            let mut job = lock(&worker.job);
            let Some(Current { core, since, stood_still: before, pulse }) = &job.current else { return true };
            let excused = stood_still.saturating_sub(*before);
            let took = now.saturating_duration_since(*since).saturating_sub(excused);
            if took <= core.deadline || pulse.is_some_and(|pulse| pulse.starves(took, core.deadline)) {
                return true;
            }
            lost.push(Arc::clone(core));
            core.hangs();
            job.abandoned = true;
            false
        });
        for core in lost {
            let abandoned = self.shared.board.abandon_thread();
            error!(
                crew = self.shared.settings.name,
                actor = %core.card.kind(),
                abandoned,
                "a thread hangs and was given up"
            );
            self.shared.fail(&core, &Failure::Hang);
        }
        self.shared.fill_up();
    }

    /// Lets the threads finish what is queued and ends them. Returns how many were late.
    pub fn stop(&self, patience: Duration) -> usize {
        // The flag is set under the queue's lock: a worker between looking and waiting cannot miss it.
        let queue = lock(&self.shared.queue);
        self.shared.stopping.store(true, Ordering::Release);
        drop(queue);
        self.shared.queued.notify_all();
        let give_up = Instant::now() + patience;
        let mut late = 0;
        let workers = std::mem::take(&mut *lock(&self.shared.workers));
        for mut worker in workers {
            let Some(thread) = worker.thread.take() else { continue };
            while !thread.is_finished() && Instant::now() < give_up {
                thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                late += 1;
            }
        }
        late
    }
}
