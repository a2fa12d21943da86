//! Operators that read a neighbourhood of each place: convolution, pools, resizing. All take [N,C,H,W].

use super::Operand;
use crate::graph::{Sampling, Window};

/// Where tap (y, x) of the window at `place` lies in an input of this size; none outside.
fn tap(window: &Window, place: [usize; 2], tap: [usize; 2], size: [usize; 2]) -> Option<[usize; 2]> {
    let at = |side: usize| {
        (place[side] * window.stride[side] + tap[side] * window.dilation[side])
            .checked_sub(window.before[side])
            .filter(|at| *at < size[side])
    };
    Some([at(0)?, at(1)?])
}

/// Calls `visit` with the value of each tap, and none for those outside.
fn taps(
    window: &Window,
    place: [usize; 2],
    plane: &[f32],
    size: [usize; 2],
    mut visit: impl FnMut(usize, Option<f32>),
) {
    for y in 0..window.kernel[0] {
        for x in 0..window.kernel[1] {
            let at = tap(window, place, [y, x], size);
            visit(y * window.kernel[1] + x, at.map(|[row, column]| plane[row * size[1] + column]));
        }
    }
}

pub(super) fn conv(
    window: &Window,
    groups: usize,
    x: Operand<'_>,
    weight: Operand<'_>,
    bias: Option<&[f32]>,
    output: &[usize],
) -> Vec<f32> {
    let (values, weights) = (x.f32(), weight.f32());
    let (channels, size) = (x.shape[1], [x.shape[2], x.shape[3]]);
    let (plane, kernel) = (size[0] * size[1], window.kernel[0] * window.kernel[1]);
    let (per_group, made_per_group) = (channels / groups, output[1] / groups);
    let mut made = Vec::with_capacity(output.iter().product());
    for picture in 0..output[0] {
        for channel in 0..output[1] {
            let first = channel / made_per_group * per_group;
            for row in 0..output[2] {
                for column in 0..output[3] {
                    let mut sum = f64::from(bias.map_or(0.0, |bias| bias[channel]));
                    for input in 0..per_group {
                        let from = (picture * channels + first + input) * plane;
                        let weights = &weights[(channel * per_group + input) * kernel..][..kernel];
                        taps(window, [row, column], &values[from..from + plane], size, |index, value| {
                            sum += f64::from(value.unwrap_or(0.0)) * f64::from(weights[index]);
                        });
                    }
                    made.push(sum as f32);
                }
            }
        }
    }
    made
}

fn pool(
    window: &Window,
    x: Operand<'_>,
    output: &[usize],
    mut of: impl FnMut(&[Option<f32>]) -> f32,
) -> Vec<f32> {
    let size = [x.shape[2], x.shape[3]];
    let mut made = Vec::with_capacity(output.iter().product());
    let mut seen = Vec::new();
    for plane in 0..output[0] * output[1] {
        let values = &x.f32()[plane * size[0] * size[1]..][..size[0] * size[1]];
        for row in 0..output[2] {
            for column in 0..output[3] {
                seen.clear();
                taps(window, [row, column], values, size, |_, value| seen.push(value));
                made.push(of(&seen));
            }
        }
    }
    made
}

pub(super) fn max_pool(window: &Window, x: Operand<'_>, output: &[usize]) -> Vec<f32> {
    pool(window, x, output, |seen| seen.iter().flatten().copied().fold(f32::NEG_INFINITY, f32::max))
}

pub(super) fn avg_pool(window: &Window, count_padding: bool, x: Operand<'_>, output: &[usize]) -> Vec<f32> {
    pool(window, x, output, |seen| {
        let inside = seen.iter().flatten();
        let count = if count_padding { seen.len() } else { inside.clone().count() };
        (inside.map(|value| f64::from(*value)).sum::<f64>() / count as f64) as f32
    })
}

/// Where a sample lies between two places of the input, and how near to the second.
fn between(sampling: Sampling, place: usize, size: usize, made: usize) -> (usize, usize, f32) {
    let at = match sampling {
        Sampling::NearestAsymmetric => {
            let nearest = (place * size / made).min(size - 1);
            return (nearest, nearest, 0.0);
        }
        Sampling::LinearHalfPixel => (place as f32 + 0.5) * size as f32 / made as f32 - 0.5,
        Sampling::LinearAlignCorners if made == 1 => 0.0,
        Sampling::LinearAlignCorners => place as f32 * (size - 1) as f32 / (made - 1) as f32,
    };
    let at = at.clamp(0.0, (size - 1) as f32);
    let low = at.floor() as usize;
    (low, (low + 1).min(size - 1), at - low as f32)
}

pub(super) fn resize(sampling: Sampling, x: Operand<'_>, output: &[usize]) -> Vec<f32> {
    let (height, width) = (x.shape[2], x.shape[3]);
    let mut made = Vec::with_capacity(output.iter().product());
    for plane in x.f32().chunks_exact(height * width) {
        for row in 0..output[2] {
            let (top, bottom, down) = between(sampling, row, height, output[2]);
            for column in 0..output[3] {
                let (left, right, across) = between(sampling, column, width, output[3]);
                let mix = |row: usize| {
                    let (a, b) = (plane[row * width + left], plane[row * width + right]);
                    if across == 0.0 { a } else { a + (b - a) * across }
                };
                made.push(if down == 0.0 { mix(top) } else { mix(top) + (mix(bottom) - mix(top)) * down });
            }
        }
    }
    made
}
