//! What shape and kind of values each operator makes of its inputs', and whether it can take them at all. No file
//! format here; importers and the check of a finished graph use the same functions.

use super::limits::{MAX_CANDIDATES, MAX_RANK, MAX_TENSOR_ELEMENTS, MAX_WINDOW};
use super::{Graph, Kind, Op, TensorId, Window};

/// Number of values of a shape, if it stays within the limits of one tensor.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    if shape.len() > MAX_RANK {
        return None;
    }
    // Any dimension counts as at least 1, so that a 0 hides no absurd other dimension.
    let bound = shape.iter().try_fold(1usize, |product, size| {
        product.checked_mul((*size).max(1)).filter(|bound| *bound <= MAX_TENSOR_ELEMENTS)
    })?;
    Some(if shape.contains(&0) { 0 } else { bound })
}

/// NumPy's broadcasting of two shapes.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).and_then(|index| shape.get(index)).copied().unwrap_or(1)
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

/// Number of positions of a window along one dimension, when it fits at all.
fn positions(window: &Window, side: usize, size: usize) -> Option<usize> {
    let reach = (window.kernel[side] - 1) * window.dilation[side] + 1;
    let padded = size.checked_add(window.before[side])?.checked_add(window.after[side])?;
    Some(padded.checked_sub(reach)? / window.stride[side] + 1)
}

fn check_window(window: &Window) -> Result<(), String> {
    let at_least_one = window.kernel.iter().chain(&window.stride).chain(&window.dilation);
    if at_least_one.clone().any(|value| *value == 0) {
        return Err("kernel, stride and dilation must be at least 1".into());
    }
    if at_least_one.chain(&window.before).chain(&window.after).any(|value| *value > MAX_WINDOW) {
        return Err(format!("kernel, stride, dilation and padding may be at most {MAX_WINDOW}"));
    }
    Ok(())
}

fn window_output(window: &Window, input: &[usize]) -> Result<[usize; 2], String> {
    check_window(window)?;
    let mut output = [0; 2];
    for side in 0..2 {
        output[side] = positions(window, side, input[2 + side])
            .ok_or_else(|| format!("the window is larger than the padded input {input:?}"))?;
    }
    Ok(output)
}

/// A pool needs at least one value in each window.
fn pool_output(window: &Window, input: &[usize]) -> Result<Vec<usize>, String> {
    let [_, _, _, _] = input else { return Err(format!("needs 4 dimensions, not {input:?}")) };
    let sides = window_output(window, input)?;
    for side in 0..2 {
        let (size, before) = (input[2 + side], window.before[side]);
        let reach = (window.kernel[side] - 1) * window.dilation[side] + 1;
        let last = (sides[side] - 1) * window.stride[side];
        if before >= reach || last >= size + before || (before > 0 && window.dilation[side] > size) {
            return Err("a window lies outside of the input".into());
        }
    }
    Ok(vec![input[0], input[1], sides[0], sides[1]])
}

fn conv_output(window: &Window, groups: usize, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let (&[batch, channels, _, _], &[made, per_group, height, width]) = (inputs[0], inputs[1]) else {
        return Err(format!(
            "needs 4 dimensions of input and weight, not {:?} and {:?}",
            inputs[0], inputs[1]
        ));
    };
    if groups == 0 || made % groups != 0 || per_group.checked_mul(groups) != Some(channels) {
        return Err(format!("{channels} channels in {groups} groups do not fit weights {:?}", inputs[1]));
    }
    if window.kernel != [height, width] {
        return Err(format!("kernel {:?} does not fit weights {:?}", window.kernel, inputs[1]));
    }
    if let Some(bias) = inputs.get(2)
        && **bias != [made]
    {
        return Err(format!("bias {bias:?} does not fit {made} channels"));
    }
    let sides = window_output(window, inputs[0])?;
    Ok(vec![batch, made, sides[0], sides[1]])
}

