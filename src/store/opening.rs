//! Opens the database of a node, whatever state it is in: a damaged one is set aside and made anew, at the start before
//! anything else happens, later on a thread of its own while the node goes on recording. At the start a full disk is
//! given the ballast; other room is made by the running node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backup::Report;
use crate::ballast;
use crate::database::{DATABASE, DataLock, Store, StoreOptions};
use crate::disk::free_bytes;
use crate::error::{Result, StoreError};
use crate::rebuild::{Rebuilt, rebuild};

/// With fewer bytes free than this, what the disk did not do is put down to that.
const HARDLY_ANY: u64 = 1 << 20;

/// Opens the database of one data folder again and again.
pub struct Opener {
    lock: DataLock,
    options: Box<dyn Fn() -> StoreOptions + Send + Sync>,
    heard: Box<dyn Fn(&Rebuilt) + Send + Sync>,
    repairing: Mutex<bool>,
}

/// A repair that is to be done. However it ends, also by a panic or because no thread can be started: when this is
/// dropped the next one may begin.
struct Repair(Arc<Opener>);

impl Drop for Repair {
    fn drop(&mut self) {
        *self.0.repairing() = false;
    }
}

impl Opener {
    /// `options` are asked for anew each time, as the time is among them; `heard` hears of every rebuilt database.
    pub fn new(
        lock: DataLock,
        options: impl Fn() -> StoreOptions + Send + Sync + 'static,
        heard: impl Fn(&Rebuilt) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            lock,
            options: Box::new(options),
            heard: Box::new(heard),
            repairing: Mutex::new(false),
        })
    }

    /// The lock of the data folder.
    pub fn lock(&self) -> &DataLock {
        &self.lock
    }

    /// Opens the database; a damaged one is set aside and made anew first, which may take minutes. Where there is no
    /// room for either, the ballast is given up first: only a node that runs can make more.
    ///
    /// # Errors
    /// Whatever keeps it from being opened or made anew; then the damaged one stays where it is.
    /// [`StoreError::NoRoomToOpen`] when that is a full disk.
    pub fn at_start(&self, report: Report<'_>) -> Result<Store> {
        loop {
            let refused = match self.open_or_make_anew(report) {
                Err(error) if self.is_for_want_of_room(&error) => error,
                opened => return opened,
            };
            match ballast::give_up(self.lock.folder()) {
                Ok(0) => return Err(self.no_room(refused)),
                Ok(bytes) => {
                    let why = refused.to_string();
                    tracing::warn!(bytes, why, "the ballast was given up so that the database can be opened");
                }
                Err(problem) => {
                    tracing::warn!(%problem, "the ballast cannot be given up");
                    return Err(self.no_room(refused));
                }
            }
        }
    }

    fn no_room(&self, refused: StoreError) -> StoreError {
        match refused {
            // Says itself what is to be done.
            StoreError::NoMigrationBackup { .. } => refused,
            refused => {
                let path = self.lock.folder().join(DATABASE);
                StoreError::NoRoomToOpen { path, source: Box::new(refused) }
            }
        }
    }

    /// Whether more room on the disk may be all that is missing.
    fn is_for_want_of_room(&self, error: &StoreError) -> bool {
        match error {
            StoreError::NoRoom { .. } | StoreError::NoMigrationBackup { .. } => true,
            error if error.is_disk_full() => true,
            // Some file systems, when they are full, refuse to make the files beside the database, and SQLite does not
            // say why.
            error => {
                error.is_disk_failure() && free_bytes(self.lock.folder()).is_ok_and(|free| free < HARDLY_ANY)
            }
        }
    }

    fn open_or_make_anew(&self, report: Report<'_>) -> Result<Store> {
        match Store::open_under(&self.lock, (self.options)()) {
            Err(error) if error.is_damage() => self.make_anew(&error, report)?,
            opened => return opened,
        }
        Store::open_under(&self.lock, (self.options)())
    }

    /// Opens the database once more after it failed; takes never long. While the database is suspected to be damaged,
    /// a thread looks at all of it and makes it anew if need be, and this says so.
    ///
    /// # Errors
    /// [`StoreError::Rebuilding`]: ask again later.
    pub fn again(self: &Arc<Self>) -> Result<Store> {
        let mut repairing = self.repairing();
        if *repairing {
            return Err(StoreError::Rebuilding);
        }
        if !self.lock.is_suspect() {
            match Store::open_under(&self.lock, (self.options)()) {
                Err(error) if error.is_damage() => self.lock.suspect(),
                opened => return opened,
            }
        }
        *repairing = true;
        drop(repairing);
        let repair = Repair(Arc::clone(self));
        let spawned = std::thread::Builder::new().name("rebuild".to_owned()).spawn(move || {
            if let Err(error) = repair.0.repair() {
                tracing::error!(%error, "the database could not be made anew; it is tried again");
            }
        });
        spawned.map_err(|error| StoreError::io(self.lock.folder(), error))?;
        Err(StoreError::Rebuilding)
    }

    /// Whether the database is just being looked through or made anew.
    pub fn is_repairing(&self) -> bool {
        *self.repairing()
    }

    fn repairing(&self) -> MutexGuard<'_, bool> {
        self.repairing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn repair(&self) -> Result<()> {
        match Store::open_checked(&self.lock, (self.options)(), None) {
            Ok(_) => {
                tracing::info!("all of the database was looked at: it is in order");
                self.lock.cleared();
                Ok(())
            }
            Err(error) if error.is_damage() => self.make_anew(&error, &mut |_, _, _| {}),
            Err(error) => Err(error),
        }
    }

    fn make_anew(&self, error: &StoreError, report: Report<'_>) -> Result<()> {
        let reason = match error {
            StoreError::Damaged { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        tracing::error!(reason, "the database is damaged: it is set aside and made anew");
        let rebuilt = rebuild(&self.lock, (self.options)(), &reason, report)?;
        tracing::warn!("{rebuilt}");
        (self.heard)(&rebuilt);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_repair_that_panics_is_followed_by_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let lock = DataLock::take(temp.path()).unwrap();
        drop(Store::open_under(&lock, StoreOptions::default()).unwrap());
        let panics = AtomicBool::new(true);
        let options = move || {
            assert!(!panics.swap(false, Ordering::SeqCst), "scripted");
            StoreOptions::default()
        };
        let opener = Opener::new(lock, options, |_| {});
        opener.lock().suspect();
        let give_up = Instant::now() + Duration::from_secs(60);
        let (mut asked, mut store) = (0, None);
        while store.is_none() {
            assert!(Instant::now() < give_up, "it is being repaired for ever");
            match opener.again() {
                Ok(opened) => store = Some(opened),
                Err(StoreError::Rebuilding) => asked += 1,
                Err(error) => panic!("{error}"),
            }
            std::thread::yield_now();
        }
        assert!(asked >= 2, "the one that panicked, and the one that found it in order");
    }
}
