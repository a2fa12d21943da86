//! Turns sightings into events: one visit is one event. The state machine is in `visit.rs`, the actix shell in
//! `shell.rs`, and what follows from an event (recording, row, alert, check-in) in `courier.rs`. Who is told is decided by
//! the rules next door.

mod courier;
pub(crate) mod losses;
mod shell;
mod visit;

use std::sync::Arc;

use meerkat_base::{Detection, EventKind, Frame, MonoTime, WallTime};

pub use courier::{CourierRules, CourierTools};
pub use shell::{Events, EventsLink, EventsTools};
pub use visit::{Change, Visits};

use crate::camera::Camera;

/// What a detector saw in one frame. Empty detections say that nothing was there.
#[derive(Clone)]
pub struct Seen {
    /// The camera.
    pub camera: Arc<Camera>,
    /// What was looked for.
    pub kind: EventKind,
    /// Number of the frame.
    pub seq: u64,
    /// When it arrived, for people.
    pub wall: WallTime,
    /// When it arrived, for durations.
    pub mono: MonoTime,
    /// Whether it came from a camera that had proved itself.
    pub proven: bool,
    /// What was found, in pixels of the frame.
    pub detections: Vec<Detection>,
}

impl Seen {
    /// What was seen in this frame.
    pub fn of(camera: &Arc<Camera>, frame: &Frame, kind: EventKind, detections: Vec<Detection>) -> Self {
        Self {
            camera: Arc::clone(camera),
            kind,
            seq: frame.seq,
            wall: frame.wall,
            mono: frame.mono,
            proven: frame.proven,
            detections,
        }
    }
}
