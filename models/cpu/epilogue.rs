//! What is done with values on their way from the accumulators to memory: bias, residual, activation, gate.

use super::lanes::{Job, LANES, Lanes};
use super::layout::View;
use crate::graph::Unary;

/// One step of an epilogue. Constants per channel are padded to whole blocks.
#[derive(Debug, Clone)]
pub enum Stage {
    /// + constant per channel.
    Shift(Vec<f32>),
    /// * constant per channel.
    Scale(Vec<f32>),
    /// x where x > 0, else constant per channel * x.
    PRelu(Vec<f32>),
    /// An activation.
    Act(Unary),
    /// + a tensor of the same size.
    Add(View),
    /// * a tensor of the same size.
    Mul(View),
    /// a tensor of the same size - x
    SubFrom(View),
    /// + one computed value per channel.
    ShiftBy(View),
    /// * one computed value per channel.
    ScaleBy(View),
}

#[inline(always)]
unsafe fn each<V: Lanes, const O: usize, const P: usize>(tile: &mut [[V; P]; O], f: impl Fn(V) -> V) {
    for line in tile.iter_mut() {
        for value in line.iter_mut() {
            *value = f(*value);
        }
    }
}

#[inline(always)]
unsafe fn per_channel<V: Lanes, const O: usize, const P: usize>(
    tile: &mut [[V; P]; O],
    constants: *const f32,
    step: usize,
    f: impl Fn(V, V) -> V,
) {
    unsafe {
        for (o, line) in tile.iter_mut().enumerate() {
            let constant = V::load(constants.add(o * step));
            for value in line.iter_mut() {
                *value = f(*value, constant);
            }
        }
    }
}

#[inline(always)]
unsafe fn per_value<V: Lanes, const O: usize, const P: usize>(
    tile: &mut [[V; P]; O],
    other: *const f32,
    view: &View,
    f: impl Fn(V, V) -> V,
) {
    unsafe {
        for (o, line) in tile.iter_mut().enumerate() {
            for (p, value) in line.iter_mut().enumerate() {
                *value = f(*value, V::load(other.add(o * view.plane + p * LANES)));
            }
        }
    }
}

/// Applies an activation to every vector of a tile.
#[inline(always)]
unsafe fn activate<V: Lanes, const O: usize, const P: usize>(tile: &mut [[V; P]; O], act: Unary) {
    unsafe {
        let zero = V::splat(0.0);
        let one = V::splat(1.0);
        match act {
            Unary::Relu => each(tile, |x| x.max(zero)),
            Unary::LeakyRelu(slope) => {
                let slope = V::splat(slope);
                each(tile, |x| x.where_positive(x, x.mul(slope)));
            }
            Unary::Sigmoid => each(tile, |x| x.sigmoid()),
            Unary::Silu => each(tile, |x| x.mul(x.sigmoid())),
            Unary::HardSwish => {
                let (three, six) = (V::splat(3.0), V::splat(6.0));
                let sixth = V::splat(1.0 / 6.0);
                each(tile, |x| x.mul(x.add(three).max(zero).min(six)).mul(sixth));
            }
            Unary::HardSigmoid(alpha, beta) => {
                let (alpha, beta) = (V::splat(alpha), V::splat(beta));
                each(tile, |x| x.mul_add(alpha, beta).max(zero).min(one));
            }
            Unary::Clamp(low, high) => {
                let (low, high) = (V::splat(low), V::splat(high));
                each(tile, |x| x.max(low).min(high));
            }
            Unary::Exp => each(tile, |x| x.exp()),
            Unary::Neg => each(tile, |x| zero.sub(x)),
            Unary::Abs => each(tile, |x| x.max(zero.sub(x))),
            Unary::Elu(alpha) => {
                let alpha = V::splat(alpha);
                each(tile, |x| x.where_positive(x, x.exp().sub(one).mul(alpha)));
            }
            // tanh x = 2 sigmoid(2x) - 1
            Unary::Tanh => {
                let two = V::splat(2.0);
                each(tile, |x| x.mul(two).sigmoid().mul_add(two, zero.sub(one)));
            }
            // The plan gives these to the plain interpreter: no network needs them fast.
            Unary::Log | Unary::Sqrt => {}
        }
    }
}

/// Which activations there is a kernel for.
pub fn has_kernel(act: Unary) -> bool {
    !matches!(act, Unary::Log | Unary::Sqrt)
}

/// Where a tile lies: channel block, row, column.
pub type Place = (usize, usize, usize);

/// One stage on a tile that lies in memory. Compiled once, not into every size of tile.
struct Spilled<'a> {
    values: *mut f32,
    blocks: usize,
    pixels: usize,
    stage: &'a Stage,
    base: *const f32,
    place: Place,
}

impl Job for Spilled<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        unsafe {
            let (block, y, x) = self.place;
            for o in 0..self.blocks {
                for p in 0..self.pixels {
                    let at = self.values.add((o * self.pixels + p) * LANES);
                    let mut value = [[V::load(at)]];
                    one_stage(&mut value, self.stage, self.base, (block + o, y, x + p));
                    value[0][0].store(at);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn one_stage<V: Lanes, const O: usize, const P: usize>(
    tile: &mut [[V; P]; O],
    stage: &Stage,
    base: *const f32,
    (block, y, x): Place,
) {
    unsafe {
        match stage {
            Stage::Shift(v) => per_channel(tile, v.as_ptr().add(block * LANES), LANES, |x, c| x.add(c)),
            Stage::Scale(v) => per_channel(tile, v.as_ptr().add(block * LANES), LANES, |x, c| x.mul(c)),
            Stage::PRelu(v) => {
                per_channel(tile, v.as_ptr().add(block * LANES), LANES, |x, c| x.where_positive(x, x.mul(c)));
            }
            Stage::Act(act) => activate(tile, *act),
            Stage::Add(view) => per_value(tile, base.add(view.at(block, y, x)), view, |x, o| x.add(o)),
            Stage::Mul(view) => per_value(tile, base.add(view.at(block, y, x)), view, |x, o| x.mul(o)),
            Stage::SubFrom(view) => per_value(tile, base.add(view.at(block, y, x)), view, |x, o| o.sub(x)),
            Stage::ShiftBy(view) => per_channel(tile, base.add(view.at(block, 0, 0)), view.plane, |x, c| x.add(c)),
            Stage::ScaleBy(view) => per_channel(tile, base.add(view.at(block, 0, 0)), view.plane, |x, c| x.mul(c)),
        }
    }
}

/// Applies the stages to a tile in registers.
///
/// # Safety
/// As for [`Lanes`]; `base` is the plan's memory, which holds every view of the stages, and the tile lies within them.
#[inline(always)]
pub unsafe fn apply<V: Lanes, const O: usize, const P: usize>(
    tile: &mut [[V; P]; O],
    stages: &[Stage],
    base: *const f32,
    place: Place,
) {
    unsafe {
        for stage in stages {
            match stage {
                // What nearly every network does stays in registers; each of these is a few instructions.
                Stage::Shift(_) | Stage::PRelu(_) | Stage::Add(_) => one_stage(tile, stage, base, place),
                Stage::Act(Unary::Relu) => activate(tile, Unary::Relu),
                _ => {
                    // A copy: the tile itself must not have its address taken, or it would live in memory.
                    let mut spilled = *tile;
                    let values = (&raw mut spilled).cast();
                    V::outline(Spilled { values, blocks: O, pixels: P, stage, base, place });
                    *tile = spilled;
                }
            }
        }
    }
}
