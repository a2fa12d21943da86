//! The WeCom (企业微信) group robot: a text, then the picture, later the clip, each as a message of its own. Applications
//! with a corpid are another channel.
//!
//! What the service allows, and what follows from it here:
//!
//! - One POST of JSON per message to `…/cgi-bin/webhook/send?key=`; errors come as status 200 with `errcode`.
//! - 20 messages a minute and robot, text and picture counted each: the rate limit answers with a wait, and 45009
//!   ("too fast", when somebody else uses the same robot) closes it for a minute.
//! - A text has at most 2,048 bytes, Markdown 4,096: cut at a character, with an ellipsis.
//! - A picture is JPEG or PNG of at most 2 MB, as base64 with the MD5 of its raw bytes. Any other stays behind and
//!   the text says so; scaling pictures is the caller's business.
//! - A file (the clip) has 5 bytes to 20 MB and is uploaded first; the service keeps it for three days.
//! - `<@userid>` would call people by their phones: angle brackets and at signs go out in their full-width forms, in
//!   Markdown its marks too.
//!
//! The steps of an alert are the text (1) and the picture (2); see [`Outcome`] for how they survive a retry. A text
//! without its picture never waits for a second place in the limiter, because the words are what is urgent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use meerkat_base::{Clock, Secret};
use meerkat_outbound::{Form, HttpClient, Reply, SecretUrl};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::channel::{Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::message::{Clip, ClipForm, Message, Messenger, clip_type};
use crate::outlet::{Codes, Common, Outlet, is_permanent, number, number_in, said, text};
use crate::steps::Steps;
use crate::uploads::Uploads;
use crate::words::{CALLS, MARKDOWN, cut, disarm};

/// Where the service lives.
pub const DEFAULT_BASE: &str = "https://qyapi.weixin.qq.com";
/// Longest text, bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 2_048;
/// Longest Markdown, bytes of UTF-8.
pub const MAX_MARKDOWN_BYTES: usize = 4_096;
/// Largest picture, bytes before base64.
pub const MAX_PICTURE_BYTES: usize = 2 * 1024 * 1024;
/// Largest file, bytes.
pub const MAX_FILE_BYTES: u64 = 20 * 1024 * 1024;
/// Messages a minute and robot.
pub const MESSAGES_PER_MINUTE: usize = 20;

/// The service keeps a file for three days; a little less, for what it has to do with it then.
const FILES_KEPT_FOR: Duration = Duration::from_secs(70 * 60 * 60);

/// In what form words go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WordStyle {
    /// As they are.
    #[default]
    Text,
    /// As Markdown, with the first line in bold.
    Markdown,
}

/// The settings of one robot.
#[derive(Debug, Clone)]
pub struct WecomSettings {
    /// What all channels have.
    pub common: Common,
    /// The robot's whole address with its key.
    pub endpoint: SecretUrl,
    /// How it writes.
    pub words: WordStyle,
    /// Messages a minute, at most [`MESSAGES_PER_MINUTE`].
    pub per_minute: usize,
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
        let common = Common::new(name);
        Ok(Self { common, endpoint, words: WordStyle::Text, per_minute: MESSAGES_PER_MINUTE })
    }
}

/// One robot.
pub struct Wecom {
    endpoint: SecretUrl,
    words: WordStyle,
    outlet: Outlet,
    uploads: Uploads,
}

impl Wecom {
    /// Sends through `client`; `clock` is for the rate limit, which robots with the same key share by `book`.
    pub fn new(settings: WecomSettings, client: HttpClient, clock: Arc<dyn Clock>, book: &RateBook) -> Self {
        let key = settings.endpoint.query_value("key").unwrap_or_else(|| Secret::new(""));
        let gate = book.gate(
            &settings.common.name,
            &[&Secret::new("wecom"), &key],
            &[Rate::per_minute(MESSAGES_PER_MINUTE)],
            &[Rate::per_minute(settings.per_minute.min(MESSAGES_PER_MINUTE))],
            Start::Fresh,
            clock.mono(),
        );
        Self {
            endpoint: settings.endpoint,
            words: settings.words,
            outlet: Outlet { common: settings.common, client, clock, gate },
            uploads: Uploads::kept_for(FILES_KEPT_FOR),
        }
    }

    async fn send_text(&self, text: &str) -> Result<(), Failure> {
        let message = match self.words {
            WordStyle::Text => {
                json!({"msgtype": "text", "text": {"content": cut(&disarm(text, CALLS), MAX_TEXT_BYTES)}})
            }
            WordStyle::Markdown => {
                let content = cut(&bold_first_line(&disarm(text, MARKDOWN)), MAX_MARKDOWN_BYTES);
                json!({"msgtype": "markdown", "markdown": {"content": content}})
            }
        };
        self.post(&message).await
    }

    async fn send_link(&self, text: &str, link: &str) -> Result<(), Failure> {
        // The link behind all else, whole: a text that is too long is cut before it.
        let words = cut(&disarm(text, CALLS), MAX_TEXT_BYTES.saturating_sub(link.len() + 1));
        self.post(&json!({"msgtype": "text", "text": {"content": format!("{words}\n{link}")}})).await
    }

