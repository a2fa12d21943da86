//! What parts of the node notice about the node itself, on its way to people: kept until it holds, gathered when much
//! comes at once, and then events and alerts like everything else.

mod queue;

mod failures;
mod silence;

mod book;
mod orphans;
mod shell;

pub(crate) use failures::Failures;
pub use orphans::goes_on;
pub(crate) use orphans::{Left, close_orphans};
pub use queue::Notices;
pub use shell::{Crier, CrierTools};
pub(crate) use silence::Silence;
