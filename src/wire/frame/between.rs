//! The parser between frames: markers, the `camera:` line, and what is none of them.

use bytes::{Buf, BytesMut};
use meerkat_base::{CameraId, Mode, Secret};

use super::parser::{Parser, State, Turn};
use super::sniff::{Match, prefix};
use super::{END, Fatal, Item, Refusal, START, is_blank};

const MODEL: &[u8] = b"model";
const CAMERA: &[u8] = b"camera:";

impl Parser {
    pub(super) fn between(&mut self, buf: &mut BytesMut, junk: usize) -> Result<Turn, Fatal> {
        let blanks = buf.iter().take_while(|&&b| is_blank(b)).count();
        buf.advance(blanks);
        if buf.is_empty() {
            return Ok(Turn::More);
        }
        let markers = [START, END, MODEL, CAMERA].map(|word| (word, prefix(buf, word)));
        if markers.iter().any(|&(_, found)| found == Match::Part) {
            return Ok(Turn::More);
        }
        let Some((word, _)) = markers.into_iter().find(|&(_, found)| found == Match::Full) else {
            return self.junk(buf, junk);
        };
        if word == CAMERA {
            self.state = State::Line;
            return Ok(Turn::Again);
        }
        if word == MODEL {
            let Some(&digit) = buf.get(MODEL.len()) else { return Ok(Turn::More) };
            self.state = State::Between { junk: 0 };
            buf.advance(MODEL.len() + usize::from(digit.is_ascii_digit()));
            return Ok(Turn::Item(match Mode::from_number(digit.wrapping_sub(b'0')) {
                Some(mode) => {
                    self.mode = Some(mode);
                    Item::Mode(mode)
                }
                None => Item::Refused(Refusal::UnknownMode),
            }));
        }
        buf.advance(word.len());
        if word == START {
            self.state = State::Sniffing { blanks: 0 };
            return Ok(Turn::Again);
        }
        self.state = State::Between { junk: 0 };
        Ok(Turn::Item(Item::Refused(Refusal::EndWithoutStart)))
    }

    /// Steps over bytes that are no marker, up to one that may begin a marker. They get no answer: the client
    /// expects none, and one too many would shift all that follow.
    fn junk(&mut self, buf: &mut BytesMut, before: usize) -> Result<Turn, Fatal> {
        let next = buf.iter().skip(1).position(|&b| is_blank(b) || matches!(b, b's' | b'e' | b'm' | b'c'));
        let count = next.map_or(buf.len(), |distance| distance + 1);
        buf.advance(count);
        self.skipped = self.skipped.saturating_add(count as u64);
        let junk = before.saturating_add(count);
        let limit = match self.mode {
            Some(_) => self.limits.max_junk_bytes,
            None => self.limits.max_line_bytes,
        };
        if junk > limit {
            return Err(Fatal::Junk);
        }
        self.state = State::Between { junk };
        Ok(Turn::Again)
    }

    pub(super) fn line(&mut self, buf: &mut BytesMut) -> Result<Turn, Fatal> {
        let length = buf.iter().take(self.limits.max_line_bytes.saturating_add(1)).position(|&b| is_blank(b));
        let Some(length) = length else {
            let too_long = buf.len() > self.limits.max_line_bytes;
            return if too_long { Err(Fatal::LineTooLong) } else { Ok(Turn::More) };
        };
        let line = buf.split_to(length);
        self.state = State::Between { junk: 0 };
        if self.mode.is_some() {
            return Ok(Turn::Item(Item::Refused(Refusal::LateHello)));
        }
        let hello = line.get(CAMERA.len()..).and_then(read_hello);
        Ok(Turn::Item(hello.unwrap_or(Item::Refused(Refusal::BadHello))))
    }
}

/// Reads `<id>[:<token>]`. The token may hold colons; an empty one is refused.
fn read_hello(line: &[u8]) -> Option<Item> {
    let text = std::str::from_utf8(line).ok()?;
    let (id, token) = match text.split_once(':') {
        Some((_, "")) => return None,
        Some((id, token)) => (id, Some(Secret::new(token))),
        None => (text, None),
    };
    Some(Item::Hello { camera: CameraId::parse(id).ok()?, token })
}
