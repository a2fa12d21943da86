//! The robot of a Feishu (飞书) or Lark group: a text, and pictures where an application's credentials are given.
//!
//! What the service allows, and what follows from it here:
//!
//! - The signature stands in the body: `timestamp` in seconds, and `sign`, the base64 of HMAC-SHA256(timestamp + `\n` +
//!   secret, nothing). Times more than an hour off are refused, so it is made anew every time.
//! - 100 messages a minute and 5 a second; 11232 means "too fast". A body has at most 20 KB.
//! - A robot cannot upload. An application of the same enterprise can: with its id and secret it gets a tenant token for
//!   two hours and uploads the picture, whose key the robot then sends. Without, alerts are words. Clips are links.
//! - `<at user_id="all">` would call everybody: angle brackets and at signs go out in their full-width forms.
//!
//! The steps of an alert are the text (1) and the picture (2).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{Clock, Secret};
use meerkat_outbound::{Form, HttpClient, Reply, SecretUrl};
use serde_json::{Map, Value, json};

use crate::channel::{Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::message::{Clip, ClipForm, Message, Messenger, picture_type};
use crate::outlet::{Codes, Common, Outlet, is_permanent, number, number_in, said, text};
use crate::sign::hmac_sha256;
use crate::steps::Steps;
use crate::token::{Granted, TokenCache};
use crate::uploads::Uploads;
use crate::words::{CALLS, cut, disarm};

/// Longest text, bytes of UTF-8: with quotes and line feeds escaped it still fits the body's 20 KB.
pub const MAX_TEXT_BYTES: usize = 8_000;
/// Largest picture, bytes.
pub const MAX_PICTURE_BYTES: usize = 10 * 1024 * 1024;
/// Messages a minute.
pub const MESSAGES_PER_MINUTE: usize = 100;
/// Messages a second.
pub const MESSAGES_PER_SECOND: usize = 5;

/// Images stay; the limit is for the memory of names only.
const IMAGES_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of one robot.
#[derive(Debug, Clone)]
pub struct FeishuSettings {
    /// What all channels have.
    pub common: Common,
    /// The robot's whole address.
    pub endpoint: SecretUrl,
    /// Key of the signature (签名校验), where the robot wants one.
    pub secret: Option<Secret>,
    /// The application that uploads pictures.
    pub application: Option<FeishuApplication>,
    /// Messages a minute, at most [`MESSAGES_PER_MINUTE`].
    pub per_minute: usize,
}

/// The application that uploads pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeishuApplication {
    /// Its id, `cli_…`.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

impl FeishuSettings {
    /// Settings with the defaults.
    pub fn new(name: impl Into<String>, endpoint: SecretUrl, secret: Option<Secret>) -> Self {
        let common = Common::new(name);
        Self { common, endpoint, secret, application: None, per_minute: MESSAGES_PER_MINUTE }
    }
}

/// One robot.
pub struct Feishu {
    settings: FeishuSettings,
    outlet: Outlet,
    tokens: TokenCache,
    uploads: Uploads,
}

impl Feishu {
    /// Sends through `client`; `clock` is for signature, token and rate limit, which robots with the same address share
    /// by `book`.
    pub fn new(settings: FeishuSettings, client: HttpClient, clock: Arc<dyn Clock>, book: &RateBook) -> Self {
        let gate = book.gate(
            &settings.common.name,
            &[&Secret::new("feishu"), &settings.endpoint.last_segment()],
            &[Rate::per_minute(MESSAGES_PER_MINUTE), Rate::per_second(MESSAGES_PER_SECOND)],
            &[Rate::per_minute(settings.per_minute.min(MESSAGES_PER_MINUTE))],
            Start::Fresh,
            clock.mono(),
        );
        Self {
            outlet: Outlet { common: settings.common.clone(), client, clock, gate },
            settings,
            tokens: TokenCache::default(),
            uploads: Uploads::kept_for(IMAGES_KEPT_FOR),
        }
    }

    async fn send_text(&self, words: &str, link: Option<&str>) -> Result<(), Failure> {
        let mut words = cut(&disarm(words, CALLS), MAX_TEXT_BYTES);
        if let Some(link) = link {
            words.push('\n');
            words.push_str(link);
        }
        self.post("text", json!({ "text": words })).await
    }

    async fn send_picture(
        &self,
        message: &Message<'_>,
        application: &FeishuApplication,
        picture: &[u8],
    ) -> Result<(), Failure> {
        self.outlet.check_rate()?;
        let upload = self.upload(application, picture);
        let key = self.uploads.name_of(message.id, "image", self.outlet.clock.mono(), upload).await?;
        self.post("image", json!({ "image_key": key })).await
    }

    async fn post(&self, kind: &str, content: Value) -> Result<(), Failure> {
        self.outlet.take_place()?;
        let mut message = json!({"msg_type": kind, "content": content});
        if let Some(secret) = &self.settings.secret {
            let (timestamp, sign) = signature(secret, self.outlet.clock.wall().0.div_euclid(1_000_000));
            message["timestamp"] = timestamp.into();
            message["sign"] = sign.into();
        }
        let reply = self.outlet.client.post_json(&self.settings.endpoint, &message).await?;
        self.read(reply, &self.settings.secret.iter().collect::<Vec<_>>()).map(|_| ())
    }

    /// Uploads with the token, and once more with a new one where the service does not take it.
    async fn upload(&self, application: &FeishuApplication, picture: &[u8]) -> Result<String, Failure> {
        let mut tries_left = 2;
        loop {
            let token = self.token(application).await?;
            let url = self.settings.endpoint.origin().child("open-apis/im/v1/images");
            let bearer = format!("Bearer {}", token.reveal());
            let (name, content_type) = picture_type(picture);
            let form = Form::new().text("image_type", "message").file("image", name, content_type, picture);
            let reply = self.outlet.client.post_form(&url, &[("authorization", &bearer)], form).await?;
            let answer = match self.read(reply, &[&token]) {
                Ok(answer) => answer,
                Err(failure) => {
                    tries_left -= 1;
                    if !is_about_token(&failure) {
                        return Err(failure);
                    }
                    self.tokens.forget(&token).await;
                    if tries_left == 0 {
                        return Err(failure);
                    }
                    continue;
                }
            };
            let key =
                answer.get("data").and_then(Value::as_object).map_or("", |data| text(data, "image_key"));
            if key.is_empty() {
                return Err(Failure::retry("the service took the picture but named it not"));
            }
            return Ok(key.to_owned());
        }
    }

    async fn token(&self, application: &FeishuApplication) -> Result<Secret, Failure> {
        let ask = async {
            let url = self.settings.endpoint.origin().child("open-apis/auth/v3/tenant_access_token/internal");
            let credentials = json!({"app_id": application.id, "app_secret": application.secret.reveal()});
            let reply = self.outlet.client.post_json(&url, &credentials).await?;
            let answer = self.read(reply, &[&application.secret])?;
            let (token, secs) =
                (text(&answer, "tenant_access_token"), number(&answer, "expire").unwrap_or(7_200));
            if token.is_empty() {
                return Err(Failure::retry("the service gave no tenant token"));
            }
            let lifetime = Duration::from_secs(u64::try_from(secs).unwrap_or(0));
            Ok(Granted { token: Secret::new(token), lifetime })
        };
        self.tokens.get(self.outlet.clock.as_ref(), ask).await
    }

    /// Reads an answer; `secrets` are what the request carried.
    fn read(&self, reply: Reply, secrets: &[&Secret]) -> Result<Map<String, Value>, Failure> {
        let asked = self.outlet.asked(&reply);
        let (status, answer) = self.outlet.object(reply)?;
        // Robots of the first generation answer with StatusCode.
        let Some(code) = number(&answer, "code").or_else(|| number(&answer, "StatusCode")) else {
            return Err(Failure::retry(format!(
                "status {status}, but not the service's JSON; it may have arrived"
            )));
        };
        let scrubbed = self.settings.endpoint.scrub(text(&answer, "msg"));
        let scrubbed =
            secrets.iter().fold(scrubbed, |shown, secret| shown.replace(secret.reveal(), "[redacted]"));
        let reason = said("code", code, &scrubbed);
        match code {
            0 => Ok(answer),
            11_232 | 11_233 | 99_991_400 => {
                Err(self.outlet.too_fast(asked.unwrap_or(Duration::from_secs(60)), reason))
            }
            // "Bad request" and, from some of its servers, "too many request".
            9_499 if reason.contains("too many") || reason.contains("frequency") => {
                Err(self.outlet.too_fast(asked.unwrap_or(Duration::from_secs(60)), reason))
            }
            code if is_permanent(PERMANENT, code) => Err(Failure::refused(reason)),
            _ => Err(Failure::Retry { after: asked, reason }),
        }
    }
}

/// Codes that the same message gets again until a person changes something, by what they mean.
const PERMANENT: Codes = &[
    ("no such robot", &[19_001]),
    ("signature or time wrong", &[19_021]),
    ("address not allowed", &[19_022]),
    ("keyword missing", &[19_024]),
    ("body not what it takes", &[9_499, 19_002]),
    ("application unknown", &[10_003, 10_014]),
    ("application without the right", &[99_991_672]),
    ("the picture is none, or too large", &[234_001, 234_006, 234_011]),
];

/// Codes that say that the tenant token is none or old; a new one helps.
const TOKEN_CODES: [i64; 4] = [99_991_661, 99_991_663, 99_991_664, 99_991_668];

fn is_about_token(failure: &Failure) -> bool {
    let (Failure::Retry { reason, .. } | Failure::Refused { reason }) = failure else { return false };
    number_in(reason, "code ").is_some_and(|code| TOKEN_CODES.contains(&code))
}

/// Timestamp and signature for a time in seconds.
fn signature(secret: &Secret, now_secs: i64) -> (String, String) {
    let timestamp = now_secs.to_string();
    let key = format!("{timestamp}\n{}", secret.reveal());
    (timestamp, STANDARD.encode(hmac_sha256(key.as_bytes(), &[])))
}

impl Messenger for Feishu {
    const KIND: &'static str = "feishu";
    const FILE_APART: bool = true;

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn clip_bytes(&self) -> Option<u64> {
        None
    }

    fn picture_bytes(&self) -> Option<u64> {
        self.settings.application.as_ref().map(|_| MAX_PICTURE_BYTES as u64)
    }

    async fn send(&self, mut message: Message<'_>) -> Outcome {
        let application = self.settings.application.as_ref();
        if application.is_some() {
            message.limit_picture(MAX_PICTURE_BYTES);
        }
        let mut steps = Steps::of_message(message.sent);
        let result = async {
            steps.take(self.send_text(&message.text, None)).await?;
            if let (Some(application), Some(picture)) = (application, message.picture) {
                steps.take(self.send_picture(&message, application, picture)).await?;
            }
            Ok(())
        };
        let result = result.await;
        steps.outcome(result)
    }

    async fn send_clip(&self, clip: Clip<'_>) -> Outcome {
        let mut steps = Steps::of_clip(clip.sent);
        let result = match clip.form {
            ClipForm::Link(link) => steps.take(self.send_text(&clip.text, Some(link))).await,
            ClipForm::File(_) => Err(Failure::refused("robots of Feishu take no files")),
        };
        steps.outcome(result)
    }

    fn explain_own(&self, reason: &str) -> Option<&'static str> {
        match number_in(reason, "code ")? {
            19_001 => {
                Some("There is no robot under this address. Copy the robot's whole address into url again.")
            }
            19_021 => Some(
                "Copy the key of the robot's signature check (签名校验) into secret, and check this machine's clock: it \
                 must be right to the hour.",
            ),
            19_022 => {
                Some("Add the address from which this node reaches the internet to the robot's allowed ones.")
            }
            19_024 => Some(
                "The robot's security settings ask for a keyword (自定义关键词). Set the keyword Meerkat there: every \
                 message contains it.",
            ),
            11_232 | 11_233 | 99_991_400 => {
                Some("The robot has sent too fast, perhaps by somebody else. Wait a minute.")
            }
            10_003 | 10_014 => Some("app_id or app_secret is not that of the application."),
            99_991_672 => Some(
                "The application lacks the right to upload pictures: give it im:resource and publish a version of it.",
            ),
            _ => None,
        }
    }
}

impl fmt::Debug for Feishu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feishu").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
