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
    /// Whether faces are to have their embeddings.
    with_embeddings: bool,
}

impl CandleFaceRecogniser {
    /// Puts two networks together. The gallery is empty.
    pub fn new(finder: FaceFinder, embedder: FaceEmbedder, settings: RecogniserSettings) -> Self {
        let (gallery, coming) = (Gallery::new(), Gallery::new());
        Self { finder, embedder, settings, gallery, coming, with_embeddings: false }
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
                    Ok(planes) if self.with_embeddings || self.gallery.embeddings() > 0 => {
                        places.push((picture, answers.len()));
                        aligned.push(planes);
                        None
                    }
                    // Nobody is enrolled, and nobody wants more: the answer is known without asking.
                    Ok(_) => None,
                    Err(unfit) => Some(unfit),
                };
                answers.push(FoundFace {
                    bbox: face.bbox,
                    score: face.score,
                    identity: FaceIdentity::Unknown,
                    unfit,
                    embedding: None,
                });
            }
            all.push(answers);
        }
        let embeddings = self.embedder.embed_aligned(&aligned)?;
        for ((picture, place), embedding) in places.into_iter().zip(embeddings) {
            let answer = all.get_mut(picture).and_then(|answers| answers.get_mut(place));
            let (Some(embedding), Some(answer)) = (embedding, answer) else { continue };
            if let Some(matched) = self.gallery.find(&embedding, &self.settings.matching) {
                answer.identity = FaceIdentity::Known {
                    name: matched.name.to_owned(),
                    score: matched.cosine.clamp(0.0, 1.0),
                };
            }
            answer.embedding = self.with_embeddings.then_some(embedding);
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

    /// Adds the largest face of a picture to the gallery that was begun. Returns whether it can be used.
    ///
    /// # Errors
    /// When a device fails.
    pub fn add(&mut self, name: &str, picture: &Image) -> Result<bool, RunError> {
        let embedding = self.embed_largest(picture)?;
        Ok(embedding.is_some_and(|embedding| self.coming.add(name, &embedding)))
    }

    /// Adds the largest face of a picture, which is not this person's, to the gallery that was begun. Returns whether
    /// it can be used.
    ///
    /// # Errors
    /// When a device fails.
    pub fn add_negative(&mut self, name: &str, picture: &Image) -> Result<bool, RunError> {
        let embedding = self.embed_largest(picture)?;
        Ok(embedding.is_some_and(|embedding| self.coming.add_negative(name, &embedding)))
    }

    /// The embedding of the largest face of a picture, if that is fit.
    fn embed_largest(&mut self, picture: &Image) -> Result<Option<Vec<f32>>, RunError> {
        let mut faces = self.finder.find(picture)?;
        largest_first(&mut faces);
        let Some(Ok(planes)) = faces.first().map(|face| self.admit(picture, face)) else { return Ok(None) };
        Ok(self.embedder.embed_aligned(&[planes])?.pop().flatten())
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

    fn add_negative(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError> {
        Self::add_negative(self, name, picture).map_err(|error| self.failed(&error))
    }

    fn want_embeddings(&mut self, wanted: bool) {
        self.with_embeddings = wanted;
    }

    fn embedding_space(&self) -> Option<String> {
        Some(self.embedder.space())
    }

    fn use_gallery(&mut self) {
        self.gallery = std::mem::take(&mut self.coming);
    }

    fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
        let mut all = self.recognise_all(&[image]).map_err(|error| self.failed(&error))?;
        Ok(all.pop().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::network::Network;
    use crate::networks::testing::{board, brightness_network};

    /// Finds two faces in each picture, the smaller one first.
    fn finder() -> FaceFinder {
        let level = [0.0, 1.0, 0.95, 0.75, 0.0, 1.0, 0.25, 0.0, 1.0, 0.9, 0.0, 0.0, 0.5, 1.0];
        let boxes = brightness_network("boxes", (30, 30), ("out", &[1, 1, 2, 7]), &[0.0; 14], &level);
        // A frontal face.
        let level = [0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8];
        let points = brightness_network("points", (48, 48), ("out", &[1, 10]), &[0.0; 10], &level);
        FaceFinder::ssd(boxes, points, 0.5).unwrap()
    }

    /// The brighter the face, the more the second value says against the first.
    fn embedder() -> FaceEmbedder {
        let (mut slope, mut level) = (vec![0.0; 256], vec![0.0; 256]);
        (level[0], slope[1]) = (100.0, 1.0);
        let network: Network =
            brightness_network("embedding", (128, 128), ("out", &[1, 256]), &slope, &level);
        FaceEmbedder::new(network).unwrap()
    }

    fn recogniser() -> CandleFaceRecogniser {
        let matching = MatchSettings { threshold: 0.99, margin: 0.01 };
        let settings = RecogniserSettings { matching, ..Default::default() };
        CandleFaceRecogniser::new(finder(), embedder(), settings)
    }

    fn who(faces: &[FoundFace]) -> Vec<(Option<&str>, Option<Unfit>)> {
        let name = |face: &FoundFace| match &face.identity {
            FaceIdentity::Known { name, .. } => Some(name.clone()),
            FaceIdentity::Unknown => None,
        };
        let names: Vec<Option<String>> = faces.iter().map(name).collect();
        let known = ["ann", "bob"];
        let given =
            names.into_iter().map(|name| known.into_iter().find(|known| Some(*known) == name.as_deref()));
        given.zip(faces.iter().map(|face| face.unfit)).collect()
    }

    #[test]
    fn the_enrolled_are_named_and_the_unfit_are_counted() {
        let mut recogniser = recogniser();
        let (dark, bright) = (board(120, 90, 60, 40), board(120, 90, 200, 40));
        assert_eq!(
            who(&recogniser.recognise(&dark).unwrap()),
            [(None, None), (None, None)],
            "nobody is enrolled"
        );

        let people = [("ann".to_owned(), vec![dark.clone()]), ("bob".to_owned(), vec![bright.clone()])];
        assert_eq!(recogniser.enrol(&people).unwrap(), 2);
        let found = recogniser.recognise(&dark).unwrap();
        assert_eq!(who(&found)[0], (Some("ann"), None));
        assert!(found[0].bbox.area() > found[1].bbox.area(), "the largest comes first");
        let FaceIdentity::Known { score, .. } = found[0].identity else { panic!("{:?}", found[0]) };
        assert!((0.99..=1.0).contains(&score));

        // Brightness between the two is nobody.
        let between = board(120, 90, 120, 40);
        let all = recogniser.recognise_all(&[&bright, &between, &board(120, 90, 60, 0)]).unwrap();
        assert_eq!(who(&all[0])[0], (Some("bob"), None));
        assert_eq!(who(&all[1])[0], (None, None));
        assert_eq!(who(&all[2]), [(None, Some(Unfit::Blurred)), (None, Some(Unfit::Blurred))]);

        // A quarter as wide: 30 and 15 pixels, of which 24 are enough.
        let narrow = recogniser.recognise(&board(60, 60, 60, 40)).unwrap();
        assert_eq!(
            narrow.iter().map(|face| face.unfit == Some(Unfit::Small)).collect::<Vec<_>>(),
            [false, true]
        );
    }

    #[test]
    fn a_gallery_comes_into_force_at_once() {
        let mut recogniser = recogniser();
        let (dark, bright) = (board(120, 90, 60, 40), board(120, 90, 200, 40));
        recogniser.begin_gallery();
        assert!(recogniser.add_to_gallery("ann", &dark).unwrap());
        assert_eq!(who(&recogniser.recognise(&dark).unwrap())[0].0, None, "not yet");
        recogniser.use_gallery();
        assert_eq!(who(&recogniser.recognise(&dark).unwrap())[0].0, Some("ann"));
        recogniser.begin_gallery();
        assert!(recogniser.add_to_gallery("bob", &bright).unwrap());
        assert_eq!(who(&recogniser.recognise(&dark).unwrap())[0].0, Some("ann"), "still");
        recogniser.begin_gallery();
        recogniser.use_gallery();
        assert_eq!(
            who(&recogniser.recognise(&dark).unwrap())[0].0,
            None,
            "what was begun first is forgotten"
        );
    }

    #[test]
    fn embeddings_are_given_when_they_are_wanted_and_only_of_fit_faces() {
        let mut recogniser = recogniser();
        let (dark, even) = (board(120, 90, 60, 40), board(120, 90, 60, 0));
        let have = |recogniser: &mut CandleFaceRecogniser, picture: &Image| -> Vec<bool> {
            recogniser.recognise(picture).unwrap().iter().map(|face| face.embedding.is_some()).collect()
        };
        assert_eq!(have(&mut recogniser, &dark), [false, false]);
        recogniser.want_embeddings(true);
        assert_eq!(have(&mut recogniser, &dark), [true, true], "also when nobody is enrolled");
        assert_eq!(have(&mut recogniser, &even), [false, false], "blurred");
        recogniser.want_embeddings(false);
        assert_eq!(have(&mut recogniser, &dark), [false, false]);
        assert!(recogniser.embedding_space().unwrap().starts_with("embedding:"));
    }

    #[test]
    fn a_negative_takes_the_name_away_from_faces_like_it() {
        let mut recogniser = recogniser();
        let (dark, dim) = (board(120, 90, 60, 40), board(120, 90, 66, 40));
        recogniser.begin_gallery();
        assert!(!recogniser.add_negative("ann", &dim).unwrap(), "nobody of that name yet");
        assert!(recogniser.add_to_gallery("ann", &dark).unwrap());
        recogniser.use_gallery();
        assert_eq!(who(&recogniser.recognise(&dim).unwrap())[0].0, Some("ann"));
        recogniser.begin_gallery();
        assert!(recogniser.add_to_gallery("ann", &dark).unwrap());
        assert!(FaceRecogniser::add_negative(&mut recogniser, "ann", &dim).unwrap());
        recogniser.use_gallery();
        assert_eq!(who(&recogniser.recognise(&dim).unwrap())[0].0, None);
        assert_eq!(who(&recogniser.recognise(&dark).unwrap())[0].0, Some("ann"));
    }

    #[test]
    fn a_picture_that_is_not_fit_is_not_enrolled() {
        let mut recogniser = recogniser();
        let people =
            [("ann".to_owned(), vec![board(120, 90, 60, 0), board(30, 30, 60, 40), board(120, 90, 60, 40)])];
        assert_eq!(recogniser.enrol(&people).unwrap(), 1);
    }
}
