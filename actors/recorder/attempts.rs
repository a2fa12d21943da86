//! Attempts at finishing spools that are under way: counted on the disk before they are made, and taken back when what
//! ended them was no fault of the spool (the disk, the archivist, an orderly stop of the node). What becomes of a spool
//! with too many of them is not decided here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meerkat_store::{StoreError, spool};
use tracing::warn;

/// All attempts under way. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<UnderWay>>);

#[derive(Default)]
struct UnderWay {
    numbers: u64,
    /// The latest of each spool: the one before may hang still, and stays counted.
    latest: HashMap<PathBuf, Latest>,
    /// The node stops: none begins any more.
    is_over: bool,
}

struct Latest {
    number: u64,
    /// Since when it is at the piece of work in hand.
    works_since: Option<Instant>,
}

/// One attempt. Dropped, it is no longer under way, and stays counted.
pub(super) struct Attempt {
    attempts: Attempts,
    spool: PathBuf,
    number: u64,
    which: u32,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt, which is then at work. None: the node stops, and it is for the next start to make it.
    pub fn begin(&self, spool: &Path) -> Result<Option<Attempt>, StoreError> {
        if self.lock().is_over {
            return Ok(None);
        }
        // Not under the lock: a disk may take its time.
        let which = spool::begin_attempt(spool)?;
        let number = {
            let mut under_way = self.lock();
            under_way.numbers += 1;
            let number = under_way.numbers;
            under_way.latest.insert(spool.to_owned(), Latest { number, works_since: Some(Instant::now()) });
            number
        };
        let attempt = Attempt { attempts: self.clone(), spool: spool.to_owned(), number, which };
        // The node may have been told to stop in between.
        if self.lock().is_over {
            attempt.forgive()?;
            return Ok(None);
        }
        Ok(Some(attempt))
    }

    /// The node stops: takes back what is under way, and lets nothing begin any more. What has been at one piece of work
    /// for longer than `deadline` hangs, and stays counted.
    pub fn stop(&self, deadline: Duration) {
        let latest = {
            let mut under_way = self.lock();
            under_way.is_over = true;
            std::mem::take(&mut under_way.latest)
        };
        for (spool, Latest { works_since, .. }) in latest {
            if works_since.is_some_and(|since| since.elapsed() >= deadline) {
                continue;
            }
            match spool::forgive_attempt(&spool) {
                // Its file may just have been finished.
                Err(problem) if !spool::is_gone(&spool) => {
                    warn!(spool = %spool.display(), %problem, "an attempt that the end of the node interrupts counts");
                }
                _ => {}
            }
        }
    }
}

impl Attempt {
    /// Which attempt at its spool it is, from 1.
    pub fn which(&self) -> u32 {
        self.which
    }

    /// Takes it back, unless that was done already.
    pub fn forgive(&self) -> Result<(), StoreError> {
        let Some(latest) = self.take() else { return Ok(()) };
        let forgiven = spool::forgive_attempt(&self.spool);
        if forgiven.is_err() {
            self.attempts.lock().latest.entry(self.spool.clone()).or_insert(latest);
        }
        forgiven
    }

    /// Says whether it is at a piece of work or waits for the next.
    pub fn works(&self, is_at_work: bool) {
        let mut under_way = self.attempts.lock();
        if let Some(latest) = under_way.latest.get_mut(&self.spool).filter(|one| one.number == self.number) {
            latest.works_since = is_at_work.then(Instant::now);
        }
    }

    /// Ends being under way. None: it was not any more.
    fn take(&self) -> Option<Latest> {
        let mut under_way = self.attempts.lock();
        let is_own = under_way.latest.get(&self.spool).is_some_and(|one| one.number == self.number);
        if is_own { under_way.latest.remove(&self.spool) } else { None }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that stands for a spool.
    fn spool() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        std::fs::create_dir(&path).unwrap();
        (folder, path)
    }

    fn counted(spool: &Path) -> u64 {
        std::fs::metadata(spool.join("attempts")).map_or(0, |metadata| metadata.len())
    }

    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn an_orderly_stop_takes_back_what_is_under_way_once_and_lets_nothing_begin() {
        let (_folder, path) = spool();
        let attempts = Attempts::default();
        // One that failed counts.
        drop(attempts.begin(&path).unwrap().unwrap());
        let second = attempts.begin(&path).unwrap().unwrap();
        assert_eq!((second.which(), counted(&path)), (2, 2));
        attempts.stop(DEADLINE);
        assert_eq!(counted(&path), 1);
        second.forgive().unwrap();
        assert_eq!(counted(&path), 1, "only once");
        assert!(attempts.begin(&path).unwrap().is_none());
        assert_eq!(counted(&path), 1);
    }

    #[test]
    fn what_hangs_stays_counted() {
        let (_folder, path) = spool();
        let attempts = Attempts::default();
        let hangs = attempts.begin(&path).unwrap().unwrap();
        let second = attempts.begin(&path).unwrap().unwrap();
        // It comes back, and knows nothing of the one that took its place.
        hangs.works(false);
        drop(hangs);
        attempts.stop(Duration::ZERO);
        assert_eq!(counted(&path), 2, "the second was at its work for too long as well");
        let others = Attempts::default();
        let third = others.begin(&path).unwrap().unwrap();
        third.works(false);
        others.stop(Duration::ZERO);
        assert_eq!(counted(&path), 2, "it waited");
        drop(second);
    }

    #[test]
    fn what_the_disk_interrupts_is_taken_back_when_it_is_well() {
        let (folder, path) = spool();
        let attempts = Attempts::default();
        let attempt = attempts.begin(&path).unwrap().unwrap();
        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        assert!(attempt.forgive().is_err());
        std::fs::rename(&away, &path).unwrap();
        attempt.forgive().unwrap();
        assert_eq!(counted(&path), 0);
        // A spool that is gone by the time of the stop is no trouble.
        let _again = attempts.begin(&path).unwrap().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        attempts.stop(DEADLINE);
        assert!(!path.exists());
    }
}
