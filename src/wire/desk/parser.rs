//! From bytes to items: one command, then what belongs to it. Never holds more than a text or a line; bodies and files are
//! handed on as they arrive.

use bytes::{Buf, Bytes, BytesMut};

use super::command::Command;
use super::own::{MAX_LINE_BYTES, Own, PREFIX, SUCCESS};

/// Longest chat text, bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Most line ends, NULs and blanks that are passed over on one connection: as many as clients need that send whole
/// buffers, and no more.
const MAX_BLANKS: usize = 64 << 10;
/// Most digits of a size.
const MAX_DIGITS: usize = 19;

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The first message.
    Command(Command),
    /// The first message of one of our own clients.
    Own(Own),
    /// The text of a chat.
    Text(String),
    /// How long the body will be.
    Size(u64),
    /// The next bytes of a body whose length is known.
    Body {
        /// At least one byte.
        bytes: Bytes,
        /// Whether the body is complete with them.
        is_last: bool,
    },
    /// The next bytes of a file whose length nobody said.
    Piece(Bytes),
    /// The file ended.
    FileEnd,
    /// `OK`.
    Ok,
    /// `success`.
    Success,
}

/// Which silence of the client would decide something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Ends a text.
    Text,
    /// Ends a size, or a text that seems to be cut inside of a character.
    Size,
    /// Ends a file.
    File,
}

/// A client said what does not belong here. The connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The first message is no command.
    #[error("no such command")]
    UnknownCommand,
    /// A first message of ours that makes no sense.
    #[error("not a relay command")]
    BadOwnCommand,
    /// A chat text is longer than [`MAX_TEXT_BYTES`].
    #[error("the text is too long")]
    TextTooLong,
    /// A chat text is not UTF-8.
    #[error("the text is not UTF-8")]
    NotText,
    /// A size is no number, 0, or has too many digits.
    #[error("not a size")]
    NotASize,
    /// Something else instead of `OK` or `success`.
    #[error("not the word that belongs here")]
    NotTheWord,
}

impl Refusal {
    /// All there are.
    pub const ALL: [Refusal; 6] = [
        Refusal::UnknownCommand,
        Refusal::BadOwnCommand,
        Refusal::TextTooLong,
        Refusal::NotText,
        Refusal::NotASize,
        Refusal::NotTheWord,
    ];

    /// As it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::UnknownCommand => "desk_unknown_command",
            Refusal::BadOwnCommand => "desk_bad_own_command",
            Refusal::TextTooLong => "desk_text_too_long",
            Refusal::NotText => "desk_not_text",
            Refusal::NotASize => "desk_not_a_size",
            Refusal::NotTheWord => "desk_not_the_word",
        }
    }
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Command,
    Text,
    Size,
    Body {
        left: u64,
    },
    /// `begun`: some of it was there.
    File {
        begun: bool,
    },
    Oks,
    Success,
    Nothing,
}

/// Reads one connection.
#[derive(Debug)]
pub struct Parser {
    expected: Expected,
    refused: Option<Refusal>,
    blanks: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A new connection.
    pub fn new() -> Self {
        Self { expected: Expected::Command, refused: None, blanks: 0 }
    }

