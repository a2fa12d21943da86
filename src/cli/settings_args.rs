//! `--config`, which several commands share, and the environment.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use crate::settings::{Settings, SettingsErrors};

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArgs {
    /// Configuration file (TOML); a later file overrides an earlier one, and MEERKAT__SECTION__KEY overrides all
    #[arg(long = "config", value_name = "FILE", global = true)]
    pub files: Vec<PathBuf>,
}

impl SettingsArgs {
    /// Reads defaults, files and environment.
    pub fn load(&self) -> Result<Settings, SettingsErrors> {
        Settings::load(&self.files, environment())
    }

    /// Reads where the data folder is, and no files of secrets.
    pub fn load_data_dir(&self) -> Result<PathBuf, SettingsErrors> {
        Settings::load_data_dir(&self.files, environment())
    }
}

/// That there is a data folder: a command that changes something must not make one where the configuration was forgotten.
pub(super) fn require_data_dir(settings: &Settings) -> anyhow::Result<()> {
    let folder = settings.data_dir.display();
    ensure!(settings.data_dir.is_dir(), "there is no data folder {folder} (give the node's --config)");
    Ok(())
}

/// A host with a port, such as `127.0.0.1:9000` or `[::1]:9000`; the name is looked up later.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let wanted = || "HOST:PORT is wanted, such as 127.0.0.1:9000".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
    let is_host = !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if is_host && is_port { Ok(text.to_owned()) } else { Err(wanted()) }
}

/// The environment with whatever is not UTF-8 made visible, so that it is refused instead of passed over.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_is_refused() {
        for good in ["127.0.0.1:9000", "[::1]:9000", "node.example.org:1"] {
            assert_eq!(host_and_port(good), Ok(good.to_owned()));
        }
        for bad in ["127.0.0.1", "::1", "::1:9000", ":9000", "node:", "node:0", "node:70000", "node:http", ""]
        {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: std::path::PathBuf| {
            Settings::load(&[], [("MEERKAT__DATA_DIR".to_owned(), path.display().to_string())].into_iter())
                .unwrap()
        };
        require_data_dir(&at(folder.path().to_owned())).unwrap();
        let missing = folder.path().join("none");
        let said = require_data_dir(&at(missing.clone())).unwrap_err().to_string();
        assert!(said.contains(&missing.display().to_string()) && said.contains("--config"), "{said}");
    }
}
