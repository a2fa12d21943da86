//! Makes the channels of checked settings. What a channel sends and when is not known here.

mod direct;
mod wording;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use meerkat_actors::notices;
use meerkat_base::{Clock, Secret, SystemClock, WallTime};
use meerkat_notify::{
    Channel, Common, DingTalk, DingTalkSettings, Earlier, Email, Feishu, FeishuApplication, FeishuSettings,
    GoingOn, MailMemory, Mqtt, MqttMemory, Ntfy, NtfyLogin, NtfySettings, PicturePolicy, RateBook, Receivers,
    Style, Telegram, TelegramSettings, Webhook, WebhookSettings, Wecom, WecomApp, WecomAppSettings,
    WecomSettings,
};
use meerkat_outbound::{HttpClient, OutboundSettings, SecretUrl};
use meerkat_store::{EventRow, StoreReader};
use tracing::warn;

use crate::settings::{
    ChannelSettings, ChannelTarget, EmailTarget, MqttTarget, NotifySettings, Settings, WordStyle,
};

use direct::{email_settings, mqtt_settings};
use wording::styles;

/// The longest time over which a service counts, and a little more.
const LONGEST_WINDOW: Duration = Duration::from_secs(3_610);

/// What outlives channels that are built anew by a reload.
#[derive(Default)]
pub(crate) struct Lasting {
    /// What was sent: what services count goes on.
    book: RateBook,
    /// What homes have been told: what goes on there goes on.
    homes: MqttMemory,
    /// Who has got which letter.
    letters: MailMemory,
}

impl Lasting {
    /// At the start of the node: a home is shown what went on before and goes on.
    pub fn at_start(store: &StoreReader, now: WallTime) -> Self {
        let open = store.open_events().unwrap_or_else(|error| {
            warn!(%error, "homes are not told what goes on since before the start");
            Vec::new()
        });
        let goes_on = |event: &EventRow| notices::goes_on(event.kind, event.started, now);
        let of = |EventRow { id, camera, kind, started, .. }| GoingOn { event: id, camera, kind, started };
        let homes = MqttMemory::new(open.into_iter().filter(goes_on).map(of).collect());
        Self { homes, ..Self::default() }
    }
}

/// Tells channels what an earlier run sent by them: services count over a restart of the node.
pub(crate) fn remember(channels: &[Arc<dyn Channel>], data_dir: &Path, now: WallTime) {
    let since = now.offset_micros(-i64::try_from(LONGEST_WINDOW.as_micros()).unwrap_or(i64::MAX));
    let sent = StoreReader::open(data_dir).and_then(|store| {
        channels.iter().map(|channel| store.sent_since(channel.name(), since)).collect::<Result<Vec<_>, _>>()
    });
    match sent {
        Ok(sent) => {
            for (channel, times) in channels.iter().zip(sent) {
                // What the clock puts into the future left just now.
                let earlier = times.into_iter().map(|(at, with_file)| {
                    let micros = u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0);
                    Earlier { ago: Duration::from_micros(micros), with_file }
                });
                channel.remember(&earlier.collect::<Vec<_>>());
            }
        }
        Err(error) => {
            warn!(%error, "it is unknown what an earlier run sent: services may find this one too fast")
        }
    }
}

/// Makes every channel and throws it away: says what the settings alone cannot tell, such as a template that is wrong.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    all(settings, &clock, &Lasting::default()).map(|_| ())
}

/// The channels of the settings. None of them is connected: whoever delivers through them opens them.
pub(crate) fn all(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    lasting: &Lasting,
) -> anyhow::Result<Vec<Arc<dyn Channel>>> {
    let notify = &settings.notify;
    let styles = styles(notify)?;
    let mut clients = Clients { notify, by_proxy: HashMap::new() };
    let mut channels = Vec::new();
    for (name, channel) in &notify.channels {
        let style = styles.of(channel);
        let made = match &channel.target {
            ChannelTarget::Mqtt(target) => home(name, channel, target, style, settings, clock, lasting),
            ChannelTarget::Email(target) => mail(name, channel, target, style, notify, clock, lasting),
            _ => one(name, channel, &style, &mut clients, clock, &lasting.book),
        };
        channels.push(made.with_context(|| format!("notify.channels.{name}"))?);
    }
    Ok(channels)
}

