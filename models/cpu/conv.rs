//! Dense convolution on blocked (or planar) pictures: 1x1, 3x3, any window. Direct, with the accumulators of a tile
//! of pixels and output channels in registers over the whole sum.

use std::ops::Range;

use super::epilogue::{self, Stage};
use super::lanes::{Job, LANES, Lanes, TileJob};
use super::layout::View;
use crate::graph::Window;

/// Weights that fit so many bytes stay in the first cache from tile to tile.
const FIRST_CACHE: usize = 24 << 10;

/// A convolution with everything that does not change from frame to frame.
#[derive(Debug, Clone)]
pub struct Conv {
    /// Its input; the halo is at least the padding.
    pub input: View,
    /// Its output, blocked.
    pub output: View,
    /// The window. The strides are 1 or 2 along the row for the fast path.
    pub window: Window,
    /// `[output block][input block][tap][channel in block][16]`; a planar input counts as one block.
    pub weights: Vec<f32>,
    /// What follows.
    pub stages: Vec<Stage>,
}

/// Channels of the input that go into one pass over the taps.
fn input_blocks(input: &View) -> impl Iterator<Item = usize> + '_ {
    let step = if input.pixel == LANES { LANES } else { input.size.c };
    (0..input.size.c).step_by(step).map(move |c| step.min(input.size.c - c))
}

impl Conv {
    /// Orders weights `[O, C, kh, kw]` for the kernel.
    pub fn pack(weights: &[f32], outputs: usize, input: &View, window: &Window) -> Vec<f32> {
        let channels = input.size.c;
        let taps = window.kernel[0] * window.kernel[1];
        let mut packed = Vec::with_capacity(outputs.div_ceil(LANES) * LANES * channels * taps);
        for block in 0..outputs.div_ceil(LANES) {
            let mut first = 0;
            for count in input_blocks(input) {
                for tap in 0..taps {
                    for c in first..first + count {
                        for lane in 0..LANES {
                            let o = block * LANES + lane;
                            let value = if o < outputs { weights[(o * channels + c) * taps + tap] } else { 0.0 };
                            packed.push(value);
                        }
                    }
                }
                first += count;
            }
        }
        packed
    }

    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// f32 of the packed weights of one output block.
    fn block_weights(&self) -> usize {
        self.input.size.c * self.taps() * LANES
    }
}

/// The sum over all taps and channels for one tile. `S`: floats from one pixel's input to the next pixel's.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const O: usize, const P: usize, const S: usize>(
    conv: &Conv,
    base: *const f32,
    block: usize,
    y: usize,
    x: usize,
) -> [[V; P]; O] {
    unsafe {
        let mut sums = [[V::splat(0.0); P]; O];
        let [kernel_h, kernel_w] = conv.window.kernel;
        let input = &conv.input;
        let block_weights = conv.block_weights();
        let mut weights = conv.weights.as_ptr().add(block * block_weights);
        // The halo holds what lies before the first row and column.
        let corner = base
            .add(input.offset + y * conv.window.stride[0] * input.row + x * S)
            .sub(conv.window.before[0] * input.row + conv.window.before[1] * input.pixel);
        let (per_block, channel_step) = if input.pixel == LANES { (LANES, 1) } else { (input.size.c, input.plane) };
        let mut left = input.size.c;
        let mut plane = corner;
        while left > 0 {
            let count = left.min(per_block);
            for ky in 0..kernel_h {
                for kx in 0..kernel_w {
                    let mut from = plane
                        .add(ky * conv.window.dilation[0] * input.row + kx * conv.window.dilation[1] * input.pixel);
                    for _ in 0..count {
                        let mut weight = [V::splat(0.0); O];
                        for (o, weight) in weight.iter_mut().enumerate() {
                            *weight = V::load(weights.add(o * block_weights));
                        }
                        for p in 0..P {
                            let value = V::splat(*from.add(p * S));
                            for o in 0..O {
                                sums[o][p] = value.mul_add(weight[o], sums[o][p]);
                            }
                        }
                        weights = weights.add(LANES);
                        from = from.add(channel_step);
                    }
                }
            }
            left -= count;
            plane = plane.add(input.plane);
        }
        sums
    }
}

