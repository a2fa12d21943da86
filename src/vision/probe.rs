//! Reads size and kind of a picture from its first bytes, so that nothing huge or exotic reaches OpenCV.
//! Decodes no pixels.

use meerkat_base::ImageFormat;

use crate::VisionError;

/// Pictures with more pixels than this are refused before they are decoded (an 8K frame has 33 million).
pub const MAX_PIXELS: u64 = 64_000_000;

/// A progressive JPEG may revisit all its blocks in each scan, at a cost of a few bytes of input each.
/// Encoders make about ten scans; more than this is an attack on the processor.
const MAX_SCANS: usize = 100;

/// Pixels times scans: what decoding may cost, also at a reduced size, for which every scan is read all the same. The
/// largest picture may have twelve scans.
pub const MAX_SCANNED_PIXELS: u64 = 768_000_000;

/// What the header of a picture says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Container.
    pub format: ImageFormat,
    /// Stored width in pixels, at least 1.
    pub width: u32,
    /// Stored height in pixels, at least 1.
    pub height: u32,
    /// Whether there is an Exif block, which may say that the upright picture is a turned one.
    pub may_turn: bool,
}

/// Reads the header of a JPEG, PNG, WebP or BMP. Looks at every byte at most once.
pub fn probe(bytes: &[u8]) -> Result<Probe, VisionError> {
    let found = if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        jpeg(bytes)?
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        webp(bytes)
    } else if bytes.starts_with(b"BM") {
        bmp(bytes)
    } else {
        return Err(VisionError::NotAPicture);
    };
    let found = found.ok_or(VisionError::BadHeader)?;
    let (width, height) = (found.width, found.height);
    if width == 0 || height == 0 {
        return Err(VisionError::BadHeader);
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(VisionError::TooLarge { width, height });
    }
    Ok(found)
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(2)?)?;
    Some(part.iter().fold(0, |sum, &b| sum << 8 | u32::from(b)))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let part: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(part))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    be32(bytes, at).map(u32::swap_bytes)
}

/// ITU-T T.81 annex B: segments of `FF marker length…` up to the frame header (SOFn).
fn jpeg(bytes: &[u8]) -> Result<Option<Probe>, VisionError> {
    let mut at = 2usize;
    let mut may_turn = false;
    loop {
        if bytes.get(at) != Some(&0xFF) {
            return Ok(None);
        }
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        let Some(&marker) = bytes.get(at) else { return Ok(None) };
        at += 1;
        // TEM and RSTn stand alone.
        if marker == 0x01 || (0xD0..=0xD7).contains(&marker) {
            continue;
        }
        let Some(length) = be16(bytes, at).map(|l| l as usize).filter(|&l| l >= 2) else { return Ok(None) };
        match marker {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let (Some(height), Some(width)) = (be16(bytes, at + 3), be16(bytes, at + 5)) else {
                    return Ok(None);
                };
                // In entropy-coded data FF is always followed by 00 or RSTn: FF DA is a scan header.
                let rest = bytes.get(at..).unwrap_or_default();
                if !matches!(marker, 0xC0 | 0xC1) {
                    let scans = rest.windows(2).filter(|w| *w == [0xFF, 0xDA]).count();
                    let pixels = u64::from(width) * u64::from(height);
                    if scans > MAX_SCANS || pixels.saturating_mul(scans as u64) > MAX_SCANNED_PIXELS {
                        return Err(VisionError::TooManyScans);
                    }
                }
                return Ok(Some(Probe { format: ImageFormat::Jpeg, width, height, may_turn }));
            }
            // SOS or EOI before any frame header.
            0xDA | 0xD9 => return Ok(None),
            0xE1 => may_turn |= bytes.get(at + 2..at + 6) == Some(b"Exif"),
            _ => {}
        }
        at += length;
    }
}

fn png(bytes: &[u8]) -> Option<Probe> {
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    let (width, height) = (be32(bytes, 16)?, be32(bytes, 20)?);
    // An eXIf chunk may stand anywhere; a PNG is never reduced while decoding, so assuming it costs nothing.
    Some(Probe { format: ImageFormat::Png, width, height, may_turn: true })
}

