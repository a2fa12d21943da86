//! The one writer of the database. Others hand it pieces of work and wait for the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meerkat_store::{Store, StoreError};
use tokio::sync::oneshot;

use crate::supervision::{ActorKind, Component, Crew, Failure, Inbox, Offer, Station, Step, fault};

/// Pieces of work that may wait.
const CAPACITY: usize = 1024;

type Work = Box<dyn FnOnce(&mut Store) + Send>;

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
    inbox: Arc<Inbox<Work>>,
    station: Station,
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
        let inbox: Arc<Inbox<Work>> = Arc::new(Inbox::new(ActorKind::Archivist, CAPACITY));
        let first = Mutex::new(Some(first));
        let own = Arc::clone(&inbox);
        let station = crew.station(ActorKind::Archivist, None, deadline, move || {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let store = match ready {
                Some(store) => store,
                None => open().map_err(Failure::error)?,
            };
            Ok(Box::new(Desk { store, inbox: Arc::clone(&own) }))
        });
        station.wake();
        Self { inbox, station }
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
        let work: Work = Box::new(move |store| {
            // Nobody waiting any more is no reason not to have done it.
            let _ = sender.send(work(store));
        });
        match self.inbox.offer(work) {
            Offer::Taken => {
                self.station.wake();
                Ok(receiver)
            }
            Offer::Full | Offer::Down => Err(ArchiveError::Busy),
        }
    }

    /// Pieces of work that wait.
    pub fn waiting(&self) -> usize {
        self.inbox.len()
    }
}

struct Desk {
    store: Store,
    inbox: Arc<Inbox<Work>>,
}

impl Component for Desk {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(work) = self.inbox.take() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Archivist, None)?;
        work(&mut self.store);
        Ok(Step::Again)
    }
}
