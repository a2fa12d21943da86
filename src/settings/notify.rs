//! Settings of the channels through which people are told. Sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, Secret};

use super::camera::CameraSettings;
use super::reader::Reader;
use super::rule::{self, Rule, choice, flag, small};

/// Who is told, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifySettings {
    /// Language of the messages.
    pub language: Language,
    /// IANA name of the time zone of the times in messages, such as `Asia/Shanghai`.
    pub time_zone: String,
    /// Time after which an alert that could not be delivered is given up.
    pub give_up: Duration,
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
    /// Messages per minute, at least 1.
    pub rate_per_minute: u32,
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
        /// Key of the signature.
        secret: Option<Secret>,
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
        Self { language, time_zone, give_up: Duration::from_secs_f32(hours * 3_600.0), channels }
    }
}

impl ChannelSettings {
    /// `None` where something that the channel cannot be without is missing; the problem is noted.
    fn read(reader: &mut Reader, section: &str, known: &BTreeMap<CameraId, CameraSettings>) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let kinds = &[("wecom", Kind::WeCom), ("webhook", Kind::Webhook)];
        let kind = required(reader, &key("type"), choice(kinds));
        let url = read_url(reader, &key("url"));
        let (target, rate) = match kind {
            Some(Kind::WeCom) => (url.map(|url| ChannelTarget::WeCom { url }), 20),
            Some(Kind::Webhook) => {
                let secret = reader.secret(&key("secret"));
                (url.map(|url| ChannelTarget::Webhook { url, secret }), 60)
            }
            None => {
                // Which keys it may have depends on the type, so nothing more can be said about them.
                reader.skip(section);
                (None, 20)
            }
        };
        let include_snapshot = reader.read_if(&key("include_snapshot"), flag()).unwrap_or(true);
        let include_faces = reader.read_if(&key("include_faces"), flag()).unwrap_or(false);
        let kinds = reader.read_if(&key("kinds"), event_kinds()).unwrap_or_else(|| EventKind::ALL.to_vec());
        let cameras = reader.read_if(&key("cameras"), rule::list(1_024, camera_id()));
        for camera in cameras.iter().flatten().filter(|camera| !known.contains_key(*camera)) {
            reader.complain(&key("cameras"), format!("there is no section cameras.{camera}"));
        }
        let rate_per_minute = reader.read_if(&key("rate_per_minute"), small(1..=6_000)).unwrap_or(rate);
        let cameras = cameras.filter(|cameras| !cameras.is_empty());
        Some(Self { target: target?, include_snapshot, include_faces, kinds, cameras, rate_per_minute })
    }
}

fn required<T: 'static>(reader: &mut Reader, key: &str, rule: Rule<T>) -> Option<T> {
    if !reader.is_set(key) {
        let complaint = format!("must be set: {}", rule.allowed);
        reader.complain(key, complaint);
    }
    reader.read_if(key, rule)
}

fn read_url(reader: &mut Reader, key: &str) -> Option<Secret> {
    let before = reader.problem_count();
    let url = reader.secret(key);
    let complaint = match &url {
        Some(url) if is_http_url(url.reveal()) => return Some(url.clone()),
        Some(_) => "must be an address that begins with https:// or http://",
        None if reader.problem_count() > before => return None,
        None => "must be set (or the same key with _file): the channel's address",
    };
    reader.complain(key, complaint);
    None
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn event_kinds() -> Rule<Vec<EventKind>> {
    let words: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::as_str).collect();
    let list = rule::list(16, rule::text(1..=32));
    Rule::new(format!("a list of one or more of {}", words.join(", ")), move |value| {
        let kinds: Vec<EventKind> =
            list.parse(value)?.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        if kinds.is_empty() { None } else { Some(kinds) }
    })
}

fn camera_id() -> Rule<CameraId> {
    let text = rule::text(1..=32);
    Rule::new("a camera id", move |value| CameraId::parse(&text.parse(value)?).ok())
}

fn time_zone() -> Rule<String> {
    let text = rule::text(1..=64);
    Rule::new(
        "the name of a time zone that this machine knows, such as \"UTC\" or \"Asia/Shanghai\"",
        move |value| text.parse(value).filter(|name| jiff::tz::TimeZone::get(name).is_ok()),
    )
}
