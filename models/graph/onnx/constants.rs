//! Operators of ONNX that make constants, or that are understood for constants only: what exporters leave behind of
//! shapes, anchors and quantisation.

use std::sync::Arc;

use super::node::Call;
use super::tensors;
use crate::graph::build::{Builder, count};
use crate::graph::error::{ImportError, at_most};
use crate::graph::limits::MAX_FOLDED_ELEMENTS;
use crate::graph::lower::{Range, axis};
use crate::graph::{Binary, Data, Kind, Op, TensorId};

/// The sizes of a tensor, or from one dimension up to another.
pub(super) fn shape_of(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let x = call.input(0)?;
    let sizes: Vec<i64> = build.shape(x).iter().map(|size| *size as i64).collect();
    let whole = build.row(call.at, &sizes)?;
    let (begin, end) = (call.int("start", 0)?, call.optional_int("end")?);
    if begin == 0 && end.is_none() {
        return Ok(whole);
    }
    build.slice(call.at, whole, &[Range { begin: Some(begin), end, step: 1 }])
}

pub(super) fn size_of(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let size = count(build.shape(call.input(0)?))? as i64;
    build.constant(call.at.node, &[], Data::I64(Arc::new([size])))
}

pub(super) fn constant(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let name = call.at.node;
    if let Some(tensor) = call.tensor("value")? {
        let (shape, data) = tensors::read(tensor)?;
        return build.stored(name, &shape, data);
    }
    if let Some(value) = call.optional_float("value_float")? {
        return build.constant(name, &[], Data::F32(Arc::new([value])));
    }
    if let Some(value) = call.optional_int("value_int")? {
        return build.constant(name, &[], Data::I64(Arc::new([value])));
    }
    if let Some(values) = call.floats("value_floats")? {
        return build.stored(name, &[values.len()], Data::F32(values.into()));
    }
    if let Some(values) = call.ints("value_ints")? {
        return build.stored(name, &[values.len()], Data::I64(values.into()));
    }
    Err(call.at.unsupported("a constant without numbers"))
}

/// One value (0 of f32 when none is given) repeated to a shape.
pub(super) fn of_shape(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    let shape = call.sizes(build, 0, "a dimension")?;
    let value = match call.tensor("value")? {
        Some(tensor) => tensors::read(tensor)?.1,
        None => Data::F32(Arc::new([0.0])),
    };
    if value.len() != 1 {
        return Err(at.invalid(format!("{} values instead of one", value.len())));
    }
    let one = build.constant(at.node, &[], value)?;
    count(&shape)?;
    build.shaped(at, Op::Broadcast, &[one], Some(&shape))
}

/// (x - zero point) * scale, each for the whole tensor or per index of one axis.
pub(super) fn dequantize(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    call.only("block_size", 0)?;
    call.ignore(&["output_dtype"]);
    let x = call.input(0)?;
    let rank = build.rank(x);
    let told = call.int("axis", 1)?;
    if build.get(x).value.is_none() {
        return Err(at.unsupported("8-bit values that depend on the input"));
    }
    let mut made = build.cast_f32(at, x)?;
    for (place, how) in [(2, Binary::Sub), (1, Binary::Mul)] {
        let Some(parameter) = call.optional(place) else { continue };
        let parameter = build.cast_f32(at, parameter)?;
        let parameter = match build.shape(parameter) {
            [] | [1] => build.reshape_to(at, parameter, &[])?,
            &[size] => {
                let mut shape = vec![1; rank];
                shape[axis(at, told, rank)?] = size;
                build.reshape_to(at, parameter, &shape)?
            }
            other => return Err(at.unsupported(format!("scales of shape {other:?}"))),
        };
        made = build.binary(at, how, made, parameter)?;
    }
    if build.shape(made) != build.shape(x) {
        return Err(at.invalid("scales do not fit"));
    }
    Ok(made)
}

/// Numbers from the first up to (without) the second in steps of the third.
pub(super) fn range(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    let of = |place: usize| call.input(place);
    if call.on_integers(build) {
        let one = |place: usize| -> Result<i64, ImportError> {
            match build.integers(at, of(place)?, "a bound")?.as_slice() {
                [value] => Ok(*value),
                _ => Err(at.invalid("a bound is no single number")),
            }
        };
        let (start, end, step) = (i128::from(one(0)?), i128::from(one(1)?), i128::from(one(2)?));
        let way = end - start;
        let size = match step {
            0 => return Err(at.invalid("a step of 0")),
            _ if way == 0 || (way > 0) != (step > 0) => 0,
            _ => usize::try_from(way.unsigned_abs().div_ceil(step.unsigned_abs())).unwrap_or(usize::MAX),
        };
        at_most("numbers of a range", size, MAX_FOLDED_ELEMENTS)?;
        let values = (0..size).map(|index| i64::try_from(start + index as i128 * step).unwrap_or(i64::MAX));
        let values: Arc<[i64]> = values.collect();
        return build.made(at, &[size], Data::I64(values));
    }
    let one = |place: usize| build.float(at, of(place)?, "a bound");
    let (start, end, step) = (one(0)?, one(1)?, one(2)?);
    let size = ((end - start) / step).ceil();
    if size.is_nan() || size > MAX_FOLDED_ELEMENTS as f32 {
        return Err(at.invalid(format!("a range from {start} to {end} in steps of {step}")));
    }
    let values: Arc<[f32]> = (0..size.max(0.0) as usize).map(|index| start + index as f32 * step).collect();
    build.made(at, &[values.len()], Data::F32(values))
}

