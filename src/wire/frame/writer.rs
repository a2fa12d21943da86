//! What the client side sends, and the one byte that comes back. Makes bytes, sends none.

use meerkat_base::{CameraId, Mode, Secret};

/// Goes before a picture.
pub const START: &[u8] = b"start";
/// Goes behind a picture.
pub const END: &[u8] = b"end";

/// The server's answer: one ASCII byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// `1`
    Accepted,
    /// `0`
    Refused,
}

impl Answer {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Answer::Accepted => b'1',
            Answer::Refused => b'0',
        }
    }

    /// Reads an answer; `None` for a byte that is none.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'1' => Some(Answer::Accepted),
            b'0' => Some(Answer::Refused),
            _ => None,
        }
    }
}

/// No `camera:` line can be made of this id and token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHello {
    /// The id is an address, not a name.
    #[error("only a named camera can say hello")]
    Unnamed,
    /// The token is empty or holds a line end or NUL, which would end the line too early.
    #[error("a token must not be empty and must not contain line ends or NUL")]
    Token,
}

/// The line that names a camera, before the first mode: `camera:<id>[:<token>]` and newline.
pub fn hello(camera: &CameraId, token: Option<&Secret>) -> Result<Vec<u8>, BadHello> {
    if !camera.is_named() {
        return Err(BadHello::Unnamed);
    }
    let mut line = format!("camera:{camera}").into_bytes();
    if let Some(token) = token {
        let token = token.reveal().as_bytes();
        if token.is_empty() || token.iter().any(|&b| super::is_blank(b)) {
            return Err(BadHello::Token);
        }
        line.push(b':');
        line.extend_from_slice(token);
    }
    line.push(b'\n');
    Ok(line)
}

/// The marker that sets a mode.
pub fn mode(mode: Mode) -> [u8; 6] {
    [b'm', b'o', b'd', b'e', b'l', b'0' + mode.number()]
}

/// Appends one whole frame. A client that need not copy sends [`START`], the picture and [`END`] by itself.
pub fn frame(picture: &[u8], out: &mut Vec<u8>) {
    out.reserve(START.len() + picture.len() + END.len());
    out.extend_from_slice(START);
    out.extend_from_slice(picture);
    out.extend_from_slice(END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_says_only_what_can_be_read_back() {
        let door = CameraId::parse("door").unwrap();
        assert_eq!(hello(&door, None).unwrap(), b"camera:door\n");
        assert_eq!(hello(&door, Some(&Secret::new("a:b c"))).unwrap(), b"camera:door:a:b c\n");
        for token in ["", "a\nmodel1", "a\r", "a\0"] {
            assert_eq!(hello(&door, Some(&Secret::new(token))), Err(BadHello::Token), "{token:?}");
        }
        let unnamed = CameraId::unnamed("10.0.0.7".parse().unwrap(), 1);
        assert_eq!(hello(&unnamed, None), Err(BadHello::Unnamed));
    }

    #[test]
    fn markers_and_answers_are_single_bytes_of_ascii() {
        assert_eq!(Mode::ALL.map(|m| mode(m)[5]), *b"12345");
        for answer in [Answer::Accepted, Answer::Refused] {
            assert_eq!(Answer::from_byte(answer.byte()), Some(answer));
        }
        assert_eq!(Answer::from_byte(b'2'), None);
    }
}
