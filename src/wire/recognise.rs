//! The dialect `recognise`: a picture goes to the node and comes back with its faces marked. Readers and writers of both
//! framings, for the node and for the client side. Knows no faces and no clock.
//!
//! ```text
//! sized     length (8 bytes, little-endian) | message            again and again; the answer has the same form
//! chunked   JPEG | '0'                                           once per connection
//! ```
//!
//! A message is a JPEG, or a Python pickle of a one-dimensional numpy array of bytes that holds one.
//!
//! Invariants: a byte is walked once. Nothing is allocated for a length before it was compared with the limit. A
//! pickle is never executed: [`pickle`] knows the opcodes of that one array, and refuses all else.

pub mod chunked;
pub mod pickle;
pub mod sized;

use bytes::Bytes;

pub use pickle::BadPickle;

/// What every JPEG begins with.
const JPEG: &[u8] = &[0xFF, 0xD8, 0xFF];

/// In what a picture came, and is to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Jpeg,
    /// As a pickled numpy array.
    Pickle,
}

/// Why a message is no picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It is neither a JPEG nor the pickle of an array.
    #[error("neither a JPEG nor a pickle that is understood: {0}")]
    Pickle(#[from] BadPickle),
    /// The array holds something else than a JPEG.
    #[error("the array holds no JPEG")]
    NotAJpeg,
}

impl BadMessage {
    /// Every reason.
    pub const REASONS: [&'static str; 2] = ["bad_pickle", "not_a_jpeg"];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            BadMessage::Pickle(_) => "bad_pickle",
            BadMessage::NotAJpeg => "not_a_jpeg",
        }
    }
}

/// Takes the JPEG out of a message. Where its bytes stand in the message as they are, they are not copied.
pub fn open(message: &Bytes) -> Result<(Form, Bytes), BadMessage> {
    if message.starts_with(JPEG) {
        return Ok((Form::Jpeg, message.clone()));
    }
    let data = pickle::read(message)?;
    if data.starts_with(JPEG) { Ok((Form::Pickle, data)) } else { Err(BadMessage::NotAJpeg) }
}

/// Makes a message of a JPEG.
pub fn close(form: Form, jpeg: Vec<u8>) -> Vec<u8> {
    match form {
        Form::Jpeg => jpeg,
        Form::Pickle => pickle::write(&jpeg),
    }
}

#[cfg(test)]
mod tests;