/// 1 where two constants compare so, else 0.
pub(super) fn compare(
    build: &mut Builder,
    call: &Call<'_>,
    of: fn(f64, f64) -> bool,
) -> Result<TensorId, ImportError> {
    let at = call.at;
    let (a, b, shape) = same_shape(build, call, 0, 1)?;
    let numbers = |build: &Builder, id: TensorId| -> Result<Vec<f64>, ImportError> {
        match &build.get(id).value {
            Some(Data::I64(values)) => Ok(values.iter().map(|value| *value as f64).collect()),
            Some(Data::F32(values)) => Ok(values.iter().map(|value| f64::from(*value)).collect()),
            None => Err(at.unsupported("a comparison that depends on the input")),
        }
    };
    let (a, b) = (numbers(build, a)?, numbers(build, b)?);
    let values: Arc<[i64]> = a.iter().zip(&b).map(|(a, b)| i64::from(of(*a, *b))).collect();
    build.made(at, &shape, Data::I64(values))
}

pub(super) fn not(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let x = call.input(0)?;
    let values: Arc<[i64]> =
        build.integers(call.at, x, "conditions")?.into_iter().map(|value| i64::from(value == 0)).collect();
    let shape = build.shape(x).to_vec();
    build.made(call.at, &shape, Data::I64(values))
}

/// From the first of two constants where the condition holds, else from the second.
pub(super) fn choose(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    let condition = build.integers(at, call.input(0)?, "conditions")?;
    // A condition that is the same everywhere chooses one of the two whatever they are.
    let (a, b) = (call.input(1)?, call.input(2)?);
    let whole = crate::graph::shape::broadcast(build.shape(a), build.shape(b))
        .and_then(|shape| crate::graph::shape::broadcast(&shape, build.shape(call.input(0).ok()?)))
        .ok_or_else(|| at.invalid("shapes do not fit"))?;
    count(&whole)?;
    let one_sided = match condition.iter().filter(|value| **value != 0).count() {
        0 => Some(b),
        all if all == condition.len() => Some(a),
        _ => None,
    };
    if let Some(chosen) = one_sided {
        return if build.shape(chosen) == whole.as_slice() {
            Ok(chosen)
        } else {
            build.shaped(at, Op::Broadcast, &[chosen], Some(&whole))
        };
    }
    let spread = |build: &mut Builder, id: TensorId| build.shaped(at, Op::Broadcast, &[id], Some(&whole));
    let condition = build.cast_i64(at, call.input(0)?)?;
    let (condition, a, b) = (spread(build, condition)?, spread(build, a)?, spread(build, b)?);
    let condition = build.integers(at, condition, "conditions")?;
    if build.get(a).kind != build.get(b).kind {
        return Err(at.invalid("values of two kinds"));
    }
    let data = match build.get(a).kind {
        Kind::I64 => {
            Data::I64(pick(&condition, &build.integers(at, a, "values")?, &build.integers(at, b, "values")?))
        }
        Kind::F32 => {
            Data::F32(pick(&condition, &build.floats(at, a, "values")?, &build.floats(at, b, "values")?))
        }
    };
    build.made(at, &whole, data)
}

fn pick<T: Copy>(condition: &[i64], a: &[T], b: &[T]) -> Arc<[T]> {
    condition.iter().zip(a.iter().zip(b)).map(|(take, (a, b))| if *take != 0 { *a } else { *b }).collect()
}

/// Two constants repeated to the shape that they have in common.
fn same_shape(
    build: &mut Builder,
    call: &Call<'_>,
    first: usize,
    second: usize,
) -> Result<(TensorId, TensorId, Vec<usize>), ImportError> {
    let at = call.at;
    let (a, b) = (call.input(first)?, call.input(second)?);
    let shape = crate::graph::shape::broadcast(build.shape(a), build.shape(b))
        .ok_or_else(|| at.invalid("shapes do not fit"))?;
    count(&shape)?;
    let a = build.shaped(at, Op::Broadcast, &[a], Some(&shape))?;
    let b = build.shaped(at, Op::Broadcast, &[b], Some(&shape))?;
    Ok((a, b, shape))
}
