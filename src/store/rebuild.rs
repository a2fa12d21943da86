//! Makes the database anew when it is damaged or gone: from the newest good copy of it, and from what lies beside the
//! evidence in the folders. The damaged one is set aside, evidence is only read, and afterwards nothing is deleted
//! until a person confirms.

use std::fmt;
use std::path::{Path, PathBuf};

use meerkat_base::{CameraId, EventId, WallTime};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;

use crate::backup::{self, Report};
use crate::capture::each_file;
use crate::check::{self, Depth};
use crate::clips::{ClipRow, ClipState, SnapshotRow};
use crate::database::{DATABASE, DataLock, StoreOptions, connect};
use crate::error::{Result, StoreError};
use crate::files::{Folder, PART_PREFIX};
use crate::migrate::{self, STEPS};
use crate::sidecar::{self, EventFacts, Sidecar};
use crate::sql::count;
use crate::{outbox, removed, suspension, swap};

mod spools;

/// Files between two reports of progress.
const REPORT_EVERY: u64 = 500;

/// What the new database begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base<'a> {
    /// The newest copy in `backup/` that can be relied on; nothing when there is none.
    Newest,
    /// This copy and no other.
    Copy(&'a Path),
}

/// What became of a rebuilt database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rebuilt {
    /// Why it was rebuilt.
    pub reason: String,
    /// Name of the copy it began with; none when there was no good one.
    pub base: Option<String>,
    /// Events that came from sidecars and spools.
    pub events: u64,
    /// Clips and videos that came from the folders.
    pub clips: u64,
    /// Snapshots that came from the folders.
    pub snapshots: u64,
    /// Sidecars that could not be read; what their file's name says was taken, and the file is kept.
    pub unreadable: u64,
    /// Alerts that waited in the copy and are dead letters now: they may have been delivered long ago.
    pub dead_alerts: u64,
    /// Folders of faces that belong to nobody in the new database; they are left as they are.
    pub faces_of_nobody: u64,
    /// People whom the copy knows and who were removed after it; they are not in the new database.
    pub removed_people: u64,
    /// Where the old database lies.
    pub aside: PathBuf,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.as_deref().unwrap_or("no copy");
        write!(
            f,
            "the database was rebuilt ({}) from {base} and the folders: {} events, {} clips and {} snapshots added, \
             {} sidecars unreadable, {} waiting alerts given up, {} folders of faces of nobody, \
             {} removed people not taken back; what it was lies in {}",
            self.reason,
            self.events,
            self.clips,
            self.snapshots,
            self.unreadable,
            self.dead_alerts,
            self.faces_of_nobody,
            self.removed_people,
            self.aside.display()
        )
    }
}

/// Makes the database anew and puts it in its place. A crash at any moment leaves the old one or the new one.
///
/// # Errors
/// [`StoreError::NoRoom`] and what the disk says; then the old database stays where it is.
pub(crate) fn rebuild(
    lock: &DataLock,
    options: StoreOptions,
    reason: &str,
    report: Report<'_>,
) -> Result<Rebuilt> {
    let root = Folder::root(lock.folder())?;
    let staging = swap::begin(&root)?;
    match build(&root, &staging.folder, options, Base::Newest, reason, report) {
        Ok(mut rebuilt) => {
            rebuilt.aside = staging.commit(&root, &options.now.compact())?;
            lock.cleared();
            Ok(rebuilt)
        }
        Err(error) => {
            staging.abandon(&root);
            Err(error)
        }
    }
}

/// Makes a new database in a folder that is not the data folder yet.
pub(crate) fn build(
    root: &Folder,
    into: &Folder,
    options: StoreOptions,
    base: Base<'_>,
    reason: &str,
    report: Report<'_>,
) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt { reason: reason.to_owned(), ..Rebuilt::default() };
    match base {
        Base::Newest => {
            report("looking for a good copy", 0, 0);
            match backup::newest_good(root.path())? {
                Some((file, from)) => {
                    backup::copy(&from, into, DATABASE, Depth::Pages(None), report)?;
                    rebuilt.base = Some(file.name);
                }
                None => drop(into.create_new(DATABASE)?),
            }
        }
        Base::Copy(path) => {
            backup::copy(&backup::open_copy(path)?, into, DATABASE, Depth::Pages(None), report)?;
            rebuilt.base = path.file_name().map(|name| name.to_string_lossy().into_owned());
        }
    }
    let path = into.path().join(DATABASE);
    let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Nobody relies on it before it is complete and flushed.
    connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    migrate::forward(&mut connection, &path, STEPS)?;
    // Whoever is removed goes with everything of theirs, also from the pages of the database.
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    rebuilt.removed_people = removed::remove_again(root, into, &transaction)?;
    let mut gatherer = Gatherer { root, rows: &transaction, rebuilt: &mut rebuilt, files: 0, report };
    gatherer.captures()?;
    gatherer.spools()?;
    gatherer.faces()?;
    gatherer.keep_with_events()?;
    rebuilt.dead_alerts = outbox::give_up_waiting(
        &transaction,
        options.now,
        "the database was rebuilt from an older copy: this alert may have been delivered before",
    )?;
    suspension::suspend(&transaction, reason, options.now)?;
    transaction.commit()?;
    report("checking the new database", 0, 0);
    check::pages(&connection, &path, Depth::Pages(None))?;
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    drop(connection);
    into.read(DATABASE)?.sync_all().map_err(|e| StoreError::io(&path, e))?;
    into.sync()?;
    Ok(rebuilt)
}