#[inline(always)]
unsafe fn tile<V: Lanes, const O: usize, const P: usize, const S: usize>(
    conv: &Conv,
    base: *mut f32,
    (block, y, x): (usize, usize, usize),
) {
    unsafe {
        let sums = accumulate::<V, O, P, S>(conv, base, block, y, x);
        let sums = epilogue::apply(sums, &conv.stages, base, (block, y, x));
        for (o, line) in sums.iter().enumerate() {
            let to = base.add(conv.output.at(block + o, y, x));
            for (p, value) in line.iter().enumerate() {
                value.store(to.add(p * LANES));
            }
        }
    }
}

/// All rows asked for. `S`: floats from one pixel's input to the next pixel's.
struct Lines<'a, const S: usize> {
    conv: &'a Conv,
    base: *mut f32,
    rows: Range<usize>,
}

impl<const S: usize> TileJob for Lines<'_, S> {
    #[inline(always)]
    unsafe fn run<V: Lanes, const P: usize>(self) {
        let Self { conv, base, rows } = self;
        let width = conv.output.size.w;
        let blocks = conv.output.size.blocks();
        // Narrow tiles take more output channels, so that there are always enough independent sums.
        let most = match P {
            _ if V::OUTPUT_BLOCKS == 1 => 1,
            1..=3 => 8,
            4..=7 => 4,
            _ => 2,
        };
        let wide = if most == 1 { 0 } else { blocks / most };
        let groups = wide + blocks - wide * most;
        // Few weights: they stay in the cache while the picture passes once. Many: a row band of the picture stays
        // while the weights pass once.
        let small = conv.weights.len() * size_of::<f32>() <= FIRST_CACHE;
        let tiles = width.div_ceil(P);
        for i in 0..groups * rows.len() {
            let (group, y) = if small { (i % groups, i / groups) } else { (i / rows.len(), i % rows.len()) };
            let y = rows.start + y;
            for t in 0..tiles {
                // The last tile overlaps the one before it: its pixels are computed twice, to the same values.
                let x = (t * P).min(width - P);
                unsafe {
                    if group >= wide {
                        tile::<V, 1, P, S>(conv, base, (wide * most + group - wide, y, x));
                    } else if P <= 3 {
                        tile::<V, 8, P, S>(conv, base, (group * 8, y, x));
                    } else if P <= 7 {
                        tile::<V, 4, P, S>(conv, base, (group * 4, y, x));
                    } else {
                        tile::<V, 2, P, S>(conv, base, (group * 2, y, x));
                    }
                }
            }
        }
    }
}

/// The width of tile that leaves least over.
fn tile_width(width: usize, most: usize) -> usize {
    let tiles = width.div_ceil(most);
    width.div_ceil(tiles)
}

/// Computes these rows of the output.
pub struct Rows<'a> {
    /// The convolution. The input's halo is at least the padding, the output overlaps no tensor that is read.
    pub conv: &'a Conv,
    /// The plan's memory, which holds every view of the convolution.
    pub base: *mut f32,
    /// Rows, within the output.
    pub rows: Range<usize>,
}

impl Job for Rows<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { conv, base, rows } = self;
        unsafe {
            let width = conv.output.size.w;
            match conv.window.stride[1] * conv.input.pixel {
                16 => V::with_any_tile(tile_width(width, V::TILE), Lines::<16> { conv, base, rows }),
                32 => V::with_wide_tile(width, Lines::<32> { conv, base, rows }),
                1 => V::with_wide_tile(width, Lines::<1> { conv, base, rows }),
                2 => V::with_wide_tile(width, Lines::<2> { conv, base, rows }),
                4 => V::with_wide_tile(width, Lines::<4> { conv, base, rows }),
                step => V::outline(OddStep { conv, base, rows, step }),
            }
        }
    }
}

/// Other strides: pixel by pixel.
struct OddStep<'a> {
    conv: &'a Conv,
    base: *mut f32,
    rows: Range<usize>,
    step: usize,
}

impl Job for OddStep<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { conv, base, rows, step } = self;
        unsafe {
            for y in rows {
                for block in 0..conv.output.size.blocks() {
                    for x in 0..conv.output.size.w {
                        // S only spaces the pixels of a tile; a tile of one pixel starts where it is told.
                        let sums = accumulate::<V, 1, 1, 1>(conv, base, block, y, x * step);
                        let sums = epilogue::apply(sums, &conv.stages, base, (block, y, x));
                        sums[0][0].store(base.add(conv.output.at(block, y, x)));
                    }
                }
            }
        }
    }
}
