//! The CPU executor: the whole planned graph runs as one candle operator.

mod conv;
mod convert;
mod depthwise;
mod epilogue;
mod heads;
pub mod lanes;
mod layout;
mod lower;
mod plain;
mod plan;
mod spatial;
mod step;
#[cfg(test)]
mod tests;

pub use lower::LowerError;
pub use plan::{Plan, StepCost};
