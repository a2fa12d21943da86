//! How much room there is, and how much is used by what and by whom.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::ReadDir;
use std::path::Path;

use meerkat_base::{Evidence, WallTime};

use crate::error::{Result, StoreError};
use crate::retention::{camera_of, evidence_at};
use crate::spool::KEPT;
use crate::{backup, images, relay, swap};

/// Folder of the log of viewers.
pub const WATCH_LOG: &str = "watch";

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
    /// Copies of the database.
    pub backup: u64,
    /// What was set aside when the database was made anew or a copy came back.
    pub set_aside: u64,
    /// Files that wait for the desk's clients, those that are just arriving included.
    pub relay: u64,
    /// The log of viewers, old ones included.
    pub watch_log: u64,
}

impl Usage {
    /// Each kind with its label in metrics.
    pub fn by_kind(&self) -> [(&'static str, u64); 10] {
        [
            ("image", self.image),
            ("video", self.video),
            ("clip", self.clip),
            ("segment", self.segment),
            ("spool", self.spool),
            ("database", self.database),
            ("backup", self.backup),
            ("set_aside", self.set_aside),
            ("relay", self.relay),
            ("watch_log", self.watch_log),
        ]
    }
}

/// What one camera has of one sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Files, with what stands beside them.
    pub files: u64,
    /// Their lengths.
    pub bytes: u64,
    /// The time in the oldest name.
    pub oldest: Option<WallTime>,
}

/// By camera (the name of its folder) and sort. Snapshots count as such, whatever stands beside a clip to the clip.
pub type HeldByCamera = BTreeMap<(String, Evidence), Held>;

/// Adds up what is stored, a few files at a time: after months that is millions of files. Links are
/// not followed; what disappears or cannot be read while it walks is left out.
#[derive(Debug)]
pub struct UsageWalk {
    /// Folders being read, each with its path relative to the data folder.
    open: Vec<(String, ReadDir)>,
    usage: Usage,
    kept_spools: u64,
    cameras: HeldByCamera,
}

impl UsageWalk {
    /// Begins at a data folder.
    pub fn new(data_dir: &Path) -> Self {
        let mut usage = Usage::default();
        for file in ["meerkat.db", "meerkat.db-wal", "meerkat.db-shm"] {
            let len = std::fs::symlink_metadata(data_dir.join(file)).map_or(0, |metadata| metadata.len());
            usage.database = usage.database.saturating_add(len);
        }
        let open = ["capture/image", "capture/video", "capture/clip", "capture/segment", "spool"]
            .into_iter()
            .chain([backup::FOLDER, swap::ASIDE, relay::FOLDER, WATCH_LOG])
            .filter_map(|folder| Some((folder.to_owned(), std::fs::read_dir(data_dir.join(folder)).ok()?)))
            .collect();
        Self { open, usage, kept_spools: 0, cameras: HeldByCamera::new() }
    }

    /// Looks at so many more names. Returns the sums once every folder was read.
    pub fn step(&mut self, names: usize) -> Option<Usage> {
        for _ in 0..names {
            let Some((folder, listing)) = self.open.last_mut() else { return Some(self.usage) };
            let Some(entry) = listing.next() else {
                self.open.pop();
                continue;
            };
            // Does not follow links.
            let Ok((entry, metadata)) = entry.and_then(|e| e.metadata().map(|m| (e, m))) else { continue };
            if metadata.is_dir() {
                let below = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if let Ok(sub) = std::fs::read_dir(entry.path()) {
                    self.open.push((below, sub));
                }
                continue;
            }
            let folder = folder.clone();
            self.add(&folder, &entry.file_name(), metadata.len());
        }
        self.open.is_empty().then_some(self.usage)
    }

    /// The sums by camera, as far as it has come.
    pub fn cameras(&self) -> &HeldByCamera {
        &self.cameras
    }

    /// Bytes of the spools that are kept beside what was made of them, as far as it has come.
    pub fn kept_spools(&self) -> u64 {
        self.kept_spools
    }

