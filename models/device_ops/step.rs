//! Running one step on tensors that lie on a device, the pictures of the batch in front.

use candle_core::{DType, Result, Tensor, bail};

use super::lower::{Convolution, Operand, Part, Planned, Step, Work};
use super::program::Program;
use super::windows::{Columns, Direct, Geometry, Pool};
use crate::graph::reference::{self, Operand as HostOperand};
use crate::graph::{Binary, Data, Reduction, TensorId};

/// Most values of columns at once; a larger batch is convolved in parts.
const MOST_COLUMNS: usize = 1 << 27;

/// A value of a run. What the host made stays there until a step of the device reads it: numbers of detections would
/// suffer in f16.
#[derive(Debug, Clone)]
pub enum Value {
    /// On the device.
    Device(Tensor),
    /// On the host, all pictures one after the other.
    Host(std::sync::Arc<[f32]>),
}

/// What a step may see of a run.
pub struct Run<'a> {
    /// By number of the tensor.
    pub values: &'a mut [Option<Value>],
    /// Shapes of all tensors for one picture.
    pub shapes: &'a [Vec<usize>],
    /// Pictures.
    pub batch: usize,
    /// What the network computes in, and where.
    pub dtype: DType,
    /// Where.
    pub device: &'a candle_core::Device,
}

impl Run<'_> {
    fn value(&self, id: TensorId) -> Result<&Value> {
        match self.values.get(id.0) {
            Some(Some(value)) => Ok(value),
            _ => bail!("tensor {} has not been made", id.0),
        }
    }

    /// The tensor on the device.
    pub fn tensor(&self, id: TensorId) -> Result<Tensor> {
        match self.value(id)? {
            Value::Device(tensor) => Ok(tensor.clone()),
            Value::Host(values) => {
                let shape = batched(self.batch, &self.shapes[id.0]);
                Tensor::from_slice(values, shape, self.device)?.to_dtype(self.dtype)
            }
        }
    }

    /// Its values on the host.
    pub fn host(&self, id: TensorId) -> Result<std::sync::Arc<[f32]>> {
        match self.value(id)? {
            Value::Host(values) => Ok(values.clone()),
            Value::Device(tensor) => Ok(tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?.into()),
        }
    }

    fn operand(&self, operand: &Operand) -> Result<Tensor> {
        match operand {
            Operand::Made(id) => self.tensor(*id),
            Operand::Constant(tensor) => Ok(tensor.clone()),
        }
    }

    /// The operand with the batch in front, and ones behind it up to `rank` dimensions of the graph.
    fn batched(&self, operand: &Operand, rank: usize) -> Result<Tensor> {
        let tensor = self.operand(operand)?;
        let (lead, dims) = match operand {
            Operand::Made(_) => (self.batch, &tensor.dims()[1..]),
            Operand::Constant(_) => (1, tensor.dims()),
        };
        let mut shape = vec![lead];
        shape.resize(1 + rank.saturating_sub(dims.len()), 1);
        shape.extend_from_slice(dims);
        tensor.reshape(shape)
    }
}

/// The shape with the batch in front.
pub fn batched(batch: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(batch).chain(shape.iter().copied()).collect()
}

