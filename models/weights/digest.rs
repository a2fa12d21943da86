//! Digests of files, read once and in small pieces.

use std::io::{self, Read};

use sha2::{Digest, Sha256, Sha384};

use super::error::Damage;
use super::manifest::FileEntry;

/// Bytes read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What was read.
pub(super) struct Digests {
    pub sha256: String,
    pub sha384: String,
}

impl Digests {
    /// Reads to the end.
    pub fn of(reader: &mut dyn Read) -> io::Result<Self> {
        let (mut sha256, mut sha384) = (Sha256::new(), Sha384::new());
        each_piece(reader, |piece| {
            sha256.update(piece);
            sha384.update(piece);
        })?;
        Ok(Self { sha256: hex(&sha256.finalize()), sha384: hex(&sha384.finalize()) })
    }

    /// Whether they are those of the manifest, as far as it knows them.
    pub fn compare(self, expected: &FileEntry) -> Result<(), Damage> {
        let is_same = match &expected.sha384 {
            Some(sha384) => self.sha256 == expected.sha256 && self.sha384 == *sha384,
            None => self.sha256.starts_with(&expected.sha256),
        };
        if is_same {
            return Ok(());
        }
        let more = if expected.is_exact() { "" } else { "…" };
        Err(Damage::Digest { expected: format!("{}{more}", expected.sha256), found: self.sha256 })
    }
}

/// SHA-256 alone.
pub(super) fn sha256(reader: &mut dyn Read) -> io::Result<String> {
    let mut sha256 = Sha256::new();
    each_piece(reader, |piece| sha256.update(piece))?;
    Ok(hex(&sha256.finalize()))
}

fn each_piece(reader: &mut dyn Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4, the examples for "abc".
        let abc = Digests::of(&mut &b"abc"[..]).unwrap();
        assert_eq!(abc.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(abc.sha384.starts_with("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"));
        assert_eq!(sha256(&mut &b"abc"[..]).unwrap(), abc.sha256);
    }
}
