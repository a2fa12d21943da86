//! An application (自建应用) of WeCom (企业微信): sends text, picture and video to members, departments and tags.
//!
//! What the service allows, and what follows from it here:
//!
//! - An access token by corp id and secret, good for two hours: kept, renewed before its end, and at once when the service
//!   says that it is none (40014) or old (42001).
//! - Pictures and videos are uploaded first, up to 10 MB each, and kept for three days.
//! - A member gets at most 30 messages a minute and 1,000 an hour from one application. **What is more is dropped without
//!   a word**, so the limit here counts every message as one to every member, counts all channels of the application
//!   together, and gives a node that was just started half of it.
//! - Only from addresses that the application trusts; 60020 says which address was seen.
//! - A text has at most 2,048 bytes. `<a href>` makes links: angle brackets go out in their full-width forms.
//!
//! The steps of an alert are the text (1) and the picture (2).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{Clock, Secret};
use meerkat_outbound::{Form, HttpClient, Reply, SecretUrl};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::channel::{Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::message::{Clip, ClipForm, Message, Messenger, clip_type, picture_type};
use crate::outlet::{Codes, Common, Outlet, is_permanent, number, number_in, said, text};
use crate::steps::Steps;
use crate::token::{Granted, TokenCache};
use crate::uploads::Uploads;
use crate::wecom::{DEFAULT_BASE, MAX_TEXT_BYTES};
use crate::words::{CALLS, cut, disarm};

/// Largest picture or video, bytes.
pub const MAX_MEDIA_BYTES: usize = 10 * 1024 * 1024;
/// Messages a minute to one member.
pub const MESSAGES_PER_MINUTE: usize = 30;
/// Messages an hour to one member.
pub const MESSAGES_PER_HOUR: usize = 1_000;

const MEDIA_KEPT_FOR: Duration = Duration::from_secs(70 * 60 * 60);

/// The settings of one application's channel.
#[derive(Debug, Clone)]
pub struct WecomAppSettings {
    /// What all channels have.
    pub common: Common,
    /// Where the service lives.
    pub base: SecretUrl,
    /// The enterprise.
    pub corp_id: String,
    /// The application's number.
    pub agent_id: u32,
    /// The application's secret.
    pub secret: Secret,
    /// Who gets the messages.
    pub receivers: Receivers,
    /// Messages a minute, at most [`MESSAGES_PER_MINUTE`].
    pub per_minute: usize,
    /// Messages an hour, at most [`MESSAGES_PER_HOUR`].
    pub per_hour: usize,
}

/// Who gets the messages of an application. All that are named, together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receivers {
    /// Ids of members.
    pub users: Vec<String>,
    /// Numbers of departments.
    pub parties: Vec<u32>,
    /// Numbers of tags.
    pub tags: Vec<u32>,
}

impl WecomAppSettings {
    /// Settings with the defaults.
    pub fn new(
        name: impl Into<String>,
        corp_id: &str,
        agent_id: u32,
        secret: Secret,
        receivers: Receivers,
    ) -> Result<Self, meerkat_outbound::BadUrl> {
        Ok(Self {
            common: Common::new(name),
            base: SecretUrl::parse(DEFAULT_BASE)?,
            corp_id: corp_id.to_owned(),
            agent_id,
            secret,
            receivers,
            per_minute: MESSAGES_PER_MINUTE,
            per_hour: MESSAGES_PER_HOUR,
        })
    }
}

/// One application.
pub struct WecomApp {
    settings: WecomAppSettings,
    outlet: Outlet,
    tokens: TokenCache,
    uploads: Uploads,
}

/// What is asked of the service with a token.
enum Call<'a> {
    Send(&'a Value),
    Upload(&'a Upload<'a>),
}

/// A file that goes ahead of its message.
struct Upload<'a> {
    /// `image` or `video`.
    kind: &'static str,
    name: &'a str,
    content_type: &'static str,
    bytes: &'a [u8],
}

