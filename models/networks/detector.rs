//! Detectors of persons and objects: a network of one of the two kinds known here, between pictures and detections.

use meerkat_base::{Detection, DetectorError, DetectorInfo, Image, ImageWish, PersonDetector, PixelFormat};

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

    fn wish(&self) -> ImageWish {
        ImageWish { format: PixelFormat::Bgr8, enough_width: self.network.size().0 as u32 }
    }
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
