//! The watch protocol: a viewer says over TCP on which UDP port it waits, and gets one whole JPEG per datagram.
//! Parsers and writers of both sides; who watches what, and when a picture is due, is decided by whoever uses them.
//!
//! ```text
//! TCP  viewer ──"50123"──────────────────────────────────────────────► node      (kept open, never answered)
//! UDP  node   ──FF D8 … FF D9──► viewer:50123     viewer ──"continue"─► node
//!      node   ──FF D8 … FF D9──► viewer:50123     viewer ──"continue"─► node
//!                                                 viewer ──"end"──────► node      (when it leaves)
//! ```
//!
//! Nothing ends the port number on the wire, so it is complete when silence follows ([`Join::on_silence`]), or at a
//! line end or NUL where a client sends one.

mod answer;
mod join;

pub use answer::{Answer, CONTINUE, END, MAX_ANSWER_BYTES};
pub use join::{BadPort, Join, MIN_PORT, port};

/// The most bytes that one UDP datagram over IPv4 can hold: 65,535 less 20 of the IP and 8 of the UDP header.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;
