//! The evidence on disk while a clip or video is being made: the original bytes of every frame, append
//! only. What is made of them is decided elsewhere.
//!
//! A spool is a folder `spool/<start>_<camera>_<kind>_<random>/` with two files:
//!
//! ```text
//! frames     record, record, …        attempts   one byte per attempt at finishing the spool
//!
//! record  =  header (64 bytes, little-endian)  payload (`length` bytes)
//!   0  magic F1 4D 4B 31      24  wall time, µs since 1970       48  length of the payload
//!   4  kind  (1 meta,         32  µs since the first frame       52  CRC-32 of the payload
//!      2 frame, 3 end)        40  width in pixels                56  zero
//!   5  image format           44  height in pixels               60  CRC-32 of bytes 0 to 59
//!   6  zero
//!   8  nonce of the spool
//!  16  number of the frame
//! ```
//!
//! The first record is the meta record (JSON), the last one of a finished spool the end record. The
//! nonce is random per spool: when a damaged place is skipped, the next record is found by magic and
//! nonce, and no camera can forge records inside its pictures.

mod read;
mod record;
mod recover;
mod write;

#[cfg(test)]
mod tests;

use meerkat_base::{CameraId, EventId, Mode, WallTime};
use serde::{Deserialize, Serialize};

pub use read::{SpoolEnd, SpoolFrame, SpoolItem, SpoolReader, SpoolSummary, spool_from_bytes};
pub use record::MAX_FRAME_BYTES;
pub use recover::{FoundSpool, MAX_ATTEMPTS, SET_ASIDE, begin_attempt, recover, remove, set_aside};
pub use write::{SpoolDone, SpoolWriter};

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolKind {
    /// The clip of an event.
    Clip {
        /// The event.
        event: EventId,
    },
    /// A video of mode 2.
    Video,
}

/// What has to be known to finish a spool, also after the node died.
#[derive(Debug, Clone, PartialEq)]
pub struct SpoolMeta {
    /// The camera.
    pub camera: CameraId,
    /// What is recorded.
    pub kind: SpoolKind,
    /// When the recording began.
    pub started: WallTime,
    /// Mode in which the frames arrived.
    pub mode: Mode,
    /// How the result is to be made (size and so on): the recorder's own, at most 48 KiB of JSON.
    pub settings: serde_json::Value,
}

/// The meta record as JSON.
#[derive(Serialize, Deserialize)]
struct StoredMeta {
    camera: String,
    event: Option<String>,
    started: i64,
    mode: u8,
    settings: serde_json::Value,
}

impl SpoolMeta {
    fn to_json(&self) -> Vec<u8> {
        let stored = StoredMeta {
            camera: self.camera.to_string(),
            event: match self.kind {
                SpoolKind::Clip { event } => Some(event.to_string()),
                SpoolKind::Video => None,
            },
            started: self.started.0,
            mode: self.mode.number(),
            settings: self.settings.clone(),
        };
        serde_json::to_vec(&stored).expect("texts, numbers and a JSON value are always JSON")
    }

    fn from_json(json: &[u8]) -> Option<Self> {
        let stored: StoredMeta = serde_json::from_slice(json).ok()?;
        let kind = match stored.event {
            Some(event) => SpoolKind::Clip { event: event.parse().ok()? },
            None => SpoolKind::Video,
        };
        Some(Self {
            camera: CameraId::from_shown(&stored.camera).ok()?,
            kind,
            started: WallTime(stored.started),
            mode: Mode::from_number(stored.mode)?,
            settings: stored.settings,
        })
    }
}
