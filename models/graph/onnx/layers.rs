//! Operators of ONNX over [N,C,H,W]: convolution, pools, normalisation, resizing.

use super::node::Call;
use crate::graph::build::Builder;
use crate::graph::error::ImportError;
use crate::graph::lower::{Padding, Rounding, axis, padded, pair, size};
use crate::graph::resize::{Coordinates, Nearest, Rule, Side};
use crate::graph::{Binary, Op, Reduction, TensorId, Window};

fn window(call: &Call<'_>, kernel: [usize; 2]) -> Result<(Window, Padding), ImportError> {
    let at = call.at;
    let two = |name: &str| call.ints(name)?.map_or(Ok([1, 1]), |values| pair(at, values, name));
    let (before, after) = match call.ints("pads")? {
        None => ([0, 0], [0, 0]),
        Some(pads @ [_, _, _, _]) => (pair(at, &pads[..2], "pads")?, pair(at, &pads[2..], "pads")?),
        Some(pads) => return Err(at.unsupported(format!("pads {pads:?}; only 2 dimensions are"))),
    };
    let padding = match call.text("auto_pad", "NOTSET")? {
        "NOTSET" | "" => Padding::Explicit,
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        "VALID" => Padding::Valid,
        _ => return Err(at.invalid("attribute \"auto_pad\"")),
    };
    Ok((Window { kernel, stride: two("strides")?, dilation: two("dilations")?, before, after }, padding))
}

pub(super) fn conv(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    let (x, weight) = (call.input(0)?, call.input(1)?);
    let &[_, _, height, width] = build.shape(weight) else {
        return Err(at.unsupported(format!("weights {:?}; only 2 dimensions are", build.shape(weight))));
    };
    if let Some(told) = call.ints("kernel_shape")?
        && pair(at, told, "kernel_shape")? != [height, width]
    {
        return Err(at.invalid(format!("kernel_shape {told:?} for weights {:?}", build.shape(weight))));
    }
    let (window, padding) = window(call, [height, width])?;
    let window = padded(at, window, padding, Rounding::Floor, build.shape(x))?;
    let groups = size(at, call.int("group", 1)?, "a number of groups")?;
    let mut inputs = vec![x, weight];
    inputs.extend(call.optional(2));
    build.op(at, Op::Conv { window, groups }, &inputs)
}

pub(super) fn pool(build: &mut Builder, call: &Call<'_>, average: bool) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let kernel = call.ints("kernel_shape")?.ok_or_else(|| at.invalid("no kernel_shape"))?;
    let (told, padding) = window(call, pair(at, kernel, "kernel_shape")?)?;
    let up = call.flag("ceil_mode", false)?;
    let rounding = if up { Rounding::CeilInside } else { Rounding::Floor };
    let window = padded(at, told, padding, rounding, build.shape(x))?;
    if !average {
        // It tells how the places of the largest values are counted, which are not computed.
        call.ignore(&["storage_order"]);
        return build.op(at, Op::MaxPool(window), &[x]);
    }
    let count_padding = call.flag("count_include_pad", false)?;
    let floor = padded(at, told, padding, Rounding::Floor, build.shape(x))?;
    if count_padding && window.after.iter().zip(floor.after).any(|(after, told)| *after > told) {
        return Err(at.unsupported("rounding up while padding counts"));
    }
    build.op(at, Op::AvgPool { window, count_padding }, &[x])
}

pub(super) fn global_pool(
    build: &mut Builder,
    call: &Call<'_>,
    how: Reduction,
) -> Result<TensorId, ImportError> {
    let x = call.input(0)?;
    let axes = (2..build.rank(x)).collect();
    build.reduce(call.at, how, x, axes, true)
}

pub(super) fn batch_norm(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    call.ignore(&["momentum"]);
    call.only("training_mode", 0)?;
    call.only("spatial", 1)?;
    // More outputs are made in training only.
    if call.wants_output(1) {
        return Err(at.unsupported("training"));
    }
    let epsilon = call.float("epsilon", 1e-5)?;
    build.op(at, Op::BatchNorm { epsilon }, &call.all()?)
}

/// Mean and variance of each channel of each picture, then one scale and shift per channel.
pub(super) fn instance_norm(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let rank = build.rank(x);
    let epsilon = call.float("epsilon", 1e-5)?;
    let op = Op::Mvn { axes: (2..rank).collect(), normalize_variance: true, epsilon, inside: true };
    let mut made = build.op(at, op, &[x])?;
    for (place, how) in [(1, Binary::Mul), (2, Binary::Add)] {
        let mut shape = vec![1; rank.saturating_sub(1)];
        if let ([channels, ..], &[count]) = (shape.as_mut_slice(), build.shape(call.input(place)?)) {
            *channels = count;
        }
        let parameter = build.reshape_to(at, call.input(place)?, &shape)?;
        made = build.binary(at, how, made, parameter)?;
    }
    Ok(made)
}

