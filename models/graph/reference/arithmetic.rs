//! Operators that compute with single values or along dimensions, in f32; sums are kept in f64.

use super::Operand;
use super::movement::{broadcast_strides, each, each_pair, offset, strides};
use crate::graph::{Binary, Reduction, Unary};

pub(super) fn unary(how: Unary, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match how {
        Unary::Relu => clamp(x, 0.0, f32::INFINITY),
        Unary::LeakyRelu(slope) => leak(x, slope),
        Unary::Sigmoid => sigmoid(x),
        Unary::Silu => x * sigmoid(x),
        Unary::HardSwish => x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
        Unary::HardSigmoid(alpha, beta) => clamp(alpha * x + beta, 0.0, 1.0),
        Unary::Clamp(low, high) => clamp(x, low, high),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Tanh => x.tanh(),
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Elu(alpha) => {
            if x > 0.0 {
                x
            } else {
                alpha * x.exp_m1()
            }
        }
    }
}

/// Keeps NaN, and cannot panic where low is above high.
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

fn leak(x: f32, slope: f32) -> f32 {
    if x > 0.0 { x } else { slope * x }
}

pub(super) fn binary(how: Binary, a: Operand<'_>, b: Operand<'_>, output: &[usize]) -> Vec<f32> {
    let (values_a, values_b) = (a.f32(), b.f32());
    let mut made = Vec::with_capacity(output.iter().product());
    each_pair(a.shape, b.shape, output, |place_a, place_b| {
        let (x, y) = (values_a[place_a], values_b[place_b]);
        made.push(match how {
            Binary::Add => x + y,
            Binary::Sub => x - y,
            Binary::Mul => x * y,
            Binary::Div => x / y,
            Binary::Max => x.max(y),
            Binary::Min => x.min(y),
            Binary::Pow => x.powf(y),
        });
    });
    made
}

/// Inputs: x, scale, shift, mean, variance.
pub(super) fn batch_norm(epsilon: f32, inputs: &[Operand<'_>]) -> Vec<f32> {
    let x = inputs[0];
    let parameter = |which: usize, channel: usize| inputs[which].f32()[channel];
    let mut made = Vec::with_capacity(x.f32().len());
    each(x.shape, |index| {
        let channel = index[1];
        let scale = parameter(1, channel) / (parameter(4, channel) + epsilon).sqrt();
        made.push((x.f32()[made.len()] - parameter(3, channel)) * scale + parameter(2, channel));
    });
    made
}

pub(super) fn prelu(x: Operand<'_>, slopes: &[f32]) -> Vec<f32> {
    let mut made = Vec::with_capacity(x.f32().len());
    each(x.shape, |index| {
        let slope = if slopes.len() == 1 { slopes[0] } else { slopes[index[1]] };
        made.push(leak(x.f32()[made.len()], slope));
    });
    made
}

/// For each value the number of the group that it is reduced into.
fn groups(axes: &[usize], shape: &[usize]) -> (Vec<usize>, usize) {
    let kept: Vec<usize> =
        (0..shape.len()).map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] }).collect();
    let steps: Vec<usize> = strides(&kept)
        .iter()
        .enumerate()
        .map(|(axis, stride)| if axes.contains(&axis) { 0 } else { *stride })
        .collect();
    let mut group = Vec::with_capacity(shape.iter().product());
    each(shape, |index| group.push(offset(index, &steps)));
    (group, kept.iter().product())
}

pub(super) fn reduce(how: Reduction, axes: &[usize], x: Operand<'_>) -> Vec<f32> {
    let (group, count) = groups(axes, x.shape);
    let start = match how {
        Reduction::Mean | Reduction::Sum => 0.0,
        Reduction::Max => f64::NEG_INFINITY,
        Reduction::Min => f64::INFINITY,
    };
    let mut made = vec![start; count];
    for (value, group) in x.f32().iter().zip(&group) {
        let (value, so_far) = (f64::from(*value), &mut made[*group]);
        *so_far = match how {
            Reduction::Mean | Reduction::Sum => *so_far + value,
            Reduction::Max => so_far.max(value),
            Reduction::Min => so_far.min(value),
        };
    }
    let divisor = match how {
        Reduction::Mean => axes.iter().map(|axis| x.shape[*axis]).product::<usize>() as f64,
        Reduction::Sum | Reduction::Max | Reduction::Min => 1.0,
    };
    made.iter().map(|value| (value / divisor) as f32).collect()
}

