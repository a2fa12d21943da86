//! The sidecar `<file>.json` beside each clip and video: what the database knows of the file, so that a database that
//! was lost can be made anew from the folders. Who writes it and when is decided elsewhere.
//!
//! It is replaced as a whole (temporary name, then rename) and believed only when every field of it is what this file
//! would have written: anybody may have put it there. Times and durations are whole microseconds.

mod stored;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use meerkat_base::text::shown;
use meerkat_base::{EventId, EventKind, WallTime};

use crate::clips::{ClipRow, SnapshotRow};
use crate::database::{Store, StoreReader};
use crate::error::{Result, StoreError};
use crate::events::EventRow;
use crate::files::{Durability, Folder, PART_PREFIX};
use crate::sql::{check_relative, from_count};

use stored::{Stored, Version};

pub(crate) use stored::facts_from_note;
pub use stored::note;

/// The version that this program writes. It also reads the one before, which said of no event whether it is kept.
pub const VERSION: u32 = 2;
const BEFORE: u32 = 1;
/// The longest sidecar that is read, in bytes.
pub const MAX_BYTES: usize = 512 * 1024;
/// Events that one clip can show.
pub const MAX_EVENTS: usize = 256;
/// People that one event can name.
const MAX_IDENTITIES: usize = 256;
const MAX_NAME_BYTES: usize = 1024;

/// What stands in a sidecar.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// The file it stands beside; its `event` is none, whatever the clip shows.
    pub clip: ClipRow,
    /// The events that the clip shows, oldest first; none for a video.
    pub events: Vec<EventFacts>,
    /// Events that the clip shows but whose row was not there when the sidecar was written.
    pub unknown_events: Vec<EventId>,
    /// Whether the file is to be kept whatever happens.
    pub keep: bool,
}

/// An event without its boxes over time.
#[derive(Debug, Clone, PartialEq)]
pub struct EventFacts {
    /// Its name.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// Time of the frame that started it.
    pub started: WallTime,
    /// Number of the frame that started it.
    pub started_seq: u64,
    /// Time of the last frame that showed it; none when it went on as the clip ended.
    pub ended: Option<WallTime>,
    /// Highest score, 0..=1.
    pub score: f32,
    /// Names of the people recognised.
    pub identities: Vec<String>,
    /// The node died before the event ended.
    pub interrupted: bool,
    /// Its newest snapshot.
    pub snapshot: Option<SnapshotRow>,
    /// Whether the event is to be kept with all that is recorded of it.
    pub keep: bool,
}

/// Why bytes are not a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sidecar: {0}")]
pub struct BadSidecar(String);

impl BadSidecar {
    /// Where it is no JSON, with only the beginning of what stands there, which may be long and wild.
    fn json(error: serde_json::Error) -> Self {
        Self(format!("line {}: {}", error.line(), shown(error.to_string().as_bytes())))
    }
}

impl Sidecar {
    /// The rows of the table `clips` that it stands for: one for each event, one without for a video.
    pub fn rows(&self) -> Vec<ClipRow> {
        let ids = self.events.iter().map(|event| event.id).chain(self.unknown_events.iter().copied());
        let mut rows: Vec<_> = ids.map(|id| ClipRow { event: Some(id), ..self.clip.clone() }).collect();
        if rows.is_empty() {
            rows.push(self.clip.clone());
        }
        rows
    }

    /// As it is written.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(&Stored::from(self))
            .expect("texts, whole numbers and finite scores are always JSON");
        json.push(b'\n');
        json
    }

    /// Reads what [`Sidecar::to_json`] wrote. Total: any bytes give a sidecar or an error.
    ///
    /// # Errors
    /// [`BadSidecar`] for everything that this program would not have written.
    pub fn from_json(json: &[u8]) -> Result<Self, BadSidecar> {
        if json.len() > MAX_BYTES {
            return Err(BadSidecar(format!("longer than {MAX_BYTES} bytes")));
        }
        // The version first: a later one may have other fields.
        let Version { version } = serde_json::from_slice(json).map_err(BadSidecar::json)?;
        if ![BEFORE, VERSION].contains(&version) {
            return Err(BadSidecar(format!("version {version}, known are {BEFORE} and {VERSION}")));
        }
        let stored: Stored = serde_json::from_slice(json).map_err(BadSidecar::json)?;
        stored.checked()
    }
}

