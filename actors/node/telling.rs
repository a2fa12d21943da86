//! What the notifier is given of the settings, at the start and at each reload.

use std::sync::{Arc, RwLock};

use meerkat_base::EventKind;
use meerkat_notify::Channel;
use meerkat_settings::Settings;
use meerkat_store::{ClipWish, LinkKey};

use crate::notifier::{ClipTools, Links, Shrinker};

/// What clips need on their way to channels.
pub(super) fn clip_tools(settings: &Settings, key: &LinkKey, shrinker: Shrinker) -> ClipTools {
    let links = settings.http.public_url.clone().map(|public_url| Links {
        public_url,
        life: settings.http.link_life,
        key: key.clone(),
    });
    ClipTools::new(shrinker, links, settings.notify.delivery.max_clip_bytes)
}

/// The channels that want clips and can be given them, as files or by links, and of which kinds of events.
pub(super) fn clip_wishes(settings: &Settings, channels: &[Arc<dyn Channel>]) -> Vec<ClipWish> {
    let has_links = settings.http.public_url.is_some();
    let wish = |channel: &Arc<dyn Channel>| {
        let kinds: Vec<EventKind> =
            EventKind::SEEN.into_iter().filter(|kind| channel.takes_clip_of(*kind)).collect();
        ClipWish { channel: channel.name().to_owned(), kinds }
    };
    let can =
        |channel: &&Arc<dyn Channel>| channel.takes_clips() && (has_links || channel.clip_limit().is_some());
    channels.iter().filter(can).map(wish).collect()
}

/// The wishes in a form that can be changed while the node runs.
pub(super) type Wishes = Arc<RwLock<Vec<ClipWish>>>;
