//! Finds faces with five points: YuNet, or face-detection-retail-0004 followed by landmarks-regression-retail-0009.

use meerkat_base::{DetectorInfo, Image};

use super::error::ModelError;
use super::face::Face;
use super::network::Network;
use super::resample::{Crop, Resampler};
use super::{landmarks, ssd, yunet};
use crate::engine::RunError;

/// YuNet's boxes that overlap more than this are the same face.
const OVERLAP: f32 = 0.3;

/// Finds faces.
#[derive(Debug)]
pub struct FaceFinder {
    network: Network,
    kind: Kind,
    resampler: Resampler,
    min_score: f32,
}

#[derive(Debug)]
enum Kind {
    /// For each stride the numbers of the outputs class, objectness, box, points.
    YuNet([[usize; 4]; 3]),
    /// The network that finds the points.
    Ssd(Box<Network>),
}

impl FaceFinder {
    /// A finder with YuNet. `min_score` is the least certainty, 0..=1; 0.7 gave no false face in 15 pictures without
    /// people and missed none of 43.
    ///
    /// # Errors
    /// When the network has not YuNet's outputs, by their names and sizes.
    pub fn yunet(network: Network, min_score: f32) -> Result<Self, ModelError> {
        let (width, height) = network.size();
        let mut order = [[0; 4]; 3];
        for (stride, numbers) in yunet::STRIDES.iter().zip(&mut order) {
            let cells = (width / stride) * (height / stride);
            for ((head, values), number) in yunet::HEADS.iter().zip([1, 1, 4, 10]).zip(numbers) {
                let name = format!("{head}_{stride}");
                let found = network.outputs().iter().position(|port| port.name == name);
                *number = found
                    .filter(|&at| network.outputs().get(at).is_some_and(|port| port.len() == cells * values))
                    .ok_or_else(|| {
                        network.misfit(format!(
                            "has no output {name} of {} values, as YuNet has",
                            cells * values
                        ))
                    })?;
            }
        }
        Ok(Self { network, kind: Kind::YuNet(order), resampler: Resampler::default(), min_score })
    }

    /// A finder with face-detection-retail-0004 and, for the points, landmarks-regression-retail-0009.
    ///
    /// # Errors
    /// When one of them gives something else.
    pub fn ssd(network: Network, points: Network, min_score: f32) -> Result<Self, ModelError> {
        if !matches!(network.outputs(), [port] if matches!(port.shape[..], [1, 1, _, ssd::ROW])) {
            return Err(network.misfit("does not give one list [1, 1, N, 7]"));
        }
        points.expect((landmarks::SIDE, landmarks::SIDE), &[landmarks::VALUES])?;
        Ok(Self { network, kind: Kind::Ssd(Box::new(points)), resampler: Resampler::default(), min_score })
    }

    /// Name and device.
    pub fn info(&self) -> DetectorInfo {
        self.network.info()
    }

    /// The network that finds the boxes.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Width of its input in pixels; wider pictures are reduced.
    pub fn width(&self) -> u32 {
        u32::try_from(self.network.size().0).unwrap_or(u32::MAX)
    }

    /// All faces of a picture, best first.
    ///
    /// # Errors
    /// When the device fails.
    pub fn find(&mut self, image: &Image) -> Result<Vec<Face>, RunError> {
        Ok(self.find_all(&[image])?.pop().unwrap_or_default())
    }

    /// All faces of several pictures, on a GPU at once; per picture best first.
    ///
    /// # Errors
    /// When the device fails.
    pub fn find_all(&mut self, images: &[&Image]) -> Result<Vec<Vec<Face>>, RunError> {
        let Self { network, kind, resampler, min_score } = self;
        match kind {
            Kind::YuNet(order) => with_yunet(network, order, resampler, *min_score, images),
            Kind::Ssd(points) => with_ssd(network, points, resampler, *min_score, images),
        }
    }
}

fn with_yunet(
    network: &mut Network,
    order: &[[usize; 4]; 3],
    resampler: &mut Resampler,
    min_score: f32,
    images: &[&Image],
) -> Result<Vec<Vec<Face>>, RunError> {
    let (size, settings) = (network.size(), yunet::Settings { min_score, overlap: OVERLAP });
    let mut all = Vec::with_capacity(images.len());
    network.run(
        images.len(),
        |n, planes| yunet::prepare(resampler, images[n], size, planes),
        |n, scale, outputs| {
            let output = |number: usize| outputs.get(number).copied().unwrap_or_default();
            let levels = order.map(|[class, object, bbox, points]| yunet::Level {
                class: output(class),
                object: output(object),
                bbox: output(bbox),
                points: output(points),
            });
            let picture = (images[n].width(), images[n].height());
            all.push(yunet::decode(&levels, size, scale, picture, &settings));
        },
    )?;
    Ok(all)
}

fn with_ssd(
    network: &mut Network,
    points: &mut Network,
    resampler: &mut Resampler,
    min_score: f32,
    images: &[&Image],
) -> Result<Vec<Vec<Face>>, RunError> {
    let size = network.size();
    // All faces of all pictures in a row, so that their points are found in as few runs as possible.
    let mut found = Vec::new();
    network.run(
        images.len(),
        |n, planes| ssd::prepare(resampler, images[n], size, planes),
        |n, (), outputs| {
            let picture = (images[n].width(), images[n].height());
            let rows = outputs.first().copied().unwrap_or_default();
            found.extend(ssd::decode(rows, picture, min_score).into_iter().map(|face| (n, face)));
        },
    )?;
    let mut all = vec![Vec::new(); images.len()];
    points.run(
        found.len(),
        |at, planes| {
            let (n, face) = &found[at];
            let crop = Crop::of(&face.bbox, images[*n]);
            landmarks::prepare(resampler, images[*n], crop, planes);
            crop
        },
        |at, crop, outputs| {
            let (n, face) = &found[at];
            let points = outputs.first().and_then(|output| landmarks::decode(output, crop));
            if let Some(points) = points {
                all[*n].push(Face { bbox: face.bbox, score: face.score, points });
            }
        },
    )?;
    Ok(all)
}
