//! What is looked after now and then: free and used bytes, whether the disk can be written, old outbox rows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_actors::node::NodeHandle;
use meerkat_base::{Clock, metric};
use meerkat_store::StoreError;
use meerkat_store::disk::{DataFolder, UsageWalk, free_bytes};
use metrics::gauge;
use tracing::warn;

use super::kept_spools::KeptSpools;
use crate::settings::Settings;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Names looked at in one go when adding up what is used, so that a full disk's folders do not stall it.
const NAMES: usize = 2_000;
/// How often old rows are pruned.
const PRUNE: Duration = Duration::from_secs(3_600);
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
    pub fn start(
        settings: &Settings,
        disk: DiskState,
        node: NodeHandle,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let own_stopping = Arc::clone(&stopping);
        let data_dir = settings.data_dir.clone();
        // Now, while it is the one that the database was opened in.
        let folder = DataFolder::open(&data_dir).map_err(std::io::Error::other)?;
        let floor = settings.storage.free_floor_bytes;
        let kept = KeptSpools::new(&data_dir, &settings.spool, clock.as_ref());
        let thread = std::thread::Builder::new().name("housekeeping".to_owned()).spawn(move || {
            keep_house((&data_dir, &folder), floor, &disk, &node, clock.as_ref(), (kept, &own_stopping));
        })?;
        Ok(Self { stopping, thread })
    }

    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Not joined: it may be waiting for a disk that does not answer.
    }
}

fn keep_house(
    (data_dir, folder): (&Path, &DataFolder),
    floor: u64,
    disk: &DiskState,
    node: &NodeHandle,
    clock: &dyn Clock,
    (mut kept, stopping): (KeptSpools, &AtomicBool),
) {
    for (kind, _) in meerkat_store::disk::Usage::default().by_kind() {
        gauge!(metric::STORAGE_USED, "kind" => kind).set(0.0);
    }
    let mut walk = UsageWalk::new(data_dir);
    let mut pruned: Option<Instant> = None;
    while !stopping.load(Ordering::Acquire) {
        disk.set(look_at_disk(data_dir, folder, floor));
        if let Some(usage) = walk.step(NAMES) {
            for (kind, bytes) in usage.by_kind() {
                gauge!(metric::STORAGE_USED, "kind" => kind).set(bytes as f64);
            }
            walk = UsageWalk::new(data_dir);
        }
        if pruned.is_none_or(|at| at.elapsed() >= PRUNE) {
            pruned = Some(Instant::now());
            let before = clock.wall().offset_micros(-KEEP_SETTLED_MICROS);
            if let Err(problem) = node.archivist().ask_blocking(move |store| store.prune(before)) {
                warn!(%problem, "old alerts stay in the outbox");
            }
        }
        kept.look(clock);
        std::thread::park_timeout(LOOK);
    }
}

fn look_at_disk(data_dir: &Path, folder: &DataFolder, floor: u64) -> Option<String> {
    if let Err(error) = folder.check() {
        return Some(match error {
            StoreError::Replaced { .. } => format!("the data folder was replaced: {error}"),
            error => format!("the data folder cannot be written: {error}"),
        });
    }
    match free_bytes(data_dir) {
        Ok(free) => {
            gauge!(metric::STORAGE_FREE).set(free as f64);
            if free < floor {
                return Some(
                    "fewer bytes are free than storage.free_floor_bytes: nothing new is recorded".to_owned(),
                );
            }
        }
        Err(error) => warn!(%error, "free space is unknown"),
    }
    None
}
