//! Containers and codecs with FFmpeg: clips, single pictures, and reading files and addresses.
//! Not here: what is recorded and when (actors), the sockets of pushing cameras (actors), pixels for detectors
//! on the frame path (vision).

pub mod error;
pub mod redact;

pub mod avi;
pub mod clip;
pub mod compare;
pub mod picture;
pub mod probe;
pub mod shrink;

pub mod reader;

mod canvas;
mod encoder;
mod input;
mod library;
mod orientation;
mod range;
mod scale;
mod source;
mod strip;

#[cfg(test)]
mod testing;

pub use avi::AviWriter;
pub use clip::{ClipInfo, ClipSettings, ClipSize, ClipTimes, ClipWriter, Picture, Preset, Pushed};
pub use compare::{ClipComparison, Likeness};
pub use error::{MediaError, PictureFault};
pub use picture::{JpegEncoder, PictureDecoder, decode_picture, encode_jpeg};
pub use probe::{ClipProbe, probe};
pub use reader::{ReadOptions, Reader};
pub use redact::redact_url;
pub use shrink::shrink;
