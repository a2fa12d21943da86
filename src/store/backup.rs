//! Copies of the database in `backup/`: one before each change of its schema, one every night. A copy is consistent
//! while others write, is looked through before it counts, and gets its name only then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meerkat_base::WallTime;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::check::{self, Depth};
use crate::database::{StoreReader, connect};
use crate::disk::free_bytes;
use crate::error::{Result, StoreError};
use crate::files::{Folder, PART_PREFIX};
use crate::migrate::{self, Found, STEPS};
use crate::suspension;

/// The folder of the copies.
pub const FOLDER: &str = "backup";
/// Copies from before a change of the schema that are kept.
pub const KEPT_BEFORE_SCHEMA: usize = 3;
/// No copy is one too many.
pub const KEEP_ALL: usize = usize::MAX;
const NIGHTLY: &str = "nightly-";
const BEFORE_SCHEMA: &str = "before-schema-";
const ENDING: &str = ".db";
/// Pages copied between two looks at the progress: 4 MiB.
const PAGES: i32 = 1_024;
/// Rest between two such pieces, so that a copy does not take the disk from those who record.
const REST: Duration = Duration::from_millis(2);
/// How often a locked database is tried again, 50 ms apart.
const PATIENCE: usize = 200;
/// Room beyond the copy itself that has to be free.
const SPARE_BYTES: u64 = 16 << 20;

/// Hears how far long work has come: what, how much of it, of how much (0: unknown).
pub type Report<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// A finished copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFile {
    /// Its name in the folder `backup/`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// When it was made, as its name says.
    pub at: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl StoreReader {
    /// Copies the database to `backup/nightly-<time>.db`, looks through all of the copy (which tells as much of the
    /// original), and removes the oldest nightly copies beyond `keep` (at least 1); none while deletion is suspended:
    /// the ones from before a rebuild may be all that a person has to look at. [`KEEP_ALL`] removes none either.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], and [`StoreError::Damaged`] when the database is; then earlier copies stay.
    pub fn nightly_backup(&self, now: WallTime, keep: usize, report: Report<'_>) -> Result<BackupFile> {
        let folder = Folder::existing(&self.folder)?.make_sub(FOLDER)?;
        let name = format!("{NIGHTLY}{}{ENDING}", now.compact());
        let bytes = copy(&self.connection, &folder, &name, Depth::Everything, report)?;
        prune(&folder, NIGHTLY, if may_be_pruned(&self.connection) { keep.max(1) } else { KEEP_ALL })?;
        Ok(BackupFile { path: folder.path().join(&name), name, at: now.compact(), bytes })
    }
}

/// The copies of a data folder, newest first.
pub fn list(data_dir: &Path) -> Result<Vec<BackupFile>> {
    let root = Folder::existing(data_dir)?;
    if !root.has(FOLDER) { Ok(Vec::new()) } else { listed(&root.sub(FOLDER)?) }
}

/// When the newest nightly copy was made, if there is one.
pub fn newest_nightly(data_dir: &Path) -> Result<Option<WallTime>> {
    let nightly = list(data_dir)?.into_iter().find(|file| file.name.starts_with(NIGHTLY));
    Ok(nightly.and_then(|file| crate::rebuild::from_compact(&file.at)))
}

/// Makes the copy before a change of the schema.
pub(crate) fn before_migration(
    connection: &Connection,
    root: &Folder,
    version: u32,
    now: WallTime,
) -> Result<()> {
    let folder = root.make_sub(FOLDER)?;
    let name = format!("{BEFORE_SCHEMA}{version}-{}{ENDING}", now.compact());
    if folder.has(&name) {
        // Made by an attempt that came no further.
        return Ok(());
    }
    copy(connection, &folder, &name, Depth::Pages(None), &mut |_, _, _| {})?;
    tracing::info!(copy = %folder.path().join(&name).display(), "the database was copied before its schema changes");
    prune(&folder, BEFORE_SCHEMA, if may_be_pruned(connection) { KEPT_BEFORE_SCHEMA } else { KEEP_ALL })
}

/// Whether nothing stands against removing old copies. Where that cannot be read, as in a database of long ago, they
/// stay until the next time.
fn may_be_pruned(connection: &Connection) -> bool {
    let may = matches!(suspension::suspended(connection), Ok(None));
    if !may {
        tracing::info!("deletion is suspended, or that cannot be read: no copy of the database is removed");
    }
    may
}

/// The newest copy that can be relied on and whose schema this program can work with, opened for reading.
pub(crate) fn newest_good(data_dir: &Path) -> Result<Option<(BackupFile, Connection)>> {
    for file in list(data_dir)? {
        match open_copy(&file.path) {
            Ok(connection) => return Ok(Some((file, connection))),
            Err(error) => tracing::warn!(%error, "a copy of the database cannot be used"),
        }
    }
    Ok(None)
}

