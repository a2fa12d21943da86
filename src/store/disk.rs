//! How much room there is, how much is used by what, and whether the disk takes writes at all.

use std::fs::ReadDir;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder, PART_PREFIX};

/// Bytes stored by kind, as lengths of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Pictures of mode 1.
    pub image: u64,
    /// Videos of mode 2.
    pub video: u64,
    /// Clips and snapshots.
    pub clip: u64,
    /// Segments of what is recorded without a break.
    pub segment: u64,
    /// Spools, those set aside included.
    pub spool: u64,
    /// The database with its log.
    pub database: u64,
}

impl Usage {
    /// Each kind with its label in metrics.
    pub fn by_kind(&self) -> [(&'static str, u64); 6] {
        [
            ("image", self.image),
            ("video", self.video),
            ("clip", self.clip),
            ("segment", self.segment),
            ("spool", self.spool),
            ("database", self.database),
        ]
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Image,
    Video,
    Clip,
    Segment,
    Spool,
}

/// Adds up what is stored, a few files at a time: after months that is millions of files. Links are
/// not followed; what disappears or cannot be read while it walks is left out.
#[derive(Debug)]
pub struct UsageWalk {
    open: Vec<(Kind, ReadDir)>,
    usage: Usage,
}

impl UsageWalk {
    /// Begins at a data folder.
    pub fn new(data_dir: &Path) -> Self {
        let mut usage = Usage::default();
        for file in ["meerkat.db", "meerkat.db-wal", "meerkat.db-shm"] {
            let len = std::fs::symlink_metadata(data_dir.join(file)).map_or(0, |metadata| metadata.len());
            usage.database = usage.database.saturating_add(len);
        }
        let open = [
            (Kind::Image, "capture/image"),
            (Kind::Video, "capture/video"),
            (Kind::Clip, "capture/clip"),
            (Kind::Segment, "capture/segment"),
            (Kind::Spool, "spool"),
        ]
        .into_iter()
        .filter_map(|(kind, folder)| Some((kind, std::fs::read_dir(data_dir.join(folder)).ok()?)))
        .collect();
        Self { open, usage }
    }

    /// Looks at so many more names. Returns the sums once every folder was read.
    pub fn step(&mut self, names: usize) -> Option<Usage> {
        for _ in 0..names {
            let Some((kind, listing)) = self.open.last_mut() else { return Some(self.usage) };
            let kind = *kind;
            let Some(entry) = listing.next() else {
                self.open.pop();
                continue;
            };
            // Does not follow links.
            let Ok((entry, metadata)) = entry.and_then(|e| e.metadata().map(|m| (e, m))) else { continue };
            if metadata.is_dir() {
                if let Ok(sub) = std::fs::read_dir(entry.path()) {
                    self.open.push((kind, sub));
                }
                continue;
            }
            let sum = match kind {
                Kind::Image => &mut self.usage.image,
                Kind::Video => &mut self.usage.video,
                Kind::Clip => &mut self.usage.clip,
                Kind::Segment => &mut self.usage.segment,
                Kind::Spool => &mut self.usage.spool,
            };
            *sum = sum.saturating_add(metadata.len());
        }
        self.open.is_empty().then_some(self.usage)
    }
}

/// Bytes that an ordinary process can still write on the file system of a folder.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| StoreError::io(folder, e))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The data folder as it was when it was opened. It is held open, so that its number on the disk cannot pass to
/// another folder.
#[derive(Debug)]
pub struct DataFolder {
    folder: Folder,
    path: PathBuf,
}

impl DataFolder {
    /// Opens the folder; makes it if it is missing.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = std::path::absolute(data_dir).map_err(|e| StoreError::io(data_dir, e))?;
        Ok(Self { folder: Folder::root(&path)?, path })
    }

    /// Whether its path still leads to it and it can be written: writes and removes a small file. The error says
    /// what is wrong. A folder that took its place, such as the empty one under a disk that was taken out, is
    /// left as it is.
    pub fn check(&self) -> Result<()> {
        if !self.path.is_dir() {
            return Err(StoreError::NotAFolder { path: self.path.clone() });
        }
        let there = rustix::fs::stat(&self.path).map_err(|e| StoreError::io(&self.path, e))?;
        let own = self.folder.stat()?;
        if (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino) {
            return Err(StoreError::Replaced { path: self.path.clone() });
        }
        static PROBES: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("{PART_PREFIX}probe-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
        // A probe of the same name is the leftover of a crash.
        self.folder.remove(&name)?;
        self.folder.write_new(&name, &[0; 4096], Durability::Process)?;
        self.folder.remove(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_added_up() {
        let temp = tempfile::tempdir().unwrap();
        for (folder, len) in [
            ("capture/image/door/2026-11-20", 10),
            ("capture/image/yard/2026-11-20", 5),
            ("capture/video/door/2026-11-20", 20),
            ("capture/clip/door/2026-11-20", 30),
            ("spool/a", 40),
            ("spool/set-aside/b", 2),
            ("elsewhere", 1000),
        ] {
            let folder = temp.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("file"), vec![0; len]).unwrap();
        }
        std::fs::write(temp.path().join("meerkat.db"), [0; 7]).unwrap();
        std::os::unix::fs::symlink(temp.path().join("elsewhere"), temp.path().join("capture/image/link"))
            .unwrap();
        let expected = Usage { image: 15, video: 20, clip: 30, segment: 0, spool: 42, database: 7 };
        let link = temp.path().join("elsewhere").as_os_str().len() as u64;
        let walk = UsageWalk::new(temp.path()).step(1_000).unwrap();
        assert_eq!(Usage { image: walk.image - link, ..walk }, expected, "a link counts as itself only");

        let mut slow = UsageWalk::new(temp.path());
        let mut steps = 0;
        let found = loop {
            steps += 1;
            if let Some(found) = slow.step(1) {
                break found;
            }
        };
        assert_eq!(found, walk);
        assert!(steps > 10);
        assert_eq!(found.by_kind().iter().map(|(_, bytes)| bytes).sum::<u64>(), 15 + 20 + 30 + 42 + 7 + link);
    }

    #[test]
    fn room_and_writability_are_seen() {
        let temp = tempfile::tempdir().unwrap();
        assert!(free_bytes(temp.path()).unwrap() > 0);
        assert!(free_bytes(&temp.path().join("missing")).is_err());
    }

    #[test]
    fn a_folder_that_took_the_place_of_the_data_folder_is_noticed_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (data, aside) = (temp.path().join("data"), temp.path().join("aside"));
        std::fs::create_dir(&data).unwrap();
        let folder = DataFolder::open(&data).unwrap();
        let names = |path: &Path| std::fs::read_dir(path).unwrap().count();
        folder.check().unwrap();
        assert_eq!(names(&data), 0, "the probe is gone");

        std::fs::rename(&data, &aside).unwrap();
        assert!(matches!(folder.check(), Err(StoreError::NotAFolder { .. })));
        assert!(!data.exists(), "asking makes nothing");
        std::fs::create_dir(&data).unwrap();
        assert!(matches!(folder.check(), Err(StoreError::Replaced { .. })));
        assert_eq!((names(&data), names(&aside)), (0, 0));

        // It may be reached in another way; what counts is the folder.
        std::fs::remove_dir(&data).unwrap();
        std::os::unix::fs::symlink(&aside, &data).unwrap();
        folder.check().unwrap();
        std::fs::remove_file(&data).unwrap();
        std::fs::rename(&aside, &data).unwrap();
        folder.check().unwrap();

        // Removed and made again: another one, whatever number the file system gives it.
        std::fs::remove_dir(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        assert!(matches!(folder.check(), Err(StoreError::Replaced { .. })));
    }
}
