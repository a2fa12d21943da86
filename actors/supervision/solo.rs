//! A solo: an actix actor alone on its arbiter, built again when it panics, gives up or stands still.
//! Messages reach it through a [`Mailbox`], which outlives its generations.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::prelude::*;
use meerkat_base::metric;
use metrics::{Counter, counter};
use tracing::{error, warn};

use super::backoff::{Backoff, BackoffSettings};
use super::board::{Board, Card, Stopwatch};
use super::inbox::Offer;
use super::{ActorKind, Failure};

/// How often an arbiter says that it is alive.
const BEAT: Duration = Duration::from_millis(200);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where messages for a solo are left. Clones lead to the same actor, whichever its generation.
pub struct Mailbox<A: Actor> {
    addr: Arc<Mutex<Option<Addr<A>>>>,
    refused: Counter,
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { addr: Arc::clone(&self.addr), refused: self.refused.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    fn new(kind: ActorKind) -> Self {
        Self { addr: Arc::default(), refused: counter!(metric::MAILBOX_REFUSED, "actor" => kind.as_str()) }
    }

    /// Leaves a message; never waits.
    pub fn offer<M>(&self, message: M) -> Offer
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let addr = lock(&self.addr).clone();
        let Some(addr) = addr else { return Offer::Down };
        match addr.try_send(message) {
            Ok(()) => Offer::Taken,
            Err(SendError::Full(_)) => {
                self.refused.increment(1);
                Offer::Full
            }
            Err(SendError::Closed(_)) => Offer::Down,
        }
    }
}

/// Kept by the actor itself: its loss tells the watch that the actor is gone, and why.
pub struct Sentinel {
    life: Arc<Life>,
}

impl Sentinel {
    /// Notes the error for which the actor is about to stop.
    pub fn fail(&self, failure: Failure) {
        lock(&self.life.exit).get_or_insert(failure);
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let failure = if thread::panicking() {
            Failure::Panic(super::watch::last_panic_of_this_thread())
        } else {
            Failure::error("the actor stopped without being asked to")
        };
        lock(&self.life.exit).get_or_insert(failure);
    }
}

/// One generation of a solo. Times are those of the stopwatch.
struct Life {
    stopwatch: Stopwatch,
    beat: AtomicU64,
    exit: Mutex<Option<Failure>>,
    abandoned: AtomicBool,
}

impl Life {
    fn now(&self) -> u64 {
        self.stopwatch.millis()
    }
}

type Build<A> = Arc<dyn Fn(Sentinel) -> A + Send + Sync>;

struct Inner<A: Actor> {
    card: Arc<Card>,
    board: Board,
    deadline: Duration,
    build: Build<A>,
    mailbox: Mailbox<A>,
    state: Mutex<State>,
}

struct State {
    backoff: Backoff,
    current: Option<(Arbiter, Arc<Life>)>,
    revive_at: Option<Instant>,
    stopped: bool,
}

/// The supervised actor. Clones share it.
pub struct Solo<A: Actor> {
    inner: Arc<Inner<A>>,
}

impl<A: Actor> Clone for Solo<A> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<A: Actor<Context = Context<A>>> Solo<A> {
    /// Builds the actor on an arbiter of its own. Must be called where an actix `System` is current.
    pub fn start(
        kind: ActorKind,
        board: Board,
        backoff: BackoffSettings,
        deadline: Duration,
        build: impl Fn(Sentinel) -> A + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner {
            card: board.card(kind, None),
            board,
            deadline,
            build: Arc::new(build),
            mailbox: Mailbox::new(kind),
            state: Mutex::new(State {
                backoff: Backoff::new(backoff),
                current: None,
                revive_at: None,
                stopped: false,
            }),
        };
        let solo = Self { inner: Arc::new(inner) };
        solo.launch(&mut lock(&solo.inner.state));
        solo
    }

    /// Where messages for it are left.
    pub fn mailbox(&self) -> Mailbox<A> {
        self.inner.mailbox.clone()
    }

