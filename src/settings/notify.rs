//! Settings of the channels through which people are told. Sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, Secret};

use super::camera::CameraSettings;
use super::reader::Reader;
use super::rule::{self, Rule, choice, flag};

/// Shortest key that signs messages.
const MIN_KEY_BYTES: usize = 16;

/// Who is told, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifySettings {
    /// Language of the messages.
    pub language: Language,
    /// IANA name of the time zone of the times in messages, such as `Asia/Shanghai`.
    pub time_zone: String,
    /// Time after which an alert that could not be delivered is given up.
    pub give_up: Duration,
    /// Proxy for everything that is sent, with its credentials if it wants any.
    pub proxy: Option<Secret>,
    /// Whether link-local addresses and clouds' metadata services may be called.
    pub allow_link_local: bool,
    /// Channels by name, `[a-z0-9_]{1,32}`.
    pub channels: BTreeMap<String, ChannelSettings>,
}

/// Language of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Chinese.
    Chinese,
    /// English.
    English,
}

/// One channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSettings {
    /// What it is and where.
    pub target: ChannelTarget,
    /// Whether the snapshot goes along.
    pub include_snapshot: bool,
    /// Whether the snapshot goes along where it shows faces (events of kind `face`).
    pub include_faces: bool,
    /// Kinds of events it is told; never empty.
    pub kinds: Vec<EventKind>,
    /// Cameras it is told about; `None` for all.
    pub cameras: Option<Vec<CameraId>>,
}

/// What a channel is.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelTarget {
    /// A WeCom group robot.
    WeCom {
        /// The robot's whole address with its key: a secret.
        url: Secret,
    },
    /// Our own webhook.
    Webhook {
        /// The whole address: it may carry credentials.
        url: Secret,
        /// Key of the signature, at least 16 bytes.
        secret: Secret,
    },
}

#[derive(Clone, Copy)]
enum Kind {
    WeCom,
    Webhook,
}

impl NotifySettings {
    pub(super) fn read(reader: &mut Reader, cameras: &BTreeMap<CameraId, CameraSettings>) -> Self {
        let languages = &[("zh", Language::Chinese), ("en", Language::English)];
        let language = reader.read("notify.language", choice(languages));
        let time_zone = reader.read("notify.time_zone", time_zone());
        let hours = reader.read("notify.give_up_hours", rule::number(0.01..=720.0));
        let proxy = read_url(reader, "notify.proxy");
        let allow_link_local = reader.read("notify.allow_link_local", flag());
        let mut channels = BTreeMap::new();
        for name in reader.subsections("notify.channels") {
            let section = format!("notify.channels.{name}");
            if CameraId::parse(&name).is_err() {
                reader.complain(&section, "a channel's name is 1 to 32 of the characters a-z, 0-9 and _");
                reader.skip(&section);
                continue;
            }
            if let Some(channel) = ChannelSettings::read(reader, &section, cameras) {
                channels.insert(name, channel);
            }
        }
        Self {
            language,
            time_zone,
            give_up: Duration::from_secs_f32(hours * 3_600.0),
            proxy,
            allow_link_local,
            channels,
        }
    }
}

impl ChannelSettings {
    /// `None` where something that the channel cannot be without is missing; the problem is noted.
    fn read(reader: &mut Reader, section: &str, known: &BTreeMap<CameraId, CameraSettings>) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let kinds = &[("wecom", Kind::WeCom), ("webhook", Kind::Webhook)];
        let kind = required(reader, &key("type"), choice(kinds));
        let url = required_url(reader, &key("url"));
        let target = match kind {
            Some(Kind::WeCom) => {
                if url.as_ref().is_some_and(|url| !url.reveal().contains("key=")) {
                    reader.complain(
                        &key("url"),
                        "must be the robot's whole address, with its key: …/send?key=…",
                    );
                }
                url.map(|url| ChannelTarget::WeCom { url })
            }
            Some(Kind::Webhook) => {
                let secret = required_secret(reader, &key("secret"), MIN_KEY_BYTES);
                url.zip(secret).map(|(url, secret)| ChannelTarget::Webhook { url, secret })
            }
            None => {
                // Which keys it may have depends on the type, so nothing more can be said about them.
                reader.skip(section);
                None
            }
        };
        let include_snapshot = reader.read_if(&key("include_snapshot"), flag()).unwrap_or(true);
        let include_faces = reader.read_if(&key("include_faces"), flag()).unwrap_or(false);
        let kinds = reader.read_if(&key("kinds"), event_kinds(&EventKind::ALL)).unwrap_or_else(worth_telling);
        let cameras = reader.read_if(&key("cameras"), rule::list(1_024, camera_id()));
        for camera in cameras.iter().flatten().filter(|camera| !known.contains_key(*camera)) {
            reader.complain(&key("cameras"), format!("there is no section cameras.{camera}"));
        }
        let cameras = cameras.filter(|cameras| !cameras.is_empty());
        Some(Self { target: target?, include_snapshot, include_faces, kinds, cameras })
    }
}

