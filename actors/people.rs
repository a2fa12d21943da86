//! The person actor: takes frames of all cameras in turn and looks for people. Shared; one per thread.

use std::sync::Arc;
use std::time::Instant;

use meerkat_base::{Clock, EventKind, PersonDetector, metric};
use meerkat_vision::decode_image;
use metrics::histogram;
use tracing::debug;

use crate::camera::{Outcome, Stage};
use crate::events::{EventsLink, Seen};
use crate::gate::Lineup;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// Looks for people in whichever camera's frame is next.
pub struct People {
    line: Arc<Lineup>,
    clock: Arc<dyn Clock>,
    events: EventsLink,
    detector: Box<dyn PersonDetector>,
}

impl People {
    /// Puts a detector to work.
    pub fn new(
        line: Arc<Lineup>,
        clock: Arc<dyn Clock>,
        events: EventsLink,
        detector: Box<dyn PersonDetector>,
    ) -> Self {
        // Made without a value: exported with zeros from the start.
        let info = detector.info();
        let _ = histogram!(metric::INFERENCE_DURATION, "model" => info.name, "device" => info.device);
        Self { line, clock, events, detector }
    }
}

impl Component for People {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some((camera, frame)) = self.line.take() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Person, Some(camera.id()))?;
        let (image, scale) = match decode_image(&frame.bytes, self.detector.wish()) {
            Ok(decoded) => decoded,
            Err(error) => {
                debug!(camera = %camera.id(), frame = frame.seq, %error, "a frame cannot be decoded");
                camera.counters.frame(Stage::Person, Outcome::Error);
                return Ok(Step::Again);
            }
        };
        let began = Instant::now();
        let mut found = self.detector.detect(&image).map_err(|error| {
            camera.counters.frame(Stage::Person, Outcome::Error);
            Failure::error(error)
        })?;
        let info = self.detector.info();
        histogram!(metric::INFERENCE_DURATION, "model" => info.name, "device" => info.device)
            .record(began.elapsed());
        let floor = camera.settings().person_min_score;
        found.retain(|detection| detection.score >= floor);
        for detection in &mut found {
            detection.bbox = detection.bbox.scaled(scale);
        }
        camera.counters.frame(Stage::Person, Outcome::Ok);
        camera.counters.took(Stage::Person, self.clock.mono() - frame.mono);
        self.events.tell(Seen::of(&camera, &frame, EventKind::Person, found));
        Ok(Step::Again)
    }
}
