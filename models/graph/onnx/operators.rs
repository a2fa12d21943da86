//! What each operator of ONNX becomes in the graph: arithmetic, and what only changes shapes. Windows, normalisation
//! and resizing stand in `layers.rs`, what works on constants only in `constants.rs`.

use super::node::Call;
use super::{constants, layers, tensors};
use crate::graph::build::Builder;
use crate::graph::error::ImportError;
use crate::graph::limits::MAX_NODE_INPUTS;
use crate::graph::lower::{Range, axes, axis, size, sizes};
use crate::graph::values::Stored;
use crate::graph::{Binary, Kind, Op, Reduction, TensorId, Unary};

/// Adds the node; returns its outputs, fewer where the rest is not computed.
pub(super) fn lower(build: &mut Builder, call: &Call<'_>) -> Result<Vec<TensorId>, ImportError> {
    let many = match call.at.operator {
        "Split" => split(build, call)?,
        _ => vec![one(build, call)?],
    };
    Ok(many)
}

fn one(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    let unary = |build: &mut Builder, how: Unary| build.unary(at, how, call.input(0)?);
    match at.operator {
        "Add" => binary(build, call, Binary::Add),
        "Sub" => binary(build, call, Binary::Sub),
        "Mul" => binary(build, call, Binary::Mul),
        "Div" => binary(build, call, Binary::Div),
        "Pow" => power(build, call),
        "Max" => fold_left(build, call, Binary::Max),
        "Min" => fold_left(build, call, Binary::Min),
        "Sum" => fold_left(build, call, Binary::Add),
        "Relu" => unary(build, Unary::Relu),
        "LeakyRelu" => unary(build, Unary::LeakyRelu(call.float("alpha", 0.01)?)),
        "Sigmoid" => unary(build, Unary::Sigmoid),
        "HardSigmoid" => {
            unary(build, Unary::HardSigmoid(call.float("alpha", 0.2)?, call.float("beta", 0.5)?))
        }
        "HardSwish" => unary(build, Unary::HardSwish),
        "Tanh" => unary(build, Unary::Tanh),
        "Exp" => unary(build, Unary::Exp),
        "Log" => unary(build, Unary::Log),
        "Sqrt" => unary(build, Unary::Sqrt),
        "Neg" => unary(build, Unary::Neg),
        "Abs" => unary(build, Unary::Abs),
        "Elu" => unary(build, Unary::Elu(call.float("alpha", 1.0)?)),
        "Reciprocal" => {
            let one = build.scalar(at, 1.0)?;
            build.binary(at, Binary::Div, one, call.input(0)?)
        }
        "Clip" => clip(build, call),
        "PRelu" => prelu(build, call),
        "Softmax" => softmax(build, call),
        "MatMul" => build.op(
            at,
            Op::MatMul { transpose_a: false, transpose_b: false },
            &[call.input(0)?, call.input(1)?],
        ),
        "Gemm" => gemm(build, call),
        "ReduceMean" => reduce(build, call, Reduction::Mean),
        "ReduceSum" => reduce(build, call, Reduction::Sum),
        "ReduceMax" => reduce(build, call, Reduction::Max),
        "ReduceMin" => reduce(build, call, Reduction::Min),
        "ReduceL2" => {
            let x = call.input(0)?;
            let square = build.binary(at, Binary::Mul, x, x)?;
            let sum = reduce_of(build, call, Reduction::Sum, square)?;
            build.unary(at, Unary::Sqrt, sum)
        }

        "Identity" => call.input(0),
        // The mask, a second output, is not computed; at inference nothing is dropped.
        "Dropout" => {
            call.ignore(&["ratio", "seed", "is_test"]);
            if call.number(build, 2, 0.0)? != 0.0 {
                return Err(at.unsupported("training"));
            }
            call.input(0)
        }
        "Cast" => cast(build, call),
        "Concat" => {
            let inputs = call.all()?;
            let axis = call.axis(1, build.rank(call.input(0)?))?;
            build.op(at, Op::Concat { axis }, &inputs)
        }
        "Reshape" => {
            let wanted = call.integers(build, 1, "sizes")?;
            build.reshape(at, call.input(0)?, &wanted, !call.flag("allowzero", false)?)
        }
        "Flatten" => flatten(build, call),
        "Squeeze" => {
            let which = call.moved_ints(build, "axes", 13, 1)?;
            build.squeeze(at, call.input(0)?, which.as_deref())
        }
        "Unsqueeze" => {
            let places = call.moved_ints(build, "axes", 13, 1)?.ok_or_else(|| at.invalid("no axes"))?;
            build.unsqueeze(at, call.input(0)?, &places)
        }
        "Transpose" => {
            let x = call.input(0)?;
            let order = match call.ints("perm")? {
                Some(order) => order.to_vec(),
                None => (0..build.rank(x) as i64).rev().collect(),
            };
            build.transpose(at, x, &order)
        }
        "Slice" => slice(build, call),
        "Gather" => {
            let x = call.input(0)?;
            let axis = call.axis(0, build.rank(x))?;
            build.gather(at, x, call.input(1)?, axis)
        }
        "Expand" => {
            let x = call.input(0)?;
            let target = call.sizes(build, 1, "a dimension")?;
            let shape = crate::graph::shape::broadcast(build.shape(x), &target)
                .ok_or_else(|| at.invalid(format!("{:?} and {target:?}", build.shape(x))))?;
            build.shaped(at, Op::Broadcast, &[x], Some(&shape))
        }
        "Tile" => tile(build, call),
        "Pad" => pad(build, call),
        "DepthToSpace" => layers::depth_to_space(build, call),

        "Conv" => layers::conv(build, call),
        "BatchNormalization" => layers::batch_norm(build, call),
        "InstanceNormalization" => layers::instance_norm(build, call),
        "MaxPool" => layers::pool(build, call, false),
        "AveragePool" => layers::pool(build, call, true),
        "GlobalAveragePool" => layers::global_pool(build, call, Reduction::Mean),
        "GlobalMaxPool" => layers::global_pool(build, call, Reduction::Max),
        "Resize" => layers::resize(build, call),
        "Upsample" => layers::upsample(build, call),

        "Shape" => constants::shape_of(build, call),
        "Size" => constants::size_of(build, call),
        "Constant" => constants::constant(build, call),
        "ConstantOfShape" => constants::of_shape(build, call),
        "DequantizeLinear" => constants::dequantize(build, call),
        "Range" => constants::range(build, call),
        "Equal" => constants::compare(build, call, |a, b| a == b),
        "Less" => constants::compare(build, call, |a, b| a < b),
        "Greater" => constants::compare(build, call, |a, b| a > b),
        "Not" => constants::not(build, call),
        "Where" => constants::choose(build, call),
        "Floor" => build.map_constant(at, call.input(0)?, f32::floor),
        "Ceil" => build.map_constant(at, call.input(0)?, f32::ceil),
        "Round" => build.map_constant(at, call.input(0)?, f32::round_ties_even),
        _ => Err(at.unsupported("the operator is not known")),
    }
}

