//! What a part of the node has to say about the node itself: a fact, not a message. Who is told, when and how often is
//! decided where notices arrive.

use std::sync::Arc;

use crate::event::EventKind;
use crate::ids::CameraId;

/// One fact about the node. It holds from a notice with `holds: true` to the next one with the same kind, camera and
/// subject and `holds: false`; saying it again in between changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; one of the kinds for which [`EventKind::is_notice`] holds.
    pub kind: EventKind,
    /// The camera it concerns; none for the node as a whole.
    pub camera: Option<CameraId>,
    /// What exactly, such as the name of an actor, a channel or a file; may be empty.
    pub subject: String,
    /// Whether it holds from now on, or is over.
    pub holds: bool,
    /// Words for a person, in English, without secrets, at most a few hundred bytes.
    pub detail: String,
}

/// Takes notices. Never blocks and never fails: a notice that finds no room is counted and dropped.
pub trait NoticeSink: Send + Sync {
    /// Says a fact.
    fn raise(&self, notice: Notice);
}

/// Drops every notice: for tests and for parts that run without a node.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNotices;

impl NoticeSink for NoNotices {
    fn raise(&self, _: Notice) {}
}

impl<T: NoticeSink + ?Sized> NoticeSink for Arc<T> {
    fn raise(&self, notice: Notice) {
        (**self).raise(notice);
    }
}
