//! The talk with one camera: bytes in, answers out. Plain async code over any stream; actix is in `shell.rs`.
//!
//! It reads only as fast as it can hand frames on, so a busy node slows its cameras instead of growing.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{Budget, Clock, Permit, Shutdown, metric, text};
use meerkat_settings::{Admission, FrameSettings};
use meerkat_wire::frame::{Answer, Item, Limits, Options, Parser, Phase};
use metrics::counter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info};

use super::buffer::{BUFFER_STEP, ReadBuffer};
use super::deliver::Delivery;
use super::identity::{self, Peer, Who};
use super::ration::LogRation;
use crate::camera::{Camera, Cameras, Outcome, Seat, Stage};
use crate::supervision::{ActorKind, Failure, fault};

/// How long a newcomer waits for the connection it replaces.
const VACATE_LIMIT: Duration = Duration::from_secs(2);
/// Bytes that markers and a slightly larger frame need beyond the size of the last frame.
const READ_AHEAD: usize = 1024;
/// A connection on which nothing comes for so long gives back the memory of its last frame.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How often a session looks again for room in the budget of frames in flight.
const BUDGET_RETRY: Duration = Duration::from_millis(10);

/// What every session uses.
pub struct SessionTools {
    /// The register of cameras, with the settings in force.
    pub cameras: Cameras,
    /// Bytes of frames being received, over all connections.
    pub in_flight: Budget,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The signal to finish.
    pub shutdown: Shutdown,
    /// Lines about refused connections that may still be logged.
    pub refusals_logged: LogRation,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client closed the connection.
    Left,
    /// The connection broke.
    Broken(String),
    /// The node refused to go on; the word is the label of the metric.
    Refused(&'static str),
    /// A new connection of the same camera took its place.
    Replaced,
    /// The node is going down.
    Shutdown,
    /// The session failed.
    Failed(Failure),
}

/// One connection.
pub struct Session {
    tools: Arc<SessionTools>,
    peer: Peer,
    limits: FrameSettings,
    parser: Parser,
    buffer: ReadBuffer,
    /// Nothing has come for a while.
    rests: bool,
    permit: Option<Permit>,
    seated: Option<Seated>,
    delivery: Delivery,
    refused_in_row: u32,
    last_frame_bytes: usize,
}

/// The camera that this connection is. Dropping it frees the seat, also when the session was lost to a panic.
struct Seated {
    cameras: Cameras,
    camera: Arc<Camera>,
    seat: Option<Seat>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.cameras.leave(&self.camera, seat);
        }
    }
}

/// What to do after an item.
enum Turn {
    Answer(bool),
    AnswerAndEnd(bool, SessionEnd),
}

impl Session {
    /// A session with a peer that the door has let in.
    pub fn new(tools: Arc<SessionTools>, peer: SocketAddr, secure: bool, admission: Admission) -> Self {
        let limits = tools.cameras.settings().frame.clone();
        let parser = Parser::new(
            Limits {
                max_frame_bytes: limits.max_frame_bytes,
                max_pixels: limits.max_pixels,
                max_scans: limits.max_scans,
                max_scanned_pixels: limits.max_scanned_pixels,
                ..Limits::default()
            },
            Options { accept_unknown: limits.accept_unknown },
        );
        let delivery = Delivery::new(Arc::clone(&tools.clock), limits.answer_wait);
        Self {
            tools,
            peer: Peer { address: peer.ip(), secure, admission },
            limits,
            parser,
            buffer: ReadBuffer::default(),
            rests: false,
            permit: None,
            seated: None,
            delivery,
            refused_in_row: 0,
            last_frame_bytes: 0,
        }
    }

