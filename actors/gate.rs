//! Decides which frames the expensive detectors get: by mode, by motion, and by their own pace.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use meerkat_base::{Clock, Frame, Mode, Slot};
use meerkat_settings::{DetectorSettings, DetectorsSettings, Gate};

use crate::camera::{Camera, Outcome, Stage};
use crate::supervision::Station;

/// A detector goes on for this long after the last motion: people who stand still are still there.
const HOLD: Duration = Duration::from_secs(10);

/// Cameras with a frame for one kind of detector, in the order in which they came: fair over cameras.
pub struct Lineup {
    stage: Stage,
    slot: fn(&Camera) -> &Slot<Frame>,
    waiting: Mutex<VecDeque<Weak<Camera>>>,
    came: Condvar,
    stations: OnceLock<Vec<Station>>,
}

impl Lineup {
    fn new(stage: Stage, slot: fn(&Camera) -> &Slot<Frame>) -> Arc<Self> {
        let (waiting, came) = (Mutex::default(), Condvar::new());
        Arc::new(Self { stage, slot, waiting, came, stations: OnceLock::new() })
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
            self.came.notify_one();
        }
        for station in self.stations.get().into_iter().flatten() {
            station.wake();
        }
    }

    /// What these cameras' frames are taken for.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The camera that has waited longest, with its newest frame.
    pub fn take(&self) -> Option<(Arc<Camera>, Frame)> {
        loop {
            let camera = self.waiting().pop_front()?;
            if let Some(taken) = self.frame_of(&camera) {
                return Some(taken);
            }
        }
    }

    /// As [`Lineup::take`]; waits until then for a camera to come.
    pub fn take_by(&self, until: Instant) -> Option<(Arc<Camera>, Frame)> {
        let mut waiting = self.waiting();
        loop {
            while let Some(camera) = waiting.pop_front() {
                if let Some(taken) = self.frame_of(&camera) {
                    return Some(taken);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            waiting = self.came.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn frame_of(&self, camera: &Weak<Camera>) -> Option<(Arc<Camera>, Frame)> {
        let camera = camera.upgrade()?;
        let frame = (self.slot)(&camera).take()?;
        if camera.is_outdated(frame.seq) {
            camera.counters.frame(self.stage, Outcome::Stale);
            return None;
        }
        Some((camera, frame))
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

#[cfg(test)]
mod tests {
    use meerkat_base::ManualClock;

    use super::*;
    use crate::camera::Cameras;
    use crate::testing::{NOON, camera, cameras, cover_all, frame, settings};

    struct Scene {
        clock: ManualClock,
        _cameras: Cameras,
        camera: Arc<Camera>,
        gates: Gates,
    }

    fn scene(changes: &[(&str, &str)]) -> Scene {
        let clock = ManualClock::new(NOON);
        let all = cameras(&clock, changes);
        let gates = Gates::new(settings(changes).detectors, Arc::new(clock.clone()));
        Scene { camera: camera(&all, "door"), _cameras: all, clock, gates }
    }

    impl Scene {
        /// One frame after so long; whether the detector of its mode gets it.
        fn passes(&self, mode: Mode, after_ms: u64) -> bool {
            self.clock.advance(Duration::from_millis(after_ms));
            let (frame, _) = frame(&self.camera, &self.clock);
            self.gates.offer(&self.camera, mode, &frame);
            let taken = self.gates.people.take().or_else(|| self.gates.faces.take());
            taken.is_some_and(|(camera, taken)| {
                assert_eq!((camera.id(), taken.seq), (self.camera.id(), frame.seq));
                true
            })
        }

        fn count(&self, mode: Mode, frames: usize, gap_ms: u64) -> usize {
            (0..frames).filter(|_| self.passes(mode, gap_ms)).count()
        }
    }

    #[test]
    fn a_detector_gets_the_frames_of_its_mode_only() {
        let scene = scene(&[("detectors.person.gate", "none"), ("detectors.face.gate", "none")]);
        for mode in [Mode::Pictures, Mode::Video, Mode::Guard] {
            assert!(!scene.passes(mode, 100));
        }
        let (picture, _) = frame(&scene.camera, &scene.clock);
        scene.gates.offer(&scene.camera, Mode::People, &picture);
        assert!(scene.gates.faces.take().is_none() && scene.gates.people.take().is_some());
        scene.clock.advance(Duration::from_millis(1));
        scene.gates.offer(&scene.camera, Mode::Faces, &picture);
        assert!(scene.gates.people.take().is_none() && scene.gates.faces.take().is_some());
    }

    #[test]
    fn its_pace_is_kept() {
        let scene = scene(&[("detectors.person.gate", "none"), ("detectors.person.every_ms", "500")]);
        assert_eq!(scene.count(Mode::People, 100, 100), 20, "ten seconds, two a second");
        let scene = self::scene(&[("detectors.person.gate", "none")]);
        assert_eq!(scene.count(Mode::People, 100, 100), 100, "no pace: each");
    }

    #[test]
    fn without_motion_it_looks_now_and_then() {
        let scene = scene(&[("detectors.person.idle_every_ms", "1000")]);
        assert_eq!(scene.count(Mode::People, 100, 100), 10);
        let scene = self::scene(&[("detectors.person.idle_every_ms", "0")]);
        assert_eq!(scene.count(Mode::People, 100, 100), 0, "or never");
    }

    #[test]
    fn motion_opens_the_gate_and_it_stays_open_for_a_while() {
        let scene = scene(&[("detectors.person.idle_every_ms", "0")]);
        assert!(!scene.passes(Mode::People, 100));
        scene.camera.note_motion(scene.clock.mono());
        let held = HOLD.as_millis() as usize / 100;
        assert_eq!(scene.count(Mode::People, held, 100), held, "people who stand still are still there");
        assert_eq!(scene.count(Mode::People, 50, 100), 0);
        scene.camera.note_motion(scene.clock.mono());
        assert!(scene.passes(Mode::People, 100));
    }

    #[test]
    fn a_camera_without_motion_has_no_gate() {
        let scene = scene(&[("detectors.person.idle_every_ms", "0"), ("motion.enabled", "false")]);
        assert_eq!(scene.count(Mode::People, 10, 100), 10);
    }

    #[test]
    fn a_picture_that_may_not_be_seen_any_more_reaches_no_detector() {
        let scene = scene(&[("detectors.person.gate", "none")]);
        let (in_hand, _) = frame(&scene.camera, &scene.clock);
        cover_all(&scene.camera);
        // Whoever had it in hand then hands it on.
        scene.gates.offer(&scene.camera, Mode::People, &in_hand);
        assert!(scene.gates.people.take().is_none());
        assert!(scene.passes(Mode::People, 100), "the next is covered");
    }

    #[test]
    fn new_settings_hold_at_once() {
        let scene = scene(&[("detectors.face.idle_every_ms", "0")]);
        assert!(!scene.passes(Mode::Faces, 100));
        scene.gates.reload(settings(&[("detectors.face.gate", "none")]).detectors);
        assert!(scene.passes(Mode::Faces, 100));
    }

    #[test]
    fn whoever_waits_for_a_camera_gets_it_at_once_or_nothing_in_the_end() {
        let scene = scene(&[("detectors.person.gate", "none")]);
        let soon = || Instant::now() + Duration::from_millis(5);
        assert!(scene.gates.people.take_by(soon()).is_none());
        let (picture, _) = frame(&scene.camera, &scene.clock);
        scene.clock.advance(Duration::from_millis(1));
        std::thread::scope(|scope| {
            let line = Arc::clone(&scene.gates.people);
            let waiting = scope.spawn(move || line.take_by(Instant::now() + Duration::from_secs(60)));
            scene.gates.offer(&scene.camera, Mode::People, &picture);
            assert_eq!(waiting.join().unwrap().unwrap().1.seq, picture.seq);
        });
        assert!(scene.gates.people.take_by(soon()).is_none());
    }

    #[test]
    fn cameras_are_served_in_turn_each_with_its_newest_frame() {
        let clock = ManualClock::new(NOON);
        let all = cameras(&clock, &[]);
        let gates =
            Gates::new(settings(&[("detectors.person.gate", "none")]).detectors, Arc::new(clock.clone()));
        let (a, b) = (camera(&all, "a"), camera(&all, "b"));
        for _ in 0..5 {
            clock.advance(Duration::from_millis(10));
            gates.offer(&a, Mode::People, &frame(&a, &clock).0);
        }
        gates.offer(&b, Mode::People, &frame(&b, &clock).0);
        assert_eq!(gates.people.len(), 2, "who waits stands in line once");
        let (first, newest) = gates.people.take().unwrap();
        assert_eq!((first.id().as_str(), newest.seq), ("a", 5));
        assert_eq!(a.counters.replacements()[1], 4);
        clock.advance(Duration::from_millis(10));
        gates.offer(&a, Mode::People, &frame(&a, &clock).0);
        let order: Vec<String> =
            std::iter::from_fn(|| gates.people.take()).map(|(camera, _)| camera.id().to_string()).collect();
        assert_eq!(order, ["b", "a"]);
        assert!(gates.people.is_empty());
        // A camera that is gone is passed over.
        clock.advance(Duration::from_millis(10));
        gates.offer(&b, Mode::People, &frame(&b, &clock).0);
        drop((b, all));
        assert!(gates.people.take().is_none());
    }
}
