//! A topic of an ntfy server: a message with the snapshot attached, later the clip.
//!
//! What the service allows, and what follows from it here:
//!
//! - The topic is as good as a password on servers without users: nothing of the address is ever shown.
//! - A message has at most 4,096 bytes (a longer one would become an attachment) and is the body of the request, or, where
//!   the body is the attached file, a header: encoded (RFC 2047, which servers from 2.5 on read), at most 2,000 bytes, for
//!   proxies limit headers.
//! - The public server takes attachments up to 15 MB and keeps them for three hours; other servers have limits of their
//!   own, so these are settings. A server that refuses the attachment gets the text alone.
//! - The public server takes 60 requests at once and then one in 5 s: at most 60 in any 5 minutes is on the safe side.
//!   429 is answered with a wait, an hour where the day's messages are used up.
//! - Text is plain (no Markdown is asked for). Priority follows severity: info 2, warning 4, critical 5.
//!
//! The steps of an alert are, where its text does not fit a header, text and attachment, else the one message.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use meerkat_base::{Clock, EventKind, Secret, Severity};
use meerkat_outbound::{HttpClient, Reply, SecretUrl};
use serde_json::{Map, Value};

use crate::channel::{Failure, Outcome};
use crate::limiter::{Rate, RateBook, Start};
use crate::message::{Clip, ClipForm, Message, Messenger, clip_type, picture_type};
use crate::outlet::{Common, Outlet, number, number_in, said, text};
use crate::render::printable;
use crate::steps::Steps;
use crate::words::cut;

/// Where the public server lives.
pub const PUBLIC_SERVER: &str = "https://ntfy.sh";
const PUBLIC_HOST: &str = "ntfy.sh";
/// Longest message, bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 4_096;
/// Longest message beside an attachment, bytes of UTF-8.
pub const MAX_HEADER_TEXT_BYTES: usize = 2_000;
/// Largest attachment of the public server, bytes.
pub const PUBLIC_ATTACHMENT_BYTES: u64 = 15 * 1024 * 1024;
/// Messages a minute, over five of them.
pub const MESSAGES_PER_MINUTE: usize = 12;

/// The settings of one topic.
#[derive(Debug, Clone)]
pub struct NtfySettings {
    /// What all channels have.
    pub common: Common,
    /// The server.
    pub server: SecretUrl,
    /// The topic, `[A-Za-z0-9_-]{1,64}`.
    pub topic: Secret,
    /// Who publishes, where the server asks.
    pub login: NtfyLogin,
    /// Larger snapshots stay behind, bytes.
    pub max_snapshot_bytes: usize,
    /// Larger clips go as links, bytes.
    pub max_clip_bytes: u64,
    /// Messages a minute, over five of them.
    pub per_minute: usize,
}

/// Who publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NtfyLogin {
    /// Nobody in particular.
    Anonymous,
    /// Whoever this access token (`tk_…`) was given to.
    Token(Secret),
    /// A user of the server.
    User {
        /// Its name.
        user: String,
        /// Its password.
        password: Secret,
    },
}

impl NtfySettings {
    /// Settings with the defaults.
    pub fn new(name: impl Into<String>, server: SecretUrl, topic: Secret, login: NtfyLogin) -> Self {
        Self {
            common: Common::new(name),
            server,
            topic,
            login,
            max_snapshot_bytes: 2 * 1024 * 1024,
            max_clip_bytes: PUBLIC_ATTACHMENT_BYTES,
            per_minute: MESSAGES_PER_MINUTE,
        }
    }
}

/// One topic.
pub struct Ntfy {
    settings: NtfySettings,
    outlet: Outlet,
    endpoint: SecretUrl,
    authorization: Option<Secret>,
}

/// What goes with one request.
struct Publication<'a> {
    title: &'a str,
    severity: Severity,
    kind: Option<EventKind>,
    click: Option<&'a str>,
}

/// The file that is the body of a request.
struct Attachment<'a> {
    name: &'a str,
    content_type: &'static str,
    bytes: Bytes,
    words: &'a str,
}

