//! The WeCom (企业微信) group robot: a text, then the picture as a message of its own. Applications with a
//! corpid are another channel.
//!
//! What the service allows, and what follows from it here:
//!
//! - One POST of JSON per message to `…/cgi-bin/webhook/send?key=`; errors come as status 200 with `errcode`.
//! - 20 messages a minute and robot, text and picture counted each: a [`Limiter`] answers with a wait, and 45009
//!   ("too fast", when somebody else uses the same robot) closes it for a minute.
//! - A text has at most 2,048 bytes: cut at a character, with an ellipsis.
//! - A picture is JPEG or PNG of at most 2 MB, as base64 with the MD5 of its raw bytes. Any other stays behind and
//!   the text says so; scaling pictures is the caller's business.
//! - `<@userid>` would call people by their phones: angle brackets and at signs go out in their full-width forms.
//!
//! The steps of an alert are the text (1) and the picture (2); see [`Outcome`] for how they survive a retry. A text
//! without its picture never waits for a second place in the limiter, because the words are what is urgent.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use meerkat_base::text::shown;
use meerkat_base::{Clock, Secret};
use meerkat_outbound::{HttpClient, SecretUrl};
use serde::Serialize;
use serde_json::Value;

use crate::alert::{Alert, Digest, PicturePolicy};
use crate::channel::{Channel, Delivery, Failure, LONGEST_ASKED, Outcome};
use crate::limiter::Limiter;
use crate::render::{self, Style};

/// Where the service lives.
pub const DEFAULT_BASE: &str = "https://qyapi.weixin.qq.com";
/// Longest text, bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 2_048;
/// Largest picture, bytes before base64.
pub const MAX_PICTURE_BYTES: usize = 2 * 1024 * 1024;
/// Messages a minute and robot.
pub const MESSAGES_PER_MINUTE: usize = 20;

/// The service's minute begins when a message reaches it, ours when one leaves; the difference is the network's.
const WINDOW: Duration = Duration::from_secs(61);

/// The settings of one robot.
#[derive(Debug, Clone)]
pub struct WecomSettings {
    /// Name of the channel.
    pub name: String,
    /// The robot's whole address with its key.
    pub endpoint: SecretUrl,
    /// Which pictures it may send.
    pub pictures: PicturePolicy,
    /// How it writes.
    pub style: Style,
}

/// What was given is no key of a robot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Nothing, or blanks and control characters inside.
    #[error("the robot's key is empty or not printable")]
    Unprintable,
    /// A whole address was given, as WeCom shows it, but without `?key=`.
    #[error("the robot's address carries no key")]
    NoKey,
    /// A whole address was given that is none.
    #[error("the robot's address: {0}")]
    Address(#[from] meerkat_outbound::BadUrl),
}

impl WecomSettings {
    /// Settings with the defaults for a robot's key; the whole webhook address that WeCom shows is taken too, and
    /// then stands for itself. `base` replaces [`DEFAULT_BASE`], for a relay.
    pub fn new(name: impl Into<String>, base: Option<&SecretUrl>, key: &Secret) -> Result<Self, BadKey> {
        let text = key.reveal().trim();
        let endpoint = if text.starts_with("http://") || text.starts_with("https://") {
            let endpoint = SecretUrl::parse(text)?;
            match endpoint.query_value("key") {
                Some(key) if !key.reveal().is_empty() => endpoint,
                _ => return Err(BadKey::NoKey),
            }
        } else {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(BadKey::Unprintable);
            }
            let base = match base {
                Some(base) => base.clone(),
                None => SecretUrl::parse(DEFAULT_BASE)?,
            };
            base.below("cgi-bin/webhook/send", "key", &Secret::new(text))
        };
        Ok(Self { name: name.into(), endpoint, pictures: PicturePolicy::default(), style: Style::default() })
    }
}

/// One robot. Two of them with the same key would each count for themselves.
pub struct Wecom {
    settings: WecomSettings,
    client: HttpClient,
    clock: Arc<dyn Clock>,
    limiter: Mutex<Limiter>,
}

impl Wecom {
    /// Sends through `client`; `clock` is for the rate limit.
    pub fn new(settings: WecomSettings, client: HttpClient, clock: Arc<dyn Clock>) -> Self {
        let limiter = Mutex::new(Limiter::new(MESSAGES_PER_MINUTE, WINDOW));
        Self { settings, client, clock, limiter }
    }

    async fn deliver_alert(&self, alert: &Alert) -> Outcome {
        let mut sent = alert.already_sent;
        let wanted = self.settings.pictures.picture(alert);
        let picture = wanted.filter(|p| fits(p));
        if sent == 0 {
            let mut text = render::alert_text(alert, &self.settings.style);
            if wanted.is_some() && picture.is_none() {
                text.push_str(render::picture_omitted(self.settings.style.language));
            }
            if let Err(failure) = self.send_text(&text).await {
                return failure.into_outcome(sent);
            }
            sent = 1;
        }
        if let (1, Some(picture)) = (sent, picture) {
            let message = Message::Image { image: Image::of(picture) };
            if let Err(failure) = self.send(&message).await {
                return failure.into_outcome(sent);
            }
        }
        Outcome::Delivered
    }

