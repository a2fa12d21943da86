//! Things that the tests of this room share: a store in a temporary folder, an event, an alert, a frame.

use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{CameraId, Event, EventId, EventKind, EventPhase, Frame, ImageFormat, MonoTime, WallTime};

use crate::clips::{ClipRow, ClipState};
use crate::database::{Store, StoreOptions};
use crate::outbox::NewAlert;

/// Later than whatever the tests schedule, nearer than what would look like a clock that was set back.
pub const FAR: WallTime = WallTime(86_400_000_000);

pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    (folder, store)
}

pub fn event(n: u8) -> Event {
    let started = WallTime(1_000_000 * i64::from(n));
    Event {
        id: EventId::new(started, [n; 10]),
        camera: CameraId::parse("door").unwrap(),
        kind: EventKind::Person,
        phase: EventPhase::Started,
        started,
        started_seq: 7,
        ended: None,
        score: 0.5,
        identities: Vec::new(),
        sightings: Vec::new(),
    }
}

pub fn clip(event: &Event, path: &str) -> ClipRow {
    ClipRow {
        event: Some(event.id),
        camera: event.camera.clone(),
        path: path.into(),
        started: event.started,
        duration: Duration::from_secs(1),
        frames: 30,
        bytes: 12_345,
        sha256: None,
        state: ClipState::Ok,
        skipped: 0,
        missing: None,
    }
}

pub fn alert(channel: &str) -> NewAlert {
    NewAlert {
        channel: channel.into(),
        payload: serde_json::json!({"text": "somebody is at the door"}),
        snapshot: None,
        created: WallTime(1_000_000),
    }
}

pub fn frame(seq: u64, bytes: impl Into<Bytes>) -> Frame {
    Frame {
        camera: CameraId::parse("door").unwrap(),
        seq,
        wall: WallTime(1_795_210_274_123_456 + i64::try_from(seq).unwrap() * 50_000),
        mono: MonoTime(1_000_000_000 + seq * 50_000_000),
        format: ImageFormat::Jpeg,
        width: 640,
        height: 480,
        proven: false,
        bytes: bytes.into(),
    }
}
