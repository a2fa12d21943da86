//! Rows of the database as a running node sends them to its command line: every moment to the microsecond, so that what
//! is printed is the same as if the database had been read. Only for that way; programs of others have `/api/v1/events`.

use std::time::Duration;

use anyhow::Context;
use meerkat_base::{CameraId, Detection, EventId, EventPhase, Rect, Sighting, WallTime};
use meerkat_store::{CheckInRow, ClipRow, ClipState, EventRow};
use serde::{Deserialize, Serialize};

/// One event with its clips.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentEvent {
    id: String,
    camera: String,
    kind: String,
    phase: String,
    started_micros: i64,
    started_seq: u64,
    ended_micros: Option<i64>,
    score: f32,
    identities: Vec<String>,
    interrupted: bool,
    detail: Option<String>,
    snoozed: bool,
    recording_refused: bool,
    kept: bool,
    clips: Vec<SentClip>,
    snapshot: Option<String>,
}

/// One clip of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SentClip {
    path: String,
    started_micros: i64,
    duration_micros: u64,
    frames: u64,
    bytes: u64,
    sha256: Option<String>,
    state: String,
    skipped: u64,
    missing_micros: Option<i64>,
}

/// One clip, video or segment by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentFile {
    event: Option<String>,
    camera: String,
    clip: SentClip,
}

/// What was seen in one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentSighting {
    at_micros: i64,
    seq: u64,
    detections: Vec<SentDetection>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SentDetection {
    label: String,
    score: f32,
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    identity: Option<String>,
}

/// One line of the check-in ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentVisit {
    person: String,
    camera: String,
    at_micros: i64,
    last_micros: i64,
    event: String,
}

fn phase(word: &str) -> Option<EventPhase> {
    Some(match word {
        "started" => EventPhase::Started,
        "updated" => EventPhase::Updated,
        "ended" => EventPhase::Ended,
        _ => return None,
    })
}

fn phase_word(phase: EventPhase) -> &'static str {
    match phase {
        EventPhase::Started => "started",
        EventPhase::Updated => "updated",
        EventPhase::Ended => "ended",
    }
}

impl From<EventRow> for SentEvent {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id.to_string(),
            camera: row.camera.as_str().to_owned(),
            kind: row.kind.as_str().to_owned(),
            phase: phase_word(row.phase).to_owned(),
            started_micros: row.started.0,
            started_seq: row.started_seq,
            ended_micros: row.ended.map(|at| at.0),
            score: row.score,
            identities: row.identities,
            interrupted: row.interrupted,
            detail: row.detail,
            snoozed: row.snoozed,
            recording_refused: row.recording_refused,
            kept: row.kept,
            clips: row.clips.into_iter().map(SentClip::from).collect(),
            snapshot: row.snapshot,
        }
    }
}

impl From<ClipRow> for SentClip {
    fn from(row: ClipRow) -> Self {
        Self {
            path: row.path,
            started_micros: row.started.0,
            duration_micros: u64::try_from(row.duration.as_micros()).unwrap_or(u64::MAX),
            frames: row.frames,
            bytes: row.bytes,
            sha256: row.sha256,
            state: row.state.as_str().to_owned(),
            skipped: row.skipped,
            missing_micros: row.missing.map(|at| at.0),
        }
    }
}

impl SentEvent {
    /// The row that was sent.
    ///
    /// # Errors
    /// When a word in it is not known here: the node is of another version.
    pub fn row(self) -> anyhow::Result<EventRow> {
        let id: EventId = self.id.parse().context("the id of an event")?;
        let camera = CameraId::from_shown(&self.camera)?;
        let clips = self.clips.into_iter().map(|clip| clip.row(Some(id), &camera));
        Ok(EventRow {
            id,
            clips: clips.collect::<anyhow::Result<_>>()?,
            camera,
            kind: self.kind.parse()?,
            phase: phase(&self.phase).with_context(|| format!("the phase {}", self.phase))?,
            started: WallTime(self.started_micros),
            started_seq: self.started_seq,
            ended: self.ended_micros.map(WallTime),
            score: self.score,
            identities: self.identities,
            interrupted: self.interrupted,
            detail: self.detail,
            snoozed: self.snoozed,
            recording_refused: self.recording_refused,
            kept: self.kept,
            snapshot: self.snapshot,
        })
    }
}

impl From<ClipRow> for SentFile {
    fn from(row: ClipRow) -> Self {
        Self {
            event: row.event.map(|id| id.to_string()),
            camera: row.camera.as_str().to_owned(),
            clip: row.into(),
        }
    }
}

impl SentFile {
    /// The row that was sent.
    ///
    /// # Errors
    /// When a word in it is not known here: the node is of another version.
    pub fn row(self) -> anyhow::Result<ClipRow> {
        let event = self.event.map(|id| id.parse::<EventId>()).transpose().context("the id of an event")?;
        self.clip.row(event, &CameraId::from_shown(&self.camera)?)
    }
}

impl SentClip {
    fn row(self, event: Option<EventId>, camera: &CameraId) -> anyhow::Result<ClipRow> {
        let known = [ClipState::Ok, ClipState::Repaired, ClipState::SetAside];
        let state = known.into_iter().find(|state| state.as_str() == self.state);
        Ok(ClipRow {
            event,
            camera: camera.clone(),
            path: self.path,
            started: WallTime(self.started_micros),
            duration: Duration::from_micros(self.duration_micros),
            frames: self.frames,
            bytes: self.bytes,
            sha256: self.sha256,
            state: state.with_context(|| format!("the state {} of a clip", self.state))?,
            skipped: self.skipped,
            missing: self.missing_micros.map(WallTime),
        })
    }
}

