//! Removes files of evidence, with what stands beside them. Whose rows are marked is decided elsewhere; it blocks, and
//! never runs on the thread of the database.

use std::io;
use std::path::Path;

use crate::error::{Result, StoreError};
use crate::files::{Durability, Folder};
use crate::publish::{PROOF_ENDING, STRIP_ENDING};
use crate::sidecar::ENDING as SIDECAR_ENDING;
use crate::spool::{KEPT, SET_ASIDE};
use crate::verify::damaged_name;

/// Folders below `spool/` whose spools nobody works on.
pub(crate) const RESTING: [&str; 2] = [SET_ASIDE, KEPT];
/// What stands beside a clip, `<clip file><ending>`; the sidecar goes last.
const BESIDE: [&str; 3] = [STRIP_ENDING, PROOF_ENDING, SIDECAR_ENDING];

/// Removes what lies below a data folder; follows no link.
#[derive(Debug)]
pub struct Remover {
    root: Folder,
    durability: Durability,
    /// The folder of the last file, as most come from the same one.
    last: Option<(String, Folder)>,
    /// Folders in which something was removed since the last [`Remover::settle`].
    touched: Vec<String>,
}

impl Remover {
    /// Opens the data folder as it is now.
    pub fn new(data_dir: &Path, durability: Durability) -> Result<Self> {
        Ok(Self { root: Folder::existing(data_dir)?, durability, last: None, touched: Vec::new() })
    }

