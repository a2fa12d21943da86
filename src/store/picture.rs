//! Mode 1: stores pictures unchanged, each complete under its final name before the call returns.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meerkat_base::{CameraId, Frame, WallTime};

use crate::capture::{CaptureKind, DayFolder, DayFolders};
use crate::error::{Result, StoreError};
use crate::files::{BootId, Durability, write_through};

/// Writes pictures to `capture/image/<camera>/<UTC date>/<UTC time>_<boot id>_<sequence>.<ending>`.
/// Several of them may work in the same data folder.
#[derive(Debug)]
pub struct PictureStore {
    days: DayFolders,
    boot: BootId,
    prepared: Option<Prepared>,
    /// Cleared when files without names prove to be of no use here.
    prepares: bool,
}

/// An empty file without a name, made for the next picture while nobody waits. Unused, it goes with its handle.
#[derive(Debug)]
struct Prepared {
    day: Arc<DayFolder>,
    file: File,
}

impl PictureStore {
    /// Makes the data folder if it is missing.
    pub fn new(data_dir: &Path, boot: BootId, durability: Durability) -> Result<Self> {
        Ok(Self {
            days: DayFolders::new(data_dir, CaptureKind::Image, durability)?,
            boot,
            prepared: None,
            prepares: true,
        })
    }

    /// Makes the file for the camera's next picture ahead of time, without a name: making a file takes about as
    /// long as writing a small picture, and now nobody waits for it. Where that does not work it does nothing.
    pub fn prepare(&mut self, camera: &CameraId, at: WallTime) {
        if !self.prepares {
            return;
        }
        let Ok(day) = self.days.get(camera, at) else { return };
        if self.prepared.as_ref().is_some_and(|prepared| Arc::ptr_eq(&prepared.day, &day)) {
            return;
        }
        match day.folder.create_unnamed() {
            Ok(file) => self.prepared = Some(Prepared { day, file }),
            Err(StoreError::Io { source, .. }) if is_unsupported(&source) => self.prepares = false,
            // A folder that is gone, for example: dealt with when the picture comes.
            Err(_) => {}
        }
    }

    /// Lets go of what [`PictureStore::prepare`] made: no picture is expected soon.
    pub fn rest(&mut self) {
        self.prepared = None;
    }

    /// Stores one picture and returns its path relative to the data folder. When it fails nothing is left behind,
    /// except that in `power` mode a picture whose folder could not be synced keeps its name: it is whole, and another
    /// thread that was given the same picture may have promised it by now.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken; what has it outlives whatever is promised by then.
    pub fn store(&mut self, frame: &Frame) -> Result<PathBuf> {
        let time = frame.wall.compact();
        let name = format!("{time}_{}_{}.{}", self.boot.as_str(), frame.seq, frame.format.extension());
        let day = self.days.get(&frame.camera, frame.wall)?;
        let stored = match self.write(&day, &name, frame) {
            // The folder was removed under us (an old day, tidied away): make it again, once.
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.days.forget(&frame.camera);
                let day = self.days.get(&frame.camera, frame.wall)?;
                self.write(&day, &name, frame)
            }
            other => other,
        };
        if stored.is_err() {
            self.days.forget(&frame.camera);
        }
        stored.map(|()| Path::new(&day.relative).join(name))
    }

    /// Order for `power`: bytes, sync of the file, name, sync of the folder. The parents were synced
    /// when the folder was opened.
    fn write(&mut self, day: &Arc<DayFolder>, name: &str, frame: &Frame) -> Result<()> {
        let prepared = self.prepared.take().filter(|prepared| Arc::ptr_eq(&prepared.day, day));
        let written = match prepared {
            Some(prepared) => self.write_prepared(day, prepared.file, name, frame),
            None => self.write_part(day, name, frame),
        };
        // Also of a name that was taken: whoever gave it may have been lost before it was on the disk.
        if self.days.durability().syncs() && matches!(written, Ok(()) | Err(StoreError::Exists { .. })) {
            day.folder.sync()?;
        }
        written
    }

    fn write_prepared(&mut self, day: &DayFolder, mut file: File, name: &str, frame: &Frame) -> Result<()> {
        let written = write_through(&mut file, &frame.bytes, self.days.durability());
        written.map_err(|e| StoreError::io(day.folder.path().join(name), e))?;
        match day.folder.name_new(&file, name) {
            Err(StoreError::Io { .. }) => {
                self.write_part(day, name, frame)?;
                // So it was the naming alone that failed, as it does without /proc.
                self.prepares = false;
                Ok(())
            }
            named => named,
        }
    }

    fn write_part(&self, day: &DayFolder, name: &str, frame: &Frame) -> Result<()> {
        let part = self.boot.part_name(name);
        day.folder.write_new(&part, &frame.bytes, self.days.durability())?;
        if let Err(error) = day.folder.rename_new(&part, &day.folder, name) {
            day.folder.remove_quietly(&part);
            return Err(error);
        }
        Ok(())
    }
}

