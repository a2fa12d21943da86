//! `meerkat faces`: who is enrolled. Beside a running node that node is asked; otherwise the data folder is worked in,
//! under its lock.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use meerkat_base::{Clock, ImageFormat, SystemClock};
use meerkat_store::{Consent, DataLock, Durability, Store, StoreError, StoreOptions, StoreReader};
use meerkat_vision::probe::probe;

use super::running_node::{Listed, NotEnrolled, RunningNode};
use super::settings_args::SettingsArgs;
use super::{CliError, logging, picture_file};
use crate::app::{detectors, enrolment_format};
use crate::settings::{self, Settings};

/// Enrol people whose faces are to be recognised, list them, or remove them
///
/// Works in the data folder of the configuration. Where a node runs in it, that node is asked, at http.listen and with
/// http.token of the configuration; it knows new faces within seconds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat faces enrol 'Li Lei' a.jpg b.jpg c.jpg --consent-by 'Li Lei, in writing'
  meerkat faces list --config node.toml
  meerkat faces remove 'Li Lei'

A few pictures per person, from the front, in the light of the place where the camera hangs, work best. Removing
somebody deletes their pictures and their lines in the check-in ledger.

Exit codes: 0 done, 1 failed, 2 wrong arguments or wrong configuration.")]
pub struct FacesArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Enrol a person, or add pictures to one who is enrolled
    Enrol {
        /// The name under which they are recognised
        name: String,

        /// Pictures (JPEG, PNG, WebP, BMP) with exactly one face each
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<PathBuf>,

        /// Who agreed to the enrolment; kept with the date
        #[arg(long, value_name = "WHO")]
        consent_by: Option<String>,
    },
    /// Show who is enrolled
    List {
        /// Print one JSON object per person
        #[arg(long)]
        json: bool,
    },
    /// Remove a person with everything that is kept about them
    Remove {
        /// Their name, or their id as `list` shows it
        name: String,
    },
}

/// What is kept where nobody said who agreed.
const NOT_STATED: &str = "not stated";

/// Does what the arguments say.
pub fn run(args: FacesArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let done = match args.action {
        Action::Enrol { name, images, consent_by } => enrol(&settings, &name, &images, consent_by),
        Action::List { json } => list(&settings, json),
        Action::Remove { name } => remove(&settings, &name),
    };
    Ok(done?)
}

/// Where the people are kept at this moment.
enum Desk {
    /// No node runs: the folder is ours.
    Folder(Store),
    /// A node has the folder.
    Node(RunningNode),
}

impl Desk {
    fn open(settings: &Settings) -> anyhow::Result<Self> {
        let durability = match settings.durability {
            settings::Durability::Process => Durability::Process,
            settings::Durability::Power => Durability::Power,
        };
        match Store::open(&settings.data_dir, StoreOptions { durability, ..StoreOptions::default() }) {
            Ok(store) => Ok(Self::Folder(store)),
            Err(error) => Ok(Self::Node(reach(settings, error)?)),
        }
    }
}

/// The node that has the folder, if that is why it could not be opened.
pub(super) fn reach(settings: &Settings, error: StoreError) -> anyhow::Result<RunningNode> {
    let StoreError::Locked { holder, .. } = &error else {
        return Err(anyhow!(error).context("the data folder cannot be opened"));
    };
    RunningNode::find(settings, holder)
        .with_context(|| format!("{error}, and cannot be asked at http.listen = {}", settings.http.listen))
}

fn enrol(
    settings: &Settings,
    name: &str,
    images: &[PathBuf],
    consent_by: Option<String>,
) -> anyhow::Result<()> {
    let by = consent_by.clone().unwrap_or_else(|| NOT_STATED.to_owned());
    // First, so that nobody waits for the detector only to hear that the folder cannot be used.
    let person = match Desk::open(settings)? {
        Desk::Folder(mut store) => {
            let choice = detectors::face(settings).map_err(|problem| anyhow!("{problem}"))?;
            let mut recogniser = (choice.aside)().context("the face recogniser cannot be made")?;
            let pictures = pictures(images, |bytes| enrolment_format(recogniser.as_mut(), bytes))?;
            let given: Vec<(&[u8], ImageFormat)> =
                pictures.iter().map(|(bytes, format)| (bytes.as_slice(), *format)).collect();
            let now = SystemClock::new().wall();
            Listed::from(store.enrol(name, &given, &Consent { by, at: now }, now)?)
        }
        Desk::Node(node) => {
            let pictures = pictures(images, |bytes| Ok(probe(bytes)?.format))?;
            node.enrol(name, &by, &pictures).map_err(|error| match error {
                NotEnrolled::Pictures(problems) => {
                    let name_of = |number: usize| images.get(number.wrapping_sub(1));
                    nobody(problems.into_iter().map(|(number, problem)| match name_of(number) {
                        Some(image) => format!("{}: {problem}", image.display()),
                        None => problem,
                    }))
                }
                NotEnrolled::Failed(error) => error,
            })?
        }
    };
    println!("{} is enrolled with {} pictures ({})", person.name, person.pictures, person.id);
    if consent_by.is_none() {
        eprintln!(
            "meerkat: nobody is named who agreed to this enrolment; in many places the law asks for consent, and for \
             knowing of it later: say --consent-by WHO"
        );
    }
    Ok(())
}

