//! Networks on candle: importers, the planned graph and its kernels, what each network takes and gives, and which
//! weights it needs. No OpenCV, no sockets.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

// What the importers must keep is checked by fuzz targets too, which see this crate from outside.
#[cfg(test)]
extern crate self as meerkat_models;

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod device_ops;
pub mod engine;
pub mod graph;

pub mod gallery;
pub mod networks;

pub mod weights;