    fn launch(&self, state: &mut State) {
        let arbiter = match Arbiter::try_new() {
            Ok(arbiter) => arbiter,
            Err(error) => {
                error!(actor = %self.inner.card.kind(), %error, "no thread could be started");
                state.revive_at = Some(Instant::now() + Duration::from_secs(1));
                return;
            }
        };
        let life = Arc::new(Life {
            stopwatch: self.inner.board.stopwatch(),
            beat: AtomicU64::new(0),
            exit: Mutex::new(None),
            abandoned: AtomicBool::new(false),
        });
        let sentinel = Sentinel { life: Arc::clone(&life) };
        let (build, addr) = (Arc::clone(&self.inner.build), Arc::clone(&self.inner.mailbox.addr));
        arbiter.spawn_fn(move || {
            let started = build(sentinel).start();
            *lock(&addr) = Some(started);
        });
        let (beating, board) = (Arc::clone(&life), self.inner.board.clone());
        arbiter.spawn(async move {
            loop {
                actix_rt::time::sleep(BEAT).await;
                if beating.abandoned.load(Ordering::Acquire) {
                    board.thread_returned();
                    Arbiter::current().stop();
                    return;
                }
                beating.beat.store(beating.now(), Ordering::Release);
            }
        });
        self.inner.card.built();
        state.current = Some((arbiter, life));
    }

    /// Looks whether it lives, and builds it anew when it is time. Called by the watch.
    pub(super) fn tick(&self, now: Instant) {
        let mut state = lock(&self.inner.state);
        if state.stopped {
            return;
        }
        if state.revive_at.is_some_and(|at| at <= now) {
            state.revive_at = None;
            self.launch(&mut state);
            return;
        }
        let Some((_, life)) = &state.current else { return };
        let limit = u64::try_from(self.inner.deadline.as_millis()).unwrap_or(u64::MAX);
        let since_beat = life.now().saturating_sub(life.beat.load(Ordering::Acquire));
        let stuck_thread = since_beat > limit;
        let exit = lock(&life.exit).take();
        let failure = match exit {
            Some(failure) => failure,
            None if stuck_thread => Failure::Hang,
            None => return,
        };
        let uptime = Duration::from_millis(life.now());
        *lock(&self.inner.mailbox.addr) = None;
        if let Some((arbiter, life)) = state.current.take() {
            if stuck_thread {
                life.abandoned.store(true, Ordering::Release);
                let abandoned = self.inner.board.abandon_thread();
                error!(actor = %self.inner.card.kind(), abandoned, "a thread hangs and was given up");
            } else {
                arbiter.stop();
            }
        }
        let wait = state.backoff.next(uptime, 1.0);
        warn!(actor = %self.inner.card.kind(), %failure, restart_in_ms = wait.as_millis() as u64, "actor failed");
        self.inner.card.failed(&failure, self.inner.board.clock().wall());
        state.revive_at = Some(now + wait);
    }

    /// Builds the actor anew, because what it is built from has changed. No failure, no back-off.
    pub fn renew(&self) {
        let mut state = lock(&self.inner.state);
        if let Some((arbiter, life)) = state.current.take() {
            // Its sentinel will say that it stopped unasked; nobody listens to that life any more.
            drop(life);
            arbiter.stop();
            *lock(&self.inner.mailbox.addr) = None;
            self.launch(&mut state);
        }
    }

    /// Ends the actor for good and waits for its thread, at most `patience`. False when it was late.
    pub fn stop(&self, patience: Duration) -> bool {
        let mut state = lock(&self.inner.state);
        state.stopped = true;
        *lock(&self.inner.mailbox.addr) = None;
        let Some((arbiter, _)) = state.current.take() else { return true };
        drop(state);
        arbiter.stop();
        let joining = thread::spawn(move || {
            let _ = arbiter.join();
        });
        let give_up = Instant::now() + patience;
        while !joining.is_finished() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(2));
        }
        joining.is_finished()
    }
}
