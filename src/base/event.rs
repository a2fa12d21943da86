//! What happened at a camera, from its start to its end. Rows and messages are made from this elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use uuid::Uuid;

use crate::detection::Detection;
use crate::ids::CameraId;
use crate::time::WallTime;

/// Names one event for ever (UUID version 7: sorts by time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

impl EventId {
    /// A new id for an event that starts at `at`; `entropy` makes two of the same moment differ.
    pub fn new(at: WallTime, entropy: [u8; 10]) -> Self {
        let millis = u64::try_from(at.0 / 1000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &entropy).into_uuid())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Something moved in the picture.
    Motion,
    /// The guarded object is no longer where it stood, but still in view.
    ObjectMoved,
    /// The guarded object is gone.
    ObjectRemoved,
    /// A person is in the picture.
    Person,
    /// A face is in the picture, known or not.
    Face,
    /// A camera that sent pictures sends none.
    CameraSilent,
    /// An actor fails again and again.
    ActorFailing,
    /// Little room is left on the disk.
    DiskLow,
    /// The disk takes nothing, or nothing may be deleted: recordings are refused.
    RecordingRefused,
    /// A channel delivers nothing.
    ChannelFailing,
    /// The wall clock jumped.
    ClockJump,
    /// Stored evidence was found damaged, repaired, rebuilt or missing.
    StoreDamaged,
    /// Somebody watches a camera live, from joining to leaving.
    Viewer,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 13] = [
        EventKind::Motion,
        EventKind::ObjectMoved,
        EventKind::ObjectRemoved,
        EventKind::Person,
        EventKind::Face,
        EventKind::CameraSilent,
        EventKind::ActorFailing,
        EventKind::DiskLow,
        EventKind::RecordingRefused,
        EventKind::ChannelFailing,
        EventKind::ClockJump,
        EventKind::StoreDamaged,
        EventKind::Viewer,
    ];

    /// Kinds that detectors see in pictures.
    pub const SEEN: [EventKind; 5] = [
        EventKind::Motion,
        EventKind::ObjectMoved,
        EventKind::ObjectRemoved,
        EventKind::Person,
        EventKind::Face,
    ];

    /// Whether it is about the node and its cameras rather than about what a picture shows: it has neither score nor
    /// clip, and comes from a [`crate::Notice`].
    pub fn is_notice(self) -> bool {
        !Self::SEEN.contains(&self)
    }

    /// How much it matters where nobody says otherwise.
    pub fn severity(self) -> Severity {
        match self {
            EventKind::Motion | EventKind::Face | EventKind::Viewer => Severity::Info,
            EventKind::ObjectMoved
            | EventKind::Person
            | EventKind::CameraSilent
            | EventKind::ActorFailing
            | EventKind::DiskLow
            | EventKind::ChannelFailing
            | EventKind::ClockJump => Severity::Warning,
            EventKind::ObjectRemoved | EventKind::RecordingRefused | EventKind::StoreDamaged => {
                Severity::Critical
            }
        }
    }

    /// The word used in rows, labels and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Motion => "motion",
            EventKind::ObjectMoved => "object_moved",
            EventKind::ObjectRemoved => "object_removed",
            EventKind::Person => "person",
            EventKind::Face => "face",
            EventKind::CameraSilent => "camera_silent",
            EventKind::ActorFailing => "actor_failing",
            EventKind::DiskLow => "disk_low",
            EventKind::RecordingRefused => "recording_refused",
            EventKind::ChannelFailing => "channel_failing",
            EventKind::ClockJump => "clock_jump",
            EventKind::StoreDamaged => "store_damaged",
            EventKind::Viewer => "viewer",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much an event matters to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look soon.
    Warning,
    /// Worth waking somebody up.
    Critical,
}

impl Severity {
    /// Every severity, the least first.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// The word used in rows, settings and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// The text names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such kind of event")]
pub struct BadEventKind;

impl FromStr for EventKind {
    type Err = BadEventKind;
    fn from_str(text: &str) -> Result<Self, BadEventKind> {
        Self::ALL.into_iter().find(|k| k.as_str() == text).ok_or(BadEventKind)
    }
}

/// How far an event has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventPhase {
    /// It began.
    Started,
    /// It goes on.
    Updated,
    /// It is over.
    Ended,
}

/// What was seen in one frame of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sighting {
    /// When the frame arrived.
    pub wall: WallTime,
    /// Number of the frame at its camera.
    pub seq: u64,
    /// What was found in it.
    pub detections: Vec<Detection>,
}

/// One event. `ended` is set exactly when the phase is [`EventPhase::Ended`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// Where it happened.
    pub camera: CameraId,
    /// What happened.
    pub kind: EventKind,
    /// How far it has come.
    pub phase: EventPhase,
    /// Time of the frame that started it.
    pub started: WallTime,
    /// Number of the frame that started it.
    pub started_seq: u64,
    /// Time of the last frame that showed it, once it is over.
    pub ended: Option<WallTime>,
    /// Highest score so far, 0..=1.
    pub score: f32,
    /// Names of the people recognised so far; `unknown` stands for somebody who is not enrolled.
    pub identities: Vec<String>,
    /// Sightings since the last phase was reported (boxes over time), oldest first, bounded by the events actor.
    pub sightings: Vec<Sighting>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = EventId::new(WallTime(1_000_000), [255; 10]);
        let late = EventId::new(WallTime(2_000_000), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<EventId>().unwrap(), early);
    }

    #[test]
    fn kinds_read_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.to_string().parse::<EventKind>().unwrap(), kind);
        }
        assert!("burglary".parse::<EventKind>().is_err());
    }
}
