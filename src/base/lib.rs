//! The words that every room shares: ids, times, frames, detections, events, and the small
//! containers that frames wait in. No sockets, no files, no threads of its own.
#![forbid(unsafe_code)]

pub mod ids;
pub mod time;

pub mod frame;
pub mod image;
pub mod detection;
pub mod mask;
pub mod detect;
pub mod event;
pub mod notice;
pub mod evidence;

pub mod budget;
pub mod ring;
pub mod slot;

pub mod metric;
pub mod secret;
pub mod shutdown;
pub mod text;

pub use budget::{Budget, Permit};
pub use detect::{
    DetectorError, DetectorInfo, FaceIdentity, FaceRecogniser, FaceTraits, FaceTraitsEstimator, FoundFace,
    Guess, ImageWish, MOST_GUESSES, ObjectClassifier, PersonDetector, Unfit, Weights,
};
pub use detection::{Detection, Point, Rect};
pub use event::{Event, EventId, EventKind, EventPhase, Severity, Sighting};
pub use evidence::{Evidence, KeepLimit};
pub use frame::{Frame, ImageFormat};
pub use ids::{CameraId, Mode};
pub use image::{Image, PixelFormat};
pub use mask::MaskArea;
pub use notice::{NoNotices, Notice, NoticeSink};
pub use ring::{Ring, RingLimits};
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use slot::Slot;
pub use time::{Clock, ManualClock, MonoTime, Pts90k, SystemClock, WallTime};
