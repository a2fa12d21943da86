//! Gives clips, videos and snapshots their final names once they are complete, and never before. The
//! encoder writes to a temporary name in the same folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meerkat_base::{CameraId, WallTime};

use crate::capture::{CaptureKind, DayFolder, DayFolders, check_stem};
use crate::error::{Result, StoreError};
use crate::evidence::sha256_of_file;
use crate::fault::{self, DiskOp};
use crate::files::{BootId, Durability};

/// Hands out places for files of one kind under `capture/<kind>/<camera>/<UTC date>/`.
#[derive(Debug)]
pub struct CaptureFiles {
    days: DayFolders,
    boot: BootId,
}

/// Ends the name of a clip's preview strip: `<clip file>.strip.jpg`.
pub const STRIP_ENDING: &str = ".strip.jpg";
/// Ends the name of a clip's signed proof: `<clip file>.proof`.
pub const PROOF_ENDING: &str = ".proof";

/// A file that is being written. Dropped without [`PendingFile::publish`] it is removed.
#[derive(Debug)]
pub struct PendingFile {
    day: Arc<DayFolder>,
    part: String,
    name: String,
    path: PathBuf,
    durability: Durability,
    open: bool,
}

/// A complete file under its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// Path relative to the data folder, with `/` between its parts: what rows hold.
    pub relative: String,
    /// Absolute path.
    pub path: PathBuf,
    /// Size in bytes, at least 1.
    pub bytes: u64,
}

impl CaptureFiles {
    /// Makes the data folder if it is missing.
    pub fn new(data_dir: &Path, kind: CaptureKind, boot: BootId, durability: Durability) -> Result<Self> {
        Ok(Self { days: DayFolders::new(data_dir, kind, durability)?, boot })
    }

    /// Begins a file. `stem` and `extension` make its name and hold only letters, digits, `_`, `-` and
    /// `.`. The file exists, empty, under a temporary name with the same ending.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the final name is taken: as no file gets its final name before it is
    /// complete, that work is done already. It outlives whatever is promised by then.
    pub fn begin(
        &mut self,
        camera: &CameraId,
        at: WallTime,
        stem: &str,
        extension: &str,
    ) -> Result<PendingFile> {
        let name = format!("{stem}.{extension}");
        check_stem(&name)?;
        let part = self.boot.part_name(&name);
        let durability = self.days.durability();
        let begin = |day: &DayFolder| {
            if day.folder.has(&name) {
                if durability.syncs() {
                    // Whoever gave the name may have been lost before it was on the disk.
                    day.folder.sync()?;
                }
                return Err(StoreError::Exists { path: day.folder.path().join(&name) });
            }
            day.folder.create_new(&part).map(drop)
        };
        let mut day = self.days.get(camera, at)?;
        if begin(&day).is_err() {
            // The folder may have been removed under us; any other error comes again.
            self.days.forget(camera);
            day = self.days.get(camera, at)?;
            begin(&day)?;
        }
        let path = day.folder.path().join(&part);
        Ok(PendingFile { day, part, name, path, durability, open: true })
    }

    /// Stores a small file beside one that is not published yet; its name is that of the file and `ending`. Replaces
    /// what an attempt that came no further left there.
    pub fn store_beside(&mut self, pending: &PendingFile, ending: &str, bytes: &[u8]) -> Result<()> {
        let name = format!("{}{ending}", pending.name);
        check_stem(&name)?;
        pending.day.folder.remove(&name)?;
        let part = self.boot.part_name(&name);
        pending.day.folder.write_new(&part, bytes, pending.durability)?;
        let named = pending.day.folder.rename_new(&part, &pending.day.folder, &name);
        if named.is_err() {
            pending.day.folder.remove_quietly(&part);
        }
        named
    }

    /// Stores a small file that is already in memory, such as a snapshot.
    pub fn store(
        &mut self,
        camera: &CameraId,
        at: WallTime,
        stem: &str,
        extension: &str,
        bytes: &[u8],
    ) -> Result<PublishedFile> {
        let pending = self.begin(camera, at, stem, extension)?;
        let written = fault::point(DiskOp::Write).and_then(|()| std::fs::write(pending.path(), bytes));
        written.map_err(|e| StoreError::io(pending.path(), e))?;
        pending.publish()
    }
}

impl PendingFile {
    /// Where to write, absolute. The file is there and has mode 0600; it may be truncated, not replaced.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path that it gets, relative to the data folder.
    pub fn relative(&self) -> String {
        format!("{}/{}", self.day.relative, self.name)
    }

    /// SHA-256 of what was written, in hexadecimal.
    pub fn sha256(&self) -> Result<String> {
        let file = self.day.folder.read(&self.part)?;
        sha256_of_file(file).map_err(|e| StoreError::io(&self.path, e))
    }

