//! What the HTTP side needs to know and from whom: traits that the composition root implements. No HTTP here. People are
//! in `enrolled.rs`, alerts in `outbox.rs`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{CameraId, EventId, EventKind, ImageFormat, Sighting, WallTime};
use meerkat_store::CaptureKind;
use serde::Serialize;

use crate::status::Status;

/// Most events that one request can ask for.
pub const MAX_EVENTS: usize = 200;

/// The running node as seen from outside the frame path.
///
/// Calls come from threads of their own, several at once. One that takes longer than two seconds is answered
/// with an error (or the last known status) and counted; it delays only calls of the same method.
pub trait NodeView: Send + Sync + 'static {
    /// The state of the node now. Takes no lock that the frame path holds for long.
    fn status(&self) -> Status;
    /// The latest encoded picture of a camera and when it arrived; nothing for a camera that is not known or
    /// has sent none.
    fn latest_picture(&self, camera: &CameraId) -> Option<(Bytes, ImageFormat, WallTime)>;
    /// All metrics in the Prometheus text format, version 0.0.4.
    fn render_metrics(&self) -> String;
    /// Whether the node can do its work.
    fn ready(&self) -> Readiness;
    /// A person has looked at a database that was made anew: deletion goes on. Returns whether it was suspended; an
    /// error says why that cannot be done now.
    fn confirm_store(&self) -> Result<bool, String>;
    /// Tells the guard of a camera to take a new reference picture. False when the camera is not guarded now.
    fn request_new_reference(&self, camera: &CameraId) -> bool;
}

/// Whether the node can do its work, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// All actors run and the disk can be written.
    pub ok: bool,
    /// What is missing, in words; empty when `ok`.
    pub reasons: Vec<String>,
}

/// Which events to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of this camera.
    pub camera: Option<CameraId>,
    /// Only of this kind.
    pub kind: Option<EventKind>,
    /// Only those in which this person was recognised.
    pub person: Option<String>,
    /// Only those that started at this moment or later.
    pub since: Option<WallTime>,
    /// Only those that started before this moment.
    pub until: Option<WallTime>,
    /// Only events after this place in the list, that is, older ones.
    pub before: Option<EventPlace>,
    /// At most this many, in `1..=MAX_EVENTS`.
    pub limit: usize,
}

/// A place in the list of events, which is sorted by start and then by id, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPlace {
    /// Start of the event at this place.
    pub started: WallTime,
    /// Its id.
    pub id: EventId,
}

impl fmt::Display for EventPlace {
    /// `<microseconds since 1970>_<event id>`, as in the key `before` of a request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.started.0, self.id)
    }
}

/// The text is not a place in a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the list")]
pub struct BadEventPlace;

impl FromStr for EventPlace {
    type Err = BadEventPlace;
    fn from_str(text: &str) -> Result<Self, BadEventPlace> {
        let (started, id) = text.split_once('_').ok_or(BadEventPlace)?;
        let started = WallTime(started.parse().map_err(|_| BadEventPlace)?);
        Ok(Self { started, id: id.parse().map_err(|_| BadEventPlace)? })
    }
}

/// One event as the list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSummary {
    /// Its name.
    pub id: EventId,
    /// Where it happened.
    pub camera: CameraId,
    /// What happened.
    pub kind: EventKind,
    /// When it began.
    pub started: WallTime,
    /// When it was over; nothing while it goes on.
    pub ended: Option<WallTime>,
    /// Highest score, 0..=1.
    pub score: f32,
    /// Names of the people recognised; `unknown` stands for somebody who is not enrolled.
    pub identities: Vec<String>,
    /// The disk did not take everything of its recording.
    pub recording_refused: bool,
    /// A person wants it to stay.
    pub kept: bool,
    /// The finished clip (MP4), relative to the data folder.
    pub clip: Option<PathBuf>,
    /// The snapshot (JPEG), relative to the data folder.
    pub snapshot: Option<PathBuf>,
    /// What a notice says; nothing for what was seen.
    pub detail: Option<String>,
    /// Messages about it were kept back by a snooze.
    pub snoozed: bool,
}

