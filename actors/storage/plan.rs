//! What would be deleted next, and when: for people who want to know before. Deletes nothing.

use std::path::Path;
use std::time::Duration;

use meerkat_base::{EventKind, Evidence, WallTime};
use meerkat_settings::RetentionSettings;
use meerkat_store::evict::Remover;
use meerkat_store::retention::camera_of;
use meerkat_store::{Durability, StoreError, StoreReader};
use serde::Serialize;

use super::candidates::{Candidates, Next};
use super::timekeeper::behind_in;

/// Looks at names and rows that one plan may take; after months, finding the oldest picture takes many.
const STEPS: usize = 2_000;

/// One thing that would go; in the order in which the disk would ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanItem {
    /// Where it lies, relative to the data folder.
    pub path: String,
    /// What it is.
    pub kind: Evidence,
    /// The folder of its camera.
    pub camera: String,
    /// What happened in it.
    pub events: Vec<EventKind>,
    /// Time of its first frame.
    pub taken: WallTime,
    /// Size in bytes; with its row, without what stands beside it.
    pub bytes: u64,
    /// An alert about it is not delivered yet: it goes after everything else.
    pub awaited: bool,
    /// When it goes by age; none where its age does not matter. Before that it goes only when the disk needs the room.
    pub by_age: Option<WallTime>,
}

/// The next things that would go, at most `limit`, oldest first.
pub fn plan(
    reader: &StoreReader,
    rules: &RetentionSettings,
    limit: usize,
) -> Result<Vec<PlanItem>, StoreError> {
    let data_dir: &Path = reader.folder();
    let remover = Remover::new(data_dir, Durability::Process)?;
    let times = behind_in(data_dir);
    let mut candidates = Candidates::begin(reader, times.clone())?;
    let mut items = Vec::new();
    for _ in 0..STEPS.max(limit) {
        if items.len() >= limit {
            break;
        }
        let one = match candidates.next(reader, &remover)? {
            Next::Goes(one) => one,
            Next::NotYet => continue,
            Next::Nothing => break,
        };
        let camera = camera_of(&one.path).to_owned();
        let age = |event| rules.limit(&camera, one.evidence, event).age;
        // Of several events the most patient one decides.
        let age = if one.events.is_empty() {
            age(None)
        } else {
            one.events.iter().map(|kind| age(Some(*kind)).unwrap_or(Duration::MAX)).max()
        };
        let by_age = age.filter(|age| *age != Duration::MAX).and_then(|age| {
            let micros = i64::try_from(age.as_micros()).ok()?;
            Some(WallTime(times.earliest(one.at).0.checked_add(micros)?))
        });
        let bytes = match one.bytes {
            0 => std::fs::symlink_metadata(data_dir.join(&one.path)).map_or(0, |file| file.len()),
            known => known,
        };
        items.push(PlanItem {
            kind: one.evidence,
            camera,
            events: one.events,
            taken: one.at,
            bytes,
            awaited: one.awaited,
            by_age,
            path: one.path,
        });
    }
    Ok(items)
}