/// What open(2) says where there are no files without names.
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, Unsupported};
    matches!(error.kind(), Unsupported | IsADirectory | InvalidInput)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use meerkat_base::{CameraId, ImageFormat};

    use super::*;
    use crate::testing::frame;

    fn pictures(folder: &Path, durability: Durability) -> PictureStore {
        PictureStore::new(folder, BootId::parse("b7").unwrap(), durability).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn pictures_are_stored_unchanged_under_names_that_say_when() {
        for durability in [Durability::Process, Durability::Power] {
            let temp = tempfile::tempdir().unwrap();
            let mut store = pictures(temp.path(), durability);
            let stored = store.store(&frame(3, &b"\xff\xd8picture"[..])).unwrap();
            assert_eq!(
                stored.to_str().unwrap(),
                "capture/image/door/2026-11-20/20261120T213114.273456Z_b7_3.jpg"
            );
            assert_eq!(std::fs::read(temp.path().join(&stored)).unwrap(), b"\xff\xd8picture");
            let mut png = frame(4, &b"png"[..]);
            png.format = ImageFormat::Png;
            png.camera = CameraId::unnamed("fe80::1".parse().unwrap(), 2);
            let stored = store.store(&png).unwrap();
            assert!(stored.starts_with("capture/image/fe80--1_2") && stored.extension().unwrap() == "png");

            let mut path = temp.path().to_path_buf();
            for part in ["capture", "image", "door", "2026-11-20"] {
                path.push(part);
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
            }
            let file = path.join(&names(&path)[0]);
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn midnight_begins_a_new_folder_and_a_jump_back_finds_the_old_one() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = pictures(temp.path(), Durability::Process);
        let mut picture = frame(1, &b"x"[..]);
        for (seq, offset) in [(1, 0), (2, 86_400_000_000), (3, 0)] {
            picture.seq = seq;
            picture.wall = frame(1, "").wall.offset_micros(offset);
            store.store(&picture).unwrap();
        }
        let camera = temp.path().join("capture/image/door");
        assert_eq!(names(&camera), ["2026-11-20", "2026-11-21"]);
        assert_eq!(names(&camera.join("2026-11-20")).len(), 2);
    }

    #[test]
    fn nothing_is_overwritten_and_a_refused_picture_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = pictures(temp.path(), Durability::Process);
        let stored = store.store(&frame(1, &b"first"[..])).unwrap();
        assert!(matches!(store.store(&frame(1, &b"second"[..])), Err(StoreError::Exists { .. })));
        assert_eq!(std::fs::read(temp.path().join(&stored)).unwrap(), b"first");
        assert_eq!(names(temp.path().join(&stored).parent().unwrap()).len(), 1);
    }

    #[test]
    fn a_prepared_file_becomes_the_next_picture_of_its_day_and_is_never_seen() {
        for durability in [Durability::Process, Durability::Power] {
            let temp = tempfile::tempdir().unwrap();
            let mut store = pictures(temp.path(), durability);
            let first = frame(1, &b"first"[..]);
            let day = temp.path().join("capture/image/door/2026-11-20");
            store.prepare(&first.camera, first.wall);
            // Not every file system has files without names; everything else holds there too.
            let supported = store.prepares;
            assert_eq!((store.prepared.is_some(), names(&day)), (supported, vec![]));
            let stored = store.store(&first).unwrap();
            assert_eq!(names(&day), [stored.file_name().unwrap().to_str().unwrap()]);
            assert_eq!(std::fs::read(temp.path().join(&stored)).unwrap(), b"first");
            let mode = std::fs::metadata(temp.path().join(&stored)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
            assert_eq!((store.prepared.is_some(), store.prepares), (false, supported), "it was of use");

            // The next picture is of tomorrow, or of another camera.
            for (offset, camera) in [(86_400_000_000, "door"), (86_400_000_000, "yard")] {
                store.prepare(&first.camera, first.wall);
                let mut other = frame(2, &b"other"[..]);
                (other.wall, other.camera) =
                    (first.wall.offset_micros(offset), CameraId::parse(camera).unwrap());
                let stored = store.store(&other).unwrap();
                assert_eq!(std::fs::read(temp.path().join(stored)).unwrap(), b"other");
                assert_eq!((names(&day).len(), store.prepares), (1, supported));
            }

            // The name is taken.
            store.prepare(&first.camera, first.wall);
            assert!(matches!(store.store(&frame(1, &b"again"[..])), Err(StoreError::Exists { .. })));
            assert_eq!(std::fs::read(temp.path().join(&stored)).unwrap(), b"first");

            store.prepare(&first.camera, first.wall);
            store.rest();
            assert!(store.prepared.is_none());
            // Somebody tidied the folder away while a file for it was ready.
            store.prepare(&first.camera, first.wall);
            std::fs::remove_dir_all(&day).unwrap();
            let stored = store.store(&first).unwrap();
            assert_eq!(std::fs::read(temp.path().join(stored)).unwrap(), b"first");
            assert_eq!((names(&day).len(), store.prepares), (1, supported));
        }
    }

    #[cfg(feature = "fault-injection")]
    #[test]
    fn a_picture_that_has_its_name_keeps_it_and_is_not_taken_for_stored_before_its_folder_is_on_the_disk() {
        use crate::fault::{DiskOp, plan_here};
        const EIO: i32 = 5;
        // Opening the day syncs its four parents; then come the picture and the folder.
        const OF_THE_PARENTS: u32 = 4;
        let temp = tempfile::tempdir().unwrap();
        let mut store = pictures(temp.path(), Durability::Power);
        let picture = frame(1, &b"x"[..]);
        plan_here(DiskOp::Sync, EIO, OF_THE_PARENTS + 1, 1);
        assert!(matches!(store.store(&picture), Err(StoreError::Io { .. })));
        let day = temp.path().join("capture/image/door/2026-11-20");
        let there = names(&day);
        assert_eq!(there.len(), 1, "whoever was given the same picture may have promised it meanwhile");
        assert_eq!(std::fs::read(day.join(&there[0])).unwrap(), b"x");
        // The next generation finds it, and must not promise it unless its name lasts.
        plan_here(DiskOp::Sync, EIO, OF_THE_PARENTS + 1, 1);
        assert!(matches!(store.store(&picture), Err(StoreError::Io { .. })));
        assert!(matches!(store.store(&picture), Err(StoreError::Exists { .. })));
        assert_eq!(names(&day), there);
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let temp = tempfile::tempdir().unwrap();
        let mut store = pictures(temp.path(), Durability::Process);
        store.store(&frame(1, &b"x"[..])).unwrap();
        std::fs::remove_dir_all(temp.path().join("capture/image/door")).unwrap();
        let stored = store.store(&frame(2, &b"y"[..])).unwrap();
        assert_eq!(std::fs::read(temp.path().join(stored)).unwrap(), b"y");
    }

    #[test]
    fn links_in_the_path_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        for link in ["capture", "capture/image", "capture/image/door", "capture/image/door/2026-11-20"] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join(link);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(outside.path(), &path).unwrap();
            let refused = pictures(temp.path(), Durability::Process).store(&frame(1, &b"x"[..])).unwrap_err();
            assert!(matches!(refused, StoreError::NotAFolder { .. }), "{link}: {refused}");
        }
        assert_eq!(names(outside.path()), [""; 0]);
    }
}
