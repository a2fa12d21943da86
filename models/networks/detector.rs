//! Detectors of persons and objects: a network of one of the two kinds known here, between pictures and detections.

use meerkat_base::{
    Detection, DetectorError, DetectorInfo, Guess, Image, ImageWish, MOST_GUESSES, ObjectClassifier,
    PersonDetector, PixelFormat,
};

use super::error::ModelError;
use super::network::Network;
use super::nms::Found;
use super::resample::Resampler;
use super::{coco, ssd, yolox};
use crate::engine::RunError;

/// Boxes of one class that overlap more than this are the same thing (YOLOX; SSD graphs bring their own).
const OVERLAP: f32 = 0.45;

/// How a network's output is read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A finished list.
    Ssd,
    /// Raw rows with this many classes.
    Yolox { classes: usize },
}

impl Kind {
    fn of(network: &Network) -> Result<Self, ModelError> {
        let rows = yolox::rows(network.size());
        if let [port] = network.outputs() {
            match port.shape[..] {
                [1, 1, _, ssd::ROW] => return Ok(Kind::Ssd),
                [1, count, values] if count == rows && values > yolox::FIRST_CLASS => {
                    return Ok(Kind::Yolox { classes: values - yolox::FIRST_CLASS });
                }
                _ => {}
            }
        }
        let shapes: Vec<_> = network.outputs().iter().map(|port| &port.shape).collect();
        Err(network.misfit(format!(
            "gives {shapes:?}; a detector gives one output, [1, 1, N, 7] (SSD) or [1, {rows}, 5 + classes] (YOLOX)"
        )))
    }
}

/// Finds things and names them.
#[derive(Debug)]
pub struct ObjectNet {
    network: Network,
    kind: Kind,
    resampler: Resampler,
    /// Names of the classes by number.
    names: Vec<String>,
    /// Only this class.
    only: Option<usize>,
    min_score: f32,
}

impl ObjectNet {
    /// A detector of all classes. `names` are those of the classes in the network's order; an SSD has one class.
    /// `min_score` is the least certainty, 0..=1.
    ///
    /// # Errors
    /// When the network's output is of no known kind or has another number of classes.
    pub fn new(network: Network, names: &[&str], min_score: f32) -> Result<Self, ModelError> {
        let kind = Kind::of(&network)?;
        let classes = match kind {
            Kind::Ssd => 1,
            Kind::Yolox { classes } => classes,
        };
        if classes != names.len() {
            return Err(
                network.misfit(format!("has {classes} classes, and {} names were given", names.len()))
            );
        }
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { network, kind, resampler: Resampler::default(), names, only: None, min_score })
    }

    /// A detector of COCO's 80 classes, as YOLOX has them.
    ///
    /// # Errors
    /// When the network has other classes or another output.
    pub fn coco(network: Network, min_score: f32) -> Result<Self, ModelError> {
        Self::new(network, &coco::NAMES, min_score)
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Looks at several pictures, on a GPU at once. Per picture the detections, best first, boxes in its pixels.
    ///
    /// # Errors
    /// When the device fails.
    pub fn detect_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<Detection>>, RunError> {
        let Self { network, kind, resampler, names, only, min_score } = self;
        let size = network.size();
        let mut all = Vec::with_capacity(images.len());
        network.run(
            images.len(),
            |n, planes| match kind {
                Kind::Ssd => {
                    ssd::prepare(resampler, images[n], size, planes);
                    1.0
                }
                Kind::Yolox { .. } => yolox::prepare(resampler, images[n], size, planes),
            },
            |n, scale, outputs| {
                let picture = (images[n].width(), images[n].height());
                let output = outputs.first().copied().unwrap_or_default();
                let found = match *kind {
                    // The label 1 is class 0: 0 is the background.
                    Kind::Ssd => ssd::decode(output, picture, *min_score)
                        .into_iter()
                        .map(|found| Found { class: 0, ..found })
                        .collect(),
                    Kind::Yolox { classes } => {
                        let settings =
                            yolox::Settings { min_score: *min_score, overlap: OVERLAP, only: *only };
                        yolox::decode(output, classes, size, scale, picture, &settings)
                    }
                };
                let named = found.into_iter().filter_map(|found| {
                    Some(Detection::new(names.get(found.class)?.as_str(), found.score, found.bbox))
                });
                all.push(named.collect());
            },
        )?;
        Ok(all)
    }

    /// The labels of what is found, each once, the best first.
    ///
    /// # Errors
    /// When the device fails.
    pub fn guess(&mut self, image: &Image) -> Result<Vec<Guess>, RunError> {
        Ok(guesses(self.detect_all(&[image])?.pop().unwrap_or_default()))
    }

    fn wish(&self) -> ImageWish {
        ImageWish { format: PixelFormat::Bgr8, enough_width: self.network.size().0 as u32 }
    }
}

