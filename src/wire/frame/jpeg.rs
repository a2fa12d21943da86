//! Walks a JPEG (ITU-T T.81, annex B) from marker to marker without decoding anything. Segments are skipped by
//! their lengths, so thumbnails and comments in them are never looked into; entropy-coded data is searched for FF.
//!
//! Lenient where libjpeg is (stray bytes between segments, fill bytes, reserved codes in entropy-coded data), so
//! that what the walker counts is what the decoder would meet.

use memchr::memchr;

use super::container::{Shape, Walk};
use super::restart::{self, Restart};
use super::sniff::be_u16;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DNL: u8 = 0xDC;

/// How far the walk has come. All offsets are those of the frame's buffer.
#[derive(Debug)]
pub(super) struct Jpeg {
    /// Where its SOI stands.
    soi: usize,
    /// The next byte to look at; may lie beyond what has arrived.
    at: usize,
    /// Before this offset no other frame can have started.
    floor: usize,
    /// Inside entropy-coded data (or stray bytes) rather than at a marker.
    in_data: bool,
    /// A frame header was seen.
    has_header: bool,
    shape: Shape,
}

impl Jpeg {
    /// Begins behind the SOI at `soi`.
    pub(super) fn new(soi: usize) -> Self {
        Self { soi, at: soi + 2, floor: soi + 2, in_data: false, has_header: false, shape: Shape::default() }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn floor(&self) -> usize {
        self.floor
    }

    pub(super) fn walk(&mut self, view: &[u8]) -> Walk {
        loop {
            if self.in_data
                && let Some(outcome) = self.skip_data(view)
            {
                return outcome;
            }
            let code = match (view.get(self.at), view.get(self.at + 1)) {
                (None, _) | (Some(0xFF), None) => return Walk::More,
                (Some(0xFF), Some(0xFF)) => {
                    self.at += 1; // fill byte, B.1.1.2
                    continue;
                }
                (Some(0xFF), Some(&code)) if is_marker(code) => {
                    if let Some(outcome) = restart::leapt_over(view, self.floor, self.at, leads_to) {
                        return outcome;
                    }
                    self.floor = self.at;
                    code
                }
                _ => {
                    // Not where a marker should be. Either a length led into the next frame, or stray bytes.
                    if let Some(outcome) = self.doubt(view) {
                        return outcome;
                    }
                    self.in_data = true;
                    continue;
                }
            };
            match code {
                EOI => return Walk::Ends(self.at + 2),
                SOI => return self.lost(view),
                _ => {
                    if let Some(outcome) = self.segment(view, code) {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Passes over entropy-coded data to the next real marker; `None` once it stands there.
    fn skip_data(&mut self, view: &[u8]) -> Option<Walk> {
        let found = find_marker(view, self.at);
        self.at = match found {
            Ok(at) | Err(at) => at,
        };
        // The data of a picture that was cut off would run on into the next frame.
        let outcome = self.doubt(view).or(found.is_err().then_some(Walk::More));
        self.in_data = outcome.is_some();
        outcome
    }

    /// Reads the segment at `self.at` and steps over it; `None` once that is done.
    fn segment(&mut self, view: &[u8], code: u8) -> Option<Walk> {
        let start = self.at;
        let Some(length) = be_u16(view, start + 2) else { return Some(Walk::More) };
        let length = usize::from(length);
        if length < 2 {
            return Some(self.lost(view));
        }
        match code {
            _ if is_frame_header(code) => {
                // FF Cn | length | precision | height | width | components …
                if length < 8 || self.has_header {
                    return Some(self.lost(view));
                }
                let (Some(height), Some(width)) = (be_u16(view, start + 5), be_u16(view, start + 7)) else {
                    return Some(Walk::More);
                };
                self.has_header = true;
                self.shape.width = u32::from(width);
                self.shape.height = u32::from(height);
            }
            DNL if length == 4 && self.shape.height == 0 => {
                let Some(lines) = be_u16(view, start + 4) else { return Some(Walk::More) };
                self.shape.height = u32::from(lines);
            }
            SOS => self.shape.scans = self.shape.scans.saturating_add(1),
            _ => {}
        }
        self.at = start + 2 + length;
        self.in_data = code == SOS;
        self.floor = start;
        None
    }

    /// Looks whether another frame started in what was passed over last; `None` when it did not.
    fn doubt(&mut self, view: &[u8]) -> Option<Walk> {
        match restart::find(view, self.floor, self.at) {
            Restart::At(offset) => Some(Walk::Restart(offset)),
            Restart::Perhaps(offset) => {
                self.floor = offset;
                Some(Walk::More)
            }
            Restart::No => {
                self.floor = self.at.min(view.len());
                None
            }
        }
    }

    fn lost(&mut self, view: &[u8]) -> Walk {
        // From the very beginning: what looked like a marker of ours may have been one of the next frame.
        match restart::find(view, self.soi, self.at) {
            Restart::At(offset) => Walk::Restart(offset),
            Restart::Perhaps(_) => Walk::More,
            Restart::No => Walk::Lost(self.at),
        }
    }
}

/// Whether `to` is a place where a marker of the picture at `from` stands. Of pictures in other containers that is
/// taken for granted, their first bytes say enough; and nobody puts EOI behind a segment: that one is part of something.
fn leads_to(view: &[u8], from: usize, to: usize) -> bool {
    let is_jpeg = view.get(from..).is_some_and(|rest| rest.starts_with(&[0xFF, SOI]));
    !is_jpeg || view.get(to + 1) == Some(&EOI) || passes(view, from, to) == Some(to)
}

/// The first marker at or behind `to` of the JPEG at `from`, when its segments and scans follow each other without a
/// gap, and without EOI, up to there.
pub(super) fn passes(view: &[u8], from: usize, to: usize) -> Option<usize> {
    let view = view.get(..view.len().min(to + 4))?;
    let mut at = from + 2;
    while at < to {
        let (Some(0xFF), Some(&code)) = (view.get(at), view.get(at + 1)) else { return None };
        at += match (code, be_u16(view, at + 2)) {
            (0xFF, _) => 1,
            (SOI | EOI, _) => return None,
            (_, Some(length)) if is_marker(code) && length >= 2 => 2 + usize::from(length),
            _ => return None,
        };
        if code == SOS {
            at = find_marker(view, at).unwrap_or(view.len().max(to));
        }
    }
    Some(at)
}

/// The next real marker in entropy-coded data; without one, the place from where to look on.
fn find_marker(view: &[u8], mut at: usize) -> Result<usize, usize> {
    while let Some(distance) = view.get(at..).and_then(|rest| memchr(0xFF, rest)) {
        at += distance;
        match view.get(at + 1) {
            None => return Err(at),
            Some(0xFF) => at += 1,
            Some(&code) if is_marker(code) => return Ok(at),
            Some(_) => at += 2,
        }
    }
    Err(at.max(view.len()))
}

/// Whether FF and this code make a marker that a decoder acts upon. Stuffed zeros, fill bytes, restart markers, TEM
/// and the reserved codes are passed over like data.
fn is_marker(code: u8) -> bool {
    matches!(code, 0xC0..=0xC7 | 0xC9..=0xCF | 0xD8..=0xDD | 0xE0..=0xEF | 0xFE)
}

/// SOF0 to SOF15 without DHT, JPG and DAC, which stand among them.
fn is_frame_header(code: u8) -> bool {
    matches!(code, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF)
}
