//! Opens the listener and runs the server on a thread and runtime of its own; stops it again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::rt::System;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use meerkat_base::{Clock, SystemClock};
use tokio::sync::Semaphore;

use crate::door::{self, ArrivedAt};
use crate::enrolled::PeopleDesk;
use crate::lane::Lane;
use crate::outbox::AlertDesk;
use crate::routes::{self, LastStatus};
use crate::settings::{CheckedSettings, WebError, WebSettings};
use crate::shared;
use crate::view::{EventSource, NodeView, SnoozeDesk, StorageDesk};

/// Threads that serve requests.
const WORKERS: usize = 2;
/// Open connections per worker; further ones wait in the listener's queue.
const CONNECTIONS_PER_WORKER: usize = 64;
/// Threads for blocking work per worker, enough for every connection and every lane.
const BLOCKING_THREADS_PER_WORKER: usize = 96;
/// Time for a client to send the head of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a client to take the end of a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time without any byte taken after which the system gives a client up.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Time that running requests get when the server stops, in whole seconds.
const GRACE_SECS: u64 = 3;
/// How long a call into the node may take.
const VIEW_DEADLINE: Duration = Duration::from_secs(2);
/// How long enrolling may take: every picture is searched for faces.
const ENROL_DEADLINE: Duration = Duration::from_secs(60);
/// How long removing somebody may take: what looks like them is looked for.
const REMOVE_DEADLINE: Duration = Duration::from_secs(30);
/// How long listing people and changing snoozes may take: they wait for the one writer of the database.
const PEOPLE_DEADLINE: Duration = Duration::from_secs(5);

/// How long reading or changing alerts may take: they wait for the one writer of the database.
const ALERTS_DEADLINE: Duration = Duration::from_secs(10);
/// How long trying a channel out may take: a little longer than its attempt.
const TEST_DEADLINE: Duration = Duration::from_secs(70);
/// How long a page of rows of clips may take: those of a camera are looked for among all of them.
const CLIPS_DEADLINE: Duration = Duration::from_secs(20);
/// How long a plan of what would go next may take: it may read the names of many pictures.
const STORAGE_DEADLINE: Duration = Duration::from_secs(20);

/// What the routes share.
pub(crate) struct AppState {
    pub(crate) settings: CheckedSettings,
    pub(crate) view: Arc<dyn NodeView>,
    pub(crate) events: Arc<dyn EventSource>,
    pub(crate) people: Arc<dyn PeopleDesk>,
    pub(crate) alerts: Arc<dyn AlertDesk>,
    pub(crate) snoozes: Arc<dyn SnoozeDesk>,
    pub(crate) storage: Arc<dyn StorageDesk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lanes: Lanes,
    pub(crate) last_status: LastStatus,
    /// One enrolment is in memory at a time.
    pub(crate) upload: Semaphore,
}

/// One lane per kind of call, so that none that hangs stands in the way of another.
pub(crate) struct Lanes {
    pub(crate) status: Lane,
    pub(crate) metrics: Lane,
    pub(crate) ready: Lane,
    pub(crate) picture: Lane,
    pub(crate) reference: Lane,
    pub(crate) events: Lane,
    pub(crate) files: Lane,
    pub(crate) people: Lane,
    pub(crate) confirm: Lane,
    pub(crate) enrol: Lane,
    pub(crate) remove: Lane,
    pub(crate) alerts: Lane,
    pub(crate) change_alerts: Lane,
    pub(crate) test_channel: Lane,
    pub(crate) snoozes: Lane,
    pub(crate) snooze: Lane,
    pub(crate) storage: Lane,
    pub(crate) keep: Lane,
    pub(crate) visits: Lane,
    pub(crate) clips: Lane,
    pub(crate) long_work: Lane,
}

impl Lanes {
    fn new() -> Self {
        let lane = |name, places| Lane::new(name, places, VIEW_DEADLINE);
        Self {
            status: lane("status", 1),
            metrics: lane("metrics", 1),
            ready: lane("ready", 1),
            picture: lane("picture", 4),
            reference: lane("reference", 1),
            events: lane("events", 2),
            files: lane("files", 4),
            confirm: Lane::new("confirm", 1, PEOPLE_DEADLINE),
            people: Lane::new("people", 1, PEOPLE_DEADLINE),
            enrol: Lane::new("enrol", 1, ENROL_DEADLINE),
            remove: Lane::new("remove", 1, REMOVE_DEADLINE),
            alerts: Lane::new("alerts", 1, ALERTS_DEADLINE),
            change_alerts: Lane::new("change_alerts", 1, ALERTS_DEADLINE),
            test_channel: Lane::new("test_channel", 2, TEST_DEADLINE),
            snoozes: lane("snoozes", 1),
            snooze: Lane::new("snooze", 1, PEOPLE_DEADLINE),
            storage: Lane::new("storage", 1, STORAGE_DEADLINE),
            keep: Lane::new("keep", 1, PEOPLE_DEADLINE),
            visits: lane("visits", 1),
            clips: Lane::new("clips", 1, CLIPS_DEADLINE),
            long_work: Lane::new("long_work", 1, PEOPLE_DEADLINE),
        }
    }
}

