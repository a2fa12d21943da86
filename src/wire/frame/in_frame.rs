//! The parser in a frame: at the first bytes of a picture, inside it, behind it, and at all the ways in which a frame
//! can end.

use bytes::{Buf, BytesMut};
use meerkat_base::{ImageFormat, Mode};
use memchr::memchr3;

use super::container::{Container, Shape, Walk};
use super::jpeg::Jpeg;
use super::parser::{Draft, Parser, State, Turn};
use super::restart::{self, Restart};
use super::sniff::{Match, Sniff, prefix, sniff};
use super::{END, Fatal, Item, Picture, Refusal, START, is_blank};

/// How far beyond the longest frame the parser looks: `end`, or `start` with the first bytes of a picture.
const LOOK_AHEAD: usize = 64;

/// The most bytes that a container is judged by at the place where it goes on: a PNG chunk without data.
const MARKER_BYTES: usize = 12;

const SOI: &[u8] = &[0xFF, 0xD8, 0xFF];

impl Parser {
    pub(super) fn sniff(&mut self, buf: &mut BytesMut, mut blanks: usize) -> Result<Turn, Fatal> {
        if blanks == 0 {
            let line_end = buf.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
            buf.advance(line_end);
        }
        blanks += buf.iter().skip(blanks).take_while(|&&b| is_blank(b)).count();
        self.state = State::Sniffing { blanks };
        if blanks > self.limits.max_frame_bytes {
            return Err(Fatal::FrameTooLarge);
        }
        let picture = buf.get(blanks..).unwrap_or_default();
        match (prefix(picture, START), prefix(picture, END)) {
            (Match::Part, _) | (_, Match::Part) => return Ok(Turn::More),
            (Match::Full, _) => {
                // A second `start` before any byte of a picture.
                buf.advance(blanks + START.len());
                self.state = State::Sniffing { blanks: 0 };
                return Ok(Turn::Again);
            }
            (_, Match::Full) => {
                buf.advance(blanks + END.len());
                self.state = State::Between { junk: 0 };
                return Ok(Turn::Item(Item::Refused(self.unless_no_mode(Refusal::EmptyFrame))));
            }
            (Match::No, Match::No) => {}
        }
        match sniff(picture) {
            Sniff::More => return Ok(Turn::More),
            Sniff::Not => {
                self.unknown(buf, blanks);
            }
            Sniff::Is(format) => {
                buf.advance(blanks);
                self.draft = Draft::new(format);
                self.state = match Container::new(format) {
                    Some(container) => State::Walking { container, base: 0 },
                    None => State::Opaque { searched: 0 },
                };
            }
        }
        Ok(Turn::Again)
    }

    /// Goes on with a picture in no known container, and returns how many blanks were taken from its front: one NUL
    /// belongs to `start`, several are the beginning of such a picture (MP4, HEIF and icon files begin so).
    fn unknown(&mut self, buf: &mut BytesMut, blanks: usize) -> usize {
        let dropped = if blanks == 1 { 1 } else { 0 };
        buf.advance(dropped);
        self.draft = Draft::new(ImageFormat::Unknown);
        self.state = State::Opaque { searched: 0 };
        dropped
    }

    pub(super) fn walk(&mut self, buf: &mut BytesMut) -> Result<Turn, Fatal> {
        let reach = self.reach(buf);
        let State::Walking { container, base } = &mut self.state else { return Ok(Turn::Again) };
        let base = *base;
        let view = buf.get(..reach).unwrap_or_default();
        let walked = container.walk(view, self.limits.max_frame_bytes);
        let (at, floor) = (container.at().min(reach), container.floor());
        let shape = container.shape();
        // Behind a complete picture only another complete one counts: junk can look like anything.
        if self.draft.whole_at.is_none() || matches!(walked, Walk::Ends(_)) {
            self.judge(shape);
        }
        match walked {
            Walk::More if self.is_full(reach) => self.overflow(buf, floor, reach),
            Walk::More => Ok(Turn::More),
            Walk::Ends(end) => {
                self.draft.whole_at.get_or_insert(end);
                self.state = State::Tail { at: end };
                Ok(Turn::Again)
            }
            Walk::Restart(offset) => self.restart(buf, offset, at),
            Walk::Lost(_) if self.draft.whole_at.is_some() => {
                // What looked like a second picture was none: look for `end` right behind its first bytes.
                if !self.pay(at.saturating_sub(base)) {
                    return Ok(self.give_up(buf, at));
                }
                self.state = State::Tail { at: base + 2 };
                Ok(Turn::Again)
            }
            Walk::Lost(offset) => {
                self.draft.lost_at = Some(offset);
                self.state = State::Opaque { searched: offset };
                Ok(Turn::Again)
            }
        }
    }

