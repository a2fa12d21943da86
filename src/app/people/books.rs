//! Where the people are written down: a database of one's own, or that of a running node, by its archivist.

use std::sync::{Mutex, PoisonError};

use meerkat_actors::archivist::{ArchiveError, Archivist};
use meerkat_store::{Store, StoreError};
use meerkat_web::PeopleError;

/// A database that can be asked and changed from any thread; may block.
pub(crate) trait Books: Send + Sync + 'static {
    /// Has a piece of work done.
    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, PeopleError>;
}

impl Books for Archivist {
    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, PeopleError> {
        self.ask_blocking(work).map_err(|error| match error {
            ArchiveError::Store(error) => failed(error),
            error => PeopleError::Failed(error.to_string()),
        })
    }
}

/// A data folder in which no node runs.
pub(crate) struct OwnFolder(Mutex<Store>);

impl OwnFolder {
    /// Takes over its database.
    pub fn new(store: Store) -> Self {
        Self(Mutex::new(store))
    }
}

impl Books for OwnFolder {
    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, PeopleError> {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)).map_err(failed)
    }
}

fn failed(error: StoreError) -> PeopleError {
    match error {
        StoreError::Refused(words) => PeopleError::Refused(words),
        error => PeopleError::Failed(error.to_string()),
    }
}
