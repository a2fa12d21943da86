//! What a start of the node does with the spools it finds: lists them, counts the attempts at finishing
//! them, sets aside what cannot be finished. Nothing that was promised is deleted here.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::SpoolMeta;
use super::read::{SpoolItem, SpoolReader};
use crate::error::{Result, StoreError};
use crate::files::{Folder, PART_PREFIX};

/// Attempts at finishing a spool before it is set aside.
pub const MAX_ATTEMPTS: u32 = 3;
/// The folder, among the spools, of those that could not be finished.
pub const SET_ASIDE: &str = "set-aside";
const ATTEMPTS: &str = "attempts";

/// A spool that an earlier run left.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundSpool {
    /// Its folder.
    pub path: PathBuf,
    /// What its writer said about it; none when that is damaged.
    pub meta: Option<SpoolMeta>,
    /// Frames in it, judged by their headers.
    pub frames: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes of damaged places between them.
    pub corrupt_bytes: u64,
    /// Bytes of a frame that was cut off at the end.
    pub torn_bytes: u64,
    /// Whether the recording had ended.
    pub finished: bool,
    /// Attempts at finishing it so far.
    pub attempts: u32,
}

/// Lists the spools of earlier runs, oldest first. Reads headers, not pictures. To be called before the
/// first recording of this run: it takes every spool for one whose writer is gone, and removes those
/// whose making or removing a crash interrupted.
pub fn recover(spool_root: &Path) -> Result<Vec<FoundSpool>> {
    recover_telling(spool_root, &mut |_, _| {})
}

/// As [`recover`]; `stuck` hears of every folder that cannot be removed. Those stay, and hold up nothing else.
pub fn recover_telling(
    spool_root: &Path,
    stuck: &mut dyn FnMut(&Path, &StoreError),
) -> Result<Vec<FoundSpool>> {
    let root = Folder::root(spool_root)?;
    let mut found = Vec::new();
    for entry in root.entries()? {
        if !entry.is_folder || entry.name == SET_ASIDE || entry.name == super::KEPT {
            continue;
        }
        if entry.name.starts_with(PART_PREFIX) {
            if let Err(error) = root.remove_sub(&entry.name) {
                tracing::warn!(%error, spool = %entry.name, "what a crash left of a spool cannot be removed");
                stuck(&root.path().join(&entry.name), &error);
            }
            continue;
        }
        match examine(&root, &entry.name) {
            Ok(spool) => found.push(spool),
            Err(error) => {
                // One bad folder must not keep the others from being finished.
                tracing::warn!(%error, spool = %entry.name, "cannot read a spool");
                let path = root.path().join(&entry.name);
                let attempts = attempts(&root, &entry.name).unwrap_or(0);
                found.push(FoundSpool {
                    path,
                    meta: None,
                    frames: 0,
                    bytes: 0,
                    corrupt_bytes: 0,
                    torn_bytes: 0,
                    finished: false,
                    attempts,
                });
            }
        }
    }
    Ok(found)
}

fn examine(root: &Folder, name: &str) -> Result<FoundSpool> {
    let path = root.path().join(name);
    let mut reader = SpoolReader::open(&path)?;
    let (mut frames, mut corrupt_bytes) = (0, 0);
    let end = loop {
        match reader.skim_item()? {
            SpoolItem::Frame(_) => frames += 1,
            SpoolItem::Corrupt { bytes } => corrupt_bytes += bytes,
            SpoolItem::End(end) => break end,
            SpoolItem::NotYet => {
                return Err(StoreError::Refused("a spool that nobody writes goes on".into()));
            }
        }
    };
    Ok(FoundSpool {
        path,
        meta: reader.meta().cloned(),
        frames,
        bytes: reader.len()?,
        corrupt_bytes,
        torn_bytes: end.torn_bytes,
        finished: end.finished,
        attempts: attempts(root, name)?,
    })
}

fn attempts(root: &Folder, name: &str) -> Result<u32> {
    let folder = root.sub(name)?;
    if !folder.has(ATTEMPTS) {
        return Ok(0);
    }
    let file = folder.read(ATTEMPTS)?;
    let len = file.metadata().map_err(|e| StoreError::io(folder.path().join(ATTEMPTS), e))?.len();
    Ok(u32::try_from(len).unwrap_or(u32::MAX))
}

/// Counts an attempt at finishing a spool, on disk and before it is made, so that a spool that kills the
/// node cannot do so for ever. Returns which attempt it is, from 1; after the failure of attempt
/// [`MAX_ATTEMPTS`], and when this returns more, the spool is to be set aside.
pub fn begin_attempt(path: &Path) -> Result<u32> {
    let (root, name) = locate(path)?;
    let folder = root.sub(&name)?;
    let mut file = folder.append(ATTEMPTS)?;
    let before = file.metadata().map_or(0, |metadata| metadata.len());
    let counted = file
        .write_all(b".")
        .and_then(|()| file.sync_all())
        .map_err(|e| StoreError::io(folder.path().join(ATTEMPTS), e))
        .and_then(|()| folder.sync());
    if let Err(error) = counted {
        // Then no attempt is made, and none may stand there.
        let _ = file.set_len(before);
        return Err(error);
    }
    attempts(&root, &name)
}

/// Takes back one attempt that failed for no fault of the spool.
pub fn forgive_attempt(path: &Path) -> Result<()> {
    let (root, name) = locate(path)?;
    let folder = root.sub(&name)?;
    let file = folder.append(ATTEMPTS)?;
    let changed = file.metadata().and_then(|metadata| file.set_len(metadata.len().saturating_sub(1)));
    changed.map_err(|e| StoreError::io(folder.path().join(ATTEMPTS), e))
}

/// Moves a spool that cannot be finished to `set-aside/` and returns its new path.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let (root, name) = locate(path)?;
    let aside = root.make_sub(SET_ASIDE)?;
    root.rename_folder_new(&name, &aside, &name)?;
    aside.sync()?;
    root.sync()?;
    Ok(aside.path().join(name))
}

/// Removes a spool, to be called once what was made of it is complete. One that is gone is fine.
pub fn remove(path: &Path) -> Result<()> {
    let (root, name) = locate(path)?;
    // First another name: a spool that is half removed must not be taken for one that was cut off.
    let part = format!("{PART_PREFIX}{name}");
    root.remove_sub(&part)?;
    if root.has(&name) {
        root.rename_folder_new(&name, &root, &part)?;
        root.remove_sub(&part)?;
    }
    Ok(())
}

/// Whether the spool is no longer in the folder of spools, and that folder is there.
pub fn is_gone(path: &Path) -> bool {
    locate(path).is_ok_and(|(root, name)| !root.has(&name))
}

/// The folder in which a spool lies, and its name there.
pub(super) fn locate(path: &Path) -> Result<(Folder, String)> {
    let bad = || StoreError::Refused(format!("{} is not the path of a spool", path.display()));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?;
    let parent = path.parent().filter(|parent| parent.is_dir()).ok_or_else(bad)?;
    Ok((Folder::existing(parent)?, name.to_owned()))
}
