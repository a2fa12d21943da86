//! The robot of a DingTalk (钉钉) group: text or Markdown.
//!
//! What the service allows, and what follows from it here:
//!
//! - The signature stands in the address: `timestamp` in milliseconds, and `sign`, the base64 of HMAC-SHA256(secret,
//!   timestamp + `\n` + secret), URL-encoded. Times more than an hour off are refused, so it is made anew every time.
//! - 20 messages a minute, and who sends more is **blocked for ten minutes** (130101 or 410100 in the body). So a node that
//!   was just started has half of it.
//! - Errors come as status 200 with `errcode`.
//! - A body has at most 20,000 bytes. Pictures go by address only, in Markdown: an alert whose snapshot has an address is
//!   sent as Markdown, others as the settings say. Files do not go at all: a clip is a link.
//! - Nobody is called: `at` is empty, at signs and, in Markdown, marks go out in their full-width forms.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{Clock, Secret};
use meerkat_outbound::{HttpClient, SecretUrl};
use serde_json::{Value, json};

use crate::channel::{Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::message::{Clip, ClipForm, Message, Messenger};
use crate::outlet::{Codes, Common, Outlet, is_permanent, number, number_in, said, text};
use crate::sign::hmac_sha256;
use crate::steps::Steps;
use crate::wecom::WordStyle;
use crate::words::{CALLS, MARKDOWN, cut, disarm};

/// Longest text, bytes of UTF-8: with quotes and line feeds escaped it still fits the body's 20,000.
pub const MAX_TEXT_BYTES: usize = 8_000;
/// Messages a minute.
pub const MESSAGES_PER_MINUTE: usize = 20;

/// How long a robot that was too fast stays shut.
const BLOCKED_FOR: Duration = Duration::from_secs(10 * 60);

/// The settings of one robot.
#[derive(Debug, Clone)]
pub struct DingTalkSettings {
    /// What all channels have.
    pub common: Common,
    /// The robot's whole address with its access token.
    pub endpoint: SecretUrl,
    /// Key of the signature (加签), where the robot wants one.
    pub secret: Option<Secret>,
    /// How it writes.
    pub words: WordStyle,
    /// Messages a minute, at most [`MESSAGES_PER_MINUTE`].
    pub per_minute: usize,
}

impl DingTalkSettings {
    /// Settings with the defaults.
    pub fn new(name: impl Into<String>, endpoint: SecretUrl, secret: Option<Secret>) -> Self {
        let common = Common::new(name);
        Self { common, endpoint, secret, words: WordStyle::Text, per_minute: MESSAGES_PER_MINUTE }
    }
}

/// One robot.
pub struct DingTalk {
    settings: DingTalkSettings,
    outlet: Outlet,
}

impl DingTalk {
    /// Sends through `client`; `clock` is for signature and rate limit, which robots with the same address share by
    /// `book`.
    pub fn new(
        settings: DingTalkSettings,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        book: &RateBook,
    ) -> Self {
        let token = settings.endpoint.query_value("access_token").unwrap_or_else(|| Secret::new(""));
        let gate = book.gate(
            &settings.common.name,
            &[&Secret::new("dingtalk"), &token],
            &[Rate::per_minute(MESSAGES_PER_MINUTE)],
            &[Rate::per_minute(settings.per_minute.min(MESSAGES_PER_MINUTE))],
            Start::Cautious,
            clock.mono(),
        );
        let outlet = Outlet { common: settings.common.clone(), client, clock, gate };
        Self { settings, outlet }
    }

    async fn send_words(&self, words: &str, picture_link: Option<&str>) -> Result<(), Failure> {
        let markdown = picture_link.is_some() || self.settings.words == WordStyle::Markdown;
        let message =
            if markdown { markdown_message(words, picture_link) } else { text_message(words, None) };
        self.post(&message).await
    }

    async fn post(&self, message: &Value) -> Result<(), Failure> {
        self.outlet.take_place()?;
        let reply = self.outlet.client.post_json(&self.signed(), message).await?;
        let answer = self.outlet.object_under_200(reply)?;
        let Some(code) = number(&answer, "errcode") else {
            return Err(Failure::retry("status 200, but not the service's JSON; it may have arrived"));
        };
        let message = text(&answer, "errmsg");
        let reason = match code {
            310_000 => format!("errcode 310000: {}", security_setting(message)),
            _ => said("errcode", code, &self.settings.endpoint.scrub(message)),
        };
        match code {
            0 => Ok(()),
            130_101 | 410_100 => Err(self.outlet.too_fast(BLOCKED_FOR, reason)),
            code if is_permanent(PERMANENT, code) => Err(Failure::refused(reason)),
            _ => Err(Failure::retry(reason)),
        }
    }

    fn signed(&self) -> SecretUrl {
        let Some(secret) = &self.settings.secret else { return self.settings.endpoint.clone() };
        let (timestamp, sign) = signature(secret, self.outlet.clock.wall().0.div_euclid(1_000));
        self.settings.endpoint.and("timestamp", &timestamp).and("sign", &sign)
    }
}

/// Timestamp and signature for a time in milliseconds.
fn signature(secret: &Secret, now_ms: i64) -> (String, String) {
    let timestamp = now_ms.to_string();
    let signed = format!("{timestamp}\n{}", secret.reveal());
    let sign = STANDARD.encode(hmac_sha256(secret.reveal().as_bytes(), &[signed.as_bytes()]));
    (timestamp, sign)
}

/// Which of the robot's three security settings was not met. The service says it in words only.
fn security_setting(message: &str) -> &'static str {
    let message = message.to_ascii_lowercase();
    if message.contains("keyword") || message.contains("关键词") {
        "the text has none of the robot's keywords"
    } else if message.contains("sign") || message.contains("签名") || message.contains("timestamp") {
        "the signature is not accepted"
    } else if message.contains("ip") {
        "the robot does not trust this node's address"
    } else {
        "a security setting of the robot is not met"
    }
}

