//! The disk as a whole: whether there is room (`room.rs`), who makes some and what goes by age and amount
//! (`evictor.rs`, with `candidates.rs`, `sweep.rs`, `unknown.rs`, `hands.rs` and `stuck.rs`), and whether the clock can be
//! believed and since when (`clock.rs`, `stretches.rs`, `timekeeper.rs`); `words.rs` knows its errors by their words.
//! Nothing here runs on the thread of the database or of a recorder.

mod candidates;
mod clock;
mod evictor;
mod hands;
mod plan;
mod room;
mod state;
mod stretches;
mod stuck;
mod sweep;
mod timekeeper;
mod unknown;
mod words;

pub(crate) use clock::Clocks;
pub use clock::Doubt;
pub use evictor::{DeletionSuspended, Evictor, EvictorTools, Suspended};
pub use plan::{PlanItem, plan};
pub use room::{Refusal, Room};
pub use state::{StorageReport, StorageState};
pub(crate) use words::is_of_the_disk;

#[cfg(test)]
mod tests;
