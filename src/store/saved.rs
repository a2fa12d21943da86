//! Whole backups: the database, the pictures of the enrolled people and the keys of a node in one folder that can be
//! carried away, and the way back. Clips, videos, pictures and spools are files already and are not in it.
//!
//! ```text
//! TO/meerkat-backup.json    version, program, time, schema, and of each file its path, length and CRC-32
//! TO/meerkat.db             TO/faces/<person>/<picture>             TO/keys/<file>
//! ```

use std::io::Read;
use std::path::{Path, PathBuf};

use meerkat_base::WallTime;
use serde::{Deserialize, Serialize};

use crate::backup::{self, Report};
use crate::capture::each_file;
use crate::check::Depth;
use crate::database::{DATABASE, DataLock, StoreOptions, StoreReader};
use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder, PART_PREFIX};
use crate::migrate::STEPS;
use crate::rebuild::{self, Base, Rebuilt};
use crate::sql::check_relative;
use crate::swap;

/// The file that says what is in a backup; written last.
pub const MANIFEST: &str = "meerkat-backup.json";
const VERSION: u32 = 1;
/// The longest manifest that is read, in bytes.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Folders that are saved beside the database.
const FOLDERS: [&str; 2] = ["faces", "keys"];
/// In `backup/`: a whole backup that waits for whoever ordered it from a running node.
const TO_FETCH: &str = "to-fetch";

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// Version of the program that made it.
    pub program: String,
    /// When it was made, microseconds since 1970.
    pub made_micros: i64,
    /// Schema version of its database.
    pub schema: u32,
    /// Its files.
    pub files: Vec<SavedFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedFile {
    /// Path in the backup.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of its contents.
    pub crc32: u32,
}

/// Makes a backup of a data folder in the new folder `to`, whether or not a node is running. It appears under its name
/// only when it is complete.
///
/// # Errors
/// [`StoreError::Exists`] when there is something at `to`, [`StoreError::NoRoom`], [`StoreError::Damaged`].
pub fn save(
    data_dir: &Path,
    to: &Path,
    program: &str,
    now: WallTime,
    report: Report<'_>,
) -> Result<Manifest> {
    let reader = StoreReader::open(data_dir)?;
    make(to, |folder| fill(&reader, folder, program, now, report))
}

/// Makes a backup where a running node has it fetched from: in a place of its own data folder, of which there is one.
/// What an earlier order left there is removed.
///
/// # Errors
/// As [`save`].
pub fn save_to_fetch(data_dir: &Path, program: &str, now: WallTime, report: Report<'_>) -> Result<Manifest> {
    let shelf = Folder::existing(data_dir)?.make_sub(backup::FOLDER)?;
    discard_in(&shelf)?;
    save(data_dir, &shelf.path().join(TO_FETCH), program, now, report)
}

/// Copies what [`save_to_fetch`] made to the new folder `to`, and checks every byte of it.
///
/// # Errors
/// [`StoreError::Exists`] when there is something at `to`, [`StoreError::Refused`] when what is there is not whole.
pub fn fetch(data_dir: &Path, to: &Path, report: Report<'_>) -> Result<Manifest> {
    let source = Folder::existing(data_dir)?.sub(backup::FOLDER)?.sub(TO_FETCH)?;
    make(to, |folder| {
        let manifest = read_manifest(&source)?;
        for (done, file) in manifest.files.iter().enumerate() {
            report("copying the backup", done as u64, manifest.files.len() as u64);
            copy_checked(&source, file, folder)?;
        }
        Ok(manifest)
    })
}

/// Removes what [`save_to_fetch`] made, or began to make. Returns whether there was anything.
///
/// # Errors
/// Those of the disk.
pub fn discard(data_dir: &Path) -> Result<bool> {
    let root = Folder::existing(data_dir)?;
    if root.has(backup::FOLDER) { discard_in(&root.sub(backup::FOLDER)?) } else { Ok(false) }
}

fn discard_in(shelf: &Folder) -> Result<bool> {
    let mut found = false;
    // First a name that nobody takes for a whole backup: a crash may come in between.
    let part = part_name(TO_FETCH);
    if shelf.has(&part) {
        found = true;
        swap::remove_all(shelf, &part, 3)?;
    }
    if shelf.has(TO_FETCH) {
        found = true;
        shelf.rename_folder_new(TO_FETCH, shelf, &part)?;
        swap::remove_all(shelf, &part, 3)?;
    }
    Ok(found)
}

fn part_name(name: &str) -> String {
    format!("{PART_PREFIX}backup-{name}")
}

