//! Settings of the channels through which people are told: what holds for all of them. Sends nothing.

mod ca_file;
mod keys;

mod channel;
mod dingtalk;
mod feishu;
mod ntfy;
mod telegram;
mod email;
mod mqtt;
mod templates;
mod webhook;
mod wecom;
mod wecom_app;

use std::collections::BTreeMap;
use std::time::Duration;

use meerkat_base::{CameraId, Secret};

use super::alert_rules::{self, NoticesSettings, RuleSettings};
use super::camera::CameraSettings;
use super::delivery::DeliverySettings;
use super::reader::Reader;
use super::rule::{self, choice, flag};
use super::schedule;

pub use ca_file::CaFile;
pub use channel::{ChannelSettings, ChannelTarget};
pub use dingtalk::DingTalkTarget;
pub use email::{EmailTarget, MailEncryption};
pub use feishu::FeishuTarget;
pub(super) use keys::{camera_id, event_kinds, read_url};
pub use mqtt::MqttTarget;
pub use ntfy::NtfyTarget;
pub use telegram::TelegramTarget;
pub use templates::{TemplateText, TemplatesSettings};
pub use webhook::WebhookTarget;
pub use wecom::{WecomTarget, WordStyle};
pub use wecom_app::WecomAppTarget;

/// Who is told, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifySettings {
    /// Language of the messages.
    pub language: Language,
    /// IANA name of the time zone of the times in messages, such as `Asia/Shanghai`.
    pub time_zone: String,
    /// Time after which an alert that could not be delivered is given up.
    pub give_up: Duration,
    /// Backlogs, channels that fail, clips that follow.
    pub delivery: DeliverySettings,
    /// Proxy for everything that is sent, with its credentials if it wants any.
    pub proxy: Option<Secret>,
    /// Whether link-local addresses and clouds' metadata services may be called.
    pub allow_link_local: bool,
    /// The owner's own wording.
    pub templates: TemplatesSettings,
    /// Channels by name, `[a-z0-9_]{1,32}`.
    pub channels: BTreeMap<String, ChannelSettings>,
    /// Rules in the order in which they are asked.
    pub rules: Vec<RuleSettings>,
    /// How facts about the node become messages.
    pub notices: NoticesSettings,
}

/// Language of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Chinese.
    Chinese,
    /// English.
    English,
}

impl NotifySettings {
    pub(super) fn read(reader: &mut Reader, cameras: &BTreeMap<CameraId, CameraSettings>) -> Self {
        let languages = &[("zh", Language::Chinese), ("en", Language::English)];
        let language = reader.read("notify.language", choice(languages));
        let time_zone = reader.read("notify.time_zone", schedule::time_zone());
        let zone = schedule::zone(&time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let hours = reader.read("notify.give_up_hours", rule::number(0.01..=720.0));
        let delivery = DeliverySettings::read(reader);
        let proxy = read_url(reader, "notify.proxy");
        let allow_link_local = reader.read("notify.allow_link_local", flag());
        let templates = TemplatesSettings::read(reader);
        let mut channels = BTreeMap::new();
        for name in reader.subsections("notify.channels") {
            let section = format!("notify.channels.{name}");
            if CameraId::parse(&name).is_err() {
                reader.complain(&section, "a channel's name is 1 to 32 of the characters a-z, 0-9 and _");
                reader.skip(&section);
                continue;
            }
            if let Some(channel) = ChannelSettings::read(reader, &section, cameras, &zone) {
                channels.insert(name, channel);
            }
        }
        let rules = alert_rules::read_all(reader, cameras, &channels, &zone);
        Self {
            language,
            time_zone,
            give_up: Duration::from_secs_f32(hours * 3_600.0),
            delivery,
            proxy,
            allow_link_local,
            templates,
            channels,
            rules,
            notices: NoticesSettings::read(reader),
        }
    }
}
