//! Pixels with OpenCV: decoding, motion, the guard of a still object, the classic detectors, drawing.
//! No sockets, no video containers; nothing here knows about cameras or events.
#![forbid(unsafe_code)]

mod mat;
pub mod probe;

pub mod decode;
pub mod guard;
mod light;
pub mod motion;

pub mod draw;
pub mod font;
pub mod mask;
pub mod miniature;
pub mod face;
pub mod person;
pub mod synthetic;

#[cfg(test)]
mod testing;

use std::sync::Once;

pub use decode::{
    GrayPlane, as_wished, decode_gray, decode_gray_into, decode_image, encode_jpeg, resize, thumbnail_jpeg,
};
pub use draw::{Colour, Marking, draw, draw_with};
pub use face::{LbphFaceRecogniser, LbphSettings};
pub use font::Font;
pub use guard::{Guard, GuardAlarm, GuardReport, GuardSettings, GuardState};
pub use mask::MaskedPicture;
pub use miniature::{Miniatures, NoMiniature};
pub use motion::{MotionDetector, MotionReport, MotionSettings};
pub use person::{HogPersonDetector, HogSettings};
pub use synthetic::Scene;

/// Why pixels could not be had or looked at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VisionError {
    /// Neither JPEG nor PNG, WebP or BMP.
    #[error("not a JPEG, PNG, WebP or BMP picture")]
    NotAPicture,
    /// It begins like a picture but its header cannot be read.
    #[error("the picture's header is damaged")]
    BadHeader,
    /// More pixels than [`probe::MAX_PIXELS`].
    #[error("{width}x{height} pixels are more than is looked at")]
    TooLarge {
        /// Width in pixels by the header.
        width: u32,
        /// Height in pixels by the header.
        height: u32,
    },
    /// A progressive JPEG with so many scans that decoding it would take for ever.
    #[error("the progressive JPEG has too many scans")]
    TooManyScans,
    /// The header is fine, the rest is not.
    #[error("the picture cannot be decoded")]
    Undecodable,
    /// The picture does not fit the format it is to be written in.
    #[error("the picture cannot be encoded")]
    Unencodable,
    /// The face cascade is not there or cannot be read.
    #[error("no usable face cascade at: {searched}")]
    MissingCascade {
        /// Where it was looked for.
        searched: String,
    },
    /// A font cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    UnusableFont {
        /// Its file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// OpenCV refused.
    #[error("OpenCV: {0}")]
    OpenCv(String),
}

impl From<opencv::Error> for VisionError {
    fn from(error: opencv::Error) -> Self {
        Self::OpenCv(error.message)
    }
}

/// Keeps OpenCV to the calling thread: the node has its own threads, and OpenCV's would only fight with them.
/// Everything in this room calls it by itself; calling it again costs nothing.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = opencv::core::set_num_threads(1) {
            tracing::warn!(%error, "OpenCV keeps its own threads");
        }
    });
}
