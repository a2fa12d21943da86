//! Settings of a Telegram bot.

use meerkat_base::Secret;

use super::keys::{per_minute, read_url, required, required_secret};
use crate::reader::Reader;
use crate::rule::{Rule, text};

/// A Telegram bot in one chat.
#[derive(Debug, Clone, PartialEq)]
pub struct TelegramTarget {
    /// Where the Bot API lives; `None`: where it does for everybody.
    pub url: Option<Secret>,
    /// The bot's token.
    pub token: Secret,
    /// Number of the chat, or `@name` of a public channel.
    pub chat_id: String,
    /// Messages a minute, 1 to 60; what the service allows for such a chat goes before it.
    pub per_minute: usize,
}

impl TelegramTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let url = read_url(reader, &key("url"));
        let token = required_secret(reader, &key("token"), 16);
        if token.as_ref().is_some_and(|token| !is_token(token.reveal())) {
            reader.complain(
                &key("token"),
                "must be a bot's token: a number, a colon, and letters, digits, - and _",
            );
        }
        let chat_id = required(reader, &key("chat_id"), chat_id());
        let per_minute = per_minute(reader, section, 60, 60);
        Some(Self { url, token: token?, chat_id: chat_id?, per_minute })
    }
}

/// `123456:AAH…`. It becomes a part of a path, so nothing else may be in it.
fn is_token(text: &str) -> bool {
    text.split_once(':').is_some_and(|(number, rest)| {
        !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
            && !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

fn chat_id() -> Rule<String> {
    let line = text(1..=64);
    Rule::new(
        "a chat's number as a text, such as \"-1001234567890\", or the @name of a public channel",
        move |value| {
            let text = line.parse(value)?;
            let is_name = text.strip_prefix('@').is_some_and(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            });
            (is_name || text.parse::<i64>().is_ok()).then_some(text)
        },
    )
}
