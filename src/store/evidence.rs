//! What makes a recording provable: keys, the chain of hashes through a spool's records, and the signed list of what
//! was made of a spool. The format is described for others in docs/evidence.md. Reads and writes no pictures.

mod chain;
mod check;
mod key;
mod proof;

#[cfg(test)]
mod tests;

pub use chain::{ChainLine, SpoolSigning};
pub use check::{CheckedSpool, SpoolFault, check_frames, check_spool};
pub use key::{PublicKey, SIGNATURE_BYTES, SigningKeyFile};
pub use proof::{ClipProof, SpoolNote, read_proof, sign_proof};

pub(crate) use chain::{ChainWriter, GENESIS, HASH_BYTES, Hash, SIGNED_HEADER_BYTES, head_message, link};

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Result, StoreError};

/// SHA-256 of what a file holds from its beginning, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| StoreError::io(path, e))?;
    sha256_of_file(file).map_err(|e| StoreError::io(path, e))
}

pub(crate) fn sha256_of_file(mut file: File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(to_hex(&hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Bytes from hexadecimal digits of either case; none when there are not exactly `2 * N` of them.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}
