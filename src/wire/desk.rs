//! The dialect `desk`: a new connection per command, and no delimiters at all. What a client says comes out as items;
//! `docs/protocols.md` describes every byte.
//!
//! ```text
//!  client: 发送图片mode        command
//!  server: OK
//!  client: 48213               size, ASCII decimal
//!  server: OK
//!  client: <48213 bytes>       body
//!  server: OK
//! ```
//!
//! The commands have known texts, bodies have known lengths; the rest (a text, a size, a file) ends where the client falls
//! silent because it waits for an answer. The parser says which silence would decide; whoever owns the connection measures
//! it.

mod answer;
mod command;
mod own;
mod parser;

#[cfg(test)]
mod tests;

pub use answer::{
    Face, MAX_TEXT_ANSWER_BYTES, NO_FACE, OK, RELAY_STORED, count, cut_text, error, face, objects,
};
pub use command::{Chart, ClientNumber, Command};
pub use own::{FILE_GONE, FILE_NONE, MAX_LINE_BYTES, Own, Sealing, file_line, read_file_line};
pub use own::{GO, READY, STORED, SUCCESS, receive_line, send_line};
pub use parser::{Item, MAX_TEXT_BYTES, Parser, Refusal, Silence};
