//! What the notifier is given of the settings, at the start and at each reload.

use std::sync::{Arc, RwLock};

use meerkat_base::{CameraId, EventKind};
use meerkat_notify::Channel;
use meerkat_settings::{HttpSettings, Settings};
use meerkat_store::{ClipWish, LinkKey};

use crate::notifier::Links;

/// Where links to clips and snapshots lead, if the node has a public address. Only at the start: the door that answers
/// there is not opened anew by a reload either.
pub(super) fn links(http: &HttpSettings, key: &LinkKey) -> Option<Links> {
    let public_url = http.public_url.clone()?;
    Some(Links { public_url, life: http.link_life, key: key.clone() })
}

/// The channels that want clips and can be given them, as files or by links, and of which kinds of events.
pub(super) fn clip_wishes(links: Option<&Links>, channels: &[Arc<dyn Channel>]) -> Vec<ClipWish> {
    let wish = |channel: &Arc<dyn Channel>| {
        let kinds: Vec<EventKind> =
            EventKind::SEEN.into_iter().filter(|kind| channel.takes_clip_of(*kind)).collect();
        ClipWish { channel: channel.name().to_owned(), kinds }
    };
    let can = |channel: &&Arc<dyn Channel>| {
        channel.takes_clips() && (links.is_some() || channel.clip_limit().is_some())
    };
    channels.iter().filter(can).map(wish).collect()
}

/// What channels are made of besides `[notify]`: the cameras, with what people call them.
pub(super) fn announced(settings: &Settings) -> Vec<(&CameraId, Option<&str>)> {
    settings.cameras.iter().map(|(id, camera)| (id, camera.name.as_deref())).collect()
}

/// The wishes in a form that can be changed while the node runs.
pub(super) type Wishes = Arc<RwLock<Vec<ClipWish>>>;
