//! The decoder of one camera: decodes as little of a frame as the next step needs, and hands it on.

use std::sync::{Arc, Weak};

use meerkat_base::{Clock, Frame, Mode};
use meerkat_vision::{GrayPlane, decode_gray_into};
use tracing::debug;

use crate::camera::{Camera, Outcome, Planed, Stage};
use crate::gate::Gates;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// Takes frames from the camera's slot, gives planes to motion, and frames to the detectors that are not gated.
pub struct Decoder {
    camera: Weak<Camera>,
    clock: Arc<dyn Clock>,
    gates: Arc<Gates>,
    spare: Option<GrayPlane>,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new(camera: Weak<Camera>, clock: Arc<dyn Clock>, gates: Arc<Gates>) -> Self {
        Self { camera, clock, gates, spare: None }
    }

    fn plane(&mut self, frame: &Frame, reduction: u32) -> Result<GrayPlane, String> {
        let mut plane = self.spare.take().unwrap_or_default();
        decode_gray_into(&frame.bytes, reduction, &mut plane).map_err(|error| error.to_string())?;
        Ok(plane)
    }
}

impl Component for Decoder {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(camera) = self.camera.upgrade() else { return Ok(Step::Done) };
        let Some(frame) = camera.decode_slot.take() else { return Ok(Step::Idle) };
        fault::point(ActorKind::Decoder, Some(camera.id()))?;
        let Some(mode) = camera.mode().filter(|mode| mode.is_watching()) else {
            camera.counters.frame(Stage::Decoded, Outcome::Stale);
            return Ok(Step::Again);
        };
        if camera.is_outdated(frame.seq) {
            camera.counters.frame(Stage::Decoded, Outcome::Stale);
            return Ok(Step::Again);
        }
        let settings = camera.settings();
        let motion_up = camera.stations().is_some_and(|stations| stations.motion.is_up());
        if !motion_up || !settings.motion.enabled {
            // A gate that nobody can open must not shut the detectors out.
            self.gates.offer(&camera, mode, &frame);
        }
        if settings.motion.enabled || mode == Mode::Guard {
            match self.plane(&frame, settings.motion.reduction.divisor()) {
                Ok(plane) => {
                    camera.counters.frame(Stage::Decoded, Outcome::Ok);
                    camera.counters.took(Stage::Decoded, self.clock.mono() - frame.mono);
                    if let Some(unseen) = camera.motion_slot.put(Planed { frame, plane }) {
                        camera.counters.replaced(Stage::Motion);
                        self.spare = Some(unseen.plane);
                    }
                    if let Some(stations) = camera.stations() {
                        stations.motion.wake();
                    }
                }
                Err(error) => {
                    debug!(camera = %camera.id(), frame = frame.seq, error, "a frame cannot be decoded");
                    camera.counters.frame(Stage::Decoded, Outcome::Error);
                }
            }
        }
        Ok(if camera.decode_slot.is_full() { Step::Again } else { Step::Idle })
    }
}

#[cfg(test)]
mod tests {
    use meerkat_base::{Image, ManualClock, PixelFormat};

    use super::*;
    use crate::testing::{NOON, camera, cameras, cover_all, frame, settings};

    #[test]
    fn a_picture_that_may_not_be_seen_any_more_is_not_decoded() {
        let clock = ManualClock::new(NOON);
        let camera = camera(&cameras(&clock, &[]), "door");
        camera.set_mode(Some(Mode::Guard));
        let image = Image::new(64, 48, PixelFormat::Gray8, vec![90; 64 * 48]).unwrap();
        let bytes = bytes::Bytes::from(meerkat_vision::encode_jpeg(&image, 80).unwrap());
        let next = || Frame { bytes: bytes.clone(), ..frame(&camera, &clock).0 };
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let gates = Arc::new(Gates::new(settings(&[]).detectors, Arc::clone(&shared)));
        let mut decoder = Decoder::new(Arc::downgrade(&camera), shared, gates);

        let in_hand = next();
        cover_all(&camera);
        // The session had it in hand while the recorder stored it.
        camera.decode_slot.put(in_hand);
        decoder.step().unwrap();
        assert!(!camera.motion_slot.is_full());
        let covered = next();
        camera.decode_slot.put(covered.clone());
        decoder.step().unwrap();
        assert_eq!(camera.motion_slot.take().unwrap().frame.seq, covered.seq);
    }
}
