//! What can be wrong with weights, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Says why weights cannot be used or fetched.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The manifest has no network of this name.
    #[error("no network is called {name:?}; there are {known}")]
    UnknownNetwork {
        /// The name asked for.
        name: String,
        /// All names, with commas between.
        known: String,
    },
    /// A file is not there.
    #[error("{network}: {} is missing (`meerkat models pull {network}` brings it or says where it is)", path.display())]
    Missing {
        /// Network.
        network: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file is there and is not what the manifest says.
    #[error("{network}: {} is damaged: {damage} (`meerkat models pull {network}` replaces it)", path.display())]
    Damaged {
        /// Network.
        network: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// What arrived is not the file that was wanted; nothing was put in place.
    #[error("{} is not what was expected: {damage}", path.display())]
    Refused {
        /// Where it would have been put.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// A file of the user's own cannot be a model.
    #[error("{}: {reason}", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Somebody else pulls into the same folder.
    #[error("another `meerkat models pull` works in {}", path.display())]
    Locked {
        /// The models folder.
        path: PathBuf,
    },
    /// Not enough room.
    #[error("{needed_bytes} bytes are needed in {}, and {free_bytes} are free", path.display())]
    NoRoom {
        /// The models folder.
        path: PathBuf,
        /// What is to be fetched and a reserve.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest that cannot be used.
    #[error("manifest: {0}")]
    Manifest(String),
}

/// How a file differs from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Another length.
    #[error("it has {found_bytes} bytes instead of {expected_bytes}")]
    Size {
        /// By the manifest.
        expected_bytes: u64,
        /// On disk, or what arrived until it was cut off.
        found_bytes: u64,
    },
    /// Another content.
    #[error("its SHA-256 is {found} instead of {expected}")]
    Digest {
        /// By the manifest.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A folder, a device or the like.
    #[error("it is no ordinary file")]
    NoFile,
}

impl WeightsError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
