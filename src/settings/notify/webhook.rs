//! Settings of our own webhook.

use meerkat_base::Secret;

use super::keys::{required_secret, required_url};
use crate::reader::Reader;

/// Shortest key that signs messages.
const MIN_KEY_BYTES: usize = 16;

/// Our own webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookTarget {
    /// The whole address: it may carry credentials.
    pub url: Secret,
    /// Key of the signature, at least 16 bytes.
    pub secret: Secret,
}

impl WebhookTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let url = required_url(reader, &format!("{section}.url"));
        let secret = required_secret(reader, &format!("{section}.secret"), MIN_KEY_BYTES);
        Some(Self { url: url?, secret: secret? })
    }
}