    async fn send_file(&self, clip: &Clip<'_>, file: &[u8]) -> Result<(), Failure> {
        // Not uploaded in vain.
        self.outlet.check_rate()?;
        let upload = self.upload(clip.name, file);
        let media = self.uploads.name_of(clip.id, &clip.part, self.outlet.clock.mono(), upload).await?;
        let sent = self.post(&json!({"msgtype": "file", "file": {"media_id": media}})).await;
        if matches!(&sent, Err(Failure::Refused { .. })) {
            self.uploads.forget(&media);
        }
        sent
    }

    async fn upload(&self, name: &str, file: &[u8]) -> Result<String, Failure> {
        let url = self.endpoint.sibling("upload_media").and("type", "file");
        let form = Form::new().file("media", name, clip_type(name), file);
        let answer = self.read(self.outlet.client.post_form(&url, &[], form).await?)?;
        match text(&answer, "media_id") {
            "" => Err(Failure::retry("the service took the file but named it not")),
            media => Ok(media.to_owned()),
        }
    }

    async fn post<T: Serialize + Sync>(&self, message: &T) -> Result<(), Failure> {
        self.outlet.take_place()?;
        self.read(self.outlet.client.post_json(&self.endpoint, message).await?).map(|_| ())
    }

    fn read(&self, reply: Reply) -> Result<Map<String, Value>, Failure> {
        let answer = self.outlet.object_under_200(reply)?;
        let Some(code) = number(&answer, "errcode") else {
            return Err(Failure::retry("status 200, but not the service's JSON; it may have arrived"));
        };
        let reason = said("errcode", code, &self.endpoint.scrub(text(&answer, "errmsg")));
        match code {
            0 => Ok(answer),
            45009 => Err(self.outlet.too_fast(Duration::from_secs(60), reason)),
            code if is_permanent(PERMANENT, code) => Err(Failure::refused(reason)),
            _ => Err(Failure::retry(reason)),
        }
    }
}

/// Codes that the same message gets again for ever, by what they mean. Every other code may pass: -1 busy, 45033 too many
/// at once, a robot switched off.
const PERMANENT: Codes = &[
    ("no such robot", &[93_000]),
    (
        "message type, picture or parameters that it cannot use",
        &[40_004, 40_005, 40_006, 40_007, 40_008, 40_009, 40_058, 301_019],
    ),
    ("text missing or too long", &[44_004, 45_002]),
    ("file empty or too large", &[44_001, 45_001]),
    ("not JSON", &[47_001]),
];

impl Messenger for Wecom {
    const KIND: &'static str = "wecom";
    const FILE_APART: bool = true;

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn picture_bytes(&self) -> Option<u64> {
        Some(MAX_PICTURE_BYTES as u64)
    }

    fn clip_bytes(&self) -> Option<u64> {
        Some(MAX_FILE_BYTES)
    }

    async fn send(&self, mut message: Message<'_>) -> Outcome {
        message.limit_picture(MAX_PICTURE_BYTES);
        let mut steps = Steps::of_message(message.sent);
        let result = async {
            steps.take(self.send_text(&message.text)).await?;
            if let Some(picture) = message.picture {
                steps.take(async { self.post(&picture_message(picture)).await }).await?;
            }
            Ok(())
        };
        let result = result.await;
        steps.outcome(result)
    }

    async fn send_clip(&self, clip: Clip<'_>) -> Outcome {
        let mut steps = Steps::of_clip(clip.sent);
        let result = match clip.form {
            ClipForm::File(file) => steps.take(self.send_file(&clip, file)).await,
            ClipForm::Link(link) => steps.take(self.send_link(&clip.text, link)).await,
        };
        steps.outcome(result)
    }

    fn explain_own(&self, reason: &str) -> Option<&'static str> {
        match number_in(reason, "errcode ")? {
            93000 => Some(
                "There is no robot under this key. In WeCom open the group, its robots, and this robot's card: the \
                 address shown there is the value of url. A robot that was removed and added again has a new one.",
            ),
            45009 => Some(
                "The robot has sent 20 messages within a minute, perhaps by somebody else. Wait a minute.",
            ),
            40009 | 45001 => Some("WeCom takes pictures up to 2 MB and files up to 20 MB."),
            _ => None,
        }
    }
}

impl fmt::Debug for Wecom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wecom")
            .field("name", &self.outlet.common.name)
            .field("endpoint", &self.endpoint)
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

fn picture_message(picture: &[u8]) -> Value {
    let md5: String = Md5::digest(picture).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"msgtype": "image", "image": {"base64": STANDARD.encode(picture), "md5": md5}})
}

/// Markdown whose first line stands out. The text has no marks of its own left.
fn bold_first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, rest)) => format!("**{first}**\n{rest}"),
        None => format!("**{text}**"),
    }
}

#[cfg(test)]
mod tests;