/// The HTTP side of the node.
#[derive(Debug)]
pub struct WebServer;

impl WebServer {
    /// Checks the settings, listens, and serves from a thread of its own. When this returns, requests are
    /// answered.
    pub fn start(
        settings: WebSettings,
        view: Arc<dyn NodeView>,
        events: Arc<dyn EventSource>,
        people: Arc<dyn PeopleDesk>,
        alerts: Arc<dyn AlertDesk>,
        snoozes: Arc<dyn SnoozeDesk>,
        storage: Arc<dyn StorageDesk>,
    ) -> Result<WebHandle, WebError> {
        let settings = settings.check()?;
        let listen = settings.listen;
        let listen_error = |source| WebError::Listen { listen, source };
        let listener = TcpListener::bind(listen).map_err(listen_error)?;
        let addr = listener.local_addr().map_err(listen_error)?;
        door::declare_limits();
        shared::declare();
        let state = web::Data::new(AppState {
            settings,
            view,
            events,
            people,
            alerts,
            snoozes,
            storage,
            clock: Arc::new(SystemClock::new()),
            lanes: Lanes::new(),
            last_status: LastStatus::default(),
            upload: Semaphore::new(1),
        });

        let (started_sender, started) = mpsc::channel();
        let (alive, ended) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("meerkat-web".to_owned())
            .spawn(move || {
                // Dropped when the thread ends, however it ends.
                let _alive = alive;
                System::new().block_on(async move {
                    let server = match build(listener, state) {
                        Ok(server) => server,
                        Err(error) => {
                            let _ = started_sender.send(Err(error));
                            return;
                        }
                    };
                    let _ = started_sender.send(Ok(server.handle()));
                    if let Err(error) = server.await {
                        tracing::error!(%error, "the HTTP side ended");
                    }
                });
            })
            .map_err(WebError::Thread)?;
        let server = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("it ended at once")))
            .map_err(WebError::Thread)?;
        tracing::info!(%addr, "the HTTP side listens");
        Ok(WebHandle { addr, server, ended: Mutex::new(ended), thread })
    }
}

fn build(listener: TcpListener, state: web::Data<AppState>) -> io::Result<actix_web::dev::Server> {
    let server = HttpServer::new(move || {
        App::new().app_data(state.clone()).wrap(from_fn(door::guard)).configure(routes::configure)
    })
    .workers(WORKERS)
    .max_connections(CONNECTIONS_PER_WORKER)
    .worker_max_blocking_threads(BLOCKING_THREADS_PER_WORKER)
    // actix-http limits the time for the head of a connection's first request only: with kept connections, a
    // client could hold one for ever by never finishing its second request.
    .keep_alive(KeepAlive::Disabled)
    .client_request_timeout(REQUEST_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(GRACE_SECS)
    .disable_signals()
    .on_connect(|connection, data| {
        let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
        if let Ok(own) = stream.local_addr() {
            data.insert(ArrivedAt(own.ip()));
        }
        limit_unread(stream);
    })
    .listen(listener)?;
    Ok(server.run())
}

/// A client that asks for a clip and never reads would hold its connection for ever: let the system end it.
fn limit_unread(stream: &TcpStream) {
    let millis = u32::try_from(UNREAD_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis) {
        tracing::debug!(%error, "no time limit for clients that do not read");
    }
}

/// A running HTTP side. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct WebHandle {
    addr: SocketAddr,
    server: ServerHandle,
    // In a mutex only so that a handle can be shared; the channel closes when the thread ends.
    ended: Mutex<Receiver<()>>,
    thread: JoinHandle<()>,
}

impl WebHandle {
    /// The address it listens on, with the port that was taken.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it still serves; false only after something broke it.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Takes no new connections, lets running requests finish for up to three seconds, and waits for the end of
    /// the thread, at most `deadline`. False when it was late; its thread is then left behind. Blocks.
    pub fn stop(self, deadline: Duration) -> bool {
        // The order is given by the call; the future would only wait.
        drop(self.server.stop(true));
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = ended.recv_timeout(deadline) == Err(RecvTimeoutError::Disconnected);
        drop(ended);
        if !in_time {
            tracing::warn!(?deadline, "the HTTP side is late to stop");
        }
        in_time
    }
}

impl Drop for WebHandle {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}
