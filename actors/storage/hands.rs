//! What the evictor works with: a reader of the database, the remover of files, and the archivist for the commits
//! around a removal. Opened anew when the data folder is on another mount or something failed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{Evidence, WallTime, metric};
use meerkat_store::evict::Remover;
use meerkat_store::{Durability, StoreError, StoreReader};
use metrics::counter;

use super::room::Room;
use super::state::StorageState;
use crate::archivist::{ArchiveError, Archivist};

/// A step removes nothing more after that: each file of a disk that fails may take a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Why something goes; the `reason` label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is older than it may be.
    Age,
    /// There is more than there may be.
    Bytes,
    /// The disk needs the room.
    Space,
}

impl Why {
    pub const ALL: [Why; 3] = [Why::Age, Why::Bytes, Why::Space];

    pub fn as_str(self) -> &'static str {
        match self {
            Why::Age => "age",
            Why::Bytes => "bytes",
            Why::Space => "space",
        }
    }
}

/// Something that goes.
#[derive(Debug, Clone)]
pub(super) struct Doomed {
    pub path: String,
    pub evidence: Evidence,
    pub why: Why,
}

pub(super) struct Hands {
    pub data_dir: PathBuf,
    pub reader: StoreReader,
    pub remover: Remover,
    archivist: Archivist,
    room: Arc<Room>,
    state: StorageState,
}

impl Hands {
    pub fn open(
        room: &Arc<Room>,
        durability: Durability,
        archivist: &Archivist,
        state: &StorageState,
    ) -> Result<Self, StoreError> {
        let data_dir = room.data_dir().to_owned();
        Ok(Self {
            reader: StoreReader::open(&data_dir)?,
            remover: Remover::new(&data_dir, durability)?,
            data_dir,
            archivist: archivist.clone(),
            room: Arc::clone(room),
            state: state.clone(),
        })
    }

    /// Deletes what has rows: marked, file removed, row removed. Returns the bytes freed; what cannot be removed stays
    /// marked.
    ///
    /// # Errors
    /// The database does not take it.
    pub fn delete_rows(&mut self, doomed: Vec<Doomed>, now: WallTime) -> Result<u64, StoreError> {
        if doomed.is_empty() {
            return Ok(0);
        }
        let paths: Vec<String> = doomed.iter().map(|one| one.path.clone()).collect();
        let marked = self.ask(move |store| store.begin_deletion(&paths))?;
        let (mut gone, mut freed, began) = (Vec::new(), 0_u64, Instant::now());
        for one in doomed.into_iter().filter(|one| marked.contains(&one.path)) {
            // What stays behind is tried again with all that is marked.
            if began.elapsed() > PATIENCE {
                break;
            }
            if let Some(bytes) = self.remove(&one, now) {
                freed = freed.saturating_add(bytes);
                gone.push(one.path);
            }
        }
        self.finish(gone, now)?;
        Ok(freed)
    }

    /// Deletes something that has no row, or whose row is marked. None: it cannot be removed, which is noted; the next
    /// thing may go all the same.
    pub fn remove(&mut self, one: &Doomed, now: WallTime) -> Option<u64> {
        let bytes = self.try_to_remove(&one.path)?;
        self.count(one.evidence, one.why, (1, bytes), now);
        Some(bytes)
    }

    fn try_to_remove(&mut self, path: &str) -> Option<u64> {
        if self.state.stuck().rests(path, Instant::now()) {
            return None;
        }
        match self.remover.remove(path) {
            Ok(bytes) => {
                self.state.stuck().gone(path);
                Some(bytes)
            }
            Err(error) => {
                self.cannot_remove(path, &error);
                None
            }
        }
    }

    /// Notes that something cannot be removed, or cannot even be looked at.
    pub fn cannot_remove(&self, path: &str, error: &StoreError) {
        self.state.stuck().failed(path, error, Instant::now());
    }

    /// Whether something could not be removed a moment ago.
    pub fn is_stuck(&self, path: &str) -> bool {
        self.state.stuck().rests(path, Instant::now())
    }

    /// Counts what was removed.
    pub fn count(&self, evidence: Evidence, why: Why, (files, bytes): (u64, u64), now: WallTime) {
        if files == 0 {
            return;
        }
        let labels = [("kind", evidence.as_str()), ("reason", why.as_str())];
        counter!(metric::EVICTED_FILES, &labels).increment(files);
        counter!(metric::EVICTED_BYTES, &labels).increment(bytes);
        let mut report = self.state.lock();
        report.last_deletion = Some(now);
        report.deleted_files += files;
        report.deleted_bytes = report.deleted_bytes.saturating_add(bytes);
    }

    /// Goes on, after a path, with deletions that a crash, or a file that could not be removed, left half done. Returns
    /// the path that it came to; none when there are no more.
    pub fn finish_begun(
        &mut self,
        after: &str,
        limit: usize,
        now: WallTime,
    ) -> Result<Option<String>, StoreError> {
        let (mut gone, mut came_to, began) = (Vec::new(), None, Instant::now());
        for path in self.reader.deletions_begun(after, limit)? {
            if began.elapsed() > PATIENCE {
                break;
            }
            if self.try_to_remove(&path).is_some() {
                gone.push(path.clone());
            }
            came_to = Some(path);
        }
        self.finish(gone, now)?;
        Ok(came_to)
    }

    /// Makes removals survive where that is promised. Returns the folders in which they may not, which is noted; others
    /// are tried again and again, and wait for none of them.
    pub fn settle(&mut self, now: WallTime) -> BTreeSet<String> {
        let unsettled = self.remover.settle(&now.date());
        for (folder, error) in &unsettled {
            self.cannot_remove(folder, error);
        }
        unsettled.into_iter().map(|(folder, _)| folder).collect()
    }

    /// Folders first, then rows: where power may fail, a row must not be gone while its file comes back. Rows of a folder
    /// that cannot be settled stay marked, and have their turn again with all that is.
    fn finish(&mut self, mut gone: Vec<String>, now: WallTime) -> Result<(), StoreError> {
        let unsettled = self.settle(now);
        gone.retain(|path| path.rsplit_once('/').is_none_or(|(folder, _)| !unsettled.contains(folder)));
        if gone.is_empty() {
            return Ok(());
        }
        self.ask(move |store| store.finish_deletion(&gone))
    }

    pub fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut meerkat_store::Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.archivist.ask_blocking(work).map_err(|error| match error {
            ArchiveError::Store(error) => {
                if error.is_disk_full() {
                    self.room.database_full();
                }
                error
            }
            other => StoreError::Refused(other.to_string()),
        })
    }
}
