//! What `/api/v1/status` says, field by field. The names are stable: fields may be added, none renamed or
//! removed. Data only; others fill it.

use meerkat_base::{CameraId, DetectorInfo, Mode, WallTime};
use serde::Serialize;

use crate::view::SnoozeStatus;

/// The state of the whole node at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The node itself.
    pub node: NodeStatus,
    /// Where cameras can connect; in the order of the configuration.
    pub listeners: Vec<ListenerStatus>,
    /// Every configured camera and every other camera that has been seen.
    pub cameras: Vec<CameraStatus>,
    /// Every supervised actor.
    pub actors: Vec<ActorStatus>,
    /// What waits where.
    pub queues: QueueStatus,
    /// Every channel, by name.
    pub channels: Vec<ChannelStatus>,
    /// Snoozes that hold: messages that are kept back.
    pub snoozes: Vec<SnoozeStatus>,
    /// Detectors in use.
    pub detectors: Vec<DetectorStatus>,
    /// Threads that hang in native code and were given up. At four the node exits.
    pub abandoned_threads: u64,
}

/// The node itself.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Version of the program, such as `0.1.0`.
    pub version: String,
    /// Commit it was built from; empty when that is not known.
    pub commit: String,
    /// When the process started.
    pub started: WallTime,
    /// Seconds since then, by the monotonic clock.
    pub uptime_seconds: f64,
    /// Whether something does not work as configured although the node runs.
    pub degraded: bool,
    /// What the operator should know, in sentences; at least one when `degraded`.
    pub notices: Vec<String>,
}

/// One address that cameras can connect to.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// The protocol spoken there, such as `frame`.
    pub dialect: String,
    /// Address and port, such as `127.0.0.1:9000`.
    pub address: String,
}

/// One camera.
#[derive(Debug, Clone, Serialize)]
pub struct CameraStatus {
    /// Its id, also in the addresses of this interface.
    pub id: CameraId,
    /// Whether a connection is open.
    pub connected: bool,
    /// Whether it is connected and has sent a frame within its silence limit.
    pub up: bool,
    /// The mode it asked for last; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The protocol it speaks; absent before its first connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// When its last frame arrived; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<WallTime>,
    /// Frames accepted since the node started.
    pub frames: u64,
    /// Frames accepted per second, over the last few seconds; absent when not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_per_second: Option<f64>,
    /// Frames refused since the node started.
    pub refused: u64,
    /// Bytes held by its ring.
    pub ring_bytes: u64,
    /// Where its frames wait for detectors.
    pub slots: Vec<SlotStatus>,
    /// Whether a recording runs at this moment.
    pub recording: bool,
}

/// One slot of one camera.
#[derive(Debug, Clone, Serialize)]
pub struct SlotStatus {
    /// The detector it feeds, such as `motion`.
    pub detector: String,
    /// Whether a frame waits in it.
    pub full: bool,
    /// Frames replaced by a newer one before the detector looked at them, since the node started.
    pub replaced: u64,
}

/// How an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// It works or waits for work.
    Running,
    /// It failed and waits for its restart.
    BackingOff,
    /// It failed and is not restarted.
    Failed,
    /// It hangs in native code; its thread was given up.
    Abandoned,
}

/// One supervised actor.
#[derive(Debug, Clone, Serialize)]
pub struct ActorStatus {
    /// Its kind, the word of the metrics label `actor`.
    pub kind: String,
    /// The camera it belongs to; absent for shared actors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraId>,
    /// Counts from 1; one more with every restart.
    pub generation: u64,
    /// How it is doing.
    pub state: ActorState,
    /// Restarts since the node started.
    pub restarts: u64,
    /// Why it failed last, in words; absent when it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it was restarted last; absent when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<WallTime>,
}

/// What waits where.
#[derive(Debug, Clone, Default, Serialize)]
pub struct QueueStatus {
    /// Bytes of frames that are being received over all connections.
    pub in_flight_bytes: u64,
    /// Bytes held by the rings of all cameras.
    pub ring_bytes: u64,
    /// Alerts that are not delivered yet.
    pub outbox_waiting: u64,
    /// Mailboxes, one entry per kind of actor.
    pub mailboxes: Vec<MailboxStatus>,
}

/// The mailboxes of one kind of actor.
#[derive(Debug, Clone, Serialize)]
pub struct MailboxStatus {
    /// The kind, as in [`ActorStatus::kind`].
    pub actor: String,
    /// Messages waiting in all of them.
    pub waiting: u64,
}

/// One channel.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Which service it speaks to, such as `wecom`.
    pub kind: String,
    /// `closed` while it is used, `open` while it is left alone because it fails, `half_open` while one attempt shows
    /// whether it works again.
    pub breaker: String,
    /// Alerts and clips that wait for it.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Since when the one that has waited longest waits; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<WallTime>,
    /// When something arrived last, since the node started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<WallTime>,
    /// Why the last attempt failed; absent once something arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// One detector in use.
#[derive(Debug, Clone, Serialize)]
pub struct DetectorStatus {
    /// What it is for: `motion`, `person` or `face`.
    pub role: String,
    /// Name of the method or network.
    pub name: String,
    /// `classic` for the built-in methods, `candle` for networks.
    pub backend: String,
    /// Where it computes: `cpu`, `cuda:0`.
    pub device: String,
}

impl DetectorStatus {
    /// What a detector says of itself, with the role it plays here.
    pub fn new(role: &str, info: &DetectorInfo) -> Self {
        Self {
            role: role.to_owned(),
            name: info.name.clone(),
            backend: info.backend.to_owned(),
            device: info.device.clone(),
        }
    }
}
