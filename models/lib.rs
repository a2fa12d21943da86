//! Networks on candle: importers, the planned graph and its kernels, what each network takes and gives, and which
//! weights it needs. No OpenCV, no sockets.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod cpu;
pub mod device;
pub mod engine;
pub mod graph;

pub mod gallery;
pub mod networks;

pub mod weights;
