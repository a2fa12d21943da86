//! Sends pictures to viewers and hears their answers: the one who talks UDP. Whom it sends to is decided by [`Live`].

use std::net::UdpSocket as StdSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use meerkat_base::metric;
use meerkat_store::StoreError;
use meerkat_wire::watch::MAX_ANSWER_BYTES;
use metrics::counter;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Live;
use super::live::Shown;
use super::viewers::Due;
use crate::session::LogRation;
use crate::supervision::{ActorKind, Failure, Sentinel, fault};

/// How often it looks who is to be sent a picture again, and who is silent.
const INTERVAL: Duration = Duration::from_millis(100);
/// Datagrams that are heard in one go before anything is sent.
const AT_ONCE: usize = 256;
/// A socket that takes a datagram no sooner than this has no room for it.
const SEND_LIMIT: Duration = Duration::from_millis(50);

/// The actor.
pub struct Usher {
    work: Option<Work>,
    sentinel: Arc<Sentinel>,
}

struct Work {
    live: Live,
    socket: Arc<StdSocket>,
    ration: Arc<LogRation>,
    writing: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Usher {
    /// One with this socket, which outlives it.
    pub fn new(live: Live, socket: Arc<StdSocket>, ration: Arc<LogRation>, sentinel: Sentinel) -> Self {
        Self { work: Some(Work { live, socket, ration, writing: None }), sentinel: Arc::new(sentinel) }
    }
}

impl Actor for Usher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(work) = self.work.take() else { return ctx.stop() };
        let sentinel = Arc::clone(&self.sentinel);
        // It only ends by failing.
        ctx.spawn(work.run().into_actor(self).map(move |failure, _, ctx| {
            sentinel.fail(failure);
            ctx.stop();
        }));
    }
}

impl Work {
    async fn run(mut self) -> Failure {
        let socket = match self.socket.try_clone().and_then(UdpSocket::from_std) {
            Ok(socket) => socket,
            Err(error) => return Failure::error(error),
        };
        loop {
            let has_work = self.live.is_watched() || self.writing.is_some() || self.live.has_lines();
            tokio::select! {
                () = self.live.news() => {}
                readable = socket.readable() => match readable {
                    Ok(()) => self.hear(&socket),
                    Err(error) => return Failure::error(error),
                },
                () = sleep(INTERVAL), if has_work => {}
            }
            if let Err(failure) = fault::point(ActorKind::Usher, None) {
                return failure;
            }
            if let Some((shown, due)) = self.live.turn() {
                send(&socket, &shown, &due).await;
            }
            self.write().await;
        }
    }

    /// Takes what has come, up to a number, so that a flood leaves time for sending.
    fn hear(&self, socket: &UdpSocket) {
        // One more than the longest answer: what fills it is none.
        let mut datagram = [0; MAX_ANSWER_BYTES + 1];
        for _ in 0..AT_ONCE {
            match socket.try_recv_from(&mut datagram) {
                Ok((length, from)) => self.live.hear(from, datagram.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // An answer of the network to an earlier datagram, such as that nobody listens there.
                Err(error) => debug!(%error, "a datagram could not be read"),
            }
        }
    }

    /// Keeps one piece of work with the log under way, on a thread that may wait for the disk.
    async fn write(&mut self) {
        if let Some(writing) = self.writing.take_if(|writing| writing.is_finished()) {
            let problem = match writing.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem
                && let Some(not_logged) = self.ration.line(Instant::now())
            {
                warn!(problem, not_logged, "lines of the log of viewers are lost");
            }
        }
        if self.writing.is_none()
            && let Some((log, lines)) = self.live.take_lines()
        {
            self.writing = Some(tokio::task::spawn_blocking(move || log.append(&lines)));
        }
    }
}

async fn send(socket: &UdpSocket, shown: &Shown, due: &Due) {
    let (mut sent, mut unsent) = (0, 0);
    for target in &due.targets {
        match timeout(SEND_LIMIT, socket.send_to(&shown.bytes, target)).await {
            Ok(Ok(_)) => sent += 1,
            Ok(Err(error)) => {
                debug!(%target, %error, "a picture could not be sent");
                unsent += 1;
            }
            Err(_) => unsent += 1,
        }
    }
    counter!(metric::LIVE_DATAGRAMS, "result" => "sent").increment(sent);
    counter!(metric::LIVE_DATAGRAMS, "result" => "unsent").increment(unsent);
    counter!(metric::LIVE_DATAGRAMS, "result" => "lost").increment(due.lost);
    counter!(metric::LIVE_BYTES).increment(sent * shown.bytes.len() as u64);
}
