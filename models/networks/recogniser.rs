//! From pictures to names: finds faces, leaves out those not worth comparing, aligns, embeds and looks them up in the
//! gallery.

use meerkat_base::{
    DetectorError, DetectorInfo, FaceIdentity, FaceRecogniser, FoundFace, Image, ImageWish, PixelFormat,
    Unfit,
};

use super::embedder::FaceEmbedder;
use super::face::{Face, largest_first};
use super::finder::FaceFinder;
use super::quality::{QualitySettings, check_shape, check_sharpness};
use super::reid_face;
use crate::engine::RunError;
use crate::gallery::{Gallery, MatchSettings};

/// No more faces than this, the largest ones, are looked at in one picture.
const MOST_FACES: usize = 64;

/// When a face is compared and when it counts as known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RecogniserSettings {
    /// When it is compared at all.
    pub quality: QualitySettings,
    /// When it is known.
    pub matching: MatchSettings,
}

/// Finds faces and says whose they are.
#[derive(Debug)]
pub struct CandleFaceRecogniser {
    finder: FaceFinder,
    embedder: FaceEmbedder,
    settings: RecogniserSettings,
    gallery: Gallery,
    /// The gallery that is being made.
    coming: Gallery,
}

impl CandleFaceRecogniser {
    /// Puts two networks together. The gallery is empty.
    pub fn new(finder: FaceFinder, embedder: FaceEmbedder, settings: RecogniserSettings) -> Self {
        Self { finder, embedder, settings, gallery: Gallery::new(), coming: Gallery::new() }
    }

    /// The network that finds faces.
    pub fn finder(&mut self) -> &mut FaceFinder {
        &mut self.finder
    }

    /// The network that tells faces apart.
    pub fn embedder(&mut self) -> &mut FaceEmbedder {
        &mut self.embedder
    }

    /// Looks at several pictures, on a GPU at once. Per picture the faces, largest first, boxes in its pixels.
    ///
    /// # Errors
    /// When a device fails.
    pub fn recognise_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<FoundFace>>, RunError> {
        let found = self.finder.find_all(images)?;
        let mut all = Vec::with_capacity(images.len());
        // The faces that are compared: where their answers go, and their pixels.
        let (mut places, mut aligned) = (Vec::new(), Vec::new());
        for (picture, (image, mut faces)) in images.iter().zip(found).enumerate() {
            largest_first(&mut faces);
            faces.truncate(MOST_FACES);
            let mut answers = Vec::with_capacity(faces.len());
            for face in faces {
                let unfit = match self.admit(image, &face) {
                    Ok(planes) if self.gallery.embeddings() > 0 => {
                        places.push((picture, answers.len()));
                        aligned.push(planes);
                        None
                    }
                    // Nobody is enrolled: the answer is known without asking.
                    Ok(_) => None,
                    Err(unfit) => Some(unfit),
                };
                answers.push(FoundFace {
                    bbox: face.bbox,
                    score: face.score,
                    identity: FaceIdentity::Unknown,
                    unfit,
                });
            }
            all.push(answers);
        }
        let embeddings = self.embedder.embed_aligned(&aligned)?;
        for ((picture, place), embedding) in places.into_iter().zip(embeddings) {
            let matched =
                embedding.and_then(|embedding| self.gallery.find(&embedding, &self.settings.matching));
            if let (Some(matched), Some(answer)) =
                (matched, all.get_mut(picture).and_then(|a| a.get_mut(place)))
            {
                answer.identity = FaceIdentity::Known {
                    name: matched.name.to_owned(),
                    score: matched.cosine.clamp(0.0, 1.0),
                };
            }
        }
        Ok(all)
    }

    /// The aligned face, if it is good enough to be compared.
    fn admit(&self, image: &Image, face: &Face) -> Result<Vec<f32>, Unfit> {
        check_shape(face, &self.settings.quality)?;
        let planes = FaceEmbedder::align(image, face).ok_or(Unfit::Turned)?;
        check_sharpness(&planes, reid_face::SIDE, &self.settings.quality)?;
        Ok(planes)
    }

    fn add(&mut self, name: &str, picture: &Image) -> Result<bool, RunError> {
        let mut faces = self.finder.find(picture)?;
        largest_first(&mut faces);
        let Some(Ok(planes)) = faces.first().map(|face| self.admit(picture, face)) else { return Ok(false) };
        let embedding = self.embedder.embed_aligned(&[planes])?.pop().flatten();
        Ok(embedding.is_some_and(|embedding| self.coming.add(name, &embedding)))
    }

    fn failed(&self, error: &RunError) -> DetectorError {
        DetectorError { detector: self.info().name, reason: error.to_string() }
    }
}

impl FaceRecogniser for CandleFaceRecogniser {
    fn info(&self) -> DetectorInfo {
        let (finder, embedder) = (self.finder.info(), self.embedder.info());
        DetectorInfo { name: format!("{}+{}", finder.name, embedder.name), ..finder }
    }

    fn wish(&self) -> ImageWish {
        // The finder reduces what is larger than its input; the embedder profits from more pixels than that, but not
        // enough to pay for the decoding.
        ImageWish { format: PixelFormat::Bgr8, enough_width: self.finder.width() }
    }

    fn begin_gallery(&mut self) {
        self.coming = Gallery::new();
    }

    fn add_to_gallery(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError> {
        self.add(name, picture).map_err(|error| self.failed(&error))
    }

    fn use_gallery(&mut self) {
        self.gallery = std::mem::take(&mut self.coming);
    }

    fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
        let mut all = self.recognise_all(&[image]).map_err(|error| self.failed(&error))?;
        Ok(all.pop().unwrap_or_default())
    }
}
