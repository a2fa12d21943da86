//! Every protocol that the node speaks with cameras and clients, as parsers and writers over bytes in memory.
//! No sockets, no files, no timers, no runtime: whoever owns the connection brings the bytes and the clock.
#![forbid(unsafe_code)]

pub mod desk;
pub mod frame;
pub mod recognise;
pub mod watch;

// The invariants are shared with the fuzz target, which sees this crate from outside.
#[cfg(test)]
extern crate self as meerkat_wire;
