//! Walks the containers whose parts carry lengths: PNG chunks to IEND, WebP by its RIFF size, BMP by its headers.
//! Also holds what all walkers share. A claimed length is only ever compared, never allocated.

use meerkat_base::ImageFormat;

use super::jpeg::Jpeg;
use super::restart::{self, Restart};
use super::sniff::{be_u32, le_u16, le_u32};

/// Where a walk has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// Needs bytes that have not arrived.
    More,
    /// The container is complete and ends before this offset.
    Ends(usize),
    /// The picture was cut off: another frame starts at this offset.
    Restart(usize),
    /// At this offset the container contradicts itself, and no other frame started before.
    Lost(usize),
}

/// What the headers say about the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    /// Pixels; 0 while unknown.
    pub(super) width: u32,
    /// Pixels; 0 while unknown.
    pub(super) height: u32,
    /// Scans of a JPEG so far.
    pub(super) scans: u32,
}

/// A picture in one of the known containers, being walked.
#[derive(Debug)]
pub(super) enum Container {
    Jpeg(Jpeg),
    Png(Png),
    Sized(Sized),
}

impl Container {
    /// A picture of this format at the front of the buffer; `None` for the unknown format.
    pub(super) fn new(format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Jpeg => Some(Self::Jpeg(Jpeg::new(0))),
            ImageFormat::Png => {
                Some(Self::Png(Png { at: PNG_SIGNATURE, floor: PNG_SIGNATURE, shape: Shape::default() }))
            }
            ImageFormat::Webp => Some(Self::Sized(Sized::new(webp))),
            ImageFormat::Bmp => Some(Self::Sized(Sized::new(bmp))),
            ImageFormat::Unknown => None,
        }
    }

    /// Walks on. `limit` is the longest frame: a part that claims to reach beyond it cannot be waited for.
    pub(super) fn walk(&mut self, view: &[u8], limit: usize) -> Walk {
        match self {
            Self::Jpeg(jpeg) => jpeg.walk(view),
            Self::Png(png) => png.walk(view, limit),
            Self::Sized(sized) => sized.walk(view, limit),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Jpeg(jpeg) => jpeg.shape(),
            Self::Png(png) => png.shape,
            Self::Sized(sized) => sized.shape,
        }
    }

    /// How far it has been walked, at least.
    pub(super) fn at(&self) -> usize {
        match self {
            Self::Jpeg(jpeg) => jpeg.at(),
            Self::Png(png) => png.at,
            Self::Sized(sized) => sized.end.unwrap_or(0),
        }
    }

    /// Before this offset no other frame can have started.
    pub(super) fn floor(&self) -> usize {
        match self {
            Self::Jpeg(jpeg) => jpeg.floor(),
            Self::Png(png) => png.floor,
            Self::Sized(sized) => sized.floor,
        }
    }
}

// === PNG ===

const PNG_SIGNATURE: usize = 8;
const IEND_CRC: u32 = 0xAE42_6082;

/// A PNG (ISO/IEC 15948), chunk by chunk: length, type, data, CRC.
#[derive(Debug)]
pub(super) struct Png {
    /// Where the next chunk begins; may lie beyond what has arrived.
    at: usize,
    /// Where the chunk before it began.
    floor: usize,
    shape: Shape,
}

impl Png {
    fn walk(&mut self, view: &[u8], limit: usize) -> Walk {
        loop {
            let (Some(length), Some(kind)) = (be_u32(view, self.at), be_u32(view, self.at + 4)) else {
                return Walk::More;
            };
            let kind = kind.to_be_bytes();
            let is_header = kind == *b"IHDR";
            let is_end = kind == *b"IEND";
            let next = usize::try_from(length).ok().and_then(|n| self.at.checked_add(n)?.checked_add(12));
            let fits = is_chunk_type(kind)
                && is_header == (self.at == PNG_SIGNATURE)
                && (!is_header || length == 13)
                && (!is_end || length == 0);
            let next = match next {
                Some(next) if fits && next <= limit => next,
                _ => return self.lost(view),
            };
            if let Some(outcome) = self.leapt_over(view) {
                return outcome;
            }
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
            self.floor = self.at;
            self.at = next;
        }
    }

