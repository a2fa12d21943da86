//! MQTT, in the form that Home Assistant discovers: states that can be asked for at any time, events that happen once.
//! Which topic says what stands in `topics`, what is announced in `discovery`, what goes on in `home`; the connection is
//! `link`'s.
//!
//! Retained are discovery, states and availability, never an event (it would happen again for everybody who comes
//! later), never a picture, never a name. A message counts as delivered when the broker has acknowledged it (QoS 1).

mod discovery;
mod home;
mod link;
mod presence;
mod topics;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use meerkat_base::{CameraId, Clock, EventKind, EventPhase, Secret};
use meerkat_outbound::{ExtraRoots, client_tls};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::alert::{Alert, ClipPart, Digest, PicturePolicy, TestMessage};
use crate::channel::{Channel, Delivery, Failure, Outcome};
use crate::render::{self, Style};

use home::Home;
pub use home::{GoingOn, MAX_CAMERAS, MqttMemory};
use link::{Acknowledged, Down, Link};

/// Longest wait for a connection when there is something to tell: it comes about just after the start.
const UP_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait for the broker to acknowledge what belongs to one alert.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(20);
const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// The settings of one MQTT channel.
#[derive(Debug, Clone)]
pub struct MqttSettings {
    /// Name of the channel.
    pub name: String,
    /// The broker, a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken from the first byte.
    pub tls: bool,
    /// Whether messages and the password may travel in the clear beyond this machine.
    pub allow_plaintext: bool,
    /// User and password, where the broker wants them.
    pub credentials: Option<(String, Secret)>,
    /// The only authorities that are trusted with the broker's certificate; none: the system's.
    pub roots: Option<ExtraRoots>,
    /// Whether a link-local broker may be reached.
    pub allow_link_local: bool,
    /// The node's name at the broker and in Home Assistant, `[A-Za-z0-9_-]`: two nodes must not have the same.
    pub client_id: String,
    /// What all topics begin with.
    pub topic_prefix: String,
    /// What discovery topics begin with; none: nothing is announced.
    pub discovery_prefix: Option<String>,
    /// Cameras that are known from the start, with what people call them.
    pub cameras: Vec<(CameraId, Option<String>)>,
    /// Kinds of events that are told.
    pub kinds: Vec<EventKind>,
    /// Larger pictures stay behind, bytes.
    pub max_picture_bytes: usize,
    /// Which pictures it may send.
    pub pictures: PicturePolicy,
    /// How texts and names of entities are written.
    pub style: Style,
}

impl MqttSettings {
    /// Settings with the defaults: no TLS at port 1883, discovery under `homeassistant`, all kinds, pictures up to 2 MiB.
    pub fn new(name: impl Into<String>, host: impl Into<String>, client_id: impl Into<String>) -> Self {
        let client_id = client_id.into();
        Self {
            name: name.into(),
            host: host.into(),
            port: 1883,
            tls: false,
            allow_plaintext: false,
            credentials: None,
            roots: None,
            allow_link_local: false,
            topic_prefix: client_id.clone(),
            client_id,
            discovery_prefix: Some("homeassistant".to_owned()),
            cameras: Vec::new(),
            kinds: EventKind::ALL.to_vec(),
            max_picture_bytes: 2 * 1024 * 1024,
            pictures: PicturePolicy::default(),
            style: Style::default(),
        }
    }
}

/// Says what of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadMqtt {
    /// A topic or name has characters that it must not have.
    #[error("{key}: {value:?} cannot be used in topics")]
    Topic {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: String,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] meerkat_outbound::OutboundError),
}

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: Bytes,
    retain: bool,
}

impl Message {
    fn retained(topic: String, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic, payload: payload.into().into(), retain: true }
    }

    fn once(topic: String, payload: impl Into<Bytes>) -> Self {
        Self { topic, payload: payload.into(), retain: false }
    }
}

/// One MQTT channel.
pub struct Mqtt {
    settings: MqttSettings,
    home: Arc<Home>,
    connection: Mutex<Connection>,
}

/// Whether a channel is connected, or tries to be.
enum Connection {
    /// It was only made.
    None,
    /// From the first use on.
    Kept(Arc<Link>),
    /// Another channel has taken its place, perhaps under the same client id: two would throw each other out for ever.
    Closed,
}

