//! What is looked after now and then: whether the disk can be written, old outbox rows, snapshots without a row. Makes no
//! room: that is the evictor's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_actors::node::NodeHandle;
use meerkat_base::{Clock, WallTime};
use meerkat_store::{PRUNE_BATCH, Store};
use tracing::{info, warn};

use super::unclaimed::Unclaimed;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often old rows are pruned.
const PRUNE: Duration = Duration::from_secs(3_600);
/// Wait before it is tried again after it failed.
const PRUNE_RETRY: Duration = Duration::from_secs(60);
/// Delivered and dead alerts are kept this long.
const KEEP_SETTLED_MICROS: i64 = 30 * 24 * 3_600 * 1_000_000;

/// What the last look at the disk found wrong, for `/readyz`. Clones share it.
#[derive(Clone, Default)]
pub(super) struct DiskState(Arc<Mutex<Option<String>>>);

impl DiskState {
    /// Why nothing new is recorded, if that is so.
    pub fn problem(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, problem: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// A thread of its own: a disk that hangs must hold up nothing else.
pub(super) struct Housekeeping {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Housekeeping {
    pub fn start(disk: DiskState, node: NodeHandle, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let own_stopping = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("housekeeping".to_owned()).spawn(move || {
            keep_house(&disk, &node, clock.as_ref(), &own_stopping);
        })?;
        Ok(Self { stopping, thread })
    }

    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Not joined: it may be waiting for a disk that does not answer.
    }
}

fn keep_house(disk: &DiskState, node: &NodeHandle, clock: &dyn Clock, stopping: &AtomicBool) {
    let mut next_prune: Option<Instant> = None;
    let mut present = Present::default();
    let mut unclaimed = Unclaimed::new(node.room().data_dir());
    while !stopping.load(Ordering::Acquire) {
        disk.set(node.room().problem());
        let believed_at = |moment| node.storage().believed_clock_at(moment);
        if next_prune.is_none_or(|at| Instant::now() >= at)
            && let Some(now) = present.believed(|| clock.wall(), believed_at)
        {
            let before = now.offset_micros(-KEEP_SETTLED_MICROS);
            let ask = || node.archivist().ask_blocking(move |store| store.prune(before));
            let wait = match prune_all(ask, || stopping.load(Ordering::Acquire)) {
                Ok(rows) => {
                    if rows > 0 {
                        info!(rows, "old alerts were removed from the outbox");
                    }
                    PRUNE
                }
                Err(problem) => {
                    warn!(%problem, "old alerts stay in the outbox; it is tried again");
                    PRUNE_RETRY
                }
            };
            next_prune = Some(Instant::now() + wait);
        }
        unclaimed.step(|rows| {
            let add = move |store: &mut Store| rows.iter().try_for_each(|row| store.add_snapshot(row));
            node.archivist().ask_blocking(add)
        });
        std::thread::park_timeout(LOOK);
    }
}

/// The time by which rows are old: one that the clock was looked at before and after. By a clock that has just jumped
/// ahead everything is old.
#[derive(Default)]
struct Present(Option<(WallTime, Instant)>);

impl Present {
    /// What the clock says or said a moment ago; none as long as it is not known to be right. `believed_at` tells
    /// whether it was at a moment.
    fn believed(
        &mut self,
        wall: impl FnOnce() -> WallTime,
        believed_at: impl FnOnce(Instant) -> Option<bool>,
    ) -> Option<WallTime> {
        let (now, moment) = *self.0.get_or_insert_with(|| (wall(), Instant::now()));
        let believed = believed_at(moment)?;
        self.0 = None;
        believed.then_some(now)
    }
}

/// Prunes until nothing old is left, a few rows at a time: others may want the database in between. Returns how many
/// rows went.
fn prune_all<E>(
    mut prune: impl FnMut() -> Result<usize, E>,
    stopping: impl Fn() -> bool,
) -> Result<usize, E> {
    let mut gone = 0;
    loop {
        let rows = prune()?;
        gone += rows;
        if rows < PRUNE_BATCH || stopping() {
            return Ok(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_old_is_judged_by_a_clock_that_was_looked_at_since() {
        let mut present = Present::default();
        let mut at = |wall, believed| present.believed(|| WallTime(wall), |_| believed);
        assert_eq!(at(900, Some(false)), None, "in doubt, or not looked at yet");
        assert_eq!(at(5, None), None, "nobody has looked since");
        assert_eq!(at(6, None), None);
        assert_eq!(at(7, Some(true)), Some(WallTime(5)), "that one was right");
        assert_eq!(at(900, None), None);
        assert_eq!(at(901, Some(false)), None, "it had jumped");
        assert_eq!(at(8, Some(true)), Some(WallTime(8)), "what it said meanwhile is forgotten");
    }

    #[test]
    fn all_that_is_old_goes_however_much_it_is() {
        let left = Cell::new(PRUNE_BATCH * 3 + 7);
        let prune = || {
            let rows = left.get().min(PRUNE_BATCH);
            left.set(left.get() - rows);
            Ok::<_, ()>(rows)
        };
        assert_eq!(prune_all(prune, || true), Ok(PRUNE_BATCH), "it ends with the node");
        assert_eq!(prune_all(prune, || false), Ok(PRUNE_BATCH * 2 + 7));
        assert_eq!(left.get(), 0);
        assert_eq!(prune_all(|| Err("the database is busy"), || false), Err("the database is busy"));
    }
}
