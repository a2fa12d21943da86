//! `--config`, which several commands share, and the environment.

use std::path::PathBuf;

use clap::Args;

use crate::settings::{Settings, SettingsErrors};

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// Configuration file (TOML); later ones go before earlier ones, and MEERKAT__SECTION__KEY before all
    #[arg(long = "config", value_name = "FILE", global = true)]
    pub files: Vec<PathBuf>,
}

impl SettingsArgs {
    /// Reads defaults, files and environment.
    pub fn load(&self) -> Result<Settings, SettingsErrors> {
        Settings::load(&self.files, environment())
    }
}

/// The environment with whatever is not UTF-8 made visible, so that it is refused instead of passed over.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}
