//! Operators that move values and compute nothing: they work on integers as on f32.

use super::Op;

/// An operator that only moves values.
pub(super) enum Moved<'a> {
    Concat(usize),
    Slice(&'a [usize], &'a [isize]),
    Reshape,
    Transpose(&'a [usize]),
    Gather(usize),
    Broadcast,
}

impl<'a> Moved<'a> {
    pub fn new(op: &'a Op) -> Option<Self> {
        Some(match op {
            Op::Concat { axis } => Self::Concat(*axis),
            Op::Slice { begin, step } => Self::Slice(begin, step),
            Op::Reshape => Self::Reshape,
            Op::Transpose { order } => Self::Transpose(order),
            Op::Gather { axis } => Self::Gather(*axis),
            Op::Broadcast => Self::Broadcast,
            _ => return None,
        })
    }
}

/// Calls `visit` with each index of the shape in row-major order.
pub(super) fn each(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// How far apart neighbours along each dimension lie.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

/// Strides with which a tensor is read under the index of one that it is broadcast to.
pub(super) fn broadcast_strides(shape: &[usize], output: &[usize]) -> Vec<usize> {
    let lead = output.len() - shape.len();
    let own = strides(shape);
    (0..output.len())
        .map(|axis| if axis < lead || shape[axis - lead] == 1 { 0 } else { own[axis - lead] })
        .collect()
}

/// Calls `visit` with the places in two operands that make each value of the output, in row-major order. Dimensions
/// over which both lie without a gap are walked as one, so that weights and their scales do not cost an index each.
pub(super) fn each_pair(a: &[usize], b: &[usize], output: &[usize], mut visit: impl FnMut(usize, usize)) {
    // Size and strides of each dimension that is left.
    let mut left: Vec<[usize; 3]> = vec![[1, 0, 0]];
    let strides = broadcast_strides(a, output).into_iter().zip(broadcast_strides(b, output));
    for (size, (stride_a, stride_b)) in output.iter().zip(strides) {
        let dimension = [*size, stride_a, stride_b];
        match left.last_mut() {
            Some(last) if last[0] == 1 => *last = dimension,
            Some(last) if last[1] == stride_a * size && last[2] == stride_b * size => {
                *last = [last[0] * size, stride_a, stride_b];
            }
            _ => left.push(dimension),
        }
    }
    let Some((row, outer)) = left.split_last() else { return };
    let column = |which: usize| outer.iter().map(|dimension| dimension[which]).collect::<Vec<usize>>();
    let (sizes, steps_a, steps_b) = (column(0), column(1), column(2));
    each(&sizes, |index| {
        let (first_a, first_b) = (offset(index, &steps_a), offset(index, &steps_b));
        for place in 0..row[0] {
            visit(first_a + place * row[1], first_b + place * row[2]);
        }
    });
}

/// Where the index lies.
pub(super) fn offset(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(index, stride)| index * stride).sum()
}

/// Moves the values. `indices` are the second input of a gather.
pub(super) fn run<T: Copy>(
    moved: &Moved<'_>,
    sources: &[(&[usize], &[T])],
    indices: Option<&[i64]>,
    output: &[usize],
) -> Result<Vec<T>, String> {
    let (shape, values) = sources[0];
    let own = strides(shape);
    let mut made = Vec::with_capacity(output.iter().product());
    match moved {
        Moved::Reshape => made.extend_from_slice(values),
        Moved::Slice(begin, step) => each(output, |index| {
            let from = |axis: usize| begin[axis].wrapping_add_signed(index[axis] as isize * step[axis]);
            made.push(values[(0..index.len()).map(|axis| from(axis) * own[axis]).sum::<usize>()]);
        }),
        Moved::Transpose(order) => {
            let permuted: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
            each(output, |index| made.push(values[offset(index, &permuted)]));
        }
        Moved::Broadcast => {
            let repeated = broadcast_strides(shape, output);
            each(output, |index| made.push(values[offset(index, &repeated)]));
        }
        Moved::Concat(axis) => {
            // Everything in front of the axis repeats; of each input a run of the rest is taken.
            let outer: usize = output[..*axis].iter().product();
            for turn in 0..outer {
                for (shape, values) in sources {
                    let run: usize = shape[*axis..].iter().product();
                    made.extend_from_slice(&values[turn * run..(turn + 1) * run]);
                }
            }
        }
        Moved::Gather(axis) => {
            let outer: usize = shape[..*axis].iter().product();
            let inner: usize = shape[axis + 1..].iter().product();
            let size = shape[*axis];
            for turn in 0..outer {
                for index in indices.unwrap_or_default() {
                    // Counted from the end when negative.
                    let from_end = if *index < 0 { size as i64 } else { 0 };
                    let row = index.checked_add(from_end).and_then(|row| usize::try_from(row).ok());
                    let row = row.filter(|row| *row < size);
                    let row = row.ok_or_else(|| format!("index {index} of {size}"))?;
                    let start = (turn * size + row) * inner;
                    made.extend_from_slice(&values[start..start + inner]);
                }
            }
        }
    }
    Ok(made)
}

/// Puts constant values around the input.
pub(super) fn pad(
    before: &[usize],
    value: f32,
    (shape, values): (&[usize], &[f32]),
    output: &[usize],
) -> Vec<f32> {
    let own = strides(shape);
    let mut made = Vec::with_capacity(output.iter().product());
    each(output, |index| {
        let mut from = Some(0);
        for axis in 0..index.len() {
            let inside = index[axis].checked_sub(before[axis]).filter(|inside| *inside < shape[axis]);
            from = from.zip(inside).map(|(sum, inside)| sum + inside * own[axis]);
        }
        made.push(from.map_or(value, |from| values[from]));
    });
    made
}