/// Why one call failed: for good or for now, or because of the token.
enum CallFailure {
    Token(Failure),
    Other(Failure),
}

impl From<Failure> for CallFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl WecomApp {
    /// Sends through `client`; `clock` is for rate limits and the token. Channels of the same application share the
    /// limits by `book`.
    pub fn new(
        settings: WecomAppSettings,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        book: &RateBook,
    ) -> Self {
        let own = [
            Rate::per_minute(settings.per_minute.min(MESSAGES_PER_MINUTE)),
            Rate::per_hour(settings.per_hour.min(MESSAGES_PER_HOUR)),
        ];
        // The limit is the application's, whoever it writes to: members can be reached in several ways.
        let named = Secret::new(format!("wecom_app {} {}", settings.corp_id, settings.agent_id));
        let rates = [Rate::per_minute(MESSAGES_PER_MINUTE), Rate::per_hour(MESSAGES_PER_HOUR)];
        let gate = book.gate(&settings.common.name, &[&named], &rates, &own, Start::Cautious, clock.mono());
        Self {
            outlet: Outlet { common: settings.common.clone(), client, clock, gate },
            settings,
            tokens: TokenCache::default(),
            uploads: Uploads::kept_for(MEDIA_KEPT_FOR),
        }
    }

    async fn send_text(&self, text: &str, link: Option<&str>, is_test: bool) -> Result<(), Failure> {
        let room = MAX_TEXT_BYTES.saturating_sub(link.map_or(0, |link| link.len() + 1));
        let mut content = cut(&disarm(text, CALLS), room);
        if let Some(link) = link {
            content.push('\n');
            content.push_str(link);
        }
        self.post("text", json!({ "content": content }), is_test).await
    }

    async fn send_picture(&self, message: &Message<'_>, picture: &[u8]) -> Result<(), Failure> {
        let (name, content_type) = picture_type(picture);
        let upload = Upload { kind: "image", name, content_type, bytes: picture };
        self.send_media((message.id, "image"), &upload, json!({}), message.is_test).await
    }

    async fn send_video(&self, clip: &Clip<'_>, file: &[u8]) -> Result<(), Failure> {
        // Title and description have at most 128 and 512 bytes.
        let text = disarm(&clip.text, CALLS);
        let title = text.lines().next().unwrap_or_default();
        let words = json!({"title": cut(title, 128), "description": cut(&text, 512)});
        let upload =
            Upload { kind: "video", name: clip.name, content_type: clip_type(clip.name), bytes: file };
        self.send_media((clip.id, &clip.part), &upload, words, false).await
    }

    /// Uploads and sends; the message has `words` beside the name that the service gives to the upload. The file is known by
    /// its message and by what it is of it.
    async fn send_media(
        &self,
        (id, what): (Uuid, &str),
        upload: &Upload<'_>,
        mut words: Value,
        is_test: bool,
    ) -> Result<(), Failure> {
        self.outlet.check_rate()?;
        let now = self.outlet.clock.mono();
        let media = self.uploads.name_of(id, what, now, self.upload(upload)).await?;
        words["media_id"] = media.as_str().into();
        let sent = self.post(upload.kind, words, is_test).await;
        if matches!(&sent, Err(Failure::Refused { .. })) {
            self.uploads.forget(&media);
        }
        sent
    }

    async fn upload(&self, upload: &Upload<'_>) -> Result<String, Failure> {
        let answer = self.call(&Call::Upload(upload)).await?;
        match text(&answer, "media_id") {
            "" => Err(Failure::retry("the service took the file but named it not")),
            media => Ok(media.to_owned()),
        }
    }

