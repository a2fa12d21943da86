//! A file on its way into the models folder: written under a temporary name, put in place only when it is exactly
//! the file of the manifest. Where the bytes come from is not known here.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::digest::Digests;
use super::error::{Damage, WeightsError};
use super::folder::{Folder, PullLock};
use super::manifest::FileEntry;

/// What must stay free beyond the files themselves, bytes.
const RESERVE_BYTES: u64 = 16 << 20;

/// Longest mark that is kept, bytes.
const MAX_MARK_BYTES: usize = 256;

/// Refuses to begin what cannot be finished. `free_bytes` is what the file system of the folder has left.
pub fn check_room(folder: &Path, free_bytes: u64, missing_bytes: u64) -> Result<(), WeightsError> {
    let needed_bytes = missing_bytes.saturating_add(RESERVE_BYTES);
    if free_bytes < needed_bytes {
        return Err(WeightsError::NoRoom { path: folder.to_owned(), needed_bytes, free_bytes });
    }
    Ok(())
}

/// A file that is being received. What has arrived stays when this is dropped, for the next attempt to go on from.
#[derive(Debug)]
pub struct Incoming<'a> {
    expected: &'a FileEntry,
    target: PathBuf,
    part: PathBuf,
    mark_path: PathBuf,
    file: File,
    len: u64,
    mark: Option<String>,
}

impl<'a> Incoming<'a> {
    /// Begins, or goes on with what an earlier attempt left. The lock says that nobody else does the same.
    pub fn open(folder: &Folder, _lock: &PullLock, expected: &'a FileEntry) -> Result<Self, WeightsError> {
        let target = folder.file_path(expected);
        let part = beside(&target, ".part");
        let mark_path = beside(&target, ".part.tag");
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(WeightsError::io(parent))?;
        }
        // A link would have us write elsewhere, and a pipe would have us wait.
        if fs::symlink_metadata(&part).is_ok_and(|metadata| !metadata.is_file()) {
            fs::remove_file(&part).map_err(WeightsError::io(&part))?;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(WeightsError::io(&part))?;
        let len = file.metadata().map_err(WeightsError::io(&part))?.len();
        let mark = read_mark(&mark_path);
        let mut incoming = Self { expected, target, part, mark_path, file, len, mark };
        // A part as long as the whole was either never checked or never renamed: too cheap to trust.
        if incoming.len >= expected.size_bytes {
            incoming.restart(None)?;
        } else {
            incoming.file.seek(SeekFrom::Start(len)).map_err(WeightsError::io(&incoming.part))?;
        }
        Ok(incoming)
    }

    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No byte is there yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the source called the version that these bytes are of (a strong entity tag), if it said so.
    pub fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }

    /// Throws away what has arrived and begins with a version of this mark.
    pub fn restart(&mut self, mark: Option<&str>) -> Result<(), WeightsError> {
        // The old mark goes first: bytes of one version must never stand beside the mark of another.
        match fs::remove_file(&self.mark_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(WeightsError::io(&self.mark_path)(error));
            }
            _ => {}
        }
        self.file.set_len(0).map_err(WeightsError::io(&self.part))?;
        self.file.seek(SeekFrom::Start(0)).map_err(WeightsError::io(&self.part))?;
        self.len = 0;
        self.mark = mark.filter(|mark| is_mark(mark)).map(str::to_owned);
        if let Some(mark) = &self.mark {
            fs::write(&self.mark_path, mark).map_err(WeightsError::io(&self.mark_path))?;
        }
        Ok(())
    }

    /// Takes the next bytes. More than the manifest says are refused, and nothing of them is written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        let found_bytes = self.len.saturating_add(bytes.len() as u64);
        if found_bytes > self.expected.size_bytes {
            let damage = Damage::Size { expected_bytes: self.expected.size_bytes, found_bytes };
            return Err(WeightsError::Refused { path: self.target.clone(), damage });
        }
        self.file.write_all(bytes).map_err(WeightsError::io(&self.part))?;
        self.len = found_bytes;
        Ok(())
    }

    /// Checks length and digests of what lies on disk, and puts the file in place. What is wrong is thrown away; what
    /// is only too short stays.
    pub fn finish(mut self) -> Result<(), WeightsError> {
        let io = |error| WeightsError::io(&self.part)(error);
        if !self.expected.may_have(self.len) {
            let damage = Damage::Size { expected_bytes: self.expected.size_bytes, found_bytes: self.len };
            return Err(WeightsError::Refused { path: self.target.clone(), damage });
        }
        self.file.sync_all().map_err(io)?;
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        let digests = Digests::of(&mut self.file).map_err(io)?;
        if let Err(damage) = digests.compare(self.expected) {
            self.discard()?;
            return Err(WeightsError::Refused { path: self.target, damage });
        }
        fs::rename(&self.part, &self.target).map_err(WeightsError::io(&self.target))?;
        // It has done its duty; one that stays is overwritten by the next download.
        let _ = fs::remove_file(&self.mark_path);
        if let Some(parent) = self.target.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(WeightsError::io(parent))?;
        }
        Ok(())
    }

    /// Throws away everything that has arrived.
    pub fn discard(&mut self) -> Result<(), WeightsError> {
        self.restart(None)?;
        fs::remove_file(&self.part).map_err(WeightsError::io(&self.part))
    }
}

/// The same path with something appended to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The mark an earlier attempt left; whatever else lies there is none.
fn read_mark(path: &Path) -> Option<String> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut mark = String::new();
    File::open(path).ok()?.take(MAX_MARK_BYTES as u64 + 1).read_to_string(&mut mark).ok()?;
    (!mark.is_empty() && is_mark(&mark)).then_some(mark)
}

fn is_mark(mark: &str) -> bool {
    mark.len() <= MAX_MARK_BYTES && mark.bytes().all(|b| (0x20..0x7f).contains(&b))
}

#[cfg(test)]
mod tests;