impl From<Sighting> for SentSighting {
    fn from(sighting: Sighting) -> Self {
        let detections = sighting.detections.into_iter().map(|one| SentDetection {
            label: one.label,
            score: one.score,
            x: one.bbox.x,
            y: one.bbox.y,
            width: one.bbox.width,
            height: one.bbox.height,
            identity: one.identity,
        });
        Self { at_micros: sighting.wall.0, seq: sighting.seq, detections: detections.collect() }
    }
}

impl From<SentSighting> for Sighting {
    fn from(sent: SentSighting) -> Self {
        let detections = sent.detections.into_iter().map(|one| Detection {
            label: one.label,
            score: one.score,
            bbox: Rect { x: one.x, y: one.y, width: one.width, height: one.height },
            identity: one.identity,
        });
        Self { wall: WallTime(sent.at_micros), seq: sent.seq, detections: detections.collect() }
    }
}

impl From<CheckInRow> for SentVisit {
    fn from(row: CheckInRow) -> Self {
        Self {
            person: row.name,
            camera: row.camera.as_str().to_owned(),
            at_micros: row.at.0,
            last_micros: row.last.0,
            event: row.event.to_string(),
        }
    }
}

impl SentVisit {
    /// The line that was sent.
    ///
    /// # Errors
    /// When the node is of another version.
    pub fn row(self) -> anyhow::Result<CheckInRow> {
        Ok(CheckInRow {
            name: self.person,
            camera: CameraId::from_shown(&self.camera)?,
            at: WallTime(self.at_micros),
            last: WallTime(self.last_micros),
            event: self.event.parse().context("the id of an event")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::EventKind;

    use super::*;

    /// Through what an answer does to it: numbers of a JSON value are wider.
    fn sent<T: Serialize, U: for<'a> Deserialize<'a>>(row: T) -> U {
        serde_json::from_str(&serde_json::to_value(row).unwrap().to_string()).unwrap()
    }

    #[test]
    fn rows_arrive_as_they_were() {
        let (id, camera) = (EventId::new(WallTime(7), [7; 10]), CameraId::from_shown("fe80::1~2").unwrap());
        let clip = |state, missing| ClipRow {
            event: Some(id),
            camera: camera.clone(),
            path: "capture/clip/a.mp4".to_owned(),
            started: WallTime(1_795_210_274_123_457),
            duration: Duration::from_micros(1_333_333),
            frames: 9,
            bytes: 10,
            sha256: Some("ab".to_owned()),
            state,
            skipped: 2,
            missing,
        };
        for phase in [EventPhase::Started, EventPhase::Updated, EventPhase::Ended] {
            let row = EventRow {
                id,
                camera: camera.clone(),
                kind: EventKind::ObjectMoved,
                phase,
                started: WallTime(1_795_210_274_123_456),
                started_seq: u64::MAX,
                ended: Some(WallTime(1_795_210_275_449_999)),
                score: 0.9,
                identities: vec!["李雷".to_owned()],
                interrupted: true,
                detail: Some("x".to_owned()),
                snoozed: true,
                recording_refused: true,
                kept: true,
                clips: vec![clip(ClipState::Repaired, Some(WallTime(3))), clip(ClipState::SetAside, None)],
                snapshot: Some("a.jpg".to_owned()),
            };
            let back = sent::<_, SentEvent>(SentEvent::from(row.clone())).row().unwrap();
            assert_eq!(back, row);
            assert_eq!(serde_json::to_string(&back).unwrap(), serde_json::to_string(&row).unwrap());
        }
        for event in [Some(id), None] {
            let row = ClipRow { event, ..clip(ClipState::SetAside, Some(WallTime(-3))) };
            let back = sent::<_, SentFile>(SentFile::from(row.clone())).row().unwrap();
            assert_eq!(back, row);
            assert_eq!(serde_json::to_string(&back).unwrap(), serde_json::to_string(&row).unwrap());
        }
        let mut face = Detection::new("face", 0.1, Rect::new(0.1, 1e-7, 33.3, 4.0));
        face.identity = Some("unknown".to_owned());
        let seen = Sighting { wall: WallTime(1_795_210_274_123_999), seq: 3, detections: vec![face] };
        let back = Sighting::from(sent::<_, SentSighting>(SentSighting::from(seen.clone())));
        assert_eq!(back, seen);
        assert_eq!(serde_json::to_string(&back).unwrap(), serde_json::to_string(&seen).unwrap());
        let visit =
            CheckInRow { name: "Ada".to_owned(), camera, at: WallTime(1), last: WallTime(2), event: id };
        assert_eq!(sent::<_, SentVisit>(SentVisit::from(visit.clone())).row().unwrap(), visit);
    }

    #[test]
    fn words_of_another_version_are_refused() {
        let row = serde_json::json!({
            "id": "01930000-0000-7000-8000-000000000001", "camera": "door", "kind": "person", "phase": "later",
            "started_micros": 1, "started_seq": 1, "ended_micros": null, "score": 1.0, "identities": [],
            "interrupted": false, "detail": null, "snoozed": false, "recording_refused": false, "kept": false,
            "clips": [], "snapshot": null,
        });
        let sent: SentEvent = serde_json::from_value(row).unwrap();
        assert!(sent.row().unwrap_err().to_string().contains("later"));
    }
}