    async fn post(&self, kind: &str, content: Value, is_test: bool) -> Result<(), Failure> {
        self.outlet.take_place()?;
        let mut message = json!({"msgtype": kind, "agentid": self.settings.agent_id, "safe": 0});
        message[kind] = content;
        let Receivers { users, parties, tags } = &self.settings.receivers;
        let numbers = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join("|");
        for (key, list) in
            [("touser", users.join("|")), ("toparty", numbers(parties)), ("totag", numbers(tags))]
        {
            if !list.is_empty() {
                message[key] = list.into();
            }
        }
        let answer = self.call(&Call::Send(&message)).await?;
        if !is_test {
            return Ok(());
        }
        // Some got it; in a test somebody wants to know who did not.
        for key in ["invaliduser", "invalidparty", "invalidtag", "unlicenseduser"] {
            let missed = text(&answer, key);
            if !missed.is_empty() {
                return Err(Failure::refused(format!(
                    "{key}: {}",
                    meerkat_base::text::shown(missed.as_bytes())
                )));
            }
        }
        Ok(())
    }

    /// Calls with the token, and once more with a new one where the service does not take it.
    async fn call(&self, call: &Call<'_>) -> Result<Map<String, Value>, Failure> {
        let token = self.token().await?;
        match self.call_once(call, &token).await {
            Ok(answer) => return Ok(answer),
            Err(CallFailure::Other(failure)) => return Err(failure),
            Err(CallFailure::Token(_)) => self.tokens.forget(&token).await,
        }
        let token = self.token().await?;
        match self.call_once(call, &token).await {
            Ok(answer) => Ok(answer),
            Err(CallFailure::Other(failure)) => Err(failure),
            Err(CallFailure::Token(failure)) => {
                self.tokens.forget(&token).await;
                Err(failure)
            }
        }
    }

    async fn call_once(&self, call: &Call<'_>, token: &Secret) -> Result<Map<String, Value>, CallFailure> {
        let below = |path| self.settings.base.below(path, "access_token", token);
        let client = &self.outlet.client;
        let reply = match call {
            Call::Send(message) => client.post_json(&below("cgi-bin/message/send"), message).await,
            Call::Upload(upload) => {
                let url = below("cgi-bin/media/upload").and("type", upload.kind);
                let form = Form::new().file("media", upload.name, upload.content_type, upload.bytes);
                client.post_form(&url, &[], form).await
            }
        };
        self.read(reply.map_err(Failure::from)?, token)
    }

    async fn token(&self) -> Result<Secret, Failure> {
        self.tokens.get(self.outlet.clock.as_ref(), self.ask_token()).await
    }

    async fn ask_token(&self) -> Result<Granted, Failure> {
        let corp_id = Secret::new(self.settings.corp_id.as_str());
        let url = self
            .settings
            .base
            .below("cgi-bin/gettoken", "corpid", &corp_id)
            .and("corpsecret", self.settings.secret.reveal());
        let reply = self.outlet.client.get(&url, &[]).await?;
        let answer = self.read(reply, &self.settings.secret).map_err(|failure| match failure {
            CallFailure::Token(failure) | CallFailure::Other(failure) => failure,
        })?;
        let (token, secs) = (text(&answer, "access_token"), number(&answer, "expires_in").unwrap_or(7_200));
        if token.is_empty() {
            return Err(Failure::retry("the service gave no access token"));
        }
        let lifetime = Duration::from_secs(u64::try_from(secs).unwrap_or(0));
        Ok(Granted { token: Secret::new(token), lifetime })
    }

    /// Reads an answer; `secret` is what the request carried.
    fn read(&self, reply: Reply, secret: &Secret) -> Result<Map<String, Value>, CallFailure> {
        let answer = self.outlet.object_under_200(reply)?;
        let Some(code) = number(&answer, "errcode") else {
            return Err(Failure::retry("status 200, but not the service's JSON; it may have arrived").into());
        };
        let message = text(&answer, "errmsg");
        let shown = message.replace(secret.reveal(), "[redacted]");
        let reason = match (code, untrusted_address(message)) {
            (60020, Some(address)) => format!("errcode 60020: the application does not trust {address}"),
            _ => said("errcode", code, &shown),
        };
        match code {
            0 => Ok(answer),
            40014 | 42001 | 41001 => Err(CallFailure::Token(Failure::retry(reason))),
            45009 => Err(self.outlet.too_fast(Duration::from_secs(60), reason).into()),
            code if is_permanent(PERMANENT, code) => Err(Failure::refused(reason).into()),
            _ => Err(Failure::retry(reason).into()),
        }
    }
}

