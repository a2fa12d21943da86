//! Gives snapshots whose row never came their row, so that what is deleted by age, by amount and for room counts them as
//! all others. Deletes nothing itself.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meerkat_store::SnapshotRow;
use meerkat_store::unclaimed::SnapshotWalk;
use tracing::{info, warn};

use super::reading::Reading;

/// Time from the end of a walk through all folders to the next.
const WALK: Duration = Duration::from_secs(6 * 3_600);
/// A step looks at no further day after that.
const BUSY: Duration = Duration::from_millis(50);
/// Wait before the next day when one could not be looked at.
const REST: Duration = Duration::from_secs(60);
/// Rows in one piece of the archivist's work.
const AT_ONCE: usize = 64;

/// Walks through all folders of clips at the start of a run, and now and then.
pub(super) struct Unclaimed {
    data_dir: PathBuf,
    reading: Reading,
    walk: Option<SnapshotWalk>,
    next: Instant,
    found: usize,
}

impl Unclaimed {
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            reading: Reading::new(data_dir),
            walk: None,
            next: Instant::now(),
            found: 0,
        }
    }

    /// Goes on, a little. `add` writes rows; one that has come meanwhile may be written again.
    pub fn step<E: Display>(&mut self, mut add: impl FnMut(Vec<SnapshotRow>) -> Result<(), E>) {
        if Instant::now() < self.next {
            return;
        }
        let began = Instant::now();
        while began.elapsed() < BUSY {
            match self.day(&mut add) {
                Ok(true) => {}
                Ok(false) => {
                    if self.found > 0 {
                        info!(pictures = self.found, "snapshots that had no row have one now");
                    }
                    (self.walk, self.found, self.next) = (None, 0, Instant::now() + WALK);
                    return;
                }
                Err(problem) => {
                    // The next walk looks at that day again.
                    warn!(%problem, "it cannot be seen whether all snapshots have their row");
                    self.next = Instant::now() + REST;
                    return;
                }
            }
        }
    }

    /// Looks at one more day. False: there is none.
    fn day<E: Display>(
        &mut self,
        add: &mut impl FnMut(Vec<SnapshotRow>) -> Result<(), E>,
    ) -> Result<bool, String> {
        if self.walk.is_none() {
            self.walk = Some(SnapshotWalk::new(&self.data_dir).map_err(|error| error.to_string())?);
        }
        let Some(walk) = &mut self.walk else { return Ok(false) };
        let rows = self.reading.ask(|reader| walk.next_day(reader)).map_err(|error| error.to_string())?;
        let Some(rows) = rows else { return Ok(false) };
        for part in rows.chunks(AT_ONCE) {
            add(part.to_vec()).map_err(|error| error.to_string())?;
            self.found += part.len();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{EventId, WallTime};
    use meerkat_store::{Store, StoreError, StoreOptions};

    use super::*;

    #[test]
    fn every_snapshot_has_its_row_after_a_walk_also_when_the_database_was_busy_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let day = "capture/clip/door/2026-11-20";
        std::fs::create_dir_all(folder.path().join(day)).unwrap();
        let at = WallTime(1_795_210_274_123_456);
        let paths: Vec<String> = (0..100_u8)
            .map(|n| format!("{day}/{}_{}.jpg", at.compact(), EventId::new(at, [n; 10])))
            .collect();
        for path in &paths {
            std::fs::write(folder.path().join(path), b"jpeg").unwrap();
        }
        let mut unclaimed = Unclaimed::new(folder.path());
        unclaimed.step(|_| Err("busy"));
        assert!(unclaimed.next > Instant::now(), "it waits");
        // As when its time has come.
        (unclaimed.walk, unclaimed.next) = (None, Instant::now());
        while unclaimed.next <= Instant::now() {
            unclaimed.step(|rows| rows.iter().try_for_each(|row| store.add_snapshot(row)));
        }
        assert!(paths.iter().all(|path| store.has_snapshot(path).unwrap()));
        assert!(unclaimed.walk.is_none(), "until the next walk");
        unclaimed.next = Instant::now();
        unclaimed.step(|_| Err(StoreError::Refused("nothing is new".to_owned())));
        assert!(unclaimed.next > Instant::now() + REST);
    }
}
