//! What becomes of a whole frame, by mode, and what the answer promises (docs/architecture.md, durability).

use std::sync::Arc;
use std::time::Duration;

use meerkat_base::{Clock, Frame, Mode, MonoTime, WallTime};
use meerkat_settings::MaskSettings;
use meerkat_wire::frame::Picture;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

use crate::camera::{Camera, Outcome, Stage};
use crate::recorder::{Order, Stored};

/// Longest wait for the recorder, over its restarts.
const RECORDER_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for the masker, over its restart.
const MASKER_LIMIT: Duration = Duration::from_secs(5);
/// Times that a picture is covered anew because the mask changed meanwhile.
const MASK_TRIES: usize = 3;
/// A frame that the disk refuses is answered after this long, so that the camera does not spin.
const REFUSED_BY_DISK: Duration = Duration::from_secs(1);

/// How often it is logged for one connection that the recorder refuses.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Hands the frames of one connection on.
pub(super) struct Delivery {
    clock: Arc<dyn Clock>,
    answer_wait: Duration,
    mode: Option<Mode>,
    /// Whether the connection proved to be its camera.
    proven: bool,
    /// When a refusal of the recorder was logged last.
    said: Option<Instant>,
}

impl Delivery {
    /// `answer_wait`: longest time an answer waits for a frame that nobody has looked at.
    pub(super) fn new(clock: Arc<dyn Clock>, answer_wait: Duration) -> Self {
        Self { clock, answer_wait, mode: None, proven: false, said: None }
    }

    /// The mode in force.
    pub(super) fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// The connection is a camera now, `proven` by a token or not: every picture from here on says so.
    pub(super) fn seated(&mut self, proven: bool) {
        self.proven = proven;
    }

    /// The client asked for a mode. The same one again changes nothing; another closes a running video.
    pub(super) async fn change_mode(&mut self, camera: &Arc<Camera>, mode: Mode) {
        if self.mode == Some(mode) {
            return;
        }
        self.close_video(camera).await;
        self.mode = Some(mode);
        camera.set_mode(Some(mode));
    }

    /// The connection is over.
    pub(super) async fn connection_ended(&mut self, camera: Option<&Arc<Camera>>) {
        if let Some(camera) = camera {
            self.close_video(camera).await;
        }
    }

    async fn close_video(&self, camera: &Arc<Camera>) {
        if self.mode == Some(Mode::Video) {
            let _ = camera.recorder.order(Order::EndVideo, RECORDER_LIMIT).await;
        }
    }

    /// Takes a frame; true when the answer is `1`.
    pub(super) async fn frame(&mut self, camera: &Arc<Camera>, picture: Picture) -> bool {
        let Some(mode) = self.mode else { return false };
        if mode.is_watching() {
            camera.looked_at(mode, self.answer_wait).await;
        }
        let Some(Entered { frame, recording, mask }) = self.cover_and_enter(camera, mode, picture).await
        else {
            camera.counters.frame(Stage::Received, Outcome::Refused);
            return false;
        };
        let stored = match mode {
            Mode::Pictures => self.store(camera, |frame| Order::Picture { frame }, &frame).await,
            Mode::Video => self.store(camera, |frame| Order::VideoFrame { frame }, &frame).await,
            Mode::Guard | Mode::People | Mode::Faces => {
                if recording {
                    // Whether or not the disk takes it, detection goes on and the answer is 1.
                    self.store(camera, |frame| Order::ClipFrame { frame }, &frame).await;
                }
                if camera.decode_slot.put(frame.clone()).is_some() {
                    camera.counters.replaced(Stage::Motion);
                }
                if let Some(stations) = camera.stations() {
                    stations.decoder.wake();
                }
                true
            }
        };
        if stored {
            camera.note(&frame, &mask);
            camera.counters.took(Stage::Received, self.clock.mono() - frame.mono);
        } else {
            camera.counters.frame(Stage::Received, Outcome::Refused);
            sleep(REFUSED_BY_DISK).await;
        }
        stored
    }