/// Codes that the same message gets again until a person changes something, by what they mean.
const PERMANENT: Codes = &[
    ("secret, enterprise or application wrong", &[40_001, 40_013, 40_056, 301_002]),
    ("address not trusted", &[60_020]),
    ("no rights", &[48_002, 60_011]),
    ("nobody to send to", &[81_013, 40_003, 40_031, 40_032]),
    (
        "not what the service takes",
        &[40_004, 40_005, 40_006, 40_007, 40_008, 40_009, 40_058, 44_001, 44_004, 45_001, 45_002, 47_001],
    ),
];

/// The address that the service saw, out of "not allow to access from your ip, …, from ip: 203.0.113.7, …".
fn untrusted_address(message: &str) -> Option<IpAddr> {
    let rest = message.split_once("from ip:")?.1.trim_start();
    let end = rest.find(|c: char| c != ':' && c != '.' && !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

impl Messenger for WecomApp {
    const KIND: &'static str = "wecom_app";
    const FILE_APART: bool = true;

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn picture_bytes(&self) -> Option<u64> {
        Some(MAX_MEDIA_BYTES as u64)
    }

    fn clip_bytes(&self) -> Option<u64> {
        Some(MAX_MEDIA_BYTES as u64)
    }

    async fn send(&self, mut message: Message<'_>) -> Outcome {
        message.limit_picture(MAX_MEDIA_BYTES);
        let mut steps = Steps::of_message(message.sent);
        let result = async {
            steps.take(self.send_text(&message.text, None, message.is_test)).await?;
            if let Some(picture) = message.picture {
                steps.take(self.send_picture(&message, picture)).await?;
            }
            Ok(())
        };
        let result = result.await;
        steps.outcome(result)
    }

    async fn send_clip(&self, clip: Clip<'_>) -> Outcome {
        let mut steps = Steps::of_clip(clip.sent);
        let result = match clip.form {
            ClipForm::File(file) => steps.take(self.send_video(&clip, file)).await,
            ClipForm::Link(link) => steps.take(self.send_text(&clip.text, Some(link), false)).await,
        };
        steps.outcome(result)
    }

    fn explain_own(&self, reason: &str) -> Option<&'static str> {
        if reason.starts_with("invalid") {
            return Some(
                "These receivers do not exist or may not see the application: check their ids and the application's \
                 visible range (可见范围).",
            );
        }
        if reason.starts_with("unlicenseduser") {
            return Some("These members have no licence for the interface (基础接口许可).");
        }
        match number_in(reason, "errcode ")? {
            60020 => Some(
                "The address named here is the one from which this node (or its proxy) reaches WeCom. Add it in the \
                 application's trusted addresses (企业可信IP), or send through a proxy whose address stands there.",
            ),
            40001 => {
                Some("The secret does not belong to the application: copy it again (应用管理, 应用, Secret).")
            }
            40013 => Some("The corp id is wrong: it stands in the enterprise's own page (我的企业, 企业ID)."),
            40056 | 301_002 => Some("agent_id is not that of the application whose secret is set."),
            81013 => Some(
                "None of the receivers exists or may see the application: check users, parties, tags and the \
                 application's visible range (可见范围).",
            ),
            48002 | 60011 => Some("The application lacks the right to do this."),
            45009 => Some("The enterprise has called the interface too often. Wait a minute."),
            _ => None,
        }
    }
}

impl fmt::Debug for WecomApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WecomApp").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
