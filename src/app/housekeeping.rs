//! What is looked after now and then: whether the disk can be written, old outbox rows. Makes no room: that is the
//! evictor's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meerkat_actors::node::NodeHandle;
use meerkat_base::Clock;
use tracing::warn;

use super::kept_spools::KeptSpools;
use crate::settings::Settings;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);
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
        let kept = KeptSpools::new(&settings.data_dir, &settings.spool, clock.as_ref());
        let thread = std::thread::Builder::new().name("housekeeping".to_owned()).spawn(move || {
            keep_house(&disk, &node, clock.as_ref(), (kept, &own_stopping));
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
    disk: &DiskState,
    node: &NodeHandle,
    clock: &dyn Clock,
    (mut kept, stopping): (KeptSpools, &AtomicBool),
) {
    let mut pruned: Option<Instant> = None;
    while !stopping.load(Ordering::Acquire) {
        disk.set(node.room().problem());
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
