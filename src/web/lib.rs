//! The HTTP side of the node: metrics, health, status, events with their clips, enrolled people, and one page.
//!
//! It runs on its own thread and runtime and learns what it shows through three traits, [`NodeView`],
//! [`EventSource`] and [`PeopleDesk`]. It never touches the frame path, and it answers when that path is stuck.
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
mod people;
mod pictures;
mod routes;

mod confine;
mod file_body;
mod range;

pub use people::MAX_ENROLMENT_BYTES;
pub use server::{WebHandle, WebServer};
pub use settings::{WebError, WebSettings};
pub use status::{
    ActorState, ActorStatus, CameraStatus, DetectorStatus, ListenerStatus, MailboxStatus, NodeStatus,
    QueueStatus, SlotStatus, Status,
};
pub use view::{
    BadEventPlace, Enrolment, EventPlace, EventQuery, EventSource, EventSourceError, EventSummary,
    MAX_ENROLMENT_PICTURES, MAX_EVENTS, NodeView, PeopleDesk, PeopleError, PersonSummary, PictureProblem,
    Readiness,
};
