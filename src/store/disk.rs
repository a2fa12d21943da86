//! How much room there is, how much is used by what, and whether the disk takes writes at all.

use std::fs::ReadDir;
use std::path::Path;
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
    /// Spools, those set aside included.
    pub spool: u64,
    /// The database with its log.
    pub database: u64,
}

impl Usage {
    /// Each kind with its label in metrics.
    pub fn by_kind(&self) -> [(&'static str, u64); 5] {
        [
            ("image", self.image),
            ("video", self.video),
            ("clip", self.clip),
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

/// Writes and removes a small file in the data folder; the error says why that is not possible.
pub fn check_writable(data_dir: &Path) -> Result<()> {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    if !data_dir.is_dir() {
        return Err(StoreError::NotAFolder { path: data_dir.to_path_buf() });
    }
    let folder = Folder::root(data_dir)?;
    let name =
        format!("{PART_PREFIX}probe-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed));
    // A probe of the same name is the leftover of a crash.
    folder.remove(&name)?;
    folder.write_new(&name, &[0; 4096], Durability::Process)?;
    folder.remove(&name)
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
        let expected = Usage { image: 15, video: 20, clip: 30, spool: 42, database: 7 };
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
        check_writable(temp.path()).unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        assert!(free_bytes(&temp.path().join("missing")).is_err());
        assert!(check_writable(&temp.path().join("missing")).is_err());
        assert!(!temp.path().join("missing").exists(), "asking makes nothing");
    }
}
