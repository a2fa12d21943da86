//! The conversation with the mail server (RFC 5321): who accepts the letter, who does not, and what that means for
//! another attempt. Knows nothing of what is in it.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use meerkat_base::Secret;
use meerkat_outbound::address::resolve;

use super::{BadEmail, EmailSettings, Encryption};
use crate::channel::Failure;

/// Longest wait for a connection to one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longest time for the whole conversation, and a second more for every so many bytes of the letter.
const LIMIT: Duration = Duration::from_secs(50);
const BYTES_PER_SEC: u64 = 128 * 1024;
/// A server that refuses the account rather than the letter is asked again after this long: often enough to notice that
/// the password was corrected, seldom enough not to be locked out.
const ACCOUNT_WAIT: Duration = Duration::from_secs(5 * 60);
/// What a server said is cut here, characters.
const SAID_CHARS: usize = 200;
/// By so many characters of its beginning a secret in base64 is known, though somebody cut it off after them.
const KNOWN_BY_CHARS: usize = 8;

const REDACTED: &str = "[redacted]";

/// Who got the letter; recipients by their place in the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Posted {
    pub accepted: Vec<usize>,
    /// Not now, and why.
    pub delayed: Vec<(usize, String)>,
    /// Never, and why.
    pub refused: Vec<(usize, String)>,
}

/// A mail server and how it is reached.
pub(super) struct Server {
    host: String,
    port: u16,
    encryption: Encryption,
    allow_plaintext: bool,
    allow_link_local: bool,
    tls: TlsParameters,
    credentials: Option<Credentials>,
    /// The password, and what it is in base64 by itself (AUTH LOGIN) and with the user (AUTH PLAIN).
    password: Option<Secret>,
    encoded: Vec<Secret>,
    hello: ClientId,
}

impl Server {
    pub fn new(settings: &EmailSettings) -> Result<Self, BadEmail> {
        let credentials = settings.credentials.as_ref();
        let password = credentials.map(|(_, word)| word.clone()).filter(|word| !word.reveal().is_empty());
        let encoded = credentials.filter(|_| password.is_some()).map(|(user, word)| {
            let plain = format!("\0{user}\0{}", word.reveal());
            [plain, word.reveal().to_owned()].map(|sent| Secret::new(STANDARD.encode(sent)))
        });
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            encryption: settings.encryption,
            allow_plaintext: settings.allow_plaintext,
            allow_link_local: settings.allow_link_local,
            tls: tls(settings)?,
            credentials: credentials
                .map(|(user, word)| Credentials::new(user.clone(), word.reveal().to_owned())),
            password,
            encoded: encoded.into_iter().flatten().collect(),
            hello: ClientId::default(),
        })
    }

    /// Hands one letter over. An error is about the server or the whole letter; what is about single recipients is in
    /// the answer, in which somebody accepted only if the server took the letter.
    pub async fn post(&self, from: &Address, to: &[&Address], letter: &[u8]) -> Result<Posted, Failure> {
        let limit = LIMIT + Duration::from_secs(letter.len() as u64 / BYTES_PER_SEC);
        match tokio::time::timeout(limit, self.converse(from, to, letter)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::retry(format!("{} took too long; it may have arrived", self.host))),
        }
    }

    async fn converse(&self, from: &Address, to: &[&Address], letter: &[u8]) -> Result<Posted, Failure> {
        let mut connection = self.connect().await?;
        let command = connection.command(Mail::new(Some(from.clone()), Vec::new())).await;
        command.map_err(|error| self.about_letter(&error, "the sender"))?;
        let mut posted = Posted::default();
        for (place, address) in to.iter().enumerate() {
            match connection.command(Rcpt::new((*address).clone(), Vec::new())).await {
                Ok(_) => posted.accepted.push(place),
                Err(error) if error.is_permanent() => {
                    posted.refused.push((place, self.said(&error, "a recipient")))
                }
                Err(error) if error.is_transient() => {
                    posted.delayed.push((place, self.said(&error, "a recipient")))
                }
                Err(error) => return Err(Failure::retry(self.said(&error, "a recipient"))),
            }
        }
        if posted.accepted.is_empty() {
            let _ = connection.quit().await;
            return Ok(posted);
        }
        let command = connection.command(Data).await;
        command.map_err(|error| self.about_letter(&error, "the letter"))?;
        match connection.message(letter).await {
            Ok(_) => {}
            Err(error) if error.is_permanent() || error.is_transient() => {
                return Err(self.about_letter(&error, "the letter"));
            }
            Err(error) => {
                let said = self.said(&error, "the letter");
                return Err(Failure::retry(format!("{said}; it may have arrived")));
            }
        }
        // It is theirs; whether they say good-bye does not matter.
        let _ = connection.quit().await;
        Ok(posted)
    }

    /// A connection that is protected as the settings want it, and logged in.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let addresses = resolve(&self.host, self.port, self.allow_link_local).await?;
        if self.encryption == Encryption::None && !self.allow_plaintext && !all_here(&addresses) {
            return Err(Failure::retry(format!(
                "{} is not this machine, and letters do not travel in the clear; set encryption",
                self.host
            )));
        }
        let at_once = (self.encryption == Encryption::Tls).then(|| self.tls.clone());
        let connected = AsyncSmtpConnection::connect_tokio1(
            &addresses[..],
            Some(CONNECT_LIMIT),
            &self.hello,
            at_once,
            None,
        );
        let mut connection = connected.await.map_err(|error| self.about_account(&error, "the connection"))?;
        if self.encryption == Encryption::StartTls {
            if !connection.can_starttls() {
                let _ = connection.quit().await;
                let reason = format!("{} offers no STARTTLS; nothing was sent to it", self.host);
                return Err(Failure::Retry { after: Some(ACCOUNT_WAIT), reason });
            }
            let started = connection.starttls(self.tls.clone(), &self.hello).await;
            started.map_err(|error| self.about_account(&error, "STARTTLS"))?;
        }
        if let Some(credentials) = &self.credentials {
            let logged_in = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            logged_in.map_err(|error| self.about_account(&error, "user and password"))?;
        }
        Ok(connection)
    }

    /// The server refuses what every letter would meet: none of them is to blame, and none shall die of it at once.
    fn about_account(&self, error: &Error, what: &str) -> Failure {
        let after = error.is_permanent().then_some(ACCOUNT_WAIT);
        Failure::Retry { after, reason: self.said(error, what) }
    }

    fn about_letter(&self, error: &Error, what: &str) -> Failure {
        let reason = self.said(error, what);
        if error.is_permanent() { Failure::refused(reason) } else { Failure::retry(reason) }
    }

    /// What happened in words for log and status: nothing invisible, cut, and without what we sent.
    fn said(&self, error: &Error, what: &str) -> String {
        let mut said = error.to_string();
        let mut source = std::error::Error::source(error).and_then(|first| first.source());
        while let Some(deeper) = source {
            said = format!("{said}: {deeper}");
            source = deeper.source();
        }
        let whole = crate::render::printable(&said).replace('\n', " ");
        // Before it is cut: half a password is one, too.
        let shown: String = self.scrub(whole).chars().take(SAID_CHARS).collect();
        let word = if error.is_permanent() || error.is_transient() { "refuses" } else { "failed at" };
        format!("{} {word} {what}: {shown}", self.host)
    }

    /// Takes the password out of what a server said: some answer a command with the command.
    fn scrub(&self, said: String) -> String {
        let hidden = self.encoded.iter().fold(said, |said, secret| hide(&said, secret.reveal()));
        match &self.password {
            Some(password) => hidden.replace(password.reveal(), REDACTED),
            None => hidden,
        }
    }
}

