//! Settings of a WeCom group robot.

use meerkat_base::Secret;

use super::keys::required_url;
use crate::reader::Reader;

/// A WeCom group robot.
#[derive(Debug, Clone, PartialEq)]
pub struct WecomTarget {
    /// The robot's whole address with its key: a secret.
    pub url: Secret,
}

impl WecomTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = format!("{section}.url");
        let url = required_url(reader, &key);
        if url.as_ref().is_some_and(|url| !url.reveal().contains("key=")) {
            reader.complain(&key, "must be the robot's whole address, with its key: …/send?key=…");
        }
        Some(Self { url: url? })
    }
}
