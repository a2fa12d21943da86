//! Everything that is written to disk for one camera: pictures, the spool of its video, the spool of its clip.
//! `link.rs` is the way in, `component.rs` the recorder, `clip.rs` and `video.rs` what is open, and `encoder.rs`
//! makes files for people out of spools.

mod clip;
mod component;
mod encoder;
mod link;
mod room;
mod video;

pub use component::{Recorder, RecorderTools};
pub use encoder::{EncoderSettings, Encoders, Places};
pub use link::{NotBegun, Order, RecorderLink, SnapshotFile, Stored};
pub use room::Room;

#[cfg(test)]
pub(crate) mod tests;
