//! Makes the parts of a node from checked settings: database, gallery; channels are made in `channels`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use meerkat_actors::NodeParts;
use meerkat_actors::faces::Gallery;
use meerkat_actors::notices::Notices;
use meerkat_base::{Clock, Shutdown};
use meerkat_store::evidence::{SigningKeyFile, SpoolSigning};
use meerkat_store::{BootId, DataLock, Durability, Store, StoreOptions, StoreReader, clean_temporaries};
use tracing::{info, warn};

use super::channels;
use super::detectors::Detectors;
use super::reading::Reading;
use crate::settings::{Durability as Wanted, Settings};

/// Everything that [`meerkat_actors::Node::start`] takes.
pub(super) fn parts(
    settings: &Arc<Settings>,
    clock: &Arc<dyn Clock>,
    shutdown: Shutdown,
    on_lost: Box<dyn FnOnce() + Send>,
    detectors: &Detectors,
    notices: Notices,
) -> anyhow::Result<NodeParts> {
    let durability = match settings.durability {
        Wanted::Process => Durability::Process,
        Wanted::Power => Durability::Power,
    };
    let options = StoreOptions { durability };
    let lock = DataLock::take(&settings.data_dir)?;
    let store = Store::open_under(&lock, options)?;
    let boot = boot_id(clock.as_ref());
    clean_in_background(&settings.data_dir, &boot);
    let signing = signing(settings, &boot)?;
    Ok(NodeParts {
        settings: Arc::clone(settings),
        clock: Arc::clone(clock),
        shutdown,
        boot,
        store,
        reopen: Arc::new(move || Store::open_under(&lock, options)),
        person: detectors.person(),
        face: detectors.face(),
        gallery: Arc::new(StoredGallery(Reading::new(&settings.data_dir))),
        channels: channels::all(settings, clock)?,
        notices,
        signing,
        on_lost,
    })
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
}