impl Ntfy {
    /// Sends through `client`; `clock` is for the rate limit, which channels of the same server and login share by
    /// `book`.
    pub fn new(settings: NtfySettings, client: HttpClient, clock: Arc<dyn Clock>, book: &RateBook) -> Self {
        let authorization = match &settings.login {
            NtfyLogin::Anonymous => None,
            NtfyLogin::Token(token) => Some(Secret::new(format!("Bearer {}", token.reveal()))),
            NtfyLogin::User { user, password } => {
                let both = STANDARD.encode(format!("{user}:{}", password.reveal()));
                Some(Secret::new(format!("Basic {both}")))
            }
        };
        let rate = |per_minute: usize| Rate { most: per_minute * 5, window: Duration::from_secs(301) };
        let named = Secret::new(format!("ntfy {}", settings.server));
        let nobody = Secret::new("");
        // What the public server allows somebody without an account is known; of others only their owners know how patient
        // they are, and the settings say so.
        let is_public = settings.server.host() == PUBLIC_HOST && settings.login == NtfyLogin::Anonymous;
        let public = is_public.then(|| rate(MESSAGES_PER_MINUTE));
        let gate = book.gate(
            &settings.common.name,
            &[&named, authorization.as_ref().unwrap_or(&nobody)],
            public.as_slice(),
            &[rate(settings.per_minute)],
            Start::Fresh,
            clock.mono(),
        );
        let endpoint = settings.server.child(settings.topic.reveal());
        let outlet = Outlet { common: settings.common.clone(), client, clock, gate };
        Self { settings, outlet, endpoint, authorization }
    }

    /// Publishes words.
    async fn publish(&self, publication: &Publication<'_>, words: &str) -> Result<(), Failure> {
        let headers = self.headers(publication);
        let headers: Vec<(&'static str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // An empty message would be shown as "triggered".
        let words = if words.is_empty() { publication.title } else { words };
        let body = Bytes::from(cut(words, MAX_TEXT_BYTES));
        self.outlet.take_place()?;
        let reply =
            self.outlet.client.post_bytes(&self.endpoint, "text/plain; charset=utf-8", &headers, body);
        self.read(reply.await?)
    }

    /// Publishes a file, with words in a header.
    async fn attach(&self, publication: &Publication<'_>, attachment: Attachment<'_>) -> Result<(), Failure> {
        let mut headers = self.headers(publication);
        let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
        headers.push(("x-filename", attachment.name.chars().map(plain).collect()));
        if !attachment.words.is_empty() {
            // The server turns these two characters into a line feed.
            headers.push(("x-message", encoded_word(&attachment.words.replace('\n', "\\n"))));
        }
        let headers: Vec<(&'static str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.outlet.take_place()?;
        let reply =
            self.outlet.client.put_bytes(&self.endpoint, attachment.content_type, &headers, attachment.bytes);
        self.read(reply.await?)
    }

    fn headers(&self, publication: &Publication<'_>) -> Vec<(&'static str, String)> {
        let (priority, emoji) = match publication.severity {
            Severity::Info => ("2", "information_source"),
            Severity::Warning => ("4", "warning"),
            Severity::Critical => ("5", "rotating_light"),
        };
        let tags = match publication.kind {
            Some(kind) => format!("{emoji},{kind}"),
            None => emoji.to_owned(),
        };
        let mut headers = vec![("x-priority", priority.to_owned()), ("x-tags", tags)];
        if !publication.title.is_empty() {
            headers.push(("x-title", encoded_word(publication.title)));
        }
        if let Some(click) = publication.click {
            headers.push(("x-click", click.to_owned()));
        }
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization.reveal().to_owned()));
        }
        headers
    }

    fn read(&self, reply: Reply) -> Result<(), Failure> {
        if reply.is_success() {
            return Ok(());
        }
        let asked = self.outlet.asked(&reply);
        let (status, answer) = self.outlet.object(reply)?;
        let code = number(&answer, "code").unwrap_or_else(|| i64::from(status));
        let reason = self.reason(status, code, &answer);
        match (status, code) {
            // The messages of this day are used up.
            (429, 42_908) => Err(self.outlet.too_fast(Duration::from_secs(60 * 60), reason)),
            (429, _) => Err(self.outlet.too_fast(asked.unwrap_or(Duration::from_secs(60)), reason)),
            (407 | 408 | 425 | 500.., _) => Err(Failure::Retry { after: asked, reason }),
            _ => Err(Failure::refused(reason)),
        }
    }

    fn reason(&self, status: u16, code: i64, answer: &Map<String, Value>) -> String {
        let mut message = self.endpoint.scrub(text(answer, "error"));
        if let Some(authorization) = &self.authorization {
            message = message.replace(authorization.reveal(), "[redacted]");
        }
        format!(
            "status {status}, {}",
            said("code", code, &message.replace(self.settings.topic.reveal(), "[redacted]"))
        )
    }
}

