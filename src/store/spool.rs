//! The evidence on disk while a clip or video is being made: the original bytes of every frame, append
//! only. What is made of them is decided elsewhere.
//!
//! A spool is a folder `spool/<start>_<camera>_<kind>_<random>/` with two files:
//!
//! ```text
//! frames     record, record, …        attempts   one byte per attempt at finishing the spool
//!                                     made       in a kept spool: the path of what was made of it
//!
//! record  =  header (64 bytes, little-endian)  [link before it (32 bytes)]  payload (`length` bytes)
//!   0  magic F1 4D 4B 31      24  wall time, µs since 1970       48  length of the payload
//!   4  kind  (1 meta,         32  µs since the first frame       52  CRC-32 of what follows the header
//!      2 frame, 3 end,        40  width in pixels                56  zero
//!      4 head)                44  height in pixels               60  CRC-32 of bytes 0 to 59
//!   5  image format
//!   6  1 with a link, else 0; 7 zero
//!   8  nonce of the spool
//!  16  number of the frame
//! ```
//!
//! The first record is the meta record (JSON), the last one of a finished spool the end record. The
//! nonce is random per spool: when a damaged place is skipped, the next record is found by magic and
//! nonce, and no camera can forge records inside its pictures. Where the node signs, every record has a link, which
//! makes a chain of them, and head and end records carry signatures (docs/evidence.md).

mod keep;
mod read;
pub(crate) mod record;
mod recover;
mod write;

#[cfg(test)]
mod tests;

use meerkat_base::{CameraId, EventId, Mode, WallTime};
use serde::{Deserialize, Serialize};

pub use keep::{KEPT, KeptSpool, is_kept, keep, kept, kept_of};
pub use read::{ChainSeen, SpoolEnd, SpoolFrame, SpoolItem, SpoolReader, SpoolSummary, spool_from_bytes};
pub use record::MAX_FRAME_BYTES;
pub use recover::{
    FoundSpool, MAX_ATTEMPTS, SET_ASIDE, begin_attempt, forgive_attempt, is_gone, recover, recover_telling,
    remove, set_aside,
};
pub use write::{SpoolDone, SpoolWriter};

/// The folder of all spools, in the data folder.
pub const SPOOLS: &str = "spool";

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
    /// A segment of what a camera records without a break.
    Segment,
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

/// The word for a segment in the meta record.
const SEGMENT: &str = "segment";

/// The meta record as JSON.
#[derive(Serialize, Deserialize)]
struct StoredMeta {
    camera: String,
    event: Option<String>,
    /// Missing where the event says it: clips, and videos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    started: i64,
    mode: u8,
    settings: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing: Option<SigningNote>,
}

/// What the meta record says about the chain that it begins or goes on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SigningNote {
    /// Version of the format, [`SIGNING_FORMAT`].
    pub format: u32,
    /// The chain, 16 bytes in hexadecimal.
    pub chain: String,
    /// Records of the chain before this one.
    pub link: u64,
    /// The run of the node.
    pub boot: String,
    /// The public key, in hexadecimal: a hint, not a proof.
    pub key: String,
}

/// Version of the format of signed spools.
pub(crate) const SIGNING_FORMAT: u32 = 1;

/// What a meta record says, for those who check it.
pub(crate) fn read_meta(json: &[u8]) -> Option<(SpoolMeta, Option<SigningNote>)> {
    let meta = SpoolMeta::from_json(json)?;
    let stored: StoredMeta = serde_json::from_slice(json).ok()?;
    Some((meta, stored.signing))
}

impl SpoolMeta {
    fn to_json(&self, signing: Option<SigningNote>) -> Vec<u8> {
        let stored = StoredMeta {
            camera: self.camera.to_string(),
            event: match self.kind {
                SpoolKind::Clip { event } => Some(event.to_string()),
                SpoolKind::Video | SpoolKind::Segment => None,
            },
            kind: (self.kind == SpoolKind::Segment).then(|| SEGMENT.to_owned()),
            started: self.started.0,
            mode: self.mode.number(),
            settings: self.settings.clone(),
            signing,
        };
        serde_json::to_vec(&stored).expect("texts, numbers and a JSON value are always JSON")
    }

    fn from_json(json: &[u8]) -> Option<Self> {
        let stored: StoredMeta = serde_json::from_slice(json).ok()?;
        let kind = match (stored.event, stored.kind.as_deref()) {
            (Some(event), None) => SpoolKind::Clip { event: event.parse().ok()? },
            (None, None) => SpoolKind::Video,
            (None, Some(SEGMENT)) => SpoolKind::Segment,
            _ => return None,
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
