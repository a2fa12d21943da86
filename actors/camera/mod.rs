//! What the actors of one camera share: ring, slots, mode, counters. And the register of all cameras.
//! State and its few rules only; everything that runs stands in the actors' own files.

mod counters;
mod register;
mod seat;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use meerkat_base::{CameraId, Frame, Mode, MonoTime, Ring, Slot, WallTime};
use meerkat_settings::{CameraSettings, MaskSettings};
use meerkat_vision::GrayPlane;

pub use counters::{CameraCounters, Outcome, Stage};
pub use register::{Attach, CameraReport, Cameras, Outfitter, SlotReport};
pub use seat::{Seat, SeatControl};

use crate::dialects::watch::Live;
use crate::masker::MaskLink;
use crate::recorder::RecorderLink;
use crate::supervision::Station;

/// A decoded plane on its way to the motion actor, with the frame it was made from.
pub struct Planed {
    /// The frame.
    pub frame: Frame,
    /// Its reduced grey plane.
    pub plane: GrayPlane,
}

/// A pause longer than this is no pace.
const PACE_MEMORY: Duration = Duration::from_secs(5);

/// The ring with what must change together with it.
pub struct RingState {
    /// The last seconds.
    pub ring: Ring,
    /// Frames go to the recorder as well.
    pub recording: bool,
    last_seq: u64,
}

/// A frame between its arrival and the ring: it may have to be covered first.
pub(crate) struct Arriving<'c> {
    camera: &'c Camera,
    moment: u64,
}

/// It arrives at a moment that is not known yet.
const UNKNOWN_MOMENT: u64 = 1;

