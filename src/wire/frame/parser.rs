//! The parser from outside, and its states. What it does between frames and in a frame stands in files of their own.
//! It decides by bytes alone; time comes in through [`Parser::on_silence`].

use bytes::BytesMut;
use meerkat_base::{ImageFormat, Mode};

use super::container::Container;
use super::restart;
use super::{Fatal, Item, Limits, Options, Phase, Refusal};

/// Turns the bytes of one connection into [`Item`]s. The same bytes give the same items however they were cut.
#[derive(Debug)]
pub struct Parser {
    pub(super) limits: Limits,
    pub(super) options: Options,
    pub(super) mode: Option<Mode>,
    pub(super) state: State,
    pub(super) draft: Draft,
    /// Bytes that may still be walked a second time; grows with what was consumed.
    pub(super) credit: u64,
    /// Only silence can decide.
    waits: bool,
    /// Bytes in the buffer after the last call, while in a frame.
    held: usize,
    /// Length of the last frame in bytes.
    pub(super) last_frame: usize,
    pub(super) skipped: u64,
}

/// Offsets count from the front of the buffer, which in a frame is the first byte of the picture.
#[derive(Debug)]
pub(super) enum State {
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
pub(super) struct Draft {
    pub(super) format: ImageFormat,
    pub(super) width: u32,
    pub(super) height: u32,
    /// A limit that the picture's own headers break.
    pub(super) verdict: Option<Refusal>,
    /// Where its container was complete for the first time.
    pub(super) whole_at: Option<usize>,
    /// Where it made no sense any more.
    pub(super) lost_at: Option<usize>,
}

impl Draft {
    pub(super) fn new(format: ImageFormat) -> Self {
        Self { format, width: 0, height: 0, verdict: None, whole_at: None, lost_at: None }
    }
}

/// Outcome of one step.
pub(super) enum Turn {
    Item(Item),
    Again,
    More,
}

impl Parser {
    /// A parser for a connection on which nothing has arrived.
    pub fn new(limits: Limits, options: Options) -> Self {
        Self {
            credit: (limits.max_frame_bytes as u64).saturating_mul(2),
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
        match self.decide(buf) {
            Ok(Turn::Item(item)) => {
                self.held = 0;
                Ok(Some(item))
            }
            Ok(Turn::Again | Turn::More) => self.next(buf),
            Err(fatal) => {
                self.state = State::Dead(fatal);
                Err(fatal)
            }
        }
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
}
