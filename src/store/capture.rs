//! Where finished pictures, clips and videos lie: `capture/<kind>/<camera>/<UTC date>/`. Also finds the
//! unfinished files that a crash left there. What is in the files is not its business.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use meerkat_base::{CameraId, WallTime};

use crate::error::{Result, StoreError};
use crate::files::{BootId, Durability, Folder};

const CAPTURE: &str = "capture";
/// Day folders kept open at most; each costs a file descriptor.
const OPEN_DAYS: usize = 128;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CaptureKind {
    /// Pictures of mode 1, unchanged.
    Image,
    /// Clips of events, with their snapshots.
    Clip,
    /// Videos of mode 2.
    Video,
    /// What a camera recorded without a break, cut into segments.
    Segment,
}

impl CaptureKind {
    /// Every kind.
    pub const ALL: [CaptureKind; 4] =
        [CaptureKind::Image, CaptureKind::Clip, CaptureKind::Video, CaptureKind::Segment];

    /// Name of the folder under `capture/`.
    pub fn as_str(self) -> &'static str {
        match self {
            CaptureKind::Image => "image",
            CaptureKind::Clip => "clip",
            CaptureKind::Video => "video",
            CaptureKind::Segment => "segment",
        }
    }
}

/// The folder of one camera's day, held open.
#[derive(Debug)]
pub(crate) struct DayFolder {
    pub folder: Folder,
    /// Path relative to the data folder.
    pub relative: String,
}

/// Opens the folders of days and keeps the current one of each camera open.
#[derive(Debug)]
pub(crate) struct DayFolders {
    root: Folder,
    kind: CaptureKind,
    durability: Durability,
    open: HashMap<CameraId, (i64, Arc<DayFolder>)>,
}

impl DayFolders {
    pub fn new(data_dir: &Path, kind: CaptureKind, durability: Durability) -> Result<Self> {
        Ok(Self { root: Folder::existing(data_dir)?, kind, durability, open: HashMap::new() })
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The folder for a camera at a moment, made if it is missing.
    pub fn get(&mut self, camera: &CameraId, at: WallTime) -> Result<Arc<DayFolder>> {
        let day = at.0.div_euclid(MICROS_PER_DAY);
        if let Some((open_day, folder)) = self.open.get(camera)
            && *open_day == day
        {
            return Ok(Arc::clone(folder));
        }
        let opened = Arc::new(self.open_day(camera, at)?);
        if self.open.len() >= OPEN_DAYS {
            self.open.clear();
        }
        self.open.insert(camera.clone(), (day, Arc::clone(&opened)));
        Ok(opened)
    }

    /// Lets go of a camera's folder: somebody removed it, or syncing it failed.
    pub fn forget(&mut self, camera: &CameraId) {
        self.open.remove(camera);
    }

    fn open_day(&self, camera: &CameraId, at: WallTime) -> Result<DayFolder> {
        let (camera_name, date) = (camera.folder(), at.date());
        let capture = self.root.make_sub(CAPTURE)?;
        let kind = capture.make_sub(self.kind.as_str())?;
        let camera_folder = kind.make_sub(&camera_name)?;
        let folder = camera_folder.make_sub(&date)?;
        if self.durability.syncs() {
            // Every parent each time, not only new ones: a crash or a failed sync may have left a folder
            // that is there but not on the disk.
            for parent in [&camera_folder, &kind, &capture, &self.root] {
                parent.sync()?;
            }
        }
        Ok(DayFolder { folder, relative: format!("{CAPTURE}/{}/{camera_name}/{date}", self.kind.as_str()) })
    }
}

/// Removes the unfinished files that other runs of the node left under `capture/`, and returns how many.
/// Files of the run `boot` are spared, so it may run beside the node; it reads every name there is,
/// which takes a while after months. A folder that cannot be read is skipped and logged.
pub fn clean_temporaries(data_dir: &Path, boot: &BootId) -> Result<usize> {
    let root = Folder::existing(data_dir)?;
    let mut removed = 0;
    if root.has(CAPTURE) {
        // capture / kind / camera / date
        clean(&root.sub(CAPTURE)?, 3, boot, &mut removed)?;
    }
    Ok(removed)
}

fn clean(folder: &Folder, depth: u8, boot: &BootId, removed: &mut usize) -> Result<()> {
    folder.each(|entry| {
        if entry.is_folder && depth > 0 {
            let cleaned = folder.sub(&entry.name).and_then(|sub| clean(&sub, depth - 1, boot, removed));
            if let Err(error) = cleaned {
                tracing::warn!(%error, "cannot look for unfinished files");
            }
        } else if !entry.is_folder && boot.is_foreign_part(&entry.name) {
            folder.remove(&entry.name)?;
            *removed += 1;
        }
        Ok(())
    })
}

/// Whether there is a sidecar anywhere. Looks no further than the first.
pub(crate) fn has_sidecar(root: &Folder) -> Result<bool> {
    if !root.has(CAPTURE) {
        return Ok(false);
    }
    let mut found = false;
    let _ = each_file(&root.sub(CAPTURE)?, 3, &mut |_, name| {
        found = name.ends_with(".mp4.json");
        // An error is the way out.
        if found { Err(StoreError::Refused(String::new())) } else { Ok(()) }
    });
    Ok(found)
}

/// Calls `visit` with each file below a folder and its path from there, `depth` folders deep; what cannot be read is
/// logged and left out. Only an error of `visit` ends it.
pub(crate) fn each_file(
    folder: &Folder,
    depth: u8,
    visit: &mut dyn FnMut(&Folder, &str) -> Result<()>,
) -> Result<()> {
    for entry in folder.entries()? {
        if entry.is_folder {
            if depth == 0 {
                continue;
            }
            match folder.sub(&entry.name) {
                Ok(sub) => each_file(&sub, depth - 1, visit)?,
                Err(error) => tracing::warn!(%error, "a folder is left out"),
            }
        } else {
            visit(folder, &entry.name)?;
        }
    }
    Ok(())
}

/// Refuses what cannot be a part of a file name of ours.
pub(crate) fn check_stem(stem: &str) -> Result<()> {
    let fits = (1..=128).contains(&stem.len())
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && !stem.starts_with('.');
    if fits { Ok(()) } else { Err(StoreError::Refused(format!("{stem:?} cannot be the name of a file"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_files_of_other_runs_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let boot = BootId::parse("new").unwrap();
        assert_eq!(clean_temporaries(temp.path(), &boot).unwrap(), 0);
        let day = temp.path().join("capture/image/door/2026-11-20");
        std::fs::create_dir_all(&day).unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join(".part-old-x.jpg"), b"x").unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("capture/image/link")).unwrap();
        for name in ["a.jpg", ".part-old-b.jpg", ".part-new-c.jpg", ".hidden"] {
            std::fs::write(day.join(name), b"x").unwrap();
        }
        assert_eq!(clean_temporaries(temp.path(), &boot).unwrap(), 1);
        assert!(!day.join(".part-old-b.jpg").exists());
        assert_eq!(std::fs::read_dir(&day).unwrap().count(), 3);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "links are not followed");
    }

    #[test]
    fn stems_are_plain() {
        assert!(check_stem("20261120T213114.123456Z_018f-ab").is_ok());
        for bad in ["", ".hidden", "a/b", "a b", "é", &"x".repeat(129)] {
            assert!(check_stem(bad).is_err(), "{bad:?}");
        }
    }
}