/// The stored events, read only. Calls come from threads of their own, several at once, as for [`NodeView`].
pub trait EventSource: Send + Sync + 'static {
    /// The newest events that match, newest first.
    fn recent(&self, query: &EventQuery) -> Result<Vec<EventSummary>, EventSourceError>;
    /// One event.
    fn event(&self, id: EventId) -> Result<Option<EventSummary>, EventSourceError>;
    /// What was seen during an event, in the order of the frames, from frame number `from_seq` on; as many as the
    /// source likes, none at the end.
    fn sightings(&self, id: EventId, from_seq: u64) -> Result<Vec<Sighting>, EventSourceError>;

    /// As [`EventSource::recent`], as the command line wants it: the rows as they are sent. What is no page any more is
    /// cut, but for the first row.
    fn rows(&self, query: &EventQuery) -> Result<RowPage<EventPlace>, EventSourceError>;
    /// One event in the same form.
    fn row(&self, id: EventId) -> Result<Option<serde_json::Value>, EventSourceError>;
    /// What was seen during an event, in the same form; goes on at the number of a frame.
    fn sighting_rows(&self, id: EventId, from_seq: u64) -> Result<RowPage<u64>, EventSourceError>;
    /// Visits of enrolled people at cameras that count, oldest first.
    fn visits(&self, query: &VisitQuery) -> Result<RowPage<VisitPlace>, EventSourceError>;
    /// Clips, videos and segments as rows, at most [`MAX_CLIPS`]; goes on at a number.
    fn clips(&self, query: &ClipQuery) -> Result<RowPage<u64>, EventSourceError>;
    /// Paths of snapshots, at most [`MAX_CLIPS`]; goes on at a number.
    fn snapshots(&self, query: &SnapshotQuery) -> Result<RowPage<u64>, EventSourceError>;
}

/// A page of rows as they are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPage<P> {
    /// The rows.
    pub rows: Vec<serde_json::Value>,
    /// Where the next page begins; none at the end. That page may be empty.
    pub next: Option<P>,
}

/// Most rows of clips, and paths of snapshots, that one request can ask for.
pub const MAX_CLIPS: usize = meerkat_store::inventory::PAGE_ROWS;

/// Which rows of clips, videos and segments to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClipQuery {
    /// The newest, newest first.
    Newest {
        /// Only of this camera.
        camera: Option<CameraId>,
        /// Only of this kind.
        kind: Option<CaptureKind>,
        /// At most this many, in `1..=MAX_CLIPS`.
        limit: usize,
    },
    /// A page of all of them, by their numbers: those above this one.
    After(u64),
    /// Those of the file at this path, relative to the data folder: one for each event that it shows.
    At(String),
}

/// Which snapshots to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotQuery {
    /// A page of all of them, by their numbers: those above this one.
    After(u64),
    /// The one at this path, relative to the data folder.
    At(String),
}

/// Most visits that one request can ask for.
pub const MAX_VISITS: usize = 500;

/// Which visits to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitQuery {
    /// Those that began at this moment or later.
    pub since: WallTime,
    /// Those that began before this moment.
    pub until: WallTime,
    /// Only those after this place.
    pub after: Option<VisitPlace>,
    /// At most this many, in `1..=MAX_VISITS`.
    pub limit: usize,
}

/// A place in the list of visits, which is sorted by their begin and then by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisitPlace {
    /// When the visit at this place began.
    pub at: WallTime,
    /// Its number.
    pub number: u64,
}

impl fmt::Display for VisitPlace {
    /// `<microseconds since 1970>_<number>`, as in the key `after` of a request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.at.0, self.number)
    }
}

impl FromStr for VisitPlace {
    type Err = BadEventPlace;
    fn from_str(text: &str) -> Result<Self, BadEventPlace> {
        let (at, number) = text.split_once('_').ok_or(BadEventPlace)?;
        let at = WallTime(at.parse().map_err(|_| BadEventPlace)?);
        Ok(Self { at, number: number.parse().map_err(|_| BadEventPlace)? })
    }
}

