//! `meerkat faces`: who is enrolled. Beside a running node that node is asked; otherwise the data folder is worked in,
//! under its lock. Unknown faces and corrections are next door.

mod correction;
mod unknown;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use meerkat_base::{ImageFormat, SystemClock};
use meerkat_store::{DataLock, Durability, Store, StoreError, StoreOptions, StoreReader};
use meerkat_vision::probe::probe;
use meerkat_web::{Enrolment, Even, PeopleDesk, PeopleError, Removal};

use super::running_node::{Listed, NotEnrolled, RunningNode};
use super::settings_args::SettingsArgs;
use super::{CliError, logging, picture_file};
use crate::app::{OwnFolder, People, detectors, unusable_folder};
use crate::settings::{self, Settings};

/// Enrol people whose faces are to be recognised, list them, or remove them
///
/// Works in the data folder of the configuration. Where a node runs in it, that node is asked, at http.listen and with
/// http.token of the configuration; it knows new faces within seconds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  meerkat faces enrol 'Li Lei' a.jpg b.jpg c.jpg --consent-by 'Li Lei, in writing'
  meerkat faces list --config node.toml
  meerkat faces not 'Li Lei' --event 019aa2b0-...
  meerkat faces unknown list
  meerkat faces unknown assign 12 'Han Meimei' --consent-by 'Han Meimei, in writing'
  meerkat faces remove 'Li Lei'

A few pictures per person, from the front, in the light of the place where the camera hangs, work
best. Removing somebody deletes their pictures, corrections, unknown faces that look like them, and
their lines in the check-in ledger.

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

        #[command(flatten)]
        even: EvenArgs,
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
    /// Say that a face which was taken for a person is not theirs
    Not(correction::CorrectionArgs),
    /// Faces that matched nobody and are kept for a few days
    #[command(subcommand)]
    Unknown(unknown::UnknownAction),
}

/// What is done although it looks like a mistake.
#[derive(Debug, Clone, Copy, Args)]
struct EvenArgs {
    /// Enrol somebody who looks like a person enrolled under another name
    #[arg(long)]
    even_if_known: bool,

    /// Take pictures that do not look like each other
    #[arg(long)]
    even_if_unlike: bool,
}

impl From<EvenArgs> for Even {
    fn from(args: EvenArgs) -> Self {
        Self { if_known: args.even_if_known, if_unlike: args.even_if_unlike }
    }
}

/// What is kept where nobody said who agreed.
const NOT_STATED: &str = "not stated";

/// Does what the arguments say.
pub fn run(args: FacesArgs) -> Result<(), CliError> {
    let settings = args.settings.load()?;
    logging::start_quiet()?;
    let done = match args.action {
        Action::Enrol { name, images, consent_by, even } => {
            enrol(&settings, &name, &images, consent_by, even.into())
        }
        Action::List { json } => list(&settings, json),
        Action::Remove { name } => remove(&settings, &name),
        Action::Not(args) => correction::run(&settings, &args),
        Action::Unknown(action) => unknown::run(&settings, action),
    };
    Ok(done?)
}

/// Where the people are kept at this moment.
enum Desk {
    /// No node runs: the folder is ours.
    Folder(People<OwnFolder>),
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
            Ok(store) => Ok(Self::Folder(own_folder(settings, store))),
            Err(error) => Ok(Self::Node(reach(settings, error)?)),
        }
    }
}

/// A folder of ours. What judges pictures is made when the first one is to be judged.
fn own_folder(settings: &Settings, store: Store) -> People<OwnFolder> {
    let own = settings.clone();
    let make = Arc::new(move || {
        let choice = detectors::face(&own).map_err(|problem| meerkat_base::DetectorError {
            detector: "faces".to_owned(),
            reason: problem.to_string(),
        })?;
        (choice.aside)()
    });
    People::new(OwnFolder::new(store), Arc::new(SystemClock::new()), make, settings)
}

/// The node that has the folder, if that is why it could not be opened.
pub(super) fn reach(settings: &Settings, error: StoreError) -> anyhow::Result<RunningNode> {
    let StoreError::Locked { holder, .. } = &error else {
        return Err(unusable_folder(&settings.data_dir, error));
    };
    RunningNode::find(settings, holder)
        .with_context(|| format!("{error}, and cannot be asked at http.listen = {}", settings.http.listen))
}

fn enrol(
    settings: &Settings,
    name: &str,
    images: &[PathBuf],
    consent_by: Option<String>,
    even: Even,
) -> anyhow::Result<()> {
    let by = consent_by.clone().unwrap_or_else(|| NOT_STATED.to_owned());
    // First, so that nobody waits for the detector only to hear that the folder cannot be used.
    let desk = Desk::open(settings)?;
    let (pictures, unreadable) = read(images);
    if !unreadable.is_empty() {
        return Err(nobody(all_problems(&desk, images, pictures, unreadable)?));
    }
    let pictures: Vec<(ImageFormat, Vec<u8>)> = pictures.into_iter().map(|(_, picture)| picture).collect();
    let enrolled = match &desk {
        Desk::Folder(people) => people
            .enrol(Enrolment { name: name.to_owned(), consent_by: by, pictures, even })
            .map(Listed::from)
            .map_err(not_enrolled),
        Desk::Node(node) => node.enrol(name, &by, &pictures, even),
    };
    let person = enrolled.map_err(|error| refused(error, |number| images.get(number.wrapping_sub(1))))?;
    say_enrolled(&person);
    if consent_by.is_none() {
        eprintln!(
            "meerkat: nobody is named who agreed to this enrolment; in many places the law asks for consent, and for \
             knowing of it later: say --consent-by WHO"
        );
    }
    Ok(())
}