fn binary(build: &mut Builder, call: &Call<'_>, how: Binary) -> Result<TensorId, ImportError> {
    build.binary(call.at, how, call.input(0)?, call.input(1)?)
}

/// The exponent may be of another type than the base.
fn power(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (base, mut exponent) = (call.input(0)?, call.input(1)?);
    if build.get(base).kind == Kind::F32 {
        exponent = build.cast_f32(call.at, exponent)?;
    }
    build.binary(call.at, Binary::Pow, base, exponent)
}

/// Operators that take any number of inputs.
fn fold_left(build: &mut Builder, call: &Call<'_>, how: Binary) -> Result<TensorId, ImportError> {
    let mut made = call.input(0)?;
    for input in call.all()?.into_iter().skip(1) {
        made = build.binary(call.at, how, made, input)?;
    }
    Ok(made)
}

/// Bounds are attributes before opset 11, inputs from then on; one may be missing.
fn clip(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
    if call.opset < 11 {
        low = call.float("min", low)?;
        high = call.float("max", high)?;
    } else {
        low = call.number(build, 1, low)?;
        high = call.number(build, 2, high)?;
    }
    build.unary(call.at, Unary::Clamp(low, high), call.input(0)?)
}

/// Slopes are broadcast to the input; here one per channel or one in all.
fn prelu(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (x, slope) = (call.input(0)?, call.input(1)?);
    let (shape, slopes) = (build.shape(x), build.shape(slope));
    let lead = shape.len().checked_sub(slopes.len());
    let per_channel = lead.is_some_and(|lead| {
        slopes.iter().enumerate().all(|(place, size)| *size == 1 || (place + lead == 1 && *size == shape[1]))
    });
    if !per_channel {
        return Err(call.at.unsupported(format!("slopes {slopes:?} for {shape:?}")));
    }
    let made: Vec<usize> = slopes.iter().copied().filter(|size| *size != 1).collect();
    let slope = build.reshape_to(call.at, slope, &made)?;
    build.op(call.at, Op::PRelu, &[x, slope])
}

