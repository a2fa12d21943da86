//! `meerkat clips verify`: whether files and database agree, and what is done where they do not. The files are looked at
//! here, also beside a node: what takes hours is not its business, and it is asked for the rows only. Repairs change rows
//! and files in pairs, and are done under the lock of the data folder.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use meerkat_base::{Clock, SystemClock};
use meerkat_store::verify::{Finding, Rows, Verified, VerifyOptions, Wrong, verify};
use meerkat_store::{DataLock, Durability, Store, StoreError, StoreOptions, StoreReader};
use serde_json::json;

use super::super::stored::{Holder, Stored};
use super::list::unreadable;
use super::{CliError, repair};
use crate::settings::{self, Settings};

/// How to compare.
#[derive(Debug, Args)]
#[command(after_help = "What --repair does, and needs the node to be stopped for:
  a file without a row           gets its rows back, from its sidecar or, without one, from itself
  a snapshot without a row       gets the row that its name speaks of, as a node does within hours
  a sidecar that is gone, bad    is written anew from the rows
  a file that is gone, altered   is made anew from its kept spool (spool.keep); an altered one is
                                 put aside as <file>.damaged. It is signed again if the key is
                                 there and the spool is proven. Without a spool the row of one that
                                 is gone says so from then on
  a file that is there again     is no longer noted as gone
Nothing is deleted. Spools without a file are finished by the next start of the node.

Exit codes: 0 all in order (with --repair: it is now), 1 failed, 2 wrong arguments, 3 something is
not in order.")]
pub struct VerifyArgs {
    /// Put right what can be put right
    #[arg(long)]
    repair: bool,

    /// Compare names and lengths only; read no contents
    #[arg(long)]
    quick: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was repaired, and how.
type Done = BTreeMap<(Wrong, String), String>;

fn key(finding: &Finding) -> (Wrong, String) {
    (finding.wrong, finding.path.clone())
}

/// Compares, repairs if told to, and says what was found.
pub fn run(settings: &Settings, args: VerifyArgs) -> Result<(), CliError> {
    let outcome = if args.repair { repaired(settings, &args) } else { looked(settings, &args) };
    let (found, done) = outcome?;
    let left: Vec<&Finding> =
        found.findings.iter().filter(|finding| !done.contains_key(&key(finding))).collect();
    if args.json {
        let findings: Vec<_> = found
            .findings
            .iter()
            .map(|finding| json!({ "finding": finding, "repaired": done.get(&key(finding)) }))
            .collect();
        println!(
            "{}",
            json!({
                "files": found.files, "bytes": found.bytes, "checksums": found.checksums,
                "snapshots": found.snapshots, "spools": found.spools,
                "findings": findings, "left": left.len(),
            })
        );
    } else {
        say(&found, &done);
    }
    if left.is_empty() { Ok(()) } else { Err(CliError::NotInOrder) }
}

fn say(found: &Verified, done: &Done) {
    for finding in &found.findings {
        let Finding { wrong, path, detail } = finding;
        let word = serde_json::to_value(wrong).unwrap_or_default();
        let word = word.as_str().unwrap_or_default().replace('_', " ");
        match done.get(&key(finding)) {
            Some(repaired) => println!("{word}: {path}: {detail}; {repaired}"),
            None => println!("{word}: {path}: {detail}"),
        }
    }
    let count = found.findings.len();
    println!(
        "{} files ({:.1} MB, {} read), {} snapshots, {} spools: {}",
        found.files,
        found.bytes as f64 / 1e6,
        found.checksums,
        found.snapshots,
        found.spools,
        match (count, count - done.len().min(count)) {
            (0, _) => "all in order".to_owned(),
            (_, 0) => format!("{count} not in order, all repaired"),
            (_, left) => format!("{count} not in order, {left} left"),
        }
    );
}

fn looked(settings: &Settings, args: &VerifyArgs) -> anyhow::Result<(Verified, Done)> {
    let mut stored = Stored::new(settings);
    let node_runs = matches!(stored.holder()?, Holder::Node(_));
    let found = compare(&mut stored, settings, args, node_runs).with_context(|| unreadable(settings))?;
    if !node_runs && stored.has_met_node() {
        eprintln!("meerkat: a node was started meanwhile: what is said to be unfinished may be its work");
    }
    Ok((found, BTreeMap::new()))
}

fn repaired(settings: &Settings, args: &VerifyArgs) -> anyhow::Result<(Verified, Done)> {
    let durability = match settings.durability {
        settings::Durability::Process => Durability::Process,
        settings::Durability::Power => Durability::Power,
    };
    let lock = DataLock::take(&settings.data_dir).map_err(|error| match error {
        StoreError::Locked { .. } => anyhow::anyhow!("{error}: repairing needs the node to be stopped"),
        error => error.into(),
    })?;
    let now = SystemClock::new().wall();
    let mut store = Store::open_under(&lock, StoreOptions { durability, now, ..StoreOptions::default() })?;
    let reader: &StoreReader = &store;
    let found = compare(reader, settings, args, false)?;
    let mut done = BTreeMap::new();
    for finding in &found.findings {
        match repair::repair(settings, &mut store, finding, now) {
            Ok(Some(words)) => drop(done.insert(key(finding), words)),
            Ok(None) => {}
            Err(error) => eprintln!("meerkat: {}: {error:#}", finding.path),
        }
    }
    Ok((found, done))
}

fn compare<R: Rows>(
    rows: R,
    settings: &Settings,
    args: &VerifyArgs,
    node_runs: bool,
) -> anyhow::Result<Verified>
where
    R::Error: Into<anyhow::Error>,
{
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files, {eta} left")?);
    let options = VerifyOptions { contents: !args.quick, node_runs };
    let found = verify(rows, &settings.data_dir, options, &mut |done, all| {
        bar.set_length(all.max(done));
        bar.set_position(done);
    });
    bar.finish_and_clear();
    found.map_err(Into::into)
}
