//! What is stored, for the HTTP side and for the command line: who uses what, what would go next, what is to stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use meerkat_actors::node::NodeHandle;
use meerkat_actors::storage::{PlanItem, plan};
use meerkat_base::{Clock, WallTime};
use meerkat_store::disk::{HeldByCamera, Usage, UsageWalk, free_bytes};
use meerkat_store::{DataLock, Durability, KeepTarget, Store, StoreError, StoreReader, ballast};
use meerkat_web as web;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::long_work::LongWorks;
use super::reading::Reading;
use crate::settings::{Durability as Wanted, Settings};

/// The disk as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Below this the oldest goes.
    pub free_floor_bytes: u64,
    /// Size of the ballast; 0 while it is given up.
    pub ballast_bytes: u64,
    /// Bytes used by kind; nothing before the first count is over.
    pub used_bytes: BTreeMap<String, u64>,
    /// The same by camera.
    pub cameras: Vec<CameraUse>,
    /// Why recordings are refused.
    pub recording_refused: Option<String>,
    /// Why nothing goes by age.
    pub clock_doubt: Option<String>,
    /// Why nothing is deleted at all.
    pub deletion_suspended: Option<String>,
    /// Room is needed, and nothing more may go.
    pub nothing_may_go: bool,
    /// When something was deleted last in this run.
    pub last_deletion: Option<String>,
    /// Files deleted in this run.
    pub deleted_files: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// The process that answers, as in the lock of the data folder.
    pub process: u32,
}

/// What one camera has of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CameraUse {
    /// The camera's folder.
    pub camera: String,
    /// What it is.
    pub kind: String,
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time of the oldest.
    pub oldest: Option<String>,
}

/// What would go next.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// Bytes that can be written before the oldest has to go.
    pub bytes_left: u64,
    /// Bytes to be freed now.
    pub bytes_needed: u64,
    /// Why nothing goes by age.
    pub clock_doubt: Option<String>,
    /// Why nothing is deleted at all.
    pub deletion_suspended: Option<String>,
    /// In the order in which the disk would ask for it.
    pub next: Vec<PlanItem>,
}

fn cameras(held: &HeldByCamera) -> Vec<CameraUse> {
    held.iter()
        .map(|((camera, kind), held)| CameraUse {
            camera: camera.clone(),
            kind: kind.to_string(),
            files: held.files,
            bytes: held.bytes,
            oldest: held.oldest.map(|at| at.to_string()),
        })
        .collect()
}

fn by_kind(usage: &Usage) -> BTreeMap<String, u64> {
    usage.by_kind().into_iter().map(|(kind, bytes)| (kind.to_owned(), bytes)).collect()
}

/// The report where no node runs: counts everything, which may take a while.
pub(crate) fn report_of_folder(settings: &Settings) -> Result<Report, StoreError> {
    let data_dir = &settings.data_dir;
    let mut walk = UsageWalk::new(data_dir);
    let usage = loop {
        if let Some(usage) = walk.step(10_000) {
            break usage;
        }
    };
    Ok(Report {
        free_bytes: free_bytes(data_dir)?,
        free_floor_bytes: settings.storage.free_floor_bytes,
        ballast_bytes: ballast::ballast_bytes(data_dir),
        used_bytes: by_kind(&usage),
        cameras: cameras(walk.cameras()),
        recording_refused: None,
        clock_doubt: None,
        deletion_suspended: None,
        nothing_may_go: false,
        last_deletion: None,
        deleted_files: 0,
        deleted_bytes: 0,
        process: std::process::id(),
    })
}

/// The plan of a data folder.
pub(crate) fn plan_of(reader: &StoreReader, settings: &Settings, limit: usize) -> Result<Plan, StoreError> {
    let free = free_bytes(reader.folder())?;
    let storage = &settings.storage;
    Ok(Plan {
        bytes_left: free.saturating_sub(storage.free_floor_bytes),
        bytes_needed: if free < storage.free_floor_bytes {
            storage.free_floor_bytes.saturating_add(storage.free_extra_bytes).saturating_sub(free)
        } else {
            0
        },
        clock_doubt: None,
        deletion_suspended: None,
        next: plan(reader, &settings.retention, limit)?,
    })
}

