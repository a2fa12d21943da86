//! All cameras: who they may be, which are here, and who sits at them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use meerkat_base::{Budget, CameraId, Clock, Mode, MonoTime, Ring, WallTime, metric};
use meerkat_settings::Settings;
use metrics::gauge;

use super::{Camera, Seat, SeatControl};
use crate::recorder::RecorderLink;

/// Frames of a camera that has left are looked at for this long at most.
const PARTING_LIMIT: Duration = Duration::from_secs(10);

/// How a connection came to be a camera.
pub struct Attach {
    /// The camera it is now.
    pub camera: Arc<Camera>,
    /// Its seat there.
    pub seat: Seat,
    /// Whoever sat there before; to be asked to leave first.
    pub before: Option<SeatControl>,
}

/// A waiting place of one camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReport {
    /// Which actor takes from it.
    pub detector: &'static str,
    /// Whether a frame waits there.
    pub full: bool,
    /// Frames replaced before anybody looked at them.
    pub replaced: u64,
}

/// What status says of one camera.
#[derive(Debug, Clone)]
pub struct CameraReport {
    /// Its id.
    pub id: CameraId,
    /// Its name for people.
    pub name: Option<String>,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// Whether a client is connected.
    pub connected: bool,
    /// Whether frames come as they should.
    pub up: bool,
    /// Mode asked for last.
    pub mode: Option<Mode>,
    /// When the last frame came.
    pub last_frame: Option<WallTime>,
    /// Frames accepted.
    pub frames: u64,
    /// Frames answered with `0`.
    pub refused: u64,
    /// Frames per second over the last seconds.
    pub frames_per_second: Option<f64>,
    /// Bytes in its ring.
    pub ring_bytes: usize,
    /// Whether frames are being recorded.
    pub recording: bool,
    /// Its slots.
    pub slots: [SlotReport; 3],
}

/// Makes the stations and the recorder of a camera that is new.
pub trait Outfitter: Send + Sync {
    /// The way to the recorder that the camera will have.
    fn recorder(&self, id: &CameraId) -> RecorderLink;
    /// Gives the camera its stations.
    fn outfit(&self, camera: &Arc<Camera>);
}

struct Live {
    camera: Arc<Camera>,
    seat: Option<SeatControl>,
}

/// The register. Clones share it.
#[derive(Clone)]
pub struct Cameras {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RwLock<Arc<Settings>>,
    rings: Budget,
    clock: Arc<dyn Clock>,
    outfitter: Box<dyn Outfitter>,
    live: Mutex<HashMap<CameraId, Live>>,
    /// Cameras that have left, with frames that somebody is still to look at.
    parting: Mutex<Vec<(Arc<Camera>, MonoTime)>>,
}