/// Path of the sidecar of a clip or video; both relative to the data folder. That of a spool that was set aside lies in
/// the spool, and goes with it.
pub fn path_of(clip: &str) -> String {
    if clip.starts_with("spool/") { format!("{clip}/{OF_SPOOL}") } else { format!("{clip}{ENDING}") }
}

/// What a sidecar's name ends in, after the whole name of its file.
pub const ENDING: &str = ".json";
/// The name of the sidecar of a spool.
const OF_SPOOL: &str = "sidecar.json";

/// Writes the sidecar of `sidecar.clip.path`, replacing an earlier one as a whole.
pub fn write(data_dir: &Path, sidecar: &Sidecar, durability: Durability) -> Result<()> {
    write_in(&Folder::existing(data_dir)?, sidecar, durability)
}

/// Reads the sidecar of a clip or video; none when there is none.
///
/// # Errors
/// [`StoreError::BadSidecar`] for one that is damaged, of another version or of another file.
pub fn read(data_dir: &Path, clip: &str) -> Result<Option<Sidecar>> {
    read_in(&Folder::existing(data_dir)?, clip)
}

/// Changes the keep flag in the sidecar of a clip or video. Returns whether there is a sidecar.
pub fn set_keep(data_dir: &Path, clip: &str, keep: bool, durability: Durability) -> Result<bool> {
    let root = Folder::existing(data_dir)?;
    let Some(mut sidecar) = read_in(&root, clip)? else { return Ok(false) };
    if sidecar.keep != keep {
        sidecar.keep = keep;
        write_in(&root, &sidecar, durability)?;
    }
    Ok(true)
}

/// Removes the sidecar of a clip or video; one that is not there is fine.
pub fn remove(data_dir: &Path, clip: &str) -> Result<()> {
    let (folder, name) = match place(&Folder::existing(data_dir)?, clip) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    };
    folder.remove(&name)
}

impl Store {
    /// Writes the sidecar of a clip or video anew from its rows. Without `keep` the file is kept when one of its rows or
    /// the earlier sidecar says so, and when nobody can read what that one said; then the rows say it too. Returns
    /// whether there are rows to write it from.
    pub fn write_sidecar(&self, clip: &str, keep: Option<bool>) -> Result<bool> {
        let keep = match keep {
            Some(keep) => keep,
            None => self.is_kept(clip)? || self.keep_again(clip)?,
        };
        let Some(sidecar) = self.sidecar(clip, keep)? else { return Ok(false) };
        write_in(self.root(), &sidecar, self.durability())?;
        Ok(true)
    }

    /// Has a file kept whose sidecar says so, and one whose sidecar is damaged: who knows what it said, and rather kept
    /// too long than not at all. Rows alone are asked when something has to go. Returns whether it is kept.
    fn keep_again(&self, clip: &str) -> Result<bool> {
        match read_in(self.root(), clip) {
            Ok(earlier) if earlier.as_ref().is_some_and(|sidecar| sidecar.keep) => {}
            Ok(_) => return Ok(false),
            Err(error @ StoreError::BadSidecar { .. }) => {
                tracing::warn!(%error, "a damaged sidecar is replaced, its file is kept");
            }
            Err(error) => return Err(error),
        }
        self.connection
            .prepare_cached("UPDATE clips SET kept = 1 WHERE path = ?1 AND deleting = 0")?
            .execute([clip])?;
        Ok(true)
    }
}