/// Reads and judges all pictures. Names every one that cannot be used.
fn pictures(
    images: &[PathBuf],
    mut judge: impl FnMut(&[u8]) -> anyhow::Result<ImageFormat>,
) -> anyhow::Result<Vec<(Vec<u8>, ImageFormat)>> {
    let mut look = |image: &Path| {
        let bytes = picture_file::read(image)?;
        let format = judge(&bytes)?;
        anyhow::Ok((bytes, format))
    };
    let mut pictures = Vec::new();
    let mut unusable = Vec::new();
    for image in images {
        match look(image) {
            Ok(picture) => pictures.push(picture),
            Err(error) => unusable.push(format!("{}: {error:#}", image.display())),
        }
    }
    if unusable.is_empty() { Ok(pictures) } else { Err(nobody(unusable)) }
}

fn nobody(unusable: impl IntoIterator<Item = String>) -> anyhow::Error {
    let lines: Vec<String> = unusable.into_iter().collect();
    anyhow!("nobody was enrolled\n  {}", lines.join("\n  "))
}

fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let people = people(settings)?;
    if json {
        for person in &people {
            println!("{}", serde_json::to_string(person)?);
        }
        return Ok(());
    }
    if people.is_empty() {
        println!("nobody is enrolled in {}", settings.data_dir.display());
    }
    for person in &people {
        println!(
            "{}  {}, {} pictures, enrolled {}, consent: {} ({})",
            person.id, person.name, person.pictures, person.created, person.consent_by, person.consent_at
        );
    }
    Ok(())
}

fn people(settings: &Settings) -> anyhow::Result<Vec<Listed>> {
    // Looking must not make a folder.
    if !settings.data_dir.exists() {
        return Ok(Vec::new());
    }
    let _lock = match DataLock::take(&settings.data_dir) {
        Ok(lock) => lock,
        Err(error) => return reach(settings, error)?.people(),
    };
    match StoreReader::open(&settings.data_dir) {
        Ok(store) => Ok(store.people()?.into_iter().map(Listed::from).collect()),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn remove(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let removed = match Desk::open(settings)? {
        Desk::Folder(mut store) => store.remove_person(name)?,
        Desk::Node(node) => node.remove(name)?,
    };
    if !removed {
        bail!("nobody named {name} is enrolled");
    }
    println!("{name} was removed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        // A port that was free a moment ago: nobody answers there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let env = [
            ("MEERKAT__DATA_DIR".to_owned(), folder.display().to_string()),
            ("MEERKAT__HTTP__LISTEN".to_owned(), free.to_string()),
        ];
        Settings::load(&[], env.into_iter()).unwrap()
    }

    #[test]
    fn a_folder_in_use_by_something_that_does_not_answer_is_said_clearly() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let lock = DataLock::take(dir.path()).unwrap();
        let listen = settings.http.listen.to_string();
        for error in [remove(&settings, "Li Lei").unwrap_err(), list(&settings, true).unwrap_err()] {
            let error = format!("{error:#}");
            for part in ["in use by process", "http.listen", &listen, "could not connect"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
        drop(lock);
        let error = format!("{:#}", remove(&settings, "Li Lei").unwrap_err());
        assert!(error.contains("nobody named Li Lei"), "{error}");
    }

    #[test]
    fn a_list_of_nobody_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        list(&settings(&dir.path().join("none")), true).unwrap();
    }

    #[test]
    fn pictures_without_a_face_are_all_named() {
        let dir = tempfile::tempdir().unwrap();
        let gray =
            meerkat_base::Image::new(64, 64, meerkat_base::PixelFormat::Gray8, vec![128; 64 * 64]).unwrap();
        let blank = dir.path().join("blank.jpg");
        std::fs::write(&blank, meerkat_vision::encode_jpeg(&gray, 80).unwrap()).unwrap();
        let images = [blank, dir.path().join("missing.jpg")];
        let error = enrol(&settings(dir.path()), "Li Lei", &images, None).unwrap_err().to_string();
        assert!(error.contains("blank.jpg: 0 faces") && error.contains("missing.jpg"), "{error}");
    }
}