/// Codes that the same message gets again until a person changes something, by what they mean.
const PERMANENT: Codes = &[
    ("security settings not met", &[310_000]),
    ("no such robot or token", &[300_001, 400_101, 400_106, 40_014]),
    ("group gone", &[400_013]),
    ("robot switched off", &[400_102]),
    ("a message that it does not take", &[40_035, 400_105, 430_101, 430_102, 430_103, 430_104, 43_004]),
];

fn text_message(words: &str, link: Option<&str>) -> Value {
    let mut content = cut(&disarm(words, CALLS), MAX_TEXT_BYTES);
    if let Some(link) = link {
        content.push('\n');
        content.push_str(link);
    }
    json!({"msgtype": "text", "text": {"content": content}, "at": {"isAtAll": false}})
}

fn markdown_message(words: &str, picture_link: Option<&str>) -> Value {
    let words = disarm(words, MARKDOWN);
    let title = cut(words.lines().next().unwrap_or_default(), 120);
    // A single line feed is no line break here.
    let mut body = cut(&words, MAX_TEXT_BYTES).replace('\n', "\n\n");
    if let Some(link) = picture_link {
        body.push_str(&format!("\n\n![]({link})"));
    }
    json!({"msgtype": "markdown", "markdown": {"title": title, "text": body}, "at": {"isAtAll": false}})
}

impl Messenger for DingTalk {
    const KIND: &'static str = "dingtalk";
    const FILE_APART: bool = false;

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn picture_bytes(&self) -> Option<u64> {
        None
    }

    fn clip_bytes(&self) -> Option<u64> {
        None
    }

    async fn send(&self, message: Message<'_>) -> Outcome {
        let mut steps = Steps::of_message(message.sent);
        let result = steps.take(self.send_words(&message.text, message.picture_link)).await;
        steps.outcome(result)
    }

    async fn send_clip(&self, clip: Clip<'_>) -> Outcome {
        let mut steps = Steps::of_clip(clip.sent);
        let result = match clip.form {
            ClipForm::Link(link) => {
                steps.take(async { self.post(&text_message(&clip.text, Some(link))).await }).await
            }
            ClipForm::File(_) => Err(Failure::refused("robots of DingTalk take no files")),
        };
        steps.outcome(result)
    }

    fn explain_own(&self, reason: &str) -> Option<&'static str> {
        match number_in(reason, "errcode ")? {
            310_000 if reason.contains("keyword") => Some(
                "The robot's security settings ask for a keyword (自定义关键词). Set the keyword Meerkat there: every \
                 message contains it.",
            ),
            310_000 if reason.contains("signature") => Some(
                "Copy the key that begins with SEC from the robot's security settings (加签) into secret, and check \
                 this machine's clock: it must be right to the hour.",
            ),
            310_000 if reason.contains("address") => Some(
                "Add the address from which this node reaches the internet to the robot's allowed addresses (IP地址).",
            ),
            310_000 => Some(
                "Compare the robot's security settings (安全设置) with keyword, secret and address here.",
            ),
            300_001 | 400_101 | 400_106 | 40_014 => Some(
                "There is no robot under this access token. Copy the robot's whole address (Webhook) into url again.",
            ),
            400_013 => Some("The group does not exist any more."),
            400_102 => Some("The robot was switched off: switch it on in the group's settings."),
            130_101 | 410_100 => Some(
                "The robot has sent more than 20 messages in a minute and is shut for ten minutes. Others may use the \
                 same robot: give Meerkat one of its own.",
            ),
            _ => None,
        }
    }
}

impl fmt::Debug for DingTalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DingTalk").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
