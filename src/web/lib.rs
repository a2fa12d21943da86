//! The HTTP side of the node: metrics, health, status, events with their clips, and one page.
//!
//! It runs on its own thread and runtime and learns what it shows through two traits, [`NodeView`] and
//! [`EventSource`]. It never touches the frame path, and it answers when that path is stuck.
#![forbid(unsafe_code)]

mod settings;
mod status;
mod view;

mod door;
mod server;
mod token;

mod events;
mod lane;
mod page;
mod pictures;
mod routes;

mod confine;
mod file_body;
mod range;

pub use server::{WebHandle, WebServer};
pub use settings::{WebError, WebSettings};
pub use status::{
    ActorState, ActorStatus, CameraStatus, DetectorStatus, ListenerStatus, MailboxStatus, NodeStatus,
    QueueStatus, SlotStatus, Status,
};
pub use view::{
    BadEventPlace, EventPlace, EventQuery, EventSource, EventSourceError, EventSummary, MAX_EVENTS, NodeView,
    Readiness,
};
