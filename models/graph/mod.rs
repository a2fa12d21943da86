//! The inference graph: its types, the importers that fill it, and the passes over it.

mod ir;
pub mod fuse;
pub mod limits;

pub mod detection_output;
pub mod onnx;
pub mod openvino;
pub mod reference;

mod build;
mod error;
mod lower;
mod order;
mod resize;
mod shape;
mod values;

pub(crate) use build::Builder;
pub(crate) use error::At;
pub use error::ImportError;
pub use ir::*;
pub use shape::check;

#[cfg(test)]
mod tests;
