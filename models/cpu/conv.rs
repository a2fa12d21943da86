//! Dense convolution on blocked (or planar) pictures: 1x1, 3x3, any window. Direct, with the accumulators of a tile
//! of pixels and output channels in registers over the whole sum.
#![allow(clippy::needless_range_loop, reason = "indices with constant bounds are what unrolls")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "kernels: what they ask for is said at `All`, and `Step::run` keeps to it"
)]

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
    /// The same in 8 bits, of a quantised network on a picture so small that the time goes into fetching weights:
    /// one scale per output channel is then a stage, and the bias is divided by it.
    pub small_weights: Option<Vec<i8>>,
    /// What the sums begin with: one value per output channel, padded to whole blocks.
    pub bias: Vec<f32>,
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
    fn pack<T: Copy + Default>(weights: &[T], outputs: usize, input: &View, window: &Window) -> Vec<T> {
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
                            let from = (o * channels + c) * taps + tap;
                            packed.push(if o < outputs { weights[from] } else { T::default() });
                        }
                    }
                }
                first += count;
            }
        }
        packed
    }

    /// A convolution. `shift` is added to the sums, one constant per output channel.
    pub fn new(
        (input, output): (View, View),
        window: Window,
        weights: &[f32],
        shift: Vec<f32>,
        mut stages: Vec<Stage>,
    ) -> Self {
        let outputs = output.size.c;
        let mut bias = shift;
        bias.resize(outputs.next_multiple_of(LANES), 0.0);
        let few_pixels = output.size.w <= 5 && output.size.h <= 5 && window.stride[1] * input.pixel == LANES;
        let eighths = if few_pixels { in_eight_bits(weights, outputs) } else { None };
        let (weights, small_weights) = match eighths {
            Some((numbers, mut scales)) => {
                scales.resize(bias.len(), 1.0);
                bias.iter_mut().zip(&scales).for_each(|(bias, scale)| *bias /= scale);
                stages.insert(0, Stage::Scale(scales));
                (Vec::new(), Some(Self::pack(&numbers, outputs, &input, &window)))
            }
            None => (Self::pack(weights, outputs, &input, &window), None),
        };
        Self { input, output, window, weights, small_weights, bias, stages }
    }

    /// The result replaces a tensor that is added to it. Only where pixels follow each other without a stride.
    pub fn in_place(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Add(view) if view.offset == self.output.offset))
    }

    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// f32 of the packed weights of one output block.
    fn block_weights(&self) -> usize {
        self.input.size.c * self.taps() * LANES
    }
}

/// Weights that are whole numbers of at most 7 bits and a sign, times one scale per output channel: what the weights
/// of a quantised network are. `None` when they are not.
fn in_eight_bits(weights: &[f32], outputs: usize) -> Option<(Vec<i8>, Vec<f32>)> {
    let per_output = weights.len().checked_div(outputs)?;
    let mut numbers = Vec::with_capacity(weights.len());
    let mut scales = Vec::with_capacity(outputs);
    for filter in weights.chunks_exact(per_output.max(1)) {
        let most = filter.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
        // The largest weight is the number 127, 128 or, where the range was not used up, one a little below.
        let scale = (64..=128u8).rev().map(|n| most / f32::from(n)).find(|scale| {
            filter.iter().all(|weight| {
                let number = weight / scale;
                (number - number.round()).abs() < 2e-3 && (-128.5..127.5).contains(&number)
            })
        });
        let scale = if most == 0.0 { 1.0 } else { scale? };
        numbers.extend(filter.iter().map(|weight| (weight / scale).round() as i8));
        scales.push(scale);
    }
    Some((numbers, scales))
}

/// The sum over all taps and channels for one tile. `S`: floats from one pixel's input to the next pixel's.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const O: usize, const P: usize, const S: usize, const I8: bool>(
    conv: &Conv,
    base: *const f32,
    block: usize,
    y: usize,
    x: usize,
) -> [[V; P]; O] {
    let mut sums = [[V::splat(0.0); P]; O];
    for o in 0..O {
        sums[o] = [V::load(conv.bias.as_ptr().add((block + o) * LANES)); P];
    }
    let [kernel_h, kernel_w] = conv.window.kernel;
    let input = &conv.input;
    let block_weights = conv.block_weights();
    let mut weights = conv.weights.as_ptr().wrapping_add(block * block_weights);
    let mut small = match &conv.small_weights {
        Some(small) if I8 => small.as_ptr().wrapping_add(block * block_weights),
        _ => std::ptr::null(),
    };
    // The halo holds what lies before the first row and column.
    let corner = base
        .add(input.offset + y * conv.window.stride[0] * input.row + x * S)
        .sub(conv.window.before[0] * input.row + conv.window.before[1] * input.pixel);
    let (per_block, channel_step) =
        if input.pixel == LANES { (LANES, 1) } else { (input.size.c, input.plane) };
    let mut left = input.size.c;
    let mut plane = corner;
    while left > 0 {
        let count = left.min(per_block);
        for ky in 0..kernel_h {
            for kx in 0..kernel_w {
                let mut from = plane.add(
                    ky * conv.window.dilation[0] * input.row + kx * conv.window.dilation[1] * input.pixel,
                );
                for _ in 0..count {
                    let mut weight = [V::splat(0.0); O];
                    for (o, weight) in weight.iter_mut().enumerate() {
                        *weight = if I8 {
                            V::load_i8(small.add(o * block_weights))
                        } else {
                            V::load(weights.add(o * block_weights))
                        };
                    }
                    for p in 0..P {
                        let value = V::splat(*from.add(p * S));
                        for o in 0..O {
                            sums[o][p] = value.mul_add(weight[o], sums[o][p]);
                        }
                    }
                    weights = weights.wrapping_add(LANES);
                    small = small.wrapping_add(LANES);
                    from = from.add(channel_step);
                }
            }
        }
        left -= count;
        plane = plane.add(input.plane);
    }
    sums
}

