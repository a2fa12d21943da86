//! What status, pages and metrics may ask of a running node. Asks only; the node itself is in the file above.

use std::collections::BTreeMap;
use std::sync::Arc;

use meerkat_base::{Budget, CameraId, DetectorInfo, NoticeSink};

use crate::archivist::Archivist;
use crate::camera::{Camera, CameraReport, Cameras};
use crate::detectors::Known;
use crate::gate::Gates;
use crate::notices::Notices;
use crate::notifier::{ChannelReport, NotifierLink};
use crate::recorder::Encoders;
use crate::rules::Rules;
use crate::storage::{Room, StorageState};
use crate::supervision::{ActorKind, ActorReport, Board};

/// What status, pages and metrics may ask of a running node. Never blocks on the frame path.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) cameras: Cameras,
    pub(super) board: Board,
    pub(super) in_flight: Budget,
    pub(super) archivist: Archivist,
    pub(super) encoders: Encoders,
    pub(super) detectors: Known,
    pub(super) gates: Arc<Gates>,
    pub(super) notifier: NotifierLink,
    pub(super) notices: Notices,
    pub(super) alerts: Rules,
    pub(super) room: Arc<Room>,
    pub(super) storage: StorageState,
}

impl NodeHandle {
    /// Every camera that is here.
    pub fn cameras(&self) -> Vec<CameraReport> {
        self.cameras.reports()
    }

    /// One camera.
    pub fn camera(&self, id: &CameraId) -> Option<Arc<Camera>> {
        self.cameras.get(id)
    }

    /// Every actor.
    pub fn actors(&self) -> Vec<ActorReport> {
        self.board.reports()
    }

    /// Kinds of which an actor waits for its restart.
    pub fn down(&self) -> Vec<ActorKind> {
        self.board.down()
    }

    /// Threads given up and still hanging.
    pub fn abandoned_threads(&self) -> usize {
        self.board.abandoned_threads()
    }

    /// Bytes of frames being received.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.used()
    }

    /// Alerts that are not delivered yet, as of about a second ago.
    pub fn outbox_waiting(&self) -> u64 {
        self.notifier.waiting()
    }

    /// How every channel is doing, by name, as of about a second ago.
    pub fn channels(&self) -> BTreeMap<String, ChannelReport> {
        self.notifier.reports()
    }

    /// The way to the notifier.
    pub fn notifier(&self) -> &NotifierLink {
        &self.notifier
    }

    /// Bytes in all rings.
    pub fn ring_bytes(&self) -> usize {
        self.cameras.ring_bytes()
    }

    /// Detectors at work, with what they are for.
    pub fn detectors(&self) -> Vec<(&'static str, DetectorInfo)> {
        self.detectors.list()
    }

    /// Queues with their lengths.
    pub fn queues(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("archivist", self.archivist.waiting()),
            ("encoder", self.encoders.waiting()),
            ("person", self.gates.people.len()),
            ("face", self.gates.faces.len()),
        ]
    }

    /// Where parts outside the actors say what they notice about the node.
    pub fn notices(&self) -> Arc<dyn NoticeSink> {
        self.notices.sink()
    }

    /// The rules at work, with the snoozes.
    pub fn rules(&self) -> &Rules {
        &self.alerts
    }

    /// The disk: whether there is room, and whether it is there.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// What is used, and what the evictor does.
    pub fn storage(&self) -> &StorageState {
        &self.storage
    }

    /// The archivist, for what the HTTP side is asked to change.
    pub fn archivist(&self) -> &Archivist {
        &self.archivist
    }
}
