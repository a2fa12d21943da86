//! Keeps actors alive: builds them by factory, notices panic, error and standstill, rebuilds with back-off.
//! No knowledge of what any actor does.
//!
//! Two shells run a component. A [`station`] is run by a [`crew`] of threads that may be lost to native
//! code; a [`solo`] is an actix actor alone on its arbiter. Both report to the [`board`] and are watched from a
//! thread of its own, the [`watch`], which runs no actor.

pub mod backoff;
pub mod board;
pub mod fault;
pub mod inbox;

pub mod crew;
mod pulse;
pub mod station;

pub mod solo;
pub mod watch;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use backoff::{Backoff, BackoffSettings};
pub(crate) use board::Stopwatch;
pub use board::{ActorReport, ActorState, Board};
pub use crew::{Crew, CrewSettings};
pub use inbox::{Inbox, Offer};
pub use solo::{Mailbox, Sentinel, Solo};
pub use station::{Component, Station, Step};
pub use watch::Watch;

/// Every kind of actor there is; the `actor` label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Talks with one camera.
    Session,
    /// Covers what nobody may see, one per camera.
    Masker,
    /// Decodes what the next step needs, one per camera.
    Decoder,
    /// Motion and the guard of a still object, one per camera.
    Motion,
    /// Finds people, shared.
    Person,
    /// Finds and recognises faces, shared.
    Face,
    /// Examines pictures of clients, shared.
    Examiner,
    /// Turns detections into events, shared.
    Events,
    /// Writes the spool, one per camera.
    Recorder,
    /// Makes one spool into one clip.
    Encoder,
    /// Owns the database.
    Archivist,
    /// Makes room on the disk.
    Evictor,
    /// Tells people.
    Notifier,
    /// Makes events of what the node notices about itself.
    Crier,
    /// Makes the pictures that viewers get, one per camera that can be watched.
    Projector,
    /// Sends them and hears the viewers' answers.
    Usher,
}

impl ActorKind {
    /// Every kind, in the order of the way of a frame.
    pub const ALL: [ActorKind; 16] = [
        ActorKind::Session,
        ActorKind::Masker,
        ActorKind::Decoder,
        ActorKind::Motion,
        ActorKind::Person,
        ActorKind::Face,
        ActorKind::Examiner,
        ActorKind::Events,
        ActorKind::Recorder,
        ActorKind::Encoder,
        ActorKind::Archivist,
        ActorKind::Evictor,
        ActorKind::Notifier,
        ActorKind::Crier,
        ActorKind::Projector,
        ActorKind::Usher,
    ];

    /// The word used in metrics, status and log.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::Session => "session",
            ActorKind::Masker => "masker",
            ActorKind::Decoder => "decoder",
            ActorKind::Motion => "motion",
            ActorKind::Person => "person",
            ActorKind::Face => "face",
            ActorKind::Examiner => "examiner",
            ActorKind::Events => "events",
            ActorKind::Recorder => "recorder",
            ActorKind::Encoder => "encoder",
            ActorKind::Archivist => "archivist",
            ActorKind::Evictor => "evictor",
            ActorKind::Notifier => "notifier",
            ActorKind::Crier => "crier",
            ActorKind::Projector => "projector",
            ActorKind::Usher => "usher",
        }
    }
}

impl ActorKind {
    /// Whether it works in native code on the pictures of one camera, which may hang over each of them.
    fn sees_pictures(self) -> bool {
        matches!(self, Self::Masker | Self::Decoder | Self::Motion | Self::Projector)
    }
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an actor is no longer running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It panicked, with this message.
    Panic(String),
    /// It gave up with this error.
    Error(String),
    /// It stood still for longer than its deadline.
    Hang,
}

impl Failure {
    /// An error made of anything that can be shown.
    pub fn error(what: impl fmt::Display) -> Self {
        Failure::Error(what.to_string())
    }

    /// The `reason` label of the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Panic(_) => "panic",
            Failure::Error(_) => "error",
            Failure::Hang => "hang",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panic(message) => write!(f, "panic: {message}"),
            Failure::Error(message) => f.write_str(message),
            Failure::Hang => f.write_str("stood still past its deadline"),
        }
    }
}

/// Reads the message out of a caught panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
