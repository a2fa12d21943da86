//! `meerkat demo`: the node with drawn cameras.

use std::time::Duration;

use clap::Args;

use super::{CliError, logging};
use crate::app::{self, DemoOptions};

/// See it work: a node with two drawn cameras, without configuration, offline
///
/// One camera guards an object that is carried away, the other watches for people. Prints the addresses to open;
/// everything is kept in a temporary folder that is removed at the end.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Port of the page on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,

    /// Port for cameras on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    frame_port: u16,

    /// Stop by itself after this many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// Runs the demo.
pub fn run(args: &DemoArgs) -> Result<(), CliError> {
    logging::start_quiet()?;
    let options = DemoOptions {
        http_port: args.http_port,
        frame_port: args.frame_port,
        stop_after: args.seconds.map(Duration::from_secs),
    };
    Ok(app::demo(&options)?)
}
