//! Messages with their length in front: 8 bytes, little-endian (4 for clients that send that).

use bytes::{Buf, Bytes, BytesMut};

/// How lengths are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthBytes {
    /// As most clients do.
    Eight,
    /// As some on Windows do.
    Four,
}

impl LengthBytes {
    /// How many bytes that is.
    pub fn count(self) -> usize {
        match self {
            LengthBytes::Eight => 8,
            LengthBytes::Four => 4,
        }
    }
}

/// Why a message is not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLength {
    /// Nothing can be in it.
    #[error("a message of no bytes")]
    Empty,
    /// It is longer than allowed.
    #[error("a message of {0} bytes is too long")]
    TooLong(u64),
}

impl BadLength {
    /// Every reason.
    pub const REASONS: [&'static str; 2] = ["message_empty", "message_too_large"];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            BadLength::Empty => "message_empty",
            BadLength::TooLong(_) => "message_too_large",
        }
    }
}

/// Cuts what arrives into messages.
#[derive(Debug)]
pub struct Reader {
    length_bytes: LengthBytes,
    max_bytes: usize,
    /// Length of the message that is being received.
    length: Option<usize>,
}

impl Reader {
    /// For messages of at most `max_bytes`.
    pub fn new(length_bytes: LengthBytes, max_bytes: usize) -> Self {
        Self { length_bytes, max_bytes, length: None }
    }

    /// Takes the next message from the front of the buffer; `None` while it is not there yet. After an error nothing
    /// that follows has a meaning.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, BadLength> {
        let length = match self.length {
            Some(length) => length,
            None if buf.len() < self.length_bytes.count() => return Ok(None),
            None => {
                let claimed = match self.length_bytes {
                    LengthBytes::Eight => buf.get_u64_le(),
                    LengthBytes::Four => u64::from(buf.get_u32_le()),
                };
                let fits = usize::try_from(claimed).ok().filter(|&length| length <= self.max_bytes);
                match fits {
                    Some(0) => return Err(BadLength::Empty),
                    Some(length) => *self.length.insert(length),
                    None => return Err(BadLength::TooLong(claimed)),
                }
            }
        };
        if buf.len() < length {
            return Ok(None);
        }
        self.length = None;
        Ok(Some(buf.split_to(length).freeze()))
    }

    /// Bytes that the message in hand still needs, of those that are not in the buffer; 0 between messages.
    pub fn missing(&self, buffered: usize) -> usize {
        self.length.map_or(0, |length| length.saturating_sub(buffered))
    }

    /// Whether a message has begun, with its length or a part of that.
    pub fn in_message(&self, buffered: usize) -> bool {
        self.length.is_some() || buffered > 0
    }
}

/// The length in front of a message. A message that 4 bytes cannot count is an error of whoever made it: `None`.
pub fn header(length_bytes: LengthBytes, message: usize) -> Option<Vec<u8>> {
    match length_bytes {
        LengthBytes::Eight => Some((message as u64).to_le_bytes().to_vec()),
        LengthBytes::Four => u32::try_from(message).ok().map(|length| length.to_le_bytes().to_vec()),
    }
}
