//! Weights as `torch.save` writes a state dict, in both of its forms: a ZIP archive, and what it wrote before 1.6, five
//! parts one after the other. Which tensors there are stands in a pickle; it is read, never carried out.
//!
//! ```text
//! until 1.5  pickle: magic number | pickle: 1001 | pickle: about the system | pickle: state dict | pickle: keys
//!            then for each key: count of values, 8 bytes | values
//! since 1.6  ZIP, nothing compressed: NAME/data.pkl: state dict | NAME/data/KEY: values | NAME/byteorder | ...
//! ```

mod pickle;
mod value;

use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

pub use self::pickle::PickleError;
use self::pickle::Reader;
pub use self::value::Scalar;
use self::value::{StoredTensor, Value};

/// First bytes of the form before 1.6: the magic number 0x1950a86a20f9469cfc6c as a pickle.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The version of that form.
const VERSION: i64 = 1001;
/// First bytes of a ZIP archive.
const ZIP: &[u8] = b"PK\x03\x04";

/// Most entries of an archive.
const MAX_ENTRIES: usize = 1 << 16;
/// Longest pickle within an archive, bytes.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Longest word about the byte order, bytes.
const MAX_WORD_BYTES: u64 = 64;

/// Why a file holds no weights that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// Neither of the two forms.
    #[error("is no file of torch.save: it begins neither as a ZIP archive nor with its magic number")]
    Unknown,
    /// A pickle cannot be read.
    #[error("its {part} at byte {at}: {source}")]
    Pickle {
        /// Which pickle.
        part: &'static str,
        /// Where in it.
        at: usize,
        /// What is wrong.
        source: PickleError,
    },
    /// The file contradicts itself or has something that is not understood.
    #[error("{0}")]
    Malformed(String),
}

fn malformed(reason: impl Into<String>) -> TorchError {
    TorchError::Malformed(reason.into())
}

/// One tensor: what it is, and its bytes, row-major, least significant byte first.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight<'a> {
    /// Name in the state dict.
    pub name: String,
    /// Type of its values.
    pub scalar: Scalar,
    /// Sizes of its dimensions.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub bytes: &'a [u8],
}

/// The tensors of a state dict, in its order.
///
/// # Errors
/// See [`TorchError`].
pub fn read(bytes: &[u8]) -> Result<Vec<Weight<'_>>, TorchError> {
    if bytes.starts_with(ZIP) {
        archive(bytes)
    } else if bytes.starts_with(MAGIC) {
        parts(bytes)
    } else {
        Err(TorchError::Unknown)
    }
}

/// Reads one pickle at the beginning of `bytes`; how long it is, too.
fn pickle(part: &'static str, bytes: &[u8]) -> Result<(Value, usize), TorchError> {
    let mut reader = Reader::new(bytes);
    let value = reader.value().map_err(|source| TorchError::Pickle { part, at: reader.at(), source })?;
    Ok((value, reader.at()))
}

/// The form before 1.6.
fn parts(bytes: &[u8]) -> Result<Vec<Weight<'_>>, TorchError> {
    let mut rest = &bytes[MAGIC.len()..];
    let mut next = |part| {
        let (value, length) = pickle(part, rest)?;
        rest = &rest[length..];
        Ok::<_, TorchError>(value)
    };
    match next("version")? {
        Value::Int(VERSION) => {}
        _ => return Err(malformed(format!("its version is not {VERSION}"))),
    }
    let system = next("system")?;
    if system.entry("little_endian").is_some_and(|value| matches!(value, Value::Bool(false))) {
        return Err(malformed("its values begin with the most significant byte"));
    }
    let tensors = next("state dict")?.tensors().map_err(malformed)?;
    let keys = next("keys")?.texts().map_err(malformed)?;

    let scalars: HashMap<&str, Scalar> =
        tensors.iter().map(|tensor| (tensor.storage.key.as_ref(), tensor.storage.scalar)).collect();
    let mut storages = HashMap::with_capacity(keys.len());
    for key in &keys {
        let scalar = scalars.get(key.as_ref()).copied();
        let scalar = scalar.ok_or_else(|| malformed("it has values that no tensor is made of"))?;
        let (count, after) = rest.split_first_chunk::<8>().ok_or_else(|| malformed("it ends too early"))?;
        let length = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(scalar.size_bytes()))
            .filter(|&length| length <= after.len())
            .ok_or_else(|| malformed("it ends too early"))?;
        let (own, after) = after.split_at(length);
        storages.insert(key.as_ref(), own);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(malformed("something follows behind its values"));
    }
    tensors.iter().map(|tensor| weight(tensor, storages.get(tensor.storage.key.as_ref()).copied())).collect()
}

