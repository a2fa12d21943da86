//! `meerkat clips`: what was recorded, whether it is whole, and how that is proven. A node that runs in the data folder is
//! asked for rows, and keeps what is to be kept; repairs need the lock of the data folder.

mod keep;
mod keys;
mod list;
mod prove;
mod repair;
mod rows;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::settings_args::SettingsArgs;
use super::{CliError, logging};

/// List clips, check them against the database, and prove them
///
/// Looks at the files in the data folder of the configuration. What the database says of them is asked of the node that
/// runs there, at http.listen, or read where none runs. Nothing but `keep`, `unkeep` and `verify --repair` changes
/// anything; the last needs the node to be stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat clips list --camera door --limit 20
  meerkat clips show 0193f0a4-…
  meerkat clips verify                        compare files and database, both ways
  meerkat clips verify --repair               put right what can be; no evidence is deleted
  meerkat clips keep 0193f0a4-…               never delete the clips and snapshots of an event
  meerkat clips keygen                        make the key that recordings are signed with
  meerkat clips prove data/capture/clip/door/2026-11-20/….mp4

How clips are signed, for those who want to check them with programs of their own: docs/evidence.md.

Exit codes: 0 done, all in order, proven; 1 failed; 2 wrong arguments or wrong configuration;
3 something is not in order, or not proven.")]
pub struct ClipsArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the newest clips, videos and segments
    List(list::ListArgs),
    /// Show everything about a clip
    Show {
        /// The id of an event, or the path of a file as `list` shows it
        what: String,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare files with the database, both ways: clips, snapshots, strips, sidecars, proofs and spools
    Verify(verify::VerifyArgs),
    /// Keep an event with its clips and snapshots, one clip, or one picture of mode 1, whatever retention says
    Keep {
        /// The id of an event, the path of a file as `list` shows it, or that of a picture in the data folder
        #[arg(value_name = "ID|PATH")]
        what: String,
    },
    /// Let retention decide about it again
    Unkeep {
        /// The id of an event, the path of a file as `list` shows it, or that of a picture in the data folder
        #[arg(value_name = "ID|PATH")]
        what: String,
    },
    /// Make the key that recordings are signed with, and print its public half
    Keygen {
        /// Where to; default: signing.key_file of the configuration
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the public half of the key, for those who check recordings
    PublicKey {
        /// Print 64 hexadecimal digits instead of PEM
        #[arg(long)]
        hex: bool,
    },
    /// Show that recordings are gapless and unaltered since they were received
    Prove(prove::ProveArgs),
}

/// Does what the arguments say.
pub fn run(args: ClipsArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    match args.action {
        Action::List(list) => Ok(list::list(&settings, list)?),
        Action::Show { what, json } => Ok(list::show(&settings, &what, json)?),
        Action::Verify(verify) => verify::run(&settings, verify),
        Action::Keep { what } => Ok(keep::run(&settings, &what, true)?),
        Action::Unkeep { what } => Ok(keep::run(&settings, &what, false)?),
        Action::Keygen { file } => Ok(keys::keygen(&settings, file)?),
        Action::PublicKey { hex } => Ok(keys::public_key(&settings, hex)?),
        Action::Prove(prove) => prove::run(&settings, prove),
    }
}
