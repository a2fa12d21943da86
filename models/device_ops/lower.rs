//! From a fused graph to steps with their constants on the device. Everything is written for tensors with the pictures
//! of the batch in front: a tensor of shape S in the graph is `[N, S]` here, so that any graph can be batched, whatever
//! it does with its own dimensions.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::program::{Code, MOST_STAGES, Program, Stage};
use super::resize::Lines;
use super::windows::{Geometry, Pooling};
use crate::cpu::LowerError;
use crate::graph::fuse::{FusedGraph, FusedKind, FusedNode, FusedStage, Quantize};
use crate::graph::{Binary, Data, Kind, Op, Reduction, TensorId, Window};

/// What a step reads.
#[derive(Debug, Clone)]
pub enum Operand {
    /// Something that depends on the picture.
    Made(TensorId),
    /// A constant in the type that the network computes in, in the graph's shape, without a batch.
    Constant(Tensor),
}

/// A program whose tensors of the network are not known yet.
#[derive(Debug)]
pub struct Planned {
    /// Stages; where a tensor of the network is read, it is missing.
    pub program: Program,
    /// Tensors of the network, by stage.
    pub reads: Vec<Option<TensorId>>,
}

impl Planned {
    /// With the tensors of this run.
    pub fn bind(&self, get: impl Fn(TensorId) -> Result<Tensor>) -> Result<Program> {
        let mut program = self.program.clone();
        for (stage, id) in program.stages.iter_mut().zip(&self.reads) {
            if let Some(id) = id {
                stage.tensor = Some(get(*id)?);
            }
        }
        Ok(program)
    }
}

/// Which part of a dimension is taken.
#[derive(Debug)]
pub enum Part {
    /// So many from here on.
    Range(usize, usize),
    /// These, in this order.
    Rows(Tensor),
}

/// How a convolution is computed.
#[derive(Debug)]
pub enum Convolution {
    /// Over its taps directly: weights `[O, C / groups, kh, kw]`.
    Direct { weights: Tensor, groups: usize },
    /// As a product of matrices: weights `[O, C * kh * kw]`.
    Product { weights: Tensor },
}

/// What a step does. Axes count the batch as axis 0.
#[derive(Debug)]
pub enum Work {
    Conv {
        geometry: Geometry,
        how: Convolution,
    },
    /// The programs only.
    Map,
    Pool {
        geometry: Geometry,
        how: Pooling,
    },
    Binary(Binary),
    Power(f32),
    Reduce {
        how: Reduction,
        axes: Vec<usize>,
    },
    Mvn {
        axes: Vec<usize>,
        normalize_variance: bool,
        epsilon: f32,
        inside: bool,
    },
    Softmax(usize),
    MatMul {
        transpose_a: bool,
        transpose_b: bool,
    },
    Concat(usize),
    Take(Vec<(usize, Part)>),
    Reshape,
    Transpose(Vec<usize>),
    Resize([Option<Lines>; 2]),
    Broadcast,
    Pad {
        before: Vec<usize>,
        value: f32,
    },
    /// Input low, input high, steps per unit, unit per step, output low; f32.
    Quantize([Tensor; 5]),
    /// By the plain interpreter, picture by picture, on the host. Constants by place of the input.
    Host {
        op: Op,
        constants: Vec<Option<(Vec<usize>, Data)>>,
        reads: Vec<Option<TensorId>>,
    },
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Name of the node it came from.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// What it reads; empty for work on the host.
    pub inputs: Vec<Operand>,
    /// What follows.
    pub programs: Vec<Planned>,
    /// What it makes.
    pub output: TensorId,
    /// Shape of that for one picture.
    pub shape: Vec<usize>,
    /// Tensors that nobody reads after this step.
    pub last: Vec<TensorId>,
}

impl Step {
    /// All tensors of the network that it reads.
    pub fn reads(&self) -> impl Iterator<Item = TensorId> + '_ {
        let inputs = self.inputs.iter().filter_map(|operand| match operand {
            Operand::Made(id) => Some(*id),
            Operand::Constant(_) => None,
        });
        let host = match &self.work {
            Work::Host { reads, .. } => reads.as_slice(),
            _ => &[],
        };
        let programs = self.programs.iter().flat_map(|planned| planned.reads.iter().flatten().copied());
        inputs.chain(host.iter().flatten().copied()).chain(programs)
    }
}

/// Makes the steps of a graph.
pub struct Lowering<'a> {
    fused: &'a FusedGraph,
    device: &'a Device,
    dtype: DType,
    constants: HashMap<TensorId, Tensor>,
}

/// Input channels of a group up to which going over the taps directly costs less memory traffic than columns.
const FEW_CHANNELS: usize = 4;

