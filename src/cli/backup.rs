//! `meerkat backup` and `meerkat restore`: database, faces and keys of a node in a folder that can be carried away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use meerkat_base::{Clock, SystemClock};
use meerkat_store::backup::Report;
use meerkat_store::saved::Manifest;
use meerkat_store::{DataLock, StoreOptions, saved};

use super::progress::Progress;
use super::settings_args::SettingsArgs;
use super::stored::{Holder, Stored};
use super::{CliError, logging};
use crate::app::unusable_folder;
use crate::settings::Settings;

/// Where a node is asked for a backup.
const PLACE: &str = "store/backup";
/// How often a node hears that its backup is still being fetched.
const STILL_THERE: Duration = Duration::from_secs(30);

/// Back up the database, the enrolled faces and the keys, whether or not the node is running
///
/// Makes the new folder TO, which is complete when it appears under its name, and looks through the copy. Clips, videos,
/// pictures and spools are not in it: they are files that never change once they have their names, and can be copied by
/// any means. The backup holds faces, names and secrets: keep it as safe as the node itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat backup --config node.toml /mnt/usb/meerkat-monday
  rsync -a /var/lib/meerkat/capture /mnt/usb/        the evidence itself

Exit codes: 0 done, 1 failed; a damaged database is named as such.")]
pub struct BackupArgs {
    /// The folder to make; there must be nothing of this name
    to: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Put a backup in the place of what a node has; the node must not be running
///
/// What the data folder has now is set aside (set-aside/<time>/), nothing is overwritten. Clips and events that came
/// after the backup are taken over from the files beside them; alerts that waited then are given up, as they may have
/// been delivered since; and nothing is deleted until `meerkat store confirm`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  systemctl stop meerkat
  meerkat restore --config node.toml /mnt/usb/meerkat-monday
  systemctl start meerkat
  meerkat store confirm --config node.toml           once you have looked

Exit codes: 0 done, 1 failed and nothing was changed.")]
pub struct RestoreArgs {
    /// The folder that `meerkat backup` made
    from: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Makes a backup.
pub fn backup(args: &BackupArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let mut progress = Progress::new();
    let made = make(&settings, &args.to, &mut |what, done, of| progress.show(what, done, of));
    progress.end();
    let manifest = made?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    println!("{}: {} files, {bytes} bytes", args.to.display(), manifest.files.len());
    Ok(())
}

/// Ourselves under the lock of the data folder. A node that runs makes it in a place of its own folder, from where it is
/// copied to where it is wanted: no node writes where a client says.
fn make(settings: &Settings, to: &Path, report: Report<'_>) -> anyhow::Result<Manifest> {
    let data_dir = &settings.data_dir;
    // Before a node goes to the trouble.
    saved::check_target(to)?;
    match Stored::new(settings).holder()? {
        Holder::Nobody(_lock) => {
            Ok(saved::save(data_dir, to, env!("CARGO_PKG_VERSION"), SystemClock::new().wall(), report)?)
        }
        Holder::Node(node) => {
            node.long_work(PLACE, report)?;
            let mut said = Instant::now();
            let fetched = saved::fetch(data_dir, to, &mut |what, done, of| {
                report(what, done, of);
                if said.elapsed() >= STILL_THERE {
                    said = Instant::now();
                    // The node keeps it for as long as somebody asks.
                    let _ = node.get(PLACE);
                }
            });
            // Fetched or not, it must not stay: it holds faces and keys.
            if let Err(error) = node.delete(PLACE) {
                eprintln!("meerkat: the node removes its own copy of the backup only later: {error:#}");
            }
            Ok(fetched?)
        }
    }
}

/// Restores a backup.
pub fn restore(args: &RestoreArgs) -> Result<(), CliError> {
    // Channels and their secrets come later, perhaps out of this very backup.
    let data_dir = args.settings.load_data_dir()?;
    logging::start_quiet()?;
    let lock = DataLock::take(&data_dir).map_err(|error| unusable_folder(&data_dir, error))?;
    let options = StoreOptions { now: SystemClock::new().wall(), ..StoreOptions::default() };
    let mut progress = Progress::new();
    let restored =
        saved::restore(&lock, options, &args.from, &mut |what, done, of| progress.show(what, done, of));
    progress.end();
    println!("{}", restored.map_err(anyhow::Error::from)?);
    println!("nothing is deleted until `meerkat store confirm`");
    Ok(())
}
