//! The face actor: takes frames of all cameras in turn, finds faces and says whose they are. Shared; one per thread.

mod gallery;

use std::sync::Arc;
use std::time::Instant;

use meerkat_base::{Clock, Detection, EventKind, FaceIdentity, FaceRecogniser, Unfit, metric};
use meerkat_vision::decode_image;
use metrics::{counter, histogram};

use gallery::Following;
pub use gallery::Gallery;

use crate::camera::{Outcome, Stage};
use crate::events::{EventsLink, Seen};
use crate::gate::Lineup;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// Finds and names faces in whichever camera's frame is next.
pub struct Faces {
    line: Arc<Lineup>,
    clock: Arc<dyn Clock>,
    events: EventsLink,
    gallery: Following,
    recogniser: Box<dyn FaceRecogniser>,
}

impl Faces {
    /// Puts a recogniser to work.
    pub fn new(
        line: Arc<Lineup>,
        clock: Arc<dyn Clock>,
        events: EventsLink,
        gallery: Arc<dyn Gallery>,
        recogniser: Box<dyn FaceRecogniser>,
    ) -> Self {
        for result in ["known", "unknown"].into_iter().chain(Unfit::ALL.map(Unfit::as_str)) {
            counter!(metric::FACES, "result" => result).increment(0);
        }
        Self { line, clock, events, gallery: Following::new(gallery), recogniser }
    }
}

impl Component for Faces {
    fn step(&mut self) -> Result<Step, Failure> {
        let more = self.gallery.advance(self.recogniser.as_mut());
        let Some((camera, frame)) = self.line.take() else {
            return Ok(if more { Step::Again } else { Step::Idle });
        };
        fault::point(ActorKind::Face, Some(camera.id()))?;
        let (image, scale) = match decode_image(&frame.bytes, self.recogniser.wish()) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::debug!(camera = %camera.id(), frame = frame.seq, %error, "a frame cannot be decoded");
                camera.counters.frame(Stage::Face, Outcome::Error);
                return Ok(Step::Again);
            }
        };
        let began = Instant::now();
        let found = self.recogniser.recognise(&image).map_err(|error| {
            camera.counters.frame(Stage::Face, Outcome::Error);
            Failure::error(error)
        })?;
        let model = self.recogniser.info();
        histogram!(metric::INFERENCE_DURATION, "model" => model.name, "device" => model.device)
            .record(began.elapsed());
        let floor = camera.settings().face_min_score;
        let mut detections = Vec::new();
        for face in found.into_iter().filter(|face| face.score >= floor) {
            let (result, identity) = match face.identity {
                FaceIdentity::Known { name, .. } => ("known", name),
                FaceIdentity::Unknown => (face.unfit.map_or("unknown", Unfit::as_str), UNKNOWN.to_owned()),
            };
            counter!(metric::FACES, "result" => result).increment(1);
            let mut detection = Detection::new("face", face.score, face.bbox.scaled(scale));
            detection.identity = Some(identity);
            detections.push(detection);
        }
        camera.counters.frame(Stage::Face, Outcome::Ok);
        camera.counters.took(Stage::Face, self.clock.mono() - frame.mono);
        self.events.tell(Seen::of(&camera, &frame, EventKind::Face, detections));
        Ok(Step::Again)
    }
}

/// The identity of a face that matches nobody.
pub const UNKNOWN: &str = "unknown";
