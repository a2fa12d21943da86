//! The watch: one thread that runs no actor and looks after all of them, twenty times a second.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix::System;
use tracing::{error, warn};

use super::board::Board;
use super::panic_message;

/// How often the watch looks.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// When the watch itself comes later than this, the process stood still: the machine slept, a container was frozen, or
/// others had all the processors.
const LATE: Duration = Duration::from_millis(250);

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the message of each panic for whoever reports it, and logs it in one line. Idempotent.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let message = panic_message(info.payload() as &(dyn Any + Send));
            let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
            let thread = thread::current();
            if tracing::dispatcher::has_been_set() {
                error!(reason = message, place, thread = thread.name().unwrap_or("unnamed"), "panic");
            } else {
                before(info);
            }
            LAST_PANIC.with_borrow_mut(|last| *last = message);
        }));
    });
}

/// Message of the panic that this thread is unwinding from.
pub(super) fn last_panic_of_this_thread() -> String {
    LAST_PANIC.with_borrow(|last| if last.is_empty() { "no message".to_owned() } else { last.clone() })
}

type Tick = Box<dyn FnMut(Instant) + Send>;

/// The watching thread. Dropping it stops the watching.
pub struct Watch {
    ticks: Arc<Mutex<Vec<Tick>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts watching. Must be called where an actix `System` is current. `on_lost` is called once when
    /// `max_abandoned` threads hang for good: time to let the service manager start the node anew.
    pub fn start(
        board: Board,
        max_abandoned: usize,
        on_lost: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        install_panic_hook();
        let system = System::current();
        let ticks: Arc<Mutex<Vec<Tick>>> = Arc::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let (own_ticks, own_stopping) = (Arc::clone(&ticks), Arc::clone(&stopping));
        let mut on_lost = Some(on_lost);
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            System::set_current(system);
            let mut last = Instant::now();
            while !own_stopping.load(Ordering::Acquire) {
                let now = Instant::now();
                let still = now.duration_since(std::mem::replace(&mut last, now)).saturating_sub(INTERVAL);
                if still > LATE {
                    warn!(ms = still.as_millis() as u64, "the process stood still");
                    board.excuse(still);
                }
                for tick in own_ticks.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                    tick(now);
                }
                board.publish();
                if board.abandoned_threads() >= max_abandoned
                    && let Some(report) = on_lost.take()
                {
                    report();
                }
                thread::park_timeout(INTERVAL);
            }
        })?;
        Ok(Self { ticks, stopping, thread: Some(thread) })
    }

    /// Adds something to look after; it must return at once.
    pub fn look_after(&self, tick: impl FnMut(Instant) + Send + 'static) {
        self.ticks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(tick));
    }

    /// Looks after a crew.
    pub fn crew(&self, crew: super::Crew) {
        self.look_after(move |now| crew.tick(now));
    }

    /// Looks after a solo.
    pub fn solo<A: actix::Actor<Context = actix::Context<A>>>(&self, solo: super::Solo<A>)
    where
        super::Solo<A>: Send,
    {
        self.look_after(move |now| solo.tick(now));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
