//! Settings that channels of every type have, and the list of types. What only one type has stands in its own file.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use meerkat_base::{CameraId, EventKind, EventPhase, Secret};

use super::dingtalk::DingTalkTarget;
use super::email::EmailTarget;
use super::feishu::FeishuTarget;
use super::keys::{camera_id, event_kinds, read_url, required};
use super::mqtt::MqttTarget;
use super::ntfy::NtfyTarget;
use super::telegram::TelegramTarget;
use super::templates::{self, TemplateText};
use super::webhook::WebhookTarget;
use super::wecom::WecomTarget;
use super::wecom_app::WecomAppTarget;
use crate::alert_rules::{self, QuietSettings, worth_telling};
use crate::camera::CameraSettings;
use crate::reader::Reader;
use crate::rule::{self, choice, flag};

/// One channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSettings {
    /// What it is and where.
    pub target: ChannelTarget,
    /// Proxy for this channel alone; `None`: that of all channels.
    pub proxy: Option<Secret>,
    /// Its own wording of everything that happens, in place of `notify.templates`.
    pub template: Option<TemplateText>,
    /// Whether the snapshot goes along.
    pub include_snapshot: bool,
    /// Whether the clip follows when it is ready, where the channel can take one.
    pub include_clip: bool,
    /// Whether snapshot and clip go along where they show faces (events of kind `face`).
    pub include_faces: bool,
    /// Kinds of events it is told at most; never empty. `None`: what rules say, without rules what is worth telling.
    pub kinds: Option<Vec<EventKind>>,
    /// Cameras it is told about at most; `None` for all.
    pub cameras: Option<Vec<CameraId>>,
    /// What of an event it is told where no rule says so; never empty. `None`: as [`ChannelSettings::phases_of`] says.
    pub phases: Option<Vec<EventPhase>>,
    /// When its messages are kept back.
    pub quiet: Option<QuietSettings>,
}

/// What a channel is.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelTarget {
    /// A WeCom group robot.
    WeCom(WecomTarget),
    /// A WeCom application.
    WeComApp(WecomAppTarget),
    /// A DingTalk robot.
    DingTalk(DingTalkTarget),
    /// A Feishu robot.
    Feishu(FeishuTarget),
    /// A Telegram bot.
    Telegram(TelegramTarget),
    /// A topic of an ntfy server.
    Ntfy(NtfyTarget),
    /// Our own webhook.
    Webhook(WebhookTarget),
    /// E-mail.
    Email(EmailTarget),
    /// MQTT, for Home Assistant and the like.
    Mqtt(MqttTarget),
}

#[derive(Clone, Copy)]
enum Kind {
    WeCom,
    WeComApp,
    DingTalk,
    Feishu,
    Telegram,
    Ntfy,
    Webhook,
    Email,
    Mqtt,
}

/// The values of `type`.
const KINDS: &[(&str, Kind)] = &[
    ("wecom", Kind::WeCom),
    ("wecom_app", Kind::WeComApp),
    ("dingtalk", Kind::DingTalk),
    ("feishu", Kind::Feishu),
    ("telegram", Kind::Telegram),
    ("ntfy", Kind::Ntfy),
    ("email", Kind::Email),
    ("mqtt", Kind::Mqtt),
    ("webhook", Kind::Webhook),
];

impl ChannelTarget {
    /// Whether a channel of this type shows states rather than messages: it is told of every end.
    fn wants_ended(&self) -> bool {
        match self {
            Self::Mqtt(_) => true,
            Self::Email(_)
            | Self::WeCom(_)
            | Self::WeComApp(_)
            | Self::DingTalk(_)
            | Self::Feishu(_)
            | Self::Telegram(_)
            | Self::Ntfy(_)
            | Self::Webhook(_) => false,
        }
    }

    fn read(reader: &mut Reader, section: &str, kind: Kind) -> Option<Self> {
        match kind {
            Kind::WeCom => WecomTarget::read(reader, section).map(Self::WeCom),
            Kind::WeComApp => WecomAppTarget::read(reader, section).map(Self::WeComApp),
            Kind::DingTalk => DingTalkTarget::read(reader, section).map(Self::DingTalk),
            Kind::Feishu => FeishuTarget::read(reader, section).map(Self::Feishu),
            Kind::Telegram => TelegramTarget::read(reader, section).map(Self::Telegram),
            Kind::Ntfy => NtfyTarget::read(reader, section).map(Self::Ntfy),
            Kind::Webhook => WebhookTarget::read(reader, section).map(Self::Webhook),
            Kind::Email => EmailTarget::read(reader, section).map(Self::Email),
            Kind::Mqtt => MqttTarget::read(reader, section).map(Self::Mqtt),
        }
    }
}

impl ChannelSettings {
    /// Kinds it is told of where no rule names it: all of them for whoever shows states, else what is worth telling.
    pub fn kinds_without_rules(&self) -> Vec<EventKind> {
        match (&self.kinds, &self.target) {
            (Some(kinds), _) => kinds.clone(),
            (None, ChannelTarget::Mqtt(_)) => EventKind::ALL.to_vec(),
            (None, _) => worth_telling(),
        }
    }

    /// What of an event of this kind it is told where no rule says so: that it began; of what the node notices about
    /// itself also that it is over, for whoever heard of a dead camera wants to hear that it is back.
    pub fn phases_of(&self, kind: EventKind) -> Vec<EventPhase> {
        match &self.phases {
            Some(phases) => phases.clone(),
            None if kind.is_notice() || self.target.wants_ended() => {
                vec![EventPhase::Started, EventPhase::Ended]
            }
            None => vec![EventPhase::Started],
        }
    }

    /// `None` where something that the channel cannot be without is missing; the problem is noted.
    pub(super) fn read(
        reader: &mut Reader,
        section: &str,
        known: &BTreeMap<CameraId, CameraSettings>,
        zone: &TimeZone,
    ) -> Option<Self> {
        let key = |name| format!("{section}.{name}");
        let Some(kind) = required(reader, &key("type"), choice(KINDS)) else {
            // Which keys it may have depends on the type, so nothing more can be said about them.
            reader.skip(section);
            return None;
        };
        let target = ChannelTarget::read(reader, section, kind);
        // The others complain about it where they are read.
        let through_http = !matches!(kind, Kind::Email | Kind::Mqtt);
        let proxy = if through_http { read_url(reader, &key("proxy")) } else { None };
        let own = templates::read(reader, &key("template"));
        let template = own.map(|(text, origin)| TemplateText { name: "channel".to_owned(), origin, text });
        let include_snapshot = reader.read_if(&key("include_snapshot"), flag()).unwrap_or(true);
        let include_clip = reader.read_if(&key("include_clip"), flag()).unwrap_or(true);
        let include_faces = reader.read_if(&key("include_faces"), flag()).unwrap_or(false);
        let kinds = reader.read_if(&key("kinds"), event_kinds(&EventKind::ALL));
        let cameras = reader.read_if(&key("cameras"), rule::list(1_024, camera_id()));
        for camera in cameras.iter().flatten().filter(|camera| !known.contains_key(*camera)) {
            reader.complain(&key("cameras"), format!("there is no section cameras.{camera}"));
        }
        let cameras = cameras.filter(|cameras| !cameras.is_empty());
        let phases = reader.read_if(&key("phases"), alert_rules::phases());
        let quiet = alert_rules::read_quiet(reader, section, zone);
        Some(Self {
            target: target?,
            proxy,
            template,
            include_snapshot,
            include_clip,
            include_faces,
            kinds,
            cameras,
            phases,
            quiet,
        })
    }
}
