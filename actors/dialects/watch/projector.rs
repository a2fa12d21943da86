//! Makes the small pictures that viewers get, one for all of them, from whatever is the camera's newest when somebody is ready
//! for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use meerkat_base::{Clock, MonoTime, metric};
use meerkat_settings::WatchDialectSettings;
use meerkat_vision::{Miniatures, NoMiniature};
use metrics::counter;
use tracing::debug;

use super::Live;
use crate::camera::Camera;
use crate::supervision::{ActorKind, Component, Failure, Step, fault};

/// The projector of one camera.
pub(crate) struct Projector {
    camera: Weak<Camera>,
    live: Live,
    clock: Arc<dyn Clock>,
    /// By what the two below were made.
    settings: Arc<WatchDialectSettings>,
    miniatures: Miniatures,
    pace: Pace,
    /// The frame that was looked at last.
    last_seq: u64,
}

impl Projector {
    /// One that has shown nothing yet.
    pub fn new(camera: Weak<Camera>, live: Live) -> Self {
        let settings = live.settings();
        let (miniatures, pace) = (miniatures(&settings), Pace::new(settings.max_frames_per_second));
        let clock = Arc::clone(live.clock());
        Self { camera, live, clock, settings, miniatures, pace, last_seq: 0 }
    }

    /// Makes pictures by the settings that hold now, the one that is shown included.
    fn follow(&mut self) {
        let settings = self.live.settings();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.miniatures = miniatures(&settings);
            self.pace = Pace::new(settings.max_frames_per_second);
            self.last_seq = 0;
            self.settings = settings;
        }
    }
}

fn miniatures(settings: &WatchDialectSettings) -> Miniatures {
    Miniatures::new(settings.width, settings.height, settings.max_datagram_bytes, settings.quality)
}

impl Component for Projector {
    fn step(&mut self) -> Result<Step, Failure> {
        let Some(camera) = self.camera.upgrade() else { return Ok(Step::Done) };
        if !self.live.look() {
            return Ok(Step::Idle);
        }
        self.follow();
        // Asked before the picture is taken: should it change on the way, the picture counts as one of the old kind.
        let mask = camera.settings().mask.clone();
        let Some(frame) = camera.latest().filter(|frame| frame.seq != self.last_seq) else {
            return Ok(Step::Idle);
        };
        if let Some(wait) = self.pace.wait(self.clock.mono()) {
            return Ok(Step::Sleep(wait));
        }
        fault::point(ActorKind::Projector, Some(camera.id()))?;
        self.last_seq = frame.seq;
        let result = match self.miniatures.make(&frame.bytes) {
            Ok(bytes) => {
                self.live.show(bytes, Weak::clone(&self.camera), mask);
                "ok"
            }
            Err(error) => {
                debug!(camera = %camera.id(), frame = frame.seq, %error, "no picture for viewers");
                match error {
                    NoMiniature::Picture(_) => "undecodable",
                    NoMiniature::TooLarge { .. } => "too_large",
                }
            }
        };
        counter!(metric::LIVE_PICTURES, "result" => result).increment(1);
        Ok(Step::Idle)
    }
}

/// Keeps to a number of pictures per second, on average: a little early is made up for by the next.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// When the next picture would be due at an even pace.
    next: MonoTime,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), next: MonoTime::default() }
    }

    /// None: now. Else how long to wait.
    fn wait(&mut self, now: MonoTime) -> Option<Duration> {
        // Up to one interval may be ahead, so that a camera that is only just too fast loses few of its pictures.
        let ahead = self.next.since(now);
        if ahead > self.interval {
            return Some(ahead - self.interval);
        }
        self.next = self.next.max(now).after(self.interval);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_pictures_a_second() {
        for (camera_fps, limit, expected) in
            [(10, 25, 10), (30, 25, 25), (100, 25, 25), (1, 25, 1), (60, 1, 1)]
        {
            let mut pace = Pace::new(limit);
            let gap = 1_000_000_000 / camera_fps;
            let made = (0..camera_fps * 20).filter(|n| pace.wait(MonoTime(n * gap)).is_none()).count();
            assert!(made.abs_diff(expected * 20) <= 2, "{camera_fps} by {limit}: {made}");
        }
    }

    #[test]
    fn a_pause_is_not_saved_up_for_a_burst() {
        let mut pace = Pace::new(10);
        let at = |millis: u64| MonoTime(millis * 1_000_000);
        assert_eq!(pace.wait(at(0)), None);
        assert!((0..100).filter(|n| pace.wait(at(60_000 + n)).is_none()).count() <= 3);
    }
}