/// Blocks of channels become places.
pub(super) fn depth_to_space(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let block = size(at, call.int("blocksize", 0)?, "a block")?;
    let columns_last = match call.text("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        _ => return Err(at.invalid("attribute \"mode\"")),
    };
    let (&[batch, channels, height, width], 1..=256) = (build.shape(x), block) else {
        return Err(at.invalid(format!("{:?} in blocks of {block}", build.shape(x))));
    };
    let made = channels / (block * block);
    let (parts, order) = match columns_last {
        false => ([batch, block, block, made, height, width], [0, 3, 4, 1, 5, 2]),
        true => ([batch, made, block, block, height, width], [0, 1, 4, 2, 5, 3]),
    };
    let apart = build.reshape_to(at, x, &parts)?;
    let turned = build.transpose(at, apart, &order)?;
    build.reshape_to(at, turned, &[batch, made, height * block, width * block])
}

/// Opset 10: x, scales. From 11 on: x, region (for cropping), scales, sizes.
pub(super) fn resize(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let at = call.at;
    if call.opset < 11 {
        let mode = call.text("mode", "nearest")?;
        let rule = rule(call, mode, "asymmetric", "floor")?;
        return by_scales(build, call, rule, 1, None);
    }
    let coordinates = call.text("coordinate_transformation_mode", "half_pixel")?;
    let nearest = call.text("nearest_mode", "round_prefer_floor")?;
    let rule = rule(call, call.text("mode", "nearest")?, coordinates, nearest)?;
    call.ignore(&["cubic_coeff_a", "extrapolation_value"]);
    call.only("exclude_outside", 0)?;
    call.only("antialias", 0)?;
    if call.text("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(at.unsupported("keep_aspect_ratio_policy"));
    }
    let on = call.ints("axes")?;
    let given = |place: usize| call.optional(place).filter(|id| build.shape(*id) != [0]);
    match (given(2), given(3)) {
        (Some(_), None) => by_scales(build, call, rule, 2, on),
        (None, Some(_)) => by_sizes(build, call, rule, on),
        _ => Err(at.invalid("needs either scales or sizes")),
    }
}

/// The older name; from opset 9 on the scales are an input.
pub(super) fn upsample(build: &mut Builder, call: &Call<'_>) -> Result<TensorId, ImportError> {
    let rule = rule(call, call.text("mode", "nearest")?, "asymmetric", "floor")?;
    if call.opset >= 9 {
        return by_scales(build, call, rule, 1, None);
    }
    let scales = call.floats("scales")?.ok_or_else(|| call.at.invalid("no scales"))?;
    scaled(build, call, rule, scales, None)
}

fn rule(call: &Call<'_>, mode: &str, coordinates: &str, nearest: &str) -> Result<Rule, ImportError> {
    let coordinates = Coordinates::named(coordinates)
        .ok_or_else(|| call.at.unsupported(format!("coordinate_transformation_mode={coordinates:?}")))?;
    match mode {
        "nearest" => Nearest::named(nearest)
            .map(|nearest| Rule::Nearest(coordinates, nearest))
            .ok_or_else(|| call.at.unsupported(format!("nearest_mode={nearest:?}"))),
        "linear" | "bilinear" => Ok(Rule::Linear(coordinates)),
        other => Err(call.at.unsupported(format!("mode={other:?}"))),
    }
}

fn by_scales(
    build: &mut Builder,
    call: &Call<'_>,
    rule: Rule,
    place: usize,
    on: Option<&[i64]>,
) -> Result<TensorId, ImportError> {
    let scales = build.floats(call.at, call.input(place)?, "scales")?;
    scaled(build, call, rule, &scales, on)
}

fn scaled(
    build: &mut Builder,
    call: &Call<'_>,
    rule: Rule,
    scales: &[f32],
    on: Option<&[i64]>,
) -> Result<TensorId, ImportError> {
    sided(build, call, rule, scales, on, |input, scale| Side::by_scale(call.at, input, *scale))
}

fn by_sizes(
    build: &mut Builder,
    call: &Call<'_>,
    rule: Rule,
    on: Option<&[i64]>,
) -> Result<TensorId, ImportError> {
    let sizes = call.sizes(build, 3, "a dimension")?;
    sided(build, call, rule, &sizes, on, |input, size| Ok(Side::to_size(input, *size)))
}

/// Resizes with one value per axis; only height and width may change.
fn sided<T>(
    build: &mut Builder,
    call: &Call<'_>,
    rule: Rule,
    values: &[T],
    on: Option<&[i64]>,
    side: impl Fn(usize, &T) -> Result<Side, ImportError>,
) -> Result<TensorId, ImportError> {
    let (at, x) = (call.at, call.input(0)?);
    let shape = build.shape(x).to_vec();
    let &[_, _, height, width] = shape.as_slice() else {
        return Err(at.unsupported(format!("resizing {shape:?}; only [N,C,H,W] is")));
    };
    let on = on.unwrap_or(&[0, 1, 2, 3]);
    if on.len() != values.len() {
        return Err(at.invalid(format!("{} values for {} axes", values.len(), on.len())));
    }
    let mut sides = [Side::to_size(height, height), Side::to_size(width, width)];
    for (place, value) in on.iter().zip(values) {
        let axis = axis(at, *place, 4)?;
        let made = side(shape[axis], value)?;
        match axis {
            2 | 3 => sides[axis - 2] = made,
            _ if made.output == made.input => {}
            _ => return Err(at.unsupported("resizing of channels")),
        }
    }
    build.resize(at, x, rule, sides)
}