/// Whether there can be a new folder of this name; [`save`] looks too, but a long way may lie before it.
///
/// # Errors
/// [`StoreError::Exists`] when there is something at `to`.
pub fn check_target(to: &Path) -> Result<()> {
    target(to).map(|_| ())
}

/// The folder in which `to` is to be, and its name there.
fn target(to: &Path) -> Result<(Folder, String)> {
    let bad = || StoreError::Refused(format!("{} cannot be the name of a new folder", to.display()));
    let to = std::path::absolute(to).map_err(|e| StoreError::io(to, e))?;
    let name = to.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?;
    let parent = Folder::existing(to.parent().ok_or_else(bad)?)?;
    if parent.has(name) { Err(StoreError::Exists { path: to }) } else { Ok((parent, name.to_owned())) }
}

/// Fills a new folder, which gets its name when it is complete, and its manifest just before.
fn make(to: &Path, fill: impl FnOnce(&Folder) -> Result<Manifest>) -> Result<Manifest> {
    let (parent, name) = target(to)?;
    let part = part_name(&name);
    swap::remove_all(&parent, &part, 3)?;
    let made = parent.make_new_sub(&part).and_then(|folder| {
        let manifest = fill(&folder)?;
        let json = serde_json::to_vec_pretty(&manifest).expect("texts and numbers are always JSON");
        folder.write_new(MANIFEST, &json, Durability::Power)?;
        folder.sync()?;
        drop(folder);
        parent.rename_folder_new(&part, &parent, &name)?;
        parent.sync()?;
        Ok(manifest)
    });
    if made.is_err()
        && let Err(error) = swap::remove_all(&parent, &part, 3)
    {
        tracing::warn!(%error, "an unfinished backup stays behind");
    }
    made
}

fn fill(
    reader: &StoreReader,
    folder: &Folder,
    program: &str,
    now: WallTime,
    report: Report<'_>,
) -> Result<Manifest> {
    // The database first: a picture that comes later is in nobody's row, one of a row is there.
    backup::copy(&reader.connection, folder, DATABASE, Depth::Everything, report)?;
    let mut database = folder.read(DATABASE)?;
    let (bytes, crc32) = sum(&mut database, &folder.path().join(DATABASE))?;
    let mut files = vec![SavedFile { path: DATABASE.to_owned(), bytes, crc32 }];
    let root = Folder::existing(&reader.folder)?;
    for name in FOLDERS.into_iter().filter(|name| root.has(name)) {
        let from = root.sub(name)?;
        let to = folder.make_new_sub(name)?;
        each_file(&from, 1, &mut |found, file| {
            if file.starts_with(PART_PREFIX) {
                return Ok(());
            }
            let below =
                found.path().strip_prefix(from.path()).ok().and_then(Path::to_str).unwrap_or_default();
            let target = if below.is_empty() { None } else { Some(to.make_sub(below)?) };
            let mut summing = Summing::new(found.read(file)?);
            let bytes = swap::write_flushed(target.as_ref().unwrap_or(&to), file, &mut summing)?;
            let path =
                if below.is_empty() { format!("{name}/{file}") } else { format!("{name}/{below}/{file}") };
            files.push(SavedFile { path, bytes, crc32: summing.hasher.finalize() });
            report("copying faces and keys", files.len() as u64, 0);
            if let Some(target) = target { target.sync() } else { Ok(()) }
        })?;
        to.sync()?;
    }
    let schema = u32::try_from(STEPS.len()).expect("there are fewer than 2^32 steps");
    Ok(Manifest { version: VERSION, program: program.to_owned(), made_micros: now.0, schema, files })
}

/// Reads what a backup says of itself.
///
/// # Errors
/// [`StoreError::Refused`] for what is none.
pub fn manifest(from: &Path) -> Result<Manifest> {
    read_manifest(&Folder::existing(from)?)
}

