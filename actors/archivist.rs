//! The one writer of the database. Others hand it pieces of work and wait for the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meerkat_store::{Store, StoreError};
use tokio::sync::oneshot;

use crate::supervision::{ActorKind, Component, Crew, Failure, Inbox, Offer, Station, Step, fault};

/// Pieces of work that may wait.
const CAPACITY: usize = 1024;

/// A piece of work; `lose` tells whoever waits for it that it was lost, and keeps it from being done later.
struct Work {
    run: Run,
    lose: Lose,
}

type Run = Box<dyn FnOnce(&mut Store) + Send>;
type Lose = Box<dyn FnOnce() + Send>;

/// The work could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too much work waits already.
    #[error("the archivist has too much to do")]
    Busy,
    /// The archivist failed while it was at it; whether it was done is unknown.
    #[error("the archivist failed")]
    Lost,
}

/// The way to the archivist. Clones lead to the same one.
#[derive(Clone)]
pub struct Archivist {
    queue: Arc<Queue>,
    station: Station,
}

struct Queue {
    inbox: Inbox<Work>,
    /// How to lose the piece of work in hand, by its number: its thread may hang and never say anything again.
    in_hand: Mutex<Option<(u64, Lose)>>,
    numbers: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn take(&self) -> Option<(u64, Run)> {
        let Work { run, lose } = self.inbox.take()?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        *lock(&self.in_hand) = Some((number, lose));
        Some((number, run))
    }

    fn done(&self, number: u64) {
        // Another number: this thread was given up meanwhile, and its successor has work in hand.
        lock(&self.in_hand).take_if(|(own, _)| *own == number);
    }

    fn lose_what_was_in_hand(&self) {
        if let Some((_, lose)) = lock(&self.in_hand).take() {
            lose();
        }
    }
}

impl Archivist {
    /// Opens the station. `open` opens the database, again after each failure; the first time is the
    /// caller's, so that a database that cannot be opened stops the node with a clear error.
    pub fn start(
        crew: &Crew,
        deadline: Duration,
        first: Store,
        open: impl Fn() -> Result<Store, StoreError> + Send + Sync + 'static,
    ) -> Self {
        let queue = Arc::new(Queue {
            inbox: Inbox::new(ActorKind::Archivist, CAPACITY),
            in_hand: Mutex::new(None),
            numbers: AtomicU64::new(0),
        });
        let first = Mutex::new(Some(first));
        let own = Arc::clone(&queue);
        let station = crew.station(ActorKind::Archivist, None, deadline, move || {
            own.lose_what_was_in_hand();
            let ready = lock(&first).take();
            let store = match ready {
                Some(store) => store,
                None => open().map_err(Failure::error)?,
            };
            Ok(Box::new(Desk { store, queue: Arc::clone(&own) }))
        });
        station.wake();
        Self { queue, station }
    }

    /// Has a piece of work done and waits for its result.
    pub async fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, ArchiveError> {
        self.hand_in(work)?.await.map_err(|_| ArchiveError::Lost)?.map_err(ArchiveError::from)
    }

    /// As [`Archivist::ask`], from a thread that may block.
    pub fn ask_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, ArchiveError> {
        self.hand_in(work)?.blocking_recv().map_err(|_| ArchiveError::Lost)?.map_err(ArchiveError::from)
    }

    fn hand_in<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<R, StoreError>>, ArchiveError> {
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let own = Arc::clone(&sender);
        let run = Box::new(move |store: &mut Store| {
            if lock(&own).is_none() {
                // It was given up, and has been asked for again by now.
                return;
            }
            let result = work(store);
            if let Some(sender) = lock(&own).take() {
                // Nobody waiting any more is no reason not to have done it.
                let _ = sender.send(result);
            }
        });
        let lose = Box::new(move || drop(lock(&sender).take()));
        match self.queue.inbox.offer(Work { run, lose }) {
            Offer::Taken => {
                self.station.wake();
                Ok(receiver)
            }
            Offer::Full | Offer::Down => Err(ArchiveError::Busy),
        }
    }

    /// Pieces of work that wait.
    pub fn waiting(&self) -> usize {
        self.queue.inbox.len()
    }
}

struct Desk {
    store: Store,
    queue: Arc<Queue>,
}

impl Component for Desk {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some((number, run)) = self.queue.take() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Archivist, None)?;
        run(&mut self.store);
        self.queue.done(number);
        Ok(Step::Again)
    }
}
