//! Motion and guard of one camera: what moves, and whether the guarded object is still where it was.

use std::sync::{Arc, Weak};

use meerkat_base::{Clock, Detection, EventKind, Mode};
use meerkat_settings as settings;
use meerkat_vision::{Guard, GuardAlarm, GuardSettings, MotionDetector, MotionSettings};
use tracing::debug;

use crate::camera::{Camera, Outcome, Planed, Stage};
use crate::events::{EventsLink, Seen};
use crate::gate::Gates;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// So many looks without motion are told after one with motion.
const MISSES_TOLD: u32 = 16;

/// Takes planes from the camera's slot; tells the events actor, and opens the gates.
pub struct Motion {
    camera: Weak<Camera>,
    clock: Arc<dyn Clock>,
    gates: Arc<Gates>,
    events: EventsLink,
    detector: MotionDetector,
    guard: Option<Guard>,
    misses_to_tell: u32,
    applied: (settings::MotionSettings, settings::GuardSettings),
}

impl Motion {
    /// Knows nothing of the scene yet.
    pub fn new(
        camera: &Arc<Camera>,
        clock: Arc<dyn Clock>,
        gates: Arc<Gates>,
        events: EventsLink,
    ) -> Result<Self, Failure> {
        let own = camera.settings();
        let detector = MotionDetector::new(motion_settings(&own.motion)).map_err(Failure::error)?;
        Ok(Self {
            camera: Arc::downgrade(camera),
            clock,
            gates,
            events,
            detector,
            guard: None,
            misses_to_tell: 0,
            applied: (own.motion.clone(), own.guard.clone()),
        })
    }

    /// Takes over settings that were changed while running; what was learned of the scene starts anew.
    fn follow_settings(&mut self, camera: &Camera) -> Result<(), Failure> {
        let own = camera.settings();
        if own.motion != self.applied.0 {
            self.detector = MotionDetector::new(motion_settings(&own.motion)).map_err(Failure::error)?;
            self.applied.0 = own.motion.clone();
        }
        if own.guard != self.applied.1 {
            self.guard = None;
            self.applied.1 = own.guard.clone();
        }
        Ok(())
    }

    fn look(&mut self, camera: &Arc<Camera>, mode: Mode, planed: &Planed) -> Result<(), Failure> {
        let Planed { frame, plane } = planed;
        if camera.settings().motion.enabled {
            let report = self.detector.observe(plane, frame.mono).map_err(Failure::error)?;
            if report.moving.is_empty() {
                if self.misses_to_tell > 0 {
                    // Looks that saw nothing count too, while something was seen a moment ago.
                    self.misses_to_tell -= 1;
                    self.events.tell(Seen::of(camera, frame, EventKind::Motion, Vec::new()));
                }
            } else {
                self.misses_to_tell = MISSES_TOLD;
                camera.note_motion(frame.mono);
                let score = (report.share * 10.0).clamp(0.05, 1.0);
                let detections =
                    report.moving.iter().map(|&bbox| Detection::new("motion", score, bbox)).collect();
                self.events.tell(Seen::of(camera, frame, EventKind::Motion, detections));
            }
        }
        if mode != Mode::Guard {
            self.guard = None;
            return Ok(());
        }
        if self.guard.is_none() {
            self.guard = Some(Guard::new(guard_settings(&self.applied.1)));
        }
        let Some(guard) = &mut self.guard else { return Ok(()) };
        if camera.take_reference_wish() {
            guard.new_reference();
        }
        let report = guard.observe(plane, frame.mono).map_err(Failure::error)?;
        if let Some(alarm) = report.alarm {
            let kind = match alarm {
                GuardAlarm::ObjectMoved => EventKind::ObjectMoved,
                GuardAlarm::ObjectRemoved => EventKind::ObjectRemoved,
            };
            let bbox = report.object.unwrap_or(meerkat_base::Rect::new(0.0, 0.0, 0.0, 0.0));
            self.events.tell(Seen::of(camera, frame, kind, vec![Detection::new(kind.as_str(), 1.0, bbox)]));
        }
        Ok(())
    }
}

impl Component for Motion {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(camera) = self.camera.upgrade() else { return Ok(Step::Done) };
        let Some(planed) = camera.motion_slot.take() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Motion, Some(camera.id()))?;
        let Some(mode) = camera.mode().filter(|mode| mode.is_watching()) else {
            camera.counters.frame(Stage::Motion, Outcome::Stale);
            return Ok(Step::Idle);
        };
        if camera.is_outdated(planed.frame.seq) {
            camera.counters.frame(Stage::Motion, Outcome::Stale);
            return Ok(Step::Again);
        }
        self.follow_settings(&camera)?;
        match self.look(&camera, mode, &planed) {
            Ok(()) => {
                camera.counters.frame(Stage::Motion, Outcome::Ok);
                camera.counters.took(Stage::Motion, self.clock.mono() - planed.frame.mono);
            }
            Err(failure) => {
                debug!(camera = %camera.id(), frame = planed.frame.seq, %failure, "motion could not be looked for");
                camera.counters.frame(Stage::Motion, Outcome::Error);
                return Err(failure);
            }
        }
        if camera.settings().motion.enabled {
            self.gates.offer(&camera, mode, &planed.frame);
        }
        Ok(if camera.motion_slot.is_full() { Step::Again } else { Step::Idle })
    }
}

fn motion_settings(own: &settings::MotionSettings) -> MotionSettings {
    MotionSettings {
        min_difference: f32::from(own.threshold),
        min_area: own.min_area_share,
        absorb_after: own.learning,
        ..MotionSettings::default()
    }
}

fn guard_settings(own: &settings::GuardSettings) -> GuardSettings {
    GuardSettings {
        zone: own.zone.map(|z| meerkat_base::Rect::new(z.x, z.y, z.width, z.height)),
        displacement: own.displacement_share,
        confirm_frames: own.confirm_frames,
        clear_after: own.free_view,
        ..GuardSettings::default()
    }
}
