//! The actix shell of sessions, and the threads they live on.

use std::future::Future;
use std::net::{Shutdown as How, SocketAddr, TcpStream as StdStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use meerkat_base::metric;
use meerkat_settings::Admission;
use metrics::counter;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{error, warn};

use super::component::{Session, SessionEnd, SessionTools};
use super::limits::Admitted;
use crate::supervision::{ActorKind, Board, Failure, Stopwatch};

/// How often an io thread says that it is alive.
const BEAT: Duration = Duration::from_millis(200);

/// A connection that the door has let in.
pub(super) struct Caller {
    pub stream: StdStream,
    pub peer: SocketAddr,
    pub tls: Option<TlsAcceptor>,
    pub admission: Admission,
    pub admitted: Admitted,
}

/// One session as an actor. It is not restarted: its camera comes back by itself.
pub struct SessionActor {
    tools: Arc<SessionTools>,
    caller: Option<Caller>,
    report: Report,
    _listed: Listed,
}

/// Tells the board how the session ended, also when it was by a panic.
struct Report {
    board: Board,
    ended: bool,
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            self.board.count_failure(ActorKind::Session, &Failure::Panic(String::new()));
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(caller) = self.caller.take() else { return ctx.stop() };
        let tools = Arc::clone(&self.tools);
        let talk = async move { talk(tools, caller).await };
        ctx.spawn(talk.into_actor(self).map(|end, actor, ctx| {
            actor.report.ended = true;
            if let SessionEnd::Failed(failure) = end {
                warn!(%failure, "a session failed");
                actor.report.board.count_failure(ActorKind::Session, &failure);
            }
            ctx.stop();
        }));
    }
}

async fn talk(tools: Arc<SessionTools>, caller: Caller) -> SessionEnd {
    let Caller { stream, peer, tls, admission, admitted } = caller;
    let _admitted = admitted;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return SessionEnd::Broken(error.to_string()),
    };
    let handshake_limit = tools.cameras.settings().frame.handshake_timeout;
    let session = Session::new(tools, peer, tls.is_some(), admission);
    match tls {
        None => session.run(stream).await,
        Some(acceptor) => match tokio::time::timeout(handshake_limit, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => session.run(stream).await,
            Ok(Err(error)) => {
                counter!(metric::PROTOCOL_ERRORS, "reason" => "tls").increment(1);
                SessionEnd::Broken(error.to_string())
            }
            Err(_) => {
                counter!(metric::LIMIT_HITS, "limit" => "handshake_timeout").increment(1);
                counter!(metric::PROTOCOL_ERRORS, "reason" => "handshake_timeout").increment(1);
                SessionEnd::Refused("handshake_timeout")
            }
        },
    }
}

struct IoThread {
    arbiter: Arbiter,
    life: Arc<Life>,
}

/// Times are those of the stopwatch.
struct Life {
    stopwatch: Stopwatch,
    beat: AtomicU64,
    abandoned: AtomicBool,
    /// Second handles of the thread's sockets: they are cut when the thread is given up.
    sockets: Mutex<Vec<(u64, StdStream)>>,
}

