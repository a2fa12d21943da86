//! Settings of our own webhook.

use meerkat_base::Secret;

use super::keys::{per_minute, required_secret, required_url};
use crate::reader::Reader;
use crate::rule::whole;

/// Shortest key that signs messages.
const MIN_KEY_BYTES: usize = 16;

/// Our own webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookTarget {
    /// The whole address: it may carry credentials.
    pub url: Secret,
    /// Key of the signature, at least 16 bytes.
    pub secret: Secret,
    /// Clips up to this size go along, bytes; 0: none, but links do.
    pub max_clip_bytes: u64,
    /// Messages a minute, 1 to 60,000.
    pub per_minute: usize,
}

impl WebhookTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let url = required_url(reader, &format!("{section}.url"));
        let secret = required_secret(reader, &format!("{section}.secret"), MIN_KEY_BYTES);
        let max_clip_bytes =
            reader.read_if(&format!("{section}.max_clip_bytes"), whole(0..=100 << 20)).unwrap_or(0);
        let per_minute = per_minute(reader, section, 60_000, 6_000);
        Some(Self { url: url?, secret: secret?, max_clip_bytes, per_minute })
    }
}
