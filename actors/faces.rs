//! The face actor: takes frames of all cameras in turn, finds faces and says whose they are. Shared; one per thread.

mod gallery;
pub(crate) mod strangers;

use std::sync::Arc;
use std::time::Instant;

use meerkat_base::{
    Clock, Detection, EventKind, FaceIdentity, FaceRecogniser, FoundFace, Image, Unfit, metric,
};
use metrics::counter;

pub(crate) use gallery::Following;
pub use gallery::Gallery;
pub use strangers::Strangers;

use crate::camera::{Outcome, Stage};
use crate::detectors::{Look, Place, gather};
use crate::events::{EventsLink, Seen};
use crate::gate::Lineup;
use crate::supervision::{ActorKind, Component, Failure, Step};

/// Finds and names faces in whichever camera's frame is next.
pub struct Faces {
    line: Arc<Lineup>,
    clock: Arc<dyn Clock>,
    events: EventsLink,
    gallery: Following,
    strangers: Arc<Strangers>,
    place: Place<dyn FaceRecogniser>,
}

impl Faces {
    /// Puts a recogniser to work.
    pub fn new(
        line: Arc<Lineup>,
        clock: Arc<dyn Clock>,
        events: EventsLink,
        gallery: Arc<dyn Gallery>,
        strangers: Arc<Strangers>,
        place: Place<dyn FaceRecogniser>,
    ) -> Self {
        for result in ["known", "unknown"].into_iter().chain(Unfit::ALL.map(Unfit::as_str)) {
            counter!(metric::FACES, "result" => result).increment(0);
        }
        Self { line, clock, events, gallery: Following::new(gallery), strangers, place }
    }

    fn tell(&self, look: &Look, faces: Vec<FoundFace>, space: Option<&str>) {
        if look.camera.is_outdated(look.frame.seq) {
            // The mask changed while it was being looked at: nothing of it is told, and no face of it is kept.
            return look.camera.counters.frame(Stage::Face, Outcome::Stale);
        }
        let floor = look.camera.settings().face_min_score;
        let mut detections = Vec::new();
        for face in faces.into_iter().filter(|face| face.score >= floor) {
            if let Some(space) = space {
                self.strangers.offer(&look.camera, &look.frame, &look.image, &face, space);
            }
            let (result, identity) = match face.identity {
                FaceIdentity::Known { name, .. } => ("known", name),
                FaceIdentity::Unknown => (face.unfit.map_or("unknown", Unfit::as_str), UNKNOWN.to_owned()),
            };
            counter!(metric::FACES, "result" => result).increment(1);
            let mut detection = Detection::new("face", face.score, face.bbox.scaled(look.scale));
            detection.identity = Some(identity);
            detections.push(detection);
        }
        look.camera.counters.frame(Stage::Face, Outcome::Ok);
        look.camera.counters.took(Stage::Face, self.clock.mono() - look.frame.mono);
        self.events.tell(Seen::of(&look.camera, &look.frame, EventKind::Face, detections));
    }
}

impl Component for Faces {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(recogniser) = self.place.detector()? else {
            // Whoever comes next at this place knows nobody yet.
            self.gallery.forget();
            return Ok(Step::Idle);
        };
        let more = self.gallery.advance(recogniser);
        let strangers_wanted = self.strangers.are_wanted();
        recogniser.want_embeddings(strangers_wanted);
        let Some(looks) = gather(&self.line, ActorKind::Face, recogniser.wish(), recogniser.batch())? else {
            return Ok(if more { Step::Again } else { Step::Idle });
        };
        if looks.is_empty() {
            return Ok(Step::Again);
        }
        let began = Instant::now();
        let images: Vec<&Image> = looks.iter().map(|look| &look.image).collect();
        let found = recogniser.recognise_all(&images).map_err(|error| {
            looks.iter().for_each(|look| look.camera.counters.frame(Stage::Face, Outcome::Error));
            Failure::error(error)
        })?;
        // Of somebody who comes before everybody who is enrolled is known, nothing is known.
        let is_certain = strangers_wanted && self.gallery.is_complete();
        let space = if is_certain { recogniser.embedding_space() } else { None };
        self.place.looked(began, looks.len());
        for (look, faces) in looks.iter().zip(found) {
            self.tell(look, faces, space.as_deref());
        }
        Ok(Step::Again)
    }
}

/// The identity of a face that matches nobody.
pub const UNKNOWN: &str = "unknown";
