//! Where the weights of networks are kept and how they are fetched. Which networks there are is not known here.

use std::path::PathBuf;

use meerkat_base::Secret;

use super::notify::read_url;
use super::reader::Reader;
use super::rule;

/// Weights of networks.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelsSettings {
    /// The models folder; `None`: `models` in the data folder. The environment's `MEERKAT_MODELS_DIR` goes before it.
    pub dir: Option<PathBuf>,
    /// Proxy for downloads; a secret, because it may carry a password.
    pub proxy: Option<Secret>,
}

impl ModelsSettings {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            dir: reader.read("models.dir", rule::optional(rule::path())),
            proxy: read_url(reader, "models.proxy"),
        }
    }
}
