//! Walks a PNG (ISO/IEC 15948) from chunk to chunk: length, type, data, CRC. Looks into IHDR only.

use meerkat_base::ImageFormat;

use super::container::{Shape, Walk};
use super::jpeg;
use super::restart::{self, Restart};
use super::sniff::{Sniff, be_u32, sniff};

const SIGNATURE: usize = 8;
const IEND_CRC: u32 = 0xAE42_6082;

/// How far the walk has come. All offsets are those of the frame's buffer.
#[derive(Debug)]
pub(super) struct Png {
    /// Where the next chunk begins; may lie beyond what has arrived.
    at: usize,
    /// Where the chunk before it began.
    floor: usize,
    shape: Shape,
}

impl Png {
    pub(super) fn new() -> Self {
        Self { at: SIGNATURE, floor: SIGNATURE, shape: Shape::default() }
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

    pub(super) fn walk(&mut self, view: &[u8], limit: usize) -> Walk {
        loop {
            let (Some(length), Some(kind)) = (be_u32(view, self.at), be_u32(view, self.at + 4)) else {
                return Walk::More;
            };
            let kind = kind.to_be_bytes();
            let is_header = kind == *b"IHDR";
            let is_end = kind == *b"IEND";
            let next = usize::try_from(length).ok().and_then(|n| self.at.checked_add(n)?.checked_add(12));
            let fits = is_chunk_type(kind)
                && is_header == (self.at == SIGNATURE)
                && (!is_header || length == 13)
                && (!is_end || length == 0);
            let next = match next {
                Some(next) if fits && next <= limit => next,
                _ => return self.lost(view),
            };
            if let Some(outcome) = restart::leapt_over(view, self.floor, self.at, leads_to) {
                return outcome;
            }
            self.floor = self.at;
            if is_header {
                let (Some(width), Some(height)) = (be_u32(view, self.at + 8), be_u32(view, self.at + 12))
                else {
                    return Walk::More;
                };
                if width == 0 || height == 0 {
                    return self.lost(view);
                }
                self.shape = Shape { width, height, scans: 0 };
            }
            if is_end {
                // Its CRC belongs to the picture and never differs; where it does, other bytes stand in its place.
                return match be_u32(view, self.at + 8) {
                    None => Walk::More,
                    Some(IEND_CRC) => Walk::Ends(next),
                    Some(_) => self.lost(view),
                };
            }
            self.at = next;
        }
    }

    fn lost(&mut self, view: &[u8]) -> Walk {
        // From the very beginning: what looked like a chunk may have been bytes of the next frame already.
        match restart::find(view, 0, self.at) {
            Restart::At(offset) => Walk::Restart(offset),
            Restart::Perhaps(_) => Walk::More,
            Restart::No => Walk::Lost(self.at),
        }
    }
}

/// Whether a decoder would take this for a chunk: one of the four critical ones, or an ancillary one (small first
/// letter) with the reserved bit right (capital third letter).
fn is_chunk_type(kind: [u8; 4]) -> bool {
    let ancillary = kind[0].is_ascii_lowercase() && kind[2].is_ascii_uppercase();
    kind.iter().all(u8::is_ascii_alphabetic)
        && (ancillary || matches!(&kind, b"IHDR" | b"PLTE" | b"IDAT" | b"IEND"))
}

/// Whether a chunk of the PNG at `from` begins at `to`, or `to` lies within the JPEG at `from`. Of pictures in other
/// containers that is taken for granted.
fn leads_to(view: &[u8], from: usize, to: usize) -> bool {
    match sniff(view.get(from..).unwrap_or_default()) {
        Sniff::Is(ImageFormat::Jpeg) => return jpeg::passes(view, from, to).is_some(),
        Sniff::Is(ImageFormat::Png) => {}
        _ => return true,
    }
    let mut at = from + SIGNATURE;
    while at < to {
        let length = be_u32(view, at).and_then(|n| usize::try_from(n).ok());
        let Some(next) = length.and_then(|n| at.checked_add(n)?.checked_add(12)) else { return false };
        at = next;
    }
    at == to
}
