//! A sidecar as it is stored: JSON that is believed only when every field of it is what this program would have written.

use std::time::Duration;

use meerkat_base::{CameraId, Event, EventId, WallTime};
use serde::{Deserialize, Serialize};

use super::{BEFORE, BadSidecar, EventFacts, MAX_EVENTS, MAX_IDENTITIES, MAX_NAME_BYTES, Sidecar, VERSION};
use crate::clips::{ClipRow, ClipState, SnapshotRow};
use crate::sql::check_relative;

/// What a spool notes of the event that it was begun for, for the settings of [`crate::SpoolMeta`]: a database that is
/// made anew before the clip exists takes the event from there.
pub fn note(event: &Event) -> serde_json::Value {
    let facts = EventFacts {
        id: event.id,
        kind: event.kind,
        started: event.started,
        started_seq: event.started_seq,
        ended: event.ended,
        score: event.score,
        identities: event.identities.clone(),
        interrupted: false,
        snapshot: None,
        keep: false,
    };
    serde_json::json!({ "event": StoredEvent { keep: None, ..StoredEvent::new(&event.camera, &facts) } })
}

/// Reads what [`note`] made; none for anything else.
pub(crate) fn facts_from_note(camera: &CameraId, note: &serde_json::Value) -> Option<EventFacts> {
    let stored: StoredEvent = serde_json::from_value(note.get("event")?.clone()).ok()?;
    stored.checked(camera, Some(false)).ok()
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    version: u32,
    clip: StoredClip,
    events: Vec<StoredEvent>,
    unknown_events: Vec<String>,
    keep: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredClip {
    camera: String,
    path: String,
    started_micros: i64,
    duration_micros: u64,
    frames: u64,
    skipped: u64,
    bytes: u64,
    sha256: Option<String>,
    state: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEvent {
    id: String,
    camera: String,
    kind: String,
    started_micros: i64,
    started_seq: u64,
    ended_micros: Option<i64>,
    score: f32,
    identities: Vec<String>,
    interrupted: bool,
    snapshot: Option<StoredSnapshot>,
    /// In every sidecar of the present version, and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSnapshot {
    path: String,
    taken_micros: i64,
    bytes: u64,
}

impl From<&Sidecar> for Stored {
    fn from(sidecar: &Sidecar) -> Self {
        let clip = &sidecar.clip;
        Self {
            version: VERSION,
            clip: StoredClip {
                camera: clip.camera.to_string(),
                path: clip.path.clone(),
                started_micros: clip.started.0,
                duration_micros: u64::try_from(clip.duration.as_micros()).unwrap_or(u64::MAX),
                frames: clip.frames,
                skipped: clip.skipped,
                bytes: clip.bytes,
                sha256: clip.sha256.clone(),
                state: clip.state.as_str().to_owned(),
            },
            events: sidecar.events.iter().map(|event| StoredEvent::new(&clip.camera, event)).collect(),
            unknown_events: sidecar.unknown_events.iter().map(ToString::to_string).collect(),
            keep: sidecar.keep,
        }
    }
}

impl Stored {
    pub fn checked(self) -> Result<Sidecar, BadSidecar> {
        let bad = |what: &str| BadSidecar(what.to_owned());
        let clip = self.clip;
        let camera = CameraId::from_shown(&clip.camera).map_err(|_| bad("its camera is none"))?;
        check_relative(&clip.path).map_err(|_| bad("the path of its clip is none"))?;
        let is_sum = |sum: &String| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
        if !clip.sha256.as_ref().is_none_or(is_sum) {
            return Err(bad("its checksum is none"));
        }
        if i64::try_from(clip.duration_micros).is_err() {
            return Err(bad("its duration is none"));
        }
        if self.events.len() + self.unknown_events.len() > MAX_EVENTS {
            return Err(BadSidecar(format!("more than {MAX_EVENTS} events")));
        }
        // Rather kept for longer than not at all.
        let unsaid = (self.version == BEFORE).then_some(self.keep);
        let events = self.events.into_iter().map(|event| event.checked(&camera, unsaid));
        let events = events.collect::<Result<_, _>>()?;
        let parse = |id: &String| id.parse().map_err(|_| bad("the id of an event is none"));
        Ok(Sidecar {
            events,
            unknown_events: self.unknown_events.iter().map(parse).collect::<Result<_, _>>()?,
            keep: self.keep,
            clip: ClipRow {
                event: None,
                camera,
                path: clip.path,
                started: WallTime(clip.started_micros),
                duration: Duration::from_micros(clip.duration_micros),
                frames: clip.frames,
                bytes: clip.bytes,
                sha256: clip.sha256,
                state: ClipState::from_word(&clip.state).ok_or_else(|| bad("its state is none"))?,
                skipped: clip.skipped,
                missing: None,
            },
        })
    }
}

impl StoredEvent {
    fn new(camera: &CameraId, event: &EventFacts) -> Self {
        Self {
            id: event.id.to_string(),
            camera: camera.to_string(),
            kind: event.kind.to_string(),
            started_micros: event.started.0,
            started_seq: event.started_seq,
            ended_micros: event.ended.map(|at| at.0),
            score: if event.score.is_nan() { 0.0 } else { event.score.clamp(0.0, 1.0) },
            identities: event.identities.clone(),
            interrupted: event.interrupted,
            snapshot: event.snapshot.as_ref().map(|snapshot| StoredSnapshot {
                path: snapshot.path.clone(),
                taken_micros: snapshot.taken.0,
                bytes: snapshot.bytes,
            }),
            keep: Some(event.keep),
        }
    }

    /// `unsaid`: what holds where nothing may be said of whether it is kept; none where something has to be.
    fn checked(self, camera: &CameraId, unsaid: Option<bool>) -> Result<EventFacts, BadSidecar> {
        let bad = |what: &str| BadSidecar(what.to_owned());
        let keep = match (self.keep, unsaid) {
            (Some(keep), None) | (None, Some(keep)) => keep,
            _ => return Err(bad("whether an event is kept has to be said, or must not")),
        };
        let id: EventId = self.id.parse().map_err(|_| bad("the id of an event is none"))?;
        if self.camera != camera.as_str() {
            return Err(bad("an event is of another camera than its clip"));
        }
        if self.ended_micros.is_some_and(|ended| ended < self.started_micros) {
            return Err(bad("an event ended before it started"));
        }
        if !(0.0..=1.0).contains(&self.score) {
            return Err(bad("the score of an event is none"));
        }
        if self.identities.len() > MAX_IDENTITIES
            || self.identities.iter().any(|name| name.len() > MAX_NAME_BYTES)
        {
            return Err(bad("an event names too much"));
        }
        let snapshot = match self.snapshot {
            None => None,
            Some(StoredSnapshot { path, taken_micros, bytes }) => {
                check_relative(&path).map_err(|_| bad("the path of a snapshot is none"))?;
                Some(SnapshotRow { event: id, path, taken: WallTime(taken_micros), bytes })
            }
        };
        Ok(EventFacts {
            id,
            kind: self.kind.parse().map_err(|_| bad("the kind of an event is none"))?,
            started: WallTime(self.started_micros),
            started_seq: self.started_seq,
            ended: self.ended_micros.map(WallTime),
            score: self.score,
            identities: self.identities,
            interrupted: self.interrupted,
            snapshot,
            keep,
        })
    }
}
