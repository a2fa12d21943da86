//! The networks behind the traits of detectors: loaded by what the settings say, moved to the CPU where a GPU fails.

use std::sync::Arc;

use meerkat_base::{
    Detection, DetectorError, DetectorInfo, FaceRecogniser, FoundFace, Guess, Image, ImageWish,
    ObjectClassifier, PersonDetector, Weights,
};
use meerkat_models::device::Compute;
use meerkat_models::engine::RunError;
use meerkat_models::gallery::MatchSettings;
use meerkat_models::networks::catalog::{self, Role};
use meerkat_models::networks::classifier::PictureNet;
use meerkat_models::networks::detector::{ObjectNet, PersonNet};
use meerkat_models::networks::embedder::FaceEmbedder;
use meerkat_models::networks::error::ModelError;
use meerkat_models::networks::finder::FaceFinder;
use meerkat_models::networks::network::Network;
use meerkat_models::networks::quality::QualitySettings;
use meerkat_models::networks::recogniser::{CandleFaceRecogniser, RecogniserSettings};
use meerkat_models::weights::Folder;

use super::device::{OnDevice, Placement};
use crate::settings::RecognitionSettings;

/// The network that compares faces.
pub(crate) const EMBEDDER: &str = "face-reidentification-retail-0095";
/// The network that finds the points of faces which another network found.
const POINTS: &str = "landmarks-regression-retail-0009";
/// The word that stands for the best network that is here.
pub(super) const BEST: &str = "auto";
/// Networks that find faces, the best first.
const FINDERS: [&str; 2] = ["yunet-n", "face-detection-retail-0004"];
/// Pictures that are put together for a GPU.
const BATCH: usize = 32;

fn misfit(model: &str, reason: &str) -> ModelError {
    ModelError::Misfit { network: model.to_owned(), reason: reason.to_owned() }
}

/// Loads a network that finds people.
pub(crate) fn person(
    model: &str,
    folder: &Folder,
    compute: Compute,
    min_score: f32,
) -> Result<PersonNet, ModelError> {
    if catalog::find(model).is_some_and(|entry| !matches!(entry.role, Role::Person | Role::Objects)) {
        return Err(misfit(model, "does not find people"));
    }
    PersonNet::new(catalog::load(model, folder, compute, None)?, min_score)
}

/// Loads a network that finds things of many classes. Without `names` of its classes they are COCO's, or persons alone
/// where it has only one class.
pub(crate) fn objects(
    model: &str,
    folder: &Folder,
    compute: Compute,
    names: Option<&[&str]>,
    min_score: f32,
) -> Result<ObjectNet, ModelError> {
    let own = catalog::find(model);
    if own.is_some_and(|entry| !matches!(entry.role, Role::Person | Role::Objects)) {
        return Err(misfit(model, "does not find objects"));
    }
    let network = catalog::load(model, folder, compute, None)?;
    match names {
        Some(names) => ObjectNet::new(network, names, min_score),
        None if own.is_some_and(|entry| entry.role == Role::Person) => {
            ObjectNet::new(network, &["person"], min_score)
        }
        None => ObjectNet::coco(network, min_score),
    }
}

/// A network that says what a picture shows.
pub(crate) enum ClassNet {
    /// One made for that.
    Picture(Box<PictureNet>),
    /// One that finds things: their names serve.
    Finds(Box<ObjectNet>),
}

/// Loads a network that says what a picture shows. `names` are those of its classes where they are not ImageNet's, or
/// COCO's of a network that finds things; what such a one finds less certain than `min_score` does not count.
pub(crate) fn classes(
    model: &str,
    folder: &Folder,
    compute: Compute,
    names: Option<&[&str]>,
    min_score: f32,
) -> Result<ClassNet, ModelError> {
    let own = catalog::find(model);
    if own.is_some_and(|entry| !matches!(entry.role, Role::Classes | Role::Objects)) {
        return Err(misfit(model, "does not say what a picture shows"));
    }
    let network = catalog::load(model, folder, compute, None)?;
    Ok(match (names, PictureNet::fits(&network)) {
        (Some(names), true) => ClassNet::Picture(Box::new(PictureNet::new(network, names.iter().copied())?)),
        (None, true) => ClassNet::Picture(Box::new(PictureNet::imagenet(network)?)),
        (Some(names), false) => ClassNet::Finds(Box::new(ObjectNet::new(network, names, min_score)?)),
        (None, false) => ClassNet::Finds(Box::new(ObjectNet::coco(network, min_score)?)),
    })
}

