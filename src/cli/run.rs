//! `meerkat run`: the node.

use clap::Args;

use super::settings_args::SettingsArgs;
use super::{CliError, logging};
use crate::app::{self, SettingsSource};

/// Run the node until SIGINT or SIGTERM
///
/// It works without any configuration: cameras push to 127.0.0.1:9000, the page is on http://127.0.0.1:8080/, and
/// everything is kept in ./data. Every key of the configuration can also be set as MEERKAT__SECTION__KEY; the keys with
/// their defaults stand in config/default.toml. SIGHUP reads the configuration again; a second SIGINT ends at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat run
  meerkat run --config node.toml
  MEERKAT__FRAME__LISTEN=127.0.0.1:9100 MEERKAT__DATA_DIR=/srv/meerkat meerkat run

Exit codes: 0 stopped as told, 1 failed, 2 wrong arguments or configuration, 3 hanging threads:
start it anew.")]
pub struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs the node.
pub fn run(args: &RunArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start(&settings.log)?;
    let source = SettingsSource { files: args.settings.files.clone(), overrides: Vec::new() };
    Ok(app::run(&source, settings)?)
}
