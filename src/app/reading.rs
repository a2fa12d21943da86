//! A read-only connection to the database that is opened when first needed, and again after it failed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use meerkat_store::{DataLock, StoreError, StoreReader};

/// One connection, asked by one thread at a time.
pub(super) struct Reading {
    data_dir: PathBuf,
    lock: Option<DataLock>,
    reader: Mutex<Option<StoreReader>>,
}

impl Reading {
    /// Opens nothing yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), lock: None, reader: Mutex::new(None) }
    }

    /// As [`Reading::new`]; damage that it comes across makes the database suspect.
    pub fn watchful(data_dir: &Path, lock: DataLock) -> Self {
        Self { lock: Some(lock), ..Self::new(data_dir) }
    }

    /// Asks one question.
    pub fn ask<R>(
        &self,
        question: impl FnOnce(&StoreReader) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        // Nor is one to a database that another has taken the place of.
        let open = match reader.take().filter(StoreReader::is_current) {
            Some(open) => open,
            None => StoreReader::open(&self.data_dir)?,
        };
        // A connection that failed is not kept: the next question opens another.
        match question(&open) {
            Ok(answer) => {
                *reader = Some(open);
                Ok(answer)
            }
            Err(error) => {
                // Only of the database that is in use: another may have taken its place while it was asked.
                if let Some(lock) = self.lock.as_ref().filter(|_| error.is_damage() && open.is_current()) {
                    lock.suspect();
                }
                Err(error)
            }
        }
    }
}