/// Takes a secret in base64 out of a text, and whatever could be the rest of it where it was cut off or goes on.
fn hide(text: &str, secret: &str) -> String {
    let known_by = secret.get(..KNOWN_BY_CHARS).unwrap_or(secret);
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, found)) = rest.split_once(known_by) {
        shown.push_str(before);
        shown.push_str(REDACTED);
        rest = found.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+/=".contains(c));
    }
    shown + rest
}

fn all_here(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
}

fn tls(settings: &EmailSettings) -> Result<TlsParameters, BadEmail> {
    let wrong = |error: Error| BadEmail::Tls(error.to_string());
    let bare = settings.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut builder = TlsParametersBuilder::new(bare);
    if let Some(roots) = &settings.roots {
        builder = builder.certificate_store(CertificateStore::None);
        for der in roots.der() {
            builder = builder.add_root_certificate(Certificate::from_der(der.to_vec()).map_err(wrong)?);
        }
    }
    builder.build().map_err(wrong)
}

/// What the owner can do about a reason that [`Server::post`] gave.
pub(super) fn explain(reason: &str) -> Option<&'static str> {
    let has = |word: &str| reason.contains(word);
    if has("offers no STARTTLS") {
        Some(
            "Servers that want TLS from the first byte listen at port 465: set encryption = \"tls\" and port = 465.",
        )
    } else if has("in the clear") {
        Some("Set encryption to \"starttls\" or \"tls\"; only a server on this machine may go without.")
    } else if has("user and password") {
        Some(
            "Check user and password. Many services want an application password, made in the account's settings, in \
             place of the one that people log in with.",
        )
    } else if has("the sender") {
        Some("Most servers let an account send only from its own address: set from to the user's address.")
    } else if has("certificate") {
        Some(
            "The server's certificate is not trusted: set host to the name in it, or ca_file to its authority.",
        )
    } else {
        None
    }
}