/// Before opset 13 everything from the axis on is one dimension.
fn softmax(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let shape = build.shape(x).to_vec();
    let axis = call.axis(if call.opset < 13 { 1 } else { -1 }, shape.len())?;
    if call.opset >= 13 || axis + 1 == shape.len() {
        return build.op(at, Op::Softmax { axis }, &[x]);
    }
    let (lead, rest) = (shape[..axis].iter().product(), shape[axis..].iter().product());
    let flat = build.reshape_to(at, x, &[lead, rest])?;
    let made = build.op(at, Op::Softmax { axis: 1 }, &[flat])?;
    build.reshape_to(at, made, &shape)
}

/// alpha * a * b + beta * c
fn gemm(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    let op =
        Op::MatMul { transpose_a: call.flag("transA", false)?, transpose_b: call.flag("transB", false)? };
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let scaled = |build: &mut Builder, x: TensorId, factor: f32| match factor {
        1.0 => Ok(x),
        _ => {
            let factor = build.scalar(at, factor)?;
            build.binary(at, Binary::Mul, x, factor)
        }
    };
    let product = build.op(at, op, &[call.input(0)?, call.input(1)?])?;
    let product = scaled(build, product, alpha)?;
    match call.optional(2) {
        Some(added) => {
            let added = scaled(build, added, beta)?;
            let shape = build.shape(product).to_vec();
            let sum = build.binary(at, Binary::Add, product, added)?;
            if build.shape(sum) != shape {
                return Err(at.invalid(format!("the sum does not keep the shape {shape:?}")));
            }
            Ok(sum)
        }
        None => Ok(product),
    }
}

fn reduce(build: &mut Builder, call: &Call<'_>, how: Reduction) -> Result<TensorId, ImportError> {
    reduce_of(build, call, how, call.input(0)?)
}

/// Axes became an input with opset 13 for sums and 18 for all others.
fn reduce_of(
    build: &mut Builder,
    call: &Call<'_>,
    how: Reduction,
    x: TensorId,
) -> Result<TensorId, ImportError> {
    let since = if call.at.operator == "ReduceSum" { 13 } else { 18 };
    let told = call.moved_ints(build, "axes", since, 1)?.unwrap_or_default();
    let nothing = call.flag("noop_with_empty_axes", false)?;
    let keep = call.flag("keepdims", true)?;
    let rank = build.rank(x);
    let over = if told.is_empty() && !nothing { (0..rank).collect() } else { axes(call.at, &told, rank)? };
    build.reduce(call.at, how, x, over, keep)
}

fn cast(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    call.ignore(&["saturate", "round_mode"]);
    let to = call.int("to", 0)?;
    match i32::try_from(to).ok().and_then(tensors::stored) {
        Some(Stored::F16 | Stored::Bf16 | Stored::F32 | Stored::F64) => build.cast_f32(at, x),
        Some(Stored::I32 | Stored::I64) => build.cast_i64(at, x),
        Some(Stored::Bool) => {
            let truth = build.map_constant(at, x, |value| f32::from(u8::from(value != 0.0)))?;
            build.cast_i64(at, truth)
        }
        _ => Err(at.unsupported(format!("conversion to type {to}"))),
    }
}

fn flatten(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let x = call.input(0)?;
    let shape = build.shape(x);
    let told = call.int("axis", 1)?;
    // The rank itself is allowed here: all in front, 1 behind.
    let axis = if told == shape.len() as i64 { shape.len() } else { axis(call.at, told, shape.len())? };
    let made = [shape[..axis].iter().product(), shape[axis..].iter().product()];
    build.reshape_to(call.at, x, &made)
}

