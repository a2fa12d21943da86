//! Picture files: telling them from videos and from what is neither, and reading them with a limit. Decodes nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{anyhow, bail};
use meerkat_media::MediaError;

/// Larger files are no pictures.
const MAX_BYTES: u64 = 256 << 20;

/// What is said to whoever gave something else.
const WANTED: &str =
    "wanted is a picture (JPEG, PNG, WebP, BMP) or a video (MP4, MKV, WebM, AVI, MPEG, GIF, motion JPEG)";

/// Whether a file begins like a picture. Motion JPEG does too, but is told by its name. What is none may be a video:
/// that shows when it is opened.
///
/// # Errors
/// When it cannot be read, or can be neither.
pub(super) fn is_picture(path: &Path) -> anyhow::Result<bool> {
    if path.is_dir() {
        bail!("it is a folder; {WANTED}");
    }
    let mut head = Vec::new();
    File::open(path)?.take(12).read_to_end(&mut head)?;
    if head.is_empty() {
        bail!("it is empty; {WANTED}");
    }
    let ending = path.extension().unwrap_or_default();
    if ending.eq_ignore_ascii_case("mjpeg") || ending.eq_ignore_ascii_case("mjpg") {
        return Ok(false);
    }
    let begins = |magic: &[u8]| head.starts_with(magic);
    Ok(begins(b"\xff\xd8\xff")
        || begins(b"\x89PNG")
        || (begins(b"RIFF") && head.get(8..) == Some(b"WEBP"))
        || begins(b"BM"))
}

/// What is said of a file that is no picture and could not be opened as a video either. Does not name it.
pub(super) fn not_opened(error: MediaError) -> anyhow::Error {
    match error {
        MediaError::Open { reason, .. } => {
            anyhow!("it is neither a picture nor a video ({reason}); {WANTED}")
        }
        other => other.into(),
    }
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
        assert!(is_picture(&dir.path().join("none.jpg")).is_err());
    }

    #[test]
    fn what_is_neither_a_picture_nor_a_video_is_told_what_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["empty.jpg", "empty.mjpeg"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
            let said = is_picture(&dir.path().join(name)).unwrap_err().to_string();
            assert!(said.contains("empty") && said.contains("JPEG") && said.contains("MP4"), "{said}");
        }
        let said = is_picture(dir.path()).unwrap_err().to_string();
        assert!(said.contains("folder") && said.contains("JPEG"), "{said}");
        let open = |reason: &str| MediaError::Open { name: "x.txt".to_owned(), reason: reason.to_owned() };
        let said = not_opened(open("invalid data")).to_string();
        assert!(said.contains("invalid data") && said.contains("PNG"), "{said}");
        let read = MediaError::Read { name: "x.mp4".to_owned(), reason: "gone".to_owned() };
        assert_eq!(not_opened(read).to_string(), "x.mp4 cannot be read: gone");
    }
}