impl Life {
    fn now(&self) -> u64 {
        self.stopwatch.millis()
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<(u64, StdStream)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads that sessions live on. A thread that stands still is given up and its cameras come back on
/// another. Clones share the group.
#[derive(Clone)]
pub struct IoGroup {
    shared: Arc<Shared>,
}

struct Shared {
    board: Board,
    deadline: Duration,
    threads: Mutex<Vec<IoThread>>,
    next: AtomicUsize,
    numbers: AtomicU64,
    stopped: AtomicBool,
}

impl IoGroup {
    /// Starts the threads. Must be called where an actix `System` is current.
    pub fn start(threads: usize, deadline: Duration, board: Board) -> std::io::Result<Self> {
        let threads = (0..threads.max(1)).map(|_| hire(&board)).collect::<std::io::Result<Vec<_>>>()?;
        let shared = Shared {
            board,
            deadline,
            threads: Mutex::new(threads),
            next: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn threads(&self) -> MutexGuard<'_, Vec<IoThread>> {
        self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a camera's connection to a thread.
    pub(super) fn run(&self, tools: Arc<SessionTools>, caller: Caller) {
        let Some((arbiter, listed)) = self.place(&caller.stream) else { return };
        let board = self.shared.board.clone();
        arbiter.spawn_fn(move || {
            let report = Report { board, ended: false };
            SessionActor { tools, caller: Some(caller), report, _listed: listed }.start();
        });
    }

    /// Gives a connection of another dialect to a thread. `talk` is run there, and gives back how the node failed in
    /// it, if it did; a panic in it is counted, and ends this connection alone.
    pub(crate) fn run_talk<F>(&self, stream: StdStream, talk: impl FnOnce(StdStream) -> F + Send + 'static)
    where
        F: Future<Output = Option<Failure>> + 'static,
    {
        let Some((arbiter, listed)) = self.place(&stream) else { return };
        let board = self.shared.board.clone();
        arbiter.spawn_fn(move || {
            // The runtime of the thread catches what panics in a task.
            actix_rt::spawn(async move {
                let _listed = listed;
                let mut report = Report { board, ended: false };
                let failure = talk(stream).await;
                report.ended = true;
                if let Some(failure) = failure {
                    warn!(%failure, "a session failed");
                    report.board.count_failure(ActorKind::Session, &failure);
                }
            });
        });
    }

    /// A place for a connection on the thread whose turn it is.
    fn place(&self, stream: &StdStream) -> Option<(ArbiterHandle, Listed)> {
        let threads = self.threads();
        let turn = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let thread = threads.get(turn % threads.len().max(1))?;
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let second = match stream.try_clone() {
            Ok(second) => second,
            Err(error) => {
                warn!(%error, "a connection could not be taken");
                return None;
            }
        };
        thread.life.sockets().push((number, second));
        Some((thread.arbiter.handle(), Listed { life: Arc::clone(&thread.life), number }))
    }

    /// Gives up threads that stand still. Called by the watch.
    pub fn tick(&self, _now: Instant) {
        let limit = u64::try_from(self.shared.deadline.as_millis()).unwrap_or(u64::MAX);
        let mut threads = self.threads();
        // Threads that were ended beat no more, and are no failure.
        if self.shared.stopped.load(Ordering::Acquire) {
            return;
        }
        for thread in threads.iter_mut() {
            let life = &thread.life;
            if life.now().saturating_sub(life.beat.load(Ordering::Acquire)) <= limit {
                continue;
            }
            let fresh = match hire(&self.shared.board) {
                Ok(fresh) => fresh,
                Err(error) => {
                    error!(%error, "no thread could be started");
                    continue;
                }
            };
            let lost = std::mem::replace(thread, fresh);
            lost.life.abandoned.store(true, Ordering::Release);
            let abandoned = self.shared.board.abandon_thread();
            self.shared.board.count_failure(ActorKind::Session, &Failure::Hang);
            error!(abandoned, "an io thread hangs and was given up; its cameras must connect again");
            for (_, socket) in lost.life.sockets().drain(..) {
                let _ = socket.shutdown(How::Both);
            }
        }
    }

    /// Ends the threads, after their sessions have had `patience` to finish.
    pub fn stop(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        while Instant::now() < give_up && self.threads().iter().any(|t| !t.life.sockets().is_empty()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let threads = self.threads();
        self.shared.stopped.store(true, Ordering::Release);
        for thread in threads.iter() {
            thread.arbiter.stop();
        }
    }
}

/// Takes the second handle of a socket off the list with the actor, whichever way that ends.
struct Listed {
    life: Arc<Life>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let number = self.number;
        self.life.sockets().retain(|(n, _)| *n != number);
    }
}

fn hire(board: &Board) -> std::io::Result<IoThread> {
    let arbiter = Arbiter::try_new()?;
    let life = Arc::new(Life {
        stopwatch: board.stopwatch(),
        beat: AtomicU64::new(0),
        abandoned: AtomicBool::new(false),
        sockets: Mutex::default(),
    });
    let (beating, board) = (Arc::clone(&life), board.clone());
    arbiter.spawn(async move {
        loop {
            actix_rt::time::sleep(BEAT).await;
            if beating.abandoned.load(Ordering::Acquire) {
                board.thread_returned();
                Arbiter::current().stop();
                return;
            }
            beating.beat.store(beating.now(), Ordering::Release);
        }
    });
    Ok(IoThread { arbiter, life })
}