impl Step {
    /// Computes what the step makes.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&self, run: &Run<'_>) -> Result<Value> {
        if let Work::Host { op, constants, reads } = &self.work {
            return on_host(op, constants, reads, run, &self.shape);
        }
        let shape = batched(run.batch, &self.shape);
        let x = match self.inputs.first() {
            Some(first @ Operand::Made(_)) => run.operand(first)?,
            Some(Operand::Constant(tensor)) => tensor.unsqueeze(0)?,
            None => bail!("a step without inputs"),
        };
        let x = x.contiguous()?;
        // A direct convolution does the first program itself; what it made, others change where it lies.
        let (made, rest) = match &self.work {
            Work::Map => match self.programs.split_first() {
                Some((first, rest)) => (x.apply_op1_no_bwd(&bind(first, run)?)?, rest),
                None => (x, &self.programs[..]),
            },
            Work::Conv { geometry, how: Convolution::Direct { weights, groups } } => {
                let (program, rest) = match self.programs.split_first() {
                    Some((first, rest)) => (bind(first, run)?, rest),
                    None => (Program { stages: Vec::new(), channels: 1, inner: 1 }, &self.programs[..]),
                };
                let op = Direct { geometry: *geometry, groups: *groups, weights, program: &program };
                (x.apply_op1_no_bwd(&op)?, rest)
            }
            Work::Conv { geometry, how: Convolution::Product { weights } } => {
                (product(geometry, weights, &x)?, &self.programs[..])
            }
            _ => (self.other(run, &x, &shape)?, &self.programs[..]),
        };
        let made = if made.dims() == shape { made } else { made.reshape(shape)? };
        let made = made.contiguous()?;
        for planned in rest {
            made.inplace_op1(&bind(planned, run)?)?;
        }
        Ok(Value::Device(made))
    }

    fn other(&self, run: &Run<'_>, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let dtype = run.dtype;
        let rank = self.shape.len();
        match &self.work {
            Work::Pool { geometry, how } => x.apply_op1_no_bwd(&Pool { geometry: *geometry, how: *how }),
            Work::Power(exponent) => x.powf(f64::from(*exponent)),
            Work::Binary(how) => {
                let [a, b] = [run.batched(&self.inputs[0], rank)?, run.batched(&self.inputs[1], rank)?];
                match how {
                    Binary::Add => a.broadcast_add(&b),
                    Binary::Sub => a.broadcast_sub(&b),
                    Binary::Mul => a.broadcast_mul(&b),
                    Binary::Div => a.broadcast_div(&b),
                    Binary::Max => a.broadcast_maximum(&b),
                    Binary::Min => a.broadcast_minimum(&b),
                    Binary::Pow => bail!("powers are computed elsewhere"),
                }
            }
            Work::Reduce { how, axes } => reduce(*how, axes, &x.to_dtype(DType::F32)?)?.to_dtype(dtype),
            Work::Mvn { axes, normalize_variance, epsilon, inside } => {
                let x = x.to_dtype(DType::F32)?;
                let centred = x.broadcast_sub(&reduce(Reduction::Mean, axes, &x)?)?;
                if !normalize_variance {
                    return centred.to_dtype(dtype);
                }
                let variance = reduce(Reduction::Mean, axes, &centred.sqr()?)?;
                let epsilon = f64::from(*epsilon);
                let divisor =
                    if *inside { (variance + epsilon)?.sqrt()? } else { (variance.sqrt()? + epsilon)? };
                centred.broadcast_div(&divisor)?.to_dtype(dtype)
            }
            Work::Softmax(axis) => {
                let x = x.to_dtype(DType::F32)?;
                let powers = x.broadcast_sub(&x.max_keepdim(*axis)?)?.exp()?;
                powers.broadcast_div(&powers.sum_keepdim(*axis)?)?.to_dtype(dtype)
            }
            Work::MatMul { transpose_a, transpose_b } => self.matmul(run, [*transpose_a, *transpose_b]),
            Work::Concat(axis) => {
                let whole = |operand: &Operand| {
                    let tensor = run.batched(operand, rank)?;
                    let dims = batched(run.batch, &tensor.dims()[1..]);
                    tensor.broadcast_as(dims)
                };
                let parts = self.inputs.iter().map(whole).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&parts, *axis)
            }
            Work::Take(parts) => {
                let mut x = x.clone();
                for (axis, part) in parts {
                    x = match part {
                        Part::Range(begin, len) => x.narrow(*axis, *begin, *len)?,
                        Part::Rows(rows) => x.contiguous()?.index_select(rows, *axis)?,
                    };
                }
                Ok(x)
            }
            Work::Reshape => x.reshape(shape),
            Work::Transpose(order) => {
                let order: Vec<usize> = std::iter::once(0).chain(order.iter().copied()).collect();
                x.permute(order)
            }
            Work::Resize(sides) => {
                let mut x = x.clone();
                for lines in sides.iter().flatten() {
                    x = lines.apply(&x)?;
                }
                Ok(x)
            }
            Work::Broadcast => run.batched(&self.inputs[0], rank)?.broadcast_as(shape),
            Work::Pad { before, value } => pad(x, before, *value, shape),
            Work::Quantize([low, high, scale, out_scale, out_low]) => {
                let x = x.to_dtype(DType::F32)?.broadcast_maximum(low)?.broadcast_minimum(high)?;
                let number = x.broadcast_sub(low)?.broadcast_mul(scale)?.round()?;
                number.broadcast_mul(out_scale)?.broadcast_add(out_low)?.to_dtype(dtype)
            }
            Work::Map | Work::Conv { .. } | Work::Host { .. } => bail!("is computed elsewhere"),
        }
    }

    fn matmul(&self, run: &Run<'_>, transposed: [bool; 2]) -> Result<Tensor> {
        let rank = self.shape.len();
        let (rows, columns) = (self.shape[rank - 2], self.shape[rank - 1]);
        let oriented = |i: usize| {
            let tensor = run.batched(&self.inputs[i], rank)?;
            if transposed[i] { tensor.transpose(rank - 1, rank)?.contiguous() } else { tensor.contiguous() }
        };
        let (a, b) = (oriented(0)?, oriented(1)?);
        let inner = a.dim(rank)?;
        if b.elem_count() == inner * columns {
            // One matrix for all: the rows of everything else form one matrix too.
            let a = a.broadcast_as(batched(run.batch, &a.dims()[1..]))?.contiguous()?;
            return a.reshape(((), inner))?.matmul(&b.reshape((inner, columns))?);
        }
        let mut lead = batched(run.batch, &self.shape[..rank - 2]);
        let matrices: usize = lead.iter().product();
        let mut whole = |tensor: &Tensor, last: [usize; 2]| {
            lead.truncate(rank - 1);
            lead.extend(last);
            tensor.broadcast_as(lead.as_slice())?.contiguous()?.reshape((matrices, last[0], last[1]))
        };
        let (a, b) = (whole(&a, [rows, inner])?, whole(&b, [inner, columns])?);
        a.matmul(&b)
    }
}

