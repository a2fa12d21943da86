//! Settings of e-mail. Whether an address is one to the last letter is seen when the channel is made.

use meerkat_base::Secret;

use super::ca_file::CaFile;
use super::keys::{host, is_this_machine, list_of, no_proxy, required, user_and_password};
use crate::reader::Reader;
use crate::rule::{self, Rule, choice, flag};

/// Recipients at most.
const MOST_RECIPIENTS: usize = 50;

/// A mail server and who is written to.
#[derive(Debug, Clone, PartialEq)]
pub struct EmailTarget {
    /// The server, a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is protected.
    pub encryption: MailEncryption,
    /// Whether letters and the password may travel in the clear beyond this machine.
    pub allow_plaintext: bool,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
    /// The only authorities that are trusted with the server's certificate.
    pub ca_file: Option<CaFile>,
    /// Who it comes from.
    pub from: String,
    /// Who gets it; never empty.
    pub to: Vec<String>,
    /// Letters in a minute at most.
    pub per_minute: usize,
    /// Larger clips become links, bytes.
    pub max_clip_bytes: u64,
}

/// How the way to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEncryption {
    /// STARTTLS, at port 587 unless said otherwise.
    StartTls,
    /// TLS from the first byte, at port 465 unless said otherwise.
    Tls,
    /// None, at port 25 unless said otherwise.
    None,
}

impl EmailTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = |name: &str| format!("{section}.{name}");
        let server = required(reader, &key("host"), host());
        let words = &[
            ("starttls", MailEncryption::StartTls),
            ("tls", MailEncryption::Tls),
            ("none", MailEncryption::None),
        ];
        let encryption =
            reader.read_if(&key("encryption"), choice(words)).unwrap_or(MailEncryption::StartTls);
        let usual = match encryption {
            MailEncryption::StartTls => 587,
            MailEncryption::Tls => 465,
            MailEncryption::None => 25,
        };
        let port = reader.read_if(&key("port"), rule::port()).unwrap_or(usual);
        let allow_plaintext = reader.read_if(&key("allow_plaintext"), flag()).unwrap_or(false);
        let elsewhere = server.as_ref().is_some_and(|server| !is_this_machine(server));
        if encryption == MailEncryption::None && elsewhere && !allow_plaintext {
            let complaint = "letters would travel in the clear beyond this machine: set it to \"starttls\" or \"tls\" \
                             (or allow_plaintext = true, if you must)";
            reader.complain(&key("encryption"), complaint);
        }
        let credentials = user_and_password(reader, section);
        let ca_file = CaFile::read(reader, section);
        let from = required(reader, &key("from"), mailbox());
        let to = required(reader, &key("to"), list_of(MOST_RECIPIENTS, mailbox()));
        let per_minute = reader.read_if(&key("per_minute"), rule::count(1..=600)).unwrap_or(20);
        let limit = reader.read_if(&key("max_clip_bytes"), rule::whole(0..=50_000_000)).unwrap_or(10_485_760);
        no_proxy(reader, section, "mail is not sent through HTTP proxies");
        Some(Self {
            host: server?,
            port,
            encryption,
            allow_plaintext,
            credentials,
            ca_file,
            from: from?,
            to: to?,
            per_minute,
            max_clip_bytes: limit,
        })
    }
}

/// `alerts@example.org` or `Meerkat <alerts@example.org>`.
fn mailbox() -> Rule<String> {
    let text = rule::text(3..=320);
    let allowed = "a mail address, such as \"alerts@example.org\" or \"Meerkat <alerts@example.org>\"";
    Rule::new(allowed, move |value| {
        text.parse(value).filter(|address| {
            let bare = match address.split_once('<') {
                Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
                None => address,
            };
            let parts: Vec<&str> = bare.split('@').collect();
            parts.len() == 2
                && parts.iter().all(|part| !part.is_empty())
                && !bare.contains(char::is_whitespace)
        })
    })
}