impl StoreReader {
    /// What the sidecar of a clip or video has to say; none when there is no row of it.
    pub fn sidecar(&self, clip: &str, keep: bool) -> Result<Option<Sidecar>> {
        let Some(row) = self.clip_at(clip)? else { return Ok(None) };
        let mut sidecar = Sidecar {
            clip: ClipRow { event: None, missing: None, ..row },
            events: Vec::new(),
            unknown_events: Vec::new(),
            keep,
        };
        for id in self.events_of_clip(clip)? {
            match self.event(id)? {
                Some(event) => {
                    let snapshot = self.newest_snapshot_row(id)?;
                    sidecar.events.push(facts(event, snapshot));
                }
                None => sidecar.unknown_events.push(id),
            }
        }
        sidecar.events.sort_by_key(|event| (event.started, event.id));
        Ok(Some(sidecar))
    }

    fn events_of_clip(&self, clip: &str) -> Result<Vec<EventId>> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT event FROM clips WHERE path = ?1 AND event IS NOT NULL ORDER BY event LIMIT {MAX_EVENTS}"
        ))?;
        statement
            .query_and_then([clip], |row| crate::sql::parsed(row, 0, |text| text.parse().ok()))?
            .collect()
    }

    fn newest_snapshot_row(&self, event: EventId) -> Result<Option<SnapshotRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT path, taken, bytes FROM snapshots WHERE event = ?1 AND deleting = 0
             ORDER BY taken DESC, number DESC LIMIT 1",
        )?;
        let mut rows = statement.query_and_then([event.to_string()], |row| {
            let (path, taken) = (row.get(0)?, WallTime(row.get(1)?));
            Ok(SnapshotRow { event, path, taken, bytes: from_count(row.get(2)?) })
        })?;
        rows.next().transpose()
    }
}

fn facts(event: EventRow, snapshot: Option<SnapshotRow>) -> EventFacts {
    EventFacts {
        id: event.id,
        kind: event.kind,
        started: event.started,
        started_seq: event.started_seq,
        ended: event.ended,
        score: event.score,
        identities: event.identities,
        interrupted: event.interrupted,
        snapshot,
        keep: event.kept,
    }
}

/// The folder of a clip's sidecar, and its name there.
fn place(root: &Folder, clip: &str) -> Result<(Folder, String)> {
    check_relative(clip)?;
    let path = path_of(clip);
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    let Some((first, rest)) = parts.split_first() else {
        return Err(StoreError::Refused("a clip lies in a folder of its day".into()));
    };
    let mut folder = root.sub(first)?;
    for part in rest {
        folder = folder.sub(part)?;
    }
    Ok((folder, name.to_owned()))
}

fn write_in(root: &Folder, sidecar: &Sidecar, durability: Durability) -> Result<()> {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let (folder, name) = place(root, &sidecar.clip.path)?;
    let bytes = sidecar.to_json();
    let path = folder.path().join(&name);
    // What cannot be read again must not take the place of what can.
    Sidecar::from_json(&bytes).map_err(|source| StoreError::BadSidecar { path, source })?;
    // No run of a node has this name: what a crash leaves is removed by the next start.
    let number = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let part = format!("{PART_PREFIX}sidecar-{number}-{name}");
    folder.remove(&part)?;
    let mut file = folder.create_new(&part)?;
    let written = file
        .write_all(&bytes)
        .and_then(|()| if durability.syncs() { file.sync_all() } else { Ok(()) })
        .map_err(|e| StoreError::io(folder.path().join(&part), e))
        .and_then(|()| folder.rename_over(&part, &name));
    if let Err(error) = written {
        folder.remove_quietly(&part);
        return Err(error);
    }
    if durability.syncs() { folder.sync() } else { Ok(()) }
}

pub(crate) fn read_in(root: &Folder, clip: &str) -> Result<Option<Sidecar>> {
    let read = || -> Result<Vec<u8>> {
        let (folder, name) = place(root, clip)?;
        let file = folder.read(&name)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| StoreError::io(folder.path().join(&name), e))?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = |source| StoreError::BadSidecar { path: root.path().join(path_of(clip)), source };
    let sidecar = Sidecar::from_json(&bytes).map_err(bad)?;
    if sidecar.clip.path != clip {
        return Err(bad(BadSidecar("it is that of another file".to_owned())));
    }
    Ok(Some(sidecar))
}

#[cfg(test)]
mod tests;