    pub(super) fn tail(&mut self, buf: &mut BytesMut, mut at: usize) -> Result<Turn, Fatal> {
        let reach = self.reach(buf);
        let view = buf.get(..reach).unwrap_or_default();
        let at = loop {
            let Some(distance) = view.get(at..).and_then(|rest| memchr3(b'e', b's', 0xFF, rest)) else {
                break reach.max(at);
            };
            at += distance;
            let rest = view.get(at..).unwrap_or_default();
            match (prefix(rest, END), prefix(rest, SOI), restart::at(view, at)) {
                (Match::Full, ..) => return Ok(Turn::Item(self.deliver(buf, at)?)),
                (_, Match::Full, _) => {
                    self.state = State::Walking { container: Container::Jpeg(Jpeg::new(at)), base: at };
                    return Ok(Turn::Again);
                }
                (.., Restart::At(_)) => return self.restart(buf, at, at),
                (Match::Part, ..) | (_, Match::Part, _) | (.., Restart::Perhaps(_)) => break at,
                _ => at += 1,
            }
        };
        self.state = State::Tail { at };
        if self.is_full(reach) { Err(Fatal::FrameTooLarge) } else { Ok(Turn::More) }
    }

    pub(super) fn opaque(&mut self, buf: &mut BytesMut, searched: usize) -> Result<Turn, Fatal> {
        let reach = self.reach(buf);
        let view = buf.get(..reach).unwrap_or_default();
        let searched = match restart::find(view, searched, reach) {
            Restart::At(offset) => return self.restart(buf, offset, offset),
            Restart::Perhaps(offset) => offset,
            Restart::No => reach,
        };
        self.state = State::Opaque { searched };
        if self.is_full(reach) { Err(Fatal::FrameTooLarge) } else { Ok(Turn::More) }
    }

    /// How much of the buffer is looked at. The same for every way of cutting, or the items would differ.
    fn reach(&self, buf: &BytesMut) -> usize {
        buf.len().min(self.limits.max_frame_bytes.saturating_add(LOOK_AHEAD))
    }

    fn is_full(&self, reach: usize) -> bool {
        reach >= self.limits.max_frame_bytes.saturating_add(LOOK_AHEAD)
    }

    /// Notes what the headers ask for. The first picture gives the dimensions; limits hold for all of them.
    fn judge(&mut self, shape: Shape) {
        if self.draft.width == 0 || self.draft.height == 0 {
            self.draft.width = shape.width;
            self.draft.height = shape.height;
        }
        let pixels = u64::from(shape.width) * u64::from(shape.height);
        let scanned = pixels.saturating_mul(u64::from(shape.scans));
        if pixels > self.limits.max_pixels {
            self.draft.verdict = Some(Refusal::TooManyPixels);
        } else if shape.scans > self.limits.max_scans || scanned > self.limits.max_scanned_pixels {
            self.draft.verdict.get_or_insert(Refusal::TooManyScans);
        }
    }

    // === Ends of frames ===

    /// The longest frame is here and not over: it was cut off if another one started in it, else it is too large.
    fn overflow(&mut self, buf: &mut BytesMut, floor: usize, reach: usize) -> Result<Turn, Fatal> {
        let view = buf.get(..reach).unwrap_or_default();
        match restart::find(view, floor, reach) {
            Restart::At(offset) => self.restart(buf, offset, reach),
            Restart::Perhaps(_) | Restart::No => Err(Fatal::FrameTooLarge),
        }
    }