fn inner(shape: &[usize]) -> (usize, usize) {
    match shape {
        [_, channels, rest @ ..] => (*channels, rest.iter().product()),
        other => (1, other.iter().product()),
    }
}

impl<'a> Lowering<'a> {
    /// For a device and the type that the network shall compute in.
    pub fn new(fused: &'a FusedGraph, device: &'a Device, dtype: DType) -> Self {
        Self { fused, device, dtype, constants: HashMap::new() }
    }

    fn shape(&self, id: TensorId) -> &'a [usize] {
        &self.fused.graph.tensor(id).shape
    }

    fn upload(&self, values: &[f32], shape: &[usize], dtype: DType) -> Result<Tensor> {
        Tensor::from_slice(values, shape, self.device)?.to_dtype(dtype)
    }

    /// What a node reads.
    pub fn operand(&mut self, id: TensorId) -> Result<Operand> {
        let tensor = self.fused.graph.tensor(id);
        let values = match &tensor.value {
            None => return Ok(Operand::Made(id)),
            Some(Data::F32(values)) => values.clone(),
            Some(Data::I64(values)) => values.iter().map(|value| *value as f32).collect(),
        };
        if let Some(known) = self.constants.get(&id) {
            return Ok(Operand::Constant(known.clone()));
        }
        let uploaded = self.upload(&values, &tensor.shape, self.dtype)?;
        self.constants.insert(id, uploaded.clone());
        Ok(Operand::Constant(uploaded))
    }

    fn constants(&self, values: &[f32]) -> Result<Option<Tensor>> {
        Ok(Some(self.upload(values, &[values.len()], DType::F32)?))
    }

    /// The stages as programs over a tensor of this shape.
    fn programs(
        &self,
        stages: Vec<(Stage, Option<TensorId>)>,
        channels: usize,
        inner: usize,
    ) -> Vec<Planned> {
        let mut programs = Vec::new();
        let mut stages = stages.into_iter().peekable();
        while stages.peek().is_some() {
            let (stages, reads) = stages.by_ref().take(MOST_STAGES).unzip();
            programs.push(Planned { program: Program { stages, channels, inner }, reads });
        }
        programs
    }

    fn stage(&self, stage: &FusedStage) -> Result<(Stage, Option<TensorId>)> {
        Ok(match stage {
            FusedStage::Shift(c) => (Stage::with(Code::Shift, self.constants(c)?), None),
            FusedStage::Scale(c) => (Stage::with(Code::Scale, self.constants(c)?), None),
            FusedStage::PRelu(c) => (Stage::with(Code::PRelu, self.constants(c)?), None),
            FusedStage::Act(act) => (Stage::activation(*act), None),
            FusedStage::Quantize(q) => (Stage::quantize(q), None),
            FusedStage::Add(id) => (Stage::with(Code::Add, None), Some(*id)),
            FusedStage::Mul(id) => (Stage::with(Code::Mul, None), Some(*id)),
            FusedStage::SubFrom(id) => (Stage::with(Code::SubFrom, None), Some(*id)),
            FusedStage::ShiftBy(id) => (Stage::with(Code::ShiftBy, None), Some(*id)),
            FusedStage::ScaleBy(id) => (Stage::with(Code::ScaleBy, None), Some(*id)),
        })
    }

    /// Makes the step of one node.
    pub fn node(&mut self, node: &FusedNode) -> std::result::Result<Step, LowerError> {
        let failed = |reason: String| LowerError { node: node.name.clone(), reason };
        if self.fused.graph.tensor(node.output).kind != Kind::F32 {
            return Err(failed("integers that depend on the picture are not computed on this device".into()));
        }
        self.step(node).map_err(|error| failed(error.to_string()))
    }

    fn step(&mut self, node: &FusedNode) -> Result<Step> {
        let shape = self.shape(node.output);
        let mut step = Step {
            name: node.name.clone(),
            work: Work::Map,
            inputs: Vec::new(),
            programs: Vec::new(),
            output: node.output,
            shape: shape.to_vec(),
            last: Vec::new(),
        };
        let mut stages = node.stages.iter().map(|s| self.stage(s)).collect::<Result<Vec<_>>>()?;
        let (mut channels, mut inner) = inner(shape);
        match &node.kind {
            FusedKind::Conv { window, groups, weights } => {
                step.work = self.conv(node.inputs[0], node.output, *window, *groups, weights)?;
            }
            FusedKind::Map => {}
            FusedKind::Op(op) => match self.op(op, node, &mut stages)? {
                Some(work) => step.work = work,
                None => {
                    step.work = self.host(op, &node.inputs);
                    return Ok(step);
                }
            },
        }
        // One slope or one constant for everything, whatever the dimensions mean.
        if stages
            .iter()
            .any(|(s, _)| s.code.reads_constants() && s.tensor.as_ref().is_some_and(|t| t.elem_count() == 1))
        {
            (channels, inner) = (1, shape.iter().product());
        }
        step.programs = self.programs(stages, channels.max(1), inner.max(1));
        let reads = match (&node.kind, &step.work) {
            // Everything else that these have as inputs is in the work or in the stages.
            (FusedKind::Conv { .. }, _)
            | (_, Work::Map | Work::Conv { .. } | Work::Power(_) | Work::Take(_) | Work::Quantize(_)) => {
                &node.inputs[..1]
            }
            _ => node.inputs.as_slice(),
        };
        step.inputs = reads.iter().map(|id| self.operand(*id)).collect::<Result<_>>()?;
        Ok(step)
    }

    fn geometry(&self, x: TensorId, made: TensorId, window: Window) -> Result<Geometry> {
        let (&[_, c, h, w], &[_, o, oh, ow]) = (self.shape(x), self.shape(made)) else {
            bail!("a window needs pictures, not {:?}", self.shape(x));
        };
        Ok(Geometry { channels: [c, o], input: [h, w], output: [oh, ow], window })
    }

    fn conv(
        &self,
        x: TensorId,
        made: TensorId,
        window: Window,
        groups: usize,
        weights: &[f32],
    ) -> Result<Work> {
        let geometry = self.geometry(x, made, window)?;
        let [read, made] = geometry.channels;
        let per_group = read / groups.max(1);
        let direct = groups > 1 || (per_group <= FEW_CHANNELS && !geometry.is_pointwise());
        let how = if direct {
            let [kh, kw] = window.kernel;
            Convolution::Direct {
                weights: self.upload(weights, &[made, per_group, kh, kw], self.dtype)?,
                groups,
            }
        } else {
            Convolution::Product {
                weights: self.upload(weights, &[made, read * geometry.taps()], self.dtype)?,
            }
        };
        Ok(Work::Conv { geometry, how })
    }

    /// What to do for an operator that was not fused; none if it is work for the host.
    fn op(
        &self,
        op: &Op,
        node: &FusedNode,
        stages: &mut Vec<(Stage, Option<TensorId>)>,
    ) -> Result<Option<Work>> {
        let graph = &self.fused.graph;
        let inputs = &node.inputs;
        let (x, shape) = (self.shape(inputs[0]), self.shape(node.output));
        if graph.tensor(inputs[0]).kind != Kind::F32 || shape.contains(&0) {
            return Ok(None);
        }
        let behind = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
        Ok(Some(match op {
            Op::Conv { window, groups } => {
                let Some(weights) = graph.constant(inputs[1]) else { return Ok(None) };
                if let Some(bias) = inputs.get(2) {
                    let Some(bias) = graph.constant(*bias) else { return Ok(None) };
                    stages.push((Stage::with(Code::Shift, self.constants(bias)?), None));
                }
                self.conv(inputs[0], node.output, *window, *groups, weights)?
            }
            Op::BatchNorm { epsilon } => {
                let (Some(scale), Some(shift), Some(mean), Some(variance)) = (
                    graph.constant(inputs[1]),
                    graph.constant(inputs[2]),
                    graph.constant(inputs[3]),
                    graph.constant(inputs[4]),
                ) else {
                    return Ok(None);
                };
                let factor: Vec<f32> =
                    scale.iter().zip(variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
                let offset: Vec<f32> =
                    shift.iter().zip(mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
                stages.push((Stage::with(Code::Scale, self.constants(&factor)?), None));
                stages.push((Stage::with(Code::Shift, self.constants(&offset)?), None));
                Work::Map
            }
            Op::Unary(act) => {
                stages.push((Stage::activation(*act), None));
                Work::Map
            }
            Op::PRelu => {
                let Some(slopes) = graph.constant(inputs[1]) else { return Ok(None) };
                stages.push((Stage::with(Code::PRelu, self.constants(slopes)?), None));
                Work::Map
            }
            // Powers of two tensors are e^(y ln x) in candle, which is wrong for x < 0.
            Op::Binary(Binary::Pow) => match graph.constant(inputs[1]) {
                Some([exponent]) if self.shape(inputs[1]).len() <= x.len() => Work::Power(*exponent),
                _ => return Ok(None),
            },
            Op::Binary(how) => Work::Binary(*how),
            Op::MaxPool(window) => {
                Work::Pool { geometry: self.geometry(inputs[0], node.output, *window)?, how: Pooling::Max }
            }
            Op::AvgPool { window, count_padding } => {
                let how = if *count_padding { Pooling::MeanWithPadding } else { Pooling::Mean };
                Work::Pool { geometry: self.geometry(inputs[0], node.output, *window)?, how }
            }
            Op::Reduce { how, axes, .. } => Work::Reduce { how: *how, axes: behind(axes) },
            Op::Mvn { axes, normalize_variance, epsilon, inside } => Work::Mvn {
                axes: behind(axes),
                normalize_variance: *normalize_variance,
                epsilon: *epsilon,
                inside: *inside,
            },
            Op::Softmax { axis } => Work::Softmax(axis + 1),
            Op::MatMul { transpose_a, transpose_b } => {
                Work::MatMul { transpose_a: *transpose_a, transpose_b: *transpose_b }
            }
            Op::Concat { axis } => Work::Concat(axis + 1),
            Op::Slice { begin, step } => Work::Take(self.slice(x, begin, step, shape)?),
            Op::Gather { axis } => {
                let Some(rows) = graph.tensor(inputs[1]).value.as_ref().and_then(Data::i64) else {
                    return Ok(None);
                };
                let size = x[*axis];
                let row = |row: &i64| {
                    let row = if *row < 0 { row.checked_add(size as i64)? } else { *row };
                    u32::try_from(row).ok().filter(|row| (*row as usize) < size)
                };
                let Some(rows) = rows.iter().map(row).collect::<Option<Vec<u32>>>() else {
                    bail!("an index lies outside of {size}");
                };
                Work::Take(vec![(axis + 1, Part::Rows(Tensor::from_slice(&rows, rows.len(), self.device)?))])
            }
            Op::Reshape => Work::Reshape,
            Op::Transpose { order } => Work::Transpose(behind(order)),
            Op::Resize(sampling) => {
                let lines = |axis: usize| Lines::new(*sampling, x[axis], shape[axis], axis + 1, self.device);
                Work::Resize([lines(2)?, lines(3)?])
            }
            Op::Broadcast => Work::Broadcast,
            Op::Pad { before, value } => Work::Pad { before: before.clone(), value: *value },
            Op::FakeQuantize { levels } => return self.quantize(*levels, inputs, stages),
            Op::PriorBoxClustered(_) | Op::DetectionOutput(_) => return Ok(None),
        }))
    }

    fn slice(
        &self,
        x: &[usize],
        begin: &[usize],
        step: &[isize],
        shape: &[usize],
    ) -> Result<Vec<(usize, Part)>> {
        let mut parts = Vec::new();
        for axis in 0..x.len() {
            let (first, by, count) = (begin[axis], step[axis], shape[axis]);
            if by == 1 {
                if count != x[axis] {
                    parts.push((axis + 1, Part::Range(first, count)));
                }
                continue;
            }
            let rows: Vec<u32> =
                (0..count).map(|i| first.wrapping_add_signed(i as isize * by) as u32).collect();
            parts.push((axis + 1, Part::Rows(Tensor::from_slice(&rows, rows.len(), self.device)?)));
        }
        // Ranges first: they make what is copied smaller.
        parts.sort_by_key(|(_, part)| matches!(part, Part::Rows(_)));
        Ok(parts)
    }

    fn quantize(
        &self,
        levels: usize,
        inputs: &[TensorId],
        stages: &mut Vec<(Stage, Option<TensorId>)>,
    ) -> Result<Option<Work>> {
        let mut ranges = Vec::new();
        for id in &inputs[1..] {
            let Some(values) = self.fused.graph.constant(*id) else { return Ok(None) };
            ranges.push(self.upload(values, self.shape(*id), DType::F32)?);
        }
        let [in_low, in_high, out_low, out_high] = ranges.as_slice() else { return Ok(None) };
        let span = in_high.broadcast_sub(in_low)?;
        if span.flatten_all()?.to_vec1::<f32>()?.iter().any(|span| span.is_nan() || *span <= 0.0) {
            return Ok(None);
        }
        let steps = (levels - 1) as f32;
        if let [[il], [ih], [ol], [oh]] =
            [1, 2, 3, 4].map(|i| self.fused.graph.constant(inputs[i]).unwrap_or(&[]))
        {
            stages.push((Stage::quantize(&Quantize { input: [*il, *ih], output: [*ol, *oh], steps }), None));
            return Ok(Some(Work::Map));
        }
        let scale = (span.recip()? * f64::from(steps))?;
        let out_scale = (out_high.broadcast_sub(out_low)? / f64::from(steps))?;
        Ok(Some(Work::Quantize([in_low.clone(), in_high.clone(), scale, out_scale, out_low.clone()])))
    }

    fn host(&self, op: &Op, inputs: &[TensorId]) -> Work {
        let graph = &self.fused.graph;
        let constants = inputs.iter().map(|id| {
            let tensor = graph.tensor(*id);
            tensor.value.clone().map(|value| (tensor.shape.clone(), value))
        });
        let constants: Vec<_> = constants.collect();
        let reads =
            inputs.iter().zip(&constants).map(|(id, constant)| constant.is_none().then_some(*id)).collect();
        Work::Host { op: op.clone(), constants, reads }
    }
}
