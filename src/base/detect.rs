//! The traits behind which detectors stand: the classic ones of `vision` and the networks of `models`.
//! No detector code here.

use serde::Serialize;

use crate::detection::{Detection, Rect};
use crate::image::{Image, PixelFormat};

/// Says in status and log which detector is at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DetectorInfo {
    /// Name of the method or network, such as `hog-default-people`.
    pub name: String,
    /// `classic` for the built-in methods, `candle` for networks.
    pub backend: &'static str,
    /// Where it computes: `cpu`, `cuda:0`.
    pub device: String,
}

/// How much picture a detector wants; the decoder gives the smallest decode that satisfies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageWish {
    /// Colour or grey.
    pub format: PixelFormat,
    /// The decoded picture need not be wider than this many pixels (never enlarged; a power-of-two reduction
    /// is chosen so that the result is at least this wide, unless the original is smaller).
    pub enough_width: u32,
}

/// A detector could not do its work on a frame.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detector}: {reason}")]
pub struct DetectorError {
    /// Name of the detector.
    pub detector: String,
    /// What went wrong, in words.
    pub reason: String,
}

/// A file of numbers that a detector computes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Name of the network.
    pub model: String,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
}

/// Finds people.
pub trait PersonDetector: Send {
    /// Which detector this is.
    fn info(&self) -> DetectorInfo;
    /// The picture it wants.
    fn wish(&self) -> ImageWish;
    /// Looks at one picture; boxes are in pixels of *that* picture.
    fn detect(&mut self, image: &Image) -> Result<Vec<Detection>, DetectorError>;

    /// What it computes with; the classic ones have no weights.
    fn weights(&self) -> Vec<Weights> {
        Vec::new()
    }

    /// Pictures that it likes to be given at once, if there are as many; 1: there is nothing to gain.
    fn batch(&self) -> usize {
        1
    }

    /// Looks at several pictures; the answers are in their order.
    fn detect_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<Detection>>, DetectorError> {
        images.iter().map(|image| self.detect(image)).collect()
    }
}

/// What a picture may show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// Name of the kind of thing, in English, such as `tabby`.
    pub label: String,
    /// Certainty in 0..=1.
    pub score: f32,
}

/// Guesses that a classifier gives at most.
pub const MOST_GUESSES: usize = 5;

/// Says what a picture shows, without saying where.
pub trait ObjectClassifier: Send {
    /// Which classifier this is.
    fn info(&self) -> DetectorInfo;
    /// The picture it wants.
    fn wish(&self) -> ImageWish;
    /// Looks at one picture: at most [`MOST_GUESSES`] different labels, the likeliest first. There may be none.
    fn classify(&mut self, image: &Image) -> Result<Vec<Guess>, DetectorError>;

    /// What it computes with.
    fn weights(&self) -> Vec<Weights> {
        Vec::new()
    }
}

/// Whom a face belongs to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaceIdentity {
    /// An enrolled person and how well it matched, 0..=1.
    Known {
        /// Name as enrolled.
        name: String,
        /// Certainty in 0..=1.
        score: f32,
    },
    /// A face that matches nobody who is enrolled.
    Unknown,
}

/// Why a face was not compared with the enrolled ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// Too few pixels.
    Small,
    /// Out of focus or moving.
    Blurred,
    /// Turned away, bent or tilted.
    Turned,
}

impl Unfit {
    /// All there are.
    pub const ALL: [Unfit; 3] = [Unfit::Small, Unfit::Blurred, Unfit::Turned];

    /// As it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Unfit::Small => "small",
            Unfit::Blurred => "blurred",
            Unfit::Turned => "turned",
        }
    }
}