    /// Ends the frame before the `start` at `offset`, of which `walked` bytes had been walked, and begins another.
    /// Only an `end` before that `start` is answered.
    fn restart(&mut self, buf: &mut BytesMut, offset: usize, walked: usize) -> Result<Turn, Fatal> {
        if !self.pay(walked.saturating_sub(offset)) {
            return Ok(self.give_up(buf, walked));
        }
        let behind = offset + START.len();
        let Some(end) = restart::end_before(buf, offset) else {
            buf.advance(behind);
            self.earn(behind);
            self.state = State::Sniffing { blanks: 0 };
            return Ok(Turn::Again);
        };
        let item = self.cut_off(buf, end)?;
        buf.advance(behind - end - END.len());
        self.state = State::Sniffing { blanks: 0 };
        Ok(Turn::Item(item))
    }

    /// Frames in frames in frames: lets go of all that was walked, in one piece, instead of walking it yet again.
    fn give_up(&mut self, buf: &mut BytesMut, walked: usize) -> Turn {
        buf.advance(walked.min(buf.len()));
        self.earn(walked);
        self.state = State::Between { junk: 0 };
        Turn::Item(Item::Refused(self.unless_no_mode(Refusal::Damaged)))
    }

    /// Ends the frame at an `end` that its structure did not ask for.
    fn cut_off(&mut self, buf: &mut BytesMut, end: usize) -> Result<Item, Fatal> {
        let unknown = self.draft.format == ImageFormat::Unknown;
        let stub = buf.get(..end).is_some_and(|bytes| sniff(bytes) == Sniff::More);
        let accepted = unknown && !stub && self.options.accept_unknown && self.mode == Some(Mode::Pictures);
        let whole = self.draft.whole_at.is_some_and(|at| at <= end);
        if !whole && !accepted {
            let refusal = match self.draft.lost_at {
                _ if unknown && !stub => Refusal::UnknownContainer,
                // Where that `end` is among the bytes that made no sense, it is what made no sense.
                Some(at) if at + MARKER_BYTES <= end => Refusal::Damaged,
                _ => Refusal::CutOff,
            };
            self.draft.verdict.get_or_insert(refusal);
        }
        self.deliver(buf, end)
    }

    /// Takes the frame that ends before the `end` at `end` from the buffer, and that `end` with it.
    fn deliver(&mut self, buf: &mut BytesMut, end: usize) -> Result<Item, Fatal> {
        if end > self.limits.max_frame_bytes {
            return Err(Fatal::FrameTooLarge);
        }
        self.state = State::Between { junk: 0 };
        self.earn(end);
        let refusal = match self.mode {
            None => Some(Refusal::NoMode),
            Some(_) => self.draft.verdict,
        };
        if let Some(refusal) = refusal {
            buf.advance(end + END.len());
            return Ok(Item::Refused(refusal));
        }
        let bytes = buf.split_to(end).freeze();
        buf.advance(END.len());
        self.last_frame = end;
        let Draft { format, width, height, .. } = self.draft;
        Ok(Item::Frame(Picture { bytes, format, width, height }))
    }

    /// Ends the frame that silence fell upon.
    pub(super) fn decide(&mut self, buf: &mut BytesMut) -> Result<Turn, Fatal> {
        let Some(mut end) = restart::end_before(buf, buf.len()) else { return Ok(Turn::More) };
        match &self.state {
            State::Walking { container, .. } => {
                if let Restart::At(offset) = restart::find(buf, container.floor(), buf.len()) {
                    // A length led over the beginning of another frame. Nothing is charged: silence is slow enough.
                    return self.restart(buf, offset, offset);
                }
            }
            State::Sniffing { blanks } => end -= self.unknown(buf, *blanks),
            _ => {}
        }
        self.cut_off(buf, end).map(Turn::Item)
    }

    fn unless_no_mode(&self, refusal: Refusal) -> Refusal {
        if self.mode.is_some() { refusal } else { Refusal::NoMode }
    }

    /// Consumed bytes buy the right to walk eight times as many again, which keeps the whole cost linear.
    fn earn(&mut self, consumed: usize) {
        self.credit = self.credit.saturating_add(8 * consumed as u64);
    }

    fn pay(&mut self, bytes: usize) -> bool {
        match self.credit.checked_sub(bytes as u64) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }
}
