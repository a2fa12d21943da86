//! The node put together: its settings, its command line and its composition. The rooms beside this file are crates
//! of their own and know nothing of it.
#![forbid(unsafe_code)]

pub use meerkat_settings as settings;

pub mod app;
pub mod cli;
