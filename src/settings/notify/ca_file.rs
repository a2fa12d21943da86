//! The file of the authorities that a channel trusts, read with the settings: other content at the same path is another
//! setting, so that a reload notices it. Whether it holds certificates is seen when the channel is made.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::reader::Reader;
use crate::rule;

/// A file of certificates has at most this many bytes.
const MOST_BYTES: u64 = 1 << 20;

/// The only authorities that are trusted with a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where they were read from.
    pub path: PathBuf,
    /// Their text, in PEM as far as is known.
    pub pem: Vec<u8>,
}

impl CaFile {
    /// Reads the file of `<section>.ca_file`, if it is set.
    pub(super) fn read(reader: &mut Reader, section: &str) -> Option<Self> {
        let key = format!("{section}.ca_file");
        let path = reader.read_if(&key, rule::path())?;
        if reader.leaves_file() {
            return None;
        }
        match content(&path) {
            Ok(pem) => Some(Self { path, pem }),
            Err(complaint) => {
                reader.complain(&key, complaint);
                None
            }
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a named pipe would wait for its writer, so look before.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a file".into());
    }
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut pem)).map_err(cannot)?;
    if pem.len() as u64 > MOST_BYTES {
        return Err(format!("has more than {MOST_BYTES} bytes"));
    }
    Ok(pem)
}
