//! A few steps of arithmetic per value in one pass over memory: bias, activation, residual, gate. The same program runs
//! behind a convolution kernel and by itself, on the GPU as a small interpreter in the kernel (every thread takes the
//! same turn), on the CPU as plain code that says what it means.

use candle_core::{
    CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Shape, Storage, StorageRef, Tensor,
    WithDType, bail,
};

use crate::graph::Unary;
use crate::graph::fuse::Quantize;

/// What a stage does. The numbers are those of `cuda/kernels.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[expect(missing_docs, reason = "the names are those of the stages and activations of the graph")]
pub enum Code {
    Shift = 0,
    Scale = 1,
    PRelu = 2,
    Add = 3,
    Mul = 4,
    SubFrom = 5,
    ShiftBy = 6,
    ScaleBy = 7,
    Quantize = 8,
    Relu = 9,
    LeakyRelu = 10,
    Sigmoid = 11,
    Silu = 12,
    HardSwish = 13,
    HardSigmoid = 14,
    Clamp = 15,
    Exp = 16,
    Log = 17,
    Sqrt = 18,
    Tanh = 19,
    Neg = 20,
    Abs = 21,
    Elu = 22,
}

impl Code {
    /// Constants per channel, in f32 whatever the network computes in.
    pub fn reads_constants(self) -> bool {
        matches!(self, Code::Shift | Code::Scale | Code::PRelu)
    }

    /// A tensor of the network: as large as the values, or one value per picture and channel.
    pub fn reads_tensor(self) -> bool {
        matches!(self, Code::Add | Code::Mul | Code::SubFrom | Code::ShiftBy | Code::ScaleBy)
    }
}

/// One step.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What it does.
    pub code: Code,
    /// Its parameters.
    pub numbers: [f32; 5],
    /// What it reads.
    pub tensor: Option<Tensor>,
}

impl Stage {
    /// A stage with constants or a tensor.
    pub fn with(code: Code, tensor: Option<Tensor>) -> Self {
        Self { code, numbers: [0.0; 5], tensor }
    }

    /// An activation.
    pub fn activation(act: Unary) -> Self {
        let (code, a, b) = match act {
            Unary::Relu => (Code::Relu, 0.0, 0.0),
            Unary::LeakyRelu(slope) => (Code::LeakyRelu, slope, 0.0),
            Unary::Sigmoid => (Code::Sigmoid, 0.0, 0.0),
            Unary::Silu => (Code::Silu, 0.0, 0.0),
            Unary::HardSwish => (Code::HardSwish, 0.0, 0.0),
            Unary::HardSigmoid(alpha, beta) => (Code::HardSigmoid, alpha, beta),
            Unary::Clamp(low, high) => (Code::Clamp, low, high),
            Unary::Exp => (Code::Exp, 0.0, 0.0),
            Unary::Log => (Code::Log, 0.0, 0.0),
            Unary::Sqrt => (Code::Sqrt, 0.0, 0.0),
            Unary::Tanh => (Code::Tanh, 0.0, 0.0),
            Unary::Neg => (Code::Neg, 0.0, 0.0),
            Unary::Abs => (Code::Abs, 0.0, 0.0),
            Unary::Elu(alpha) => (Code::Elu, alpha, 0.0),
        };
        Self { code, numbers: [a, b, 0.0, 0.0, 0.0], tensor: None }
    }

    /// Rounding to steps.
    pub fn quantize(q: &Quantize) -> Self {
        let [low, high] = q.input;
        let numbers = [low, high, q.steps / (high - low), (q.output[1] - q.output[0]) / q.steps, q.output[0]];
        Self { code: Code::Quantize, numbers, tensor: None }
    }
}

/// Most stages that one pass takes; a longer program becomes several passes.
pub const MOST_STAGES: usize = 12;

/// Stages, and how the values lie that they are applied to: `[.., channels, inner]`.
#[derive(Debug, Clone)]
pub struct Program {
    /// In order, at most [`MOST_STAGES`].
    pub stages: Vec<Stage>,
    /// Channels.
    pub channels: usize,
    /// Values of one channel that lie together.
    pub inner: usize,
}

/// Where the values of a contiguous tensor lie in its storage.
pub(super) fn range(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(range) => Ok(range),
        None => bail!("the tensor is not contiguous"),
    }
}

/// The values of a contiguous tensor.
pub(super) fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let (from, to) = range(layout)?;
    Ok(&storage.as_slice::<T>()?[from..to])
}

/// The values of a contiguous tensor on the CPU as f32.
pub(super) fn floats(storage: &CpuStorage, layout: &Layout) -> Result<Vec<f32>> {
    match storage {
        CpuStorage::F32(_) => Ok(slice::<f32>(storage, layout)?.to_vec()),
        CpuStorage::F16(values) => {
            let (from, to) = range(layout)?;
            Ok(values[from..to].iter().map(|value| value.to_f32()).collect())
        }
        _ => bail!("neither f32 nor f16"),
    }
}

