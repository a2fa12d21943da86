//! What can go wrong in this room. Errors name a source only in its redacted form (see [`crate::redact`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ffmpeg_next as ffmpeg;

/// Why one encoded picture could not be turned into pixels. The fault is the picture's: others may be fine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureFault {
    /// The container is none of JPEG, PNG, WebP and BMP.
    #[error("unknown picture format")]
    UnknownFormat,
    /// The encoded picture has no bytes, or more than any picture within the pixel limit needs.
    #[error("{bytes} bytes is no sensible size of an encoded picture")]
    BadLength {
        /// How many bytes there were.
        bytes: usize,
    },
    /// The decoder refused it: damaged, cut off, or larger than [`crate::picture::MAX_PIXELS`].
    #[error("picture cannot be decoded: {reason}")]
    Undecodable {
        /// The decoder's words.
        reason: String,
    },
}

/// A failure of a clip, a source or FFmpeg itself.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// One picture could not be decoded.
    #[error(transparent)]
    Picture(#[from] PictureFault),
    /// A file could not be made, opened or measured.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The installed FFmpeg was built without an encoder that is needed.
    #[error("the installed FFmpeg has no encoder {name}")]
    NoEncoder {
        /// FFmpeg's name of the encoder.
        name: &'static str,
    },
    /// A setting has a value that cannot work.
    #[error("{setting}: {reason}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What is allowed.
        reason: String,
    },
    /// A clip was finished before any picture got into it; its file holds nothing.
    #[error("no picture got into the clip, {skipped} were skipped")]
    EmptyClip {
        /// Pictures that could not be decoded.
        skipped: u64,
    },
    /// A source could not be opened.
    #[error("{name} cannot be opened: {reason}")]
    Open {
        /// The source without credentials.
        name: String,
        /// What FFmpeg or the system said.
        reason: String,
    },
    /// A source that was open failed.
    #[error("{name} cannot be read: {reason}")]
    Read {
        /// The source without credentials.
        name: String,
        /// What FFmpeg said.
        reason: String,
    },
    /// A source gave nothing within its time limit.
    #[error("{name}: nothing came within {limit:?}")]
    TimedOut {
        /// The source without credentials.
        name: String,
        /// The limit.
        limit: Duration,
    },
    /// The reader was told to stop while it waited for its source.
    #[error("{name}: stopped")]
    Stopped {
        /// The source without credentials.
        name: String,
    },
    /// FFmpeg failed at a step that has nothing to do with the data.
    #[error("{step}: {reason}")]
    Library {
        /// What was being done.
        step: &'static str,
        /// What FFmpeg said.
        reason: String,
    },
}

/// Makes the conversion of FFmpeg's errors at one step: `.map_err(at("opening the encoder"))`.
pub(crate) fn at(step: &'static str) -> impl Fn(ffmpeg::Error) -> MediaError {
    move |error| MediaError::Library { step, reason: error.to_string() }
}
