//! The words of a column and how often they occur. Draws nothing.

pub mod count;
mod segment;
mod stop;
