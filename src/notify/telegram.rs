//! A Telegram bot: a photo with the text as its caption, later the clip as a video.
//!
//! What the service allows, and what follows from it here:
//!
//! - The bot's token stands in the address, so nothing of an address is ever shown. The address of the service is a
//!   setting: one may run a Bot API server of one's own.
//! - A photo has at most 10 MB, other files 50 MB. A photo that the service refuses (its shape, say) stays behind, and the
//!   text goes alone.
//! - A caption has at most 1,024 characters, counted as UTF-16, a text 4,096: what does not fit the caption follows as a
//!   text.
//! - One message a second to a chat, 20 a minute to a group or channel. Errors come with their status and a body, 429
//!   with `retry_after`.
//! - No `parse_mode`: all marks are plain. At signs go out in their full-width form, so that nobody is called; links are
//!   not looked at by the service. A message of severity `info` makes no sound.
//!
//! The steps of an alert are the photo with its caption, or the text (1), and the rest of the text (2).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meerkat_base::{Clock, Secret, Severity};
use meerkat_outbound::{BadUrl, Form, HttpClient, OutboundError, Reply, SecretUrl};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::channel::{Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::message::{Clip, ClipForm, Message, Messenger, clip_type, picture_type};
use crate::outlet::{Common, Outlet, number, number_in, said, text};
use crate::steps::Steps;
use crate::words::{disarm, split_utf16};

/// Where the service lives.
pub const DEFAULT_BASE: &str = "https://api.telegram.org";
/// Largest photo, bytes.
pub const MAX_PHOTO_BYTES: usize = 10 * 1024 * 1024;
/// Largest other file, bytes.
pub const MAX_FILE_BYTES: u64 = 50 * 1024 * 1024;
/// Longest caption, UTF-16 units.
pub const MAX_CAPTION_UNITS: usize = 1_024;
/// Longest text, UTF-16 units.
pub const MAX_TEXT_UNITS: usize = 4_096;
/// Messages a minute to a group or channel.
pub const MESSAGES_PER_MINUTE_TO_GROUP: usize = 20;
/// Messages a minute to a person.
pub const MESSAGES_PER_MINUTE: usize = 60;

const MARKS: &[char] = &['@'];

/// How many refused photos are remembered.
const MOST_WORDY: usize = 64;

/// The settings of one bot in one chat.
#[derive(Debug, Clone)]
pub struct TelegramSettings {
    /// What all channels have.
    pub common: Common,
    /// Where the Bot API lives.
    pub base: SecretUrl,
    /// The bot's token.
    pub token: Secret,
    /// Number of the chat, or `@name` of a public channel.
    pub chat_id: String,
    /// Messages a minute, at most what the service allows for such a chat.
    pub per_minute: usize,
}

impl TelegramSettings {
    /// Settings with the defaults.
    pub fn new(name: impl Into<String>, token: Secret, chat_id: &str) -> Result<Self, BadUrl> {
        Ok(Self {
            common: Common::new(name),
            base: SecretUrl::parse(DEFAULT_BASE)?,
            token,
            per_minute: most_per_minute(chat_id),
            chat_id: chat_id.to_owned(),
        })
    }
}

/// What the service allows for a chat: people have positive numbers.
pub fn most_per_minute(chat_id: &str) -> usize {
    let is_person = chat_id.parse::<i64>().is_ok_and(|number| number > 0);
    if is_person { MESSAGES_PER_MINUTE } else { MESSAGES_PER_MINUTE_TO_GROUP }
}

/// One bot in one chat.
pub struct Telegram {
    settings: TelegramSettings,
    outlet: Outlet,
    /// Messages whose photos the service has refused: their words wait for the next second, and must not wait behind the
    /// same photo again.
    wordy: Mutex<VecDeque<Uuid>>,
}

impl Telegram {
    /// Sends through `client`; `clock` is for the rate limit, which channels with the same bot and chat share by `book`.
    pub fn new(
        settings: TelegramSettings,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        book: &RateBook,
    ) -> Self {
        let most = most_per_minute(&settings.chat_id);
        let gate = book.gate(
            &settings.common.name,
            &[&Secret::new("telegram"), &settings.token, &Secret::new(settings.chat_id.as_str())],
            &[Rate::per_second(1), Rate::per_minute(most)],
            &[Rate::per_minute(settings.per_minute.min(most))],
            Start::Fresh,
            clock.mono(),
        );
        let outlet = Outlet { common: settings.common.clone(), client, clock, gate };
        Self { settings, outlet, wordy: Mutex::default() }
    }

    async fn send_text(&self, words: &str, link: Option<&str>, severity: Severity) -> Result<(), Failure> {
        let room = MAX_TEXT_UNITS.saturating_sub(link.map_or(0, |link| link.len() + 1));
        let words = disarm(words, MARKS);
        let mut shown = split_utf16(&words, room).0.to_owned();
        if let Some(link) = link {
            shown.push('\n');
            shown.push_str(link);
        }
        let message = json!({
            "chat_id": self.settings.chat_id,
            "text": shown,
            "link_preview_options": {"is_disabled": true},
            "disable_notification": severity == Severity::Info,
        });
        self.outlet.take_place()?;
        self.read(self.outlet.client.post_json(&self.method("sendMessage"), &message).await)
    }

    async fn send_file(
        &self,
        method: &str,
        form: Form,
        caption: &str,
        severity: Severity,
    ) -> Result<(), Failure> {
        let mut form = form.text("chat_id", &self.settings.chat_id);
        if !caption.is_empty() {
            form = form.text("caption", caption);
        }
        if severity == Severity::Info {
            form = form.text("disable_notification", "true");
        }
        self.outlet.take_place()?;
        self.read(self.outlet.client.post_form(&self.method(method), &[], form).await)
    }

    fn remember_refused(&self, id: Uuid) {
        let mut wordy = self.wordy.lock().unwrap_or_else(PoisonError::into_inner);
        if wordy.len() >= MOST_WORDY {
            wordy.pop_front();
        }
        wordy.push_back(id);
    }

    fn was_refused(&self, id: Uuid) -> bool {
        self.wordy.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// The photo with as much of the text as fits.
    async fn send_photo(&self, message: &Message<'_>, caption: &str, photo: &[u8]) -> Result<(), Failure> {
        let (name, content_type) = picture_type(photo);
        let form = Form::new().file("photo", name, content_type, photo);
        self.send_file("sendPhoto", form, caption, message.severity).await
    }

    async fn send_clip_file(&self, clip: &Clip<'_>, file: &[u8]) -> Result<(), Failure> {
        let words = disarm(&clip.text, MARKS);
        let caption = split_utf16(&words, MAX_CAPTION_UNITS).0;
        let content_type = clip_type(clip.name);
        // Asked before the form is made: a clip is large.
        self.outlet.check_rate()?;
        let (method, form) = if content_type == "video/mp4" {
            let form = Form::new().file("video", clip.name, content_type, file);
            let secs = clip.duration.as_secs().max(1).to_string();
            ("sendVideo", form.text("supports_streaming", "true").text("duration", &secs))
        } else {
            ("sendDocument", Form::new().file("document", clip.name, content_type, file))
        };
        self.send_file(method, form, caption, clip.severity).await
    }

    fn method(&self, method: &str) -> SecretUrl {
        self.settings.base.child(&format!("bot{}/{method}", self.settings.token.reveal()))
    }

    fn read(&self, reply: Result<Reply, OutboundError>) -> Result<(), Failure> {
        let (status, answer) = self.outlet.object(reply?)?;
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let code = number(&answer, "error_code").unwrap_or_else(|| i64::from(status));
        let description = text(&answer, "description").replace(self.settings.token.reveal(), "[redacted]");
        let parameters = answer.get("parameters").and_then(Value::as_object);
        let parameter = |key| parameters.and_then(|found| number(found, key));
        let mut reason = said("error", code, &description);
        match code {
            429 => {
                let secs = parameter("retry_after").and_then(|secs| u64::try_from(secs).ok()).unwrap_or(30);
                Err(self.outlet.too_fast(Duration::from_secs(secs.max(1)), reason))
            }
            400..=499 if !matches!(code, 407..=409) => {
                if let Some(chat) = parameter("migrate_to_chat_id") {
                    reason = format!("error {code}: the group is now chat {chat}");
                }
                Err(Failure::refused(reason))
            }
            _ => Err(Failure::retry(reason)),
        }
    }
}

/// Whether the service refused what was sent, not the sender: then words alone may pass.
fn is_about_content(failure: &Failure) -> bool {
    let Failure::Refused { reason } = failure else { return false };
    let lower = reason.to_ascii_lowercase();
    let of_picture = ["photo", "image", "file", "too large", "too big", "wrong type"];
    matches!(number_in(reason, "error ").or_else(|| number_in(reason, "status ")), Some(413))
        || (lower.contains("error 400") && of_picture.iter().any(|word| lower.contains(word)))
}

impl Messenger for Telegram {
    const KIND: &'static str = "telegram";
    const FILE_APART: bool = false;

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn picture_bytes(&self) -> Option<u64> {
        Some(MAX_PHOTO_BYTES as u64)
    }

    fn clip_bytes(&self) -> Option<u64> {
        Some(MAX_FILE_BYTES)
    }

    async fn send(&self, mut message: Message<'_>) -> Outcome {
        if message.picture.is_some() && self.was_refused(message.id) {
            message.text = message.text_without_picture();
            message.picture = None;
        }
        message.limit_picture(MAX_PHOTO_BYTES);
        let mut steps = Steps::of_message(message.sent);
        let result = async {
            let Some(photo) = message.picture else {
                return steps.take(self.send_text(&message.text, None, message.severity)).await;
            };
            let words = disarm(&message.text, MARKS);
            let (caption, rest) = split_utf16(&words, MAX_CAPTION_UNITS);
            let mut refused = false;
            let first = async {
                match self.send_photo(&message, caption, photo).await {
                    Err(failure) if is_about_content(&failure) => {
                        refused = true;
                        self.remember_refused(message.id);
                        self.send_text(&message.text_without_picture(), None, message.severity).await
                    }
                    other => other,
                }
            };
            steps.take(first).await?;
            if !refused && !rest.is_empty() {
                steps.take(self.send_text(rest, None, Severity::Info)).await?;
            }
            Ok(())
        };
        let result = result.await;
        steps.outcome(result)
    }

    async fn send_clip(&self, clip: Clip<'_>) -> Outcome {
        let mut steps = Steps::of_clip(clip.sent);
        let result = match clip.form {
            ClipForm::File(file) => steps.take(self.send_clip_file(&clip, file)).await,
            ClipForm::Link(link) => steps.take(self.send_text(&clip.text, Some(link), clip.severity)).await,
        };
        steps.outcome(result)
    }

    fn explain_own(&self, reason: &str) -> Option<&'static str> {
        if reason.contains("the group is now chat") {
            return Some(
                "The group became a supergroup and has another number: set chat_id to the one named here.",
            );
        }
        let lower = reason.to_ascii_lowercase();
        match number_in(reason, "error ")? {
            401 | 404 => {
                Some("There is no bot with this token. Ask @BotFather for it (/token) and copy it whole.")
            }
            400 if lower.contains("chat not found") => Some(
                "The bot does not know the chat. People must write to the bot first; to a group it must be added. \
                 Numbers of groups are negative: keep the sign.",
            ),
            400 if lower.contains("not enough rights") => {
                Some("Give the bot the right to send messages and media there.")
            }
            403 => Some("The chat has blocked the bot or removed it. Add it again, or write to it again."),
            429 => Some("The bot has sent too fast. The node waits as long as Telegram asks."),
            _ => None,
        }
    }
}

impl fmt::Debug for Telegram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telegram").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