/// What is found serves as what the picture shows: each label once, with the certainty of its best find.
impl ObjectClassifier for ObjectNet {
    fn info(&self) -> DetectorInfo {
        self.network.info()
    }

    fn wish(&self) -> ImageWish {
        self.wish()
    }

    fn classify(&mut self, image: &Image) -> Result<Vec<Guess>, DetectorError> {
        self.guess(image).map_err(|error| self.network.failed(&error))
    }
}

/// The labels of what was found, which comes best first.
fn guesses(found: Vec<Detection>) -> Vec<Guess> {
    let mut guesses: Vec<Guess> = Vec::with_capacity(MOST_GUESSES);
    for detection in found {
        if guesses.len() == MOST_GUESSES {
            break;
        }
        if guesses.iter().all(|guess| guess.label != detection.label) {
            guesses.push(Guess { label: detection.label, score: detection.score });
        }
    }
    guesses
}

/// Finds people: person-detection-retail-0013, or YOLOX's first class.
#[derive(Debug)]
pub struct PersonNet(ObjectNet);

impl PersonNet {
    /// A detector of people. A network with several classes must have COCO's.
    ///
    /// # Errors
    /// When the network's output is of no known kind.
    pub fn new(network: Network, min_score: f32) -> Result<Self, ModelError> {
        let mut net = match Kind::of(&network)? {
            Kind::Yolox { classes } if classes > 1 => ObjectNet::coco(network, min_score)?,
            Kind::Ssd | Kind::Yolox { .. } => ObjectNet::new(network, &["person"], min_score)?,
        };
        net.only = Some(coco::PERSON);
        Ok(Self(net))
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        self.0.network()
    }

    /// Looks at several pictures, on a GPU at once. Per picture the people, best first, boxes in its pixels.
    ///
    /// # Errors
    /// When the device fails.
    pub fn detect_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<Detection>>, RunError> {
        self.0.detect_all(images)
    }
}

impl PersonDetector for PersonNet {
    fn info(&self) -> DetectorInfo {
        self.0.network.info()
    }

    fn wish(&self) -> ImageWish {
        self.0.wish()
    }