/// f32 as storage of a type.
pub(super) fn stored(values: Vec<f32>, dtype: DType) -> Result<CpuStorage> {
    fn narrowed<T: WithDType>(values: &[f32]) -> Vec<T> {
        values.iter().map(|value| T::from_f64(f64::from(*value))).collect()
    }
    match dtype {
        DType::F32 => Ok(CpuStorage::F32(values)),
        DType::F16 => Ok(CpuStorage::F16(narrowed(&values))),
        other => bail!("neither f32 nor f16 but {other:?}"),
    }
}

/// The values of a tensor that lies on the CPU.
fn on_cpu((storage, layout): (StorageRef<'_>, &Layout)) -> Result<Vec<f32>> {
    match &*storage {
        Storage::Cpu(storage) => floats(storage, layout),
        _ => bail!("a stage reads a tensor of another device"),
    }
}

fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// One stage on one value: number `at` of all, in plane `at / inner`. `read` has what the stage reads.
fn step(stage: &Stage, read: &[f32], x: f32, at: usize, plane: usize, channel: usize) -> f32 {
    let [a, b, scale, out_scale, out_low] = stage.numbers;
    match stage.code {
        Code::Shift => x + read[channel],
        Code::Scale => x * read[channel],
        Code::PRelu => {
            if x > 0.0 {
                x
            } else {
                x * read[channel]
            }
        }
        Code::Add => x + read[at],
        Code::Mul => x * read[at],
        Code::SubFrom => read[at] - x,
        Code::ShiftBy => x + read[plane],
        Code::ScaleBy => x * read[plane],
        Code::Quantize => ((clamp(x, a, b) - a) * scale).round_ties_even() * out_scale + out_low,
        Code::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Code::LeakyRelu => {
            if x > 0.0 {
                x
            } else {
                x * a
            }
        }
        Code::Sigmoid => sigmoid(x),
        Code::Silu => x * sigmoid(x),
        Code::HardSwish => x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
        Code::HardSigmoid => clamp(a * x + b, 0.0, 1.0),
        Code::Clamp => clamp(x, a, b),
        Code::Exp => x.exp(),
        Code::Log => x.ln(),
        Code::Sqrt => x.sqrt(),
        Code::Tanh => x.tanh(),
        Code::Neg => -x,
        Code::Abs => x.abs(),
        Code::Elu => {
            if x > 0.0 {
                x
            } else {
                a * x.exp_m1()
            }
        }
    }
}

impl Program {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Every tensor that is read has the size that its stage reads: nothing is read beyond an end, on any device.
    pub(crate) fn check(&self, values: usize) -> Result<()> {
        let block = self.channels * self.inner;
        if self.stages.len() > MOST_STAGES || !values.is_multiple_of(block) {
            bail!("{values} values do not fit a program of {} x {}", self.channels, self.inner);
        }
        for stage in &self.stages {
            let needed = match stage.code {
                Code::Shift | Code::Scale | Code::PRelu => self.channels,
                Code::Add | Code::Mul | Code::SubFrom => values,
                Code::ShiftBy | Code::ScaleBy => values / self.inner,
                _ => continue,
            };
            let given = stage.tensor.as_ref().map_or(0, Tensor::elem_count);
            if given != needed {
                bail!("a stage {:?} reads {needed} values, {given} are given", stage.code);
            }
        }
        Ok(())
    }

    /// Applies the stages to values on the CPU.
    pub(super) fn apply(&self, values: &mut [f32]) -> Result<()> {
        self.check(values.len())?;
        for stage in &self.stages {
            let read = match &stage.tensor {
                Some(tensor) => on_cpu(tensor.storage_and_layout())?,
                None => Vec::new(),
            };
            for (plane, run) in values.chunks_exact_mut(self.inner).enumerate() {
                let channel = plane % self.channels;
                for (i, x) in run.iter_mut().enumerate() {
                    *x = step(stage, &read, *x, plane * self.inner + i, plane, channel);
                }
            }
        }
        Ok(())
    }
}

/// Replaces the values of a tensor that nobody else reads.
impl InplaceOp1 for Program {
    fn name(&self) -> &'static str {
        "program"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (from, to) = range(layout)?;
        let mut values = floats(storage, layout)?;
        self.apply(&mut values)?;
        match storage {
            CpuStorage::F32(all) => all[from..to].copy_from_slice(&values),
            CpuStorage::F16(all) => {
                let CpuStorage::F16(narrowed) = stored(values, DType::F16)? else {
                    bail!("f16 was asked for")
                };
                all[from..to].copy_from_slice(&narrowed);
            }
            _ => bail!("neither f32 nor f16"),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        crate::cuda::launch::program_in_place(self, storage, layout)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_fwd(&self, _: &mut CudaStorage, _: &Layout) -> Result<()> {
        bail!("this build has no support for CUDA")
    }
}

/// The same, into a new tensor.
impl candle_core::CustomOp1 for Program {
    fn name(&self) -> &'static str {
        "program"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = floats(storage, layout)?;
        self.apply(&mut values)?;
        let dtype = if matches!(storage, CpuStorage::F16(_)) { DType::F16 } else { DType::F32 };
        Ok((stored(values, dtype)?, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        crate::cuda::launch::program(self, storage, layout)
    }
}
