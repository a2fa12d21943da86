//! The face actor: takes frames of all cameras in turn, finds faces and says whose they are. Shared; one per thread.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
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

/// A gallery that is being made, picture by picture: a large one takes longer than any piece of work may, and the
/// cameras do not wait for it.
struct Making {
    generation: u64,
    people: usize,
    left: VecDeque<(String, PathBuf)>,
    usable: usize,
}

/// Finds and names faces in whichever camera's frame is next.
pub struct Faces {
    line: Arc<Lineup>,
    clock: Arc<dyn Clock>,
    events: EventsLink,
    gallery: Arc<dyn Gallery>,
    recogniser: Box<dyn FaceRecogniser>,
    enrolled: Option<u64>,
    making: Option<Making>,
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
        Self { line, clock, events, gallery, recogniser, enrolled: None, making: None, looked: None }
    }

    /// Begins anew when somebody was enrolled or removed. A gallery that cannot be read is tried again later.
    fn follow_gallery(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < GALLERY_INTERVAL) {
            return;
        }
        self.looked = Some(Instant::now());
        let known = self.making.as_ref().map(|making| making.generation).or(self.enrolled);
        let read = self.gallery.generation().and_then(|generation| {
            if known == Some(generation) { Ok(None) } else { Ok(Some((generation, self.gallery.people()?))) }
        });
        match read {
            Ok(None) => {}
            Ok(Some((generation, people))) => {
                let count = people.len();
                let left = people
                    .into_iter()
                    .flat_map(|(name, files)| files.into_iter().map(move |file| (name.clone(), file)))
                    .collect();
                self.recogniser.begin_gallery();
                self.making = Some(Making { generation, people: count, left, usable: 0 });
            }
            Err(error) => warn!(error, "the gallery cannot be read"),
        }
    }

    /// Takes the next picture into the gallery that is being made. True: there is more to do.
    fn make_gallery(&mut self) -> bool {
        let Some(making) = &mut self.making else { return false };
        if let Some((name, file)) = making.left.pop_front() {
            let taken = picture(&file).and_then(|image| {
                self.recogniser.add_to_gallery(&name, &image).map_err(|error| error.to_string())
            });
            match taken {
                Ok(usable) => making.usable += usize::from(usable),
                // The other pictures are as good as before.
                Err(error) => warn!(error, "an enrolled picture cannot be used"),
            }
            return true;
        }
        self.recogniser.use_gallery();
        info!(people = making.people, pictures = making.usable, "gallery taken over");
        self.enrolled = Some(making.generation);
        self.making = None;
        false
    }
}

fn picture(path: &Path) -> Result<Image, String> {
    let wish = ImageWish { format: PixelFormat::Bgr8, enough_width: ENROLLED_WIDTH };
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    decode_image(&bytes, wish).map(|(image, _)| image).map_err(|error| error.to_string())
}

impl Component for Faces {
    fn step(&mut self) -> Result<Step, Failure> {
        self.follow_gallery();
        let more = self.make_gallery();
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
