//! The HTTP side of the node: metrics, health, status, events with their clips, alerts, enrolled people, and one page.
//!
//! It runs on its own thread and runtime and learns what it shows through six traits, [`NodeView`], [`EventSource`],
//! [`PeopleDesk`], [`AlertDesk`], [`SnoozeDesk`] and [`StorageDesk`]. It never touches the frame path, and it answers
//! when that path is stuck.
#![forbid(unsafe_code)]

mod enrolled;
mod outbox;
mod settings;
mod status;
mod view;

mod door;
mod server;
mod token;

mod alerts;
mod events;
mod faces;
mod lane;
mod page;
mod people;
mod pictures;
mod routes;
mod shared;
mod snoozes;
mod storage;
mod store;

mod file_body;
mod range;

pub use enrolled::{
    Assignment, Corrected, Enrolment, Even, KnownAs, MAX_ENROLMENT_PICTURES, Mistake, PeopleDesk,
    PeopleError, PersonSummary, PictureProblem, Removal, UnknownPicture, UnknownSummary,
};
pub use outbox::{
    AlertDesk, AlertError, AlertQuery, AlertState, AlertSummary, MAX_ALERTS, Retried, TestResult,
};
pub use people::MAX_ENROLMENT_BYTES;
pub use server::{WebHandle, WebServer};
pub use settings::{WebError, WebSettings};
pub use status::{
    ActorState, ActorStatus, CameraStatus, ChannelStatus, DetectorStatus, ListenerStatus, MailboxStatus,
    NodeStatus, QueueStatus, SlotStatus, Status,
};
pub use view::{
    BadEventPlace, Begun, ClipQuery, EventPlace, EventQuery, EventSource, EventSourceError, EventSummary,
    LongWork, MAX_CLIPS, MAX_EVENTS, MAX_VISITS, NewSnooze, NodeView, Readiness, RowPage, SnapshotQuery,
    SnoozeDesk, SnoozeEnd, SnoozeError, SnoozeStatus, StorageDesk, StorageError, VisitPlace, VisitQuery,
};