    /// The next item, taken from the front of what arrived; `None`: more is needed, or a silence (see
    /// [`Parser::silence`]).
    ///
    /// # Errors
    /// When the client said what does not belong here, then and ever after.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Refusal> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        let item = match self.expected {
            Expected::Command => self.command(buf),
            Expected::Text => self.text_begins(buf),
            Expected::Size => self.size(buf, false),
            Expected::Body { left } => Ok(self.body(buf, left)),
            Expected::File { .. } if buf.is_empty() => Ok(None),
            Expected::File { .. } => {
                self.expected = Expected::File { begun: true };
                Ok(Some(Item::Piece(buf.split().freeze())))
            }
            Expected::Oks => self.word(buf, super::answer::OK).map(|whole| whole.then_some(Item::Ok)),
            Expected::Success => {
                self.word(buf, SUCCESS).map(|whole| whole.then(|| self.then_nothing(Item::Success)))
            }
            Expected::Nothing => {
                buf.clear();
                Ok(None)
            }
        };
        self.kept(item)
    }

    /// The silence that would decide something at this moment, after [`Parser::next`] had no item.
    pub fn silence(&self, buf: &[u8]) -> Option<Silence> {
        if self.refused.is_some() {
            return None;
        }
        match self.expected {
            Expected::Text if buf.is_empty() => None,
            Expected::Text => Some(if ends_inside_a_character(buf) { Silence::Size } else { Silence::Text }),
            Expected::Size if buf.is_empty() => None,
            Expected::Size => Some(Silence::Size),
            Expected::File { begun: true } => Some(Silence::File),
            _ => None,
        }
    }

    /// What the client meant, now that it has been silent for as long as [`Parser::silence`] asked.
    ///
    /// # Errors
    /// As [`Parser::next`].
    pub fn on_silence(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Refusal> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        if self.silence(buf).is_none() {
            return Ok(None);
        }
        let item = match self.expected {
            Expected::Text => match std::str::from_utf8(buf) {
                Ok(text) => {
                    let text = text.to_owned();
                    buf.clear();
                    Ok(Some(self.then_nothing(Item::Text(text))))
                }
                Err(_) => Err(Refusal::NotText),
            },
            Expected::Size => self.size(buf, true),
            Expected::File { .. } => Ok(Some(self.then_nothing(Item::FileEnd))),
            _ => Ok(None),
        };
        self.kept(item)
    }

    /// What the client meant, now that it said that nothing more comes: the same as by its silence.
    ///
    /// # Errors
    /// As [`Parser::next`].
    pub fn on_end(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Refusal> {
        self.on_silence(buf)
    }

    /// Whether it is in the middle of a body.
    pub fn is_in_body(&self) -> bool {
        matches!(self.expected, Expected::Body { .. })
    }

    /// Whether it takes what a client uploads: a body, or a file.
    pub fn is_in_upload(&self) -> bool {
        matches!(self.expected, Expected::Body { .. } | Expected::File { .. })
    }

    /// Whether the connection has nothing more to say.
    pub fn is_done(&self) -> bool {
        self.refused.is_some() || self.expected == Expected::Nothing
    }

    fn kept(&mut self, item: Result<Option<Item>, Refusal>) -> Result<Option<Item>, Refusal> {
        if let Err(refusal) = item {
            self.refused = Some(refusal);
        }
        item
    }

    fn then_nothing(&mut self, item: Item) -> Item {
        self.expected = Expected::Nothing;
        item
    }

    fn command(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Refusal> {
        let own = &buf[..buf.len().min(PREFIX.len())];
        if !own.is_empty() && PREFIX.starts_with(own) {
            return if own.len() == PREFIX.len() { self.own(buf) } else { Ok(None) };
        }
        let command = Command::at_start(buf).map_err(|()| Refusal::UnknownCommand)?;
        let Some(command) = command else { return Ok(None) };
        buf.advance(command.text().len());
        self.expected = match command {
            Command::Chat => Expected::Text,
            Command::RelayTo(_) => Expected::File { begun: false },
            Command::RelayFetch => Expected::Success,
            Command::SendPicture | Command::SendCsv => Expected::Size,
            Command::Chart(_) | Command::WordClouds => Expected::Oks,
            Command::Face | Command::Objects | Command::Analyse => Expected::Nothing,
        };
        Ok(Some(Item::Command(command)))
    }

    fn own(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Refusal> {
        let Some(end) = buf.iter().take(MAX_LINE_BYTES).position(|&byte| byte == b'\n') else {
            return if buf.len() < MAX_LINE_BYTES { Ok(None) } else { Err(Refusal::BadOwnCommand) };
        };
        let own = buf.get(PREFIX.len()..end).and_then(Own::parse).ok_or(Refusal::BadOwnCommand)?;
        buf.advance(end + 1);
        self.expected = match own {
            Own::Send { bytes: 0, .. } => return Err(Refusal::NotASize),
            Own::Send { bytes, .. } => Expected::Body { left: bytes },
            Own::Receive(_) => Expected::Success,
        };
        Ok(Some(Item::Own(own)))
    }

    /// A size ends with the first byte that is no digit, or with silence.
    fn size(&mut self, buf: &mut BytesMut, is_silent: bool) -> Result<Option<Item>, Refusal> {
        self.pass_over(buf, b"\r\n \0", Refusal::NotASize)?;
        let digits = buf.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if digits > MAX_DIGITS || (digits == 0 && !buf.is_empty()) {
            return Err(Refusal::NotASize);
        }
        // One line end behind it belongs to it; a lone CR at the end of what is here may be half of one.
        let line_end = match buf.get(digits..).unwrap_or_default() {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            [b'\r', ..] => 1,
            _ => 0,
        };
        let may_go_on = digits == buf.len() || buf.get(digits..) == Some(&b"\r"[..]);
        if digits == 0 || (may_go_on && !is_silent) {
            return Ok(None);
        }
        let text = buf.split_to(digits);
        let size = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if size == 0 {
            return Err(Refusal::NotASize);
        }
        buf.advance(line_end);
        self.expected = Expected::Body { left: size };
        Ok(Some(Item::Size(size)))
    }

    fn body(&mut self, buf: &mut BytesMut, left: u64) -> Option<Item> {
        if buf.is_empty() {
            return None;
        }
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let bytes = buf.split_to(here).freeze();
        let left = left.saturating_sub(here as u64);
        self.expected = if left == 0 { Expected::Nothing } else { Expected::Body { left } };
        Some(Item::Body { bytes, is_last: left == 0 })
    }

    /// A text has no end of its own: this only takes line ends off that belong to the command before it, and looks at
    /// the length.
    fn text_begins(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Refusal> {
        self.pass_over(buf, b"\r\n\0", Refusal::TextTooLong)?;
        if buf.len() > MAX_TEXT_BYTES { Err(Refusal::TextTooLong) } else { Ok(None) }
    }

    /// Whether the word is there, which is then taken; blanks before it are passed over.
    fn word(&mut self, buf: &mut BytesMut, word: &str) -> Result<bool, Refusal> {
        self.pass_over(buf, b"\r\n \0", Refusal::NotTheWord)?;
        let here = buf.len().min(word.len());
        if !word.as_bytes().starts_with(&buf[..here]) {
            return Err(Refusal::NotTheWord);
        }
        let whole = here == word.len();
        if whole {
            buf.advance(here);
        }
        Ok(whole)
    }

    /// Takes such bytes off the front; `otherwise` when there are too many.
    fn pass_over(&mut self, buf: &mut BytesMut, bytes: &[u8], otherwise: Refusal) -> Result<(), Refusal> {
        let count = buf.iter().take_while(|byte| bytes.contains(byte)).count();
        buf.advance(count);
        self.blanks = self.blanks.saturating_add(count);
        if self.blanks > MAX_BLANKS { Err(otherwise) } else { Ok(()) }
    }
}

/// Whether the bytes end before the last character does, so that the rest may be on its way.
fn ends_inside_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