impl Mqtt {
    /// Checks the settings; connects to nothing before it is opened or used. What goes on is remembered in `memory`.
    pub fn new(settings: MqttSettings, memory: &MqttMemory, clock: Arc<dyn Clock>) -> Result<Self, BadMqtt> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let topic = |text: &str| {
            let words = |c: char| !c.is_control() && !matches!(c, '+' | '#');
            !text.is_empty() && text.len() <= 128 && text.chars().all(words) && !text.starts_with('$')
        };
        let is_id = (1..=64).contains(&settings.client_id.len()) && settings.client_id.chars().all(plain);
        let discovery = settings.discovery_prefix.as_deref();
        for (key, value, fits) in [
            ("client_id", settings.client_id.as_str(), is_id),
            ("topic_prefix", &settings.topic_prefix, topic(&settings.topic_prefix)),
            ("discovery_prefix", discovery.unwrap_or_default(), discovery.is_none_or(topic)),
        ] {
            if !fits {
                return Err(BadMqtt::Topic { key, value: value.to_owned() });
            }
        }
        if settings.tls {
            client_tls(settings.roots.as_ref())?;
        }
        let home = Arc::new(Home::new(settings.clone(), memory, clock));
        Ok(Self { settings, home, connection: Mutex::new(Connection::None) })
    }

    /// The one connection, begun where there is none yet. It goes on until the channel is closed or dropped.
    fn link(&self) -> Result<Arc<Link>, Failure> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match &*connection {
            Connection::Kept(link) => Ok(Arc::clone(link)),
            Connection::Closed => Err(Failure::retry("the channel was closed")),
            Connection::None => {
                let started = Link::start(self.settings.clone(), Arc::clone(&self.home));
                let link = started.map_err(|error| {
                    Failure::retry(format!("no thread could be started for the connection: {error}"))
                })?;
                let link = Arc::new(link);
                *connection = Connection::Kept(Arc::clone(&link));
                Ok(link)
            }
        }
    }

    /// Publishes, and waits until the broker has acknowledged all of it: first the states, which can be repeated without
    /// harm, then `once`, each of which is a step and is left out if an earlier attempt got it through.
    async fn tell(&self, news: News<'_>, once: Vec<Message>, already_sent: u8) -> Outcome {
        let link = match self.link() {
            Ok(link) => link,
            Err(failure) => return failure.into_outcome(already_sent),
        };
        link.wait_until_up(UP_LIMIT).await;
        let left = once.into_iter().skip(usize::from(already_sent));
        let published = match news {
            News::Alert(alert) => self.home.with_news(alert, |states| publish(&link, states, left)),
            News::Digest(digest) => self.home.with_digest(digest, |states| publish(&link, states, left)),
            News::None => publish(&link, Vec::new(), left),
        };
        let (states, steps) = match published {
            Ok(published) => published,
            Err(down) => return delayed(down).into_outcome(already_sent),
        };
        let end = Instant::now() + ACKNOWLEDGE_LIMIT;
        let mut sent = already_sent;
        for step in steps {
            if let Err(failure) = acknowledged(step, end).await {
                return failure.into_outcome(sent);
            }
            sent = sent.saturating_add(1);
        }
        for state in states {
            if let Err(failure) = acknowledged(state, end).await {
                return failure.into_outcome(sent);
            }
        }
        Outcome::Delivered
    }

    async fn alert(&self, alert: &Alert) -> Outcome {
        let settings = &self.settings;
        let shown = self.without_names(alert);
        let topic = |what| topics::camera(settings, &alert.camera, what);
        let mut once = vec![Message::once(topic("event"), event(&shown, &settings.style).to_string())];
        let picture =
            settings.pictures.picture(alert).filter(|picture| picture.len() <= settings.max_picture_bytes);
        if let Some(picture) = picture {
            once.push(Message::once(topic("picture"), picture.clone()));
        }
        let names: Vec<&str> = shown.identities.iter().map(String::as_str).collect();
        if settings.pictures.include_faces && !names.is_empty() && alert.phase == EventPhase::Started {
            once.push(Message::once(topic("identity"), names.join(", ")));
        }
        self.tell(News::Alert(alert), once, alert.already_sent).await
    }

    async fn clip(&self, alert: &Alert, clip: &ClipPart) -> Outcome {
        let said = json!({
            "event_type": "clip", "id": alert.id, "part": clip.word(), "event": alert.event, "camera": alert.camera,
            "kind": alert.kind,
            "started": alert.started, "name": clip.name, "seconds": clip.duration.as_secs_f32(), "link": clip.link,
        });
        let topic = topics::camera(&self.settings, &alert.camera, "event");
        self.tell(News::None, vec![Message::once(topic, said.to_string())], alert.already_sent).await
    }

    async fn about_node(&self, news: News<'_>, said: Value) -> Outcome {
        let message = Message::once(topics::node(&self.settings, "event"), said.to_string());
        self.tell(news, vec![message], 0).await
    }

    /// Who was recognised is told only where faces may be shown.
    fn without_names(&self, alert: &Alert) -> Alert {
        let mut shown = alert.clone();
        if !self.settings.pictures.include_faces {
            shown.identities.clear();
        }
        shown
    }
}