fn home(
    name: &str,
    channel: &ChannelSettings,
    target: &MqttTarget,
    style: Style,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    lasting: &Lasting,
) -> anyhow::Result<Arc<dyn Channel>> {
    let mut own = mqtt_settings(name, channel, target, settings)?;
    own.style = style;
    Ok(Arc::new(Mqtt::new(own, &lasting.homes, Arc::clone(clock))?))
}

fn mail(
    name: &str,
    channel: &ChannelSettings,
    target: &EmailTarget,
    style: Style,
    notify: &NotifySettings,
    clock: &Arc<dyn Clock>,
    lasting: &Lasting,
) -> anyhow::Result<Arc<dyn Channel>> {
    let mut own = email_settings(name, target)?;
    own.allow_link_local = notify.allow_link_local;
    own.pictures = pictures(channel);
    own.style = style;
    Ok(Arc::new(Email::new(own, Arc::clone(clock), &lasting.book, &lasting.letters)?))
}

fn pictures(channel: &ChannelSettings) -> PicturePolicy {
    PicturePolicy {
        include_snapshot: channel.include_snapshot,
        include_clip: channel.include_clip,
        include_faces: channel.include_faces,
    }
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
    common.pictures = pictures(channel);
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
        ChannelTarget::Email(_) | ChannelTarget::Mqtt(_) => bail!("mail and MQTT are made elsewhere"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let settings = Settings::load(&[path], std::iter::empty()).unwrap();
        check(&settings).map_err(|error| format!("{error:#}"))
    }

    const MAIL: &str =
        "type = \"email\"\nhost = \"127.0.0.1\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";

    #[test]
    fn every_template_that_is_wrong_is_named_with_its_line() {
        let text = format!(
            "[notify.templates.zh]\nmotion = \"{{{{ camra }}}}\"\n[notify.templates.en]\nclip = \"a\\nb\\n{{% if %}}\"\n\
             [notify.channels.mail]\n{MAIL}template = \"{{{{ link }}\"\n"
        );
        let said = checked(&text).unwrap_err();
        for wrong in [
            "notify.templates.zh.motion, line 1: undefined value",
            "notify.templates.en.clip, line 3: ",
            "notify.channels.mail.template, line 1: ",
        ] {
            assert!(said.contains(wrong), "{said}");
        }
        assert_eq!(said.lines().count(), 4, "{said}");
        let right = "[notify.templates.zh]\nmotion = \"{{ what }}\"\nperson_ended = \"{{ camera }}\"\ndigest = \"{{ total }}\"";
        checked(&format!("{right}\n[notify.channels.mail]\n{MAIL}template = \"{{{{ kind }}}}\"")).unwrap();
    }

    #[test]
    fn what_left_before_a_reload_counts_after_it_also_for_mail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, format!("[notify.channels.mail]\n{MAIL}per_minute = 2\n")).unwrap();
        let settings = Settings::load(&[path], std::iter::empty()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let lasting = Lasting::default();
        let before = all(&settings, &clock, &lasting).unwrap();
        before[0].remember(&[Earlier { ago: Duration::from_secs(1), with_file: false }; 2]);
        let after = all(&settings, &clock, &lasting).unwrap();
        assert!(after[0].ready_in() > Duration::ZERO, "two have left in this minute");
        let another = all(&settings, &clock, &Lasting::default()).unwrap();
        assert_eq!(another[0].ready_in(), Duration::ZERO);
    }

    #[test]
    fn what_only_shows_when_a_channel_is_made_is_checked_too() {
        let wrong = MAIL.replace("b@example.org", "b..b@example.org");
        let said = checked(&format!("[notify.channels.mail]\n{wrong}")).unwrap_err();
        assert!(said.starts_with("notify.channels.mail: to: "), "{said}");
        let broker = "[notify.channels.home]\ntype = \"mqtt\"\nurl = \"mqtts://broker.example.org\"\n";
        checked(broker).unwrap();
        let said = checked(&format!("{broker}ca_file = \"/etc/hostname\"")).unwrap_err();
        assert!(said.contains("certificates"), "{said}");
    }
}