fn matmul_output(
    a: &[usize],
    b: &[usize],
    transpose_a: bool,
    transpose_b: bool,
) -> Result<Vec<usize>, String> {
    let misfit = || format!("{a:?} and {b:?} cannot be multiplied");
    let ([lead_a @ .., m, k], [lead_b @ .., l, n]) = (a, b) else {
        return Err(format!("needs at least 2 dimensions each, not {a:?} and {b:?}"));
    };
    let (m, k) = if transpose_a { (*k, *m) } else { (*m, *k) };
    let (l, n) = if transpose_b { (*n, *l) } else { (*l, *n) };
    let mut output = broadcast(lead_a, lead_b).ok_or_else(misfit)?;
    if k != l {
        return Err(misfit());
    }
    output.extend([m, n]);
    Ok(output)
}

fn check_axes(axes: &[usize], rank: usize) -> Result<(), String> {
    let sorted = axes.windows(2).all(|pair| pair[0] < pair[1]);
    if !sorted || axes.iter().any(|axis| *axis >= rank) {
        return Err(format!("axes {axes:?} do not fit {rank} dimensions"));
    }
    Ok(())
}

fn arity(op: &Op) -> (usize, usize) {
    match op {
        Op::Conv { .. } => (2, 3),
        Op::BatchNorm { .. } | Op::FakeQuantize { .. } => (5, 5),
        Op::Binary(_) | Op::PRelu | Op::MatMul { .. } | Op::Gather { .. } | Op::PriorBoxClustered(_) => {
            (2, 2)
        }
        Op::DetectionOutput(_) => (3, 3),
        Op::Concat { .. } => (1, usize::MAX),
        _ => (1, 1),
    }
}

