//! The disk as a whole: whether there is room (`room.rs`), who makes some and what goes by age and amount
//! (`evictor.rs`, with `candidates.rs`, `sweep.rs`, `unknown.rs` and `hands.rs`), and whether the clock can be believed (`clock.rs`).
//! Nothing here runs on the thread of the database or of a recorder.

mod candidates;
mod clock;
mod evictor;
mod hands;
mod plan;
mod room;
mod state;
mod sweep;
mod unknown;

pub(crate) use clock::Clocks;
pub use clock::Doubt;
pub use evictor::{DeletionSuspended, Evictor, EvictorTools};
pub use plan::{PlanItem, plan};
pub use room::{Refusal, Room};
pub use state::{StorageReport, StorageState};

#[cfg(test)]
mod tests;
