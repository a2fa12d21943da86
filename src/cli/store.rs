//! `meerkat store`: looks at the database, and says after a look that deletion may go on.

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use meerkat_base::{Clock, SystemClock};
use meerkat_store::check::Checked;
use meerkat_store::{Store, StoreError, StoreOptions, StoreReader, backup};

use super::progress::Progress;
use super::running_node::RunningNode;
use super::settings_args::SettingsArgs;
use super::stored::{Holder, Stored};
use super::{CliError, logging};
use crate::settings::Settings;

/// The database: look through it, list its copies, confirm after a rebuild
///
/// A database that is damaged is set aside by the node itself (set-aside/<time>/ in the data folder) and made anew from
/// the newest copy in backup/ and from the files beside the clips. Until a person confirms, nothing is deleted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat store check --config node.toml        looks at every page; the node may go on running
  meerkat store copies --config node.toml       the copies in backup/
  meerkat store confirm --config node.toml      deletion goes on

Exit codes: 0 done, in order; 1 failed, damaged.")]
pub struct StoreArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Look through all of the database
    Check,
    /// List the copies of the database, newest first
    Copies,
    /// Let deletion go on after the database was made anew or restored
    Confirm,
}

/// Does what the arguments say.
pub fn run(args: &StoreArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let done = match args.action {
        Action::Check => check(&settings),
        Action::Copies => copies(&settings),
        Action::Confirm => confirm(&settings),
    };
    Ok(done?)
}

/// What a look found.
struct Found {
    is_whole: bool,
    /// Since when nothing is deleted, and why.
    suspended: Option<(String, String)>,
}

fn check(settings: &Settings) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    progress.show("looking through the database", 0, 0);
    let found = look_through(settings, &mut progress);
    progress.end();
    let found = found?;
    if found.is_whole {
        println!("the database is in order");
    } else {
        println!("the part of the database that was looked at is in order");
    }
    if let Some((since, reason)) = found.suspended {
        println!("nothing is deleted since {since} ({reason}), until `meerkat store confirm`");
    }
    Ok(())
}

fn look_through(settings: &Settings, progress: &mut Progress) -> anyhow::Result<Found> {
    match Stored::new(settings).holder()? {
        Holder::Nobody(_lock) => {
            let store = StoreReader::open(&settings.data_dir)?;
            let checked = store.check()?;
            let suspended = store.deletion_suspended()?;
            Ok(Found {
                is_whole: checked == Checked::Whole,
                suspended: suspended.map(|found| (found.since.to_string(), found.reason)),
            })
        }
        Holder::Node(node) => {
            let report = &mut |what: &str, done, of| progress.show(what, done, of);
            let result = node.long_work("store/check", report)?;
            let suspended = &result["deletion_suspended"];
            let text = |key: &str| suspended[key].as_str().unwrap_or("-").to_owned();
            Ok(Found {
                is_whole: result["checked"] == "whole",
                suspended: suspended.is_object().then(|| (text("since"), text("reason"))),
            })
        }
    }
}

fn copies(settings: &Settings) -> anyhow::Result<()> {
    let copies = backup::list(&settings.data_dir)?;
    if copies.is_empty() {
        println!("there are no copies in {}", settings.data_dir.join(backup::FOLDER).display());
    }
    for copy in copies {
        println!("{}  {:>14} bytes  {}", copy.at, copy.bytes, copy.path.display());
    }
    Ok(())
}

fn confirm(settings: &Settings) -> anyhow::Result<()> {
    let options = StoreOptions { now: SystemClock::new().wall(), ..StoreOptions::default() };
    let confirmed = match Store::open(&settings.data_dir, options) {
        Ok(mut store) => store.confirm()?.is_some(),
        Err(error @ StoreError::Locked { .. }) => {
            let StoreError::Locked { holder, .. } = &error else { return Err(anyhow!(error)) };
            let node = RunningNode::find(settings, holder).with_context(|| {
                format!("{error}, and cannot be asked at http.listen = {}", settings.http.listen)
            })?;
            node.confirm_store()?
        }
        Err(error) => return Err(error.into()),
    };
    println!("{}", if confirmed { "deletion goes on" } else { "nothing was suspended" });
    Ok(())
}
