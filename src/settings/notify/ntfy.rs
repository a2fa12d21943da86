//! Settings of a topic of an ntfy server.

use meerkat_base::Secret;

use super::keys::{per_minute, read_url, required_secret};
use crate::reader::Reader;
use crate::rule::{count, text, whole};

/// A topic of an ntfy server.
#[derive(Debug, Clone, PartialEq)]
pub struct NtfyTarget {
    /// The server; `None`: the public one.
    pub url: Option<Secret>,
    /// The topic, `[A-Za-z0-9_-]{1,64}`. As good as a password where the server has no users.
    pub topic: Secret,
    /// An access token; not together with a user.
    pub token: Option<Secret>,
    /// A user and the password.
    pub user: Option<(String, Secret)>,
    /// Larger snapshots stay behind, bytes.
    pub max_snapshot_bytes: usize,
    /// Larger clips go as links, bytes.
    pub max_clip_bytes: u64,
    /// Messages a minute, 1 to 600, over five of them.
    pub per_minute: usize,
}

impl NtfyTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let url = read_url(reader, &key("url"));
        let topic = required_secret(reader, &key("topic"), 1);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if topic.as_ref().is_some_and(|topic| topic.reveal().len() > 64 || !topic.reveal().bytes().all(plain))
        {
            reader.complain(&key("topic"), "must be 1 to 64 of the characters A-Z, a-z, 0-9, - and _");
        }
        let before = reader.problem_count();
        let token = reader.secret(&key("token"), 8);
        let user = reader.read_if(&key("user"), text(1..=64));
        let password = reader.secret(&key("password"), 1);
        if user.as_ref().is_some_and(|user| user.contains(':')) {
            reader.complain(&key("user"), "must be without a colon");
        }
        if reader.problem_count() == before {
            match (&token, &user, &password) {
                (Some(_), Some(_), _) => {
                    reader.complain(&key("user"), "is set beside token: give one of the two")
                }
                (_, Some(_), None) => {
                    reader.complain(&key("user"), "needs password or password_file beside it")
                }
                (_, None, Some(_)) => reader.complain(&key("password"), "needs user beside it"),
                _ => {}
            }
        }
        let max_snapshot_bytes =
            reader.read_if(&key("max_snapshot_bytes"), count(0..=100 << 20)).unwrap_or(2 << 20);
        let max_clip_bytes = reader.read_if(&key("max_clip_bytes"), whole(0..=100 << 20)).unwrap_or(15 << 20);
        let per_minute = per_minute(reader, section, 600, 12);
        Some(Self {
            url,
            topic: topic?,
            token,
            user: user.zip(password),
            max_snapshot_bytes,
            max_clip_bytes,
            per_minute,
        })
    }
}
