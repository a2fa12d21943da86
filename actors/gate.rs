//! Decides which frames the expensive detectors get: by mode, by motion, and by their own pace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use meerkat_base::{Clock, Frame, Mode, Slot};
use meerkat_settings::{DetectorSettings, DetectorsSettings, Gate};

use crate::camera::{Camera, Stage};
use crate::supervision::Station;

/// A detector goes on for this long after the last motion: people who stand still are still there.
const HOLD: Duration = Duration::from_secs(10);

/// Cameras with a frame for one kind of detector, in the order in which they came: fair over cameras.
pub struct Lineup {
    stage: Stage,
    slot: fn(&Camera) -> &Slot<Frame>,
    waiting: Mutex<VecDeque<Weak<Camera>>>,
    stations: OnceLock<Vec<Station>>,
}

impl Lineup {
    fn new(stage: Stage, slot: fn(&Camera) -> &Slot<Frame>) -> Arc<Self> {
        Arc::new(Self { stage, slot, waiting: Mutex::default(), stations: OnceLock::new() })
    }

    /// Says who serves this line. Once.
    pub fn set_stations(&self, stations: Vec<Station>) {
        let _ = self.stations.set(stations);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Weak<Camera>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, camera: &Arc<Camera>, frame: Frame) {
        if (self.slot)(camera).put(frame).is_some() {
            camera.counters.replaced(self.stage);
            // The camera stands in line already, but whoever was to serve it may have been lost since.
        } else {
            self.waiting().push_back(Arc::downgrade(camera));
        }
        for station in self.stations.get().into_iter().flatten() {
            station.wake();
        }
    }

    /// The camera that has waited longest, with its newest frame.
    pub fn take(&self) -> Option<(Arc<Camera>, Frame)> {
        loop {
            let camera = self.waiting().pop_front()?;
            let Some(camera) = camera.upgrade() else { continue };
            if let Some(frame) = (self.slot)(&camera).take() {
                return Some((camera, frame));
            }
        }
    }

    /// Cameras that wait.
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether no camera waits.
    pub fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }
}

/// The gates in front of the shared detectors.
pub struct Gates {
    settings: Mutex<DetectorsSettings>,
    clock: Arc<dyn Clock>,
    /// Cameras with a frame for the person detector.
    pub people: Arc<Lineup>,
    /// Cameras with a frame for the face recogniser.
    pub faces: Arc<Lineup>,
}

impl Gates {
    /// Gates with nobody in line.
    pub fn new(settings: DetectorsSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings: Mutex::new(settings),
            clock,
            people: Lineup::new(Stage::Person, |camera| &camera.person_slot),
            faces: Lineup::new(Stage::Face, |camera| &camera.face_slot),
        }
    }

    /// Puts new settings in force.
    pub fn reload(&self, settings: DetectorsSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Lets a frame through to the detector of its mode, if it is its turn.
    pub fn offer(&self, camera: &Arc<Camera>, mode: Mode, frame: &Frame) {
        let (line, pace) = {
            let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            match mode {
                Mode::People => (&self.people, settings.person.clone()),
                Mode::Faces => (&self.faces, settings.face.clone()),
                Mode::Pictures | Mode::Video | Mode::Guard => return,
            }
        };
        let now = self.clock.mono();
        let motion_counts = pace.gate == Gate::Motion && camera.settings().motion.enabled;
        let moving = !motion_counts || camera.since_motion(now).is_some_and(|since| since <= HOLD);
        if camera.detector_turn(now, wait(&pace, moving)) {
            line.offer(camera, frame.clone());
        }
    }
}

/// Time between two looks; `None`: not at all.
fn wait(pace: &DetectorSettings, moving: bool) -> Option<Duration> {
    if moving { Some(pace.every) } else { pace.idle_every }
}
