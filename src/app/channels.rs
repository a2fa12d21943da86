//! Makes the channels of checked settings. What a channel sends and when is not known here.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use meerkat_base::{Clock, Secret};
use meerkat_notify::{
    Channel, Common, DingTalk, DingTalkSettings, Feishu, FeishuApplication, FeishuSettings, Ntfy, NtfyLogin,
    NtfySettings, PicturePolicy, RateBook, Receivers, Style, Telegram, TelegramSettings, Webhook,
    WebhookSettings, Wecom, WecomApp, WecomAppSettings, WecomSettings, Zone,
};
use meerkat_outbound::{HttpClient, OutboundSettings, SecretUrl};

use crate::settings::{ChannelSettings, ChannelTarget, Language, NotifySettings, Settings, WordStyle};

/// The channels of the settings. The book outlives them: what services count goes on over a reload.
pub(super) fn all(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    book: &RateBook,
) -> anyhow::Result<Vec<Arc<dyn Channel>>> {
    let notify = &settings.notify;
    if notify.channels.is_empty() {
        return Ok(Vec::new());
    }
    let style = style(notify)?;
    let mut clients = Clients { notify, by_proxy: HashMap::new() };
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    for (name, channel) in &notify.channels {
        let made = one(name, channel, &style, &mut clients, clock, book);
        channels.push(made.with_context(|| format!("notify.channels.{name}"))?);
    }
    Ok(channels)
}

fn one(
    name: &str,
    channel: &ChannelSettings,
    style: &Style,
    clients: &mut Clients<'_>,
    clock: &Arc<dyn Clock>,
    book: &RateBook,
) -> anyhow::Result<Arc<dyn Channel>> {
    let mut common = Common::new(name);
    common.pictures = PicturePolicy {
        include_snapshot: channel.include_snapshot,
        include_clip: channel.include_clip,
        include_faces: channel.include_faces,
    };
    common.style = style.clone();
    let client = clients.for_channel(channel)?;
    let clock = Arc::clone(clock);
    Ok(match &channel.target {
        ChannelTarget::WeCom(target) => {
            let mut own = WecomSettings::new(name, None, &target.url)?;
            own.common = common;
            own.words = words(target.words);
            own.per_minute = target.per_minute;
            Arc::new(Wecom::new(own, client, clock, book))
        }
        ChannelTarget::WeComApp(target) => {
            let receivers = Receivers {
                users: target.users.clone(),
                parties: target.parties.clone(),
                tags: target.tags.clone(),
            };
            let secret = target.secret.clone();
            let mut own = WecomAppSettings::new(name, &target.corp_id, target.agent_id, secret, receivers)?;
            if let Some(url) = &target.url {
                own.base = address(url)?;
            }
            own.common = common;
            own.per_minute = target.per_minute;
            own.per_hour = target.per_hour;
            Arc::new(WecomApp::new(own, client, clock, book))
        }
        ChannelTarget::DingTalk(target) => {
            let mut own = DingTalkSettings::new(name, address(&target.url)?, target.secret.clone());
            own.common = common;
            own.words = words(target.words);
            own.per_minute = target.per_minute;
            Arc::new(DingTalk::new(own, client, clock, book))
        }
        ChannelTarget::Feishu(target) => {
            let mut own = FeishuSettings::new(name, address(&target.url)?, target.secret.clone());
            own.common = common;
            own.per_minute = target.per_minute;
            own.application = target
                .application
                .as_ref()
                .map(|(id, secret)| FeishuApplication { id: id.clone(), secret: secret.clone() });
            Arc::new(Feishu::new(own, client, clock, book))
        }
        ChannelTarget::Telegram(target) => {
            let mut own = TelegramSettings::new(name, target.token.clone(), &target.chat_id)?;
            if let Some(url) = &target.url {
                own.base = address(url)?;
            }
            own.common = common;
            own.per_minute = target.per_minute;
            Arc::new(Telegram::new(own, client, clock, book))
        }
        ChannelTarget::Ntfy(target) => {
            let server = match &target.url {
                Some(url) => address(url)?,
                None => SecretUrl::parse(meerkat_notify::ntfy::PUBLIC_SERVER)?,
            };
            let login = match (&target.token, &target.user) {
                (Some(token), _) => NtfyLogin::Token(token.clone()),
                (None, Some((user, password))) => {
                    NtfyLogin::User { user: user.clone(), password: password.clone() }
                }
                (None, None) => NtfyLogin::Anonymous,
            };
            let mut own = NtfySettings::new(name, server, target.topic.clone(), login);
            own.common = common;
            own.max_snapshot_bytes = target.max_snapshot_bytes;
            own.max_clip_bytes = target.max_clip_bytes;
            own.per_minute = target.per_minute;
            Arc::new(Ntfy::new(own, client, clock, book))
        }
        ChannelTarget::Webhook(target) => {
            let mut own = WebhookSettings::new(name, address(&target.url)?, target.secret.clone());
            own.common = common;
            own.max_clip_bytes = target.max_clip_bytes;
            own.per_minute = target.per_minute;
            Arc::new(Webhook::new(own, client, clock, book)?)
        }
    })
}

fn address(url: &Secret) -> anyhow::Result<SecretUrl> {
    Ok(SecretUrl::parse(url.reveal())?)
}

fn words(style: WordStyle) -> meerkat_notify::WordStyle {
    match style {
        WordStyle::Text => meerkat_notify::WordStyle::Text,
        WordStyle::Markdown => meerkat_notify::WordStyle::Markdown,
    }
}

/// How all channels write.
fn style(notify: &NotifySettings) -> anyhow::Result<Style> {
    let language = match notify.language {
        Language::Chinese => meerkat_notify::Language::Chinese,
        Language::English => meerkat_notify::Language::English,
    };
    let zone =
        Zone::parse(&notify.time_zone).with_context(|| format!("notify.time_zone = {}", notify.time_zone))?;
    Ok(Style { language, zone })
}

/// One client per proxy: channels without one of their own share connections.
struct Clients<'s> {
    notify: &'s NotifySettings,
    by_proxy: HashMap<Option<String>, HttpClient>,
}

impl Clients<'_> {
    fn for_channel(&mut self, channel: &ChannelSettings) -> anyhow::Result<HttpClient> {
        let proxy = channel.proxy.as_ref().or(self.notify.proxy.as_ref()).map(|proxy| proxy.reveal());
        if let Some(client) = self.by_proxy.get(&proxy.map(str::to_owned)) {
            return Ok(client.clone());
        }
        let client = HttpClient::new(OutboundSettings {
            proxy: proxy.map(SecretUrl::parse).transpose().context("proxy")?,
            allow_link_local: self.notify.allow_link_local,
            ..OutboundSettings::default()
        });
        let client = client.context("the HTTP client")?;
        self.by_proxy.insert(proxy.map(str::to_owned), client.clone());
        Ok(client)
    }
}