    fn add(&mut self, folder: &str, name: &OsStr, len: u64) {
        let spare = match folder.split('/').next() {
            Some(backup::FOLDER) => Some(&mut self.usage.backup),
            Some(swap::ASIDE) => Some(&mut self.usage.set_aside),
            Some(relay::FOLDER) => Some(&mut self.usage.relay),
            Some(WATCH_LOG) => Some(&mut self.usage.watch_log),
            _ => None,
        };
        if let Some(sum) = spare {
            *sum = sum.saturating_add(len);
            return;
        }
        let (mut evidence, name) = (evidence_at(folder), name.to_string_lossy());
        let sum = match evidence {
            Evidence::Image => &mut self.usage.image,
            Evidence::Video => &mut self.usage.video,
            Evidence::Segment => &mut self.usage.segment,
            Evidence::Spool => &mut self.usage.spool,
            Evidence::Clip | Evidence::Snapshot | Evidence::Event => &mut self.usage.clip,
        };
        *sum = sum.saturating_add(len);
        if evidence == Evidence::Clip && name.ends_with(".jpg") && !name.ends_with(".strip.jpg") {
            evidence = Evidence::Snapshot;
        }
        if folder.strip_prefix("spool/").is_some_and(|below| below.split('/').next() == Some(KEPT)) {
            self.kept_spools = self.kept_spools.saturating_add(len);
        }
        if evidence == Evidence::Image && crate::evict::name_of(folder) == images::KEPT {
            // Limits go by what is counted here, and what is kept counts for none.
            return;
        }
        let camera = camera_of(folder);
        let begun = if evidence == Evidence::Spool {
            WallTime::from_name(crate::evict::name_of(folder))
        } else {
            WallTime::from_name(&name)
        };
        let held = self.cameras.entry((camera.to_owned(), evidence)).or_default();
        held.files += 1;
        held.bytes = held.bytes.saturating_add(len);
        held.oldest = held.oldest.into_iter().chain(begun).min();
    }
}

/// Bytes that an ordinary process can still write on the file system of a folder.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| StoreError::io(folder, e))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
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
            ("capture/segment/door/2026-11-20", 3),
            ("spool/a", 40),
            ("spool/set-aside/b", 2),
            ("spool/kept/c", 5),
            ("backup", 50),
            ("set-aside/20261120T213114Z/faces", 60),
            ("relay/1", 4),
            ("relay/4", 2),
            ("watch", 8),
            ("elsewhere", 1000),
        ] {
            let folder = temp.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("file"), vec![0; len]).unwrap();
        }
        std::fs::write(temp.path().join("meerkat.db"), [0; 7]).unwrap();
        std::os::unix::fs::symlink(temp.path().join("elsewhere"), temp.path().join("capture/image/link"))
            .unwrap();
        let expected = Usage {
            image: 15,
            video: 20,
            clip: 30,
            segment: 3,
            spool: 47,
            database: 7,
            backup: 50,
            set_aside: 60,
            relay: 6,
            watch_log: 8,
        };
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
        assert_eq!(slow.kept_spools(), 5);
        assert!(steps > 10);
        assert_eq!(
            found.by_kind().iter().map(|(_, bytes)| bytes).sum::<u64>(),
            15 + 20 + 30 + 3 + 47 + 7 + 50 + 60 + 6 + 8 + link
        );
    }

    #[test]
    fn room_and_writability_are_seen() {
        let temp = tempfile::tempdir().unwrap();
        assert!(free_bytes(temp.path()).unwrap() > 0);
        assert!(free_bytes(&temp.path().join("missing")).is_err());
    }

    #[test]
    fn each_camera_is_told_what_it_has_and_since_when() {
        let temp = tempfile::tempdir().unwrap();
        for (path, len) in [
            ("capture/clip/door/2026-11-20/20261120T213114.000000Z_e.mp4", 10),
            ("capture/clip/door/2026-11-20/20261120T213114.000000Z_e.mp4.json", 1),
            ("capture/clip/door/2026-11-20/20261120T213114.000000Z_e.mp4.strip.jpg", 2),
            ("capture/clip/door/2026-11-20/20261120T213115.000000Z_e.jpg", 4),
            ("capture/image/yard/2026-11-21/20261121T000000.000000Z_b_1.jpg", 7),
            ("spool/set-aside/20261119T000000.000000Z_back_door_clip_0/frames", 9),
        ] {
            let path = temp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; len]).unwrap();
        }
        let mut walk = UsageWalk::new(temp.path());
        while walk.step(2).is_none() {}
        let found: Vec<_> = walk
            .cameras()
            .iter()
            .map(|((camera, sort), held)| {
                (camera.as_str(), sort.as_str(), held.files, held.bytes, held.oldest.unwrap().to_string())
            })
            .collect();
        let at = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                ("back_door", "spool", 1, 9, at("2026-11-19T00:00:00.000Z")),
                ("door", "clip", 3, 13, at("2026-11-20T21:31:14.000Z")),
                ("door", "snapshot", 1, 4, at("2026-11-20T21:31:15.000Z")),
                ("yard", "image", 1, 7, at("2026-11-21T00:00:00.000Z")),
            ]
        );
    }
}