    /// As with JPEG: looks at what the length of the last chunk led over, now that a chunk stands at its end.
    fn leapt_over(&mut self, view: &[u8]) -> Option<Walk> {
        let outcome = restart::leapt_over(view, self.floor, self.at, leads_to);
        self.floor = self.at;
        outcome
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

/// Whether the chunks of the PNG at `from` follow each other up to one at `to`.
fn leads_to(view: &[u8], from: usize, to: usize) -> bool {
    let mut at = from + PNG_SIGNATURE;
    while at < to {
        let length = be_u32(view, at).and_then(|n| usize::try_from(n).ok());
        let Some(next) = length.and_then(|n| at.checked_add(n)?.checked_add(12)) else { return false };
        at = next;
    }
    at == to
}

// === WebP and BMP ===

/// A container that says at its front where it ends.
#[derive(Debug)]
pub(super) struct Sized {
    read_header: fn(&[u8]) -> Header,
    end: Option<usize>,
    floor: usize,
    shape: Shape,
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    More,
    Bad,
    Good { end: u64, width: u32, height: u32 },
}

impl Sized {
    fn new(read_header: fn(&[u8]) -> Header) -> Self {
        Self { read_header, end: None, floor: 0, shape: Shape::default() }
    }

    fn walk(&mut self, view: &[u8], limit: usize) -> Walk {
        let end = match self.end {
            Some(end) => end,
            None => match (self.read_header)(view) {
                Header::More => return Walk::More,
                Header::Bad => return Walk::Lost(0),
                Header::Good { end, width, height } => {
                    self.shape = Shape { width, height, scans: 0 };
                    match usize::try_from(end) {
                        Ok(end) if end <= limit => *self.end.insert(end),
                        _ => return Walk::Lost(0),
                    }
                }
            },
        };
        // Nothing at the end of these containers shows that it is theirs, so what lies between is looked through.
        let arrived = end.min(view.len());
        match restart::find(view, self.floor, arrived) {
            Restart::At(offset) => return Walk::Restart(offset),
            Restart::Perhaps(offset) => {
                self.floor = offset;
                return Walk::More;
            }
            Restart::No => self.floor = arrived,
        }
        if arrived == end { Walk::Ends(end) } else { Walk::More }
    }
}

/// `RIFF` size `WEBP`, then the first chunk, which holds the dimensions (RFC 9649, section 2). The padding byte
/// behind an odd size is not waited for: not every writer sends it.
fn webp(view: &[u8]) -> Header {
    const CHUNK: usize = 12;
    const DATA: usize = CHUNK + 8;
    let (Some(size), Some(kind)) = (le_u32(view, 4), le_u32(view, CHUNK)) else { return Header::More };
    let end = 8 + u64::from(size);
    let kind = kind.to_le_bytes();
    let needed = match &kind {
        b"VP8 " | b"VP8X" => DATA + 10,
        b"VP8L" => DATA + 5,
        _ => return Header::Bad,
    };
    if end < needed as u64 {
        return Header::Bad;
    }
    let Some(data) = view.get(DATA..needed) else { return Header::More };
    let (width, height) = match &kind {
        // three bytes of frame tag, start code, 14 bits each
        b"VP8 " if data.get(3..6) == Some(&[0x9D, 0x01, 0x2A]) => {
            let (Some(w), Some(h)) = (le_u16(data, 6), le_u16(data, 8)) else { return Header::Bad };
            (u32::from(w & 0x3FFF), u32::from(h & 0x3FFF))
        }
        // signature, 14 bits each, minus one
        b"VP8L" if data.first() == Some(&0x2F) => {
            let Some(bits) = le_u32(data, 1) else { return Header::Bad };
            ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        }
        // flags and reserved: four bytes; then 24 bits each, minus one
        b"VP8X" => {
            let (Some(w), Some(h)) = (le_u32(data, 4), le_u32(data, 6)) else { return Header::Bad };
            ((w & 0xFF_FFFF) + 1, (h >> 8) + 1)
        }
        _ => return Header::Bad,
    };
    Header::Good { end, width, height }
}

/// File header and bitmap header. The file size at offset 2 is often 0 or wrong, so the end is computed from the
/// dimensions where that is possible; decoders do not look at the file size either.
fn bmp(view: &[u8]) -> Header {
    const FILE_HEADER: u32 = 14;
    const PROFILE_EMBEDDED: u32 = 0x4D42_4544;
    const PROFILE_LINKED: u32 = 0x4C49_4E4B;
    let (Some(file_size), Some(offset), Some(header_size)) =
        (le_u32(view, 2), le_u32(view, 10), le_u32(view, 14))
    else {
        return Header::More;
    };
    let headers = FILE_HEADER + header_size;
    if view.len() < headers as usize {
        return Header::More;
    }
    let (width, height, bits) = if header_size == 12 {
        let (Some(w), Some(h)) = (le_u16(view, 18), le_u16(view, 20)) else { return Header::Bad };
        (u32::from(w), u32::from(h), le_u16(view, 24))
    } else {
        let (Some(w), Some(h)) = (le_u32(view, 18), le_u32(view, 22)) else { return Header::Bad };
        // Both are signed. A negative height means rows from the top, a negative width nothing.
        (w.cast_signed().max(0).unsigned_abs(), h.cast_signed().unsigned_abs(), le_u16(view, 28))
    };
    let (compression, size) = match header_size {
        12 | 16 => (0, 0),
        _ => (le_u32(view, 30).unwrap_or(0), le_u32(view, 34).unwrap_or(0)),
    };
    let start = u64::from(offset.max(headers));
    let pixels = match compression {
        // BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS: rows padded to four bytes
        0 | 3 | 6 => match bits {
            // At most 2^31 * 4 * 2^31 bytes: fits.
            Some(bits @ (1 | 2 | 4 | 8 | 16 | 24 | 32)) => {
                (u64::from(width) * u64::from(bits)).div_ceil(32) * 4 * u64::from(height)
            }
            _ => return Header::Bad,
        },
        _ if size > 0 => u64::from(size),
        _ => u64::from(file_size).saturating_sub(start),
    };
    if pixels == 0 {
        return Header::Bad;
    }
    // BITMAPV5HEADER: a colour profile may stand behind the pixels.
    let profile = match (header_size, le_u32(view, 70), le_u32(view, 126), le_u32(view, 130)) {
        (124, Some(PROFILE_EMBEDDED | PROFILE_LINKED), Some(at), Some(size)) => {
            u64::from(FILE_HEADER) + u64::from(at) + u64::from(size)
        }
        _ => 0,
    };
    Header::Good { end: start.saturating_add(pixels).max(profile), width, height }
}