/// The events could not be read. The reason is logged, never shown to a client.
#[derive(Debug, thiserror::Error)]
#[error("events cannot be read: {0}")]
pub struct EventSourceError(pub String);

/// What is stored and what becomes of it. Calls come from threads of their own, one at a time for each kind.
pub trait StorageDesk: Send + Sync + 'static {
    /// What is used by whom, and the state of deletion, as it is sent.
    fn report(&self) -> Result<serde_json::Value, StorageError>;
    /// What would go next, oldest first, as it is sent; at most so many.
    fn plan(&self, limit: usize) -> Result<serde_json::Value, StorageError>;
    /// Sets or takes back the keep flag of an event (by its id) or of a clip (by its path). Returns the paths of the
    /// clips that it concerns; none when there is no such event or clip.
    fn keep(&self, what: &str, keep: bool) -> Result<Option<Vec<String>>, StorageError>;
    /// A person says that the wall clock is right. Returns whether it was in doubt.
    fn confirm_clock(&self) -> bool;

    /// Begins what takes long at the database; returns at once.
    fn begin(&self, work: LongWork) -> Result<Begun, StorageError>;
    /// How far it is, as it is sent; errors of the work in words.
    fn state(&self, work: LongWork) -> serde_json::Value;
    /// Removes the backup that was made, which has been fetched or is not wanted any more. Returns whether there was one.
    fn discard_backup(&self) -> Result<bool, StorageError>;
}

/// What takes long at the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongWork {
    /// Looking through all of it.
    Check,
    /// A backup, in the node's own folder: no request says where to, and none gets what is in it.
    Backup,
}

/// What became of an order for long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It began; the number of the order.
    Number(u64),
    /// Another one is under way, or was made and is not fetched yet.
    Busy,
}

/// What is stored could not be read or changed. The reason is logged, never shown to a client.
#[derive(Debug, thiserror::Error)]
#[error("what is stored cannot be read or changed: {0}")]
pub struct StorageError(pub String);

/// An order to keep messages back.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSnooze {
    /// About this camera; none: about every camera.
    pub camera: Option<CameraId>,
    /// Of this rule; none: of every rule.
    pub rule: Option<String>,
    /// Until when.
    pub end: SnoozeEnd,
    /// Why, in somebody's words; may be empty.
    pub reason: String,
}

/// When a snooze is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SnoozeEnd {
    /// After so long.
    After(Duration),
    /// At this time.
    At(WallTime),
    /// Not by itself: disarmed, until somebody arms again.
    Never,
}

/// One snooze that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnoozeStatus {
    /// Its id, a UUID.
    pub id: String,
    /// The camera it is about; null: every camera.
    pub camera: Option<CameraId>,
    /// The rule it is about; null: every rule.
    pub rule: Option<String>,
    /// When it is over; null: disarmed until somebody arms again.
    pub until: Option<WallTime>,
    /// Why, in somebody's words; may be empty.
    pub reason: String,
    /// Since when.
    pub created: WallTime,
}

/// Who keeps the snoozes. Calls come from threads of their own and may wait for the one writer of the database.
pub trait SnoozeDesk: Send + Sync + 'static {
    /// Every snooze that holds, oldest first.
    fn snoozes(&self) -> Result<Vec<SnoozeStatus>, SnoozeError>;
    /// Keeps messages back from now on.
    fn add(&self, order: NewSnooze) -> Result<SnoozeStatus, SnoozeError>;
    /// Ends a snooze; whether there was such a one.
    fn cancel(&self, id: &str) -> Result<bool, SnoozeError>;
}

/// What was asked about snoozes was not done.
#[derive(Debug, thiserror::Error)]
pub enum SnoozeError {
    /// The order breaks a rule; the words are for the client.
    #[error("{0}")]
    Refused(String),
    /// The node could not do it. The reason is logged, never shown to a client.
    #[error("the snoozes cannot be read or changed: {0}")]
    Failed(String),
}
