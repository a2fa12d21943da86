//! Tensors by name out of a file that holds nothing but weights: safetensors, or a state dict of `torch.save`. What
//! network they belong to is not known here.

use std::collections::HashMap;

use candle_core::safetensors::{Load, SliceSafetensors};
use candle_core::{DType, Device, Tensor};

use super::Format;
use super::torch::{self, Scalar, TorchError};

/// Why a file's tensors cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorsError {
    /// A file of `torch.save`.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A safetensors file.
    #[error("is no safetensors file that can be read: {0}")]
    Safetensors(String),
    /// A tensor that cannot be taken.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file with a graph.
    #[error("is a file with a graph, not with weights alone")]
    Graph,
}

/// The tensors of a file. Numbers that are no floating point (counters of training) are left out.
///
/// # Errors
/// See [`TensorsError`].
pub fn read(format: Format, bytes: &[u8]) -> Result<HashMap<String, Tensor>, TensorsError> {
    match format {
        Format::Torch => of_torch(bytes),
        Format::Safetensors => of_safetensors(bytes),
        Format::Onnx | Format::OpenVino => Err(TensorsError::Graph),
    }
}

/// A message without the backtrace that candle appends where those are asked for.
fn first_line(error: impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn of_torch(bytes: &[u8]) -> Result<HashMap<String, Tensor>, TensorsError> {
    let mut tensors = HashMap::new();
    for weight in torch::read(bytes)? {
        let dtype = match weight.scalar {
            Scalar::F64 => DType::F64,
            Scalar::F32 => DType::F32,
            Scalar::F16 => DType::F16,
            Scalar::Bf16 => DType::BF16,
            _ => continue,
        };
        let failed = |reason: String| TensorsError::Tensor { name: weight.name.clone(), reason };
        let tensor = Tensor::from_raw_buffer(weight.bytes, dtype, &weight.shape, &Device::Cpu)
            .map_err(|error| failed(first_line(error)))?;
        if tensors.insert(weight.name.clone(), tensor).is_some() {
            return Err(failed("stands there twice".to_owned()));
        }
    }
    Ok(tensors)
}

fn of_safetensors(bytes: &[u8]) -> Result<HashMap<String, Tensor>, TensorsError> {
    let file = SliceSafetensors::new(bytes).map_err(|error| TensorsError::Safetensors(first_line(error)))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let failed = |error: candle_core::Error| TensorsError::Tensor {
            name: name.clone(),
            reason: first_line(error),
        };
        let tensor = view.load(&Device::Cpu).map_err(failed)?;
        if tensor.dtype().is_float() {
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_the_same_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        let read_back = |format, bytes: &[u8]| {
            let mut all: Vec<_> = read(format, bytes).unwrap().into_iter().collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all.into_iter()
                .map(|(name, tensor)| {
                    let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                    (name, tensor.dims().to_vec(), values.to_vec1::<f32>().unwrap())
                })
                .collect::<Vec<_>>()
        };
        let small = read_back(Format::Torch, include_bytes!("torch/fixtures/small_archive.pth"));
        assert_eq!(small.len(), 4, "the counter is left out");
        let mut again: HashMap<String, Tensor> = small
            .iter()
            .map(|(name, shape, values)| {
                (name.clone(), Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap())
            })
            .collect();
        again.insert("counter".to_owned(), Tensor::new(&[3i64], &Device::Cpu).unwrap());
        candle_core::safetensors::save(&again, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(read_back(Format::Safetensors, &bytes), small);
        for cut in 0..bytes.len() {
            assert!(read(Format::Safetensors, &bytes[..cut]).is_err(), "{cut}");
        }
        assert_eq!(read(Format::Onnx, &bytes).unwrap_err(), TensorsError::Graph);
    }
}
