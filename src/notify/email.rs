//! E-mail: one letter per alert, with the picture in it, and another for the clip. What a letter looks like is in
//! `letter`, the conversation with the server in `post`.
//!
//! Every letter's Message-ID is made of the alert's id and of which part of the alert it is: a letter that is sent again
//! because nobody knows whether it arrived is the same letter, and mail systems that compare ids show it once. Of several
//! recipients those who have got it are remembered (see `receivers`), so that one whose server is slow costs the others no
//! copies; nor does that one say anything about the channel.

mod letter;
mod post;
mod receivers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lettre::Address;
use lettre::message::Mailbox;
use meerkat_base::{Clock, EventKind, Secret};
use meerkat_outbound::ExtraRoots;
use tracing::warn;
use uuid::Uuid;

use crate::alert::{Alert, ClipPart, Digest, PicturePolicy, TestMessage};
use crate::channel::{Channel, Delivery, Earlier, Failure, Outcome};
use crate::limiter::{Gate, Rate, RateBook, Start};
use crate::render::{self, Style};

use letter::Letter;
use post::Server;
use receivers::{Had, Partly};

pub use receivers::MailMemory;

/// How the way to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// In the clear at first, then STARTTLS (RFC 3207); a server that does not offer it gets nothing.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// None: on this machine only, unless [`EmailSettings::allow_plaintext`].
    None,
}

/// The settings of one e-mail channel.
#[derive(Debug, Clone)]
pub struct EmailSettings {
    /// Name of the channel.
    pub name: String,
    /// The server that letters are handed to, a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is protected.
    pub encryption: Encryption,
    /// Whether letters and the password may travel in the clear beyond this machine.
    pub allow_plaintext: bool,
    /// User and password, where the server wants them.
    pub credentials: Option<(String, Secret)>,
    /// The only authorities that are trusted with the server's certificate; none: the system's.
    pub roots: Option<ExtraRoots>,
    /// Whether a link-local server may be reached.
    pub allow_link_local: bool,
    /// Who it comes from: `alerts@example.org` or `Meerkat <alerts@example.org>`.
    pub from: String,
    /// Who gets it, in the same form; at least one.
    pub to: Vec<String>,
    /// Letters in any minute at most.
    pub per_minute: usize,
    /// Larger pictures stay behind, bytes.
    pub max_picture_bytes: usize,
    /// Larger clips stay behind, bytes; a link goes in their place.
    pub max_clip_bytes: u64,
    /// Which pictures it may send.
    pub pictures: PicturePolicy,
    /// How the text is written.
    pub style: Style,
}

impl EmailSettings {
    /// Settings with the defaults: STARTTLS at port 587, 20 letters a minute, pictures up to 4 MiB, clips up to 10 MiB.
    pub fn new(
        name: impl Into<String>,
        host: impl Into<String>,
        from: impl Into<String>,
        to: Vec<String>,
    ) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port: 587,
            encryption: Encryption::StartTls,
            allow_plaintext: false,
            credentials: None,
            roots: None,
            allow_link_local: false,
            from: from.into(),
            to,
            per_minute: 20,
            max_picture_bytes: 4 * 1024 * 1024,
            max_clip_bytes: 10 * 1024 * 1024,
            pictures: PicturePolicy::default(),
            style: Style::default(),
        }
    }
}

/// Says what of the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEmail {
    /// An address is none.
    #[error(
        "{key}: {address:?} is no mail address, such as alerts@example.org or Meerkat <alerts@example.org>"
    )]
    Address {
        /// `from` or `to`.
        key: &'static str,
        /// What was given.
        address: String,
    },
    /// There is nobody to write to.
    #[error("to: there is nobody to write to")]
    Nobody,
    /// The certificates cannot be used.
    #[error("certificates: {0}")]
    Tls(String),
}

/// One e-mail channel.
pub struct Email {
    settings: EmailSettings,
    from: Mailbox,
    to: Vec<Mailbox>,
    server: Server,
    gate: Gate,
    partly: Arc<Partly>,
    clock: Arc<dyn Clock>,
}

