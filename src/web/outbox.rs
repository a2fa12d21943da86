//! What the HTTP side needs to know about alerts and channels, and whom it asks: one trait that the composition root
//! implements. No HTTP here.

use meerkat_base::{CameraId, EventId, EventKind, WallTime};
use serde::Serialize;
use uuid::Uuid;

/// Most alerts that one request can ask for.
pub const MAX_ALERTS: usize = 500;

/// What has become of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Not delivered yet.
    Waiting,
    /// Delivered.
    Delivered,
    /// Given up: a dead letter.
    Dead,
}

impl AlertState {
    /// Every state.
    pub const ALL: [AlertState; 3] = [AlertState::Waiting, AlertState::Delivered, AlertState::Dead];

    /// The word used in queries and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Waiting => "waiting",
            AlertState::Delivered => "delivered",
            AlertState::Dead => "dead",
        }
    }
}

/// One alert, or one clip that follows an alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertSummary {
    /// Its place in the order of writing; where to go on reading.
    pub number: i64,
    /// Its id, also in the addresses of this interface.
    pub id: Uuid,
    /// The idempotency key that receivers see: the same for an alert and the clips that follow it.
    pub key: Uuid,
    /// The event it tells of.
    pub event: EventId,
    /// Name of the channel.
    pub channel: String,
    /// 0 for the alert itself, from 1 on for the clips that follow it.
    pub part: u32,
    /// Camera of the event.
    pub camera: CameraId,
    /// Kind of the event.
    pub kind: EventKind,
    /// What has become of it.
    pub state: AlertState,
    /// When it was written.
    pub created: WallTime,
    /// Attempts that were made.
    pub attempts: u64,
    /// When the next one may be made; null for what waits no more.
    pub next_attempt: Option<WallTime>,
    /// When it was delivered or given up.
    pub settled: Option<WallTime>,
    /// The digest that stands for it, where it was not delivered by itself.
    pub digest: Option<Uuid>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Which alerts to read, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertQuery {
    /// Only of this state.
    pub state: Option<AlertState>,
    /// Only of this channel.
    pub channel: Option<String>,
    /// Only of this camera.
    pub camera: Option<CameraId>,
    /// Only alerts before the one with this number.
    pub before: Option<i64>,
    /// At most this many, in `1..=MAX_ALERTS`.
    pub limit: usize,
}

/// What came of putting a dead letter back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It waits again.
    Yes,
    /// It is no dead letter but in this state.
    Is(AlertState),
    /// There is no such alert.
    Unknown,
}

/// What came of a test message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Whether the service has taken it.
    pub delivered: bool,
    /// Whether trying again cannot help.
    pub refused: bool,
    /// What the service, or the way to it, said.
    pub reason: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// The outbox and the channels. Calls come from threads of their own, one at a time for each method; a test may take a
/// minute, the others seconds, before the client is told that there was no answer.
pub trait AlertDesk: Send + Sync + 'static {
    /// The newest alerts that match, newest first.
    fn alerts(&self, query: &AlertQuery) -> Result<Vec<AlertSummary>, AlertError>;
    /// Puts a dead letter back into the queue.
    fn retry(&self, id: Uuid) -> Result<Retried, AlertError>;
    /// Puts all dead letters back, of one channel or of all; returns how many.
    fn retry_dead(&self, channel: Option<&str>) -> Result<u64, AlertError>;
    /// Removes an alert that waits or was given up, with the clips that would follow it; returns how many rows.
    fn drop_alert(&self, id: Uuid) -> Result<u64, AlertError>;
    /// Sends a message that says that it is a test; nothing for a channel that there is not.
    fn test(&self, channel: &str) -> Result<Option<TestResult>, AlertError>;
}

/// What was asked about alerts was not done. The reason is logged, never shown to a client.
#[derive(Debug, thiserror::Error)]
#[error("the outbox cannot be read or changed: {0}")]
pub struct AlertError(pub String);
