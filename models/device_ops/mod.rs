//! The executor for devices that are not the CPU: the fused graph runs operator by operator on candle tensors, a whole
//! batch at once. Dense convolutions are candle's product of matrices; what candle lacks or does slowly (depthwise
//! convolutions, pools with padding, bias and activation in one pass) are operators of our own. Nothing in here knows
//! which device it is, so on candle's CPU device all of it is tested without a GPU; the CPU itself is served by
//! [`crate::cpu`], which is many times as fast.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::cpu::LowerError;
use crate::device::Precision;
use crate::engine::LoadError;
use crate::graph::fuse::{FusedGraph, fuse};
use crate::graph::{Graph, Kind, TensorId};
use lower::{Lowering, Operand, Step, Work};
use step::{Run, Value, batched};

mod lower;
pub mod program;
mod resize;
mod step;
pub mod windows;

#[cfg(test)]
mod tests;

/// Most values of one tensor: kernels count in 32 bits.
const MOST_VALUES: usize = i32::MAX as usize;

/// A network on a device.
#[derive(Debug)]
pub struct OnDevice {
    device: Device,
    dtype: DType,
    input: TensorId,
    outputs: Vec<Operand>,
    shapes: Vec<Vec<usize>>,
    steps: Vec<Step>,
    /// Pictures at once, so that no tensor has more than [`MOST_VALUES`].
    most: usize,
    /// Where the pictures are written before they go to the device.
    staging: Vec<f32>,
}

impl OnDevice {
    /// Fuses the graph and brings its constants to the device.
    ///
    /// # Errors
    /// When the graph does not take exactly one picture, has something that cannot be computed, or the device has no
    /// memory left.
    pub fn load(graph: Graph, device: &Device, precision: Precision) -> std::result::Result<Self, LoadError> {
        let dtype = match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        };
        let refused = |node: &str, reason: &str| LowerError { node: node.into(), reason: reason.into() };
        let (input, outputs) = (graph.inputs.clone(), graph.outputs.clone());
        let [input] = input[..] else {
            return Err(refused("input", "a network with one input is needed").into());
        };
        for id in std::iter::once(&input).chain(&outputs) {
            let tensor = graph.tensor(*id);
            if tensor.kind != Kind::F32 {
                return Err(refused(&tensor.name, "integers are not taken or given on this device").into());
            }
        }
        let fused = fuse(graph);
        let mut lowering = Lowering::new(&fused, device, dtype);
        let mut steps =
            fused.nodes.iter().map(|n| lowering.node(n)).collect::<std::result::Result<Vec<_>, _>>()?;
        let outputs = outputs.iter().map(|id| lowering.operand(*id)).collect::<Result<Vec<_>>>();
        let outputs = outputs.map_err(|e| LoadError::Device {
            device: format!("{:?}", device.location()),
            reason: e.to_string(),
        })?;
        forget(&mut steps, &outputs);
        let shapes: Vec<Vec<usize>> = fused.graph.tensors.iter().map(|tensor| tensor.shape.clone()).collect();
        let most = pictures_at_once(&fused, &steps);
        if most == 0 {
            return Err(refused("graph", "a tensor has too many values for this device").into());
        }
        Ok(Self { device: device.clone(), dtype, input, outputs, shapes, steps, most, staging: Vec::new() })
    }

    /// Runs on `batch` pictures, which `fill` writes one after the other, and replaces `values` by the outputs.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(
        &mut self,
        batch: usize,
        fill: &mut dyn FnMut(&mut [f32]),
        values: &mut [Vec<f32>],
    ) -> Result<()> {
        let len = self.shapes[self.input.0].iter().product::<usize>();
        let mut staging = std::mem::take(&mut self.staging);
        staging.resize(batch * len, 0.0);
        fill(&mut staging);
        values.iter_mut().for_each(Vec::clear);
        let mut done = Ok(());
        for pictures in staging.chunks((self.most * len).max(1)) {
            done = done.and_then(|()| self.pass(pictures, pictures.len() / len.max(1), values));
        }
        self.staging = staging;
        done
    }

    fn pass(&self, pictures: &[f32], batch: usize, outputs: &mut [Vec<f32>]) -> Result<()> {
        let mut values: Vec<Option<Value>> = vec![None; self.shapes.len()];
        let input = Tensor::from_slice(pictures, batched(batch, &self.shapes[self.input.0]), &self.device)?;
        values[self.input.0] = Some(Value::Device(input.to_dtype(self.dtype)?));
        let run =
            Run { values: &mut values, shapes: &self.shapes, batch, dtype: self.dtype, device: &self.device };
        for step in &self.steps {
            let made = step.run(&run).map_err(|e| e.context(format!("node {:?}", step.name)))?;
            run.values[step.output.0] = Some(made);
            for id in &step.last {
                run.values[id.0] = None;
            }
        }
        if outputs.len() != self.outputs.len() {
            bail!("{} outputs are made, {} asked for", self.outputs.len(), outputs.len());
        }
        for (output, into) in self.outputs.iter().zip(outputs) {
            match output {
                Operand::Made(id) => into.extend_from_slice(&run.host(*id)?),
                Operand::Constant(tensor) => {
                    let constant = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                    (0..batch).for_each(|_| into.extend_from_slice(&constant));
                }
            }
        }
        Ok(())
    }
}

/// Notes at each step what nobody reads after it.
fn forget(steps: &mut [Step], outputs: &[Operand]) {
    let mut needed: Vec<TensorId> = outputs
        .iter()
        .filter_map(|operand| match operand {
            Operand::Made(id) => Some(*id),
            Operand::Constant(_) => None,
        })
        .collect();
    for step in steps.iter_mut().rev() {
        let mut last: Vec<TensorId> = Vec::new();
        for id in step.reads().chain([step.output]) {
            if !needed.contains(&id) {
                needed.push(id);
                last.push(id);
            }
        }
        step.last = last;
    }
}

/// How many pictures at once keep every tensor within [`MOST_VALUES`]; 0 if not even one does. Columns are made of as
/// few pictures as needed, so only those of one picture count.
fn pictures_at_once(fused: &FusedGraph, steps: &[Step]) -> usize {
    let tensors =
        fused.graph.tensors.iter().filter(|tensor| tensor.value.is_none()).map(|tensor| tensor.len());
    let too_many = steps.iter().any(|step| match &step.work {
        Work::Conv { geometry, .. } => geometry.channels[0] * geometry.taps() * geometry.made() > MOST_VALUES,
        _ => false,
    });
    if too_many { 0 } else { MOST_VALUES / tensors.max().unwrap_or(0).max(1) }
}