impl Email {
    /// Checks the addresses and reads the certificates; connects to nothing yet. What `book` and `memory` hold outlives the
    /// channel.
    pub fn new(
        settings: EmailSettings,
        clock: Arc<dyn Clock>,
        book: &RateBook,
        memory: &MailMemory,
    ) -> Result<Self, BadEmail> {
        let parse = |key, address: &String| {
            let plain = address.chars().all(|c| !c.is_control());
            let parsed = address
                .parse::<Mailbox>()
                .ok()
                .filter(|mailbox| plain && mailbox.email.to_string().is_ascii());
            parsed.ok_or_else(|| BadEmail::Address { key, address: address.clone() })
        };
        let from = parse("from", &settings.from)?;
        let to = settings.to.iter().map(|address| parse("to", address)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(BadEmail::Nobody);
        }
        let server = Server::new(&settings)?;
        // What the server allows an account is not known: all that limits the channel are its settings.
        let user = settings.credentials.as_ref().map_or(settings.from.as_str(), |(user, _)| user);
        let account = ["email", &settings.host, user].map(Secret::new);
        let own = [Rate { most: settings.per_minute, window: Duration::from_secs(60) }];
        let gate = book.gate(&settings.name, &account.each_ref(), &[], &own, Start::Fresh, clock.mono());
        let partly = memory.of(&settings.name);
        Ok(Self { settings, from, to, server, gate, partly, clock })
    }

    async fn alert(&self, alert: &Alert) -> Outcome {
        let picture = self.settings.pictures.picture(alert);
        let kept = picture.filter(|picture| picture.len() <= self.settings.max_picture_bytes);
        let mut text = render::alert_text(alert, &self.settings.style);
        if picture.is_some() && kept.is_none() {
            text.push_str(render::picture_omitted(self.settings.style.language));
        }
        let references = vec![format!("event.{}", alert.event)];
        self.send(alert.id.to_string(), references, &text, (kept, None), alert.already_sent).await
    }

    async fn clip(&self, alert: &Alert, clip: &ClipPart) -> Outcome {
        let file = clip.file.as_ref().filter(|file| file.len() as u64 <= self.settings.max_clip_bytes);
        // The link would be one more thing to leak where the clip itself goes along.
        let shown = ClipPart { link: clip.link.clone().filter(|_| file.is_none()), ..clip.clone() };
        if file.is_none() && shown.link.is_none() {
            let reason = "the clip is too large for a letter, and the node has no public address to link to";
            return Failure::refused(reason).into_outcome(0);
        }
        let mut text = render::clip_text(alert, &shown, &self.settings.style);
        if let Some(link) = shown.link.as_ref().filter(|link| !text.contains(link.as_str())) {
            text.push('\n');
            text.push_str(link);
        }
        let references = vec![format!("event.{}", alert.event), alert.id.to_string()];
        let file = file.map(|file| (clip.name.as_str(), file));
        self.send(
            format!("{}.{}", alert.id, clip.word()),
            references,
            &text,
            (None, file),
            alert.already_sent,
        )
        .await
    }

    async fn send(
        &self,
        id: String,
        references: Vec<String>,
        text: &str,
        (picture, file): (Option<&Bytes>, Option<(&str, &Bytes)>),
        already_sent: u8,
    ) -> Outcome {
        let letter = Letter {
            from: &self.from,
            to: &self.to,
            id: &id,
            references: &references,
            date: self.clock.wall(),
            text,
            picture,
            file,
        };
        let bytes = match letter.bytes() {
            Ok(bytes) => bytes,
            Err(reason) => {
                let reason = format!("cannot be written as a letter: {reason}");
                return Failure::refused(reason).into_outcome(already_sent);
            }
        };
        let now = self.clock.mono();
        if let Err(wait) = self.gate.take(now) {
            return Outcome::Held { wait, sent: already_sent };
        }
        // Whoever knows the addresses knows more than the number.
        let mut had = self.partly.of(&id).unwrap_or_else(|| Had::from_kept(already_sent, &self.to));
        let outcome = self.hand_over(&mut had, &bytes, already_sent).await;
        match outcome {
            Outcome::Delivered | Outcome::Refused { .. } => self.partly.forget(&id),
            _ => self.partly.note(id, had),
        }
        outcome
    }

