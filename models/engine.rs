//! A network that can be run: on the CPU one planned graph inside one candle operator, on a GPU candle's operators and
//! our kernels one by one.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, InplaceOp2, Layout, Tensor};

use crate::cpu::lanes::Isa;
use crate::cpu::{LowerError, Plan, StepCost};
use crate::device::{DeviceChoice, Precision};
use crate::graph::Graph;

/// A network cannot be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its graph has something that there is no way to compute.
    #[error("the network cannot run here: {0}")]
    Lower(#[from] LowerError),
    /// The device is not there or has no memory left.
    #[error("device {device}: {reason}")]
    Device {
        /// As it was asked for.
        device: String,
        /// What it said.
        reason: String,
    },
}

/// A network failed on a picture.
#[derive(Debug, thiserror::Error)]
#[error("inference on {device} failed: {reason}")]
pub struct RunError {
    /// Where.
    pub device: String,
    /// What the device said.
    pub reason: String,
}

/// An input or output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the file.
    pub name: String,
    /// Sizes of its dimensions for one picture.
    pub shape: Vec<usize>,
}

impl Port {
    fn of(graph: &Graph, ids: &[crate::graph::TensorId]) -> Vec<Self> {
        let port = |&id| {
            let tensor = graph.tensor(id);
            Self { name: tensor.name.clone(), shape: tensor.shape.clone() }
        };
        ids.iter().map(port).collect()
    }

    /// Values for one picture.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// A dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A network ready to run on one device. Not shared: each inference thread has its own.
#[derive(Debug)]
pub struct Engine {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    executor: Executor,
    /// Results of the last run, one vector per output.
    values: Vec<Vec<f32>>,
}

#[derive(Debug)]
enum Executor {
    Cpu(OnCpu),
    #[cfg(feature = "cuda")]
    Cuda(Box<crate::cuda::OnCuda>),
}

/// What a run gave.
#[derive(Debug)]
pub struct Outputs<'a> {
    values: &'a [Vec<f32>],
}

impl Outputs<'_> {
    /// All pictures of the batch one after the other; outputs are numbered as [`Engine::outputs`] lists them.
    ///
    /// # Panics
    /// When there is no output of this number.
    pub fn get(&self, index: usize) -> &[f32] {
        &self.values[index]
    }
}

impl Engine {
    /// Makes a network ready: fuses, plans, packs the weights. The graph has one input, with batch 1.
    ///
    /// # Errors
    /// When the device is not there, or the graph cannot run on it.
    pub fn load(graph: Graph, device: DeviceChoice) -> Result<Self, LoadError> {
        Self::load_as(graph, device, Precision::default())
    }

    /// The same with a choice of what a GPU computes in.
    ///
    /// # Errors
    /// As for [`Engine::load`].
    pub fn load_as(graph: Graph, device: DeviceChoice, precision: Precision) -> Result<Self, LoadError> {
        // The CPU computes in f32 whatever is chosen.
        #[cfg(not(feature = "cuda"))]
        let _ = precision;
        let (inputs, outputs) = (Port::of(&graph, &graph.inputs), Port::of(&graph, &graph.outputs));
        let executor = match device.resolve() {
            #[cfg(feature = "cuda")]
            DeviceChoice::Cuda(ordinal) => {
                Executor::Cuda(Box::new(crate::cuda::OnCuda::load(graph, ordinal, precision)?))
            }
            #[cfg(not(feature = "cuda"))]
            DeviceChoice::Cuda(ordinal) => {
                return Err(LoadError::Device {
                    device: format!("cuda:{ordinal}"),
                    reason: "this build has no support for CUDA (feature `cuda`)".to_owned(),
                });
            }
            DeviceChoice::Auto | DeviceChoice::Cpu => Executor::Cpu(OnCpu::load(graph, Isa::best())?),
        };
        let values = outputs.iter().map(|_| Vec::new()).collect();
        Ok(Self { inputs, outputs, executor, values })
    }

    /// What it takes.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What it gives.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Where it computes: `cpu`, `cuda:0`.
    pub fn device(&self) -> String {
        match &self.executor {
            Executor::Cpu(_) => "cpu".to_owned(),
            #[cfg(feature = "cuda")]
            Executor::Cuda(cuda) => cuda.name(),
        }
    }

    /// Several pictures at once are cheaper than one after the other.
    pub fn likes_batches(&self) -> bool {
        !matches!(self.executor, Executor::Cpu(_))
    }

    /// Bytes of working memory, without weights; 0 where the device does not say.
    pub fn memory_bytes(&self) -> usize {
        match &self.executor {
            Executor::Cpu(cpu) => cpu.op.plan.lock().unwrap_or_else(PoisonError::into_inner).memory_bytes(),
            #[cfg(feature = "cuda")]
            Executor::Cuda(_) => 0,
        }
    }