    fn detect(&mut self, image: &Image) -> Result<Vec<Detection>, DetectorError> {
        let mut all = self.0.detect_all(&[image]).map_err(|error| self.0.network.failed(&error))?;
        Ok(all.pop().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::Rect;

    use super::*;
    use crate::networks::testing::{board, brightness_network};

    /// Says "here is one" with the picture's brightness (0..=255 as 0..=1) as certainty.
    fn list() -> Network {
        let slope = [0.0, 0.0, 1.0 / 255.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let level = [0.0, 1.0, 0.0, 0.25, 0.5, 0.75, 1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
        brightness_network("list", (8, 6), ("out", &[1, 1, 2, 7]), &slope, &level)
    }

    #[test]
    fn several_pictures_keep_their_order_and_size() {
        let mut net = PersonNet::new(list(), 0.3).unwrap();
        assert_eq!(net.info(), DetectorInfo { name: "list".into(), backend: "candle", device: "cpu".into() });
        assert_eq!(net.wish(), ImageWish { format: PixelFormat::Bgr8, enough_width: 8 });
        let pictures = [board(40, 20, 200, 20), board(40, 20, 50, 20), board(8, 80, 100, 20)];
        let found = net.detect_all(&pictures.each_ref()).unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!(found[0][0].bbox, Rect::new(10.0, 10.0, 20.0, 10.0));
        assert_eq!(found[2][0].bbox, Rect::new(2.0, 40.0, 4.0, 40.0));
        assert_eq!((found[0][0].label.as_str(), found[0][0].identity.as_ref()), ("person", None));
        assert!((found[0][0].score - 200.0 / 255.0).abs() < 0.02, "{:?}", found[0][0]);
        assert_eq!(net.detect(&pictures[2]).unwrap(), found[2]);
    }

    /// YOLOX's shape for an input of 32 x 32: 16 + 4 + 1 rows of two classes; row 20 is the only one that speaks.
    fn rows() -> Network {
        let mut level = vec![0.0; 21 * 7];
        level[20 * 7..].copy_from_slice(&[0.5, 0.5, 0.0, -1.0, 0.9, 0.2, 0.8]);
        brightness_network("rows", (32, 32), ("out", &[1, 21, 7]), &[0.0; 21 * 7], &level)
    }

    #[test]
    fn classes_have_the_names_given() {
        let mut net = ObjectNet::new(rows(), &["cat", "dog"], 0.3).unwrap();
        let found = net.detect_all(&[&board(64, 48, 100, 20)]).unwrap();
        assert_eq!(found[0].len(), 1);
        assert_eq!(found[0][0].label, "dog");
        assert!((found[0][0].score - 0.72).abs() < 1e-6);
        // Half the size: 32 pixels around the middle (16, 16) of the input are 64 around (32, 32), cut below.
        let Rect { x, width, .. } = found[0][0].bbox;
        assert!(x.abs() < 1e-3 && (width - 64.0).abs() < 1e-3, "{:?}", found[0][0].bbox);
    }

    #[test]
    fn finds_serve_as_guesses_one_of_each_label() {
        let mut net = ObjectNet::new(rows(), &["cat", "dog"], 0.3).unwrap();
        let guess = net.classify(&board(64, 48, 100, 20)).unwrap();
        assert_eq!(guess.len(), 1);
        assert!(guess[0].label == "dog" && (guess[0].score - 0.72).abs() < 1e-6, "{guess:?}");
        let labels = ["a", "b", "a", "c", "d", "b", "e", "f"];
        let found = labels
            .iter()
            .enumerate()
            .map(|(n, &label)| Detection::new(label, 0.9 - n as f32 / 10.0, Rect::new(0.0, 0.0, 1.0, 1.0)));
        let guesses = guesses(found.collect());
        let labels: Vec<_> = guesses.iter().map(|guess| guess.label.as_str()).collect();
        assert_eq!(labels, ["a", "b", "c", "d", "e"]);
        assert_eq!(guesses[2].score, 0.9 - 0.3);
    }

    #[test]
    fn networks_of_another_kind_are_refused() {
        let other = brightness_network("other", (8, 8), ("out", &[1, 4]), &[0.0; 4], &[0.0; 4]);
        let message = PersonNet::new(other, 0.3).unwrap_err().to_string();
        assert!(message.contains("other") && message.contains("[1, 1, N, 7]"), "{message}");
        let message = ObjectNet::new(rows(), &["cat"], 0.3).unwrap_err().to_string();
        assert!(message.contains("2 classes"), "{message}");
        assert!(PersonNet::new(rows(), 0.3).is_err(), "two classes that are not COCO's");
    }
}
