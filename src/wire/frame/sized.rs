//! Walks the containers that say at their front where they end: WebP by its RIFF size, BMP by its headers.

use super::container::{Shape, Walk};
use super::restart::{self, Restart};
use super::sniff::{le_u16, le_u32};

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
    /// A WebP at the front of the buffer.
    pub(super) fn webp() -> Self {
        Self::new(webp)
    }

    /// A bitmap at the front of the buffer.
    pub(super) fn bmp() -> Self {
        Self::new(bmp)
    }

    fn new(read_header: fn(&[u8]) -> Header) -> Self {
        Self { read_header, end: None, floor: 0, shape: Shape::default() }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn at(&self) -> usize {
        self.end.unwrap_or(0)
    }

    pub(super) fn floor(&self) -> usize {
        self.floor
    }

    pub(super) fn walk(&mut self, view: &[u8], limit: usize) -> Walk {
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