impl Arriving<'_> {
    /// Says when it arrived.
    pub(crate) fn at(&mut self, moment: MonoTime) {
        self.moment = moment.0.max(UNKNOWN_MOMENT);
        self.camera.arriving.store(self.moment, Ordering::SeqCst);
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        // Unless the next connection of the camera has said so for a frame of its own.
        let _ = self.camera.arriving.compare_exchange(self.moment, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// The stations of one camera.
pub struct CameraStations {
    /// Decodes its frames.
    pub decoder: Station,
    /// Looks for motion and guards its object.
    pub motion: Station,
}

/// One camera as all its actors see it.
pub struct Camera {
    id: CameraId,
    /// Differs from that of every other camera that there is or was.
    life: u64,
    settings: RwLock<Arc<CameraSettings>>,
    ring: Mutex<RingState>,
    /// Frames for the decoder.
    pub decode_slot: Slot<Frame>,
    /// Planes for motion and guard.
    pub motion_slot: Slot<Planed>,
    /// Frames for the person detector.
    pub person_slot: Slot<Frame>,
    /// Frames for the face recogniser.
    pub face_slot: Slot<Frame>,
    /// Its series.
    pub counters: CameraCounters,
    /// The way to its recorder.
    pub recorder: RecorderLink,
    /// The way to its masker.
    pub masker: MaskLink,
    stations: OnceLock<CameraStations>,
    /// Viewers of its pictures, where it is a camera that can be watched.
    live: OnceLock<Live>,
    mode: AtomicU8,
    connected: AtomicBool,
    reference_wanted: AtomicBool,
    last_mono: AtomicU64,
    last_wall: AtomicI64,
    last_motion: AtomicU64,
    last_look: AtomicU64,
    frames: AtomicU64,
    /// When the frame arrived that is not in the ring yet; 0: there is none.
    arriving: AtomicU64,
    /// Frames up to this number show what may not be seen any more.
    outdated: AtomicU64,
    /// Smoothed seconds between two frames, as bits of an `f64`.
    gap: AtomicU64,
    latest: Mutex<Option<Frame>>,
}

impl Camera {
    fn new(
        id: CameraId,
        configured: bool,
        settings: Arc<CameraSettings>,
        ring: Ring,
        recorder: RecorderLink,
    ) -> Self {
        static LIVES: AtomicU64 = AtomicU64::new(1);
        let counters = CameraCounters::new(&id, configured);
        Self {
            id,
            life: LIVES.fetch_add(1, Ordering::Relaxed),
            settings: RwLock::new(settings),
            ring: Mutex::new(RingState { ring, recording: false, last_seq: 0 }),
            decode_slot: Slot::new(),
            motion_slot: Slot::new(),
            person_slot: Slot::new(),
            face_slot: Slot::new(),
            counters,
            recorder,
            masker: MaskLink::default(),
            stations: OnceLock::new(),
            live: OnceLock::new(),
            mode: AtomicU8::new(0),
            connected: AtomicBool::new(false),
            reference_wanted: AtomicBool::new(false),
            last_mono: AtomicU64::new(0),
            last_wall: AtomicI64::new(0),
            last_motion: AtomicU64::new(0),
            last_look: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            gap: AtomicU64::new(0),
            arriving: AtomicU64::new(0),
            outdated: AtomicU64::new(0),
            latest: Mutex::new(None),
        }
    }

    /// Its id.
    pub fn id(&self) -> &CameraId {
        &self.id
    }

    /// Tells it from a camera that had its id before and was let go of.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// What holds for it now.
    pub fn settings(&self) -> Arc<CameraSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Arc<CameraSettings>) {
        let mask = settings.mask.clone();
        let before = {
            let mut own = self.settings.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *own, settings)
        };
        if before.mask != mask {
            // What is in memory shows what may not be seen any more. A session compares masks with the ring locked,
            // so that nothing of the old kind comes in after this; what somebody has in hand is known by its number.
            {
                let mut state = self.ring();
                self.outdated.store(state.last_seq, Ordering::SeqCst);
                state.ring.clear();
            }
            self.clear_slots();
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(crate) fn set_stations(&self, stations: CameraStations) {
        let _ = self.stations.set(stations);
    }

    /// Its stations; `None` only while the camera is being made.
    pub fn stations(&self) -> Option<&CameraStations> {
        self.stations.get()
    }

    pub(crate) fn set_live(&self, live: Live) {
        let _ = self.live.set(live);
    }

    /// Whether the frame with this number shows what may not be seen any more, because the mask changed after it came.
    /// Whoever takes one out of a slot, or is about to keep what was seen in one, asks first.
    pub(crate) fn is_outdated(&self, seq: u64) -> bool {
        seq <= self.outdated.load(Ordering::SeqCst)
    }

    /// Says that a frame arrives: until the result is dropped it is to be expected in the ring. To be called before the
    /// clock is asked when it arrived.
    pub(crate) fn arrives(&self) -> Arriving<'_> {
        self.arriving.store(UNKNOWN_MOMENT, Ordering::SeqCst);
        Arriving { camera: self, moment: UNKNOWN_MOMENT }
    }

    /// Whether a frame that arrived by then is still to come into the ring.
    pub(crate) fn expects_frame_of(&self, until: MonoTime) -> bool {
        let arriving = self.arriving.load(Ordering::SeqCst);
        arriving != 0 && arriving <= until.0
    }

    /// The ring, for a moment: no decoding, no disk, no waiting while it is held.
    pub fn ring(&self) -> MutexGuard<'_, RingState> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mode its client asked for last.
    pub fn mode(&self) -> Option<Mode> {
        Mode::from_number(self.mode.load(Ordering::Acquire))
    }

    /// Says which mode its client asked for.
    pub fn set_mode(&self, mode: Option<Mode>) {
        self.mode.store(mode.map_or(0, Mode::number), Ordering::Release);
    }

    /// Whether a client is connected.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    /// Asks for a new reference of the guarded object.
    pub fn want_reference(&self) {
        self.reference_wanted.store(true, Ordering::Release);
    }

    /// Whether a new reference was asked for; asking is answered once.
    pub fn take_reference_wish(&self) -> bool {
        self.reference_wanted.swap(false, Ordering::AcqRel)
    }

    /// Gives the frame its number and notes that it came. The caller is the camera's only session.
    pub(crate) fn number(&self, ring: &mut RingState) -> u64 {
        ring.last_seq += 1;
        ring.last_seq
    }

    /// Notes an accepted frame for status, pictures and the silence rule. `mask` is what was covered in it.
    pub(crate) fn note(&self, frame: &Frame, mask: &MaskSettings) {
        let last = self.last_mono.swap(frame.mono.0.max(1), Ordering::AcqRel);
        let gap = frame.mono.since(MonoTime(last));
        if last > 0 && gap < PACE_MEMORY {
            let smooth = f64::from_bits(self.gap.load(Ordering::Acquire));
            let smooth =
                if smooth > 0.0 { smooth * 0.9 + gap.as_secs_f64() * 0.1 } else { gap.as_secs_f64() };
            self.gap.store(smooth.to_bits(), Ordering::Release);
        } else {
            self.gap.store(0, Ordering::Release);
        }
        self.last_wall.store(frame.wall.0, Ordering::Release);
        self.frames.fetch_add(1, Ordering::AcqRel);
        self.counters.arrived(frame);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        // Else the mask changed while this frame was being stored, and it shows what may not be seen any more.
        if self.settings().mask == *mask {
            *latest = Some(frame.clone());
            drop(latest);
            if let Some(live) = self.live.get() {
                live.taken();
            }
        }
    }

    /// The newest accepted picture.
    pub fn latest(&self) -> Option<Frame> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the last frame came, by the monotonic clock.
    pub fn last_frame_mono(&self) -> Option<MonoTime> {
        Some(self.last_mono.load(Ordering::Acquire)).filter(|&t| t > 0).map(MonoTime)
    }

    /// When the last frame came, by the wall clock.
    pub fn last_frame_wall(&self) -> Option<WallTime> {
        self.last_frame_mono().map(|_| WallTime(self.last_wall.load(Ordering::Acquire)))
    }

    /// Frames accepted since the node started.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Acquire)
    }

    /// Frames per second, smoothed over the last few seconds; `None` when none came lately.
    pub fn pace(&self, now: MonoTime) -> Option<f64> {
        let last = self.last_frame_mono()?;
        let gap = f64::from_bits(self.gap.load(Ordering::Acquire));
        (gap > 0.0 && now.since(last) < PACE_MEMORY).then(|| 1.0 / gap)
    }

    /// Whether frames come as they should: connected, and not silent for too long.
    pub fn is_up(&self, now: MonoTime) -> bool {
        let silent_after = self.settings().silent_after;
        self.is_connected() && self.last_frame_mono().is_some_and(|last| now.since(last) <= silent_after)
    }

    pub(crate) fn note_motion(&self, at: MonoTime) {
        self.last_motion.store(at.0.max(1), Ordering::Release);
    }

    /// Time since something last moved; `None` when nothing ever did.
    pub fn since_motion(&self, now: MonoTime) -> Option<Duration> {
        let last = self.last_motion.load(Ordering::Acquire);
        (last > 0).then(|| now.since(MonoTime(last)))
    }

    /// Whether a shared detector may look now: its last look is at least `wait` ago. Yes is said once.
    pub(crate) fn detector_turn(&self, now: MonoTime, wait: Option<Duration>) -> bool {
        let Some(wait) = wait else { return false };
        let last = self.last_look.load(Ordering::Acquire);
        if last > 0 && now.since(MonoTime(last)) < wait {
            return false;
        }
        self.last_look.compare_exchange(last, now.0.max(1), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Waits, at most `limit`, until somebody has looked at the frames that wait for this mode.
    pub(crate) async fn looked_at(&self, mode: Mode, limit: Duration) {
        let detector = match mode {
            Mode::People => Some(&self.person_slot),
            Mode::Faces => Some(&self.face_slot),
            Mode::Pictures | Mode::Video | Mode::Guard => None,
        };
        if !self.decode_slot.is_full() && detector.is_none_or(|slot| !slot.is_full()) {
            return;
        }
        let _ = tokio::time::timeout(limit, async {
            self.decode_slot.emptied().await;
            if let Some(slot) = detector {
                slot.emptied().await;
            }
        })
        .await;
    }

    /// Whether a frame waits for anybody.
    pub(crate) fn has_waiting_frames(&self) -> bool {
        self.decode_slot.is_full()
            || self.motion_slot.is_full()
            || self.person_slot.is_full()
            || self.face_slot.is_full()
    }

    /// Lets go of everything that waits, when the camera is gone.
    pub(crate) fn clear(&self) {
        self.clear_slots();
        self.ring().ring.clear();
    }

    fn clear_slots(&self) {
        self.decode_slot.take();
        self.motion_slot.take();
        self.person_slot.take();
        self.face_slot.take();
    }

    pub(crate) fn close(&self) {
        if let Some(stations) = self.stations() {
            stations.decoder.close();
            stations.motion.close();
        }
        self.recorder.close();
        self.masker.close();
        self.clear();
    }
}
