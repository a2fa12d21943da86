//! Everything that is written to disk for one camera: pictures, and the spools of its video, its clip and its segment.
//! `link.rs` is the way in, `component.rs` the recorder, `open.rs` and `clip.rs` what is open, `missing.rs` what the ring
//! makes up for; `encoder.rs` and `job.rs` make files for people out of spools, those whose turn it is by `turns.rs`, in
//! attempts that `attempts.rs` counts.

mod attempts;
mod clip;
mod component;
mod encoder;
mod job;
mod link;
mod missing;
mod open;
mod pictures;
mod stills;
mod turns;

pub use component::{Recorder, RecorderTools};
pub use encoder::{ClipTelling, EncoderSettings, EncoderTools, Encoders, Places, clip_size};
pub use link::{NotBegun, Order, RecorderLink, SnapshotFile, Stored};

#[cfg(test)]
pub(crate) mod tests;