/// Reads what lies beside the evidence, and changes nothing of it.
struct Gatherer<'a, 'r> {
    root: &'a Folder,
    rows: &'a Connection,
    rebuilt: &'a mut Rebuilt,
    files: u64,
    report: Report<'r>,
}

impl Gatherer<'_, '_> {
    fn captures(&mut self) -> Result<()> {
        for kind in ["clip", "video", "segment"] {
            let folder = self.root.sub("capture").and_then(|capture| capture.sub(kind));
            match folder {
                Ok(folder) => each_file(&folder, 2, &mut |folder, name| self.file(folder, name))?,
                Err(error) if error.is_not_found() => {}
                Err(error) => tracing::warn!(%error, "a folder is left out"),
            }
        }
        Ok(())
    }

    fn file(&mut self, folder: &Folder, name: &str) -> Result<()> {
        self.files += 1;
        if self.files.is_multiple_of(REPORT_EVERY) {
            (self.report)("reading the folders", self.files, 0);
        }
        if name.starts_with(PART_PREFIX) {
            return Ok(());
        }
        let Some(path) = self.relative(folder, name) else { return Ok(()) };
        if let Some(clip) = path.strip_suffix(sidecar::ENDING) {
            match sidecar::read_in(self.root, clip) {
                Ok(Some(found)) => {
                    let there = folder.has(name.strip_suffix(sidecar::ENDING).unwrap_or(name));
                    return self.known_clip(&found, there);
                }
                Ok(None) => {}
                Err(error) => {
                    self.rebuilt.unreadable += 1;
                    tracing::warn!(%error, "a sidecar is left out");
                }
            }
            return Ok(());
        }
        match name.rsplit_once('.') {
            Some((stem, "mp4")) => {
                match sidecar::read_in(self.root, &path) {
                    // What a good sidecar says comes from there.
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => self.bare_clip(folder, &path, stem, false),
                    // Who knows what it said: rather kept too long than not at all.
                    Err(_) => self.bare_clip(folder, &path, stem, true),
                }
            }
            Some((stem, "jpg" | "png" | "webp" | "bmp")) => self.snapshot(folder, &path, stem),
            _ => Ok(()),
        }
    }

    /// Path of a file relative to the data folder.
    fn relative(&self, folder: &Folder, name: &str) -> Option<String> {
        let below = folder.path().strip_prefix(self.root.path()).ok()?.to_str()?;
        Some(format!("{below}/{name}"))
    }

    fn known_clip(&mut self, sidecar: &Sidecar, there: bool) -> Result<()> {
        for event in &sidecar.events {
            self.event(&sidecar.clip.camera, event)?;
            if let Some(snapshot) = &event.snapshot {
                self.add_snapshot(snapshot)?;
            }
        }
        if there {
            for row in sidecar.rows() {
                self.add_clip(&row, sidecar.keep)?;
            }
        }
        Ok(())
    }

    /// A clip without a good sidecar: what its name says. `keep`: it has one that cannot be read.
    fn bare_clip(&mut self, folder: &Folder, path: &str, stem: &str, keep: bool) -> Result<()> {
        let Some(camera) = camera_of(path) else { return Ok(()) };
        let (started, rest) = stem.split_once('_').unwrap_or((stem, ""));
        let event: Option<EventId> = rest.get(..36).and_then(|id| id.parse().ok());
        let started = from_compact(started).unwrap_or(WallTime(0));
        let known: Option<i64> = self
            .rows
            .query_row("SELECT number FROM clips WHERE path = ?1 LIMIT 1", [path], |row| row.get(0))
            .optional()?;
        if known.is_some() {
            return if keep { self.keep_clip(path) } else { Ok(()) };
        }
        let bytes = std::fs::symlink_metadata(folder.path().join(file_name(path))).map_or(0, |m| m.len());
        let row = ClipRow {
            event,
            camera,
            path: path.to_owned(),
            started,
            duration: std::time::Duration::ZERO,
            frames: 0,
            bytes,
            sha256: None,
            state: ClipState::Repaired,
            skipped: 0,
            missing: None,
        };
        self.add_clip(&row, keep)
    }

    fn snapshot(&mut self, folder: &Folder, path: &str, stem: &str) -> Result<()> {
        let Some((taken, id)) = stem.split_once('_') else { return Ok(()) };
        let (Some(taken), Ok(event)) = (from_compact(taken), id.parse::<EventId>()) else { return Ok(()) };
        let bytes = std::fs::symlink_metadata(folder.path().join(file_name(path))).map_or(0, |m| m.len());
        self.add_snapshot(&SnapshotRow { event, path: path.to_owned(), taken, bytes })
    }