/// The form since 1.6.
fn archive(bytes: &[u8]) -> Result<Vec<Weight<'_>>, TorchError> {
    let failed = |error: zip::result::ZipError| malformed(format!("its ZIP archive: {error}"));
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
    if zip.len() > MAX_ENTRIES {
        return Err(malformed(format!("its ZIP archive has {} entries, at most {MAX_ENTRIES}", zip.len())));
    }
    let mut entries = HashMap::new();
    let mut folder = None;
    for number in 0..zip.len() {
        let mut file = zip.by_index(number).map_err(failed)?;
        let name = file.name().map_err(failed)?.into_owned();
        if let Some(own) = name.strip_suffix("/data.pkl")
            && folder.replace(own.to_owned()).is_some()
        {
            return Err(malformed("it has two state dicts"));
        }
        if name.ends_with("/byteorder") {
            let mut word = String::new();
            let read = file.by_ref().take(MAX_WORD_BYTES).read_to_string(&mut word);
            if read.is_err() || word.trim() != "little" {
                return Err(malformed("its values begin with the most significant byte"));
            }
        }
        // Straight from the file: nothing is unpacked, so nothing can swell.
        let is_plain = file.compression() == CompressionMethod::Stored && !file.encrypted();
        let begin = file.data_start().and_then(|begin| usize::try_from(begin).ok());
        let length =
            usize::try_from(file.size()).ok().filter(|_| is_plain && file.size() == file.compressed_size());
        let own = begin.zip(length).and_then(|(begin, length)| bytes.get(begin..begin.checked_add(length)?));
        entries.insert(name, own);
    }
    let folder = folder.ok_or_else(|| malformed("it has no data.pkl: it is no file of torch.save"))?;
    let own = |name: &str| match entries.get(&format!("{folder}/{name}")) {
        Some(Some(own)) => Ok(*own),
        Some(None) => Err(malformed(format!("{name:?} is compressed, encrypted or cut off"))),
        None => Err(malformed(format!("{name:?} is missing"))),
    };
    let stored = own("data.pkl")?;
    if stored.len() as u64 > MAX_PICKLE_BYTES {
        return Err(malformed(format!(
            "its state dict has {} bytes, at most {MAX_PICKLE_BYTES}",
            stored.len()
        )));
    }
    let tensors = pickle("state dict", stored)?.0.tensors().map_err(malformed)?;
    tensors.iter().map(|tensor| weight(tensor, Some(own(&format!("data/{}", tensor.storage.key))?))).collect()
}

/// A tensor's part of its storage.
fn weight<'a>(tensor: &StoredTensor, storage: Option<&'a [u8]>) -> Result<Weight<'a>, TorchError> {
    let wrong = |what: &str| malformed(format!("tensor {:?} {what}", tensor.name));
    let storage = storage.ok_or_else(|| wrong("has no values"))?;
    let size = tensor.storage.scalar.size_bytes();
    if tensor.storage.values.checked_mul(size) != Some(storage.len()) {
        return Err(wrong("has another number of values than it says"));
    }
    let values = tensor.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    // A dimension of one value may have any stride.
    let mut stride = 1usize;
    for (&side, &own) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if side > 1 && own != stride {
            return Err(wrong("is not stored row by row"));
        }
        stride = stride.saturating_mul(side.max(1));
    }
    let begin = tensor.offset.checked_mul(size);
    let length = values.and_then(|values| values.checked_mul(size));
    let end = begin.zip(length).and_then(|(begin, length)| begin.checked_add(length));
    let bytes = begin.zip(end).and_then(|(begin, end)| storage.get(begin..end));
    let bytes = bytes.ok_or_else(|| wrong("reaches beyond its values"))?;
    Ok(Weight {
        name: tensor.name.to_string(),
        scalar: tensor.storage.scalar,
        shape: tensor.shape.clone(),
        bytes,
    })
}

#[cfg(test)]
mod tests;
