//! Settings of what recordings leave behind: spools, segments without a break, signatures.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::rule::{Rule, flag, optional, path, secs, text, whole};

/// Spools: the original pictures of recordings.
#[derive(Debug, Clone, PartialEq)]
pub struct SpoolSettings {
    /// How long a spool is kept once its MP4 exists; none: not at all.
    pub keep: Option<Duration>,
    /// Most bytes of kept spools; beyond, the oldest go.
    pub keep_bytes: u64,
    /// Most bytes of one spool; beyond, the recording goes on in its next part.
    pub max_bytes: u64,
    /// Most bytes of spools without an MP4; beyond, nothing new is recorded.
    pub total_bytes: u64,
}

impl SpoolSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let max_bytes = reader.read("spool.max_bytes", whole((1 << 20)..=(1 << 40)));
        let total_bytes = reader.read("spool.total_bytes", whole((1 << 20)..=(1 << 50)));
        if max_bytes > total_bytes {
            reader.complain("spool.max_bytes", "must be at most spool.total_bytes");
        }
        Self {
            keep: reader.read("spool.keep", kept()),
            keep_bytes: reader.read("spool.keep_bytes", whole(0..=(1 << 50))),
            max_bytes,
            total_bytes,
        }
    }
}

/// "none", or a number of hours or days.
fn kept() -> Rule<Option<Duration>> {
    let text = text(1..=10);
    Rule::new("\"none\", or hours or days such as \"12h\" or \"30d\", at most ten years", move |value| {
        let text = text.parse(value)?;
        if text == "none" {
            return Some(None);
        }
        let (number, hours) = match text.strip_suffix('h') {
            Some(number) => (number, 1),
            None => (text.strip_suffix('d')?, 24),
        };
        let hours = number.parse::<u64>().ok()?.checked_mul(hours)?;
        (1..=10 * 366 * 24).contains(&hours).then(|| Some(Duration::from_secs(hours * 3600)))
    })
}

/// What cameras with `continuous` record without a break.
#[derive(Debug, Clone, PartialEq)]
pub struct ContinuousSettings {
    /// Length of a segment.
    pub segment: Duration,
}

impl ContinuousSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { segment: reader.read("continuous.segment_secs", secs(1.0..=86_400.0)) }
    }
}

/// Signatures on recordings.
#[derive(Debug, Clone, PartialEq)]
pub struct SigningSettings {
    /// Whether recordings are signed.
    pub enabled: bool,
    /// The node's key; none: `keys/signing.key` in the data folder.
    pub key_file: Option<PathBuf>,
    /// Longest time from a frame to the signature behind it, while frames come.
    pub every: Duration,
}

impl SigningSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.read("signing.enabled", flag()),
            key_file: reader.read("signing.key_file", optional(path())),
            every: reader.read("signing.every_secs", secs(0.0..=60.0)),
        }
    }

    /// Where the key is.
    pub fn key_path(&self, data_dir: &std::path::Path) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| data_dir.join("keys/signing.key"))
    }
}
