//! What people are told, before any channel puts it into its own form.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, Severity, WallTime};
use uuid::Uuid;

/// One message about one event, for one channel.
#[derive(Clone, PartialEq)]
pub struct Alert {
    /// Names this message for ever; the same on every attempt, so that a receiver can drop repetitions.
    pub id: Uuid,
    /// Which event.
    pub event: EventId,
    /// Where.
    pub camera: CameraId,
    /// What people call that camera, if it has such a name.
    pub camera_name: Option<String>,
    /// What happened.
    pub kind: EventKind,
    /// How far it has come.
    pub phase: EventPhase,
    /// When it began.
    pub started: WallTime,
    /// Names of the people recognised; `unknown` stands for somebody who is not enrolled.
    pub identities: Vec<String>,
    /// Highest score, 0..=1.
    pub score: f32,
    /// How much it matters.
    pub severity: Severity,
    /// What a notice says besides (a camera's silence, a full disk), for people; empty for what was seen.
    pub detail: String,
    /// A JPEG of the moment, whole and unscaled. Channels send it only where their [`PicturePolicy`] allows.
    pub snapshot: Option<Bytes>,
    /// A signed address under which the snapshot can be fetched for a while, where the node has a public one: for
    /// services that take pictures by address only.
    pub snapshot_link: Option<String>,
    /// How many of the channel's steps earlier attempts have completed: what the last
    /// [`crate::Outcome::Retry`] reported as `sent`, 0 at first.
    pub already_sent: u8,
}

impl Alert {
    /// The message about an event as it is now; nothing of it has been sent yet.
    pub fn about(event: &Event, id: Uuid, camera_name: Option<String>, snapshot: Option<Bytes>) -> Self {
        Self {
            id,
            event: event.id,
            camera: event.camera.clone(),
            camera_name,
            kind: event.kind,
            phase: event.phase,
            started: event.started,
            identities: event.identities.clone(),
            score: event.score,
            severity: Severity::Warning,
            detail: String::new(),
            snapshot,
            snapshot_link: None,
            already_sent: 0,
        }
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the picture's bytes nor who was seen belong in a log.
        f.debug_struct("Alert")
            .field("id", &self.id)
            .field("event", &self.event)
            .field("camera", &self.camera)
            .field("kind", &self.kind)
            .field("phase", &self.phase)
            .field("started", &self.started)
            .field("identities", &self.identities.len())
            .field("snapshot_bytes", &self.snapshot.as_ref().map(Bytes::len))
            .field("already_sent", &self.already_sent)
            .finish_non_exhaustive()
    }
}

/// The clip of an alert, as the second part of its message: sent some seconds after the first, when the clip is ready.
/// The alert that goes with it has the id of the first part and says what the clip shows.
#[derive(Clone, PartialEq)]
pub struct ClipPart {
    /// Which of the clips that follow the message, from 1 on: a long event has several.
    pub part: u32,
    /// Name for the file, such as `front_2026-11-21_053114.mp4`.
    pub name: String,
    /// The MP4, not larger than [`crate::Channel::clip_limit`]; none where no version of it is small enough.
    pub file: Option<Bytes>,
    /// A signed address under which it can be fetched for a while, where the node has a public one.
    pub link: Option<String>,
    /// How long it is.
    pub duration: Duration,
}

impl ClipPart {
    /// What tells it from the other parts of its message: `clip`, from the second clip on `clip-2` and so on. Together with
    /// [`Alert::id`] it names what is sent for ever.
    pub fn word(&self) -> String {
        match self.part {
            0 | 1 => "clip".to_owned(),
            later => format!("clip-{later}"),
        }
    }
}

impl fmt::Debug for ClipPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The link is a key to the clip.
        f.debug_struct("ClipPart")
            .field("part", &self.part)
            .field("name", &self.name)
            .field("file_bytes", &self.file.as_ref().map(Bytes::len))
            .field("has_link", &self.link.is_some())
            .field("duration", &self.duration)
            .finish()
    }
}

/// What an outage kept back, in one message instead of thousands.
#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    /// Names this message for ever, as in [`Alert::id`].
    pub id: Uuid,
    /// When the oldest of them began.
    pub oldest: WallTime,
    /// When the newest of them began.
    pub newest: WallTime,
    /// How many of which kind at which camera, in the order in which they shall be listed.
    pub counts: Vec<DigestLine>,
    /// What earlier attempts have completed of it, as in [`Alert::already_sent`].
    pub already_sent: u8,
}