/// Opens a copy for reading, after looking at every page of it.
pub(crate) fn open_copy(path: &Path) -> Result<Connection> {
    std::fs::symlink_metadata(path).map_err(|e| StoreError::io(path, e))?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let known = u32::try_from(STEPS.len()).expect("there are fewer than 2^32 steps");
    match migrate::look(&connection, path)? {
        Found::Version(found) if (1..=known).contains(&found) => {}
        Found::Version(found) => return Err(StoreError::WrongSchema { path: path.into(), found, known }),
        Found::Empty => return Err(StoreError::NotADatabase { path: path.into() }),
    }
    check::pages(&connection, path, Depth::Pages(None))?;
    Ok(connection)
}

/// Copies a database as it stands at this moment to a new file of a folder. Returns its size.
pub(crate) fn copy(
    from: &Connection,
    folder: &Folder,
    name: &str,
    depth: Depth,
    report: Report<'_>,
) -> Result<u64> {
    let part = format!("{PART_PREFIX}copy-{name}");
    remove_database(folder, &part)?;
    let made = copy_to_part(from, folder, &part, depth, report).and_then(|bytes| {
        let path = folder.path().join(&part);
        // Nobody has it open any more; a copy always outlives the machine.
        folder.read(&part)?.sync_all().map_err(|e| StoreError::io(&path, e))?;
        folder.rename_new(&part, folder, name)?;
        folder.sync()?;
        Ok(bytes)
    });
    if made.is_err() {
        let _ = remove_database(folder, &part);
    }
    made
}

fn copy_to_part(
    from: &Connection,
    folder: &Folder,
    part: &str,
    depth: Depth,
    report: Report<'_>,
) -> Result<u64> {
    let number = |pragma: &str| -> Result<u64> {
        let value: i64 = from.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
        Ok(crate::sql::from_count(value))
    };
    let bytes = number("page_count")?.saturating_mul(number("page_size")?);
    let (needed, free) = (bytes.saturating_add(SPARE_BYTES), free_bytes(folder.path())?);
    if free < needed {
        return Err(StoreError::NoRoom { path: folder.path().to_path_buf(), needed, free });
    }
    // With mode 0600, before SQLite opens it.
    folder.create_new(part)?;
    let path = folder.path().join(part);
    {
        let mut to = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        to.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
        to.pragma_update(None, "synchronous", "OFF")?;
        // Held for the whole copy: what others commit meanwhile neither gets in nor begins it anew.
        let snapshot = Snapshot::begin(from)?;
        let backup = Backup::new(from, &mut to)?;
        let mut refused = 0;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                StepResult::More => std::thread::sleep(REST),
                _ if refused < PATIENCE => {
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => return Err(StoreError::Refused("the database is locked, it cannot be copied".into())),
            }
            let progress = backup.progress();
            let all = u64::try_from(progress.pagecount).unwrap_or(0);
            report(
                "copying the database",
                all.saturating_sub(u64::try_from(progress.remaining).unwrap_or(0)),
                all,
            );
        }
        drop(backup);
        drop(snapshot);
    }
    // A plain file without a log beside it.
    let copy = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let journal: String = copy.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if journal != "delete" {
        return Err(StoreError::Refused(format!("{}: the copy keeps a log", path.display())));
    }
    crate::unknown::leave_out_of_copy(&copy)?;
    report("checking the copy", 0, 0);
    check::pages(&copy, &path, depth)?;
    drop(copy);
    Ok(folder.read(part)?.metadata().map_err(|e| StoreError::io(&path, e))?.len())
}

/// A read transaction that ends with this value.
struct Snapshot<'c>(Option<&'c Connection>);

impl<'c> Snapshot<'c> {
    fn begin(connection: &'c Connection) -> Result<Self> {
        if !connection.is_autocommit() {
            return Ok(Self(None));
        }
        connection.execute_batch("BEGIN")?;
        let snapshot = Self(Some(connection));
        // Only the first question takes the snapshot.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(snapshot)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a read transaction does not end");
        }
    }
}

/// Removes a database with everything that SQLite puts beside it.
pub(crate) fn remove_database(folder: &Folder, name: &str) -> Result<()> {
    for beside in ["-journal", "-wal", "-shm", ""] {
        folder.remove(&format!("{name}{beside}"))?;
    }
    Ok(())
}

fn listed(folder: &Folder) -> Result<Vec<BackupFile>> {
    let mut found = Vec::new();
    for entry in folder.entries()? {
        let ours = [NIGHTLY, BEFORE_SCHEMA].iter().any(|prefix| entry.name.starts_with(prefix));
        if entry.is_folder || !ours {
            continue;
        }
        let Some(stem) = entry.name.strip_suffix(ENDING) else { continue };
        let at = stem.rsplit('-').next().unwrap_or_default().to_owned();
        let path = folder.path().join(&entry.name);
        let bytes = std::fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
        found.push(BackupFile { name: entry.name, path, at, bytes });
    }
    found.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.name.cmp(&a.name)));
    Ok(found)
}

fn prune(folder: &Folder, prefix: &str, keep: usize) -> Result<()> {
    for old in listed(folder)?.into_iter().filter(|file| file.name.starts_with(prefix)).skip(keep) {
        remove_database(folder, &old.name)?;
    }
    // What a crash left of a copy that was not finished.
    for entry in folder.entries()? {
        if !entry.is_folder && entry.name.starts_with(PART_PREFIX) {
            folder.remove(&entry.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
