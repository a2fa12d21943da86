//! A read-only connection to the database that is opened when first needed, and again after it failed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use meerkat_store::{StoreError, StoreReader};

/// One connection, asked by one thread at a time.
pub(super) struct Reading {
    data_dir: PathBuf,
    reader: Mutex<Option<StoreReader>>,
}

impl Reading {
    /// Opens nothing yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), reader: Mutex::new(None) }
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
        let answer = question(&open)?;
        *reader = Some(open);
        Ok(answer)
    }
}
