//! Makes the channels of checked settings. What a channel sends and when is not known here.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use meerkat_base::Clock;
use meerkat_notify::{Channel, PicturePolicy, Style, Webhook, WebhookSettings, Wecom, WecomSettings, Zone};
use meerkat_outbound::{HttpClient, OutboundSettings, SecretUrl};

use crate::settings::{ChannelSettings, ChannelTarget, Language, NotifySettings, Settings};

/// The channels of the settings.
pub(super) fn all(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Arc<dyn Channel>>> {
    let notify = &settings.notify;
    if notify.channels.is_empty() {
        return Ok(Vec::new());
    }
    let style = style(notify)?;
    let mut clients = Clients { notify, by_proxy: HashMap::new() };
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    for (name, channel) in &notify.channels {
        let made = one(name, channel, &style, &mut clients, clock);
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
) -> anyhow::Result<Arc<dyn Channel>> {
    let pictures = PicturePolicy {
        include_snapshot: channel.include_snapshot,
        include_clip: channel.include_clip,
        include_faces: channel.include_faces,
    };
    let client = clients.for_channel(channel)?;
    let clock = Arc::clone(clock);
    Ok(match &channel.target {
        ChannelTarget::WeCom(target) => {
            let mut own = WecomSettings::new(name, None, &target.url)?;
            own.pictures = pictures;
            own.style = style.clone();
            Arc::new(Wecom::new(own, client, clock))
        }
        ChannelTarget::Webhook(target) => {
            let url = SecretUrl::parse(target.url.reveal())?;
            let mut own = WebhookSettings::new(name, url, target.secret.clone());
            own.pictures = pictures;
            own.style = style.clone();
            Arc::new(Webhook::new(own, client, clock)?)
        }
    })
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
