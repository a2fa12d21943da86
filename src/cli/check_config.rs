//! `meerkat check-config`: reads the configuration as the node would, says everything that is wrong, and does nothing.

use clap::Args;

use super::CliError;
use super::settings_args::SettingsArgs;
use crate::app::detectors::Detectors;
use crate::app::{channels, desk};
use crate::settings::Settings;

/// Check a configuration without starting anything; all errors are reported at once
///
/// Reads the built-in defaults, the files and the environment exactly as `run` does, secrets in files, templates, the
/// rules of the chat and the weights of networks included. Opens no socket and no data folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat check-config --config /etc/meerkat/node.toml
  MEERKAT__FRAME__LISTEN=0.0.0.0:9000 meerkat check-config --config node.toml

Exit codes: 0 the configuration is valid, 2 it is not.")]
pub struct CheckConfigArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Checks and says what it found.
pub fn run(args: &CheckConfigArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    let detectors = Detectors::choose(&settings)?;
    desk::check(&settings)?;
    channels::check(&settings).map_err(|error| CliError::Usage(format!("{error:#}")))?;
    println!("{}", summary(&settings));
    for (role, used) in detectors.used() {
        println!("  {role:<19} {used}");
    }
    Ok(())
}

/// What a person wants to see after a change: where it listens and whom it knows.
fn summary(settings: &Settings) -> String {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let cameras = names(settings.cameras.keys().map(|id| id.as_str()).collect());
    let channels = names(settings.notify.channels.keys().map(String::as_str).collect());
    format!(
        "the configuration is valid\n  cameras connect to  {}{}\n  pages and metrics   http://{}/\n  \
         data folder         {}\n  cameras             {cameras}\n  channels            {channels}",
        settings.frame.listen,
        settings.frame.tls.as_ref().map(|tls| format!(" and {} (TLS)", tls.listen)).unwrap_or_default(),
        settings.http.listen,
        settings.data_dir.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_cameras_and_channels_but_no_secret() {
        let env = [
            ("MEERKAT__CAMERAS__DOOR__TOKEN", "hunter2"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__TYPE", "webhook"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__URL", "https://example.org/hunter2"),
            ("MEERKAT__NOTIFY__CHANNELS__OFFICE__SECRET", "hunter2hunter2hunter2"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let summary = summary(&Settings::load(&[], env).unwrap());
        assert!(summary.contains("door") && summary.contains("office") && summary.contains("127.0.0.1:9000"));
        assert!(!summary.contains("hunter2"));
    }
}
