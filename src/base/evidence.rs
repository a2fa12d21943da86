//! Sorts of things that a node keeps, and how long each may stay. Who deletes, and when, is decided elsewhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

/// A sort of things that retention knows: most are files, events are rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A picture of mode 1.
    Image,
    /// A video of mode 2.
    Video,
    /// A segment of a continuous recording.
    Segment,
    /// The clip of one or more events.
    Clip,
    /// The snapshot of an event.
    Snapshot,
    /// A spool: one that was set aside, or one that is kept beside its clip.
    Spool,
    /// The row of an event of which no file is left.
    Event,
}

impl Evidence {
    /// Every sort.
    pub const ALL: [Evidence; 7] = [
        Evidence::Image,
        Evidence::Video,
        Evidence::Segment,
        Evidence::Clip,
        Evidence::Snapshot,
        Evidence::Spool,
        Evidence::Event,
    ];

    /// The word used in settings, metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Image => "image",
            Evidence::Video => "video",
            Evidence::Segment => "segment",
            Evidence::Clip => "clip",
            Evidence::Snapshot => "snapshot",
            Evidence::Spool => "spool",
            Evidence::Event => "event",
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no sort of evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such sort of evidence")]
pub struct BadEvidence;

impl FromStr for Evidence {
    type Err = BadEvidence;
    fn from_str(text: &str) -> Result<Self, BadEvidence> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(BadEvidence)
    }
}

/// How long and how much of one sort of evidence of one camera stays. Nothing in it: until the disk is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct KeepLimit {
    /// What is older goes.
    #[serde(skip)]
    pub age: Option<Duration>,
    /// The oldest goes when there is more; in bytes.
    pub bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for one in Evidence::ALL {
            assert_eq!(one.to_string().parse::<Evidence>(), Ok(one));
        }
        assert!("diary".parse::<Evidence>().is_err());
    }
}
