//! The parser's states: between frames, at the first bytes of a picture, inside it, behind it. It decides by bytes
//! alone; time comes in through [`Parser::on_silence`].

use bytes::{Buf, BytesMut};
use meerkat_base::{CameraId, ImageFormat, Mode, Secret};
use memchr::memchr3;

use super::boxed::{Container, Shape, Walk};
use super::jpeg::Jpeg;
use super::restart::{self, Restart};
use super::sniff::{Match, Sniff, prefix, sniff};
use super::{END, Fatal, Item, Limits, Options, Phase, Picture, Refusal, START, is_blank};

/// How far beyond the longest frame the parser looks: `end`, or `start` with the first bytes of a picture.
const LOOK_AHEAD: usize = 64;

/// The most bytes that a container is judged by at the place where it goes on: a PNG chunk without data.
const MARKER_BYTES: usize = 12;

const MODEL: &[u8] = b"model";
const CAMERA: &[u8] = b"camera:";
const SOI: &[u8] = &[0xFF, 0xD8, 0xFF];

/// Turns the bytes of one connection into [`Item`]s. The same bytes give the same items however they were cut.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    options: Options,
    mode: Option<Mode>,
    state: State,
    draft: Draft,
    /// Bytes that may still be walked a second time; grows with what was consumed.
    credit: u64,
    waits: bool,
    held: usize,
    last_frame: usize,
    skipped: u64,
}

/// Offsets count from the front of the buffer, which in a frame is the first byte of the picture.
#[derive(Debug)]
enum State {
    /// Between frames, after so many bytes of junk.
    Between { junk: usize },
    /// In a `camera:` line.
    Line,
    /// Behind `start`, after so many blanks, not yet sure what begins.
    Sniffing { blanks: usize },
    /// In a container that began at `base`.
    Walking { container: Container, base: usize },
    /// Behind a complete picture, looking for `end`.
    Tail { at: usize },
    /// In a picture whose end its structure cannot show.
    Opaque { searched: usize },
    /// Over.
    Dead(Fatal),
}

/// What is known about the picture that is arriving.
#[derive(Debug)]
struct Draft {
    format: ImageFormat,
    width: u32,
    height: u32,
    /// A limit that the picture's own headers break.
    verdict: Option<Refusal>,
    /// Where its container was complete for the first time.
    whole_at: Option<usize>,
    /// Where it made no sense any more.
    lost_at: Option<usize>,
}

impl Draft {
    fn new(format: ImageFormat) -> Self {
        Self { format, width: 0, height: 0, verdict: None, whole_at: None, lost_at: None }
    }
}

/// Outcome of one step.
enum Turn {
    Item(Item),
    Again,
    More,
}

impl Parser {
    /// A parser for a connection on which nothing has arrived.
    pub fn new(limits: Limits, options: Options) -> Self {
        Self {
            credit: 2 * limits.max_frame_bytes as u64,
            limits,
            options,
            mode: None,
            state: State::Between { junk: 0 },
            draft: Draft::new(ImageFormat::Unknown),
            waits: false,
            held: 0,
            last_frame: 0,
            skipped: 0,
        }
    }

