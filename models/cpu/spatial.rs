//! The other kernels on blocked pictures: element by element, pools, doubling, means, normalisation over a plane.
#![allow(clippy::needless_range_loop, reason = "indices with constant bounds are what unrolls")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "kernels: what they ask for is said at the jobs, and `Step::run` keeps to it"
)]

use super::epilogue::{self, Stage};
use super::lanes::{Job, LANES, Lanes};
use super::layout::View;
use crate::graph::Window;

/// Applies stages to a picture.
#[derive(Debug, Clone)]
pub struct Map {
    /// Blocked.
    pub input: View,
    /// Blocked, the same size.
    pub output: View,
    /// What is done.
    pub stages: Vec<Stage>,
}

/// How a window becomes one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest; taps outside do not count.
    Max,
    /// The mean of the taps inside.
    MeanInside,
    /// The sum divided by all taps.
    MeanAll,
}

/// A pool.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Blocked; its halo is not used.
    pub input: View,
    /// Blocked.
    pub output: View,
    /// The window.
    pub window: Window,
    /// Which.
    pub how: Pooling,
}

/// Each pixel repeated `factor` times in both directions.
#[derive(Debug, Clone)]
pub struct Upsample {
    /// Blocked.
    pub input: View,
    /// Blocked, `factor` times as high and wide.
    pub output: View,
    /// At least 1.
    pub factor: usize,
}

/// What a whole plane becomes.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Blocked.
    pub input: View,
    /// Blocked: 1x1 for the mean, the same size for the normalisation.
    pub output: View,
    /// `None`: the mean. Otherwise mean 0 and deviation 1.
    pub normalise: Option<Normalise>,
    /// What follows a normalisation.
    pub stages: Vec<Stage>,
}

/// Division by the deviation of a plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    /// Divide at all.
    pub variance: bool,
    /// Against division by zero.
    pub epsilon: f32,
    /// Epsilon under the root.
    pub inside: bool,
}

impl Normalise {
    /// 1 / deviation.
    pub fn factor(&self, variance: f32) -> f32 {
        if self.inside {
            1.0 / (variance + self.epsilon).sqrt()
        } else {
            1.0 / (variance.sqrt() + self.epsilon)
        }
    }
}

macro_rules! job {
    ($(#[$doc:meta])* $name:ident, $of:ident) => {
        $(#[$doc])*
        pub struct $name<'a> {
            /// What is computed.
            pub of: &'a $of,
            /// The plan's memory, which holds every view.
            pub base: *mut f32,
        }
    };
}

job!(
    /// A whole [`Map`].
    MapAll, Map
);
job!(
    /// A whole [`Pool`].
    PoolAll, Pool
);
job!(
    /// A whole [`Upsample`].
    UpsampleAll, Upsample
);

impl Job for MapAll<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        const TILE: usize = 8;
        let Map { input, output, stages } = self.of;
        for block in 0..output.planes() {
            for y in 0..output.size.h {
                let (from, to) =
                    (self.base.add(input.at(block, y, 0)), self.base.add(output.at(block, y, 0)));
                let mut x = 0;
                while x + TILE <= output.size.w {
                    let mut tile = [[V::splat(0.0); TILE]];
                    for p in 0..TILE {
                        tile[0][p] = V::load(from.add((x + p) * LANES));
                    }
                    let tile = epilogue::apply(tile, stages, self.base, (block, y, x));
                    for p in 0..TILE {
                        tile[0][p].store(to.add((x + p) * LANES));
                    }
                    x += TILE;
                }
                while x < output.size.w {
                    let tile = [[V::load(from.add(x * LANES))]];
                    let tile = epilogue::apply(tile, stages, self.base, (block, y, x));
                    tile[0][0].store(to.add(x * LANES));
                    x += 1;
                }
            }
        }
    }
}

