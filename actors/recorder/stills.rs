//! The single pictures that a recorder stores: those of mode 1, and the snapshots of events. What holds folders open is
//! opened when it is needed, and anew when the disk failed or came back on another mount.

use meerkat_base::{CameraId, Event, Frame, WallTime};
use meerkat_store::confine::read_picture;
use meerkat_store::{CaptureFiles, CaptureKind, PictureStore, PublishedFile, StoreError};
use tracing::warn;

use super::encoder::Places;
use super::link::SnapshotFile;
use crate::camera::Camera;

/// Stores single pictures.
#[derive(Default)]
pub(super) struct Stills {
    pictures: Option<PictureStore>,
    snapshots: Option<CaptureFiles>,
    /// The mount of the data folder that they were opened on; 0 before the first look.
    mount: u64,
}

impl Stills {
    /// The data folder is on this mount. True when it was on another one before.
    pub fn on_mount(&mut self, mount: u64) -> bool {
        let before = self.mount;
        if mount != before {
            *self = Self { mount, ..Self::default() };
        }
        mount != before && before != 0
    }

    /// Stores a picture of mode 1.
    pub fn picture(&mut self, places: &Places, frame: &Frame) -> Result<(), StoreError> {
        let pictures = match &mut self.pictures {
            Some(open) => open,
            closed => {
                closed.insert(PictureStore::new(&places.data_dir, places.boot.clone(), places.durability)?)
            }
        };
        match pictures.store(frame) {
            // The order was given twice: the recorder was lost between doing it and saying so. The store has made sure
            // by now that what is there lasts.
            Err(StoreError::Exists { path }) if read_picture(&path).is_ok_and(|b| b == frame.bytes) => Ok(()),
            Err(error) => {
                self.pictures = None;
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }

    /// Makes the file of the camera's next picture ahead of time.
    pub fn prepare(&mut self, camera: &CameraId, at: WallTime) {
        if let Some(pictures) = &mut self.pictures {
            pictures.prepare(camera, at);
        }
    }

    /// No picture is expected soon.
    pub fn rest(&mut self) {
        if let Some(pictures) = &mut self.pictures {
            pictures.rest();
        }
    }

    /// Stores the picture that started an event, unchanged. An event without one is still an event.
    pub fn of_event(&mut self, places: &Places, camera: &Camera, event: &Event) -> Option<SnapshotFile> {
        let frame = {
            let state = camera.ring();
            state.ring.iter().find(|f| f.seq == event.started_seq).or(state.ring.newest()).cloned()
        }?;
        let stem = format!("{}_{}", event.started.compact(), event.id);
        let ending = frame.format.extension();
        match self.snapshot(places, camera.id(), event.started, (&stem, ending), &frame.bytes) {
            Ok(file) => Some(SnapshotFile { path: file.relative, taken: frame.wall, bytes: file.bytes }),
            Err(StoreError::Exists { path }) => {
                // The order was given twice: the recorder was lost between doing it and saying so.
                let relative = path.strip_prefix(&places.data_dir).ok()?;
                let path = relative.to_string_lossy().into_owned();
                Some(SnapshotFile { path, taken: frame.wall, bytes: frame.len() as u64 })
            }
            Err(error) => {
                warn!(camera = %camera.id(), event = %event.id, %error, "no snapshot");
                None
            }
        }
    }

    fn snapshot(
        &mut self,
        places: &Places,
        camera: &CameraId,
        at: WallTime,
        (stem, ending): (&str, &str),
        bytes: &[u8],
    ) -> Result<PublishedFile, StoreError> {
        let snapshots = match &mut self.snapshots {
            Some(open) => open,
            closed => closed.insert(CaptureFiles::new(
                &places.data_dir,
                CaptureKind::Clip,
                places.boot.clone(),
                places.durability,
            )?),
        };
        let stored = snapshots.store(camera, at, stem, ending, bytes);
        if !matches!(stored, Ok(_) | Err(StoreError::Exists { .. })) {
            self.snapshots = None;
        }
        stored
    }
}
