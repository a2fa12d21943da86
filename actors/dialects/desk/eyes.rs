//! Looks at single pictures of the desk's clients, first come first served: the largest face with sex and age, or what is
//! on the picture. The networks are made with the first picture. A station of the crew `detect`, so that a detector that
//! panics or hangs costs one answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use meerkat_base::{FaceRecogniser, FaceTraits, FaceTraitsEstimator, Guess, ObjectClassifier, Rect};
use meerkat_vision::decode_image;
use tokio::sync::oneshot;

use crate::detectors::Make;
use crate::supervision::{ActorKind, Component, Failure, Station, Step, fault};

/// Pictures that wait.
const MOST_WAITING: usize = 32;

/// What pictures are looked at with.
#[derive(Clone)]
pub struct Sight {
    /// Finds faces.
    pub faces: Make<dyn FaceRecogniser>,
    /// Least certainty of a face, 0..=1.
    pub min_score: f32,
    /// Estimates sex and age; without it they are unknown.
    pub traits: Option<Make<dyn FaceTraitsEstimator>>,
    /// Says what is on a picture; without it nobody knows.
    pub objects: Option<Make<dyn ObjectClassifier>>,
}

/// The largest face of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenFace {
    /// Where, in pixels of the upright picture.
    pub bbox: Rect,
    /// Sex and age, where somebody can estimate them.
    pub traits: Option<FaceTraits>,
}

type Answer<T> = oneshot::Sender<Result<T, String>>;

enum Task {
    Face(Bytes, Answer<Option<SeenFace>>),
    Objects(Bytes, Answer<Vec<Guess>>),
}

/// The way to the eyes. Clones share it.
#[derive(Clone, Default)]
pub struct Eyes {
    tasks: Arc<Mutex<VecDeque<Task>>>,
    station: Arc<OnceLock<Station>>,
}

impl Eyes {
    /// Nobody looks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on this station looks.
    pub fn opened(&self, station: Station) {
        station.wake();
        let _ = self.station.set(station);
    }

    /// The largest face on a picture.
    ///
    /// # Errors
    /// In words for the client: it is no picture, too many wait, or a detector failed.
    pub async fn face(&self, picture: Bytes) -> Result<Option<SeenFace>, String> {
        let (answer, answered) = oneshot::channel();
        self.ask(Task::Face(picture, answer), answered).await
    }

    /// What is on a picture, the likeliest first.
    ///
    /// # Errors
    /// As [`Eyes::face`], and when there is nothing that knows objects.
    pub async fn objects(&self, picture: Bytes) -> Result<Vec<Guess>, String> {
        let (answer, answered) = oneshot::channel();
        self.ask(Task::Objects(picture, answer), answered).await
    }

    async fn ask<T>(&self, task: Task, answered: oneshot::Receiver<Result<T, String>>) -> Result<T, String> {
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            if tasks.len() >= MOST_WAITING {
                return Err("too many pictures are waiting".to_owned());
            }
            tasks.push_back(task);
        }
        if let Some(station) = self.station.get() {
            station.wake();
        }
        // Dropped without a word: whoever looked at it panicked or hung.
        answered.await.unwrap_or_else(|_| Err("the picture could not be looked at".to_owned()))
    }

    fn next(&self) -> Option<Task> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The component.
pub struct Viewer {
    eyes: Eyes,
    sight: Sight,
    faces: Option<Box<dyn FaceRecogniser>>,
    traits: Option<Box<dyn FaceTraitsEstimator>>,
    objects: Option<Box<dyn ObjectClassifier>>,
}

impl Viewer {
    /// Makes no network yet.
    pub fn new(eyes: Eyes, sight: Sight) -> Self {
        Self { eyes, sight, faces: None, traits: None, objects: None }
    }

    fn face(&mut self, picture: &[u8]) -> Result<Option<SeenFace>, Failed> {
        let faces = match &mut self.faces {
            Some(faces) => faces,
            none => none.insert((self.sight.faces)().map_err(Failed::detector)?),
        };
        let (image, scale) = decode_image(picture, faces.wish()).map_err(Failed::picture)?;
        let found = faces.recognise(&image).map_err(Failed::detector)?;
        let sure = found.into_iter().filter(|face| face.score >= self.sight.min_score);
        let Some(largest) = sure.max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area())) else {
            return Ok(None);
        };
        let traits = match (&mut self.traits, &self.sight.traits) {
            (Some(traits), _) => Some(traits),
            (none, Some(make)) => Some(none.insert(make().map_err(Failed::detector)?)),
            (None, None) => None,
        };
        let traits = match traits {
            Some(own) => own.estimate(&image, &[largest.bbox]).map_err(Failed::detector)?.pop().flatten(),
            None => None,
        };
        Ok(Some(SeenFace { bbox: largest.bbox.scaled(scale), traits }))
    }

    fn objects(&mut self, picture: &[u8]) -> Result<Vec<Guess>, Failed> {
        let objects = match (&mut self.objects, &self.sight.objects) {
            (Some(objects), _) => objects,
            (none, Some(make)) => none.insert(make().map_err(Failed::detector)?),
            (None, None) => return Err(Failed::Picture("no network for objects is here".to_owned())),
        };
        let (image, _) = decode_image(picture, objects.wish()).map_err(Failed::picture)?;
        objects.classify(&image).map_err(Failed::detector)
    }
}

/// Why there is no answer.
enum Failed {
    /// The picture is to blame.
    Picture(String),
    /// The detector is.
    Detector(Failure),
}

impl Failed {
    fn picture(error: meerkat_vision::VisionError) -> Self {
        Failed::Picture(format!("not a picture: {error}"))
    }

    fn detector(error: meerkat_base::DetectorError) -> Self {
        Failed::Detector(Failure::error(error))
    }
}

/// Gives an answer; a detector that failed is built anew.
fn tell<T>(answer: Answer<T>, looked: Result<T, Failed>) -> Result<(), Failure> {
    let (words, failure) = match looked {
        Ok(seen) => (Ok(seen), Ok(())),
        Err(Failed::Picture(reason)) => (Err(reason), Ok(())),
        Err(Failed::Detector(failure)) => {
            (Err("the picture could not be looked at".to_owned()), Err(failure))
        }
    };
    // Whoever asked may be gone.
    let _ = answer.send(words);
    failure
}

impl Component for Viewer {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(task) = self.eyes.next() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Examiner, None)?;
        match task {
            Task::Face(picture, answer) => tell(answer, self.face(&picture))?,
            Task::Objects(picture, answer) => tell(answer, self.objects(&picture))?,
        }
        Ok(Step::Again)
    }
}
