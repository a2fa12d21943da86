//! Whether the path of the data folder still leads to the node's own data: it may be on a disk that is taken away,
//! and comes back as another mount. Knows nothing of what is in it but its name tag.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder, PART_PREFIX};

/// The name tag: a random number that is made with the data folder and never changes.
const TAG: &str = "meerkat.id";
const TAG_CHARS: u64 = 36;

/// The data folder that a node was started with. It is held open, so that its number on the disk cannot pass to
/// another folder; the same folder on a new mount is known by its tag.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    tag: Option<Uuid>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    folder: Folder,
    mount: u64,
}

impl DataFolder {
    /// Opens the folder; makes it, and its tag, if they are missing. Without a tag (a disk that is full) it is known by
    /// its number alone.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = std::path::absolute(data_dir).map_err(|e| StoreError::io(data_dir, e))?;
        let folder = Folder::root(&path)?;
        let tag = match tag_of(&folder) {
            Some(tag) => Some(tag),
            None => match make_tag(&folder) {
                Ok(tag) => Some(tag),
                Err(error) => {
                    tracing::warn!(%error, "the data folder gets no tag");
                    None
                }
            },
        };
        Ok(Self { path, tag, held: Mutex::new(Held { folder, mount: 1 }) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path still leads to it; costs one look at the path. Returns the number of its mount: while that is
    /// the same, files and folders that were opened in it are good; after it has changed they belong to a disk that is
    /// gone. A folder that took its place, such as the empty one under a disk that was taken out, is left as it is.
    pub fn here(&self) -> Result<u64> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.path.is_dir() {
            return Err(StoreError::NotAFolder { path: self.path.clone() });
        }
        let there = rustix::fs::stat(&self.path).map_err(|e| StoreError::io(&self.path, e))?;
        let own = held.folder.stat()?;
        if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino) {
            return Ok(held.mount);
        }
        let replaced = || StoreError::Replaced { path: self.path.clone() };
        let folder = Folder::existing(&self.path)?;
        let tag = self.tag.ok_or_else(replaced)?;
        if tag_of(&folder) != Some(tag) {
            return Err(replaced());
        }
        tracing::info!(path = %self.path.display(), "the data folder is back on another mount");
        held.mount += 1;
        held.folder = folder;
        Ok(held.mount)
    }

    /// A folder in it, made if it is missing, if its path still leads to it. It is opened from the folder that is held,
    /// so whatever may take its place at this moment, it lies in no other.
    pub(crate) fn make_sub(&self, name: &str) -> Result<Folder> {
        self.here()?;
        self.held.lock().unwrap_or_else(PoisonError::into_inner).folder.make_sub(name)
    }

    /// As [`DataFolder::here`], and whether it can be written: writes and removes a small file.
    pub fn check(&self) -> Result<u64> {
        let mount = self.here()?;
        static PROBES: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("{PART_PREFIX}probe-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A probe of the same name is the leftover of a crash.
        held.folder.remove(&name)?;
        held.folder.write_new(&name, &[0; 4096], Durability::Process)?;
        held.folder.remove(&name)?;
        Ok(mount)
    }
}

/// Replaces a small file as a whole: whoever reads it finds the old or the new.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let refused = || StoreError::Refused(format!("{} is not the path of a file", path.display()));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(refused)?;
    let folder = Folder::existing(path.parent().ok_or_else(refused)?)?;
    let part = format!("{PART_PREFIX}{}-{name}", std::process::id());
    folder.remove(&part)?;
    folder.write_new(&part, bytes, Durability::Process)?;
    std::fs::rename(folder.path().join(&part), path).map_err(|e| {
        folder.remove_quietly(&part);
        StoreError::io(path, e)
    })
}

fn tag_of(folder: &Folder) -> Option<Uuid> {
    let mut text = String::new();
    folder.read(TAG).ok()?.take(TAG_CHARS).read_to_string(&mut text).ok()?;
    Uuid::parse_str(&text).ok()
}

fn make_tag(folder: &Folder) -> Result<Uuid> {
    let tag = Uuid::new_v4();
    let part = format!("{PART_PREFIX}tag-{}", tag.simple());
    let made = folder.create_new(&part).and_then(|mut file| {
        writeln!(file, "{tag}")
            .and_then(|()| file.sync_all())
            .map_err(|e| StoreError::io(folder.path().join(TAG), e))?;
        // One that cannot be read as a tag is no loss.
        folder.remove(TAG)?;
        folder.rename_new(&part, folder, TAG)
    });
    match made {
        Ok(()) => Ok(tag),
        Err(error) => {
            folder.remove_quietly(&part);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_took_the_place_of_the_data_folder_is_noticed_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (data, aside) = (temp.path().join("data"), temp.path().join("aside"));
        std::fs::create_dir(&data).unwrap();
        let folder = DataFolder::open(&data).unwrap();
        let names = |path: &Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!(folder.check().unwrap(), 1);
        assert_eq!(names(&data), 1, "the probe is gone, the tag stays");

        std::fs::rename(&data, &aside).unwrap();
        assert!(matches!(folder.check(), Err(StoreError::NotAFolder { .. })));
        assert!(!data.exists(), "asking makes nothing");
        std::fs::create_dir(&data).unwrap();
        assert!(matches!(folder.check(), Err(StoreError::Replaced { .. })));
        assert_eq!((names(&data), names(&aside)), (0, 1));

        // It may be reached in another way; what counts is the folder.
        std::fs::remove_dir(&data).unwrap();
        std::os::unix::fs::symlink(&aside, &data).unwrap();
        assert_eq!(folder.check().unwrap(), 1);
        std::fs::remove_file(&data).unwrap();
        std::fs::rename(&aside, &data).unwrap();
        assert_eq!(folder.check().unwrap(), 1);

        // Removed and made again: another one, whatever number the file system gives it.
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        assert!(matches!(folder.check(), Err(StoreError::Replaced { .. })));
    }

    #[test]
    fn the_same_data_on_another_mount_are_known_by_their_tag() {
        let temp = tempfile::tempdir().unwrap();
        let (data, aside) = (temp.path().join("data"), temp.path().join("aside"));
        let folder = DataFolder::open(&data).unwrap();
        let tag = std::fs::read(data.join(TAG)).unwrap();
        assert_eq!(DataFolder::open(&data).unwrap().tag, folder.tag, "a second start finds it");
        std::fs::rename(&data, &aside).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(TAG), &tag).unwrap();
        assert_eq!(folder.here().unwrap(), 2);
        assert_eq!(folder.check().unwrap(), 2);
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(TAG), b"00000000-0000-4000-8000-000000000000\n").unwrap();
        assert!(matches!(folder.here(), Err(StoreError::Replaced { .. })));
    }
}
