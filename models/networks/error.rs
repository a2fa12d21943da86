//! Why a network cannot be used.

use std::path::PathBuf;

use crate::engine::LoadError;
use crate::graph::ImportError;
use crate::weights::WeightsError;
use crate::weights::tensors::TensorsError;

/// Says why a network cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its files are not there or not whole.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no network that can be computed here.
    #[error("{network}: {source}")]
    Import {
        /// The network.
        network: String,
        /// What is wrong, and where.
        source: ImportError,
    },
    /// A file with weights alone cannot be read.
    #[error("{network} {source}")]
    Tensors {
        /// The network.
        network: String,
        /// What is wrong.
        source: TensorsError,
    },
    /// The device cannot run it.
    #[error("{network}: {source}")]
    Load {
        /// The network.
        network: String,
        /// What is wrong.
        source: LoadError,
    },
    /// It takes or gives something else than what it is to be used for.
    #[error("{network} {reason}")]
    Misfit {
        /// The network.
        network: String,
        /// What does not fit.
        reason: String,
    },
}
