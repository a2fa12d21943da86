//! Settings of MQTT and of Home Assistant's discovery.

use meerkat_base::Secret;

use super::ca_file::CaFile;
use super::keys::{is_this_machine, no_proxy, user_and_password};
use crate::reader::Reader;
use crate::rule::{self, Rule, flag};

/// A broker and what it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttTarget {
    /// The broker, a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether messages and the password may travel in the clear beyond this machine.
    pub allow_plaintext: bool,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
    /// The only authorities that are trusted with the broker's certificate.
    pub ca_file: Option<CaFile>,
    /// The node's name at the broker; `None`: made of the machine's name.
    pub client_id: Option<String>,
    /// What all topics begin with; `None`: the client id.
    pub topic_prefix: Option<String>,
    /// What discovery topics begin with; `None`: there is no discovery.
    pub discovery_prefix: Option<String>,
}

struct Address {
    host: String,
    port: u16,
    tls: bool,
}

impl MqttTarget {
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = |name: &str| format!("{section}.{name}");
        let address = read_address(reader, &key("url"));
        let allow_plaintext = reader.read_if(&key("allow_plaintext"), flag()).unwrap_or(false);
        let open = address.as_ref().is_some_and(|broker| !broker.tls && !is_this_machine(&broker.host));
        if open && !allow_plaintext {
            let complaint = "messages would travel in the clear beyond this machine: use mqtts:// (or set \
                             allow_plaintext = true, if you must)";
            reader.complain(&key("url"), complaint);
        }
        let credentials = user_and_password(reader, section);
        let ca_file = CaFile::read(reader, section);
        let client_id = reader.read_if(&key("client_id"), client_id());
        let topic_prefix = reader.read_if(&key("topic_prefix"), topic());
        let discovery = reader.read_if(&key("discovery_prefix"), rule::optional(topic()));
        no_proxy(reader, section, "MQTT does not go through HTTP proxies");
        let Address { host, port, tls } = address?;
        Some(Self {
            host,
            port,
            tls,
            allow_plaintext,
            credentials,
            ca_file,
            client_id,
            topic_prefix,
            discovery_prefix: discovery.unwrap_or_else(|| Some("homeassistant".to_owned())),
        })
    }
}

/// Reads the address of the broker; it is kept like one that carries credentials until it is known that it does not.
fn read_address(reader: &mut Reader, key: &str) -> Option<Address> {
    let before = reader.problem_count();
    let Some(url) = reader.secret(key, 1) else {
        if reader.problem_count() == before {
            reader.complain(key, format!("must be set, or {key}_file: the broker's address, mqtts://…"));
        }
        return None;
    };
    let parsed = parse_address(url.reveal());
    if let Err(complaint) = &parsed {
        let key = if reader.is_set(key) { key.to_owned() } else { format!("{key}_file") };
        reader.complain(&key, *complaint);
    }
    parsed.ok()
}

fn parse_address(url: &str) -> Result<Address, &'static str> {
    let form = "must be an address such as mqtts://broker.example.org:8883 or mqtt://127.0.0.1:1883";
    let (tls, rest) = match (url.strip_prefix("mqtts://"), url.strip_prefix("mqtt://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(form),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("must not hold user and password: they have keys of their own");
    }
    let usual = if tls { 8883 } else { 1883 };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|p| *p > 0).ok_or(form)?)
        }
        _ => (rest, usual),
    };
    if host.starts_with('[') && tls {
        return Err(
            "must name the broker where TLS is spoken: certificates are for names or IPv4 addresses here",
        );
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let fits = bare.parse::<std::net::IpAddr>().is_ok()
        || (!bare.is_empty()
            && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')));
    if fits { Ok(Address { host: host.to_owned(), port, tls }) } else { Err(form) }
}

fn client_id() -> Rule<String> {
    let text = rule::text(1..=64);
    Rule::new("1 to 64 of the characters A-Z, a-z, 0-9, _ and -", move |value| {
        text.parse(value).filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
    })
}

fn topic() -> Rule<String> {
    let text = rule::text(1..=128);
    Rule::new(
        "the beginning of topics, such as \"home/meerkat\", without + and #, no / at its ends",
        move |value| {
            text.parse(value).filter(|topic| {
                topic.len() <= 128
                    && !topic.contains(['+', '#'])
                    && !topic.starts_with(['/', '$'])
                    && !topic.ends_with('/')
            })
        },
    )
}
