//! Every protocol that the node speaks with cameras and clients, as parsers and writers over bytes in memory.
//! No sockets, no files, no timers, no runtime: whoever owns the connection brings the bytes and the clock.
#![forbid(unsafe_code)]

pub mod frame;
