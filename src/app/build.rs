//! Makes the parts of a node from checked settings: database, gallery; channels are made in `channels`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use meerkat_actors::NodeParts;
use meerkat_actors::faces::Gallery;
use meerkat_actors::notices::Notices;
use meerkat_actors::storage::Suspended;
use meerkat_base::{Clock, Shutdown, metric};
use meerkat_store::evidence::{SigningKeyFile, SpoolSigning};
use meerkat_store::{
    BootId, DataFolder, DataLock, Durability, LinkKey, Opener, StoreError, StoreOptions, StoreReader,
    clean_temporaries,
};
use metrics::counter;
use tracing::{info, warn};

use super::detectors::Detectors;
use super::reading::Reading;
use crate::settings::{Durability as Wanted, Settings};

/// How often long work before the start is logged.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Everything that [`meerkat_actors::Node::start`] takes but channels, which are made in `channels`.
pub(super) fn parts(
    settings: &Arc<Settings>,
    clock: &Arc<dyn Clock>,
    shutdown: Shutdown,
    on_lost: Box<dyn FnOnce() + Send>,
    detectors: &Detectors,
    notices: Notices,
    opener: &Arc<Opener>,
) -> anyhow::Result<NodeParts> {
    let folder = Arc::new(DataFolder::open(&settings.data_dir)?);
    let store = opener.at_start(&mut said_while_starting())?;
    let boot = boot_id(clock.as_ref());
    clean_in_background(&settings.data_dir, &boot);
    let signing = signing(settings, &boot)?;
    Ok(NodeParts {
        settings: Arc::clone(settings),
        clock: Arc::clone(clock),
        shutdown,
        boot,
        store,
        reopen: {
            let (opener, folder) = (Arc::clone(opener), Arc::clone(&folder));
            Arc::new(move || {
                // Never in a folder that took its place, such as the empty one under a disk that was taken away.
                folder.here()?;
                opener.again()
            })
        },
        folder,
        suspended: {
            let opener = Arc::clone(opener);
            Arc::new(move |reader| suspended(&opener, reader))
        },
        person: detectors.person(),
        face: detectors.face(),
        gallery: Arc::new(StoredGallery(Reading::new(&settings.data_dir))),
        desk: super::desk::parts(settings)?,
        channels: Vec::new(),
        notices,
        signing,
        link_key: LinkKey::open(&settings.data_dir)?,
        on_lost,
    })
}

/// Takes the lock of the data folder; the database behind it is opened later, again and again.
pub(super) fn opener(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<Opener>> {
    let durability = match settings.durability {
        Wanted::Process => Durability::Process,
        Wanted::Power => Durability::Power,
    };
    let backup_before_migration = settings.store.backup_before_migration;
    let clock = Arc::clone(clock);
    let options = move || StoreOptions { durability, backup_before_migration, now: clock.wall() };
    counter!(metric::STORE_REBUILDS).increment(0);
    counter!(metric::TEMPLATE_FAILURES).increment(0);
    let data_dir = &settings.data_dir;
    let lock = DataLock::take(data_dir).map_err(|error| unusable_folder(data_dir, error))?;
    Ok(Opener::new(lock, options, |_| {
        counter!(metric::STORE_REBUILDS).increment(1);
    }))
}

/// What is said where the data folder cannot be made or opened: the system names the path alone, and whoever reads that
/// has to know which key it stands in.
pub(crate) fn unusable_folder(data_dir: &Path, error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Io { .. } | StoreError::NotAFolder { .. } => {
            let words = format!("data_dir = {data_dir:?}: the data folder cannot be made or opened");
            anyhow!(error).context(words)
        }
        other => other.into(),
    }
}

/// Why nothing may be deleted. A database that is being made anew, or was, says so itself: what is read of the one
/// before no longer counts.
fn suspended(opener: &Opener, reader: &StoreReader) -> Option<Suspended> {
    // In this order: a database that took the place of another is seen in one of the two.
    if opener.is_repairing() || opener.lock().is_suspect() {
        return Some(Suspended::ForNow("the database is being looked through".to_owned()));
    }
    if !reader.is_current() {
        return Some(Suspended::ForNow(
            "another database has taken the place of the one that is open".to_owned(),
        ));
    }
    match reader.deletion_suspended() {
        Ok(suspended) => suspended.map(|suspended| Suspended::UntilConfirmed(suspended.reason)),
        Err(error) => {
            let words = format!("it cannot be read whether anything may be deleted: {error}");
            Some(Suspended::UntilConfirmed(words))
        }
    }
}