    /// Hands a letter over for everybody who has not got it yet, and notes who has then.
    async fn hand_over(&self, had: &mut Had, letter: &[u8], already_sent: u8) -> Outcome {
        let before = had.kept(&self.to);
        let addresses: Vec<&Address> =
            self.to.iter().map(|mailbox| &mailbox.email).filter(|address| !had.has(address)).collect();
        if addresses.is_empty() {
            return Outcome::Delivered;
        }
        let posted = match self.server.post(&self.from.email, &addresses, letter).await {
            Ok(posted) => posted,
            Err(failure) => return failure.into_outcome(already_sent),
        };
        let named = |places: &[(usize, String)]| {
            let shown: Vec<&str> = places.iter().map(|(_, why)| why.as_str()).collect();
            shown.join("; ")
        };
        let at = |place: &usize| addresses.get(*place).map(|address| (*address).clone());
        let is_news = posted
            .refused
            .iter()
            .filter_map(|(place, _)| at(place))
            .any(|address| !had.refused.contains(&address));
        if is_news && (!posted.accepted.is_empty() || !posted.delayed.is_empty()) {
            let channel = &self.settings.name;
            warn!(channel, reason = named(&posted.refused), "some recipients are refused for good");
        }
        // What they said before counts no more.
        had.refused.retain(|address| !addresses.contains(&address));
        had.accepted.extend(posted.accepted.iter().filter_map(at));
        had.refused.extend(posted.refused.iter().filter_map(|(place, _)| at(place)));
        let (sent, reason) = (had.kept(&self.to), named(&posted.delayed));
        match (posted.delayed.is_empty(), sent) {
            (true, 0) if had.accepted.is_empty() => {
                Outcome::Refused { reason: named(&posted.refused), sent: 0 }
            }
            // Perhaps nobody of those that it goes to now, but of those that it went to.
            (true, _) => Outcome::Delivered,
            // Somebody has it since now, or nobody has.
            (false, _) if sent > before || sent == 0 => Outcome::Retry { after: None, reason, sent },
            (false, _) => Outcome::PutOff { reason, sent },
        }
    }

    async fn words(&self, id: Uuid, text: &str, already_sent: u8) -> Outcome {
        self.send(id.to_string(), Vec::new(), text, (None, None), already_sent).await
    }
}

impl Channel for Email {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn kind(&self) -> &'static str {
        "email"
    }

    fn ready_in(&self) -> Duration {
        self.gate.wait(self.clock.mono())
    }

    fn remember(&self, earlier: &[Earlier]) {
        let ages: Vec<Duration> = earlier.iter().map(|one| one.ago).collect();
        self.gate.remember(self.clock.mono(), &ages);
    }

    fn picture_limit(&self) -> Option<u64> {
        Some(self.settings.max_picture_bytes as u64)
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        Box::pin(self.alert(alert))
    }

    fn clip_limit(&self) -> Option<u64> {
        Some(self.settings.max_clip_bytes)
    }

    fn takes_clip_of(&self, kind: EventKind) -> bool {
        self.settings.pictures.allows_clip(kind)
    }

    fn deliver_clip<'a>(&'a self, alert: &'a Alert, clip: &'a ClipPart) -> Delivery<'a> {
        if !self.settings.pictures.allows_clip(alert.kind) {
            let reason = "the channel's settings keep this clip at home";
            return Box::pin(async move { Failure::refused(reason).into_outcome(0) });
        }
        Box::pin(self.clip(alert, clip))
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        Box::pin(async move {
            let text = render::digest_text(digest, &self.settings.style);
            self.words(digest.id, &text, digest.already_sent).await
        })
    }

    fn deliver_test<'a>(&'a self, test: &'a TestMessage) -> Delivery<'a> {
        Box::pin(async move {
            let text = render::test_text(&self.settings.name, test.time, &self.settings.style);
            self.words(test.id, &text, 0).await
        })
    }

    fn explain(&self, reason: &str) -> Option<&'static str> {
        post::explain(reason)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("name", &self.settings.name)
            .field("host", &self.settings.host)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
