//! The connection to the broker: kept up by a thread of its own, from the start to the end of the channel. What is
//! published counts when the broker has acknowledged it; what a broken connection left open is given back as unknown
//! and forgotten here, for the outbox keeps it.
//!
//! Each connection is made from nothing: the library would send what was under way again after a reconnect, and then an
//! old state would come after a newer one.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meerkat_outbound::address::resolve;
use meerkat_outbound::client_tls;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, QoS, TlsConfiguration, Transport,
};
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};

use super::home::Home;
use super::{Message, MqttSettings, discovery, topics};
use crate::retry::RetryPolicy;

/// Messages that may wait for the connection's thread: enough to announce every camera.
const CAPACITY: usize = 8_192;
/// Messages that the broker has not acknowledged yet, at most.
const IN_FLIGHT: u16 = 50;
/// Longest message that is read; only discovery and birth messages are subscribed to.
const MAX_INCOMING_BYTES: usize = 256 * 1024;
/// Longest message that is sent.
const MAX_OUTGOING_BYTES: usize = 16 << 20;
/// How often a quiet connection is tried out; the broker says `offline` after one and a half times as long.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Longest wait for a connection, and for the network to take a message.
const NETWORK_LIMIT_SECS: u64 = 15;
/// Waits between connections.
const BACKOFF: RetryPolicy = RetryPolicy {
    first: Duration::from_secs(2),
    ceiling: Duration::from_secs(60),
    give_up_after: Duration::MAX,
};
/// Wait where the system has no descriptors left for a connection.
const NO_RUNTIME_WAIT: Duration = Duration::from_secs(5);
/// After so long a connection counts as good, and the waits begin anew.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// The connection is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Down {
    pub reason: String,
    /// When the next connection is tried.
    pub next_in: Duration,
}

/// Published, acknowledged when this resolves; fails when the connection breaks before.
pub(super) type Acknowledged = oneshot::Receiver<()>;

/// The handle of the connection; the connection ends when it is dropped, and the broker says `offline` for it.
pub(super) struct Link {
    line: Arc<Line>,
    up: watch::Receiver<bool>,
    /// Ends the thread, also by being dropped.
    stop: watch::Sender<()>,
}

/// What the thread and those who publish share.
struct Line {
    state: Mutex<State>,
    up: watch::Sender<bool>,
}

struct State {
    client: Option<AsyncClient>,
    /// Given to the library, in order, and not on the wire yet.
    queued: VecDeque<Option<oneshot::Sender<()>>>,
    /// On the wire, by packet id.
    flying: HashMap<u16, Option<oneshot::Sender<()>>>,
    reason: String,
    next: Instant,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, message: Message, waited_for: bool) -> Result<Option<Acknowledged>, Down> {
        let mut state = self.lock();
        let (sender, receiver) = oneshot::channel();
        let Some(client) = &state.client else {
            let next_in = state.next.saturating_duration_since(Instant::now());
            return Err(Down { reason: state.reason.clone(), next_in });
        };
        let sent = client.try_publish(message.topic, QoS::AtLeastOnce, message.retain, message.payload);
        if sent.is_err() {
            let reason = "more messages wait than the connection takes".to_owned();
            return Err(Down { reason, next_in: Duration::from_secs(5) });
        }
        state.queued.push_back(waited_for.then_some(sender));
        Ok(waited_for.then_some(receiver))
    }

    fn goes_down(&self, reason: String, next: Instant) {
        let mut state = self.lock();
        state.client = None;
        // Whoever waits learns that the outcome is unknown.
        state.queued.clear();
        state.flying.clear();
        (state.reason, state.next) = (reason, next);
        drop(state);
        self.up.send_replace(false);
    }
}

impl Link {
    /// Starts to connect, and goes on until the link is dropped.
    pub fn start(settings: MqttSettings, home: Arc<Home>) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let (up, is_up) = watch::channel(false);
        let state = State {
            client: None,
            queued: VecDeque::new(),
            flying: HashMap::new(),
            reason: "not connected yet".to_owned(),
            next: Instant::now(),
        };
        let line = Arc::new(Line { state: Mutex::new(state), up });
        let keeper = Keeper { settings, home, line: Arc::clone(&line), stopped };
        let name = format!("mqtt-{}", keeper.settings.name);
        std::thread::Builder::new().name(name).spawn(move || {
            if let Some(runtime) = keeper.runtime() {
                keeper.keep(&runtime);
            }
        })?;
        Ok(Self { line, up: is_up, stop })
    }

    /// Ends the connection, whoever still holds the link.
    pub fn end(&self) {
        self.stop.send_replace(());
    }

    /// Gives a message to the connection.
    pub fn publish(&self, message: Message) -> Result<Acknowledged, Down> {
        let acknowledged = self.line.publish(message, true)?;
        Ok(acknowledged.expect("it was asked to be waited for"))
    }

    /// Waits until there is a connection, at most so long.
    pub async fn wait_until_up(&self, limit: Duration) {
        let mut up = self.up.clone();
        let _ = tokio::time::timeout(limit, up.wait_for(|up| *up)).await;
    }
}

/// What runs in the thread.
struct Keeper {
    settings: MqttSettings,
    home: Arc<Home>,
    line: Arc<Line>,
    stopped: watch::Receiver<()>,
}

