//! `meerkat models`: the weights of networks: which there are, whether they are whole, fetching them, and what they
//! take on this machine.

mod bench;
mod pull;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use meerkat_models::weights::{
    Depth, FileEntry, FileState, Folder, Format, Network, NetworkState, WeightsError,
};
use serde::Serialize;

use super::settings_args::SettingsArgs;
use super::{CliError, logging};
use crate::app::models_folder;

/// List, fetch and check the weights of networks, and measure them
///
/// The folder is the one of MEERKAT_MODELS_DIR, else models.dir of the configuration, else `models` in its data_dir.
/// Without weights the node uses its classic detectors.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat models pull                                   fetch what the node uses
  meerkat models pull yolox-nano --from ~/Downloads     take a file that was fetched otherwise
  meerkat models pull --from http://mirror.local/models
  meerkat models verify
  MEERKAT_MODELS_DIR=/usr/share/meerkat/models meerkat models list --json

Exit codes: 0 done, 1 failed, or something is missing or damaged, 2 wrong arguments or wrong
configuration.")]
pub struct ModelsArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the networks there are, and which of them are here
    ///
    /// Reads every file to know whether it is whole.
    List {
        /// Print one JSON object per network, with addresses and digests of its files
        #[arg(long)]
        json: bool,
    },
    Pull(pull::PullArgs),
    /// Read the weights that are here and compare them with the manifest
    ///
    /// Without names: every network of which a file is here.
    Verify {
        /// Networks that must be here and whole
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the models folder, or where the files of a network lie
    Path {
        /// A network
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    Bench(bench::BenchArgs),
}

/// Does what the arguments say.
pub fn run(args: ModelsArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let folder = models_folder(&settings);
    match args.action {
        Action::List { json } => Ok(list(&folder, json)?),
        Action::Pull(args) => pull::run(&args, &folder, settings.models.proxy.as_ref()),
        Action::Verify { names } => verify(&folder, &names),
        Action::Path { name } => path(&folder, name.as_deref()),
        Action::Bench(args) => bench::run(&args, &settings, &folder),
    }
}

/// The networks of these names.
fn networks(folder: &Folder, names: &[String]) -> Result<Vec<&'static Network>, CliError> {
    let found: Result<_, WeightsError> = names.iter().map(|name| folder.manifest().get(name)).collect();
    found.map_err(|error| CliError::Usage(error.to_string()))
}

/// One line of `list --json`.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    purpose: &'a str,
    license: &'a str,
    origin: &'a str,
    format: Format,
    default: bool,
    size_bytes: u64,
    state: NetworkState,
    files: Vec<ListedFile<'a>>,
}

#[derive(Serialize)]
struct ListedFile<'a> {
    path: &'a str,
    size_bytes: u64,
    sha256: &'a str,
    sha384: Option<&'a str>,
    address: Option<&'a str>,
}

impl<'a> ListedFile<'a> {
    fn new(file: &'a FileEntry) -> Self {
        Self {
            path: &file.path,
            size_bytes: file.size_bytes,
            sha256: &file.sha256,
            sha384: file.sha384.as_deref(),
            address: file.address.as_deref(),
        }
    }
}

fn list(folder: &Folder, json: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    if !json {
        writeln!(text, "{}", folder.path().display())?;
    }
    for network in folder.manifest().networks() {
        let state = folder.state(network, Depth::Digest)?;
        if json {
            let listed = Listed {
                name: &network.name,
                purpose: &network.purpose,
                license: &network.license,
                origin: &network.origin,
                format: network.format,
                default: network.default,
                size_bytes: network.size_bytes(),
                state,
                files: network.files.iter().map(ListedFile::new).collect(),
            };
            writeln!(text, "{}", serde_json::to_string(&listed)?)?;
        } else {
            writeln!(
                text,
                "  {:<36} {:<8} {:>5.1} MB  {}  {}",
                network.name,
                word(state),
                network.size_bytes() as f64 / 1e6,
                network.license,
                network.purpose
            )?;
        }
    }
    print(&text)
}

fn word(state: NetworkState) -> &'static str {
    match state {
        NetworkState::Present => "present",
        NetworkState::Missing => "missing",
        NetworkState::Damaged => "damaged",
    }
}

fn verify(folder: &Folder, names: &[String]) -> Result<(), CliError> {
    let chosen = match names {
        [] => begun(folder)?,
        names => networks(folder, names)?,
    };
    if chosen.is_empty() {
        return Err(anyhow!(
            "{} holds no weights (`meerkat models pull` fetches them)",
            folder.path().display()
        )
        .into());
    }
    let mut text = String::new();
    let mut wrong = false;
    for network in chosen {
        match folder.verify(&network.name) {
            Ok(_) => _ = writeln!(text, "{}: whole", network.name),
            Err(error) => {
                wrong = true;
                eprintln!("meerkat: {error}");
            }
        }
    }
    print(&text)?;
    if wrong { Err(CliError::Reported) } else { Ok(()) }
}

/// The networks of which a file is here.
fn begun(folder: &Folder) -> anyhow::Result<Vec<&'static Network>> {
    let mut found = Vec::new();
    for network in folder.manifest().networks() {
        for file in &network.files {
            if folder.file_state(file, Depth::Size)? != FileState::Missing {
                found.push(network);
                break;
            }
        }
    }
    Ok(found)
}

fn path(folder: &Folder, name: Option<&str>) -> Result<(), CliError> {
    let Some(name) = name else { return Ok(print(&format!("{}\n", folder.path().display()))?) };
    let chosen = networks(folder, &[name.to_owned()])?;
    let mut text = String::new();
    for file in chosen.iter().flat_map(|network| &network.files) {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{}", folder.file_path(file).display());
    }
    print(&text)?;
    // The paths are right even where nothing lies: a script has to know both.
    folder.locate(name).map(drop).map_err(|error| CliError::Failed(error.into()))
}

/// Prints; a reader who has seen enough (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the result cannot be written")
        }
        _ => Ok(()),
    }
}
