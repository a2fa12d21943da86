//! The series of one camera, looked up once and then counted without a search.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meerkat_base::{CameraId, EventKind, Frame, ids, metric};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The `stage` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// The session has the whole frame.
    Received,
    /// What nobody may see was covered; only where there is a mask.
    Masked,
    /// It was decoded.
    Decoded,
    /// Motion and guard have looked at it.
    Motion,
    /// The person detector has looked at it.
    Person,
    /// The face recogniser has looked at it.
    Face,
}

/// The `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// All is well.
    Ok,
    /// Replaced by a newer frame before anybody looked at it.
    Dropped,
    /// Too old to be of use when its turn came.
    Stale,
    /// Answered with `0`.
    Refused,
    /// The frame could not be worked on.
    Error,
}

const STAGES: [&str; 6] = ["received", "masked", "decoded", "motion", "person", "face"];
const OUTCOMES: [&str; 5] = ["ok", "dropped", "stale", "refused", "error"];

/// Counters and gauges of one camera; unconfigured cameras share theirs.
pub struct CameraCounters {
    label: String,
    frames: Vec<Counter>,
    bytes: Counter,
    last_frame: Gauge,
    up: Gauge,
    replaced: [Counter; 3],
    refusals: AtomicU64,
    replacements: [AtomicU64; 3],
    durations: Vec<Histogram>,
    configured: bool,
}

impl CameraCounters {
    pub(super) fn new(id: &CameraId, configured: bool) -> Self {
        let label = if configured { id.as_str() } else { ids::UNCONFIGURED }.to_owned();
        let mut frames = Vec::with_capacity(STAGES.len() * OUTCOMES.len());
        for stage in STAGES {
            for outcome in OUTCOMES {
                frames.push(counter!(metric::FRAMES,
                    "camera" => label.clone(), "stage" => stage, "result" => outcome));
            }
        }
        for kind in EventKind::SEEN.into_iter().chain([EventKind::CameraSilent, EventKind::Viewer]) {
            counter!(metric::EVENTS, "camera" => label.clone(), "kind" => kind.as_str()).increment(0);
        }
        let replaced = ["motion", "person", "face"]
            .map(|d| counter!(metric::SLOT_REPLACED, "camera" => label.clone(), "detector" => d));
        let bytes = counter!(metric::FRAME_BYTES, "camera" => label.clone());
        // A counter that was never incremented is not exported; these must be there as 0 from the start.
        for series in frames.iter().chain(&replaced).chain([&bytes]) {
            series.increment(0);
        }
        let last_frame = gauge!(metric::LAST_FRAME, "camera" => label.clone());
        last_frame.increment(0.0);
        let up = gauge!(metric::CAMERA_UP, "camera" => label.clone());
        up.increment(0.0);
        let durations = STAGES.map(|stage| histogram!(metric::STAGE_DURATION, "stage" => stage)).to_vec();
        Self {
            label,
            frames,
            bytes,
            last_frame,
            up,
            replaced,
            refusals: AtomicU64::new(0),
            replacements: Default::default(),
            durations,
            configured,
        }
    }

    /// The `camera` label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Counts one frame.
    pub fn frame(&self, stage: Stage, outcome: Outcome) {
        if (stage, outcome) == (Stage::Received, Outcome::Refused) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(series) = self.frames.get(stage as usize * OUTCOMES.len() + outcome as usize) {
            series.increment(1);
        }
    }

    /// Notes how long after its arrival a frame came to the end of a stage.
    pub fn took(&self, stage: Stage, duration: Duration) {
        if let Some(series) = self.durations.get(stage as usize) {
            series.record(duration);
        }
    }

    pub(super) fn arrived(&self, frame: &Frame) {
        self.frame(Stage::Received, Outcome::Ok);
        self.bytes.increment(frame.len() as u64);
        self.last_frame.set(frame.wall.as_secs_f64());
    }

    /// Counts a frame that was replaced before a stage looked at it.
    pub fn replaced(&self, stage: Stage) {
        self.frame(stage, Outcome::Dropped);
        let index = match stage {
            Stage::Received | Stage::Masked | Stage::Decoded | Stage::Motion => 0,
            Stage::Person => 1,
            Stage::Face => 2,
        };
        if let (Some(series), Some(own)) = (self.replaced.get(index), self.replacements.get(index)) {
            series.increment(1);
            own.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frames of this camera that were answered with `0`.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Frames of this camera replaced before motion, person and face looked at them.
    pub fn replacements(&self) -> [u64; 3] {
        self.replacements.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.set(f64::from(u8::from(up)));
    }

    pub(super) fn is_configured(&self) -> bool {
        self.configured
    }
}
