//! Makes the parts of a node from checked settings: database, gallery, channels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use meerkat_actors::NodeParts;
use meerkat_actors::faces::Gallery;
use meerkat_base::{Clock, Shutdown};
use meerkat_notify::{Channel, PicturePolicy, Style, Webhook, WebhookSettings, Wecom, WecomSettings, Zone};
use meerkat_outbound::{HttpClient, OutboundSettings, SecretUrl};
use meerkat_store::{BootId, DataLock, Durability, Store, StoreOptions, StoreReader, clean_temporaries};
use tracing::{info, warn};

use super::detectors::Detectors;
use super::reading::Reading;
use crate::settings::{ChannelTarget, Durability as Wanted, Language, Settings};

/// Everything that [`meerkat_actors::Node::start`] takes.
pub(super) fn parts(
    settings: &Arc<Settings>,
    clock: &Arc<dyn Clock>,
    shutdown: Shutdown,
    on_lost: Box<dyn FnOnce() + Send>,
    detectors: &Detectors,
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
        channels: channels(settings, clock)?,
        on_lost,
    })
}

/// Names this run of the node in file names. To the microsecond: a node that dies at once is started anew within the
/// same second.
fn boot_id(clock: &dyn Clock) -> BootId {
    let text = format!("{:x}", clock.wall().0.max(0));
    BootId::parse(&text).expect("hexadecimal digits make a boot id")
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

/// The channels of the settings.
pub(super) fn channels(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Arc<dyn Channel>>> {
    if settings.notify.channels.is_empty() {
        return Ok(Vec::new());
    }
    let proxy = settings.notify.proxy.as_ref().map(|proxy| SecretUrl::parse(proxy.reveal()));
    let client = HttpClient::new(OutboundSettings {
        proxy: proxy.transpose().context("notify.proxy")?,
        allow_link_local: settings.notify.allow_link_local,
        ..OutboundSettings::default()
    });
    let client = client.context("the HTTP client")?;
    let language = match settings.notify.language {
        Language::Chinese => meerkat_notify::Language::Chinese,
        Language::English => meerkat_notify::Language::English,
    };
    let zone = Zone::parse(&settings.notify.time_zone)
        .with_context(|| format!("notify.time_zone = {}", settings.notify.time_zone))?;
    let style = Style { language, zone };
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    for (name, channel) in &settings.notify.channels {
        let pictures = PicturePolicy {
            include_snapshot: channel.include_snapshot,
            include_faces: channel.include_faces,
        };
        let what = || format!("notify.channels.{name}");
        channels.push(match &channel.target {
            ChannelTarget::WeCom { url } => {
                let mut own = WecomSettings::new(name.clone(), None, url).with_context(what)?;
                own.pictures = pictures;
                own.style = style.clone();
                Arc::new(Wecom::new(own, client.clone(), Arc::clone(clock)))
            }
            ChannelTarget::Webhook { url, secret } => {
                let url = SecretUrl::parse(url.reveal()).with_context(what)?;
                let mut own = WebhookSettings::new(name.clone(), url, secret.clone());
                own.pictures = pictures;
                own.style = style.clone();
                Arc::new(Webhook::new(own, client.clone(), Arc::clone(clock)).with_context(what)?)
            }
        });
    }
    Ok(channels)
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
