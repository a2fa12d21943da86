//! Picture files: telling them from videos, and reading them with a limit. Decodes nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::bail;

/// Larger files are no pictures.
const MAX_BYTES: u64 = 256 << 20;

/// Whether a file begins like a picture. Motion JPEG does too, but is told by its name.
pub(super) fn is_picture(path: &Path) -> io::Result<bool> {
    let ending = path.extension().unwrap_or_default();
    if ending.eq_ignore_ascii_case("mjpeg") || ending.eq_ignore_ascii_case("mjpg") {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(path)?.take(12).read_to_end(&mut head)?;
    let begins = |magic: &[u8]| head.starts_with(magic);
    Ok(begins(b"\xff\xd8\xff")
        || begins(b"\x89PNG")
        || (begins(b"RIFF") && head.get(8..) == Some(b"WEBP"))
        || begins(b"BM"))
}

/// Reads a file whole.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("it is larger than {} MiB", MAX_BYTES >> 20);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_how_they_begin() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: &[u8], expected| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(is_picture(&path).unwrap(), expected, "{name}");
        };
        check("a.jpg", b"\xff\xd8\xff\xe0 and so on", true);
        check("no_ending", b"\x89PNG\r\n\x1a\n", true);
        check("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", true);
        check("a.bmp", b"BM......", true);
        check("a.avi", b"RIFF\x10\0\0\0AVI LIST", false);
        check("a.mjpeg", b"\xff\xd8\xff\xe0 and so on", false);
        check("a.mp4", b"\0\0\0\x18ftypisom", false);
        check("empty.jpg", b"", false);
        assert!(is_picture(&dir.path().join("none.jpg")).is_err());
    }
}
