//! The person actor: takes frames of all cameras in turn and looks for people. Shared; one per thread.

use std::sync::Arc;
use std::time::Instant;

use meerkat_base::{Clock, EventKind, Image, PersonDetector};

use crate::camera::{Outcome, Stage};
use crate::detectors::{Place, gather};
use crate::events::{EventsLink, Seen};
use crate::gate::Lineup;
use crate::supervision::{ActorKind, Component, Failure, Step};

/// Looks for people in whichever camera's frame is next.
pub struct People {
    line: Arc<Lineup>,
    clock: Arc<dyn Clock>,
    events: EventsLink,
    place: Place<dyn PersonDetector>,
}

impl People {
    /// Puts a detector to work.
    pub fn new(
        line: Arc<Lineup>,
        clock: Arc<dyn Clock>,
        events: EventsLink,
        place: Place<dyn PersonDetector>,
    ) -> Self {
        Self { line, clock, events, place }
    }
}

impl Component for People {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(detector) = self.place.detector()? else { return Ok(Step::Idle) };
        let gathered = gather(&self.line, ActorKind::Person, detector.wish(), detector.batch())?;
        let Some(looks) = gathered else { return Ok(Step::Idle) };
        if looks.is_empty() {
            return Ok(Step::Again);
        }
        let began = Instant::now();
        let images: Vec<&Image> = looks.iter().map(|look| &look.image).collect();
        let found = detector.detect_all(&images).map_err(|error| {
            looks.iter().for_each(|look| look.camera.counters.frame(Stage::Person, Outcome::Error));
            Failure::error(error)
        })?;
        self.place.looked(began, looks.len());
        for (look, mut found) in looks.iter().zip(found) {
            if look.camera.is_outdated(look.frame.seq) {
                // The mask changed while it was being looked at: nothing of it is told.
                look.camera.counters.frame(Stage::Person, Outcome::Stale);
                continue;
            }
            let floor = look.camera.settings().person_min_score;
            found.retain(|detection| detection.score >= floor);
            for detection in &mut found {
                detection.bbox = detection.bbox.scaled(look.scale);
            }
            look.camera.counters.frame(Stage::Person, Outcome::Ok);
            look.camera.counters.took(Stage::Person, self.clock.mono() - look.frame.mono);
            self.events.tell(Seen::of(&look.camera, &look.frame, EventKind::Person, found));
        }
        Ok(Step::Again)
    }
}
