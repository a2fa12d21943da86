//! The inference graph: its types, the importers that fill it, and the passes over it.

mod ir;

pub use ir::*;