#[inline(always)]
unsafe fn tile<V: Lanes, const O: usize, const P: usize, const S: usize, const I8: bool>(
    conv: &Conv,
    base: *mut f32,
    (block, y, x): (usize, usize, usize),
) {
    let sums = accumulate::<V, O, P, S, I8>(conv, base, block, y, x);
    let sums = epilogue::apply(sums, &conv.stages, base, (block, y, x));
    for (o, line) in sums.iter().enumerate() {
        let to = base.add(conv.output.at(block + o, y, x));
        for (p, value) in line.iter().enumerate() {
            value.store(to.add(p * LANES));
        }
    }
}

/// All rows, some columns. `S`: floats from one pixel's input to the next pixel's.
struct Lines<'a, const S: usize, const I8: bool> {
    conv: &'a Conv,
    base: *mut f32,
    columns: Range<usize>,
}

impl<const S: usize, const I8: bool> TileJob for Lines<'_, S, I8> {
    #[inline(always)]
    unsafe fn run<V: Lanes, const P: usize>(self) {
        let Self { conv, base, columns } = self;
        let (rows, width) = (conv.output.size.h, columns.len());
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
        // Few weights: they stay in the cache while the picture passes once. Many: the picture stays in the
        // second cache while the weights pass once.
        let small = conv.block_weights() * blocks * size_of::<f32>() <= FIRST_CACHE;
        let tiles = width.div_ceil(P);
        for i in 0..groups * rows {
            let (group, y) = if small { (i % groups, i / groups) } else { (i / rows, i % rows) };
            for t in 0..tiles {
                // The last tile overlaps the one before it: its pixels are computed twice, to the same values.
                let x = columns.start + (t * P).min(width - P);
                if group >= wide {
                    tile::<V, 1, P, S, I8>(conv, base, (wide * most + group - wide, y, x));
                } else if P <= 3 {
                    tile::<V, 8, P, S, I8>(conv, base, (group * 8, y, x));
                } else if P <= 7 {
                    tile::<V, 4, P, S, I8>(conv, base, (group * 4, y, x));
                } else {
                    tile::<V, 2, P, S, I8>(conv, base, (group * 2, y, x));
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

/// Computes the output.
pub struct All<'a> {
    /// The convolution. The input's halo is at least the padding; the output overlaps no tensor that is read, except
    /// that it may be the one that is added ([`Conv::in_place`]).
    pub conv: &'a Conv,
    /// The plan's memory, which holds every view of the convolution.
    pub base: *mut f32,
}

impl Job for All<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { conv, base } = self;
        if conv.output.size.c <= V::Narrow::LIVE && V::Narrow::LIVE < V::LIVE {
            return V::Narrow::outline(self);
        }
        let width = conv.output.size.w;
        let columns = 0..width;
        match conv.window.stride[1] * conv.input.pixel {
            LANES if conv.small_weights.is_some() => {
                V::with_narrow_tile(width, Lines::<LANES, true> { conv, base, columns });
            }
            LANES if conv.in_place() => {
                // No pixel may be computed twice: whole tiles, and the rest as one of its own width.
                let widest = width.min(V::TILE);
                let rest = width / widest * widest;
                V::with_any_tile(widest, Lines::<LANES, false> { conv, base, columns: 0..rest });
                if rest < width {
                    V::with_any_tile(
                        width - rest,
                        Lines::<LANES, false> { conv, base, columns: rest..width },
                    );
                }
            }
            LANES => {
                V::with_any_tile(tile_width(width, V::TILE), Lines::<LANES, false> { conv, base, columns })
            }
            32 => V::with_wide_tile(width, Lines::<32, false> { conv, base, columns }),
            1 => V::with_wide_tile(width, Lines::<1, false> { conv, base, columns }),
            2 => V::with_wide_tile(width, Lines::<2, false> { conv, base, columns }),
            4 => V::with_wide_tile(width, Lines::<4, false> { conv, base, columns }),
            step => V::outline(OddStep { conv, base, step }),
        }
    }
}

/// Other strides: pixel by pixel.
struct OddStep<'a> {
    conv: &'a Conv,
    base: *mut f32,
    step: usize,
}

impl Job for OddStep<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Self { conv, base, step } = self;
        for y in 0..conv.output.size.h {
            for block in 0..conv.output.size.blocks() {
                for x in 0..conv.output.size.w {
                    // S only spaces the pixels of a tile; a tile of one pixel starts where it is told.
                    let sums = accumulate::<V, 1, 1, 1, false>(conv, base, block, y, x * step);
                    let sums = epilogue::apply(sums, &conv.stages, base, (block, y, x));
                    sums[0][0].store(base.add(conv.output.at(block, y, x)));
                }
            }
        }
    }
}
