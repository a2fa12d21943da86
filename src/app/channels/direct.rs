//! Settings of the channels that speak to a server of the owner's own, e-mail and MQTT, in the form that they take.

use anyhow::Context;
use meerkat_notify::{EmailSettings, Encryption, MqttSettings};
use meerkat_outbound::ExtraRoots;

use crate::settings::{CaFile, ChannelSettings, EmailTarget, MailEncryption, MqttTarget, Settings};

/// E-mail.
pub(super) fn email_settings(name: &str, target: &EmailTarget) -> anyhow::Result<EmailSettings> {
    let mut own = EmailSettings::new(name, &target.host, &target.from, target.to.clone());
    own.port = target.port;
    own.encryption = match target.encryption {
        MailEncryption::StartTls => Encryption::StartTls,
        MailEncryption::Tls => Encryption::Tls,
        MailEncryption::None => Encryption::None,
    };
    own.allow_plaintext = target.allow_plaintext;
    own.credentials = target.credentials.clone();
    own.roots = target.ca_file.as_ref().map(roots).transpose()?;
    own.per_minute = target.per_minute;
    own.max_clip_bytes = target.max_clip_bytes;
    Ok(own)
}

/// MQTT.
pub(super) fn mqtt_settings(
    name: &str,
    channel: &ChannelSettings,
    target: &MqttTarget,
    settings: &Settings,
) -> anyhow::Result<MqttSettings> {
    let client_id = target.client_id.clone().unwrap_or_else(client_id);
    let mut own = MqttSettings::new(name, &target.host, client_id);
    own.port = target.port;
    own.tls = target.tls;
    own.allow_plaintext = target.allow_plaintext;
    own.credentials = target.credentials.clone();
    own.roots = target.ca_file.as_ref().map(roots).transpose()?;
    own.allow_link_local = settings.notify.allow_link_local;
    own.topic_prefix = target.topic_prefix.clone().unwrap_or(own.topic_prefix);
    own.discovery_prefix = target.discovery_prefix.clone();
    own.kinds = channel.kinds_without_rules();
    own.pictures = super::pictures(channel);
    let told = |id: &_| channel.cameras.as_ref().is_none_or(|cameras| cameras.contains(id));
    let cameras = settings.cameras.iter().filter(|(id, _)| told(id));
    own.cameras = cameras.map(|(id, camera)| (id.clone(), camera.name.clone())).collect();
    Ok(own)
}

/// `meerkat-<name of the machine>`: two nodes at one broker must not have the same.
fn client_id() -> String {
    let machine = rustix::system::uname();
    let name: String = machine
        .nodename()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(48)
        .collect();
    format!("meerkat-{name}")
}

fn roots(file: &CaFile) -> anyhow::Result<ExtraRoots> {
    ExtraRoots::parse(&file.pem).with_context(|| format!("ca_file = {}", file.path.display()))
}
