//! One encoded picture of one camera, as it was received. Cloning shares the bytes.

use bytes::Bytes;
use serde::Serialize;

use crate::ids::CameraId;
use crate::time::{MonoTime, WallTime};

/// The container of an encoded picture, told from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// ITU-T T.81, begins FF D8 FF.
    Jpeg,
    /// ISO/IEC 15948, begins 89 50 4E 47.
    Png,
    /// RIFF container with form type WEBP.
    Webp,
    /// Windows bitmap, begins BM.
    Bmp,
    /// None of the above; stored only where `accept_unknown` is on.
    Unknown,
}

impl ImageFormat {
    /// The usual file name ending, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            ImageFormat::Jpeg => "jpg",
            ImageFormat::Png => "png",
            ImageFormat::Webp => "webp",
            ImageFormat::Bmp => "bmp",
            ImageFormat::Unknown => "bin",
        }
    }
}

/// An encoded picture with its origin. `seq` counts from 1 without gaps per camera and node run.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The camera it came from.
    pub camera: CameraId,
    /// Number of this frame among the camera's frames.
    pub seq: u64,
    /// When its last byte arrived, for people.
    pub wall: WallTime,
    /// When its last byte arrived, for durations.
    pub mono: MonoTime,
    /// Container of `bytes`.
    pub format: ImageFormat,
    /// Width in pixels by the picture's own header; 0 when the container does not tell.
    pub width: u32,
    /// Height in pixels by the picture's own header; 0 when the container does not tell.
    pub height: u32,
    /// Whether it came over a connection that had proved, with a token, to be this camera.
    pub proven: bool,
    /// The picture, unchanged.
    pub bytes: Bytes,
}

impl Frame {
    /// Size of the encoded picture in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
