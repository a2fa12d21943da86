//! What status, pages and the command line may know of the disk, and what they may order. Clones share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use meerkat_base::WallTime;
use meerkat_store::disk::{HeldByCamera, Usage};

use super::stuck::Stuck;

/// The state of the disk as the evictor saw it last.
#[derive(Debug, Clone, Default)]
pub struct StorageReport {
    /// What is used, as of the last time that everything was counted; none before the first.
    pub usage: Option<Usage>,
    /// The same by camera.
    pub cameras: HeldByCamera,
    /// Bytes of the spools that are kept beside what was made of them; none before they are counted.
    pub kept_spools: Option<u64>,
    /// Why the wall clock is not believed: nothing goes by age.
    pub clock_doubt: Option<String>,
    /// Why nothing is deleted at all.
    pub suspended: Option<String>,
    /// Nothing that may go is left.
    pub nothing_may_go: bool,
    /// When something was deleted last.
    pub last_deletion: Option<WallTime>,
    /// Files deleted in this run.
    pub deleted_files: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// Shared between the evictor and those who ask.
#[derive(Clone, Default)]
pub struct StorageState(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stuck: Mutex<Stuck>,
    report: Mutex<StorageReport>,
    clock_confirmed: AtomicBool,
    /// The first and the last of the looks at the clock, without a break, that found it right.
    clock_believed: Mutex<Option<(Instant, Instant)>>,
}

impl StorageState {
    /// As it is now.
    pub fn report(&self) -> StorageReport {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StorageReport> {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stuck(&self) -> MutexGuard<'_, Stuck> {
        self.0.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing may go by age, because the wall clock is not believed.
    pub fn doubts_clock(&self) -> bool {
        self.lock().clock_doubt.is_some()
    }

    /// Whether the wall clock was looked at in this run and is believed.
    pub fn believes_clock(&self) -> bool {
        self.clock_believed().is_some()
    }

    /// Whether what the wall clock said at a moment is believed: it was looked at before and after, and was right all
    /// the while. None: not known yet.
    pub fn believed_clock_at(&self, moment: Instant) -> Option<bool> {
        match *self.clock_believed() {
            Some((first, last)) if first <= moment => (last >= moment).then_some(true),
            _ => Some(false),
        }
    }

    /// Notes a look at the clock that began at a moment, and why the clock is not believed.
    pub(super) fn clock_looked_at(&self, began: Instant, doubt: Option<String>) {
        {
            let mut believed = self.clock_believed();
            let first = believed.map_or(began, |(first, _)| first);
            *believed = doubt.is_none().then_some((first, began));
        }
        self.lock().clock_doubt = doubt;
    }

    fn clock_believed(&self) -> MutexGuard<'_, Option<(Instant, Instant)>> {
        self.0.clock_believed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A person says that the wall clock is right. Returns whether it was in doubt.
    pub fn confirm_clock(&self) -> bool {
        let doubted = self.lock().clock_doubt.is_some();
        self.0.clock_confirmed.store(true, Ordering::Release);
        doubted
    }

    pub(super) fn take_clock_confirmation(&self) -> bool {
        self.0.clock_confirmed.swap(false, Ordering::AcqRel)
    }
}
