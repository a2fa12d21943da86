//! What the parts of the dialect share: who watches, the picture that is shown, and what is to be told of comings and
//! goings. State and rules; it sends nothing and waits for nobody.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use meerkat_base::{CameraId, Clock, EventKind, MonoTime, Notice, NoticeSink, WallTime, metric};
use meerkat_settings::{MaskSettings, WatchDialectSettings};
use meerkat_store::TextLog;
use meerkat_wire::watch::Answer;
use metrics::{counter, gauge};
use tokio::sync::{Notify, oneshot};
use tracing::debug;

use super::viewers::{Due, Gone, Heard, Left, TooMany, ViewerId, ViewerRules, Viewers};
use crate::camera::Camera;
use crate::supervision::Station;

/// Lines of the log that may wait for the disk.
const MAX_LINES: usize = 1024;
/// Joins per minute that become events; what is beyond is in the log of viewers only.
const EVENTS_PER_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// A picture as viewers get it.
pub(super) struct Shown {
    /// Grows from 1 with each picture.
    pub number: u64,
    /// A whole JPEG that fits one datagram.
    pub bytes: Vec<u8>,
    camera: Weak<Camera>,
    /// What was covered in it.
    mask: MaskSettings,
}

impl Shown {
    /// Whether it may still be shown: its camera is there, and what may be seen of it has not changed since.
    fn is_allowed(&self) -> bool {
        self.camera.upgrade().is_some_and(|camera| camera.settings().mask == self.mask)
    }
}

/// What the dialect is made with.
pub struct LiveTools {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Where joining and leaving is told.
    pub notices: Arc<dyn NoticeSink>,
    /// Where joining and leaving is written.
    pub log: TextLog,
    /// Time zone of the log.
    pub zone: TimeZone,
}

/// The dialect at work. Clones share it.
#[derive(Clone)]
pub struct Live {
    shared: Arc<Shared>,
}

struct Shared {
    /// The camera is the one that it was started with.
    settings: RwLock<Arc<WatchDialectSettings>>,
    camera: CameraId,
    tools: LiveTools,
    state: Mutex<State>,
    /// Viewers there are, to be asked without a lock.
    watching: AtomicUsize,
    /// Frames that the camera has taken.
    taken: AtomicU64,
    /// How many of them there were when the projector last took one.
    looked: AtomicU64,
    projector: Mutex<Option<Station>>,
    news: Notify,
}

struct State {
    viewers: Viewers,
    members: HashMap<ViewerId, Member>,
    shown: Option<Arc<Shown>>,
    number: u64,
    lines: VecDeque<String>,
    /// Begin of the minute in which joins are counted, and how many became events in it.
    told: (MonoTime, u32),
}

/// What goes with a viewer besides its pictures.
struct Member {
    /// Tells its connection that it is out.
    leaving: oneshot::Sender<Left>,
    /// Whether its joining became an event, which has to end.
    is_told: bool,
}

/// A viewer's place, held by its TCP connection. Dropping it takes the viewer out.
pub(super) struct Ticket {
    live: Live,
    id: ViewerId,
    left: oneshot::Receiver<Left>,
}

impl Ticket {
    /// Returns when the viewer was taken out by somebody else, and why.
    pub async fn left(&mut self) -> Left {
        (&mut self.left).await.unwrap_or(Left::Closed)
    }

    /// Takes the viewer out for a reason of its connection.
    pub fn leave(self, why: Left) {
        self.live.leave(self.id, why);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.leave(self.id, Left::Closed);
    }
}

