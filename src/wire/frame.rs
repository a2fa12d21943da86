//! The five-mode camera protocol: `modelN`, then `start`, the bytes of one encoded picture, `end`, again and again.
//! Parser for the node, writer for the client side. It answers nothing itself and knows no clock: the session
//! does both.
//!
//! Nothing on the wire says how long a picture is, so the parser walks the picture's own container and looks for
//! `end` only where the picture can end:
//!
//! ```text
//! start FF D8 | E1 len Exif (FF D8 … end … FF D9) | DB len | C0 len | DA len | entropy … end … | FF D9 | end
//!              `-------- skipped by length -------'                  `- to the next marker -'        `- looked for
//! ```
//!
//! What cannot be decided by structure (a picture that is cut off, an unknown container) is decided by silence
//! ([`Parser::awaits_silence`]) or by the next `start` with the beginning of a picture behind it.
//!
//! Invariants: a byte is walked once, except that a frame which proves to be lost gives back what was walked beyond
//! the place where the next one starts, within a budget proportional to the bytes received. The buffer never holds
//! more than [`Limits::max_frame_bytes`] and 64 bytes of one frame. No length that the peer claims is allocated or
//! waited for beyond that limit.

mod between;
mod in_frame;
mod parser;

mod container;
mod jpeg;
mod png;
mod sized;

mod restart;
mod sniff;

mod writer;

use bytes::Bytes;
use meerkat_base::{CameraId, ImageFormat, Mode, Secret};

pub use parser::Parser;
pub use writer::{Answer, BadHello, END, START, frame, hello, mode};

/// How much a peer may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame in bytes, from the first byte of the picture to the one before `end`; 16 MiB.
    pub max_frame_bytes: usize,
    /// Most pixels a picture's header may speak of; 64 million.
    pub max_pixels: u64,
    /// Most scans a JPEG may have; 100.
    pub max_scans: u32,
    /// Most pixels a JPEG may have, counted once for each of its scans: what decoding it may cost; 768 million.
    pub max_scanned_pixels: u64,
    /// Longest `camera:` line in bytes, and most bytes of junk before the first mode; 256.
    pub max_line_bytes: usize,
    /// Most bytes of junk in a row between frames once a mode is set; 64 KiB.
    pub max_junk_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 16 << 20,
            max_pixels: 64_000_000,
            max_scans: 100,
            max_scanned_pixels: 768_000_000,
            max_line_bytes: 256,
            max_junk_bytes: 64 << 10,
        }
    }
}

/// What the operator chose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// In mode 1, a frame in no known container becomes a frame of [`ImageFormat::Unknown`] instead of a refusal.
    pub accept_unknown: bool,
}

/// One encoded picture: everything between `start` (with its line end) and `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The bytes, unchanged; they share the session's read buffer.
    pub bytes: Bytes,
    /// The container, told from the first bytes.
    pub format: ImageFormat,
    /// Width in pixels by the container's header; 0 when it does not tell.
    pub width: u32,
    /// Height in pixels by the container's header; 0 when it does not tell.
    pub height: u32,
}

/// What the parser found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `camera:<id>[:<token>]` before the first mode. Whether to believe it is the session's decision.
    Hello {
        /// The id that the camera claims.
        camera: CameraId,
        /// What it brings as proof.
        token: Option<Secret>,
    },
    /// `modelN` with N in 1..=5, also when that mode was set before.
    Mode(Mode),
    /// A complete frame within all limits, after a mode was set.
    Frame(Picture),
    /// Something to be answered with `0`; the session goes on.
    Refused(Refusal),
}

/// Why something was answered with `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `model` without a digit in 1..=5 behind it.
    UnknownMode,
    /// `end` where no frame had started.
    EndWithoutStart,
    /// A frame before any mode.
    NoMode,
    /// `end` directly after `start`.
    EmptyFrame,
    /// `end` before the picture's container was complete.
    CutOff,
    /// The container contradicts itself, so that its end cannot be found.
    Damaged,
    /// No container that the parser knows.
    UnknownContainer,
    /// The picture's header speaks of more pixels than [`Limits::max_pixels`].
    TooManyPixels,
    /// The JPEG has more scans than [`Limits::max_scans`], or more than [`Limits::max_scanned_pixels`] allows for its size.
    TooManyScans,
    /// A `camera:` line with a malformed id or token.
    BadHello,
    /// A `camera:` line after the first mode.
    LateHello,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 11] = [
        Refusal::UnknownMode,
        Refusal::EndWithoutStart,
        Refusal::NoMode,
        Refusal::EmptyFrame,
        Refusal::CutOff,
        Refusal::Damaged,
        Refusal::UnknownContainer,
        Refusal::TooManyPixels,
        Refusal::TooManyScans,
        Refusal::BadHello,
        Refusal::LateHello,
    ];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::UnknownMode => "unknown_mode",
            Refusal::EndWithoutStart => "end_without_start",
            Refusal::NoMode => "no_mode",
            Refusal::EmptyFrame => "empty_frame",
            Refusal::CutOff => "cut_off",
            Refusal::Damaged => "damaged",
            Refusal::UnknownContainer => "unknown_container",
            Refusal::TooManyPixels => "too_many_pixels",
            Refusal::TooManyScans => "too_many_scans",
            Refusal::BadHello => "bad_hello",
            Refusal::LateHello => "late_hello",
        }
    }
}

/// Why the connection cannot go on: answered with `0` and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fatal {
    /// A frame grew past [`Limits::max_frame_bytes`].
    #[error("frame exceeds the limit")]
    FrameTooLarge,
    /// A `camera:` line grew past [`Limits::max_line_bytes`].
    #[error("hello line exceeds the limit")]
    LineTooLong,
    /// Too many bytes in a row that belong to no marker and no frame: not this protocol.
    #[error("too many bytes outside of frames")]
    Junk,
}

impl Fatal {
    /// Every reason.
    pub const ALL: [Fatal; 3] = [Fatal::FrameTooLarge, Fatal::LineTooLong, Fatal::Junk];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Fatal::FrameTooLarge => "frame_too_large",
            Fatal::LineTooLong => "line_too_long",
            Fatal::Junk => "junk",
        }
    }
}

/// What the connection is in the middle of; each phase has its own time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No mode was ever set, whatever else is going on.
    BeforeMode,
    /// Between frames.
    Idle,
    /// After `start` and before the matching `end`.
    InFrame,
}

/// The bytes that may follow a marker: boards print lines, C programs send the terminating NUL.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// Most blanks that are looked through between two markers, or between `start` and a picture, in the middle of a
/// frame. A line end and a NUL have room; without a bound the look ahead would cost more than it is worth.
const MAX_BLANKS: usize = 4;

#[cfg(test)]
pub(crate) mod tests;
