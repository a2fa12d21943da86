//! Constants of an OpenVINO IR: pieces of the file of weights.

use std::collections::HashMap;

use super::attributes::{Attributes, quoted};
use crate::graph::build::{Builder, count};
use crate::graph::error::{ImportError, at_most};
use crate::graph::values::{Stored, decode};
use crate::graph::{Data, TensorId};

/// Constants may point to the same bytes; all together to at most so many times the file.
const MAX_OVERLAP: usize = 4;

/// The file of weights. Constants that point to the same bytes share their values.
pub(super) struct Weights<'a> {
    bin: &'a [u8],
    read: HashMap<(usize, usize, Stored), Data>,
    bytes: usize,
}

impl<'a> Weights<'a> {
    pub fn new(bin: &'a [u8]) -> Self {
        Self { bin, read: HashMap::new(), bytes: 0 }
    }

    /// A `Const` layer.
    pub fn constant(
        &mut self,
        build: &mut Builder,
        attributes: &Attributes<'_>,
    ) -> Result<TensorId, ImportError> {
        let at = attributes.at;
        let stored = element_type(attributes, "element_type")?;
        let shape = attributes.list::<usize>("shape")?.unwrap_or_default();
        let offset = attributes.needed::<usize>("offset")?;
        let size = attributes.needed::<usize>("size")?;
        if count(&shape)?.checked_mul(stored.width()) != Some(size) {
            return Err(at.invalid(format!("{size} bytes for shape {shape:?} of {stored:?}")));
        }
        let end = offset.checked_add(size);
        let bytes = end.and_then(|end| self.bin.get(offset..end)).ok_or_else(|| {
            at.invalid(format!("{size} bytes at {offset} of {} bytes of weights", self.bin.len()))
        })?;
        let key = (offset, size, stored);
        if let Some(value) = self.read.get(&key) {
            return build.constant(at.node, &shape, value.clone());
        }
        self.bytes += size;
        at_most("bytes of all constants", self.bytes, self.bin.len().saturating_mul(MAX_OVERLAP))?;
        let value = decode(stored, bytes).ok_or_else(|| at.unsupported("an integer beyond 63 bits"))?;
        self.read.insert(key, value.clone());
        build.stored(at.node, &shape, value)
    }
}

/// The type that an attribute names.
pub(super) fn element_type(attributes: &Attributes<'_>, key: &str) -> Result<Stored, ImportError> {
    Ok(match attributes.needed::<String>(key)?.as_str() {
        "f16" => Stored::F16,
        "bf16" => Stored::Bf16,
        "f32" => Stored::F32,
        "f64" => Stored::F64,
        "i8" => Stored::I8,
        "i16" => Stored::I16,
        "i32" => Stored::I32,
        "i64" => Stored::I64,
        "u8" => Stored::U8,
        "u16" => Stored::U16,
        "u32" => Stored::U32,
        "u64" => Stored::U64,
        "boolean" => Stored::Bool,
        other => return Err(attributes.at.unsupported(format!("values of type {}", quoted(other)))),
    })
}