impl Live {
    /// Nobody watches.
    pub fn new(settings: WatchDialectSettings, tools: LiveTools) -> Self {
        let state = State {
            viewers: Viewers::new(rules(&settings)),
            members: HashMap::new(),
            shown: None,
            number: 0,
            lines: VecDeque::new(),
            told: (MonoTime::default(), 0),
        };
        let shared = Shared {
            camera: settings.camera.clone(),
            settings: RwLock::new(Arc::new(settings)),
            tools,
            state: Mutex::new(state),
            watching: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            projector: Mutex::new(None),
            news: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What holds now; the same value until it changes.
    pub fn settings(&self) -> Arc<WatchDialectSettings> {
        Arc::clone(&self.shared.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes new settings over: what pictures are like, how many viewers there may be, and their time limits. The rest of
    /// them waits for a restart.
    pub(crate) fn reload(&self, settings: &WatchDialectSettings) {
        {
            let mut own = self.shared.settings.write().unwrap_or_else(PoisonError::into_inner);
            if **own == *settings {
                return;
            }
            *own = Arc::new(settings.clone());
        }
        self.state().viewers.set_rules(rules(settings));
        self.wake_projector();
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.tools.clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === The camera and its projector ===

    /// Whether it is this camera that is shown.
    pub(crate) fn shows(&self, camera: &CameraId) -> bool {
        self.shared.camera == *camera
    }

    /// Says who makes its pictures from now on.
    pub(crate) fn set_projector(&self, station: Station) {
        *self.shared.projector.lock().unwrap_or_else(PoisonError::into_inner) = Some(station);
    }

    /// Says that the camera has a new picture. Cheap, never blocks.
    pub(crate) fn taken(&self) {
        self.shared.taken.fetch_add(1, Ordering::AcqRel);
        if self.is_watched() {
            self.wake_projector();
        }
    }

    fn wake_projector(&self) {
        let station = self.shared.projector.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(station) = station {
            station.wake();
        }
    }

    /// Whether anybody would take a new picture now. The projector asks before it looks at the camera.
    pub(super) fn look(&self) -> bool {
        let taken = self.shared.taken.load(Ordering::Acquire);
        let is_wanted = self.is_watched() && self.state().viewers.is_wanted(self.clock().mono());
        if is_wanted {
            self.shared.looked.store(taken, Ordering::Release);
        }
        is_wanted
    }

    /// Shows a new picture of the camera.
    pub(super) fn show(&self, bytes: Vec<u8>, camera: Weak<Camera>, mask: MaskSettings) {
        let mut state = self.state();
        state.number += 1;
        state.shown = Some(Arc::new(Shown { number: state.number, bytes, camera, mask }));
        drop(state);
        self.shared.news.notify_one();
    }

    // === Viewers ===

    /// Whether there are viewers.
    pub(super) fn is_watched(&self) -> bool {
        self.shared.watching.load(Ordering::Acquire) > 0
    }

    /// Lets a viewer in.
    pub(super) fn join(&self, peer: SocketAddr, port: u16) -> Result<Ticket, TooMany> {
        let mut state = self.state();
        let (id, replaced) = match state.viewers.join(peer, port) {
            Ok(joined) => joined,
            Err(too_many) => {
                counter!(metric::LIMIT_HITS, "limit" => "viewers_per_address").increment(1);
                return Err(too_many);
            }
        };
        if let Some(gone) = replaced {
            self.farewell(&mut state, gone);
        }
        let (leaving, left) = oneshot::channel();
        self.write(&mut state, peer, "接入");
        let is_told = self.may_tell(&mut state);
        if is_told {
            self.tell(peer, true, format!("{peer}, pictures to its UDP port {port}"));
        }
        state.members.insert(id, Member { leaving, is_told });
        self.count(&state);
        drop(state);
        debug!(%peer, port, "a viewer joined");
        // The picture that is shown may be an old one, or none.
        self.wake_projector();
        self.shared.news.notify_one();
        Ok(Ticket { live: self.clone(), id, left })
    }

    fn leave(&self, id: ViewerId, why: Left) {
        let mut state = self.state();
        if let Some(gone) = state.viewers.leave(id, why) {
            self.farewell(&mut state, gone);
        }
    }

    /// Takes a datagram of somebody.
    pub(super) fn hear(&self, from: SocketAddr, datagram: &[u8]) {
        let Some(answer) = Answer::parse(datagram) else {
            counter!(metric::PROTOCOL_ERRORS, "reason" => "no_answer").increment(1);
            return;
        };
        let mut state = self.state();
        match state.viewers.hear(from, answer) {
            Heard::Answered => {}
            Heard::Stray => counter!(metric::PROTOCOL_ERRORS, "reason" => "stray_answer").increment(1),
            Heard::Left(gone) => self.farewell(&mut state, gone),
        }
    }

    /// Drops who is silent, and says what is to be sent now, if anything. Wakes the projector where somebody waits for a
    /// picture that the camera has and nobody made yet.
    pub(super) fn turn(&self) -> Option<(Arc<Shown>, Due)> {
        if !self.is_watched() {
            return None;
        }
        let now = self.clock().mono();
        let mut state = self.state();
        for gone in state.viewers.drop_silent(now) {
            self.farewell(&mut state, gone);
        }
        let is_behind =
            self.shared.taken.load(Ordering::Acquire) > self.shared.looked.load(Ordering::Acquire);
        let wake = is_behind && state.viewers.is_wanted(now);
        let due = match state.shown.clone() {
            Some(shown) if shown.is_allowed() => {
                // What was not answered is followed by something newer, if the camera has that.
                let due = state.viewers.due(shown.number, now, !is_behind);
                Some((shown, due))
            }
            Some(_) => {
                state.shown = None;
                None
            }
            None => None,
        };
        drop(state);
        if wake {
            self.wake_projector();
        }
        due.filter(|(_, due)| !due.targets.is_empty())
    }

    /// Returns when there is something to do.
    pub(super) async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// What follows when a viewer is gone.
    fn farewell(&self, state: &mut State, gone: Gone) {
        if let Some(Member { leaving, is_told }) = state.members.remove(&gone.id) {
            // Its connection may have gone before.
            let _ = leaving.send(gone.why);
            if is_told {
                self.tell(gone.peer, false, format!("{}: {}", gone.peer, gone.why.as_str()));
            }
        }
        counter!(metric::VIEWERS_LEFT, "reason" => gone.why.as_str()).increment(1);
        self.write(state, gone.peer, "退出");
        self.count(state);
        debug!(peer = %gone.peer, why = gone.why.as_str(), "a viewer left");
        self.shared.news.notify_one();
    }

    fn count(&self, state: &State) {
        let watching = state.viewers.len();
        self.shared.watching.store(watching, Ordering::Release);
        gauge!(metric::VIEWERS).set(watching as f64);
    }

    // === What is told ===

    /// Whether another join may become an event in this minute.
    fn may_tell(&self, state: &mut State) -> bool {
        let now = self.clock().mono();
        let (since, told) = &mut state.told;
        if *told == 0 || now.since(*since) >= MINUTE {
            (*since, *told) = (now, 0);
        }
        if *told >= EVENTS_PER_MINUTE {
            counter!(metric::LIMIT_HITS, "limit" => "viewer_events").increment(1);
            return false;
        }
        *told += 1;
        true
    }

    fn tell(&self, peer: SocketAddr, holds: bool, detail: String) {
        let camera = Some(self.shared.camera.clone());
        let subject = peer.to_string();
        self.shared.tools.notices.raise(Notice { kind: EventKind::Viewer, camera, subject, holds, detail });
    }

    fn write(&self, state: &mut State, peer: SocketAddr, what: &str) {
        if state.lines.len() >= MAX_LINES {
            counter!(metric::LIMIT_HITS, "limit" => "viewer_log").increment(1);
            return;
        }
        let line = line(self.clock().wall(), &self.shared.tools.zone, peer, what);
        state.lines.push_back(line);
    }

    /// The log with the lines that wait for it; none when there are none.
    pub(super) fn take_lines(&self) -> Option<(TextLog, String)> {
        let mut state = self.state();
        let lines: String = state.lines.drain(..).collect();
        (!lines.is_empty()).then(|| (self.shared.tools.log.clone(), lines))
    }

    /// Whether lines wait for the log.
    pub(super) fn has_lines(&self) -> bool {
        !self.state().lines.is_empty()
    }

    /// Takes everybody out, because the node is going down, and writes what waits for the log. A disk that hangs is
    /// waited for no longer than `patience`; false then.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        let mut state = self.state();
        let ids: Vec<ViewerId> = state.members.keys().copied().collect();
        for id in ids {
            if let Some(gone) = state.viewers.leave(id, Left::Shutdown) {
                self.farewell(&mut state, gone);
            }
        }
        drop(state);
        let Some((log, lines)) = self.take_lines() else { return true };
        let (done, waited) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if let Err(error) = log.append(&lines) {
                debug!(%error, "the last lines of the log of viewers are lost");
            }
            let _ = done.send(());
        });
        waited.recv_timeout(patience).is_ok()
    }
}

fn rules(settings: &WatchDialectSettings) -> ViewerRules {
    ViewerRules { silence: settings.door.idle_timeout, max_per_address: settings.max_viewers_per_address }
}

/// `2026-11-28 16:56:38 客户端192.168.1.7:50123 接入`
fn line(at: WallTime, zone: &TimeZone, peer: SocketAddr, what: &str) -> String {
    let at = Timestamp::from_microsecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut line = String::new();
    // Writing into a text cannot fail.
    let _ = writeln!(line, "{} 客户端{peer} {what}", at.strftime("%Y-%m-%d %H:%M:%S"));
    line
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