/// All in attributes before opset 10, in inputs from then on.
fn slice(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let told = |name: &str, place: usize| call.moved_ints(build, name, 10, place);
    let begin = told("starts", 1)?.ok_or_else(|| at.invalid("no starts"))?;
    let end = told("ends", 2)?.ok_or_else(|| at.invalid("no ends"))?;
    let on = told("axes", 3)?.unwrap_or_else(|| (0..begin.len() as i64).collect());
    let step = if call.opset < 10 { None } else { told("steps", 4)? }.unwrap_or_else(|| vec![1; begin.len()]);
    if [end.len(), on.len(), step.len()] != [begin.len(); 3] {
        return Err(at.invalid("as many starts as ends, axes and steps are needed"));
    }
    let rank = build.rank(x);
    axes(at, &on, rank)?;
    let mut ranges = vec![Range::ALL; rank];
    for (place, on) in on.iter().enumerate() {
        ranges[axis(at, *on, rank)?] =
            Range { begin: Some(begin[place]), end: Some(end[place]), step: step[place] };
    }
    build.slice(at, x, &ranges)
}

fn split(build: &mut Builder, call: &Call<'_>) -> Result<Vec<TensorId>, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let axis = call.axis(0, build.rank(x))?;
    let whole = build.shape(x)[axis];
    let told = call.moved_ints(build, "split", 13, 1)?;
    let parts = match call.optional_int("num_outputs")? {
        Some(parts) => size(at, parts, "a number of parts")?,
        None => call.outputs(),
    };
    let lengths = match told {
        Some(lengths) => sizes(at, &lengths, "a part")?,
        None if parts == 0 || parts > whole.min(MAX_NODE_INPUTS) => {
            return Err(at.invalid(format!("{whole} values in {parts} parts")));
        }
        None => {
            // Parts of one size; what does not divide makes the last one smaller.
            let each = whole.div_ceil(parts);
            let last = whole.checked_sub(each * (parts - 1)).filter(|last| *last > 0);
            let last = last.ok_or_else(|| at.invalid(format!("{whole} values in {parts} parts")))?;
            let mut lengths = vec![each; parts];
            lengths[parts - 1] = last;
            lengths
        }
    };
    build.split(at, x, axis, &lengths)
}

/// Repeats the whole along each dimension.
fn tile(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, mut made) = (call.at, call.input(0)?);
    let times = call.sizes(build, 1, "repeats")?;
    if times.len() != build.rank(made) {
        return Err(at.invalid(format!("repeats {times:?} of {:?}", build.shape(made))));
    }
    for (axis, times) in times.into_iter().enumerate() {
        if times == 0 {
            return Err(at.unsupported("no repeats"));
        }
        if times > 1 {
            crate::graph::error::at_most("repeats", times, crate::graph::limits::MAX_NODE_INPUTS)?;
            made = build.op(at, Op::Concat { axis }, &vec![made; times])?;
        }
    }
    Ok(made)
}

/// Padding is an attribute before opset 11; all that is in front comes first, then all behind.
fn pad(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    if call.text("mode", "constant")? != "constant" {
        return Err(at.unsupported("a mode other than constant"));
    }
    let told = call.moved_ints(build, "pads", 11, 1)?.ok_or_else(|| at.invalid("no pads"))?;
    let value = if call.opset < 11 { call.float("value", 0.0)? } else { call.number(build, 2, 0.0)? };
    let rank = build.rank(x);
    let on: Vec<usize> = match call.optional(3) {
        Some(id) => {
            let told = build.integers(at, id, "axes")?;
            told.iter().map(|value| axis(at, *value, rank)).collect::<Result<_, _>>()?
        }
        None => (0..rank).collect(),
    };
    if told.len() != on.len() * 2 {
        return Err(at.invalid(format!("{} paddings for {} axes", told.len(), on.len())));
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (place, axis) in on.iter().enumerate() {
        before[*axis] = size(at, told[place], "padding")?;
        after[*axis] = size(at, told[place + on.len()], "padding")?;
    }
    build.pad(at, x, before, &after, value)
}
