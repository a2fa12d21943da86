//! Which networks there are and what for, by the names of the manifest. Where their files lie is the manifest's
//! business.

use serde::Serialize;

use super::error::ModelError;
use super::googlenet;
use super::network::Network;
use crate::device::Compute;
use crate::weights::Folder;

/// What a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Finds people.
    Person,
    /// Finds things of many classes, people among them.
    Objects,
    /// Finds faces.
    Face,
    /// Finds the five points of a face.
    FacePoints,
    /// Tells faces apart.
    FaceEmbedding,
    /// Estimates age and sex.
    AgeGender,
    /// Tells whole persons apart.
    PersonEmbedding,
    /// Says what a picture shows.
    Classes,
}

/// A network that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Name on the command line, in settings and in metrics; the manifest's.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// Width and height of its input in pixels.
    pub size: (usize, usize),
    /// The size can be chosen: any multiple of this in both directions. 1: it cannot.
    pub size_step: usize,
}

const fn fixed(name: &'static str, role: Role, size: (usize, usize)) -> Entry {
    Entry { name, role, size, size_step: 1 }
}

/// Size that YuNet gets when nobody chooses: the picture of an ordinary camera without reduction.
const YUNET_SIZE: (usize, usize) = (640, 480);

/// All networks, those for the same thing side by side, the usual one first.
pub const ALL: &[Entry] = &[
    fixed("person-detection-retail-0013", Role::Person, (544, 320)),
    fixed("yolox-nano", Role::Objects, (416, 416)),
    Entry { name: "yunet-n", role: Role::Face, size: YUNET_SIZE, size_step: 32 },
    fixed("yunet-n-320", Role::Face, (320, 320)),
    fixed("yunet-n-640", Role::Face, (640, 640)),
    Entry { name: "yunet-s", role: Role::Face, size: YUNET_SIZE, size_step: 32 },
    fixed("yunet-s-320", Role::Face, (320, 320)),
    fixed("yunet-s-640", Role::Face, (640, 640)),
    fixed("face-detection-retail-0004", Role::Face, (300, 300)),
    fixed("landmarks-regression-retail-0009", Role::FacePoints, (48, 48)),
    fixed("face-reidentification-retail-0095", Role::FaceEmbedding, (128, 128)),
    fixed("age-gender-recognition-retail-0013", Role::AgeGender, (62, 62)),
    fixed("person-reidentification-retail-0277", Role::PersonEmbedding, (128, 256)),
    fixed("googlenet", Role::Classes, (googlenet::SIDE, googlenet::SIDE)),
];

/// The network of that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

/// Loads a network of the catalog by its name, or a model of the user's own by its path (`.onnx`, or `.xml` with
/// `.bin` beside it, or the weights of a GoogLeNet as `.pth` or `.safetensors`). `size` is width and height of the input, for networks that leave it open; without it they get
/// the catalog's.
///
/// # Errors
/// When there is no such network or its files are missing or damaged (the message says how to get them), and what
/// [`Network::load`] says.
pub fn load(
    model: &str,
    folder: &Folder,
    compute: impl Into<Compute>,
    size: Option<(usize, usize)>,
) -> Result<Network, ModelError> {
    let entry = find(model);
    if let (Some(entry), Some((width, height))) = (entry, size) {
        let step = entry.size_step;
        let fits = if step == 1 {
            (width, height) == entry.size
        } else {
            width > 0 && height > 0 && width.is_multiple_of(step) && height.is_multiple_of(step)
        };
        if !fits {
            let allowed = if step == 1 {
                format!("{}x{}", entry.size.0, entry.size.1)
            } else {
                format!("multiples of {step}")
            };
            let reason = format!("takes {allowed} pixels, not {width}x{height}");
            return Err(ModelError::Misfit { network: model.to_owned(), reason });
        }
    }
    Network::load(&folder.find(model)?, compute, size.or(entry.map(|entry| entry.size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::weights::Manifest;

    #[test]
    fn every_network_of_the_manifest_is_known() {
        let mut listed: Vec<_> =
            Manifest::builtin().networks().iter().map(|network| network.name.as_str()).collect();
        let mut known: Vec<_> = ALL.iter().map(|entry| entry.name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_before_anything_is_read() {
        let folder = Folder::new("nowhere");
        let refused = |name: &str, size| {
            let error = load(name, &folder, DeviceChoice::Cpu, Some(size)).unwrap_err();
            matches!(error, ModelError::Misfit { .. })
        };
        assert!(refused("yolox-nano", (640, 640)));
        assert!(refused("yunet-n", (640, 470)));
        assert!(refused("yunet-n", (0, 320)));
        assert!(!refused("yunet-n", (320, 320)), "the files are missing, the size is right");
    }
}