/// A header's value that may hold any character: RFC 2047, in words of at most 75 characters, which the other side joins.
fn encoded_word(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !text.contains("=?") {
        return text.to_owned();
    }
    // 45 bytes become 60 characters of base64.
    const BYTES: usize = 45;
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1; // a character has at most four bytes
        }
        let (word, behind) = rest.split_at(end);
        words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
        rest = behind;
    }
    words.join(" ")
}

/// First line and the rest, printable.
fn title_and_words(text: &str) -> (String, String) {
    let text = printable(text);
    let (title, words) = text.split_once('\n').unwrap_or((&text, ""));
    (cut(title, 250), words.to_owned())
}

/// Whether the service refused the attachment, not the message.
fn is_about_attachment(failure: &Failure) -> bool {
    let Failure::Refused { reason } = failure else { return false };
    let attachment_code = number_in(reason, "code ").is_some_and(|code| (40_013..=40_015).contains(&code));
    number_in(reason, "status ") == Some(413) || attachment_code || reason.contains("attachment")
}

impl Messenger for Ntfy {
    const KIND: &'static str = "ntfy";
    const FILE_APART: bool = false;

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn picture_bytes(&self) -> Option<u64> {
        Some(self.settings.max_snapshot_bytes as u64)
    }

    fn clip_bytes(&self) -> Option<u64> {
        Some(self.settings.max_clip_bytes)
    }

    async fn send(&self, mut message: Message<'_>) -> Outcome {
        message.limit_picture(self.settings.max_snapshot_bytes);
        let (title, words) = title_and_words(&message.text);
        let publication =
            Publication { title: &title, severity: message.severity, kind: message.kind, click: None };
        let mut steps = Steps::of_message(message.sent);
        let result = async {
            let Some(picture) = message.picture else {
                return steps.take(self.publish(&publication, &words)).await;
            };
            let (name, content_type) = picture_type(picture);
            let fits = words.len() <= MAX_HEADER_TEXT_BYTES;
            if !fits {
                steps.take(self.publish(&publication, &words)).await?;
            }
            let with_picture = async {
                let bytes = Bytes::copy_from_slice(picture);
                let beside = if fits { words.as_str() } else { "" };
                let attachment = Attachment { name, content_type, bytes, words: beside };
                match self.attach(&publication, attachment).await {
                    Err(failure) if is_about_attachment(&failure) => {
                        let (_, words) = title_and_words(&message.text_without_picture());
                        // Words that went before need not come again.
                        if fits { self.publish(&publication, &words).await } else { Ok(()) }
                    }
                    other => other,
                }
            };
            steps.take(with_picture).await
        };
        let result = result.await;
        steps.outcome(result)
    }

    async fn send_clip(&self, clip: Clip<'_>) -> Outcome {
        let (title, words) = title_and_words(&clip.text);
        let click = match clip.form {
            ClipForm::Link(link) => Some(link),
            ClipForm::File(_) => None,
        };
        let publication =
            Publication { title: &title, severity: clip.severity, kind: Some(clip.kind), click };
        let mut steps = Steps::of_clip(clip.sent);
        let result = match clip.form {
            ClipForm::File(file) => {
                let words = cut(&words, MAX_HEADER_TEXT_BYTES);
                let attachment = Attachment {
                    name: clip.name,
                    content_type: clip_type(clip.name),
                    bytes: file.clone(),
                    words: &words,
                };
                steps.take(self.attach(&publication, attachment)).await
            }
            ClipForm::Link(link) => {
                let words = format!("{}\n{link}", cut(&words, MAX_TEXT_BYTES - link.len() - 1));
                steps.take(async { self.publish(&publication, words.trim_start()).await }).await
            }
        };
        steps.outcome(result)
    }

    fn explain_own(&self, reason: &str) -> Option<&'static str> {
        match (number_in(reason, "status ")?, number_in(reason, "code ")) {
            (429, Some(42_908)) => Some(
                "The messages of this day are used up (the public server allows few). Use an account or a server of \
                 your own.",
            ),
            (401, _) => Some("The server does not know the token, or user and password."),
            (403, _) => Some(
                "This user may not publish to the topic: give it write access (ntfy access USER TOPIC rw).",
            ),
            (404, _) => Some("The server has no such topic: a topic is 1 to 64 of A-Z, a-z, 0-9, - and _."),
            (413, _) => {
                Some("The server takes smaller attachments: lower max_snapshot_bytes and max_clip_bytes.")
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Ntfy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ntfy").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
