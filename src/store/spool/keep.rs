//! Spools that are kept after a file was made of them: the original pictures. How long is the evictor's to say.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::recover::locate;
use crate::error::{Result, StoreError};
use crate::files::{Folder, PART_PREFIX};

/// The folder, among the spools, of those that are kept.
pub const KEPT: &str = "kept";
/// The file in a kept spool that names what was made of it.
const MADE: &str = "made";
/// A path in it is at most so long.
const MAX_MADE: u64 = 1024;

/// A spool that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSpool {
    /// Its folder.
    pub path: PathBuf,
    /// What was made of it, relative to the data folder.
    pub made: Option<String>,
    /// Bytes in it.
    pub bytes: u64,
}

/// Moves a finished spool to those that are kept. `made` is the path of what was made of it, relative to the data
/// folder. Returns the new path; of one that was moved already the path that it has.
pub fn keep(path: &Path, made: &str) -> Result<PathBuf> {
    let (root, name) = locate(path)?;
    let kept = root.make_sub(KEPT)?;
    if !root.has(&name) && kept.has(&name) {
        return Ok(kept.path().join(name));
    }
    let folder = root.sub(&name)?;
    // Left by an attempt that came no further.
    folder.remove(MADE)?;
    let mut file = folder.create_new(MADE)?;
    file.write_all(made.as_bytes()).map_err(|e| StoreError::io(folder.path().join(MADE), e))?;
    root.rename_folder_new(&name, &kept, &name)?;
    Ok(kept.path().join(name))
}

/// Whether the spool of this path was moved to those that are kept.
pub fn is_kept(path: &Path) -> bool {
    locate(path).is_ok_and(|(root, name)| root.sub(KEPT).is_ok_and(|kept| kept.has(&name)))
}

/// The kept spools, oldest first.
pub fn kept(spool_root: &Path) -> Result<Vec<KeptSpool>> {
    let root = Folder::root(spool_root)?;
    if !root.has(KEPT) {
        return Ok(Vec::new());
    }
    let folder = root.sub(KEPT)?;
    let mut found = Vec::new();
    for entry in folder.entries()? {
        if entry.is_folder && !entry.name.starts_with(PART_PREFIX) {
            let spool = folder.sub(&entry.name)?;
            found.push(KeptSpool {
                made: made(&spool),
                bytes: bytes(&spool)?,
                path: spool.path().to_owned(),
            });
        }
    }
    Ok(found)
}

/// The kept spool that a file was made of, by the file's path relative to the data folder.
pub fn kept_of(spool_root: &Path, file: &str) -> Result<Option<KeptSpool>> {
    Ok(kept(spool_root)?.into_iter().find(|spool| spool.made.as_deref() == Some(file)))
}

fn made(spool: &Folder) -> Option<String> {
    let mut text = String::new();
    spool.read(MADE).ok()?.take(MAX_MADE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn bytes(spool: &Folder) -> Result<u64> {
    let mut sum = 0_u64;
    for entry in spool.entries()?.iter().filter(|entry| !entry.is_folder) {
        let path = spool.path().join(&entry.name);
        let file = spool.read(&entry.name)?;
        sum = sum.saturating_add(file.metadata().map_err(|e| StoreError::io(path, e))?.len());
    }
    Ok(sum)
}
