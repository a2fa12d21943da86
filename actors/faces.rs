//! The face actor: takes frames of all cameras in turn, finds faces and says whose they are. Shared; one per thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meerkat_base::{
    Clock, Detection, EventKind, FaceIdentity, FaceRecogniser, Image, ImageWish, PixelFormat, metric,
};
use meerkat_vision::decode_image;
use metrics::{counter, histogram};
use tracing::{info, warn};

use crate::camera::{Outcome, Stage};
use crate::events::{EventsLink, Seen};
use crate::gate::Lineup;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// How often the actor looks whether somebody was enrolled or removed.
const GALLERY_INTERVAL: Duration = Duration::from_secs(2);
/// Enrolled pictures need not be wider than this.
const ENROLLED_WIDTH: u32 = 640;

/// Who is enrolled. Read from the face actor's thread; may block for a moment.
pub trait Gallery: Send + Sync {
    /// A number that changes whenever somebody is enrolled or removed.
    fn generation(&self) -> Result<u64, String>;
    /// Everybody, with the files of their pictures.
    fn people(&self) -> Result<Vec<(String, Vec<PathBuf>)>, String>;
}

/// Finds and names faces in whichever camera's frame is next.
pub struct Faces {
    line: Arc<Lineup>,
    clock: Arc<dyn Clock>,
    events: EventsLink,
    gallery: Arc<dyn Gallery>,
    recogniser: Box<dyn FaceRecogniser>,
    enrolled: Option<u64>,
    looked: Option<Instant>,
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
        for result in ["known", "unknown"] {
            counter!(metric::FACES, "result" => result).increment(0);
        }
        // Made without a value: exported with zeros from the start.
        let info = recogniser.info();
        let _ = histogram!(metric::INFERENCE_DURATION, "model" => info.name, "device" => info.device);
        Self { line, clock, events, gallery, recogniser, enrolled: None, looked: None }
    }

    /// Brings the recogniser up to date with the gallery. A gallery that cannot be read is tried again later.
    fn follow_gallery(&mut self) -> Result<(), Failure> {
        if self.looked.is_some_and(|at| at.elapsed() < GALLERY_INTERVAL) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let generation = match self.gallery.generation() {
            Ok(generation) => generation,
            Err(error) => {
                warn!(error, "the gallery cannot be read");
                return Ok(());
            }
        };
        if self.enrolled == Some(generation) {
            return Ok(());
        }
        let people = match self.gallery.people() {
            Ok(people) => people,
            Err(error) => {
                warn!(error, "the gallery cannot be read");
                return Ok(());
            }
        };
        let count = people.len();
        let decoded: Vec<(String, Vec<Image>)> = people
            .into_iter()
            .map(|(name, files)| (name, files.iter().filter_map(picture).collect()))
            .collect();
        let usable = self.recogniser.enrol(&decoded).map_err(Failure::error)?;
        info!(people = count, pictures = usable, "gallery taken over");
        self.enrolled = Some(generation);
        Ok(())
    }
}

fn picture(path: &PathBuf) -> Option<Image> {
    let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: ENROLLED_WIDTH };
    let read = std::fs::read(path).map_err(|error| error.to_string());
    match read.and_then(|bytes| decode_image(&bytes, wish).map_err(|error| error.to_string())) {
        Ok((image, _)) => Some(image),
        Err(error) => {
            warn!(error, "an enrolled picture cannot be used");
            None
        }
    }
}

impl Component for Faces {
    fn step(&mut self) -> Result<Step, Failure> {
        self.follow_gallery()?;
        let Some((camera, frame)) = self.line.take() else { return Ok(Step::Idle) };
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
                FaceIdentity::Unknown => ("unknown", UNKNOWN.to_owned()),
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
