//! `meerkat faces`: who is enrolled, in a data folder that no node works in at the moment. Talks to no node.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use meerkat_base::{Clock, FaceRecogniser, ImageFormat, SystemClock};
use meerkat_store::{Consent, Durability, Person, Store, StoreError, StoreOptions, StoreReader};
use meerkat_vision::probe::probe;

use super::settings_args::SettingsArgs;
use super::{CliError, gallery, logging, picture_file};
use crate::settings::{self, Settings};

/// Enrol people whose faces are to be recognised, list them, or remove them
///
/// Works in the data folder of the configuration. Enrolling and removing need the folder for themselves: a node that
/// works in it must be stopped for that moment. Listing works beside a running node.
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

fn enrol(
    settings: &Settings,
    name: &str,
    images: &[PathBuf],
    consent_by: Option<String>,
) -> anyhow::Result<()> {
    // First, so that nobody waits for the detector only to hear that a node has the folder.
    let mut store = open(settings)?;
    let mut recogniser = gallery::recogniser()?;
    let pictures = check_pictures(recogniser.as_mut(), images)?;
    let given: Vec<(&[u8], ImageFormat)> =
        pictures.iter().map(|(bytes, format)| (bytes.as_slice(), *format)).collect();
    let now = SystemClock::new().wall();
    let consent = Consent { by: consent_by.clone().unwrap_or_else(|| NOT_STATED.to_owned()), at: now };
    let person = store.enrol(name, &given, &consent, now)?;
    println!("{} is enrolled with {} pictures ({})", person.name, person.pictures, person.id);
    if consent_by.is_none() {
        eprintln!(
            "meerkat: nobody is named who agreed to this enrolment; in many places the law asks for consent, and for \
             knowing of it later: say --consent-by WHO"
        );
    }
    Ok(())
}

/// Reads all pictures and makes sure that each shows exactly one face that can be used. Names every one that does not.
fn check_pictures(
    recogniser: &mut dyn FaceRecogniser,
    images: &[PathBuf],
) -> anyhow::Result<Vec<(Vec<u8>, ImageFormat)>> {
    let mut pictures = Vec::new();
    let mut unusable = Vec::new();
    for image in images {
        match check_picture(recogniser, image) {
            Ok(picture) => pictures.push(picture),
            Err(error) => unusable.push(format!("{}: {error:#}", image.display())),
        }
    }
    if !unusable.is_empty() {
        bail!("nobody was enrolled\n  {}", unusable.join("\n  "));
    }
    Ok(pictures)
}

fn check_picture(
    recogniser: &mut dyn FaceRecogniser,
    image: &Path,
) -> anyhow::Result<(Vec<u8>, ImageFormat)> {
    let bytes = picture_file::read(image)?;
    let format = probe(&bytes)?.format;
    let (decoded, _) = meerkat_vision::decode_image(&bytes, recogniser.wish())?;
    let faces = recogniser.recognise(&decoded).map_err(|error| anyhow!(error))?.len();
    if faces != 1 {
        bail!("{faces} faces were found in it; exactly one, seen from the front, is needed");
    }
    let usable =
        recogniser.enrol(&[("somebody".to_owned(), vec![decoded])]).map_err(|error| anyhow!(error))?;
    if usable != 1 {
        bail!("the face in it is too small or too blurred");
    }
    Ok((bytes, format))
}

fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let people: Vec<Person> = match StoreReader::open(&settings.data_dir) {
        Ok(store) => store.people()?,
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
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

fn remove(settings: &Settings, name: &str) -> anyhow::Result<()> {
    if !open(settings)?.remove_person(name)? {
        bail!("nobody named {name} is enrolled");
    }
    println!("{name} was removed");
    Ok(())
}

/// Opens the data folder for writing, which only works while no node has it.
fn open(settings: &Settings) -> anyhow::Result<Store> {
    let durability = match settings.durability {
        settings::Durability::Process => Durability::Process,
        settings::Durability::Power => Durability::Power,
    };
    Store::open(&settings.data_dir, StoreOptions { durability }).map_err(|error| match error {
        StoreError::Locked { .. } => anyhow!(error).context(
            "a node works in this data folder; stop it for a moment, or give another folder with --config",
        ),
        error => anyhow!(error).context("the data folder cannot be opened"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        let env = [("MEERKAT__DATA_DIR".to_owned(), folder.display().to_string())];
        Settings::load(&[], env.into_iter()).unwrap()
    }

    #[test]
    fn a_folder_in_use_is_said_clearly() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let node = open(&settings).unwrap();
        let error = format!("{:#}", remove(&settings, "Li Lei").unwrap_err());
        assert!(error.contains("a node works in this data folder"), "{error}");
        drop(node);
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