fn say_enrolled(person: &Listed) {
    println!("{} is enrolled with {} pictures ({})", person.name, person.pictures, person.id);
}

/// What a desk of one's own says, as a node would.
fn not_enrolled(error: PeopleError) -> NotEnrolled {
    match error {
        PeopleError::Pictures(problems) => {
            NotEnrolled::Pictures(problems.into_iter().map(|one| (one.number, one.problem)).collect())
        }
        error @ PeopleError::Known(_) => NotEnrolled::Known(error.to_string()),
        error => NotEnrolled::Failed(error.into()),
    }
}

/// Why nobody was enrolled, with the names of files where these are known.
fn refused<'a>(error: NotEnrolled, file: impl Fn(usize) -> Option<&'a PathBuf>) -> anyhow::Error {
    match error {
        NotEnrolled::Pictures(problems) => {
            nobody(problems.into_iter().map(|(number, problem)| match file(number) {
                Some(image) => format!("{}: {problem}", image.display()),
                None => format!("picture {number}: {problem}"),
            }))
        }
        NotEnrolled::Known(words) => {
            anyhow!("nobody was enrolled: {words}; say --even-if-known if this is somebody else")
        }
        NotEnrolled::Failed(error) => error,
    }
}

/// Pictures by the places of their files, and what is wrong with the files that are none.
type Read = (Vec<(usize, (ImageFormat, Vec<u8>))>, Vec<(usize, String)>);

fn read(images: &[PathBuf]) -> Read {
    let look = |image: &Path| {
        let bytes = picture_file::read(image)?;
        anyhow::Ok((probe(&bytes)?.format, bytes))
    };
    let (mut pictures, mut unreadable) = (Vec::new(), Vec::new());
    for (place, image) in images.iter().enumerate() {
        match look(image) {
            Ok(picture) => pictures.push((place, picture)),
            Err(error) => unreadable.push((place, format!("{error:#}"))),
        }
    }
    (pictures, unreadable)
}

/// What is wrong with all the files, some of which could not be read.
fn all_problems(
    desk: &Desk,
    images: &[PathBuf],
    pictures: Vec<(usize, (ImageFormat, Vec<u8>))>,
    unreadable: Vec<(usize, String)>,
) -> anyhow::Result<Vec<String>> {
    let mut problems = unreadable;
    if let Desk::Folder(people) = desk {
        let (places, pictures): (Vec<usize>, Vec<_>) = pictures.into_iter().unzip();
        for one in people.problems(&pictures)? {
            let place = places.get(one.number.wrapping_sub(1)).copied().unwrap_or(usize::MAX);
            problems.push((place, one.problem));
        }
    }
    problems.sort();
    let name = |place: usize| images.get(place).map(|image| image.display().to_string()).unwrap_or_default();
    Ok(problems.into_iter().map(|(place, problem)| format!("{}: {problem}", name(place))).collect())
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
        let corrected = match person.negatives {
            0 => String::new(),
            negatives => format!(", {negatives} of others"),
        };
        println!(
            "{}  {}, {} pictures{corrected}, enrolled {}, consent: {} ({})",
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
        Desk::Folder(people) => people.remove(name)?,
        Desk::Node(node) => match node.place_of(name)? {
            Some(place) => node.delete_if_there(&place)?.map(|answer| Removal {
                unknown_groups: answer["unknown_groups"].as_u64().unwrap_or_default(),
                negatives: answer["negatives"].as_u64().unwrap_or_default(),
            }),
            None => None,
        },
    };
    let Some(Removal { unknown_groups, negatives }) = removed else {
        bail!("nobody named {name} is enrolled");
    };
    println!("{name} was removed");
    if unknown_groups > 0 || negatives > 0 {
        println!(
            "with them went what looked like them: {unknown_groups} groups of unknown faces, {negatives} pictures that \
             were kept as not showing somebody else"
        );
    }
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
        let even = Even::default();
        let error = enrol(&settings(dir.path()), "Li Lei", &images, None, even).unwrap_err().to_string();
        assert!(error.contains("blank.jpg: no face") && error.contains("missing.jpg"), "{error}");
        let error = enrol(&settings(dir.path()), "Li Lei", &images[..1], None, even).unwrap_err().to_string();
        assert!(error.starts_with("nobody was enrolled") && error.contains("blank.jpg: no face"), "{error}");
    }
}
