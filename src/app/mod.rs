//! The composition root: makes a node of settings, rooms and actors, and keeps it running until it is told to stop.

mod alerts;
mod build;
pub(crate) mod channels;
mod demo;
pub(crate) mod desk;
pub(crate) mod detectors;
mod exporter;
mod housekeeping;
mod ledger;
mod long_work;
mod nightly;
mod reading;
mod people;
pub(crate) mod rows;
mod service;
mod snoozes;
pub(crate) mod storage;
mod unclaimed;
mod view;
mod weights;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use meerkat_actors::Node;
use meerkat_actors::notices::Notices;
use meerkat_base::{Clock, Shutdown, SystemClock};
use meerkat_web::{WebHandle, WebServer, WebSettings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::settings::{DialectsSettings, Settings, SettingsErrors};

use detectors::Detectors;

pub(crate) use alerts::summary as alert_summary;
pub(crate) use build::unusable_folder;
pub use demo::{DemoOptions, demo};
pub(crate) use ledger::rules as ledger_rules;
pub(crate) use people::{OwnFolder, People, unknown_faces};
pub(crate) use snoozes::{snooze, status as snooze_status};
pub(crate) use weights::models_folder;

/// The commit this was built from, where the build said so.
const COMMIT: &str = match option_env!("MEERKAT_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// Time that a node has for finishing what it is at.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Where settings come from, so that they can be read again.
#[derive(Debug, Clone, Default)]
pub struct SettingsSource {
    /// Files in their order.
    pub files: Vec<PathBuf>,
    /// Keys in the form of environment variables that are set by the program itself.
    pub overrides: Vec<(String, String)>,
}

impl SettingsSource {
    /// Reads defaults, files, environment and overrides.
    pub fn load(&self) -> Result<Settings, SettingsErrors> {
        Settings::load(&self.files, crate::cli::environment().chain(self.overrides.iter().cloned()))
    }
}

/// A node with its HTTP side.
pub struct App {
    node: Node,
    web: WebHandle,
    housekeeping: housekeeping::Housekeeping,
    nightly: nightly::Nightly,
    lost: Arc<AtomicBool>,
    ending: Arc<Notify>,
    clock: Arc<dyn Clock>,
    /// What outlives channels that are built anew.
    lasting: channels::Lasting,
    /// The dialects as the node was started with them.
    dialects: DialectsSettings,
}

impl App {
    /// Starts everything. Must run inside [`meerkat_actors::in_system`].
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        meerkat_actors::supervision::fault::take_orders();
        let metrics = exporter::install()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let settings = Arc::new(settings);
        let (lost, ending) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (own_lost, own_ending) = (Arc::clone(&lost), Arc::clone(&ending));
        let on_lost = Box::new(move || {
            own_lost.store(true, Ordering::Release);
            own_ending.notify_one();
        });
        let detectors = Arc::new(Detectors::choose(&settings)?);
        for notice in detectors.notices() {
            warn!("{notice}");
        }
        // From here on parts can say what they notice; people are told once the node runs.
        let notices = Notices::new();
        let opener = build::opener(&settings, &clock)?;
        let store = nightly::StoreState::new(Arc::clone(&opener));
        let mut parts =
            build::parts(&settings, &clock, Shutdown::new(), on_lost, &detectors, notices.clone(), &opener)?;
        let lasting = channels::Lasting::at_start(&parts.store, clock.wall());
        parts.channels = channels::all(&settings, &clock, &lasting)?;
        channels::remember(&parts.channels, &settings.data_dir, clock.wall());
        let link_key = parts.link_key.clone();
        let started = clock.wall();
        let disk = housekeeping::DiskState::default();
        let node = Node::start(parts).await?;
        let view = Arc::new(view::View::new(
            &node,
            (disk.clone(), store.clone()),
            &settings,
            &clock,
            started,
            metrics,
            Arc::clone(&detectors),
        ));
        let events = Arc::new(view::Events::new(&settings.data_dir, opener.lock().clone()));
        let web_settings = WebSettings {
            listen: settings.http.listen,
            hosts: settings.http.hosts.clone(),
            token: settings.http.token.clone(),
            data_dir: settings.data_dir.clone(),
            public_url: settings.http.public_url.clone(),
            link_key: Some(link_key),
        };
        let housekeeping = housekeeping::Housekeeping::start(disk, node.view(), Arc::clone(&clock))?;
        let nightly =
            nightly::Nightly::start(&settings, store, node.view(), Arc::clone(&clock), Arc::new(notices))?;
        let archivist = node.view().archivist().clone();
        let people =
            Arc::new(people::People::new(archivist, Arc::clone(&clock), detectors.judge(), &settings));
        let alerts = Arc::new(alerts::Desk::new(node.view(), Arc::clone(&clock)));
        let snoozes = Arc::new(snoozes::SnoozeDesk::new(node.view(), Arc::clone(&clock)));
        let storage_desk =
            Arc::new(storage::Desk::new(node.view(), &settings, Arc::clone(&clock), opener.lock().clone()));
        let web = match WebServer::start(web_settings, view, events, people, alerts, snoozes, storage_desk) {
            Ok(web) => web,
            Err(error) => {
                node.stop(STOP_PATIENCE);
                return Err(error.into());
            }
        };
        let dialects = settings.dialects.clone();
        Ok(Self { node, web, housekeeping, nightly, lost, ending, clock, lasting, dialects })
    }

    /// The running node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where the HTTP side listens.
    pub fn http_address(&self) -> std::net::SocketAddr {
        self.web.addr()
    }

    /// Whether so many threads hang that the node must be started anew.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Puts new settings in force; the old ones stay when the new ones are wrong.
    pub fn reload(&self, source: &SettingsSource) {
        let applied = source.load().map_err(anyhow::Error::from).and_then(|settings| {
            let channels = channels::all(&settings, &self.clock, &self.lasting)?;
            let waiting = self.dialects.wait_for_restart(&settings.dialects);
            self.node.reload(Arc::new(settings), channels);
            Ok(waiting)
        });
        match applied {
            Ok(waiting) => {
                info!("settings reloaded; listeners, data folder and threads keep what they started with");
                if !waiting.is_empty() {
                    warn!(keys = waiting.join(", "), "these settings differ and wait for a restart");
                }
            }
            Err(error) => {
                error!(error = format!("{error:#}"), "settings not reloaded; the old ones stay in force")
            }
        }
    }

    /// Finishes and goes. Blocks.
    pub fn stop(self) {
        self.node.stop(STOP_PATIENCE);
        self.housekeeping.stop();
        self.nightly.stop();
        if !self.web.stop(Duration::from_secs(4)) {
            warn!("the HTTP side is late");
        }
    }
}

/// `meerkat run`: the node, until it is told to stop. A second signal ends it at once; SIGHUP reloads.
pub fn run(source: &SettingsSource, settings: Settings) -> anyhow::Result<()> {
    prepare_process();
    info!(version = env!("CARGO_PKG_VERSION"), commit = COMMIT, "meerkat starts");
    meerkat_actors::in_system(async {
        let mut signals = Signals::new()?;
        let app = App::start(settings).await?;
        for (address, tls) in app.node().addresses() {
            info!(%address, tls, "cameras can connect");
        }
        info!(address = %app.http_address(), "page, status and metrics");
        let watchdog = service::ready();
        wait_for_end(&mut signals, &app, source).await;
        drop(watchdog);
        stop_or_leave(signals, app, || {}).await
    })
}

async fn wait_for_end(signals: &mut Signals, app: &App, source: &SettingsSource) {
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return,
            _ = signals.terminate.recv() => return,
            () = app.ending.notified() => return,
            _ = signals.hangup.recv() => {
                service::reloading();
                app.reload(source);
                service::reloaded();
            }
        }
    }
}

