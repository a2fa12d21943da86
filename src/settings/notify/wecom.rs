//! Settings of a WeCom group robot.

use meerkat_base::Secret;

use super::keys::{per_minute, required_url};
use crate::reader::Reader;
use crate::rule::choice;

/// A WeCom group robot.
#[derive(Debug, Clone, PartialEq)]
pub struct WecomTarget {
    /// The robot's whole address with its key: a secret.
    pub url: Secret,
    /// In what form words go out.
    pub words: WordStyle,
    /// Messages a minute, 1 to 20.
    pub per_minute: usize,
}

/// In what form words go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordStyle {
    /// As they are.
    Text,
    /// As Markdown.
    Markdown,
}

/// The values of `style`.
pub(super) const WORD_STYLES: &[(&str, WordStyle)] =
    &[("text", WordStyle::Text), ("markdown", WordStyle::Markdown)];

impl WecomTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = format!("{section}.url");
        let url = required_url(reader, &key);
        if url.as_ref().is_some_and(|url| !url.reveal().contains("key=")) {
            reader.complain(&key, "must be the robot's whole address, with its key: …/send?key=…");
        }
        let words = reader.read_if(&format!("{section}.style"), choice(WORD_STYLES));
        let per_minute = per_minute(reader, section, 20, 20);
        Some(Self { url: url?, words: words.unwrap_or(WordStyle::Text), per_minute })
    }
}
