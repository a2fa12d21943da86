//! What parts of the node notice about the node itself, on its way to people: kept until it holds, gathered when much
//! comes at once, and then events and alerts like everything else.

mod queue;

pub use queue::Notices;