    /// Talks until the connection is over.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, mut stream: S) -> SessionEnd {
        let end = match self.talk(&mut stream).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let _ = timeout(Duration::from_secs(1), stream.shutdown()).await;
        self.delivery.connection_ended(self.seated.as_ref().map(|seated| &seated.camera)).await;
        if let Some(seated) = self.seated.take() {
            info!(camera = %seated.camera.id(), ?end, "camera left");
        } else {
            debug!(peer = %self.peer.address, ?end, "connection ended");
        }
        match &end {
            SessionEnd::Refused(reason) => {
                counter!(metric::PROTOCOL_ERRORS, "reason" => *reason).increment(1)
            }
            SessionEnd::Left if self.parser.phase() == Phase::InFrame => {
                counter!(metric::PROTOCOL_ERRORS, "reason" => "left_in_frame").increment(1);
            }
            _ => {}
        }
        end
    }

    async fn talk<S>(&mut self, stream: &mut S) -> Result<std::convert::Infallible, SessionEnd>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut phase_began = Instant::now();
        let mut phase = self.parser.phase();
        loop {
            loop {
                match self.parser.next(self.buffer.bytes()) {
                    Ok(Some(item)) => {
                        self.respond(stream, item).await?;
                        phase_began = Instant::now();
                    }
                    Ok(None) => break,
                    Err(fatal) => return self.give_up(stream, fatal.as_str()).await,
                }
            }
            if self.parser.phase() != phase {
                phase = self.parser.phase();
                phase_began = Instant::now();
            }
            self.cover_buffer(stream).await?;
            let (limit, name) = match phase {
                Phase::BeforeMode => (self.limits.handshake_timeout, "handshake_timeout"),
                Phase::InFrame => (self.limits.stall_timeout, "stall_timeout"),
                Phase::Idle => (self.limits.idle_timeout, "idle_timeout"),
            };
            let deadline = phase_began + limit;
            let silence = self.parser.awaits_silence().then(|| Instant::now() + self.limits.cut_silence);
            let rest = (phase != Phase::InFrame && !self.rests && self.buffer.is_idle())
                .then(|| Instant::now() + REST_AFTER);
            self.buffer.make_room(self.room_wanted());
            let until = [silence, rest].into_iter().flatten().fold(deadline, Instant::min);
            let read = self.read(stream, until).await?;
            self.rests &= read.is_none();
            match read {
                Some(0) => return Err(SessionEnd::Left),
                // In the middle of a frame only standing still counts, not being slow: each read is progress,
                // but a drip of single bytes is not. A frame gets its whole time anew for every 64 KiB.
                Some(read) if phase == Phase::InFrame => {
                    let share = read as f64 / 65_536.0;
                    phase_began = (phase_began + limit.mul_f64(share.min(1.0))).min(Instant::now());
                }
                Some(_) => {}
                None if silence.is_some_and(|s| s <= Instant::now()) => {
                    match self.parser.on_silence(self.buffer.bytes()) {
                        Ok(Some(item)) => self.respond(stream, item).await?,
                        Ok(None) => {}
                        Err(fatal) => return self.give_up(stream, fatal.as_str()).await,
                    }
                }
                None if rest.is_some_and(|rest| rest <= Instant::now()) && Instant::now() < deadline => {
                    self.buffer.let_go();
                    self.rests = true;
                }
                None => {
                    counter!(metric::LIMIT_HITS, "limit" => name).increment(1);
                    return Err(SessionEnd::Refused(name));
                }
            }
        }
    }

    /// Room for the next read. A camera's frames are of about one size: with room for one like the last, a frame is
    /// read in one go and not copied as the buffer grows.
    fn room_wanted(&self) -> usize {
        let hint = self.parser.read_hint();
        if self.parser.phase() == Phase::BeforeMode {
            return hint;
        }
        if self.rests && self.buffer.len() == 0 {
            return BUFFER_STEP;
        }
        let wanted = (self.last_frame_bytes + READ_AHEAD).next_multiple_of(BUFFER_STEP);
        hint.max(wanted.saturating_sub(self.buffer.len()))
    }

    /// Reads once. `None`: the deadline passed.
    async fn read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        deadline: Instant,
    ) -> Result<Option<usize>, SessionEnd> {
        let buffer = self.buffer.bytes();
        let seat = self.seated.as_ref().and_then(|seated| seated.seat.as_ref());
        let wanted = async {
            match seat {
                Some(seat) => seat.wanted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.tools.shutdown.wait() => Err(SessionEnd::Shutdown),
            () = wanted => Err(SessionEnd::Replaced),
            read = timeout_at(deadline, stream.read_buf(buffer)) => match read {
                Ok(Ok(n)) => Ok(Some(n)),
                Ok(Err(error)) => Err(broken(&error)),
                Err(_) => Ok(None),
            },
        }
    }

    /// Takes the bytes that wait in the buffer out of the budget of frames in flight; waits while it is
    /// spent, so that the camera waits too.
    async fn cover_buffer<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> Result<(), SessionEnd> {
        let needed = self.buffer.len() + self.room_wanted();
        let held = self.permit.as_ref().map_or(0, Permit::bytes);
        // A frame before the first mode is refused at its end, but held until then.
        if self.parser.phase() != Phase::InFrame && self.parser.frame_bytes() == 0 {
            self.permit = None;
            return Ok(());
        }
        if needed <= held {
            return Ok(());
        }
        let deadline = Instant::now() + self.limits.stall_timeout;
        let mut counted = false;
        loop {
            let fits = match &mut self.permit {
                Some(permit) => permit.try_grow(needed - held),
                None => {
                    self.permit = self.tools.in_flight.try_take(needed);
                    self.permit.is_some()
                }
            };
            if fits {
                return Ok(());
            }
            if !counted {
                counter!(metric::LIMIT_HITS, "limit" => "in_flight_bytes").increment(1);
                counted = true;
            }
            if Instant::now() >= deadline {
                return self.give_up(stream, "in_flight_bytes").await.map(|never| match never {});
            }
            tokio::select! {
                biased;
                () = self.tools.shutdown.wait() => return Err(SessionEnd::Shutdown),
                () = sleep(BUDGET_RETRY) => {}
            }
        }
    }

    async fn give_up<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        reason: &'static str,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        sleep(self.limits.refused_delay).await;
        let _ = timeout(Duration::from_secs(1), stream.write_all(&[Answer::Refused.byte()])).await;
        Err(SessionEnd::Refused(reason))
    }

    async fn respond<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, item: Item) -> Result<(), SessionEnd> {
        let camera_id = self.seated.as_ref().map(|seated| seated.camera.id().clone());
        if let Err(failure) = fault::point(ActorKind::Session, camera_id.as_ref()) {
            return Err(SessionEnd::Failed(failure));
        }
        let turn = self.take(item).await?;
        let (accepted, end) = match turn {
            Turn::Answer(accepted) => (accepted, None),
            Turn::AnswerAndEnd(accepted, end) => (accepted, Some(end)),
        };
        if accepted {
            self.refused_in_row = 0;
        } else {
            self.refused_in_row += 1;
            sleep(self.limits.refused_delay).await;
        }
        let answer = if accepted { Answer::Accepted } else { Answer::Refused };
        let written = timeout(self.limits.stall_timeout, stream.write_all(&[answer.byte()])).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_) => return Err(SessionEnd::Refused("answer_timeout")),
        }
        match end {
            Some(end) => Err(end),
            None if self.refused_in_row >= self.limits.max_refused_in_row => {
                counter!(metric::LIMIT_HITS, "limit" => "refused_in_row").increment(1);
                Err(SessionEnd::Refused("refused_in_row"))
            }
            None => Ok(()),
        }
    }

    async fn take(&mut self, item: Item) -> Result<Turn, SessionEnd> {
        match item {
            Item::Hello { camera, token } => {
                let settings = self.tools.cameras.settings();
                if self.seated.is_some() {
                    return Ok(self.denied("hello_twice"));
                }
                match identity::claimed(&settings, self.peer, camera, token.as_ref()) {
                    Ok(who) => self.sit_down(who).await.map(|()| Turn::Answer(true)),
                    Err(why) => Ok(self.denied(why.as_str())),
                }
            }
            Item::Mode(mode) => {
                if self.seated.is_none() {
                    let settings = self.tools.cameras.settings();
                    match identity::silent(&settings, self.peer) {
                        Ok(who) => self.sit_down(who).await?,
                        Err(why) => return Ok(self.denied(why.as_str())),
                    }
                }
                let Some(camera) = self.seated.as_ref().map(|seated| Arc::clone(&seated.camera)) else {
                    return Ok(self.denied("no_camera"));
                };
                let camera = &camera;
                if !camera.settings().allows(mode) {
                    counter!(metric::PROTOCOL_ERRORS, "reason" => "mode_not_allowed").increment(1);
                    self.parser.set_mode(self.delivery.mode());
                    return Ok(Turn::Answer(false));
                }
                self.delivery.change_mode(camera, mode).await;
                Ok(Turn::Answer(true))
            }
            Item::Frame(mut picture) => {
                picture.bytes = self.buffer.fit(picture.bytes);
                let Some(camera) = self.seated.as_ref().map(|seated| Arc::clone(&seated.camera)) else {
                    return Ok(self.denied("no_camera"));
                };
                let camera = &camera;
                self.last_frame_bytes = picture.bytes.len();
                let accepted = self.delivery.frame(camera, picture).await;
                // What was in flight is in the ring or on disk now, and counted there.
                self.permit = None;
                Ok(Turn::Answer(accepted))
            }
            Item::Refused(refusal) => {
                counter!(metric::PROTOCOL_ERRORS, "reason" => refusal.as_str()).increment(1);
                if let Some(Seated { camera, .. }) = &self.seated {
                    camera.counters.frame(Stage::Received, Outcome::Refused);
                }
                debug!(peer = %self.peer.address, reason = refusal.as_str(), "refused");
                Ok(Turn::Answer(false))
            }
        }
    }

    fn denied(&mut self, reason: &'static str) -> Turn {
        if let Some(not_logged) = self.tools.refusals_logged.line(std::time::Instant::now()) {
            info!(peer = %self.peer.address, reason, not_logged, "connection refused");
        }
        Turn::AnswerAndEnd(false, SessionEnd::Refused(reason))
    }

    async fn sit_down(&mut self, who: Who) -> Result<(), SessionEnd> {
        let (attach, proven) = match who {
            Who::Camera { id, proven } => (self.tools.cameras.attach(&id), proven),
            Who::Unnamed => (self.tools.cameras.attach_unnamed(self.peer.address), false),
        };
        if let Some(before) = attach.before {
            // Recording goes on while the seat changes hands; the old connection only finishes its frame.
            let _ = bounded(VACATE_LIMIT, before.vacate()).await;
        }
        attach.camera.set_connected(true);
        self.delivery.seated(proven);
        info!(camera = %attach.camera.id(), peer = %text::shown(self.peer.address.to_string().as_bytes()), proven, "camera came");
        let cameras = self.tools.cameras.clone();
        self.seated = Some(Seated { cameras, camera: attach.camera, seat: Some(attach.seat) });
        Ok(())
    }
}

async fn bounded<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    timeout(limit, future).await.ok()
}

fn broken(error: &io::Error) -> SessionEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            SessionEnd::Left
        }
        _ => SessionEnd::Broken(error.to_string()),
    }
}