impl Keeper {
    /// What the connection runs on. Made in its own thread, because one that is dropped elsewhere may take whoever drops
    /// it along. None when the link was ended meanwhile.
    fn runtime(&self) -> Option<tokio::runtime::Runtime> {
        loop {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => return Some(runtime),
                Err(error) => self.line.goes_down(error.to_string(), Instant::now() + NO_RUNTIME_WAIT),
            }
            std::thread::sleep(NO_RUNTIME_WAIT);
            if self.stopped.has_changed().unwrap_or(true) {
                return None;
            }
        }
    }

    fn keep(self, runtime: &tokio::runtime::Runtime) {
        let channel = &self.settings.name;
        let mut attempt = 0;
        loop {
            let began = Instant::now();
            // Nothing that a broker sends may end this thread.
            let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.connection())));
            let reason = match ended {
                Ok(Some(reason)) => reason,
                Ok(None) => return self.line.goes_down("the channel was closed".to_owned(), Instant::now()),
                Err(_) => "the client failed on what the broker sent".to_owned(),
            };
            attempt = if began.elapsed() > GOOD_AFTER { 1 } else { attempt + 1 };
            let wait = BACKOFF.backoff(attempt, random());
            warn!(channel, reason, wait_ms = wait.as_millis() as u64, "not connected to the broker");
            self.line.goes_down(reason, Instant::now() + wait);
            let mut stopped = self.stopped.clone();
            let is_over = runtime.block_on(async {
                // The sender sends once, or goes.
                tokio::time::timeout(wait, stopped.changed()).await.is_ok()
            });
            if is_over {
                return;
            }
        }
    }

    /// One connection to its end, and why it ended; none when the link was dropped.
    async fn connection(&self) -> Option<String> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            _ = stopped.changed() => None,
            reason = self.converse() => Some(reason),
        }
    }

    async fn converse(&self) -> String {
        let (client, mut events) = match self.open().await {
            Ok(opened) => opened,
            Err(reason) => return reason,
        };
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.comes_up(&client),
                Ok(Event::Outgoing(Outgoing::Publish(id))) if id != 0 => {
                    let mut state = self.line.lock();
                    if let Some(waiter) = state.queued.pop_front() {
                        state.flying.insert(id, waiter);
                    }
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    if let Some(Some(waiter)) = self.line.lock().flying.remove(&ack.pkid) {
                        let _ = waiter.send(());
                    }
                }
                Ok(Event::Incoming(Packet::Publish(got))) => self.heard(&got.topic, &got.payload, got.retain),
                Ok(other) => debug!(channel = self.settings.name, ?other, "broker"),
                Err(error) => return reason(&self.settings.host, &error),
            }
        }
    }

    async fn open(&self) -> Result<(AsyncClient, EventLoop), String> {
        let settings = &self.settings;
        let addresses = resolve(&settings.host, settings.port, settings.allow_link_local).await;
        let addresses = addresses.map_err(|error| error.to_string())?;
        let here = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
        if !settings.tls && !settings.allow_plaintext && !here {
            return Err(format!(
                "{} is not this machine, and messages do not travel in the clear",
                settings.host
            ));
        }
        let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_inflight(IN_FLIGHT);
        options.set_max_packet_size(MAX_INCOMING_BYTES, MAX_OUTGOING_BYTES);
        let will = LastWill::new(topics::availability(settings), super::OFFLINE, QoS::AtLeastOnce, true);
        options.set_last_will(will);
        if let Some((user, password)) = &settings.credentials {
            options.set_credentials(user, password.reveal());
        }
        if settings.tls {
            let tls = client_tls(settings.roots.as_ref()).map_err(|error| error.to_string())?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        }
        let (client, mut events) = AsyncClient::new(options, CAPACITY);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(NETWORK_LIMIT_SECS).set_tcp_nodelay(true);
        events.set_network_options(network);
        Ok((client, events))
    }

    /// Says who we are, what there is and how it stands, before anybody else can publish.
    fn comes_up(&self, client: &AsyncClient) {
        let settings = &self.settings;
        info!(channel = settings.name, host = settings.host, "connected to the broker");
        for topic in
            [discovery::status_topic(settings), discovery::own_topics(settings)].into_iter().flatten()
        {
            if client.try_subscribe(topic, QoS::AtLeastOnce).is_err() {
                warn!(channel = settings.name, "cannot subscribe to what Home Assistant says");
            }
        }
        self.home.with_greeting(|messages| {
            self.line.lock().client = Some(client.clone());
            self.publish_all(messages);
        });
        self.line.up.send_replace(true);
    }

    /// Home Assistant has come anew, or an entity stands there that is not ours any more.
    fn heard(&self, topic: &str, payload: &[u8], retained: bool) {
        if discovery::status_topic(&self.settings).as_deref() == Some(topic) {
            if !retained && payload == super::ONLINE.as_bytes() {
                debug!(
                    channel = self.settings.name,
                    "home assistant has come; everything is announced again"
                );
                self.home.with_greeting(|messages| self.publish_all(messages));
            }
        } else if retained && !payload.is_empty() && !self.home.announces(topic) {
            info!(channel = self.settings.name, topic, "an entity that is no more is taken back");
            self.publish_all(vec![Message::retained(topic.to_owned(), Vec::new())]);
        }
    }

    fn publish_all(&self, messages: Vec<Message>) {
        for message in messages {
            if let Err(down) = self.line.publish(message, false) {
                warn!(
                    channel = self.settings.name,
                    reason = down.reason,
                    "not everything could be announced"
                );
                return;
            }
        }
    }
}

/// Why a connection came to nothing, in words that help.
fn reason(host: &str, error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => format!("{host} refuses user and password"),
        ConnectionError::ConnectionRefused(ConnectReturnCode::BadClientId) => {
            format!("{host} refuses the client id")
        }
        ConnectionError::ConnectionRefused(code) => format!("{host} refuses the connection: {code:?}"),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => format!("{host} took too long"),
        other => {
            let said: String = other.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{host}: {said}")
        }
    }
}

/// A number in 0..1 that spreads the attempts.
fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0
}