pub(super) fn mvn(axes: &[usize], variance: bool, epsilon: f32, inside: bool, x: Operand<'_>) -> Vec<f32> {
    let (group, count) = groups(axes, x.shape);
    let size = axes.iter().map(|axis| x.shape[*axis]).product::<usize>() as f64;
    let mean_of = |value: &dyn Fn(usize) -> f64| {
        let mut sums = vec![0.0; count];
        for (index, group) in group.iter().enumerate() {
            sums[*group] += value(index);
        }
        sums.iter().map(|sum| sum / size).collect::<Vec<f64>>()
    };
    let means = mean_of(&|index| f64::from(x.f32()[index]));
    let centred = |index: usize| f64::from(x.f32()[index]) - means[group[index]];
    let variances = mean_of(&|index| centred(index).powi(2));
    let divisor = |variance: f64| match inside {
        true => (variance + f64::from(epsilon)).sqrt(),
        false => variance.sqrt() + f64::from(epsilon),
    };
    let value = |index: usize| {
        if variance { centred(index) / divisor(variances[group[index]]) } else { centred(index) }
    };
    (0..x.f32().len()).map(|index| value(index) as f32).collect()
}

pub(super) fn softmax(axis: usize, x: Operand<'_>) -> Vec<f32> {
    let (group, _) = groups(&[axis], x.shape);
    let largest = reduce(Reduction::Max, &[axis], x);
    let powers: Vec<f64> =
        x.f32().iter().zip(&group).map(|(value, group)| f64::from(value - largest[*group]).exp()).collect();
    let mut sums = vec![0.0; largest.len()];
    for (power, group) in powers.iter().zip(&group) {
        sums[*group] += power;
    }
    powers.iter().zip(&group).map(|(power, group)| (power / sums[*group]) as f32).collect()
}

pub(super) fn matmul(
    transpose_a: bool,
    transpose_b: bool,
    a: Operand<'_>,
    b: Operand<'_>,
    output: &[usize],
) -> Vec<f32> {
    let lead = output.len() - 2;
    // Strides of [..., row, column] as multiplied, whatever way round they are stored.
    let oriented = |operand: Operand<'_>, transposed: bool| {
        let rank = operand.shape.len();
        let mut steps = broadcast_strides(&operand.shape[..rank - 2], &output[..lead]);
        let matrix = operand.shape[rank - 2] * operand.shape[rank - 1];
        steps.iter_mut().for_each(|step| *step *= matrix);
        let across = operand.shape[rank - 1];
        steps.extend(if transposed { [1, across] } else { [across, 1] });
        steps
    };
    let (steps_a, steps_b) = (oriented(a, transpose_a), oriented(b, transpose_b));
    let inner = a.shape[a.shape.len() - if transpose_a { 2 } else { 1 }];
    let mut made = Vec::with_capacity(output.iter().product());
    each(output, |index| {
        let row = offset(&index[..=lead], &steps_a);
        let column = offset(&index[..lead], &steps_b) + index[lead + 1] * steps_b[lead + 1];
        let product = |k: usize| {
            f64::from(a.f32()[row + k * steps_a[lead + 1]]) * f64::from(b.f32()[column + k * steps_b[lead]])
        };
        made.push((0..inner).map(product).sum::<f64>() as f32);
    });
    made
}

/// Inputs: x, input low, input high, output low, output high.
pub(super) fn fake_quantize(levels: usize, inputs: &[Operand<'_>]) -> Vec<f32> {
    let x = inputs[0];
    let steps: Vec<Vec<usize>> =
        inputs[1..].iter().map(|range| broadcast_strides(range.shape, x.shape)).collect();
    let most = (levels - 1) as f32;
    let mut made = Vec::with_capacity(x.f32().len());
    each(x.shape, |index| {
        let bound = |which: usize| inputs[which].f32()[offset(index, &steps[which - 1])];
        let (in_low, in_high, out_low, out_high) = (bound(1), bound(2), bound(3), bound(4));
        let value = x.f32()[made.len()];
        made.push(if value <= in_low.min(in_high) {
            out_low
        } else if value > in_low.max(in_high) {
            out_high
        } else {
            let step = ((value - in_low) / (in_high - in_low) * most).round_ties_even();
            step / most * (out_high - out_low) + out_low
        });
    });
    made
}