fn bind(planned: &Planned, run: &Run<'_>) -> Result<Program> {
    planned.bind(|id| run.tensor(id)?.contiguous())
}

/// A convolution as weights times columns.
fn product(geometry: &Geometry, weights: &Tensor, x: &Tensor) -> Result<Tensor> {
    let [read, made] = geometry.channels;
    let (taps, places) = (read * geometry.taps(), geometry.made());
    let planes = x.elem_count() / (read * geometry.read()).max(1);
    let times = |columns: &Tensor| {
        let pictures = columns.dim(0)?;
        if places == 1 {
            // One place each: the pictures of the batch are the rows of one matrix.
            return columns.reshape((pictures, taps))?.matmul(&weights.t()?)?.reshape((pictures, made, 1));
        }
        weights.broadcast_as((pictures, made, taps))?.matmul(columns)
    };
    if geometry.is_pointwise() {
        return times(&x.reshape((planes, read, places))?);
    }
    let x = x.reshape((planes, read, geometry.input[0], geometry.input[1]))?;
    let at_once = (MOST_COLUMNS / (taps * places).max(1)).max(1);
    if planes <= at_once {
        return times(&x.apply_op1_no_bwd(&Columns { geometry: *geometry })?);
    }
    let mut parts = Vec::new();
    for first in (0..planes).step_by(at_once) {
        let part = x.narrow(0, first, at_once.min(planes - first))?;
        parts.push(times(&part.apply_op1_no_bwd(&Columns { geometry: *geometry })?)?);
    }
    Tensor::cat(&parts, 0)
}

/// Reduces these dimensions to size 1.
fn reduce(how: Reduction, axes: &[usize], x: &Tensor) -> Result<Tensor> {
    match how {
        Reduction::Mean => x.mean_keepdim(axes.to_vec()),
        Reduction::Sum => x.sum_keepdim(axes.to_vec()),
        Reduction::Max => axes.iter().try_fold(x.clone(), |x, axis| x.max_keepdim(*axis)),
        Reduction::Min => axes.iter().try_fold(x.clone(), |x, axis| x.min_keepdim(*axis)),
    }
}

/// Adds a constant around everything but the batch.
fn pad(x: &Tensor, before: &[usize], value: f32, shape: &[usize]) -> Result<Tensor> {
    let mut x = x.clone();
    for (i, first) in before.iter().enumerate() {
        let axis = i + 1;
        let mut dims = x.dims().to_vec();
        let Some(after) = shape[axis].checked_sub(dims[axis] + first) else {
            bail!("more is added than there is room for");
        };
        let mut filler = |len: usize| {
            dims[axis] = len;
            Tensor::full(value, dims.as_slice(), x.device())?.to_dtype(x.dtype())
        };
        let mut parts = Vec::new();
        if *first > 0 {
            parts.push(filler(*first)?);
        }
        let behind = if after > 0 { Some(filler(after)?) } else { None };
        parts.push(x.clone());
        parts.extend(behind);
        if parts.len() > 1 {
            x = Tensor::cat(&parts, axis)?;
        }
    }
    Ok(x)
}

/// One operator for each picture by the plain interpreter.
fn on_host(
    op: &crate::graph::Op,
    constants: &[Option<(Vec<usize>, Data)>],
    reads: &[Option<TensorId>],
    run: &Run<'_>,
    shape: &[usize],
) -> Result<Value> {
    let mut fetched = Vec::with_capacity(reads.len());
    for id in reads {
        fetched.push(match id {
            Some(id) => Some((run.shapes[id.0].as_slice(), run.host(*id)?)),
            None => None,
        });
    }
    let mut made = Vec::with_capacity(run.batch * shape.iter().product::<usize>());
    for picture in 0..run.batch {
        let own: Vec<Option<(&[usize], Data)>> = fetched
            .iter()
            .map(|fetched| {
                fetched.as_ref().map(|(shape, values)| {
                    let len = shape.iter().product::<usize>();
                    (*shape, Data::F32(values[picture * len..(picture + 1) * len].into()))
                })
            })
            .collect();
        let operands: Vec<HostOperand<'_>> = own
            .iter()
            .zip(constants)
            .filter_map(|(own, constant)| match (own, constant) {
                (Some((shape, data)), _) => Some(HostOperand { shape, data }),
                (None, Some((shape, data))) => Some(HostOperand { shape, data }),
                (None, None) => None,
            })
            .collect();
        match reference::compute(op, &operands, shape).map_err(candle_core::Error::msg)? {
            Data::F32(values) => made.extend_from_slice(&values),
            Data::I64(_) => bail!("integers were made"),
        }
    }
    Ok(Value::Host(made.into()))
}