    async fn send_text(&self, text: &str) -> Result<(), Failure> {
        let content = cut(&escape(text), MAX_TEXT_BYTES);
        self.send(&Message::Text { text: Text { content } }).await
    }

    async fn send(&self, message: &Message) -> Result<(), Failure> {
        if let Err(wait) = self.limiter().take(self.clock.mono()) {
            return Err(Failure::Retry {
                after: Some(wait),
                reason: format!("rate limit of {MESSAGES_PER_MINUTE} messages a minute"),
            });
        }
        let reply = self.client.post_json(&self.settings.endpoint, message).await?;
        if reply.status != 200 {
            // The service itself answers 200 whatever happens, so this is something before it, and may pass.
            return Err(Failure::Retry {
                after: reply.retry_after.map(|r| r.wait(self.clock.wall()).min(LONGEST_ASKED)),
                reason: format!("status {}", reply.status),
            });
        }
        // Read as a value: a derived struct would take an array for one, and `[0]` for success.
        let answer: Option<Value> = serde_json::from_slice(&reply.body?).ok();
        let code = answer.as_ref().and_then(|a| a.get("errcode")).and_then(Value::as_i64);
        let (Some(answer), Some(code)) = (&answer, code) else {
            return Err(Failure::retry("status 200, but not the service's JSON; it may have arrived"));
        };
        self.judge(code, answer.get("errmsg").and_then(Value::as_str).unwrap_or_default())
    }

    fn judge(&self, code: i64, message: &str) -> Result<(), Failure> {
        let said = self.settings.endpoint.scrub(message);
        let reason = format!("errcode {code}: {}", shown(said.as_bytes()));
        match code {
            0 => Ok(()),
            45009 => {
                let minute = Duration::from_secs(60);
                self.limiter().close_for(self.clock.mono(), minute);
                Err(Failure::Retry { after: Some(minute), reason })
            }
            code if PERMANENT.contains(&code) => Err(Failure::refused(reason)),
            _ => Err(Failure::retry(reason)),
        }
    }

    // Poison means nothing: no code of a caller runs under the lock, and it is never held over an await.
    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Codes that the same message gets again for ever: no such robot (93000); message type, picture or parameters
/// it cannot use (40004, 40005, 40006, 40008, 40009, 40058, 301019); text missing (44004) or too long (45002);
/// not JSON (47001). Every other code may pass: -1 busy, 45033 too many at once, a robot switched off.
const PERMANENT: [i64; 11] = [93000, 40004, 40005, 40006, 40008, 40009, 40058, 44004, 45002, 47001, 301019];

impl Channel for Wecom {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn kind(&self) -> &'static str {
        "wecom"
    }

    fn ready_in(&self) -> Duration {
        self.limiter().wait(self.clock.mono())
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        Box::pin(self.deliver_alert(alert))
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        Box::pin(async {
            match self.send_text(&render::digest_text(digest, &self.settings.style)).await {
                Ok(()) => Outcome::Delivered,
                Err(failure) => failure.into_outcome(0),
            }
        })
    }
}

impl fmt::Debug for Wecom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wecom").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(tag = "msgtype", rename_all = "snake_case")]
enum Message {
    Text { text: Text },
    Image { image: Image },
}

#[derive(Serialize)]
struct Text {
    content: String,
}

#[derive(Serialize)]
struct Image {
    base64: String,
    md5: String,
}

impl Image {
    fn of(picture: &[u8]) -> Self {
        let md5: String = Md5::digest(picture).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { base64: STANDARD.encode(picture), md5 }
    }
}

/// Whether the service takes such a picture.
fn fits(picture: &[u8]) -> bool {
    let known = picture.starts_with(&[0xff, 0xd8, 0xff]) || picture.starts_with(b"\x89PNG\r\n\x1a\n");
    known && picture.len() <= MAX_PICTURE_BYTES
}

/// Takes the meaning out of characters that call people, and takes out what cannot be seen.
fn escape(text: &str) -> String {
    render::printable(text)
        .chars()
        .map(|c| match c {
            '<' => '＜',
            '>' => '＞',
            '@' => '＠',
            other => other,
        })
        .collect()
}

/// At most so many bytes, cut between characters, the last of them an ellipsis if anything is missing.
fn cut(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    let mut end = most_bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1; // 0 is a boundary
    }
    let mut out = text.get(..end).unwrap_or_default().to_owned();
    out.push('…');
    out
}

#[cfg(test)]
mod tests;