    /// Removes the file at a path relative to the data folder, with sidecar, strip and proof, or a whole spool. What
    /// is not there is fine. Returns the bytes that it had.
    pub fn remove(&mut self, path: &str) -> Result<u64> {
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Err(StoreError::Refused(format!("{path:?} is no evidence")));
        };
        crate::sql::check_relative(path)?;
        if path.starts_with("spool/") {
            return self.remove_spool(path);
        }
        if !path.starts_with("capture/") {
            return Err(StoreError::Refused(format!("{path:?} is no evidence")));
        }
        if self.last.as_ref().is_none_or(|(open, _)| open != parent) {
            self.last = match open(&self.root, parent) {
                Ok(folder) => Some((parent.to_owned(), folder)),
                Err(error) if is_gone(&error) => return Ok(0),
                Err(error) => return Err(error),
            };
            self.touched.push(parent.to_owned());
        }
        let Some((_, folder)) = &self.last else { return Ok(0) };
        let mut bytes = folder.len_of(name).unwrap_or(0);
        folder.remove(name)?;
        if !path.starts_with("capture/image/") && !name.ends_with(".jpg") {
            // What a repair put aside of it, as far as a repair counts. The last one first: what is left after a crash
            // is found again.
            let damaged = (0..1_000).map(|number| damaged_name(name, number));
            let found: Vec<_> =
                damaged.map_while(|damaged| Some((folder.len_of(&damaged)?, damaged))).collect();
            for (more, damaged) in found.iter().rev() {
                bytes = bytes.saturating_add(*more);
                folder.remove(damaged)?;
            }
            for ending in BESIDE {
                let beside = format!("{name}{ending}");
                bytes = bytes.saturating_add(folder.len_of(&beside).unwrap_or(0));
                folder.remove(&beside)?;
            }
        }
        Ok(bytes)
    }

    fn remove_spool(&self, path: &str) -> Result<u64> {
        let parts: Vec<&str> = path.split('/').collect();
        let [_, resting, name] = parts[..] else {
            return Err(StoreError::Refused(format!("{path:?} is no spool that rests")));
        };
        if !RESTING.contains(&resting) {
            return Err(StoreError::Refused(format!("{path:?} is no spool that rests")));
        }
        let folder = match open(&self.root, &format!("spool/{resting}")) {
            Ok(folder) => folder,
            Err(error) if is_gone(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut bytes = 0_u64;
        match folder.sub(name) {
            Ok(spool) => spool.each(|entry| {
                bytes = bytes.saturating_add(spool.len_of(&entry.name).unwrap_or(0));
                Ok(())
            })?,
            Err(error) if is_gone(&error) => return Ok(0),
            Err(error) => return Err(error),
        }
        folder.remove_sub(name)?;
        if self.durability.syncs() {
            folder.sync()?;
        }
        Ok(bytes)
    }

    /// Makes removals survive where that is promised, and removes folders of days before `today` (`2026-11-20`) that
    /// have become empty. To be called before the rows of what was removed go. Returns the folders in which removals may
    /// not survive, and why: rows of what was in them must stay. The others do not suffer from it.
    pub fn settle(&mut self, today: &str) -> Vec<(String, StoreError)> {
        self.last = None;
        let mut unsettled = Vec::new();
        for path in std::mem::take(&mut self.touched) {
            if let Err(error) = self.sync(&path) {
                unsettled.push((path, error));
                continue;
            }
            if let Some((camera, day)) = path.rsplit_once('/')
                && day < today
                && let Ok(folder) = open(&self.root, camera)
            {
                // Anything in it keeps it.
                folder.remove_empty(day);
            }
        }
        unsettled
    }

    /// Makes what was removed in a folder survive, where that is promised. One that is gone needs nothing.
    fn sync(&self, path: &str) -> Result<()> {
        if !self.durability.syncs() {
            return Ok(());
        }
        match open(&self.root, path) {
            Ok(folder) => folder.sync(),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the folder of a camera's day of pictures if it is empty.
    pub fn forget_day(&self, camera: &str, day: &str) {
        if let Ok(folder) = open(&self.root, &format!("capture/image/{camera}")) {
            folder.remove_empty(day);
        }
    }

    /// The path of what was made of a kept spool, relative to the data folder; none where it says nothing.
    pub fn made_of(&self, spool: &str) -> Result<Option<String>> {
        use io::Read;
        let file = match open(&self.root, spool).and_then(|folder| folder.read("made")) {
            Ok(file) => file,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(1024)
            .read_to_string(&mut text)
            .map_err(|e| StoreError::io(self.root.path().join(spool), e))?;
        Ok(Some(text))
    }
}

/// The last part of a path.
pub fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Opens a folder below another, step by step, following no link.
pub(crate) fn open(root: &Folder, path: &str) -> Result<Folder> {
    let mut parts = path.split('/');
    let first = root.sub(parts.next().unwrap_or_default())?;
    parts.try_fold(first, |folder, part| folder.sub(part))
}

/// Whether a file or folder is simply not there.
pub(crate) fn is_gone(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, path: &str, bytes: usize) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![0; bytes]).unwrap();
    }

    #[test]
    fn files_go_with_what_stands_beside_them_and_empty_days_too() {
        for durability in [Durability::Process, Durability::Power] {
            let temp = tempfile::tempdir().unwrap();
            let day = "capture/clip/door/2026-11-20";
            for (name, bytes) in [
                ("a.mp4", 10),
                ("a.mp4.json", 5),
                ("a.mp4.strip.jpg", 3),
                ("a.mp4.proof", 4),
                ("a.mp4.damaged", 100),
                ("a.mp4.1.damaged", 200),
                ("a.jpg", 2),
                ("b.mp4", 1),
            ] {
                put(temp.path(), &format!("{day}/{name}"), bytes);
            }
            put(temp.path(), "capture/image/door/2026-11-21/x.jpg", 4);
            let mut remover = Remover::new(temp.path(), durability).unwrap();
            assert_eq!(remover.remove(&format!("{day}/a.mp4")).unwrap(), 322);
            assert_eq!(remover.remove(&format!("{day}/a.mp4")).unwrap(), 0, "gone already");
            // One that cannot be removed: those before it stay, so that all of them are found again.
            for (name, bytes) in [("c.mp4.damaged", 7), ("c.mp4.2.damaged", 9)] {
                put(temp.path(), &format!("{day}/{name}"), bytes);
            }
            std::fs::create_dir(temp.path().join(day).join("c.mp4.1.damaged")).unwrap();
            assert!(remover.remove(&format!("{day}/c.mp4")).is_err());
            std::fs::remove_dir(temp.path().join(day).join("c.mp4.1.damaged")).unwrap();
            put(temp.path(), &format!("{day}/c.mp4.1.damaged"), 8);
            assert_eq!(remover.remove(&format!("{day}/c.mp4")).unwrap(), 15);
            assert_eq!(remover.remove("capture/clip/nobody/2026-11-20/a.mp4").unwrap(), 0);
            assert!(remover.settle("2026-11-21").is_empty());
            let left: Vec<_> = std::fs::read_dir(temp.path().join(day)).unwrap().collect();
            assert_eq!(left.len(), 2, "the snapshot and the other clip");
            for name in ["a.jpg", "b.mp4"] {
                remover.remove(&format!("{day}/{name}")).unwrap();
            }
            assert_eq!(remover.remove("capture/image/door/2026-11-21/x.jpg").unwrap(), 4);
            assert!(remover.settle("2026-11-21").is_empty());
            assert!(!temp.path().join(day).exists() && temp.path().join("capture/clip/door").exists());
            assert!(temp.path().join("capture/image/door/2026-11-21").exists(), "today's folder stays");
        }
    }

    #[cfg(feature = "fault-injection")]
    #[test]
    fn a_folder_that_cannot_be_synced_is_named_and_the_others_are_settled() {
        use crate::fault::{DiskOp, plan_here};

        const EIO: i32 = 5;
        let temp = tempfile::tempdir().unwrap();
        let days = ["capture/clip/door/2026-11-19", "capture/clip/door/2026-11-20"];
        let mut remover = Remover::new(temp.path(), Durability::Power).unwrap();
        for day in days {
            put(temp.path(), &format!("{day}/a.mp4"), 1);
            assert_eq!(remover.remove(&format!("{day}/a.mp4")).unwrap(), 1);
        }
        plan_here(DiskOp::Sync, EIO, 0, 1);
        let unsettled: Vec<String> =
            remover.settle("2026-11-21").into_iter().map(|(folder, _)| folder).collect();
        assert_eq!(unsettled, [days[0]]);
        assert!(temp.path().join(days[0]).exists() && !temp.path().join(days[1]).exists());
        // Later it can be.
        assert_eq!(remover.remove(&format!("{}/a.mp4", days[0])).unwrap(), 0);
        assert!(remover.settle("2026-11-21").is_empty());
        assert!(!temp.path().join(days[0]).exists());
    }

    #[test]
    fn spools_that_rest_go_and_nothing_else_does() {
        let temp = tempfile::tempdir().unwrap();
        for path in
            ["spool/set-aside/20261121T_b/frames", "spool/kept/20261120T_a/frames", "spool/live/frames"]
        {
            put(temp.path(), path, 7);
        }
        put(temp.path(), "spool/kept/20261120T_a/made", 0);
        std::fs::write(temp.path().join("spool/kept/20261120T_a/made"), "capture/clip/a.mp4").unwrap();
        put(temp.path(), "meerkat.db", 1);
        let outside = tempfile::tempdir().unwrap();
        put(outside.path(), "x.mp4", 1);
        std::os::unix::fs::symlink(outside.path(), temp.path().join("capture")).unwrap();
        let mut remover = Remover::new(temp.path(), Durability::Process).unwrap();
        let resting = ["spool/kept/20261120T_a", "spool/set-aside/20261121T_b"];
        assert_eq!(remover.made_of(resting[0]).unwrap().as_deref(), Some("capture/clip/a.mp4"));
        assert_eq!(remover.made_of(resting[1]).unwrap(), None);
        assert_eq!(remover.remove(resting[1]).unwrap(), 7);
        for wrong in [
            "meerkat.db",
            "spool/live",
            "spool/live/frames",
            "faces/x",
            "capture/../meerkat.db",
            "capture/x.mp4",
        ] {
            assert!(remover.remove(wrong).is_err(), "{wrong}");
        }
        assert!(temp.path().join("spool/live/frames").exists() && temp.path().join("meerkat.db").exists());
        assert!(outside.path().join("x.mp4").exists());
    }
}