fn webp(bytes: &[u8]) -> Option<Probe> {
    let (width, height) = match bytes.get(12..16)? {
        b"VP8X" => (1 + (le32(bytes, 24)? & 0xFF_FFFF), 1 + (le32(bytes, 26)? >> 8)),
        b"VP8L" => {
            let packed = le32(bytes, 21)?;
            (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
        }
        b"VP8 " => {
            (bytes.get(23..26)? == [0x9D, 0x01, 0x2A]).then_some(())?;
            let packed = le32(bytes, 26)?;
            (packed & 0x3FFF, packed >> 16 & 0x3FFF)
        }
        _ => return None,
    };
    Some(Probe { format: ImageFormat::Webp, width, height, may_turn: true })
}

fn bmp(bytes: &[u8]) -> Option<Probe> {
    let (width, height) = match le32(bytes, 14)? {
        // BITMAPCOREHEADER has 16-bit sizes.
        12 => {
            let packed = le32(bytes, 18)?;
            (packed & 0xFFFF, packed >> 16)
        }
        // A negative height means that the rows start at the top.
        40.. => (le32(bytes, 18)?, le32(bytes, 22)?.cast_signed().unsigned_abs()),
        _ => return None,
    };
    Some(Probe { format: ImageFormat::Bmp, width, height, may_turn: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Option<(ImageFormat, u32, u32)>) {
        let found = probe(bytes).ok().map(|p| (p.format, p.width, p.height));
        assert_eq!(found, expected, "{:?}", &bytes[..bytes.len().min(32)]);
    }

    #[test]
    fn sizes_are_read() {
        let jpeg = b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xFF\xC0\0\x0B\x08\x01\xE0\x02\x80\x01";
        check(jpeg, Some((ImageFormat::Jpeg, 640, 480)));
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR\0\0\0\x05\0\0\0\x07\x08";
        check(png, Some((ImageFormat::Png, 5, 7)));
        let mut bmp = vec![0u8; 54];
        bmp[..2].copy_from_slice(b"BM");
        bmp[14] = 40;
        bmp[18] = 9;
        bmp[22..26].copy_from_slice(&(-3i32).to_le_bytes());
        check(&bmp, Some((ImageFormat::Bmp, 9, 3)));
        let webp = b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x7F\x02\0\xDF\x01\0";
        check(webp, Some((ImageFormat::Webp, 640, 480)));
    }

    #[test]
    fn every_cut_is_an_error_or_the_same_answer() {
        let whole = b"\xFF\xD8\xFF\xE1\0\x08Exif\0\0\xFF\xC2\0\x0B\x08\x01\xE0\x02\x80\x01";
        let answer = probe(whole).unwrap();
        assert!(answer.may_turn);
        for cut in 0..whole.len() {
            if let Ok(found) = probe(&whole[..cut]) {
                assert_eq!(found, answer);
            }
        }
    }

    #[test]
    fn what_would_cost_too_much_is_refused() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR\0\x01\0\0\0\x01\0\0\x08";
        assert!(matches!(probe(png), Err(VisionError::TooLarge { width: 65536, height: 65536 })));
        let mut jpeg = b"\xFF\xD8\xFF\xC2\0\x0B\x08\x01\xE0\x02\x80\x01".to_vec();
        jpeg.extend(b"\xFF\xDA\0\x02".repeat(101));
        assert!(matches!(probe(&jpeg), Err(VisionError::TooManyScans)));
        // Few enough scans, few enough pixels, and too much of both together.
        let large = |scans: usize| {
            let mut jpeg = b"\xFF\xD8\xFF\xC2\0\x0B\x08\x1F\x40\x1F\x40\x01".to_vec();
            jpeg.extend(b"\xFF\xDA\0\x02".repeat(scans));
            probe(&jpeg)
        };
        assert!(matches!(large(13), Err(VisionError::TooManyScans)));
        assert_eq!(large(12).unwrap().width, 8000);
        for other in [&b""[..], b"GIF89a", b"\xFF\xD8", b"MM\0*", b"\0\0\0\x0CjP  ", b"\xFF\xD8\xFF\xD9"] {
            check(other, None);
        }
    }
}