fn required<T: 'static>(reader: &mut Reader, key: &str, rule: Rule<T>) -> Option<T> {
    if !reader.is_set(key) {
        let complaint = format!("must be set: {}", rule.allowed);
        reader.complain(key, complaint);
    }
    reader.read_if(key, rule)
}

/// Reads a secret, and complains when there is none.
fn required_secret(reader: &mut Reader, key: &str, shortest: usize) -> Option<Secret> {
    let before = reader.problem_count();
    let secret = reader.secret(key, shortest);
    if secret.is_none() && reader.problem_count() == before {
        reader.complain(key, format!("must be set, or {key}_file: {}", rule::secret(shortest).allowed));
    }
    secret
}

fn required_url(reader: &mut Reader, key: &str) -> Option<Secret> {
    let before = reader.problem_count();
    let url = read_url(reader, key);
    if url.is_none() && reader.problem_count() == before {
        reader.complain(key, format!("must be set, or {key}_file: the channel's address"));
    }
    url
}

/// Reads an address, which may carry credentials and is kept like a secret.
pub(super) fn read_url(reader: &mut Reader, key: &str) -> Option<Secret> {
    let url = reader.secret(key, 1)?;
    if is_http_url(url.reveal()) {
        return Some(url);
    }
    let key = if reader.is_set(key) { key.to_owned() } else { format!("{key}_file") };
    reader.complain(&key, "must be an address that begins with https:// or http://");
    None
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

/// Kinds that people are told of unless they say otherwise: everything but mere motion.
fn worth_telling() -> Vec<EventKind> {
    EventKind::SEEN.into_iter().filter(|kind| *kind != EventKind::Motion).collect()
}

pub(super) fn event_kinds(allowed: &'static [EventKind]) -> Rule<Vec<EventKind>> {
    let words: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
    let list = rule::list(16, rule::text(1..=32));
    Rule::new(format!("a list of one or more of {}", words.join(", ")), move |value| {
        let kinds: Vec<EventKind> =
            list.parse(value)?.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let known = kinds.iter().all(|kind| allowed.contains(kind));
        if known && !kinds.is_empty() { Some(kinds) } else { None }
    })
}

fn camera_id() -> Rule<CameraId> {
    let text = rule::text(1..=32);
    Rule::new("a camera id", move |value| CameraId::parse(&text.parse(value)?).ok())
}

fn time_zone() -> Rule<String> {
    let text = rule::text(1..=64);
    let allowed = "\"UTC\", \"system\", an offset such as \"+08:00\", or a name that this machine knows, such as \
                   \"Asia/Shanghai\"";
    Rule::new(allowed, move |value| {
        text.parse(value)
            .filter(|name| name == "system" || is_offset(name) || jiff::tz::TimeZone::get(name).is_ok())
    })
}

/// `+08:00` or `-0330`.
fn is_offset(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return false };
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    let shaped = rest.len() == digits.len() || rest.find(':') == Some(2);
    let (hours, minutes) = (digits.get(..2), digits.get(2..));
    let below = |part: Option<&str>, limit: u8| {
        part.is_some_and(|part| part.len() == 2 && part.parse::<u8>().is_ok_and(|number| number < limit))
    };
    shaped && below(hours, 24) && below(minutes, 60)
}