    fn faces(&mut self) -> Result<()> {
        if !self.root.has("faces") {
            return Ok(());
        }
        let mut known = self.rows.prepare("SELECT EXISTS (SELECT 1 FROM people WHERE id = ?1)")?;
        for entry in self.root.sub("faces")?.entries()?.into_iter().filter(|entry| entry.is_folder) {
            if !known.query_row([&entry.name], |row| row.get::<_, bool>(0))? {
                self.rebuilt.faces_of_nobody += 1;
                tracing::warn!(
                    folder = entry.name,
                    "a folder of faces belongs to nobody in the rebuilt database"
                );
            }
        }
        let mut people = self.rows.prepare("SELECT id, name FROM people")?;
        let people = people.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for person in people {
            let (id, name) = person?;
            if !self.root.sub("faces")?.has(&id) {
                tracing::warn!(person = name, "the pictures of somebody who is enrolled are gone");
            }
        }
        Ok(())
    }

    // === Rows: what the copy has stays as it is ===

    fn event(&mut self, camera: &CameraId, event: &EventFacts) -> Result<()> {
        let phase = if event.ended.is_some() { "ended" } else { "updated" };
        let identities = serde_json::to_string(&event.identities).expect("a list of texts is always JSON");
        let added = self
            .rows
            .prepare_cached(
                "INSERT INTO events
                     (id, camera, kind, phase, started, started_seq, ended, score, identities, interrupted)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id) DO UPDATE SET
                     phase = excluded.phase, ended = excluded.ended, score = max(score, excluded.score),
                     identities = excluded.identities, interrupted = excluded.interrupted
                 WHERE events.ended IS NULL AND excluded.ended IS NOT NULL",
            )?
            .execute(params![
                event.id.to_string(),
                camera.as_str(),
                event.kind.as_str(),
                phase,
                event.started.0,
                count(event.started_seq),
                event.ended.map(|at| at.0),
                f64::from(event.score),
                identities,
                event.interrupted
            ])?;
        self.rebuilt.events += added as u64;
        if event.keep {
            self.rows
                .prepare_cached("UPDATE events SET kept = 1 WHERE id = ?1")?
                .execute([event.id.to_string()])?;
        }
        Ok(())
    }

    /// What belongs to an event that is kept is kept with it, whichever was found first.
    fn keep_with_events(&mut self) -> Result<()> {
        for table in ["clips", "snapshots"] {
            self.rows.execute(
                &format!(
                    "UPDATE {table} SET kept = 1
                     WHERE kept = 0 AND event IN (SELECT id FROM events WHERE kept = 1)"
                ),
                [],
            )?;
        }
        Ok(())
    }

    fn add_clip(&mut self, clip: &ClipRow, keep: bool) -> Result<()> {
        let added = self
            .rows
            .prepare_cached(
                "INSERT INTO clips (event, camera, path, started, duration, frames, bytes, sha256, state, skipped)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                clip.event.map(|id| id.to_string()),
                clip.camera.as_str(),
                clip.path,
                clip.started.0,
                i64::try_from(clip.duration.as_micros()).unwrap_or(i64::MAX),
                count(clip.frames),
                count(clip.bytes),
                clip.sha256,
                clip.state.as_str(),
                count(clip.skipped)
            ])?;
        self.rebuilt.clips += added as u64;
        if keep { self.keep_clip(&clip.path) } else { Ok(()) }
    }

    fn keep_clip(&self, path: &str) -> Result<()> {
        self.rows.prepare_cached("UPDATE clips SET kept = 1 WHERE path = ?1")?.execute([path])?;
        Ok(())
    }

    fn add_snapshot(&mut self, snapshot: &SnapshotRow) -> Result<()> {
        let there = self.root.path().join(&snapshot.path);
        if !std::fs::symlink_metadata(&there).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(());
        }
        let added = self
            .rows
            .prepare_cached(
                "INSERT INTO snapshots (event, path, taken, bytes) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                snapshot.event.to_string(),
                snapshot.path,
                snapshot.taken.0,
                count(snapshot.bytes)
            ])?;
        self.rebuilt.snapshots += added as u64;
        Ok(())
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The camera of `capture/<kind>/<camera>/…`: the name of its folder, with what was made harmless made itself again.
fn camera_of(path: &str) -> Option<CameraId> {
    let folder = path.split('/').nth(2)?;
    let with_number = match folder.rsplit_once('_') {
        Some((address, number)) => format!("{address}~{number}"),
        None => folder.to_owned(),
    };
    [folder.to_owned(), with_number.clone(), folder.replace('-', ":"), with_number.replace('-', ":")]
        .iter()
        .find_map(|text| CameraId::from_shown(text).ok())
}

/// Reads back what `WallTime::compact` shows.
pub(crate) fn from_compact(text: &str) -> Option<WallTime> {
    let moment = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", text).ok()?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(WallTime(moment.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests;