/// What states follow from.
enum News<'a> {
    Alert(&'a Alert),
    Digest(&'a Digest),
    None,
}

type Published = (Vec<Acknowledged>, Vec<Acknowledged>);

fn publish(
    link: &Link,
    states: Vec<Message>,
    once: impl Iterator<Item = Message>,
) -> Result<Published, Down> {
    let states = states.into_iter().map(|message| link.publish(message)).collect::<Result<_, _>>()?;
    let once = once.map(|message| link.publish(message)).collect::<Result<_, _>>()?;
    Ok((states, once))
}

async fn acknowledged(message: Acknowledged, end: Instant) -> Result<(), Failure> {
    match timeout_at(end, message).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Failure::retry("the connection to the broker broke; it may have arrived")),
        Err(_) => Err(Failure::retry("the broker acknowledges nothing; it may have arrived")),
    }
}

fn delayed(down: Down) -> Failure {
    // Just after the next connection is tried.
    let after = Some(down.next_in + Duration::from_millis(500));
    Failure::Retry { after, reason: format!("not connected to the broker: {}", down.reason) }
}

fn event(alert: &Alert, style: &Style) -> Value {
    json!({
        "event_type": discovery::event_type(alert.kind, alert.phase),
        "id": alert.id,
        "event": alert.event,
        "camera": alert.camera,
        "camera_name": alert.camera_name,
        "kind": alert.kind,
        "phase": alert.phase,
        "started": alert.started,
        "score": if alert.score.is_finite() { alert.score } else { 0.0 },
        "severity": alert.severity,
        "identities": alert.identities,
        "detail": alert.detail,
        "text": render::alert_text(alert, style),
    })
}

impl Channel for Mqtt {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn kind(&self) -> &'static str {
        "mqtt"
    }

    fn open(&self) {
        if self.link().is_err() {
            warn!(
                channel = self.settings.name,
                "the connection could not be begun; it is tried with the next message"
            );
        }
    }

    fn close(&self) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *connection, Connection::Closed);
        if let Connection::Kept(link) = before {
            // Also where a message is under way still.
            link.end();
        }
    }

    fn picture_limit(&self) -> Option<u64> {
        Some(self.settings.max_picture_bytes as u64)
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivery<'a> {
        Box::pin(self.alert(alert))
    }

    fn takes_clips(&self) -> bool {
        true
    }

    fn takes_clip_of(&self, kind: EventKind) -> bool {
        self.settings.pictures.allows_clip(kind)
    }

    fn deliver_clip<'a>(&'a self, alert: &'a Alert, clip: &'a ClipPart) -> Delivery<'a> {
        if !self.settings.pictures.allows_clip(alert.kind) {
            let reason = "the channel's settings keep this clip at home";
            return Box::pin(async move { Failure::refused(reason).into_outcome(0) });
        }
        Box::pin(self.clip(alert, clip))
    }

    fn deliver_digest<'a>(&'a self, digest: &'a Digest) -> Delivery<'a> {
        Box::pin(async move {
            let text = render::digest_text(digest, &self.settings.style);
            let said = json!({
                "event_type": "digest", "id": digest.id, "oldest": digest.oldest, "newest": digest.newest,
                "total": digest.total(), "text": text,
            });
            self.about_node(News::Digest(digest), said).await
        })
    }

    fn deliver_test<'a>(&'a self, test: &'a TestMessage) -> Delivery<'a> {
        Box::pin(async move {
            let text = render::test_text(&self.settings.name, test.time, &self.settings.style);
            self.about_node(
                News::None,
                json!({ "event_type": "test", "id": test.id, "time": test.time, "text": text }),
            )
            .await
        })
    }

    fn explain(&self, reason: &str) -> Option<&'static str> {
        let has = |word: &str| reason.contains(word);
        if has("refuses user and password") {
            Some(
                "Check user and password; a broker's list of rights must let the user write below topic_prefix.",
            )
        } else if has("in the clear") {
            Some("Use an address that begins with mqtts://; only a broker on this machine may go without.")
        } else if has("certificate") {
            Some(
                "The broker's certificate is not trusted: use the name in it, or set ca_file to its authority.",
            )
        } else if has("refuses the client id") {
            Some("Set client_id to something that the broker takes and that no other node uses.")
        } else {
            None
        }
    }
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mqtt")
            .field("name", &self.settings.name)
            .field("host", &self.settings.host)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