    /// Gives the file its final name. When that fails it is removed; when only its folder cannot be synced it keeps the
    /// name: it is whole, and the next attempt finds it there and promises it in its turn.
    pub fn publish(mut self) -> Result<PublishedFile> {
        let file = self.day.folder.read(&self.part)?;
        let bytes = file.metadata().map_err(|e| StoreError::io(&self.path, e))?.len();
        if bytes == 0 {
            return Err(StoreError::Refused(format!("{} is empty", self.path.display())));
        }
        if self.durability.syncs() {
            file.sync_all().map_err(|e| StoreError::io(&self.path, e))?;
        }
        self.day.folder.rename_new(&self.part, &self.day.folder, &self.name)?;
        self.open = false;
        if self.durability.syncs() {
            self.day.folder.sync()?;
        }
        let relative = self.relative();
        Ok(PublishedFile { relative, path: self.day.folder.path().join(&self.name), bytes })
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if self.open {
            self.day.folder.remove_quietly(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const AT: WallTime = WallTime(1_795_210_274_123_456);

    fn files(folder: &Path, durability: Durability) -> (CaptureFiles, CameraId) {
        let boot = BootId::parse("b7").unwrap();
        let files = CaptureFiles::new(folder, CaptureKind::Clip, boot, durability).unwrap();
        (files, CameraId::parse("door").unwrap())
    }

    fn names(folder: &Path) -> Vec<String> {
        let listing = std::fs::read_dir(folder.join("capture/clip/door/2026-11-20")).unwrap();
        let mut names: Vec<_> = listing.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_clip_appears_only_when_it_is_complete() {
        for durability in [Durability::Process, Durability::Power] {
            let temp = tempfile::tempdir().unwrap();
            let (mut files, door) = files(temp.path(), durability);
            let pending = files.begin(&door, AT, "a", "mp4").unwrap();
            std::fs::write(pending.path(), b"half").unwrap();
            let part = names(temp.path()).remove(0);
            assert!(part.starts_with(".part-b7-") && part.ends_with("-a.mp4"), "{part}");
            std::fs::write(pending.path(), b"whole clip").unwrap();
            let clip = pending.publish().unwrap();
            assert_eq!((clip.relative.as_str(), clip.bytes), ("capture/clip/door/2026-11-20/a.mp4", 10));
            assert_eq!(std::fs::metadata(&clip.path).unwrap().permissions().mode() & 0o7777, 0o600);
            files.store(&door, AT, "a", "jpg", b"snapshot").unwrap();
            assert_eq!(names(temp.path()), ["a.jpg", "a.mp4"]);
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (mut files, door) = files(temp.path(), Durability::Process);
        drop(files.begin(&door, AT, "a", "mp4").unwrap());
        assert!(files.begin(&door, AT, "a", "mp4").unwrap().publish().is_err(), "an empty file is no clip");
        assert_eq!(names(temp.path()), [""; 0]);
        assert!(files.begin(&door, AT, "../a", "mp4").is_err());
    }

    #[cfg(feature = "fault-injection")]
    #[test]
    fn a_file_that_has_its_name_keeps_it_and_is_promised_once_its_folder_is_on_the_disk() {
        use crate::fault::{DiskOp, plan_here};
        const EIO: i32 = 5;
        let temp = tempfile::tempdir().unwrap();
        let (mut files, door) = files(temp.path(), Durability::Power);
        let pending = files.begin(&door, AT, "a", "mp4").unwrap();
        std::fs::write(pending.path(), b"whole clip").unwrap();
        plan_here(DiskOp::Sync, EIO, 0, 1);
        assert!(matches!(pending.publish(), Err(StoreError::Io { .. })));
        assert_eq!(names(temp.path()), ["a.mp4"], "another attempt may have found and booked it meanwhile");
        plan_here(DiskOp::Sync, EIO, 0, 100);
        assert!(matches!(files.begin(&door, AT, "a", "mp4"), Err(StoreError::Io { .. })));
        plan_here(DiskOp::Sync, EIO, 0, 0);
        assert!(matches!(files.begin(&door, AT, "a", "mp4"), Err(StoreError::Exists { .. })));
    }

    #[test]
    fn a_name_is_used_once() {
        let temp = tempfile::tempdir().unwrap();
        let (mut files, door) = files(temp.path(), Durability::Process);
        let slow = files.begin(&door, AT, "a", "mp4").unwrap();
        std::fs::write(slow.path(), b"slow").unwrap();
        // Another attempt, because the first was given up: neither touches the other's file.
        let first = files.begin(&door, AT, "a", "mp4").unwrap();
        std::fs::write(first.path(), b"first").unwrap();
        first.publish().unwrap();
        assert!(matches!(slow.publish(), Err(StoreError::Exists { .. })));
        assert!(matches!(files.begin(&door, AT, "a", "mp4"), Err(StoreError::Exists { .. })));
        assert_eq!(names(temp.path()), ["a.mp4"]);
        assert_eq!(std::fs::read(temp.path().join("capture/clip/door/2026-11-20/a.mp4")).unwrap(), b"first");
    }
}