/// One line of a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestLine {
    /// Where.
    pub camera: CameraId,
    /// What people call that camera.
    pub camera_name: Option<String>,
    /// What happened.
    pub kind: EventKind,
    /// How often.
    pub count: u64,
}

impl Digest {
    /// Alerts in all, saturating.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, line| sum.saturating_add(line.count))
    }
}

/// A message that tries a channel out, and says that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestMessage {
    /// Names this message for ever, as in [`Alert::id`].
    pub id: Uuid,
    /// When it was asked for.
    pub time: WallTime,
}

/// Which pictures may leave the node through a channel, still and moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PicturePolicy {
    /// Whether snapshots are sent at all.
    pub include_snapshot: bool,
    /// Whether clips follow.
    pub include_clip: bool,
    /// Whether those of face events are sent too. Off by default: they show who a person is.
    pub include_faces: bool,
}

impl Default for PicturePolicy {
    fn default() -> Self {
        Self { include_snapshot: true, include_clip: true, include_faces: false }
    }
}

impl PicturePolicy {
    /// The alert's picture, if there is one and it may leave.
    pub fn picture<'a>(&self, alert: &'a Alert) -> Option<&'a Bytes> {
        alert.snapshot.as_ref().filter(|picture| self.allows_snapshot(alert.kind) && !picture.is_empty())
    }

    /// The address of the alert's picture, if there is one and the picture may leave.
    pub fn picture_link<'a>(&self, alert: &'a Alert) -> Option<&'a str> {
        alert.snapshot_link.as_deref().filter(|_| self.allows_snapshot(alert.kind))
    }

    /// Whether the snapshot of such an event may leave.
    pub fn allows_snapshot(&self, kind: EventKind) -> bool {
        self.include_snapshot && self.allows_faces(kind)
    }

    /// Whether the clip of such an event may leave, as a file or by address.
    pub fn allows_clip(&self, kind: EventKind) -> bool {
        self.include_clip && self.allows_faces(kind)
    }

    fn allows_faces(&self, kind: EventKind) -> bool {
        self.include_faces || kind != EventKind::Face
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An alert about a person at the front door.
    pub(crate) fn alert(kind: EventKind, snapshot: Option<&[u8]>) -> Alert {
        Alert {
            id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
            event: EventId(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0002)),
            camera: CameraId::parse("front").unwrap(),
            camera_name: Some("前门".into()),
            kind,
            phase: EventPhase::Started,
            started: WallTime(1_795_210_274_123_456),
            identities: vec![],
            score: 0.873,
            severity: Severity::Warning,
            detail: String::new(),
            snapshot: snapshot.map(Bytes::copy_from_slice),
            snapshot_link: None,
            already_sent: 0,
        }
    }

    #[test]
    fn faces_stay_at_home_unless_allowed() {
        let faces = PicturePolicy { include_faces: true, ..Default::default() };
        let none = PicturePolicy { include_snapshot: false, include_faces: true, include_clip: false };
        for (policy, kind, sent) in [
            (PicturePolicy::default(), EventKind::Person, true),
            (PicturePolicy::default(), EventKind::Face, false),
            (faces, EventKind::Face, true),
            (none, EventKind::Person, false),
            (none, EventKind::Face, false),
        ] {
            assert_eq!(policy.picture(&alert(kind, Some(b"jpeg"))).is_some(), sent, "{policy:?} {kind}");
            assert_eq!(policy.allows_clip(kind), sent, "{policy:?} {kind}");
            assert_eq!(policy.picture(&alert(kind, None)), None);
            assert_eq!(policy.picture(&alert(kind, Some(b""))), None);
        }
    }

    #[test]
    fn debug_shows_neither_picture_nor_people() {
        let mut a = alert(EventKind::Face, Some(b"JPEGJPEG"));
        a.identities = vec!["Zhang San".into()];
        let shown = format!("{a:?}");
        assert!(shown.contains("snapshot_bytes: Some(8)"), "{shown}");
        assert!(!shown.contains("Zhang") && !shown.contains("JPEG") && !shown.contains("74, 80"), "{shown}");
    }
}