impl ClassNet {
    /// Whichever it is.
    pub fn into_classifier(self) -> Box<dyn ObjectClassifier> {
        match self {
            ClassNet::Picture(net) => net,
            ClassNet::Finds(net) => net,
        }
    }

    fn as_classifier(&self) -> &dyn ObjectClassifier {
        match self {
            ClassNet::Picture(net) => net.as_ref(),
            ClassNet::Finds(net) => net.as_ref(),
        }
    }

    fn network(&mut self) -> &mut Network {
        match self {
            ClassNet::Picture(net) => net.network(),
            ClassNet::Finds(net) => net.network(),
        }
    }

    fn guess(&mut self, image: &Image) -> Result<Vec<Guess>, RunError> {
        match self {
            ClassNet::Picture(net) => net.guess(image),
            ClassNet::Finds(net) => net.guess(image),
        }
    }
}

/// The network that finds faces which the settings mean: with `auto`, the best of those whose weights are here.
pub(crate) fn finder_name(model: &str, folder: &Folder) -> String {
    if model != BEST {
        return model.to_owned();
    }
    let here = FINDERS.into_iter().find(|name| folder.locate(name).is_ok());
    here.unwrap_or(FINDERS[0]).to_owned()
}

/// Loads a network that finds faces, and what it needs besides.
pub(crate) fn finder(
    model: &str,
    folder: &Folder,
    compute: Compute,
    min_score: f32,
) -> Result<FaceFinder, ModelError> {
    if catalog::find(model).is_some_and(|entry| entry.role != Role::Face) {
        return Err(misfit(model, "does not find faces"));
    }
    let network = catalog::load(model, folder, compute, None)?;
    if network.outputs().len() == 1 {
        FaceFinder::ssd(network, catalog::load(POINTS, folder, compute, None)?, min_score)
    } else {
        FaceFinder::yunet(network, min_score)
    }
}

/// Loads the network that compares faces.
pub(crate) fn embedder(folder: &Folder, compute: Compute) -> Result<FaceEmbedder, ModelError> {
    FaceEmbedder::new(catalog::load(EMBEDDER, folder, compute, None)?)
}

/// Loads what finds and names faces.
pub(crate) fn recogniser(
    model: &str,
    folder: &Folder,
    compute: Compute,
    min_score: f32,
    settings: &RecognitionSettings,
) -> Result<CandleFaceRecogniser, ModelError> {
    let finder = finder(model, folder, compute, min_score)?;
    let embedder = embedder(folder, compute)?;
    let settings = RecogniserSettings {
        quality: QualitySettings {
            min_width_px: settings.min_width_px,
            min_sharpness: settings.min_sharpness,
            max_turn: settings.max_turn,
            max_tilt_degrees: settings.max_tilt_degrees,
        },
        matching: MatchSettings { threshold: settings.threshold, margin: settings.margin },
    };
    Ok(CandleFaceRecogniser::new(finder, embedder, settings))
}

fn weights(network: &Network) -> Weights {
    Weights { model: network.name().to_owned(), sha256: network.sha256().to_owned() }
}

fn failed(info: DetectorInfo, error: &RunError) -> DetectorError {
    DetectorError { detector: info.name, reason: error.to_string() }
}

fn batch(is_gpu: bool) -> usize {
    if is_gpu { BATCH } else { 1 }
}

/// A network that finds people.
pub(super) struct People {
    net: OnDevice<PersonNet>,
    weights: Vec<Weights>,
}

impl People {
    pub fn new(
        placement: &Arc<Placement>,
        load: &super::device::Load<PersonNet>,
    ) -> Result<Self, ModelError> {
        let mut net = OnDevice::load(Arc::clone(placement), Arc::clone(load), |net, fresh| *net = fresh)?;
        let weights = vec![weights(net.network_mut().network())];
        Ok(Self { net, weights })
    }
}

