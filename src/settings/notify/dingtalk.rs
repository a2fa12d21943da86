//! Settings of a DingTalk robot.

use meerkat_base::Secret;

use super::keys::{per_minute, required_url};
use super::wecom::{WORD_STYLES, WordStyle};
use crate::reader::Reader;
use crate::rule::{self, Rule, choice};

/// Shortest key that is taken; those that the service makes are longer.
const SHORTEST_KEY: usize = 8;

/// A DingTalk robot.
#[derive(Debug, Clone, PartialEq)]
pub struct DingTalkTarget {
    /// The robot's whole address with its access token: a secret.
    pub url: Secret,
    /// Key of the signature; `None`: the robot wants none.
    pub secret: Option<Secret>,
    /// In what form words go out.
    pub words: WordStyle,
    /// Messages a minute, 1 to 20.
    pub per_minute: usize,
}

impl DingTalkTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = format!("{section}.url");
        let url = required_url(reader, &key);
        if url.as_ref().is_some_and(|url| !url.reveal().contains("access_token=")) {
            reader.complain(&key, "must be the robot's whole address, with its token: …/send?access_token=…");
        }
        let secret = reader.secret_by(&format!("{section}.secret"), signing_key());
        let words = reader.read_if(&format!("{section}.style"), choice(WORD_STYLES));
        let per_minute = per_minute(reader, section, 20, 20);
        Some(Self { url: url?, secret, words: words.unwrap_or(WordStyle::Text), per_minute })
    }
}

/// The key that the service shows. Whoever has none often puts the keyword or the token here.
fn signing_key() -> Rule<Secret> {
    let key = rule::secret(SHORTEST_KEY);
    let words = format!(
        "the whole key of the robot's signature (加签), which begins with SEC: {} (a robot whose security setting is a \
         keyword or an address has no key)",
        key.allowed
    );
    key.said(words)
}
