//! The single pictures that a recorder stores: those of mode 1, and the snapshots of events. What holds folders open is
//! opened when it is needed, and anew when the disk failed or came back on another mount.

use meerkat_base::{CameraId, Frame, WallTime};
use meerkat_store::confine::read_picture;
use meerkat_store::{CaptureFiles, CaptureKind, PictureStore, PublishedFile, StoreError};

use super::encoder::Places;

/// Stores single pictures.
#[derive(Default)]
pub(super) struct Stills {
    pictures: Option<PictureStore>,
    snapshots: Option<CaptureFiles>,
    /// The mount of the data folder that they were opened on.
    mount: u64,
}

impl Stills {
    /// The data folder is on this mount.
    pub fn on_mount(&mut self, mount: u64) {
        if mount != self.mount {
            *self = Self { mount, ..Self::default() };
        }
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
            // The order was given twice: the recorder was lost between doing it and saying so.
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

    /// Stores the snapshot of an event.
    pub fn snapshot(
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