/// The shape that comes out, or why nothing can. `given` is the shape for operators whose inputs do not tell it
/// (slice, reshape, resize, broadcast, pad) and is ignored for all others.
pub(super) fn output(op: &Op, inputs: &[&[usize]], given: Option<&[usize]>) -> Result<Vec<usize>, String> {
    let (least, most) = arity(op);
    if inputs.len() < least || inputs.len() > most {
        return Err(format!("takes {least} inputs, not {}", inputs.len()));
    }
    let x = inputs[0];
    let rank = x.len();
    let wanted = || given.map(<[usize]>::to_vec).ok_or_else(|| String::from("no output shape"));
    let fits = |fit: bool, shape: Vec<usize>| {
        if fit { Ok(shape) } else { Err(format!("{shape:?} cannot be made of {x:?}")) }
    };
    match op {
        Op::Conv { window, groups } => conv_output(window, *groups, inputs),
        Op::BatchNorm { .. } => {
            let channels = *x.get(1).ok_or("needs at least 2 dimensions")?;
            match inputs[1..].iter().find(|shape| ***shape != [channels]) {
                Some(shape) => Err(format!("{shape:?} does not fit {channels} channels")),
                None => Ok(x.to_vec()),
            }
        }
        Op::Binary(_) => broadcast(x, inputs[1])
            .ok_or_else(|| format!("{x:?} and {:?} cannot be broadcast to each other", inputs[1])),
        Op::Unary(_) => Ok(x.to_vec()),
        Op::PRelu => match inputs[1] {
            [] => Ok(x.to_vec()),
            [slopes] if x.get(1) == Some(slopes) => Ok(x.to_vec()),
            slopes => Err(format!("slopes {slopes:?} do not fit {x:?}")),
        },
        Op::MaxPool(window) | Op::AvgPool { window, .. } => pool_output(window, x),
        Op::Reduce { axes, keep, .. } => {
            check_axes(axes, rank)?;
            let reduced = |axis: &usize| axes.contains(axis);
            Ok(match keep {
                true => (0..rank).map(|axis| if reduced(&axis) { 1 } else { x[axis] }).collect(),
                false => (0..rank).filter(|axis| !reduced(axis)).map(|axis| x[axis]).collect(),
            })
        }
        Op::Mvn { axes, .. } => check_axes(axes, rank).map(|()| x.to_vec()),
        Op::Softmax { axis } => check_axes(&[*axis], rank).map(|()| x.to_vec()),
        Op::MatMul { transpose_a, transpose_b } => matmul_output(x, inputs[1], *transpose_a, *transpose_b),
        Op::Concat { axis } => {
            check_axes(&[*axis], rank)?;
            let mut output = x.to_vec();
            output[*axis] = 0;
            for shape in inputs {
                let same = shape.len() == rank
                    && shape.iter().zip(x).enumerate().all(|(index, (a, b))| index == *axis || a == b);
                if !same {
                    return Err(format!("{shape:?} cannot be joined to {x:?} along axis {axis}"));
                }
                output[*axis] = output[*axis].checked_add(shape[*axis]).ok_or("too large")?;
            }
            Ok(output)
        }
        Op::Slice { begin, step } => {
            let shape = wanted()?;
            let fit = [begin.len(), step.len(), shape.len()] == [rank; 3]
                && (0..rank).all(|axis| slice_fits(x[axis], begin[axis], step[axis], shape[axis]));
            fits(fit, shape)
        }
        Op::Reshape => {
            let shape = wanted()?;
            fits(elements(&shape).is_some() && elements(&shape) == elements(x), shape)
        }
        Op::Transpose { order } => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted.iter().copied().ne(0..rank) {
                return Err(format!("{order:?} is no order of {rank} dimensions"));
            }
            Ok(order.iter().map(|axis| x[*axis]).collect())
        }
        Op::Resize(_) => {
            let shape = wanted()?;
            fits(rank == 4 && shape.len() == 4 && shape[..2] == x[..2] && !x.contains(&0), shape)
        }
        Op::Gather { axis } => {
            check_axes(&[*axis], rank)?;
            Ok([&x[..*axis], inputs[1], &x[axis + 1..]].concat())
        }
        Op::Broadcast => {
            let shape = wanted()?;
            fits(broadcast(x, &shape).as_ref() == Some(&shape), shape)
        }
        Op::Pad { before, .. } => {
            let shape = wanted()?;
            let fit = before.len() == rank
                && shape.len() == rank
                && (0..rank)
                    .all(|axis| before[axis].checked_add(x[axis]).is_some_and(|end| end <= shape[axis]));
            fits(fit, shape)
        }
        Op::FakeQuantize { levels } => {
            if *levels < 2 {
                return Err(format!("{levels} levels"));
            }
            match inputs[1..].iter().find(|shape| broadcast(x, shape).as_deref() != Some(x)) {
                Some(shape) => Err(format!("range {shape:?} does not fit {x:?}")),
                None => Ok(x.to_vec()),
            }
        }
        Op::PriorBoxClustered(prior) => {
            let shape = wanted()?;
            if prior.widths.is_empty() || prior.widths.len() != prior.heights.len() {
                return Err("needs as many heights as widths".into());
            }
            if !matches!(prior.variances.len(), 0 | 1 | 4) {
                return Err(format!("{} variances", prior.variances.len()));
            }
            let per_cell = prior.widths.len().checked_mul(4).ok_or("too large")?;
            fits(
                x == [2] && inputs[1] == [2] && shape.len() == 2 && shape[0] == 2 && shape[1] % per_cell == 0,
                shape,
            )
        }
        Op::DetectionOutput(detection) => {
            let (&[1, boxes], &[1, confidences], &[1, parts, priors]) = (x, inputs[1], inputs[2]) else {
                return Err(format!("cannot take {inputs:?}; one picture at a time"));
            };
            let fit = boxes == priors
                && (parts == 2 || (parts == 1 && detection.variance_encoded))
                && boxes % 4 == 0
                && (boxes / 4).checked_mul(detection.classes) == Some(confidences)
                && detection.keep_top_k > 0
                && detection.top_k <= MAX_CANDIDATES;
            if !fit {
                return Err(format!("{} classes do not fit {inputs:?}", detection.classes));
            }
            Ok(vec![1, 1, detection.keep_top_k, 7])
        }
    }
}

/// All indices that are taken exist.
fn slice_fits(size: usize, begin: usize, step: isize, count: usize) -> bool {
    if step == 0 {
        return false;
    }
    let Some(more) = count.checked_sub(1) else { return true };
    let last = isize::try_from(more)
        .ok()
        .and_then(|more| more.checked_mul(step))
        .and_then(|way| begin.checked_add_signed(way));
    begin < size && last.is_some_and(|last| last < size)
}

