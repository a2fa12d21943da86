//! `meerkat storage`: what is used by whom, what would go next and when, and that the clock is right.

use anyhow::Context;
use clap::{Args, Subcommand};
use meerkat_store::{DataLock, StoreError, StoreReader};
use serde_json::Value;

use super::running_node::RunningNode;
use super::settings_args::{SettingsArgs, require_data_dir};
use super::{CliError, logging};
use crate::app::storage::{plan_of, report_of_folder};
use crate::settings::Settings;

/// Show what is stored, what would be deleted next, and confirm the clock
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat storage                       what is used by which camera, and how much is free
  meerkat storage plan --limit 20       what would go next, oldest first; deletes nothing
  meerkat storage plan --json           the same as one JSON object
  meerkat storage confirm-clock         the wall clock is right: deletion by age goes on

Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration.")]
pub struct StorageArgs {
    #[command(subcommand)]
    action: Option<Action>,

    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What would be deleted next, and when; deletes nothing
    Plan {
        /// How many things
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// Say that the wall clock is right after it jumped
    ConfirmClock,
}

/// Does what the arguments say.
pub fn run(args: &StorageArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    match &args.action {
        None => {
            let report = report(&settings)?;
            if args.json { print_json(&report) } else { print_report(&report) }
        }
        Some(Action::Plan { limit }) => {
            let plan = plan(&settings, usize::try_from(*limit).unwrap_or(1_000))?;
            if args.json { print_json(&plan) } else { print_plan(&plan) }
        }
        Some(Action::ConfirmClock) => {
            let node = running(&settings)?.with_context(|| {
                format!(
                    "no node runs in the data folder {} (give the node's --config)",
                    settings.data_dir.display()
                )
            })?;
            let doubted = node.post("storage/confirm-clock")?["was_in_doubt"] == true;
            println!(
                "{}",
                if doubted { "the wall clock is trusted again" } else { "the wall clock was not in doubt" }
            );
        }
    }
    Ok(())
}

/// The node that has the data folder; none where it is free.
fn running(settings: &Settings) -> anyhow::Result<Option<RunningNode>> {
    require_data_dir(settings)?;
    match DataLock::take(&settings.data_dir) {
        Ok(_free_again) => Ok(None),
        Err(StoreError::Locked { holder, .. }) => Ok(Some(RunningNode::find(settings, &holder)?)),
        Err(error) => Err(error.into()),
    }
}

fn report(settings: &Settings) -> anyhow::Result<Value> {
    match running(settings)? {
        Some(node) => node.get("storage"),
        None => Ok(serde_json::to_value(report_of_folder(settings)?)?),
    }
}

fn plan(settings: &Settings, limit: usize) -> anyhow::Result<Value> {
    match running(settings)? {
        Some(node) => node.get(&format!("storage/plan?limit={limit}")),
        None => {
            let reader = StoreReader::open(&settings.data_dir)?;
            Ok(serde_json::to_value(plan_of(&reader, settings, limit)?)?)
        }
    }
}

fn print_json(value: &Value) {
    println!("{value}");
}

/// Bytes for people: three digits and a unit.
fn shown(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn print_report(report: &Value) {
    println!(
        "free {}, the oldest goes below {}; ballast {}",
        shown(number(&report["free_bytes"])),
        shown(number(&report["free_floor_bytes"])),
        shown(number(&report["ballast_bytes"]))
    );
    for (key, words) in [
        ("recording_refused", "recordings are refused"),
        ("deletion_suspended", "nothing is deleted"),
        ("clock_doubt", "nothing is deleted by age"),
    ] {
        if let Some(why) = report[key].as_str() {
            println!("{words}: {why}");
        }
    }
    if report["nothing_may_go"] == true {
        println!("the disk needs room, and nothing more may be deleted");
    }
    println!("{:<24} {:<9} {:>9} {:>11}  oldest", "camera", "kind", "files", "size");
    for one in report["cameras"].as_array().into_iter().flatten() {
        println!(
            "{:<24} {:<9} {:>9} {:>11}  {}",
            text(&one["camera"]),
            text(&one["kind"]),
            number(&one["files"]),
            shown(number(&one["bytes"])),
            text(&one["oldest"])
        );
    }
    for (kind, bytes) in report["used_bytes"].as_object().into_iter().flatten() {
        println!("{:<24} {:<9} {:>9} {:>11}", "all", kind, "", shown(number(bytes)));
    }
}

fn print_plan(plan: &Value) {
    match number(&plan["bytes_needed"]) {
        0 => println!("{} can be written before the oldest has to go", shown(number(&plan["bytes_left"]))),
        needed => println!("{} have to be freed now", shown(needed)),
    }
    for (key, words) in
        [("deletion_suspended", "nothing is deleted"), ("clock_doubt", "nothing is deleted by age")]
    {
        if let Some(why) = plan[key].as_str() {
            println!("{words}: {why}");
        }
    }
    println!("{:<24} {:<24} {:>11}  path", "taken", "goes by age at", "size");
    for one in plan["next"].as_array().into_iter().flatten() {
        let when = if one["awaited"] == true { "after its alert" } else { text(&one["by_age"]) };
        let size = shown(number(&one["bytes"]));
        println!("{:<24} {when:<24} {size:>11}  {}", text(&one["taken"]), text(&one["path"]));
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn sizes_are_short() {
        for (bytes, expected) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(shown(bytes), expected);
        }
    }
}
