//! Everything in Meerkat that moves, in the order of the way of a frame. actix lives here and nowhere else.
//!
//! An actor is a plain component with plain methods, run by a shell: sessions, events and the notifier by actix,
//! because they wait for others; masker, decoder, motion, person, face, recorder, encoder and archivist by a crew of
//! threads, because they compute, call native code or touch the disk and may therefore hang. `supervision` builds
//! and watches both kinds.
#![forbid(unsafe_code)]

pub mod supervision;

pub mod camera;
pub mod session;

pub mod dialects;

pub mod masker;

pub mod decoder;
pub mod motion;

pub mod detectors;
pub mod faces;
pub mod gate;
pub mod people;

pub mod events;
pub mod notices;
pub mod rules;

pub mod archivist;
pub mod storage;
pub mod notifier;
pub mod recorder;

pub mod node;

pub use node::{Node, NodeError, NodeParts};

#[cfg(test)]
mod testing;

/// Runs a future inside an actix `System` on this thread, as [`Node::start`] needs it.
pub fn in_system<F: std::future::Future>(future: F) -> F::Output {
    actix::System::new().block_on(future)
}
