//! Tells a picture's container from its first bytes. Looks at 18 bytes at most and at nothing behind them.

use meerkat_base::ImageFormat;

/// Sizes of the header that follows a bitmap's file header: OS/2 1 and 2, Windows 3, its extensions, 4 and 5.
const DIB_SIZES: [u32; 8] = [12, 16, 40, 52, 56, 64, 108, 124];

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniff {
    /// The beginning of this container.
    Is(ImageFormat),
    /// No container that we know.
    Not,
    /// Could still become one.
    More,
}

/// Judges the first bytes of a picture.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    match bytes.first() {
        None => Sniff::More,
        Some(0xFF) => prefix(bytes, &[0xFF, 0xD8, 0xFF]).or(ImageFormat::Jpeg),
        Some(0x89) => prefix(bytes, PNG).or(ImageFormat::Png),
        Some(b'R') => match prefix(bytes, b"RIFF") {
            Match::Full => match bytes.get(8..) {
                Some(form) => prefix(form, b"WEBP").or(ImageFormat::Webp),
                None => Sniff::More,
            },
            other => other.or(ImageFormat::Webp),
        },
        Some(b'B') => match prefix(bytes, b"BM") {
            Match::Full => match le_u32(bytes, 14) {
                Some(size) if DIB_SIZES.contains(&size) => Sniff::Is(ImageFormat::Bmp),
                Some(_) => Sniff::Not,
                None => Sniff::More,
            },
            other => other.or(ImageFormat::Bmp),
        },
        Some(_) => Sniff::Not,
    }
}

/// How far bytes that are still arriving agree with a fixed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The word is there.
    Full,
    /// What is there agrees, more is needed.
    Part,
    /// Something else is there.
    No,
}

impl Match {
    fn or(self, format: ImageFormat) -> Sniff {
        match self {
            Match::Full => Sniff::Is(format),
            Match::Part => Sniff::More,
            Match::No => Sniff::Not,
        }
    }
}

/// Compares the beginning of `bytes` with `word`.
pub(super) fn prefix(bytes: &[u8], word: &[u8]) -> Match {
    if bytes.starts_with(word) {
        Match::Full
    } else if word.starts_with(bytes) {
        Match::Part
    } else {
        Match::No
    }
}

/// A little-endian number of four bytes at an offset.
pub(super) fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// A little-endian number of two bytes at an offset.
pub(super) fn le_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// A big-endian number of four bytes at an offset.
pub(super) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A big-endian number of two bytes at an offset.
pub(super) fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_is_told_apart_and_never_too_early() {
        let bmp = [&b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0"[..], &40u32.to_le_bytes()].concat();
        for (bytes, format) in [
            (&b"\xff\xd8\xff"[..], ImageFormat::Jpeg),
            (PNG, ImageFormat::Png),
            (b"RIFF\x01\x02\x03\x04WEBP", ImageFormat::Webp),
            (&bmp, ImageFormat::Bmp),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(sniff(&bytes[..cut]), Sniff::More, "{format:?} cut at {cut}");
            }
            assert_eq!(sniff(bytes), Sniff::Is(format));
        }
    }

    #[test]
    fn lookalikes_are_refused() {
        for bytes in [
            &b"GIF89a"[..],
            b"\xff\xd8e",
            b"\x89PNG\n",
            b"RIFFxxxxWAVE",
            b"RIFx",
            b"BMP pictures are fine",
            b"\0\0\0\x1cftypavif",
        ] {
            assert_eq!(sniff(bytes), Sniff::Not, "{bytes:?}");
        }
    }
}
