//! A real Mosquitto on a free port of the loopback, and somebody who listens to all that it passes on. It keeps retained
//! messages in a folder of its own, so that it can be killed and started again as brokers are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use tempfile::TempDir;

/// Longer than a broker takes to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What the broker is like.
#[derive(Debug, Clone, Default)]
pub struct MosquittoRules {
    /// Whether clients must speak TLS; a second, plain listener is there for the observer.
    pub tls: bool,
    /// User and password without which nobody is let in.
    pub login: Option<(String, String)>,
}

/// A running broker. Ends when it is dropped.
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    plain_port: u16,
    login: Option<(String, String)>,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one. An error where Debian's package `mosquitto` is not installed.
    pub fn start(rules: &MosquittoRules) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("meerkat-mosquitto-").tempdir()?;
        let (port, plain_port) = (free_port()?, free_port()?);
        let mut lines = String::new();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let _ = writeln!(lines, "listener {port} 127.0.0.1");
        if rules.tls {
            let _ = writeln!(lines, "certfile {}", super::tls::certificate_file().display());
            let _ = writeln!(lines, "keyfile {}", super::tls::key_file().display());
        }
        let _ = writeln!(lines, "listener {plain_port} 127.0.0.1");
        // Saved at every change: what was retained must survive a kill.
        let _ = writeln!(lines, "persistence true\npersistence_location {}/", folder.path().display());
        let _ = writeln!(lines, "autosave_on_changes true\nautosave_interval 1\nlog_dest none");
        match &rules.login {
            None => lines.push_str("allow_anonymous true\n"),
            Some((user, password)) => {
                let file = at("passwords");
                run("mosquitto_passwd", &["-c", "-b", &file, user, password])?;
                let _ = writeln!(lines, "allow_anonymous false\npassword_file {file}");
            }
        }
        // Started by root it would become another user, who may not read this folder.
        lines.push_str("user root\n");
        std::fs::write(folder.path().join("mosquitto.conf"), lines)?;
        let mut broker = Self { folder, port, plain_port, login: rules.login.clone(), child: None };
        broker.restart()?;
        Ok(broker)
    }

    /// The port of the clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it without a chance to say anything.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again with what it had kept, and waits until it listens.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let config = self.folder.path().join("mosquitto.conf");
        let mut command = Command::new(program("mosquitto")?);
        let child =
            command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(child.spawn()?);
        let end = Instant::now() + START_LIMIT;
        for port in [self.port, self.plain_port] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                if Instant::now() > end {
                    return Err(io::Error::other("mosquitto does not come up"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Somebody who hears everything from now on, retained messages first.
    pub fn observe(&self) -> Observer {
        Observer::start(self.plain_port, self.login.clone())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn program(name: &str) -> io::Result<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{name} is missing; run scripts/setup.sh"))
    })
}

fn run(name: &str, arguments: &[&str]) -> io::Result<()> {
    let done = Command::new(program(name)?).args(arguments).stderr(Stdio::null()).status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other(format!("{name} failed"))) }
}

/// A message as somebody who subscribes gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Whether it had been kept for those who come later.
    pub retained: bool,
}

impl Observed {
    /// The payload as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

#[derive(Default)]
struct Heard {
    messages: Vec<Observed>,
    is_listening: bool,
    is_over: bool,
}

/// Listens to every topic of a broker and can speak too. Does not come back when the broker goes.
pub struct Observer {
    client: Client,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    listening: Option<JoinHandle<()>>,
}

impl Observer {
    fn start(port: u16, login: Option<(String, String)>) -> Self {
        let mut options = MqttOptions::new(format!("observer-{}", uuid::Uuid::new_v4()), "127.0.0.1", port);
        options.set_max_packet_size(20 << 20, 20 << 20);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 100);
        let heard: Arc<(Mutex<Heard>, Condvar)> = Arc::default();
        let _ = client.try_subscribe("#", QoS::AtLeastOnce);
        let listening = std::thread::spawn({
            let heard = Arc::clone(&heard);
            move || {
                for event in connection.iter() {
                    let mut state = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                    match event {
                        Ok(Event::Incoming(Packet::Publish(got))) => {
                            let (topic, payload, retained) = (got.topic, got.payload, got.retain);
                            state.messages.push(Observed { topic, payload, retained });
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => state.is_listening = true,
                        Ok(_) => {}
                        Err(_) => state.is_over = true,
                    }
                    let is_over = state.is_over;
                    drop(state);
                    heard.1.notify_all();
                    if is_over {
                        return;
                    }
                }
            }
        });
        let observer = Self { client, heard, listening: Some(listening) };
        observer.until(START_LIMIT, |heard| heard.is_listening.then_some(()));
        observer
    }

    fn until<R>(&self, limit: Duration, mut found: impl FnMut(&Heard) -> Option<R>) -> Option<R> {
        let end = Instant::now() + limit;
        let mut state = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = found(&state) {
                return Some(answer);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over {
                return None;
            }
            state = self.heard.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything so far, in order.
    pub fn messages(&self) -> Vec<Observed> {
        self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).messages.clone()
    }

    /// Waits for a message; the first that fits, of those before too. None when it does not come in time.
    pub fn wait_for(&self, limit: Duration, fits: impl Fn(&Observed) -> bool) -> Option<Observed> {
        self.until(limit, |heard| heard.messages.iter().find(|message| fits(message)).cloned())
    }

    /// Waits until the newest messages of all topics look right.
    pub fn wait_until(&self, limit: Duration, fits: impl Fn(&BTreeMap<String, Bytes>) -> bool) -> bool {
        let newest = |heard: &Heard| -> BTreeMap<String, Bytes> {
            heard.messages.iter().map(|message| (message.topic.clone(), message.payload.clone())).collect()
        };
        self.until(limit, |heard| fits(&newest(heard)).then_some(())).is_some()
    }

    /// Says something itself.
    pub fn publish(&self, topic: &str, retain: bool, payload: &str) {
        let _ = self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload);
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
        if let Some(thread) = self.listening.take() {
            let _ = thread.join();
        }
    }
}