impl PersonDetector for People {
    fn info(&self) -> DetectorInfo {
        self.net.network().info()
    }

    fn wish(&self) -> ImageWish {
        self.net.network().wish()
    }

    fn detect(&mut self, image: &Image) -> Result<Vec<Detection>, DetectorError> {
        Ok(self.detect_all(&[image])?.pop().unwrap_or_default())
    }

    fn weights(&self) -> Vec<Weights> {
        self.weights.clone()
    }

    fn batch(&self) -> usize {
        batch(self.net.is_gpu())
    }

    fn detect_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<Detection>>, DetectorError> {
        self.net.run(|net| net.detect_all(images)).map_err(|error| failed(self.info(), &error))
    }
}

/// A network that says what a picture shows.
pub(crate) struct Classes {
    net: OnDevice<ClassNet>,
    weights: Vec<Weights>,
}

impl Classes {
    pub(super) fn new(
        placement: &Arc<Placement>,
        load: &super::device::Load<ClassNet>,
    ) -> Result<Self, ModelError> {
        let mut net = OnDevice::load(Arc::clone(placement), Arc::clone(load), |net, fresh| *net = fresh)?;
        let weights = vec![weights(net.network_mut().network())];
        Ok(Self { net, weights })
    }
}

impl ObjectClassifier for Classes {
    fn info(&self) -> DetectorInfo {
        self.net.network().as_classifier().info()
    }

    fn wish(&self) -> ImageWish {
        self.net.network().as_classifier().wish()
    }

    fn classify(&mut self, image: &Image) -> Result<Vec<Guess>, DetectorError> {
        self.net.run(|net| net.guess(image)).map_err(|error| failed(self.info(), &error))
    }

    fn weights(&self) -> Vec<Weights> {
        self.weights.clone()
    }
}

/// Networks that find and name faces.
pub(super) struct Faces {
    net: OnDevice<CandleFaceRecogniser>,
    weights: Vec<Weights>,
}

impl Faces {
    pub fn new(
        placement: &Arc<Placement>,
        load: &super::device::Load<CandleFaceRecogniser>,
    ) -> Result<Self, ModelError> {
        // The gallery stays: only the networks move.
        let replace = |old: &mut CandleFaceRecogniser, mut fresh: CandleFaceRecogniser| {
            std::mem::swap(old.finder(), fresh.finder());
            std::mem::swap(old.embedder(), fresh.embedder());
        };
        let mut net = OnDevice::load(Arc::clone(placement), Arc::clone(load), replace)?;
        let own = net.network_mut();
        let weights = vec![weights(own.finder().network()), weights(own.embedder().network())];
        Ok(Self { net, weights })
    }
}

impl FaceRecogniser for Faces {
    fn info(&self) -> DetectorInfo {
        self.net.network().info()
    }

    fn wish(&self) -> ImageWish {
        self.net.network().wish()
    }

    fn begin_gallery(&mut self) {
        self.net.network_mut().begin_gallery();
    }

    fn add_to_gallery(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError> {
        self.net.run(|net| net.add(name, picture)).map_err(|error| failed(self.info(), &error))
    }

    fn add_negative(&mut self, name: &str, picture: &Image) -> Result<bool, DetectorError> {
        self.net.run(|net| net.add_negative(name, picture)).map_err(|error| failed(self.info(), &error))
    }

    fn want_embeddings(&mut self, wanted: bool) {
        self.net.network_mut().want_embeddings(wanted);
    }

    fn embedding_space(&self) -> Option<String> {
        self.net.network().embedding_space()
    }

    fn use_gallery(&mut self) {
        self.net.network_mut().use_gallery();
    }

    fn recognise(&mut self, image: &Image) -> Result<Vec<FoundFace>, DetectorError> {
        Ok(FaceRecogniser::recognise_all(self, &[image])?.pop().unwrap_or_default())
    }

    fn weights(&self) -> Vec<Weights> {
        self.weights.clone()
    }

    fn batch(&self) -> usize {
        batch(self.net.is_gpu())
    }

    fn recognise_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<FoundFace>>, DetectorError> {
        self.net.run(|net| net.recognise_all(images)).map_err(|error| failed(self.info(), &error))
    }
}