impl Job for PoolAll<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Pool { input, output, window, how } = self.of;
        // Taps of output `o` that lie inside.
        let inside = |o: usize, axis: usize, size: usize| {
            let origin = (o * window.stride[axis]) as isize - window.before[axis] as isize;
            let skip = origin.min(0).unsigned_abs().div_ceil(window.dilation[axis]);
            let start = origin.saturating_add_unsigned(skip * window.dilation[axis]) as usize;
            let taps = size.saturating_sub(start).div_ceil(window.dilation[axis]);
            (start, taps.min(window.kernel[axis].saturating_sub(skip)))
        };
        let all = (window.kernel[0] * window.kernel[1]) as f32;
        for block in 0..output.planes() {
            for y in 0..output.size.h {
                let (top, high) = inside(y, 0, input.size.h);
                // Whole windows, four at a time; the others at the edges one by one.
                let padding = window.before[1];
                let first_whole = padding.div_ceil(window.stride[1]);
                let mut end_whole = first_whole;
                if high == window.kernel[0] && window.dilation == [1, 1] {
                    while end_whole + 4 <= output.size.w
                        && (end_whole + 3) * window.stride[1] + window.kernel[1] <= input.size.w + padding
                    {
                        let first =
                            self.base.add(input.at(block, top, end_whole * window.stride[1] - padding));
                        let step = window.stride[1] * LANES;
                        let mut values = [V::splat(0.0); 4];
                        for i in 0..4 {
                            values[i] = V::load(first.add(i * step));
                        }
                        for ky in 0..window.kernel[0] {
                            for kx in usize::from(ky == 0)..window.kernel[1] {
                                let tap = first.add(ky * input.row + kx * LANES);
                                for i in 0..4 {
                                    let tap = V::load(tap.add(i * step));
                                    values[i] = if *how == Pooling::Max {
                                        values[i].max(tap)
                                    } else {
                                        values[i].add(tap)
                                    };
                                }
                            }
                        }
                        let factor = V::splat(if *how == Pooling::Max { 1.0 } else { 1.0 / all });
                        let to = self.base.add(output.at(block, y, end_whole));
                        for i in 0..4 {
                            values[i].mul(factor).store(to.add(i * LANES));
                        }
                        end_whole += 4;
                    }
                }
                for x in (0..first_whole.min(output.size.w)).chain(end_whole..output.size.w) {
                    let (left, wide) = inside(x, 1, input.size.w);
                    let start = if *how == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
                    let mut value = V::splat(start);
                    for ky in 0..high {
                        let row = self.base.add(input.at(block, top + ky * window.dilation[0], left));
                        for kx in 0..wide {
                            let tap = V::load(row.add(kx * window.dilation[1] * LANES));
                            value = if *how == Pooling::Max { value.max(tap) } else { value.add(tap) };
                        }
                    }
                    value = match how {
                        Pooling::Max => value,
                        Pooling::MeanInside => value.mul(V::splat(1.0 / ((high * wide).max(1) as f32))),
                        Pooling::MeanAll => value.mul(V::splat(1.0 / all)),
                    };
                    value.store(self.base.add(output.at(block, y, x)));
                }
            }
        }
    }
}

impl Job for UpsampleAll<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Upsample { input, output, factor } = self.of;
        for block in 0..output.planes() {
            for y in 0..output.size.h {
                let from = self.base.add(input.at(block, y / factor, 0));
                let to = self.base.add(output.at(block, y, 0));
                for x in 0..input.size.w {
                    let value = V::load(from.add(x * LANES));
                    for i in 0..*factor {
                        value.store(to.add((x * factor + i) * LANES));
                    }
                }
            }
        }
    }
}

/// A whole [`Plane`].
pub struct PlaneAll<'a> {
    /// What is computed.
    pub of: &'a Plane,
    /// The plan's memory, which holds every view.
    pub base: *mut f32,
}

impl Job for PlaneAll<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Plane { input, output, normalise, stages } = self.of;
        let count = (input.size.h * input.size.w) as f32;
        for block in 0..input.planes() {
            let total = sum::<V, false>(self.base, input, block, V::splat(0.0));
            let mean = total.mul(V::splat(1.0 / count));
            let Some(norm) = normalise else {
                mean.store(self.base.add(output.at(block, 0, 0)));
                continue;
            };
            let mut factor = [1.0f32; LANES];
            if norm.variance {
                // A second pass over what is in the cache: the difference of two large sums would lose digits.
                let squares = sum::<V, true>(self.base, input, block, mean);
                squares.mul(V::splat(1.0 / count)).store(factor.as_mut_ptr());
                factor = factor.map(|variance| norm.factor(variance));
            }
            let factor = V::load(factor.as_ptr());
            for y in 0..input.size.h {
                let (from, to) =
                    (self.base.add(input.at(block, y, 0)), self.base.add(output.at(block, y, 0)));
                let mut x = 0;
                while x + 4 <= input.size.w {
                    let mut tile = [[V::splat(0.0); 4]];
                    for p in 0..4 {
                        tile[0][p] = V::load(from.add((x + p) * LANES)).sub(mean).mul(factor);
                    }
                    let tile = epilogue::apply(tile, stages, self.base, (block, y, x));
                    for p in 0..4 {
                        tile[0][p].store(to.add((x + p) * LANES));
                    }
                    x += 4;
                }
                while x < input.size.w {
                    let tile = [[V::load(from.add(x * LANES)).sub(mean).mul(factor)]];
                    let tile = epilogue::apply(tile, stages, self.base, (block, y, x));
                    tile[0][0].store(to.add(x * LANES));
                    x += 1;
                }
            }
        }
    }
}

/// Sum over one block's plane of the values, or of the squares of their distances from `mean`; four sums side by side
/// hide the latency of the addition.
#[inline(always)]
unsafe fn sum<V: Lanes, const SQUARES: bool>(base: *const f32, view: &View, block: usize, mean: V) -> V {
    let mut sums = [V::splat(0.0); 4];
    for y in 0..view.size.h {
        let row = base.add(view.at(block, y, 0));
        let mut x = 0;
        while x + 4 <= view.size.w {
            for i in 0..4 {
                let value = V::load(row.add((x + i) * LANES));
                let off = value.sub(mean);
                sums[i] = if SQUARES { off.mul_add(off, sums[i]) } else { sums[i].add(value) };
            }
            x += 4;
        }
        while x < view.size.w {
            let value = V::load(row.add(x * LANES));
            let off = value.sub(mean);
            sums[0] = if SQUARES { off.mul_add(off, sums[0]) } else { sums[0].add(value) };
            x += 1;
        }
    }
    sums[0].add(sums[1]).add(sums[2].add(sums[3]))
}
