//! Mode 1: stores pictures unchanged, each complete under its final name before the call returns.

use std::io;
use std::path::{Path, PathBuf};

use meerkat_base::Frame;

use crate::capture::{CaptureKind, DayFolder, DayFolders};
use crate::error::{Result, StoreError};
use crate::files::{BootId, Durability};

/// Writes pictures to `capture/image/<camera>/<UTC date>/<UTC time>_<boot id>_<sequence>.<ending>`.
/// Several of them may work in the same data folder.
#[derive(Debug)]
pub struct PictureStore {
    days: DayFolders,
    boot: BootId,
}

impl PictureStore {
    /// Makes the data folder if it is missing.
    pub fn new(data_dir: &Path, boot: BootId, durability: Durability) -> Result<Self> {
        Ok(Self { days: DayFolders::new(data_dir, CaptureKind::Image, durability)?, boot })
    }

    /// Stores one picture and returns its path relative to the data folder. When it fails nothing is
    /// left behind, neither under the final name nor under the temporary one.
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

    /// Order for `power`: bytes, sync of the file, rename, sync of the folder. The parents were synced
    /// when the folder was opened.
    fn write(&self, day: &DayFolder, name: &str, frame: &Frame) -> Result<()> {
        let part = self.boot.part_name(name);
        day.folder.write_new(&part, &frame.bytes, self.days.durability())?;
        if let Err(error) = day.folder.rename_new(&part, &day.folder, name) {
            day.folder.remove_quietly(&part);
            return Err(error);
        }
        if self.days.durability().syncs()
            && let Err(error) = day.folder.sync()
        {
            day.folder.remove_quietly(name);
            return Err(error);
        }
        Ok(())
    }
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
