//! Tensors stored in an ONNX file.

use super::proto::{self, element};
use crate::graph::Data;
use crate::graph::build::count;
use crate::graph::error::ImportError;
use crate::graph::values::{Stored, decode, f16};

/// Types that the graph's values can be read from.
pub(super) fn stored(data_type: i32) -> Option<Stored> {
    Some(match data_type {
        element::FLOAT => Stored::F32,
        element::UINT8 => Stored::U8,
        element::INT8 => Stored::I8,
        element::UINT16 => Stored::U16,
        element::INT16 => Stored::I16,
        element::INT32 => Stored::I32,
        element::INT64 => Stored::I64,
        element::BOOL => Stored::Bool,
        element::FLOAT16 => Stored::F16,
        element::DOUBLE => Stored::F64,
        element::UINT32 => Stored::U32,
        element::UINT64 => Stored::U64,
        element::BFLOAT16 => Stored::Bf16,
        _ => return None,
    })
}

/// Shape and values of a tensor in the file. Nothing is allocated that the file does not contain.
pub(super) fn read(tensor: &proto::Tensor) -> Result<(Vec<usize>, Data), ImportError> {
    let wrong = |reason: &str| {
        let name: String = tensor.name.chars().take(64).collect();
        ImportError::malformed(format!("tensor {name:?}: {reason}"))
    };
    if tensor.data_location != 0 || !tensor.external_data.is_empty() {
        return Err(wrong("its values lie in another file, which is not supported"));
    }
    if tensor.segment.is_some() {
        return Err(wrong("it is in pieces, which is not supported"));
    }
    let stored = stored(tensor.data_type).ok_or_else(|| wrong("type of values is not supported"))?;
    let shape = tensor.dims.iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| wrong("negative size"))?;
    let data =
        if tensor.raw_data.is_empty() { typed(tensor, stored) } else { decode(stored, &tensor.raw_data) };
    let data = data.ok_or_else(|| wrong("values do not fit their type"))?;
    if count(&shape)? != data.len() {
        return Err(wrong(&format!("{} values for shape {shape:?}", data.len())));
    }
    Ok((shape, data))
}

/// Values in the field for their type; small types share the field of 32 bits.
fn typed(tensor: &proto::Tensor, stored: Stored) -> Option<Data> {
    let integers = |fits: fn(i64) -> bool| {
        let values = tensor.int32_data.iter().map(|value| i64::from(*value));
        values
            .map(|value| fits(value).then_some(value))
            .collect::<Option<Vec<i64>>>()
            .map(|v| Data::I64(v.into()))
    };
    let halves = |widen: fn(u16) -> f32| {
        let values = tensor.int32_data.iter().map(|value| u16::try_from(*value).ok().map(widen));
        values.collect::<Option<Vec<f32>>>().map(|values| Data::F32(values.into()))
    };
    match stored {
        Stored::F32 => Some(Data::F32(tensor.float_data.as_slice().into())),
        Stored::F64 => Some(Data::F32(tensor.double_data.iter().map(|value| *value as f32).collect())),
        Stored::F16 => halves(f16),
        Stored::Bf16 => halves(|bits| f32::from_bits(u32::from(bits) << 16)),
        Stored::I64 => Some(Data::I64(tensor.int64_data.as_slice().into())),
        Stored::I32 => integers(|_| true),
        Stored::I16 => integers(|value| i16::try_from(value).is_ok()),
        Stored::U16 => integers(|value| u16::try_from(value).is_ok()),
        Stored::I8 => integers(|value| i8::try_from(value).is_ok()),
        Stored::U8 => integers(|value| u8::try_from(value).is_ok()),
        Stored::Bool => integers(|value| value == 0 || value == 1),
        Stored::U32 | Stored::U64 => {
            let values = tensor.uint64_data.iter().map(|value| i64::try_from(*value).ok());
            values.collect::<Option<Vec<i64>>>().map(|values| Data::I64(values.into()))
        }
    }
}