/// Stops in order, unless a second signal comes. `leaving` is done before the process is left without order.
async fn stop_or_leave(mut signals: Signals, app: App, leaving: impl FnOnce()) -> anyhow::Result<()> {
    let lost = app.is_lost();
    info!(lost, "meerkat stops; a second signal ends it at once");
    service::stopping();
    let stopping = tokio::task::spawn_blocking(move || app.stop());
    tokio::select! {
        () = signals.again() => {
            leaving();
            leave_at_once()
        }
        stopped = stopping => stopped.context("stopping failed")?,
    }
    if lost {
        // Hanging threads cannot be joined: nothing may wait for them.
        error!("too many threads hang in native code; the service manager must start the node anew");
        leaving();
        leave(3)
    }
    info!("meerkat stopped");
    Ok(())
}

fn leave_at_once() -> ! {
    warn!("ended at once");
    leave(130)
}

/// Ends the process without running what native libraries have registered for its end: their destructors would take
/// away under threads that still work (a detector that is just being made, one that hangs) what these are using.
pub(crate) fn leave(code: u8) -> ! {
    let _ = std::io::stdout().flush();
    signal_hook::low_level::exit(code.into())
}

/// Two signals within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for another signal to end. What comes within a moment of the first is the same one, sent to the process and
    /// to its group.
    async fn again(&mut self) {
        let begun = tokio::time::Instant::now();
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            if begun.elapsed() >= SAME_SIGNAL {
                return;
            }
        }
    }
}

/// What holds for the whole process: private files, and as many of them as the system allows.
fn prepare_process() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: files.maximum, maximum: files.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it is");
    }
}
