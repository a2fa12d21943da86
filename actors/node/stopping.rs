//! The way down, in the order of the flow.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Node;

/// Time that there is in any case for saying that clips which are not finished have not failed.
const TAKE_BACK: Duration = Duration::from_secs(1);

impl Node {
    /// Takes everything down in the order of the flow; says who is late. Sessions must have been told by the
    /// shutdown signal.
    pub fn stop(self, patience: Duration) {
        self.shutdown.trigger();
        let give_up = Instant::now() + patience;
        let left = || give_up.saturating_duration_since(Instant::now());
        self.io.stop(left() / 4);
        self.dialects.stop(left() / 8);
        // Sightings on their way become events, then every running event is ended by its courier.
        self.events.finish();
        let couriers_until = Instant::now() + left() / 4;
        std::thread::sleep(Duration::from_millis(20));
        while self.couriers.load(Ordering::Acquire) > 0 && Instant::now() < couriers_until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.events_solo.stop(left() / 4) {
            warn!(actor = "events", "late at shutdown");
        }
        for camera in self.cameras.all_with_parting() {
            camera.recorder.finish_at_shutdown(left() / 4);
        }
        while self.encoders.waiting() > 0 && !left().is_zero() {
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.encoders.waiting() > 0 {
            info!(spools = self.encoders.waiting(), "clips that are not finished will be at the next start");
        }
        self.encoders.stop(left().max(TAKE_BACK));
        if !self.crier.stop(left()) {
            warn!(actor = "crier", "late at shutdown");
        }
        if !self.notifier.stop(left()) {
            warn!(actor = "notifier", "late at shutdown");
        }
        for camera in self.cameras.all_with_parting() {
            camera.close();
        }
        drop(self.watch);
        for (name, crew) in &self.crews {
            let late = crew.stop(left().max(Duration::from_millis(200)));
            if late > 0 {
                warn!(crew = name, threads = late, "late at shutdown");
            }
        }
    }
}