/// A face in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundFace {
    /// Where, in pixels of the picture looked at.
    pub bbox: Rect,
    /// Certainty that it is a face, 0..=1.
    pub score: f32,
    /// Whose face it is.
    pub identity: FaceIdentity,
    /// Why it was not compared with anybody, if so; its identity is unknown then.
    pub unfit: Option<Unfit>,
    /// What its likeness with other faces is computed from, of length 1. Only where embeddings were asked for
    /// ([`FaceRecogniser::want_embeddings`]), and only of a face that is fit.
    pub embedding: Option<Vec<f32>>,
}

impl FoundFace {
    /// How much is around a face that is cut out, on each side, in sizes of the face: as much as networks and cascades
    /// want to find it again.
    const AROUND: f32 = 0.6;

    /// The face with what is around it, in pixels of the picture looked at; may reach beyond its edges.
    pub fn surroundings(&self) -> Rect {
        let Rect { x, y, width, height } = self.bbox;
        let (side, top) = (width * Self::AROUND, height * Self::AROUND);
        Rect::new(x - side, y - top, width + 2.0 * side, height + 2.0 * top)
    }
}

/// Finds faces and says whose they are, after being told who is enrolled.
pub trait FaceRecogniser: Send {
    /// Which detector this is.
    fn info(&self) -> DetectorInfo;
    /// The picture it wants.
    fn wish(&self) -> ImageWish;
    /// Begins a new gallery with nobody in it, and forgets one that was begun and not put in force. The one in force
    /// stays so: a large gallery takes long to make, and faces are recognised meanwhile.
    fn begin_gallery(&mut self);
    /// Adds a picture of a person to the gallery that was begun. Returns whether it has a face that can be used.
    fn add_to_gallery(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError>;
    /// Adds a picture of somebody who is taken for a person of the gallery that was begun, and is not: a face that is
    /// nearer to it than to the person's own pictures is not that person. Those pictures come first. Returns whether
    /// it has a face that can be used.
    fn add_negative(&mut self, _name: &str, _picture: &Image) -> Result<bool, DetectorError> {
        Ok(false)
    }
    /// Puts the gallery that was begun in force.
    fn use_gallery(&mut self);
    /// Looks at one picture; boxes are in pixels of *that* picture, largest face first.
    fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError>;

    /// What it computes with; the classic ones have no weights.
    fn weights(&self) -> Vec<Weights> {
        Vec::new()
    }

    /// Whether the faces of the looks that follow are to have their embeddings. Nothing to a method that has none.
    fn want_embeddings(&mut self, _wanted: bool) {}

    /// Names what embeddings belong to: those of one name can be compared with each other. `None`: there are none.
    fn embedding_space(&self) -> Option<String> {
        None
    }

    /// Pictures that it likes to be given at once, if there are as many; 1: there is nothing to gain.
    fn batch(&self) -> usize {
        1
    }

    /// Looks at several pictures; the answers are in their order.
    fn recognise_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<FoundFace>>, DetectorError> {
        images.iter().map(|image| self.recognise(image)).collect()
    }

    /// Replaces the gallery at once: one entry per person with the pictures enrolled for that person.
    /// Returns how many pictures had a face that could be used. Takes as long as all pictures take.
    fn enrol(&mut self, people: &[(String, Vec<Image>)]) -> Result<usize, DetectorError> {
        self.begin_gallery();
        let mut used = 0;
        for (name, pictures) in people {
            for picture in pictures {
                used += usize::from(self.add_to_gallery(name, picture)?);
            }
        }
        self.use_gallery();
        Ok(used)
    }
}

/// What somebody with this face is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FaceTraits {
    /// Years, 0..=100.
    pub age_years: f32,
    /// Certainty that it is a woman rather than a man, 0..=1.
    pub female: f32,
}

/// Estimates age and sex of faces.
pub trait FaceTraitsEstimator: Send {
    /// Which estimator this is.
    fn info(&self) -> DetectorInfo;
    /// Estimates for the faces in these boxes of one picture, in their order; none for what is no face to it.
    fn estimate(&mut self, image: &Image, faces: &[Rect]) -> Result<Vec<Option<FaceTraits>>, DetectorError>;
}
