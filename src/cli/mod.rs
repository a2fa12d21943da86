//! The command line: what can be asked for, and how the program ends. The work is done in the modules below and in
//! the rooms.

mod demo;
mod run;

mod alerts;
mod analyse;
mod backup;
mod attendance;
mod check_config;
mod clips;
mod detect;
mod embed;
mod events;
mod faces;
mod models;
mod push;
mod recognise;
mod relay;
mod store;
mod snooze;
mod storage;
mod watch;

mod gallery;
mod in_order;
mod logging;
mod network_args;
mod picture_file;
mod progress;
mod running_node;
mod settings_args;
mod stored;

pub(crate) use settings_args::environment;

use clap::{Parser, Subcommand};

use crate::settings::SettingsErrors;

/// Meerkat, a monitoring node: cameras hand it frames, and what they show becomes events, clips, alerts, check-ins
/// and metrics.
#[derive(Debug, Parser)]
#[command(name = "meerkat", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  meerkat demo                                        see it work, without any camera
  meerkat run --config node.toml                      the node
  meerkat check-config --config node.toml             what is wrong with a configuration
  meerkat push --to 127.0.0.1:9000 --mode 4 walk.mp4  play a video to a node, as a camera would
  meerkat watch 127.0.0.1 9999 --save recordings      a camera of a node live, in segments of 15 s
  meerkat detect person street.jpg --json             try a detector
  meerkat embed --json face.jpg                       a face as numbers
  meerkat alerts test office                          try a channel out
  meerkat faces enrol 'Li Lei' a.jpg b.jpg            teach it a face
  meerkat events list --camera door                   what happened
  meerkat backup /mnt/usb/monday                      database, faces and keys in a folder
  meerkat attendance --from 2026-11-01                who came and went when
  meerkat snooze --camera yard --for 2h               no messages about it for a while
  meerkat analyse table.csv --out charts              charts and figures of a table, or of events
  meerkat models pull                                 fetch the weights of its networks
  meerkat clips verify                                whether clips and database agree
  meerkat storage plan                                what would be deleted next, and when
  meerkat relay keygen --out me.key                   a key for files that only the receiver reads

Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration.
Environment: MEERKAT__SECTION__KEY sets a configuration key; MEERKAT_LOG is a log filter such as
meerkat=debug.";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Demo(demo::DemoArgs),
    Push(push::PushArgs),
    Recognise(recognise::RecogniseArgs),
    CheckConfig(check_config::CheckConfigArgs),
    Alerts(alerts::AlertsArgs),
    Faces(faces::FacesArgs),
    Attendance(attendance::AttendanceArgs),
    Detect(detect::DetectArgs),
    Embed(embed::EmbedArgs),
    Models(models::ModelsArgs),
    Events(events::EventsArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Store(store::StoreArgs),
    Clips(clips::ClipsArgs),
    Snooze(snooze::SnoozeArgs),
    Disarm(snooze::DisarmArgs),
    Arm(snooze::ArmArgs),
    Storage(storage::StorageArgs),
    Watch(watch::WatchArgs),
    Analyse(analyse::AnalyseArgs),
    Relay(relay::RelayArgs),
}

/// Why a command ended early.
#[derive(Debug)]
pub enum CliError {
    /// The configuration is wrong; exit code 2.
    Settings(SettingsErrors),
    /// Arguments that fit each other badly; exit code 2.
    Usage(String),
    /// Something failed; exit code 1.
    Failed(anyhow::Error),
    /// It was all said already; exit code 1.
    Reported,
    /// What was checked is not as it should be, and it was said how; exit code 3.
    NotInOrder,
}

impl From<SettingsErrors> for CliError {
    fn from(errors: SettingsErrors) -> Self {
        Self::Settings(errors)
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        // What only shows when the weights are looked at is a wrong configuration all the same.
        match error.downcast() {
            Ok(errors) => Self::Settings(errors),
            Err(error) => Self::Failed(error),
        }
    }
}

/// Reads the arguments of the program, does what they say, reports what went wrong, and ends the process.
pub fn main() -> ! {
    let cli = Cli::parse();
    crate::app::leave(match cli.command.run() {
        Ok(()) => 0,
        Err(error) => error.report(),
    })
}

impl Command {
    fn run(self) -> Result<(), CliError> {
        match self {
            Command::Run(args) => run::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Push(args) => push::run(args),
            Command::Recognise(args) => recognise::run(&args),
            Command::CheckConfig(args) => check_config::run(&args),
            Command::Alerts(args) => alerts::run(args),
            Command::Faces(args) => faces::run(args),
            Command::Attendance(args) => attendance::run(&args),
            Command::Detect(args) => detect::run(&args),
            Command::Embed(args) => embed::run(&args),
            Command::Models(args) => models::run(args),
            Command::Events(args) => events::run(&args),
            Command::Backup(args) => backup::backup(&args),
            Command::Restore(args) => backup::restore(&args),
            Command::Store(args) => store::run(&args),
            Command::Clips(args) => clips::run(args),
            Command::Snooze(args) => snooze::run(args),
            Command::Disarm(args) => snooze::disarm(args),
            Command::Arm(args) => snooze::arm(args),
            Command::Storage(args) => storage::run(&args),
            Command::Watch(args) => watch::run(&args),
            Command::Analyse(args) => analyse::run(&args),
            Command::Relay(args) => relay::run(args),
        }
    }
}

impl CliError {
    /// Says once, with the whole chain of causes, what went wrong; the exit code that belongs to it.
    fn report(self) -> u8 {
        match self {
            CliError::Settings(errors) => {
                eprintln!("meerkat: {errors}");
                2
            }
            CliError::Usage(reason) => {
                eprintln!("meerkat: {reason}");
                2
            }
            CliError::Failed(error) => {
                eprintln!("meerkat: {}", in_one_line(&error));
                1
            }
            CliError::Reported => 1,
            CliError::NotInOrder => 3,
        }
    }
}

/// The chain of causes, each once: some errors already say their cause, others leave it to whoever prints them.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.ends_with(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use clap::CommandFactory;

    #[test]
    fn a_cause_is_said_once() {
        let plain = anyhow::anyhow!("address in use").context("cannot listen").context("no node");
        assert_eq!(in_one_line(&plain), "no node: cannot listen: address in use");
        let doubled = Err::<(), _>(std::io::Error::other("address in use"))
            .context("cannot listen: address in use")
            .unwrap_err();
        assert_eq!(in_one_line(&doubled), "cannot listen: address in use");
    }

    /// Complains about what a screen of 100 columns, or a pipe, would break in the middle of an example.
    fn narrow(command: &clap::Command) {
        for text in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
            for line in text.to_string().lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
        }
        command.get_subcommands().for_each(narrow);
    }

    #[test]
    fn examples_are_not_wrapped() {
        narrow(&Cli::command());
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
