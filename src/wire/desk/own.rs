//! Our own extension: the first message `meerkat-relay/1 …` and a line end, which old clients never send. Files of any
//! length, with their length announced, in queues of their own.
//!
//! ```text
//!  client: meerkat-relay/1 send 2 1048576\n          meerkat-relay/1 receive sealed\n
//!  server: go\n            or error: …               file 1048576\n and the bytes, or none\n
//!  client: <1048576 bytes>                           success
//!  server: stored\n        or error: …               removed\n
//! ```

use super::command::ClientNumber;

/// How a first message of ours begins.
pub(super) const PREFIX: &[u8] = b"meerkat-relay/1 ";
/// Longest line of ours, its end included, bytes.
pub const MAX_LINE_BYTES: usize = 64;

/// The server wants the bytes.
pub const GO: &str = "go\n";
/// The server has the file.
pub const STORED: &str = "stored\n";
/// No file waits.
pub const FILE_NONE: &str = "none\n";
/// The file that was fetched is removed.
pub const FILE_GONE: &str = "removed\n";
/// The client has the file.
pub const SUCCESS: &str = "success";
/// What an answer to `receive` begins with when there is a file.
pub const READY: &str = "file ";

/// Which of the two queues of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sealing {
    /// Files that only the receiver can read (`meerkat relay send`).
    Sealed,
    /// Files of the old clients.
    Plain,
}

impl Sealing {
    /// As it stands in a line and in names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Sealing::Sealed => "sealed",
            Sealing::Plain => "plain",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Sealing::Sealed, Sealing::Plain].into_iter().find(|sealing| sealing.as_str() == word)
    }
}

/// A first message of our own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// A sealed file of this many bytes for a client.
    Send {
        /// For whom.
        to: ClientNumber,
        /// Its length.
        bytes: u64,
    },
    /// The oldest file of a queue of this port's client.
    Receive(Sealing),
}

impl Own {
    /// Reads what stands between prefix and line end.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.strip_suffix('\r').unwrap_or(line).split(' ');
        let own = match words.next()? {
            "send" => {
                let to = decimal(words.next()?).and_then(|number| u8::try_from(number).ok())?;
                Own::Send { to: ClientNumber::new(to)?, bytes: decimal(words.next()?)? }
            }
            "receive" => Own::Receive(Sealing::parse(words.next()?)?),
            _ => return None,
        };
        words.next().is_none().then_some(own)
    }
}

/// Digits only: no sign, no blank, no overflow.
fn decimal(word: &str) -> Option<u64> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

/// The first message that offers a sealed file.
pub fn send_line(to: ClientNumber, bytes: u64) -> String {
    format!("meerkat-relay/1 send {} {bytes}\n", to.get())
}

/// The first message that asks for a file.
pub fn receive_line(sealing: Sealing) -> String {
    format!("meerkat-relay/1 receive {}\n", sealing.as_str())
}

/// The line before a file's bytes.
pub fn file_line(bytes: u64) -> String {
    format!("{READY}{bytes}\n")
}

/// Reads a line as [`file_line`] writes it, with or without its end; nothing when it is another.
pub fn read_file_line(line: &str) -> Option<u64> {
    decimal(line.strip_prefix(READY)?.trim_end_matches('\n'))
}