impl Cameras {
    /// A register with every configured camera in it, so that their series exist from the start.
    pub fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>, outfitter: Box<dyn Outfitter>) -> Self {
        let rings = Budget::new(settings.ring.total_bytes);
        let shared = Shared {
            settings: RwLock::new(settings),
            rings,
            clock,
            outfitter,
            live: Mutex::default(),
            parting: Mutex::default(),
        };
        let cameras = Self { shared: Arc::new(shared) };
        cameras.enter_configured();
        cameras
    }

    fn live(&self) -> MutexGuard<'_, HashMap<CameraId, Live>> {
        self.shared.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parting(&self) -> MutexGuard<'_, Vec<(Arc<Camera>, MonoTime)>> {
        self.shared.parting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of cameras that have left, of whose frames none waits any more and of whose events none is recorded: an
    /// event goes on for a while without its camera, and with it, should it come back.
    fn see_off(&self, now: MonoTime) {
        self.parting().retain(|(camera, until)| {
            if camera.has_waiting_frames() && now < *until || camera.recorder.records_an_event() {
                return true;
            }
            camera.recorder.close_when_done();
            if let Some(stations) = camera.stations() {
                stations.decoder.close();
                stations.motion.close();
            }
            camera.masker.close();
            false
        });
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.shared.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts new settings in force: cameras that are here get theirs, new ones enter, and those that are
    /// gone from the configuration become unconfigured when their client leaves.
    pub fn reload(&self, settings: Arc<Settings>) {
        *self.shared.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&settings);
        for live in self.live().values() {
            let new = settings.camera(live.camera.id());
            if *new != *live.camera.settings() {
                live.camera.set_settings(Arc::new(new.clone()));
            }
        }
        self.enter_configured();
    }

    fn enter_configured(&self) {
        let ids: Vec<CameraId> = self.settings().cameras.keys().cloned().collect();
        let mut live = self.live();
        for id in ids {
            self.enter(&mut live, &id);
        }
    }

    fn enter(&self, live: &mut HashMap<CameraId, Live>, id: &CameraId) -> Arc<Camera> {
        if let Some(known) = live.get(id) {
            return Arc::clone(&known.camera);
        }
        let settings = self.settings();
        let configured = settings.cameras.contains_key(id);
        let own = settings.camera(id);
        if let Some(camera) = self.take_back(id, configured) {
            if *own != *camera.settings() {
                camera.set_settings(Arc::new(own.clone()));
            }
            live.insert(id.clone(), Live { camera: Arc::clone(&camera), seat: None });
            return camera;
        }
        let ring = Ring::new(settings.ring.limits, self.shared.rings.clone());
        let own = Arc::new(own.clone());
        let recorder = self.shared.outfitter.recorder(id);
        let camera = Arc::new(Camera::new(id.clone(), configured, own, ring, recorder));
        self.shared.outfitter.outfit(&camera);
        live.insert(id.clone(), Live { camera: Arc::clone(&camera), seat: None });
        camera
    }

    /// The camera that left under this id and is not seen off yet: its ring, its numbers and its events go on.
    fn take_back(&self, id: &CameraId, configured: bool) -> Option<Arc<Camera>> {
        let mut parting = self.parting();
        let at = parting
            .iter()
            .position(|(camera, _)| camera.id() == id && camera.counters.is_configured() == configured)?;
        Some(parting.swap_remove(at).0)
    }

    /// Makes a connection the camera with this id.
    pub fn attach(&self, id: &CameraId) -> Attach {
        let mut live = self.live();
        let camera = self.enter(&mut live, id);
        let seat = Seat::take();
        let before = live.get_mut(id).and_then(|entry| entry.seat.replace(seat.control()));
        Attach { camera, seat, before }
    }

    /// Makes a connection the first unnamed camera of its address that is free.
    pub fn attach_unnamed(&self, peer: IpAddr) -> Attach {
        let mut live = self.live();
        let mut number = 1;
        let id = loop {
            let id = CameraId::unnamed(peer, number);
            if live.get(&id).is_none_or(|entry| !entry.seat.as_ref().is_some_and(SeatControl::is_taken)) {
                break id;
            }
            number += 1;
        };
        let camera = self.enter(&mut live, &id);
        let seat = Seat::take();
        if let Some(entry) = live.get_mut(&id) {
            entry.seat = Some(seat.control());
        }
        Attach { camera, seat, before: None }
    }

    /// Frees a seat. An unconfigured camera leaves the register with its client.
    pub fn leave(&self, camera: &Arc<Camera>, seat: Seat) {
        let mut live = self.live();
        let own = live.get(camera.id()).is_some_and(|e| e.seat.as_ref().is_some_and(|s| s.is(&seat)));
        if own {
            camera.set_connected(false);
            // The mode stays: the last frames still wait to be looked at.
            camera.recorder.connection_ended();
            if camera.counters.is_configured() && self.settings().cameras.contains_key(camera.id()) {
                if let Some(entry) = live.get_mut(camera.id()) {
                    entry.seat = None;
                }
            } else if let Some(gone) = live.remove(camera.id()) {
                let until = self.shared.clock.mono().after(PARTING_LIMIT);
                self.parting().push((gone.camera, until));
            }
        }
        drop(seat);
    }

    /// A camera that is here.
    pub fn get(&self, id: &CameraId) -> Option<Arc<Camera>> {
        self.live().get(id).map(|entry| Arc::clone(&entry.camera))
    }

    /// Every camera that is here.
    pub fn all(&self) -> Vec<Arc<Camera>> {
        self.live().values().map(|entry| Arc::clone(&entry.camera)).collect()
    }

    /// Every camera that is here, and those that have left but are not done.
    pub fn all_with_parting(&self) -> Vec<Arc<Camera>> {
        let mut all = self.all();
        all.extend(self.parting().iter().map(|(camera, _)| Arc::clone(camera)));
        all
    }

    /// What status says, by id.
    pub fn reports(&self) -> Vec<CameraReport> {
        let now = self.shared.clock.mono();
        let mut reports: Vec<CameraReport> = self.all().iter().map(|camera| report(camera, now)).collect();
        reports.sort_by(|a, b| (!a.configured, &a.id).cmp(&(!b.configured, &b.id)));
        reports
    }

    /// Brings the gauges of cameras and rings up to date.
    pub fn publish(&self) {
        let now = self.shared.clock.mono();
        self.see_off(now);
        let mut unconfigured_up = false;
        let mut any_unconfigured = None;
        for camera in self.all() {
            let up = camera.is_up(now);
            if camera.counters.is_configured() {
                camera.counters.set_up(up);
            } else {
                // They share one series: it says whether any of them is up.
                unconfigured_up |= up;
                any_unconfigured = Some(camera);
            }
        }
        if let Some(camera) = any_unconfigured {
            camera.counters.set_up(unconfigured_up);
        }
        gauge!(metric::RING_BYTES).set(self.shared.rings.used() as f64);
    }

    /// Bytes in all rings together.
    pub fn ring_bytes(&self) -> usize {
        self.shared.rings.used()
    }
}

fn report(camera: &Arc<Camera>, now: MonoTime) -> CameraReport {
    let (ring_bytes, recording) = {
        let ring = camera.ring();
        (ring.ring.bytes(), ring.recording)
    };
    let [motion, person, face] = camera.counters.replacements();
    CameraReport {
        id: camera.id().clone(),
        name: camera.settings().name.clone(),
        configured: camera.counters.is_configured(),
        connected: camera.is_connected(),
        up: camera.is_up(now),
        mode: camera.mode(),
        last_frame: camera.last_frame_wall(),
        frames: camera.frames(),
        refused: camera.counters.refusals(),
        frames_per_second: camera.pace(now),
        ring_bytes,
        recording,
        slots: [
            SlotReport {
                detector: "motion",
                full: camera.decode_slot.is_full() || camera.motion_slot.is_full(),
                replaced: motion,
            },
            SlotReport { detector: "person", full: camera.person_slot.is_full(), replaced: person },
            SlotReport { detector: "face", full: camera.face_slot.is_full(), replaced: face },
        ],
    }
}
