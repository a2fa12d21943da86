//! Networks that look at one face or one person that has been found: embeddings, age and sex.

use meerkat_base::{DetectorInfo, Image, Rect};

use super::age_gender::Estimate;
use super::embedding::normalised;
use super::error::ModelError;
use super::face::Face;
use super::network::Network;
use super::resample::{Crop, Resampler};
use super::{age_gender, reid_face, reid_person};
use crate::engine::RunError;

/// Tells faces apart: face-reidentification-retail-0095.
#[derive(Debug)]
pub struct FaceEmbedder {
    network: Network,
}

impl FaceEmbedder {
    /// Takes the network.
    ///
    /// # Errors
    /// When it takes or gives something else.
    pub fn new(network: Network) -> Result<Self, ModelError> {
        network.expect((reid_face::SIDE, reid_face::SIDE), &[reid_face::VALUES])?;
        Ok(Self { network })
    }

    /// Name and device.
    pub fn info(&self) -> DetectorInfo {
        self.network.info()
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Names what its embeddings can be compared with: those of the same weights.
    pub fn space(&self) -> String {
        let sha256 = self.network.sha256();
        format!("{}:{}", self.network.name(), sha256.get(..16).unwrap_or(sha256))
    }

    /// A face turned and scaled as the network expects it: three planes of 128 x 128 values. `None` when its points
    /// allow no alignment.
    pub fn align(image: &Image, face: &Face) -> Option<Vec<f32>> {
        let alignment = reid_face::alignment(&face.points)?;
        let mut planes = vec![0.0; 3 * reid_face::SIDE * reid_face::SIDE];
        reid_face::prepare(image, &alignment, &mut planes);
        Some(planes)
    }

    /// Embeddings (256 values, length 1) of aligned faces, as [`FaceEmbedder::align`] makes them. `None` where the
    /// network gave nothing that has a direction.
    ///
    /// # Errors
    /// When the device fails.
    pub fn embed_aligned(&mut self, faces: &[Vec<f32>]) -> Result<Vec<Option<Vec<f32>>>, RunError> {
        let mut all = Vec::with_capacity(faces.len());
        self.network.run(
            faces.len(),
            |n, planes| {
                let face = faces.get(n).map_or(&[][..], |face| face);
                let len = planes.len().min(face.len());
                planes[..len].copy_from_slice(&face[..len]);
            },
            |_, (), outputs| all.push(outputs.first().and_then(|output| normalised(output))),
        )?;
        Ok(all)
    }

    /// Embeddings of faces of one picture, one for each face.
    ///
    /// # Errors
    /// When the device fails.
    pub fn embed(&mut self, image: &Image, faces: &[Face]) -> Result<Vec<Option<Vec<f32>>>, RunError> {
        let aligned: Vec<Option<Vec<f32>>> = faces.iter().map(|face| Self::align(image, face)).collect();
        let usable: Vec<bool> = aligned.iter().map(Option::is_some).collect();
        let aligned: Vec<Vec<f32>> = aligned.into_iter().flatten().collect();
        let mut embedded = self.embed_aligned(&aligned)?.into_iter();
        Ok(usable.into_iter().map(|usable| if usable { embedded.next().flatten() } else { None }).collect())
    }
}

/// Tells whole persons apart: person-reidentification-retail-0277.
#[derive(Debug)]
pub struct PersonEmbedder {
    network: Network,
    resampler: Resampler,
}

impl PersonEmbedder {
    /// Takes the network.
    ///
    /// # Errors
    /// When it takes or gives something else.
    pub fn new(network: Network) -> Result<Self, ModelError> {
        network.expect((reid_person::WIDTH, reid_person::HEIGHT), &[reid_person::VALUES])?;
        Ok(Self { network, resampler: Resampler::default() })
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Embeddings (256 values, length 1) of the persons in these boxes of one picture.
    ///
    /// # Errors
    /// When the device fails.
    pub fn embed(&mut self, image: &Image, persons: &[Rect]) -> Result<Vec<Option<Vec<f32>>>, RunError> {
        let Self { network, resampler } = self;
        let mut all = Vec::with_capacity(persons.len());
        network.run(
            persons.len(),
            |n, planes| reid_person::prepare(resampler, image, Crop::of(&persons[n], image), planes),
            |_, (), outputs| all.push(outputs.first().and_then(|output| normalised(output))),
        )?;
        Ok(all)
    }
}

/// Estimates age and sex: age-gender-recognition-retail-0013.
#[derive(Debug)]
pub struct AgeGender {
    network: Network,
    resampler: Resampler,
    /// Numbers of the outputs: sex, age.
    order: (usize, usize),
}

impl AgeGender {
    /// Takes the network.
    ///
    /// # Errors
    /// When it takes or gives something else.
    pub fn new(network: Network) -> Result<Self, ModelError> {
        let of_len = |len| network.outputs().iter().position(|port| port.len() == len);
        let order = match (network.size(), of_len(2), of_len(1)) {
            ((age_gender::SIDE, age_gender::SIDE), Some(sex), Some(age)) => (sex, age),
            _ => {
                return Err(
                    network.misfit("does not take 62x62 pixels and give two values for sex and one for age")
                );
            }
        };
        Ok(Self { network, resampler: Resampler::default(), order })
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Estimates for the faces in these boxes of one picture.
    ///
    /// # Errors
    /// When the device fails.
    pub fn estimate(&mut self, image: &Image, faces: &[Rect]) -> Result<Vec<Option<Estimate>>, RunError> {
        let Self { network, resampler, order: (sex, age) } = self;
        let mut all = Vec::with_capacity(faces.len());
        network.run(
            faces.len(),
            |n, planes| age_gender::prepare(resampler, image, Crop::of(&faces[n], image), planes),
            |_, (), outputs| {
                let output = |number: usize| outputs.get(number).copied().unwrap_or_default();
                all.push(age_gender::decode(output(*sex), output(*age)));
            },
        )?;
        Ok(all)
    }
}
