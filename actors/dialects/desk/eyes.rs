//! Looks at single pictures of the desk's clients: the largest face with sex and age, or what is on the picture. The queue
//! and what happens to pictures of a station that fails are those of `examine`; the station is another one, since of these
//! networks one each is enough for the whole node (`examine` has as many as there are threads, and they know the gallery),
//! and since nobody who chats is to wait behind those who send whole videos. They are made with the first picture.

use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{
    DetectorError, FaceRecogniser, FaceTraits, FaceTraitsEstimator, Guess, ObjectClassifier, Rect,
};
use meerkat_vision::{VisionError, decode_image};

use crate::camera::Cameras;
use crate::detectors::Make;
use crate::dialects::orders::{ExamineError, Hand, Orders};
use crate::supervision::{ActorKind, Component, Crew, Failure, Step, fault};

/// What pictures are looked at with.
#[derive(Clone)]
pub struct Sight {
    /// The settings in force: how certain a face has to be.
    pub cameras: Cameras,
    /// Finds faces.
    pub faces: Make<dyn FaceRecogniser>,
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

/// What is wanted of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Face,
    Objects,
}

/// What was seen; of each what was wished for.
#[derive(Debug, Default)]
struct Seen {
    face: Option<SeenFace>,
    objects: Vec<Guess>,
}

/// The way to the eyes. Clones share it.
#[derive(Clone)]
pub struct Eyes {
    orders: Orders<Wish, Seen>,
}

impl Eyes {
    /// Room for so many pictures that wait, each answered within `patience`. Nobody looks yet.
    pub fn new(waiting: usize, patience: Duration) -> Self {
        Self { orders: Orders::new(waiting, patience) }
    }

    /// From now on a station of this crew looks.
    pub fn open(&self, crew: &Crew, deadline: Duration, sight: Sight) {
        let (orders, hand) = (self.orders.clone(), Hand::default());
        let station = crew.station(ActorKind::Examiner, None, deadline, move || {
            hand.let_go();
            Ok(Box::new(Viewer::new(orders.clone(), hand.clone(), sight.clone())) as Box<dyn Component>)
        });
        self.orders.set_stations(vec![station]);
    }

    /// The largest face on a picture.
    ///
    /// # Errors
    /// When it is no picture, or could not be looked at in time.
    pub async fn face(&self, picture: Bytes) -> Result<Option<SeenFace>, ExamineError> {
        self.orders.ask(picture, Wish::Face).await.map(|seen| seen.face)
    }

    /// What is on a picture, the likeliest first.
    ///
    /// # Errors
    /// As [`Eyes::face`], and when there is nothing that knows objects.
    pub async fn objects(&self, picture: Bytes) -> Result<Vec<Guess>, ExamineError> {
        self.orders.ask(picture, Wish::Objects).await.map(|seen| seen.objects)
    }

    /// Nothing more is looked at.
    pub fn close(&self) {
        self.orders.close();
    }
}

/// The component.
struct Viewer {
    orders: Orders<Wish, Seen>,
    hand: Hand<Seen>,
    sight: Sight,
    faces: Option<Box<dyn FaceRecogniser>>,
    traits: Option<Box<dyn FaceTraitsEstimator>>,
    objects: Option<Box<dyn ObjectClassifier>>,
}

impl Viewer {
    /// Makes no network yet.
    fn new(orders: Orders<Wish, Seen>, hand: Hand<Seen>, sight: Sight) -> Self {
        Self { orders, hand, sight, faces: None, traits: None, objects: None }
    }

    fn face(&mut self, picture: &[u8]) -> Result<Option<SeenFace>, Failed> {
        let floor = self.sight.cameras.settings().detectors.face.min_score;
        let faces = match &mut self.faces {
            Some(faces) => faces,
            none => none.insert((self.sight.faces)()?),
        };
        let (image, scale) = decode_image(picture, faces.wish())?;
        let sure = faces.recognise(&image)?.into_iter().filter(|face| face.score >= floor);
        let Some(largest) = sure.max_by(|a, b| a.bbox.area().total_cmp(&b.bbox.area())) else {
            return Ok(None);
        };
        let traits = match (&mut self.traits, &self.sight.traits) {
            (Some(traits), _) => Some(traits),
            (none, Some(make)) => Some(none.insert(make()?)),
            (None, None) => None,
        };
        let traits = match traits {
            Some(own) => own.estimate(&image, &[largest.bbox])?.pop().flatten(),
            None => None,
        };
        Ok(Some(SeenFace { bbox: largest.bbox.scaled(scale), traits }))
    }

    fn objects(&mut self, picture: &[u8]) -> Result<Vec<Guess>, Failed> {
        let objects = match (&mut self.objects, &self.sight.objects) {
            (Some(objects), _) => objects,
            (none, Some(make)) => none.insert(make()?),
            (None, None) => return Err(Failed::Order(ExamineError::NoNetwork)),
        };
        let (image, _) = decode_image(picture, objects.wish())?;
        Ok(objects.classify(&image)?)
    }
}

/// Why there is no answer.
enum Failed {
    /// The picture, or what is wished of it, is to blame.
    Order(ExamineError),
    /// The detector is: it is built anew, and then the picture is lost.
    Detector(Failure),
}

impl From<VisionError> for Failed {
    fn from(error: VisionError) -> Self {
        Failed::Order(ExamineError::NotAPicture(error.to_string()))
    }
}

impl From<DetectorError> for Failed {
    fn from(error: DetectorError) -> Self {
        Failed::Detector(Failure::error(error))
    }
}

impl Component for Viewer {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(work) = self.orders.take(&self.hand) else { return Ok(Step::Idle) };
        fault::point(ActorKind::Examiner, None)?;
        let seen = match work.wish {
            Wish::Face => self.face(&work.picture).map(|face| Seen { face, ..Seen::default() }),
            Wish::Objects => self.objects(&work.picture).map(|objects| Seen { objects, ..Seen::default() }),
        };
        match seen {
            Ok(seen) => self.hand.answer(work, Ok(seen)),
            Err(Failed::Order(error)) => self.hand.answer(work, Err(error)),
            Err(Failed::Detector(failure)) => return Err(failure),
        }
        Ok(Step::Again)
    }
}