/// What kind of values comes out, or why the operator cannot take these.
pub(super) fn kind(op: &Op, inputs: &[Kind]) -> Result<Kind, String> {
    let all = |kind: Kind, inputs: &[Kind]| inputs.iter().all(|input| *input == kind);
    let (kind, fits) = match op {
        Op::Binary(_) | Op::Concat { .. } => (inputs[0], all(inputs[0], inputs)),
        Op::Slice { .. } | Op::Reshape | Op::Transpose { .. } | Op::Broadcast => (inputs[0], true),
        Op::Gather { .. } => (inputs[0], inputs[1] == Kind::I64),
        Op::PriorBoxClustered(_) => (Kind::F32, all(Kind::I64, inputs)),
        _ => (Kind::F32, all(Kind::F32, inputs)),
    };
    if fits { Ok(kind) } else { Err(format!("cannot take values of kinds {inputs:?}")) }
}

/// Multiplications, or values read, of one run of the operator; saturated.
pub(super) fn work(op: &Op, inputs: &[&[usize]], output: &[usize]) -> u64 {
    let made = elements(output).unwrap_or(usize::MAX) as u64;
    let read = |shape: &[usize]| elements(shape).unwrap_or(usize::MAX) as u64;
    let per_value = match op {
        Op::Conv { .. } => {
            inputs[1][1..].iter().fold(1u64, |product, size| product.saturating_mul(*size as u64))
        }
        Op::MaxPool(window) | Op::AvgPool { window, .. } => (window.kernel[0] * window.kernel[1]) as u64,
        Op::MatMul { transpose_a, .. } => {
            inputs[0].iter().rev().nth(usize::from(*transpose_a)).map_or(1, |size| *size as u64)
        }
        Op::DetectionOutput(detection) => {
            let compared = detection.top_k.saturating_mul(detection.top_k.min(detection.keep_top_k));
            return (compared.saturating_mul(detection.classes) as u64).saturating_add(made);
        }
        _ => 1,
    };
    let all_read = inputs.iter().fold(0u64, |sum, shape| sum.saturating_add(read(shape)));
    made.saturating_mul(per_value).saturating_add(all_read)
}

/// Whether a graph keeps its promises: every tensor is there before it is used, every shape and kind is what the
/// operators make, every constant has its values, nothing is made twice. Says what is wrong.
pub fn check(graph: &Graph) -> Result<(), String> {
    let known = |id: TensorId| graph.tensors.get(id.0).ok_or_else(|| format!("there is no tensor {}", id.0));
    let mut ready = Vec::with_capacity(graph.tensors.len());
    for tensor in &graph.tensors {
        let count = elements(&tensor.shape)
            .ok_or_else(|| format!("tensor {:?}: shape {:?} is too large", tensor.name, tensor.shape))?;
        if let Some(value) = &tensor.value {
            let same_kind = matches!(
                (value, tensor.kind),
                (super::Data::F32(_), Kind::F32) | (super::Data::I64(_), Kind::I64)
            );
            if value.len() != count || !same_kind {
                return Err(format!("constant {:?} does not have its values", tensor.name));
            }
        }
        ready.push(tensor.value.is_some());
    }
    for id in &graph.inputs {
        let tensor = known(*id)?;
        if std::mem::replace(&mut ready[id.0], true) {
            return Err(format!("input {:?} is there already", tensor.name));
        }
    }
    for node in &graph.nodes {
        let wrong = |reason: String| format!("node {:?}: {reason}", node.name);
        let made = known(node.output).map_err(wrong)?;
        let mut shapes = Vec::with_capacity(node.inputs.len());
        let mut kinds = Vec::with_capacity(node.inputs.len());
        for id in &node.inputs {
            let tensor = known(*id).map_err(wrong)?;
            if !ready[id.0] {
                return Err(wrong(format!("its input {:?} is not made yet", tensor.name)));
            }
            shapes.push(tensor.shape.as_slice());
            kinds.push(tensor.kind);
        }
        let shape = output(&node.op, &shapes, Some(&made.shape)).map_err(wrong)?;
        let kind = kind(&node.op, &kinds).map_err(wrong)?;
        if shape != made.shape || kind != made.kind {
            return Err(wrong(format!("makes {shape:?}, not {:?}", made.shape)));
        }
        if std::mem::replace(&mut ready[node.output.0], true) {
            return Err(wrong("its output is there already".into()));
        }
    }
    for id in &graph.outputs {
        if !ready[known(*id).map(|_| id.0)?] {
            return Err(format!("output {} is never made", id.0));
        }
    }
    Ok(())
}
