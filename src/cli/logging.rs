//! Where the log goes: the standard error output, as text or JSON. Decides nothing about what is logged.

use tracing_subscriber::EnvFilter;

use super::CliError;
use crate::settings::{LogFormat, LogSettings};

/// The variable that goes before every other setting of the log.
const VARIABLE: &str = "MEERKAT_LOG";

/// Starts the log of a node, as its settings say.
pub fn start(settings: &LogSettings) -> Result<(), CliError> {
    start_with(settings.format, settings.level)
}

/// Starts the log of a tool: text, and only what the user should know.
pub fn start_quiet() -> Result<(), CliError> {
    start_with(LogFormat::Text, "warn")
}

fn start_with(format: LogFormat, level: &str) -> Result<(), CliError> {
    let filter = filter(std::env::var(VARIABLE).ok().as_deref(), level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| CliError::Failed(anyhow::anyhow!("the log cannot be started: {error}")))
}

/// Our own rooms at the level that is set, libraries only when they warn.
fn filter(variable: Option<&str>, level: &str) -> Result<EnvFilter, CliError> {
    let (text, source) = match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => (text.to_owned(), VARIABLE),
        None => (format!("warn,meerkat={level}"), "log.level"),
    };
    EnvFilter::try_new(&text).map_err(|error| CliError::Usage(format!("{source}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_first() {
        assert_eq!(filter(None, "info").unwrap().to_string(), "meerkat=info,warn");
        assert_eq!(filter(Some(" "), "debug").unwrap().to_string(), "meerkat=debug,warn");
        assert_eq!(filter(Some("meerkat_actors=trace"), "info").unwrap().to_string(), "meerkat_actors=trace");
        assert!(matches!(filter(Some("meerkat=loud"), "info"), Err(CliError::Usage(_))));
    }
}