    /// Runs on `batch` pictures. `fill` writes them, row-major, one after the other.
    ///
    /// # Errors
    /// When the device fails, or the batch is empty.
    pub fn run(&mut self, batch: usize, fill: &mut dyn FnMut(&mut [f32])) -> Result<Outputs<'_>, RunError> {
        // Its first line: candle appends a backtrace where those are asked for.
        let failed =
            |error: candle_core::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        let done = match &mut self.executor {
            _ if batch == 0 => Err("an empty batch".to_owned()),
            Executor::Cpu(cpu) => cpu.run(batch, fill, &self.outputs, &mut self.values).map_err(failed),
            #[cfg(feature = "cuda")]
            Executor::Cuda(cuda) => cuda.run(batch, fill, &mut self.values).map_err(failed),
        };
        match done {
            Ok(()) => Ok(Outputs { values: &self.values }),
            Err(reason) => Err(RunError { device: self.device(), reason }),
        }
    }

    /// What each step costs on an input of zeros, on the CPU; empty elsewhere.
    pub fn profile(&mut self) -> Vec<StepCost> {
        match &mut self.executor {
            Executor::Cpu(cpu) => {
                let mut plan = cpu.op.plan.lock().unwrap_or_else(PoisonError::into_inner);
                let input = vec![0.5; plan.input_len()];
                plan.profile(&input)
            }
            #[cfg(feature = "cuda")]
            Executor::Cuda(_) => Vec::new(),
        }
    }
}

/// The whole plan as one operator: reads the input tensor, writes the output tensor.
#[derive(Debug)]
struct PlanOp {
    plan: Mutex<Plan>,
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (from, to) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("the tensor is not contiguous".into()))?;
    Ok(&storage.as_slice::<f32>()?[from..to])
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((from, to))) => Ok(&mut values[from..to]),
        _ => Err(candle_core::Error::Msg("the tensor is not contiguous f32".into())),
    }
}

impl InplaceOp2 for PlanOp {
    fn name(&self) -> &'static str {
        "planned-network"
    }

    fn cpu_fwd(
        &self,
        outputs: &mut CpuStorage,
        outputs_layout: &Layout,
        inputs: &CpuStorage,
        inputs_layout: &Layout,
    ) -> candle_core::Result<()> {
        let inputs = values(inputs, inputs_layout)?;
        let outputs = values_mut(outputs, outputs_layout)?;
        // A panic in the middle of a run leaves nothing in the plan that the next run would read.
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let (input_len, output_len) = (plan.input_len(), plan.output_len());
        for (input, output) in inputs.chunks_exact(input_len).zip(outputs.chunks_exact_mut(output_len)) {
            plan.run(input, output);
        }
        Ok(())
    }
}

/// Writes the pictures of a batch.
type Filler<'a> = &'a mut dyn FnMut(&mut [f32]);

/// Lets the caller write a tensor's values where they lie.
struct Fill<'a>(Mutex<Filler<'a>>);

// The trait object inside is only called on this thread; candle asks for nothing more of an in-place operator.
impl InplaceOp1 for Fill<'_> {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let mut fill = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (*fill)(values_mut(storage, layout)?);
        Ok(())
    }
}

/// A plan with the tensors it reads and writes, which are kept from frame to frame.
#[derive(Debug)]
struct OnCpu {
    op: PlanOp,
    batch: usize,
    input: Tensor,
    output: Tensor,
    lens: (usize, usize),
}

impl OnCpu {
    fn load(graph: Graph, isa: Isa) -> Result<Self, LoadError> {
        let plan = Plan::new(graph, isa)?;
        let lens = (plan.input_len(), plan.output_len());
        let empty = |len| {
            Tensor::zeros(len, DType::F32, &Device::Cpu)
                .map_err(|e| LoadError::Device { device: "cpu".to_owned(), reason: e.to_string() })
        };
        Ok(Self {
            op: PlanOp { plan: Mutex::new(plan) },
            batch: 1,
            input: empty(lens.0)?,
            output: empty(lens.1)?,
            lens,
        })
    }

    fn run(
        &mut self,
        batch: usize,
        fill: &mut dyn FnMut(&mut [f32]),
        ports: &[Port],
        outputs: &mut [Vec<f32>],
    ) -> candle_core::Result<()> {
        if batch != self.batch {
            self.input = Tensor::zeros(batch * self.lens.0, DType::F32, &Device::Cpu)?;
            self.output = Tensor::zeros(batch * self.lens.1, DType::F32, &Device::Cpu)?;
            self.batch = batch;
        }
        self.input.inplace_op1(&Fill(Mutex::new(fill)))?;
        self.output.inplace_op2(&self.input, &self.op)?;
        outputs.iter_mut().for_each(Vec::clear);
        let (storage, layout) = self.output.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            return Err(candle_core::Error::Msg("the output is not on the CPU".into()));
        };
        let mut rest = values(storage, layout)?;
        for _ in 0..batch {
            for (port, output) in ports.iter().zip(outputs.iter_mut()) {
                let (own, after) = rest.split_at(port.len());
                output.extend_from_slice(own);
                rest = after;
            }
        }
        Ok(())
    }
}