/// Says how far the work before the start has come, also to the service manager, which would lose its patience.
fn said_while_starting() -> impl FnMut(&str, u64, u64) {
    let mut said: Option<Instant> = None;
    move |what, done, of| {
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            info!(done, of, "{what}");
            super::service::still_starting();
        }
    }
}

/// Names this run of the node in file names. To the microsecond: a node that dies at once is started anew within the
/// same second.
fn boot_id(clock: &dyn Clock) -> BootId {
    let text = format!("{:x}", clock.wall().0.max(0));
    BootId::parse(&text).expect("hexadecimal digits make a boot id")
}

/// The key that recordings are signed with; made at the first start.
fn signing(settings: &Settings, boot: &BootId) -> anyhow::Result<Option<SpoolSigning>> {
    if !settings.signing.enabled {
        return Ok(None);
    }
    let path = settings.signing.key_path(&settings.data_dir);
    let (key, made) = SigningKeyFile::load_or_create(&path).context("signing.key_file")?;
    if made {
        info!(file = %path.display(), "a key for signing recordings was made");
    }
    info!(key = %key.public(), "recordings are signed");
    Ok(Some(SpoolSigning::new(Arc::new(key), boot.as_str(), settings.signing.every)))
}

/// Unfinished files of earlier runs; after months there are many names to look through.
fn clean_in_background(data_dir: &Path, boot: &BootId) {
    let (data_dir, boot) = (data_dir.to_owned(), boot.clone());
    let cleaning =
        std::thread::Builder::new().name("clean".to_owned()).spawn(move || {
            match clean_temporaries(&data_dir, &boot) {
                Ok(0) => {}
                Ok(files) => info!(files, "removed unfinished files of earlier runs"),
                Err(error) => warn!(%error, "unfinished files of earlier runs could not be removed"),
            }
        });
    if let Err(error) = cleaning {
        warn!(%error, "unfinished files of earlier runs stay");
    }
}

/// The enrolled people as the database has them.
struct StoredGallery(Reading);

impl Gallery for StoredGallery {
    fn generation(&self) -> Result<u64, String> {
        self.0.ask(StoreReader::gallery_generation).map_err(|error| error.to_string())
    }

    fn people(&self) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
        self.0.ask(StoreReader::gallery).map_err(|error| error.to_string())
    }

    fn negatives(&self) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
        self.0.ask(StoreReader::negatives).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::WallTime;
    use meerkat_store::Store;

    use super::*;

    #[test]
    fn a_database_that_is_made_anew_or_was_replaced_lets_nothing_be_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DataLock::take(folder.path()).unwrap();
        let opener = Opener::new(lock, StoreOptions::default, |_| {});
        let mut store = opener.at_start(&mut |_, _, _| {}).unwrap();
        let reader = StoreReader::open(folder.path()).unwrap();
        assert_eq!(suspended(&opener, &reader), None);
        store.suspend_deletion("it was rebuilt", WallTime(5)).unwrap();
        assert_eq!(suspended(&opener, &reader), Some(Suspended::UntilConfirmed("it was rebuilt".to_owned())));
        store.confirm().unwrap();
        opener.lock().suspect();
        assert!(
            matches!(suspended(&opener, &reader), Some(Suspended::ForNow(_))),
            "nobody has looked at it yet"
        );
        drop(store);
        // A thread looks at it, and finds nothing wrong.
        let give_up = Instant::now() + Duration::from_secs(30);
        while opener.again().is_err() {
            assert!(Instant::now() < give_up, "it is looked at");
            std::thread::yield_now();
        }
        assert_eq!(suspended(&opener, &reader), None);

        let other = tempfile::tempdir().unwrap();
        drop(Store::open(other.path(), StoreOptions::default()).unwrap());
        std::fs::rename(other.path().join("meerkat.db"), folder.path().join("meerkat.db")).unwrap();
        assert!(
            matches!(suspended(&opener, &reader), Some(Suspended::ForNow(_))),
            "this reader knows the old one"
        );
    }
}
