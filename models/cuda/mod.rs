//! NVIDIA GPUs: one candle device per GPU for the whole process, and the executor on it. The kernels are in
//! `kernels.cu`, their launches in `launch`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result};

use crate::device::Precision;
use crate::device_ops::OnDevice;
use crate::engine::LoadError;
use crate::graph::Graph;

pub(crate) mod launch;

/// The GPUs that have been asked for.
static DEVICES: Mutex<Option<HashMap<usize, Device>>> = Mutex::new(None);

/// The GPU of this number. All networks of a process share one candle device and its one stream: modules are loaded
/// once, and everything on a GPU happens in one order.
///
/// # Errors
/// When there is no such GPU, or its driver cannot be used.
pub fn device(ordinal: usize) -> Result<Device> {
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let devices = devices.get_or_insert_default();
    if let Some(device) = devices.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(ordinal)?;
    launch::one_stream(&device)?;
    devices.insert(ordinal, device.clone());
    Ok(device)
}

/// A network on a GPU.
#[derive(Debug)]
pub struct OnCuda {
    ordinal: usize,
    network: OnDevice,
}

impl OnCuda {
    /// Brings a network to the GPU of this number.
    ///
    /// # Errors
    /// When the GPU is not there or has no memory left, or the graph cannot be computed.
    pub fn load(graph: Graph, ordinal: usize, precision: Precision) -> std::result::Result<Self, LoadError> {
        // candle writes a backtrace behind the first line where the environment asks for them.
        let failed = |error: candle_core::Error| LoadError::Device {
            device: format!("cuda:{ordinal}"),
            reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        let device = device(ordinal).map_err(failed)?;
        Ok(Self { ordinal, network: OnDevice::load(graph, &device, precision)? })
    }

    /// Runs on `batch` pictures, which `fill` writes one after the other, and replaces `values` by the outputs.
    ///
    /// # Errors
    /// When the GPU fails.
    pub fn run(
        &mut self,
        batch: usize,
        fill: &mut dyn FnMut(&mut [f32]),
        values: &mut [Vec<f32>],
    ) -> Result<()> {
        self.network.run(batch, fill, values)
    }

    /// `cuda:0`.
    pub fn name(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use crate::device::{DeviceChoice, Precision};
    use crate::engine::Engine;
    use crate::graph::{Graph, Kind, Node, Op, Tensor, TensorId, Unary};

    /// With a GPU both take it; without one `auto` takes the CPU, and asking for it is an error that says what is wrong.
    #[test]
    fn takes_the_gpu_or_says_why_not() {
        let tensor =
            |name: &str| Tensor { name: name.into(), shape: vec![1, 4], kind: Kind::F32, value: None };
        let node = Node {
            name: "relu".into(),
            op: Op::Unary(Unary::Relu),
            inputs: vec![TensorId(0)],
            output: TensorId(1),
        };
        let graph = Graph {
            tensors: vec![tensor("x"), tensor("y")],
            nodes: vec![node],
            inputs: vec![TensorId(0)],
            outputs: vec![TensorId(1)],
        };
        let there = super::device(0).is_ok();
        let mut auto = Engine::load(graph.clone(), DeviceChoice::Auto).unwrap();
        assert_eq!(auto.device(), if there { "cuda:0" } else { "cpu" });
        let made = auto.run(2, &mut |x| x.fill(-1.0)).unwrap();
        assert_eq!(made.get(0), &[0.0; 8]);
        match Engine::load_as(graph, DeviceChoice::Cuda(0), Precision::F16) {
            Ok(engine) => assert!(there && engine.device() == "cuda:0"),
            Err(error) => {
                let text = error.to_string();
                assert!(!there && text.starts_with("device cuda:0: ") && text.lines().count() == 1, "{text}");
            }
        }
    }
}