/// Sets or takes back the keep flag, in the database and in the sidecars.
pub(crate) fn keep(
    store: &mut Store,
    what: &KeepTarget,
    keep: bool,
) -> Result<Option<Vec<String>>, StoreError> {
    let Some(clips) = store.keep(what, keep)? else { return Ok(None) };
    for clip in &clips {
        // A database that is made anew learns it from there. The row counts meanwhile.
        let noted = store.is_kept(clip).and_then(|kept| store.write_sidecar(clip, Some(kept)));
        if let Err(error) = noted {
            warn!(clip, %error, "the sidecar does not say whether the clip is kept");
        }
    }
    Ok(Some(clips))
}

pub(crate) fn durability(settings: &Settings) -> Durability {
    match settings.durability {
        Wanted::Process => Durability::Process,
        Wanted::Power => Durability::Power,
    }
}

/// Answers for a running node.
pub(super) struct Desk {
    node: NodeHandle,
    settings: Arc<Settings>,
    reading: Reading,
    clock: Arc<dyn Clock>,
    long_works: LongWorks,
}

impl Desk {
    pub fn new(node: NodeHandle, settings: &Arc<Settings>, clock: Arc<dyn Clock>, lock: DataLock) -> Self {
        let reading = Reading::new(&settings.data_dir);
        let long_works = LongWorks::new(lock, Arc::clone(&clock));
        Self { node, settings: Arc::clone(settings), reading, clock, long_works }
    }
}

fn failed(error: impl std::fmt::Display) -> web::StorageError {
    web::StorageError(error.to_string())
}

impl web::StorageDesk for Desk {
    fn report(&self) -> Result<serde_json::Value, web::StorageError> {
        let (room, state) = (self.node.room(), self.node.storage().report());
        let report = Report {
            free_bytes: room.free(),
            free_floor_bytes: self.settings.storage.free_floor_bytes,
            ballast_bytes: ballast::ballast_bytes(&self.settings.data_dir),
            used_bytes: state.usage.as_ref().map(by_kind).unwrap_or_default(),
            cameras: cameras(&state.cameras),
            recording_refused: room.answer().err().map(|refusal| refusal.words().to_owned()),
            clock_doubt: state.clock_doubt,
            deletion_suspended: state.suspended,
            nothing_may_go: state.nothing_may_go,
            last_deletion: state.last_deletion.map(|at: WallTime| at.to_string()),
            deleted_files: state.deleted_files,
            deleted_bytes: state.deleted_bytes,
            process: std::process::id(),
        };
        serde_json::to_value(report).map_err(failed)
    }

    fn plan(&self, limit: usize) -> Result<serde_json::Value, web::StorageError> {
        let state = self.node.storage().report();
        let plan = self.reading.ask(|reader| plan_of(reader, &self.settings, limit)).map_err(failed)?;
        let plan = Plan { clock_doubt: state.clock_doubt, deletion_suspended: state.suspended, ..plan };
        serde_json::to_value(plan).map_err(failed)
    }

    fn keep(&self, what: &str, wanted: bool) -> Result<Option<Vec<String>>, web::StorageError> {
        let target = KeepTarget::parse(what);
        let done =
            self.node.archivist().ask_blocking(move |store| keep(store, &target, wanted)).map_err(failed)?;
        if let Some(clips) = &done {
            info!(what, keep = wanted, clips = clips.len(), at = %self.clock.wall(), "the keep flag was set");
        }
        Ok(done)
    }

    fn confirm_clock(&self) -> bool {
        self.node.storage().confirm_clock()
    }

    fn begin(&self, work: web::LongWork) -> Result<web::Begun, web::StorageError> {
        self.long_works.begin(work)
    }

    fn state(&self, work: web::LongWork) -> serde_json::Value {
        self.long_works.state(work)
    }

    fn discard_backup(&self) -> Result<bool, web::StorageError> {
        self.long_works.discard_backup()
    }
}