    /// Takes as much as it can from the front of the buffer; `None` when more bytes are needed. To be called until
    /// `None` after bytes were appended. Between calls the caller only appends. An error repeats itself for ever.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Fatal> {
        let outcome = loop {
            match self.step(buf) {
                Ok(Turn::Again) => {}
                Ok(Turn::Item(item)) => break Ok(Some(item)),
                Ok(Turn::More) => break Ok(None),
                Err(fatal) => {
                    self.state = State::Dead(fatal);
                    break Err(fatal);
                }
            }
        };
        // Behind a complete picture too: such an `end` stands partly on bytes that the picture claims for itself.
        let in_frame = self.phase_by_state() == Phase::InFrame;
        self.held = if in_frame { buf.len() } else { 0 };
        self.waits = in_frame && outcome == Ok(None) && restart::end_before(buf, buf.len()).is_some();
        outcome
    }

    /// Whether only silence can decide: what arrived ends in `end` (and a line end or NUL) at a place where the
    /// picture cannot end. The session then starts its timer; any further byte stops it.
    pub fn awaits_silence(&self) -> bool {
        self.waits
    }

    /// The silence has passed with no further byte. Does nothing unless [`Parser::awaits_silence`]. Afterwards
    /// [`Parser::next`] is to be called again until `None`: another frame may stand in the buffer.
    pub fn on_silence(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, Fatal> {
        if !std::mem::take(&mut self.waits) {
            return Ok(None);
        }
        let Some(end) = restart::end_before(buf, buf.len()) else { return Ok(None) };
        if let State::Walking { container, .. } = &self.state
            && let Restart::At(offset) = restart::find(buf, container.floor(), buf.len())
        {
            // A length led over the beginning of another frame. Nothing is charged: silence is slow enough.
            return match self.restart(buf, offset, offset) {
                Turn::Item(item) => Ok(Some(item)),
                _ => self.next(buf),
            };
        }
        let mut end = end;
        if let State::Sniffing { blanks } = self.state {
            end -= self.unknown(buf, blanks);
        }
        self.held = 0;
        Ok(Some(self.cut_off(buf, end)))
    }

    /// What the connection is in the middle of.
    pub fn phase(&self) -> Phase {
        if self.mode.is_none() { Phase::BeforeMode } else { self.phase_by_state() }
    }

    /// Bytes held of the frame that is being received; 0 between frames.
    pub fn frame_bytes(&self) -> usize {
        self.held
    }

    /// Bytes thrown away so far because they belonged to no marker and no frame.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped
    }

    /// The mode that is set.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// Takes back a mode that the session did not allow, right after the item that reported it.
    pub fn set_mode(&mut self, mode: Option<Mode>) {
        self.mode = mode;
    }

    /// Bytes worth reserving before the next read: by what has arrived and by the frame before, never by what the
    /// peer claims. At least 1 KiB, at most 256 KiB.
    pub fn read_hint(&self) -> usize {
        const KIB: usize = 1 << 10;
        match self.phase() {
            Phase::BeforeMode if self.held == 0 => KIB,
            Phase::BeforeMode => self.held.clamp(4 * KIB, 64 * KIB),
            Phase::Idle => (self.last_frame + KIB).clamp(4 * KIB, 64 * KIB),
            Phase::InFrame => match (self.last_frame + KIB).checked_sub(self.held) {
                Some(rest) if rest > 0 => rest.clamp(4 * KIB, 256 * KIB),
                _ => self.held.clamp(4 * KIB, 256 * KIB),
            },
        }
    }

    fn phase_by_state(&self) -> Phase {
        match self.state {
            State::Between { .. } | State::Line | State::Dead(_) => Phase::Idle,
            State::Sniffing { .. } | State::Walking { .. } | State::Tail { .. } | State::Opaque { .. } => {
                Phase::InFrame
            }
        }
    }

    fn step(&mut self, buf: &mut BytesMut) -> Result<Turn, Fatal> {
        match self.state {
            State::Between { junk } => self.between(buf, junk),
            State::Line => self.line(buf),
            State::Sniffing { blanks } => self.sniff(buf, blanks),
            State::Walking { .. } => self.walk(buf),
            State::Tail { at } => self.tail(buf, at),
            State::Opaque { searched } => self.opaque(buf, searched),
            State::Dead(fatal) => Err(fatal),
        }
    }

    // === Between frames ===

    fn between(&mut self, buf: &mut BytesMut, junk: usize) -> Result<Turn, Fatal> {
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

    fn line(&mut self, buf: &mut BytesMut) -> Result<Turn, Fatal> {
        let length = buf.iter().take(self.limits.max_line_bytes + 1).position(|&b| is_blank(b));
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

    // === In a frame ===

    fn sniff(&mut self, buf: &mut BytesMut, mut blanks: usize) -> Result<Turn, Fatal> {
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

    fn walk(&mut self, buf: &mut BytesMut) -> Result<Turn, Fatal> {
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
            Walk::Restart(offset) => Ok(self.restart(buf, offset, at)),
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

    fn tail(&mut self, buf: &mut BytesMut, mut at: usize) -> Result<Turn, Fatal> {
        let reach = self.reach(buf);
        let view = buf.get(..reach).unwrap_or_default();
        let at = loop {
            let Some(distance) = view.get(at..).and_then(|rest| memchr3(b'e', b's', 0xFF, rest)) else {
                break reach.max(at);
            };
            at += distance;
            let rest = view.get(at..).unwrap_or_default();
            match (prefix(rest, END), prefix(rest, SOI), restart::at(view, at)) {
                (Match::Full, ..) if at > self.limits.max_frame_bytes => return Err(Fatal::FrameTooLarge),
                (Match::Full, ..) => return Ok(Turn::Item(self.deliver(buf, at))),
                (_, Match::Full, _) => {
                    self.state = State::Walking { container: Container::Jpeg(Jpeg::new(at)), base: at };
                    return Ok(Turn::Again);
                }
                (.., Restart::At(_)) => return Ok(self.restart(buf, at, at)),
                (Match::Part, ..) | (_, Match::Part, _) | (.., Restart::Perhaps(_)) => break at,
                _ => at += 1,
            }
        };
        self.state = State::Tail { at };
        if self.is_full(reach) { Err(Fatal::FrameTooLarge) } else { Ok(Turn::More) }
    }

    fn opaque(&mut self, buf: &mut BytesMut, searched: usize) -> Result<Turn, Fatal> {
        let reach = self.reach(buf);
        let view = buf.get(..reach).unwrap_or_default();
        let searched = match restart::find(view, searched, reach) {
            Restart::At(offset) => return Ok(self.restart(buf, offset, offset)),
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
        if u64::from(shape.width) * u64::from(shape.height) > self.limits.max_pixels {
            self.draft.verdict = Some(Refusal::TooManyPixels);
        } else if shape.scans > self.limits.max_scans {
            self.draft.verdict.get_or_insert(Refusal::TooManyScans);
        }
    }

    // === Ends of frames ===

    /// The longest frame is here and not over: it was cut off if another one started in it, else it is too large.
    fn overflow(&mut self, buf: &mut BytesMut, floor: usize, reach: usize) -> Result<Turn, Fatal> {
        let view = buf.get(..reach).unwrap_or_default();
        match restart::find(view, floor, reach) {
            Restart::At(offset) => Ok(self.restart(buf, offset, reach)),
            Restart::Perhaps(_) | Restart::No => Err(Fatal::FrameTooLarge),
        }
    }

    /// Ends the frame before the `start` at `offset`, of which `walked` bytes had been walked, and begins another.
    /// Only an `end` before that `start` is answered.
    fn restart(&mut self, buf: &mut BytesMut, offset: usize, walked: usize) -> Turn {
        if !self.pay(walked.saturating_sub(offset)) {
            return self.give_up(buf, walked);
        }
        let behind = offset + START.len();
        let Some(end) = restart::end_before(buf, offset) else {
            buf.advance(behind);
            self.earn(behind);
            self.state = State::Sniffing { blanks: 0 };
            return Turn::Again;
        };
        let item = self.cut_off(buf, end);
        buf.advance(behind - end - END.len());
        self.state = State::Sniffing { blanks: 0 };
        Turn::Item(item)
    }

    /// Frames in frames in frames: lets go of all that was walked, in one piece, instead of walking it yet again.
    fn give_up(&mut self, buf: &mut BytesMut, walked: usize) -> Turn {
        buf.advance(walked.min(buf.len()));
        self.earn(walked);
        self.state = State::Between { junk: 0 };
        Turn::Item(Item::Refused(self.unless_no_mode(Refusal::Damaged)))
    }

    /// Ends the frame at an `end` that its structure did not ask for.
    fn cut_off(&mut self, buf: &mut BytesMut, end: usize) -> Item {
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
    fn deliver(&mut self, buf: &mut BytesMut, end: usize) -> Item {
        self.state = State::Between { junk: 0 };
        self.earn(end);
        let refusal = match self.mode {
            None => Some(Refusal::NoMode),
            Some(_) => self.draft.verdict,
        };
        if let Some(refusal) = refusal {
            buf.advance(end + END.len());
            return Item::Refused(refusal);
        }
        let bytes = buf.split_to(end).freeze();
        buf.advance(END.len());
        self.last_frame = end;
        Item::Frame(Picture {
            bytes,
            format: self.draft.format,
            width: self.draft.width,
            height: self.draft.height,
        })
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