fn read_manifest(folder: &Folder) -> Result<Manifest> {
    let path = folder.path().join(MANIFEST);
    let refused = |what: String| StoreError::Refused(format!("{}: {what}", path.display()));
    let mut json = Vec::new();
    folder
        .read(MANIFEST)?
        .take(MAX_MANIFEST_BYTES + 1)
        .read_to_end(&mut json)
        .map_err(|e| StoreError::io(&path, e))?;
    if json.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(refused(format!("longer than {MAX_MANIFEST_BYTES} bytes")));
    }
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|e| refused(format!("not a backup: {e}")))?;
    if manifest.version != VERSION {
        return Err(refused(format!("version {}, known is {VERSION}", manifest.version)));
    }
    let known = u32::try_from(STEPS.len()).expect("there are fewer than 2^32 steps");
    if manifest.schema > known {
        return Err(StoreError::WrongSchema {
            path: folder.path().join(DATABASE),
            found: manifest.schema,
            known,
        });
    }
    for file in &manifest.files {
        check_relative(&file.path)?;
        let mut parts = file.path.split('/');
        let first = parts.next().unwrap_or_default();
        let deep = parts.count();
        if !(file.path == DATABASE || FOLDERS.contains(&first) && (1..=2).contains(&deep)) {
            return Err(refused(format!(
                "no backup has a file {}",
                meerkat_base::text::shown(file.path.as_bytes())
            )));
        }
    }
    if manifest.files.iter().filter(|file| file.path == DATABASE).count() != 1 {
        return Err(refused("it has no database".to_owned()));
    }
    Ok(manifest)
}

/// Puts a backup in the place of what a data folder has; that is set aside. Everything is checked before anything
/// moves, and a crash at any moment leaves the old or the new. What was recorded since is taken over from the folders,
/// alerts that waited then are given up, and nothing is deleted until a person confirms.
///
/// # Errors
/// [`StoreError::WrongSchema`] for a backup of a newer program, [`StoreError::Refused`] and [`StoreError::Damaged`] for
/// one that is not whole; then nothing was changed.
pub fn restore(lock: &DataLock, options: StoreOptions, from: &Path, report: Report<'_>) -> Result<Rebuilt> {
    let source = Folder::existing(from)?;
    let manifest = read_manifest(&source)?;
    let root = Folder::root(lock.folder())?;
    swap::finish(&root)?;
    let staging = swap::begin(&root)?;
    let gathered = gather(&source, &manifest, &staging.folder, report).and_then(|database| {
        let reason = format!("restored from the backup of {}", WallTime(manifest.made_micros));
        rebuild::build(&root, &staging.folder, options, Base::Copy(&database), &reason, report)
    });
    match gathered {
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

/// Copies and checks everything but the database, and checks that. Returns its path.
fn gather(source: &Folder, manifest: &Manifest, into: &Folder, report: Report<'_>) -> Result<PathBuf> {
    // Also when the backup knows nobody: faces of now would belong to nobody then.
    into.make_sub("faces")?;
    for (done, file) in manifest.files.iter().enumerate() {
        report("reading the backup", done as u64, manifest.files.len() as u64);
        if file.path == DATABASE {
            let (bytes, crc32) = sum(&mut source.read(DATABASE)?, &source.path().join(DATABASE))?;
            if (bytes, crc32) != (file.bytes, file.crc32) {
                return Err(damaged(file));
            }
            continue;
        }
        copy_checked(source, file, into)?;
    }
    into.sync()?;
    Ok(source.path().join(DATABASE))
}

fn damaged(file: &SavedFile) -> StoreError {
    StoreError::Refused(format!("{} of the backup is damaged", file.path))
}

/// Copies one file of a backup to the same place below another folder, and compares it with what the manifest says.
fn copy_checked(source: &Folder, file: &SavedFile, into: &Folder) -> Result<()> {
    let mut folders: Vec<&str> = file.path.split('/').collect();
    let name = folders.pop().ok_or_else(|| damaged(file))?;
    let mut open: Option<(Folder, Folder)> = None;
    for folder in folders {
        let (from, to) = open.as_ref().map_or((source, into), |(from, to)| (from, to));
        open = Some((from.sub(folder)?, to.make_sub(folder)?));
    }
    let (from, to) = open.as_ref().map_or((source, into), |(from, to)| (from, to));
    let mut summing = Summing::new(from.read(name)?);
    let bytes = swap::write_flushed(to, name, &mut summing)?;
    if (bytes, summing.hasher.finalize()) != (file.bytes, file.crc32) {
        return Err(damaged(file));
    }
    to.sync()
}

fn sum(file: &mut impl Read, path: &Path) -> Result<(u64, u32)> {
    let mut summing = Summing::new(file);
    let bytes = std::io::copy(&mut summing, &mut std::io::sink()).map_err(|e| StoreError::io(path, e))?;
    Ok((bytes, summing.hasher.finalize()))
}

/// Adds up what is read through it.
struct Summing<R> {
    from: R,
    hasher: crc32fast::Hasher,
}

impl<R> Summing<R> {
    fn new(from: R) -> Self {
        Self { from, hasher: crc32fast::Hasher::new() }
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.from.read(buffer)?;
        self.hasher.update(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}

#[cfg(test)]
mod tests;