    /// Covers what nobody may see, then enters the frame. None: it could not be covered, and nothing of it is kept.
    async fn cover_and_enter(&self, camera: &Arc<Camera>, mode: Mode, picture: Picture) -> Option<Entered> {
        let mut arriving = camera.arrives();
        let times = (self.clock.wall(), self.clock.mono());
        arriving.at(times.1);
        for _ in 0..MASK_TRIES {
            let mask = camera.settings().mask.clone();
            let shown = if mask.areas.is_empty() {
                picture.clone()
            } else {
                self.cover(camera, &picture, &mask, times.1).await?
            };
            if let Some(entered) = enter(camera, mode, self.proven, shown, mask, times) {
                return Some(entered);
            }
        }
        None
    }

    async fn cover(
        &self,
        camera: &Arc<Camera>,
        picture: &Picture,
        mask: &MaskSettings,
        arrived: MonoTime,
    ) -> Option<Picture> {
        match camera.masker.cover(picture.clone(), mask, MASKER_LIMIT).await {
            Ok(covered) => {
                camera.counters.frame(Stage::Masked, Outcome::Ok);
                camera.counters.took(Stage::Masked, self.clock.mono() - arrived);
                Some(covered)
            }
            Err(reason) => {
                camera.counters.frame(Stage::Masked, Outcome::Refused);
                debug!(camera = %camera.id(), %reason, "a picture cannot be covered and is refused");
                None
            }
        }
    }

    /// Has the recorder store a frame, again when the recorder was lost on the way.
    async fn store(&mut self, camera: &Arc<Camera>, order: impl Fn(Frame) -> Order, frame: &Frame) -> bool {
        let deadline = Instant::now() + RECORDER_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout_at(deadline, camera.recorder.order(order(frame.clone()), left)).await {
                Ok(Stored::Done) => return true,
                Ok(Stored::Refused(reason)) => {
                    // A disk that is full or gone refuses every frame.
                    if self.said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                        self.said = Some(Instant::now());
                        warn!(camera = %camera.id(), reason, "the recorder refused a frame");
                    }
                    return false;
                }
                Ok(Stored::Lost) if Instant::now() < deadline => {
                    // Built again within a fraction of a second; an order that was cut off may be repeated.
                    sleep(Duration::from_millis(20)).await;
                }
                Ok(Stored::Lost) | Err(_) => {
                    warn!(camera = %camera.id(), "the recorder did not answer in time");
                    return false;
                }
            }
        }
    }
}

/// A frame that has its number, and its place in the ring where it is watched.
struct Entered {
    frame: Frame,
    recording: bool,
    /// What was covered in it.
    mask: MaskSettings,
}

/// Numbers the frame and, in the watching modes, puts it into the ring. The ring's lock makes this one step with the
/// recorder's beginning of a clip, so that no frame falls between pre-roll and recording, and with a change of the
/// mask: none when the mask is another one by now.
fn enter(
    camera: &Arc<Camera>,
    mode: Mode,
    proven: bool,
    picture: Picture,
    mask: MaskSettings,
    (wall, mono): (WallTime, MonoTime),
) -> Option<Entered> {
    let settings = camera.settings();
    let mut state = camera.ring();
    // Asked again with the ring locked: a change of the mask empties the ring after it.
    if camera.settings().mask != mask {
        return None;
    }
    let frame = Frame {
        camera: camera.id().clone(),
        seq: camera.number(&mut state),
        wall,
        mono,
        format: picture.format,
        width: picture.width,
        height: picture.height,
        proven,
        bytes: picture.bytes,
    };
    if mode.is_watching() {
        state.ring.push(frame.clone());
    }
    Some(Entered { frame, recording: (state.recording || settings.continuous) && mode.is_watching(), mask })
}
