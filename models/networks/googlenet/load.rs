//! From a file of weights to the network: every tensor is there with its shape, and nothing else is, before anything is
//! computed.

use std::collections::{BTreeSet, HashMap};

use candle_core::Tensor;

use super::{Config, GoogLeNet, expected, is_left_over};
use crate::graph::Graph;
use crate::networks::error::ModelError;
use crate::weights::{Format, tensors};

/// The tensor that says how many classes there are.
const BIAS: &str = "fc.bias";
/// Most classes: more is no classifier of pictures.
const MAX_CLASSES: usize = 1 << 16;

/// Reads weights and makes the graph of the network.
///
/// # Errors
/// When the file cannot be read as weights, or they are not those of a GoogLeNet.
pub fn import(name: &str, format: Format, bytes: &[u8]) -> Result<Graph, ModelError> {
    let mut all = tensors::read(format, bytes)
        .map_err(|source| ModelError::Tensors { network: name.to_owned(), source })?;
    let misfit = |reason: String| ModelError::Misfit { network: name.to_owned(), reason };
    let config = check(&all).map_err(misfit)?;
    all.retain(|name, _| !is_left_over(name));
    let network = GoogLeNet::of_tensors(config, all).map_err(|error| misfit(first_line(&error)))?;
    network.graph().map_err(misfit)
}

fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    format!("cannot be computed: {}", text.lines().next().unwrap_or_default())
}

/// Whether these are the weights of a GoogLeNet, and of which.
///
/// # Errors
/// What is wrong, to be said behind the network's name.
pub fn check(tensors: &HashMap<String, Tensor>) -> Result<Config, String> {
    let bias = tensors
        .get(BIAS)
        .ok_or_else(|| format!("has no tensor {BIAS}: these are no weights of a GoogLeNet"))?;
    let classes = match bias.dims() {
        [classes @ 1..=MAX_CLASSES] => *classes,
        other => {
            return Err(format!("has a tensor {BIAS} of shape {other:?}, not of one dimension [classes]"));
        }
    };
    let expected = expected(classes);
    for (name, shape) in &expected {
        let found = tensors.get(name).ok_or_else(|| format!("has no tensor {name}"))?;
        if found.dims() != shape.as_slice() {
            return Err(format!("has a tensor {name} of shape {:?}, not {shape:?}", found.dims()));
        }
    }
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let strange = tensors.keys().filter(|name| !known.contains(name.as_str()) && !is_left_over(name)).min();
    match strange {
        None => Ok(Config::of_classes(classes)),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(format!("has a tensor {name:?}, which no GoogLeNet has"))
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// Weights of nothing but zeros, apart from variances.
    fn zeros(classes: usize) -> HashMap<String, Tensor> {
        expected(classes)
            .into_iter()
            .map(|(name, shape)| (name, Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()))
            .collect()
    }

    #[test]
    fn every_shape_is_checked() {
        let good = zeros(3);
        assert_eq!(check(&good), Ok(Config { classes: 3, transform_input: true }));
        let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        for (name, shape) in expected(3) {
            let mut missing = good.clone();
            missing.remove(&name);
            let complaint = check(&missing).unwrap_err();
            assert!(complaint.contains(&name), "{complaint}");
            let mut other = good.clone();
            other.insert(name.clone(), one.clone());
            // A bias of another length means another number of classes: then it is the weight that does not fit.
            let blamed = if name == BIAS { "fc.weight" } else { &name };
            let complaint = check(&other).unwrap_err();
            assert!(complaint.contains(blamed) && complaint.contains("shape"), "{shape:?}: {complaint}");
        }
    }

    #[test]
    fn what_training_leaves_is_passed_over_and_nothing_else() {
        let mut more = zeros(2);
        let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        for name in ["aux1.fc2.weight", "aux2.conv.bn.bias", "conv1.bn.num_batches_tracked"] {
            more.insert(name.to_owned(), one.clone());
        }
        assert!(check(&more).is_ok());
        more.insert("layer1.0.conv1.weight".to_owned(), one);
        assert!(check(&more).unwrap_err().contains("layer1.0.conv1.weight"));
        assert!(check(&HashMap::new()).unwrap_err().contains("no weights of a GoogLeNet"));
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused() {
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("broken.safetensors");
        let mut all = zeros(2);
        let variance = Tensor::new(vec![-1f32; 64], &Device::Cpu).unwrap();
        all.insert("conv2.bn.running_var".to_owned(), variance);
        candle_core::safetensors::save(&all, &path).unwrap();
        let error = import("broken", Format::Safetensors, &std::fs::read(&path).unwrap()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("broken") && message.contains("conv2"), "{message}");
        let error = import("broken", Format::Torch, b"nothing").unwrap_err();
        assert!(matches!(error, ModelError::Tensors { .. }), "{error}");
    }
}
