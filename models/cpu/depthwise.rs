//! Depthwise convolution on blocked pictures: one filter per channel, sixteen channels at a time.
#![allow(clippy::needless_range_loop, reason = "indices with constant bounds are what unrolls")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "kernels: what they ask for is said at `All`, and `Step::run` keeps to it"
)]

use super::epilogue::{self, Stage};
use super::lanes::{Job, LANES, Lanes};
use super::layout::View;
use crate::graph::Window;

/// A depthwise convolution with everything that does not change from frame to frame.
#[derive(Debug, Clone)]
pub struct Depthwise {
    /// Its input, blocked; the halo is at least the padding.
    pub input: View,
    /// Its output, blocked, as many channels.
    pub output: View,
    /// The window.
    pub window: Window,
    /// `[block][tap][16]`
    pub weights: Vec<f32>,
    /// What the sums begin with: one value per channel, padded to whole blocks.
    pub bias: Vec<f32>,
    /// What follows.
    pub stages: Vec<Stage>,
}

impl Depthwise {
    /// Orders weights `[C, 1, kh, kw]` for the kernel.
    pub fn pack(weights: &[f32], channels: usize, window: &Window) -> Vec<f32> {
        let taps = window.kernel[0] * window.kernel[1];
        let mut packed = vec![0.0; channels.div_ceil(LANES) * taps * LANES];
        for c in 0..channels {
            for tap in 0..taps {
                packed[(c / LANES * taps + tap) * LANES + c % LANES] = weights[c * taps + tap];
            }
        }
        packed
    }
}

/// Pixels computed at a time: enough independent sums to hide the latency of the multiply-add.
const TILE: usize = 8;

/// `P` pixels; `K`: size of a square window known at compile time, 0 when it is another.
#[inline(always)]
unsafe fn tile<V: Lanes, const P: usize, const K: usize>(
    d: &Depthwise,
    base: *mut f32,
    place: (usize, usize, usize),
) {
    let (block, y, x) = place;
    let [kernel_h, kernel_w] = if K > 0 { [K, K] } else { d.window.kernel };
    let step = d.window.stride[1] * LANES;
    let taps = kernel_h * kernel_w;
    let weights = d.weights.as_ptr().add(block * taps * LANES);
    let corner = base
        .add(d.input.at(block, y * d.window.stride[0], x * d.window.stride[1]))
        .sub(d.window.before[0] * d.input.row + d.window.before[1] * LANES);
    let mut sums = [[V::load(d.bias.as_ptr().add(block * LANES)); P]];
    for ky in 0..kernel_h {
        for kx in 0..kernel_w {
            let weight = V::load(weights.add((ky * kernel_w + kx) * LANES));
            let from =
                corner.add(ky * d.window.dilation[0] * d.input.row + kx * d.window.dilation[1] * LANES);
            for p in 0..P {
                sums[0][p] = V::load(from.add(p * step)).mul_add(weight, sums[0][p]);
            }
        }
    }
    let sums = epilogue::apply(sums, &d.stages, base, place);
    let to = base.add(d.output.at(block, y, x));
    for p in 0..P {
        sums[0][p].store(to.add(p * LANES));
    }
}

/// All rows.
struct Lines<'a, const K: usize> {
    depthwise: &'a Depthwise,
    base: *mut f32,
}

impl<const K: usize> Job for Lines<'_, K> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { depthwise: d, base } = self;
        let width = d.output.size.w;
        for block in 0..d.output.size.blocks() {
            for y in 0..d.output.size.h {
                let mut x = 0;
                while x + TILE <= width {
                    tile::<V, TILE, K>(d, base, (block, y, x));
                    x += TILE;
                }
                if x < width && width >= TILE {
                    // Overlaps the last whole tile; its pixels are computed twice, to the same values.
                    tile::<V, TILE, K>(d, base, (block, y, width - TILE));
                } else {
                    for x in x..width {
                        tile::<V, 1, K>(d, base, (block, y, x));
                    }
                }
            }
        }
    }
}

/// Computes the output.
pub struct All<'a> {
    /// The convolution. The input's halo is at least the padding, the output overlaps no tensor that is read.
    pub depthwise: &'a Depthwise,
    /// The plan's memory, which holds every view of the convolution.
    pub base: *mut f32,
}

impl Job for All<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { depthwise, base } = self;
        if depthwise.output.size.c <= V::Narrow::LIVE && V::Narrow::LIVE < V::LIVE {
            return V::Narrow::outline(self);
        }
        match depthwise.window.kernel {
            [3, 3] => V::outline(Lines::<3> { depthwise, base }),
            _ => V::outline(Lines::<0> { depthwise, base }),
        }
    }
}
