//! What is done with values on their way from the accumulators to memory: bias, residual, activation, gate.
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels: what they ask for is said at `apply`")]

use super::lanes::{Job, LANES, Lanes};
use super::layout::View;
use crate::graph::Unary;
use crate::graph::fuse::Quantize;

/// One step of an epilogue. Constants per channel are padded to whole blocks.
#[derive(Debug, Clone)]
pub enum Stage {
    /// + constant per channel.
    Shift(Vec<f32>),
    /// * constant per channel.
    Scale(Vec<f32>),
    /// x where x > 0, else constant per channel * x.
    PRelu(Vec<f32>),
    /// The same where all constants are at most 1: then it is the larger of x and constant * x.
    PReluAtMostOne(Vec<f32>),
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
    /// Rounds to steps.
    Quantize(Quantize),
}

impl Stage {
    /// Whether it takes values that the network has computed.
    pub fn reads_memory(&self) -> bool {
        use Stage::*;
        matches!(self, Add(_) | Mul(_) | SubFrom(_) | ShiftBy(_) | ScaleBy(_))
    }
}

/// An activation of one vector. No closures anywhere here: a closure is compiled without the instruction set unless
/// it happens to be inlined.
#[inline(always)]
unsafe fn activate<V: Lanes>(x: V, act: Unary) -> V {
    let zero = V::splat(0.0);
    let one = V::splat(1.0);
    match act {
        Unary::Relu => x.max(zero),
        Unary::LeakyRelu(slope) => x.where_positive(x, x.mul(V::splat(slope))),
        Unary::Sigmoid => x.sigmoid(),
        Unary::Silu => x.mul(x.sigmoid()),
        Unary::HardSwish => x.mul(x.add(V::splat(3.0)).max(zero).min(V::splat(6.0))).mul(V::splat(1.0 / 6.0)),
        Unary::HardSigmoid(alpha, beta) => x.mul_add(V::splat(alpha), V::splat(beta)).max(zero).min(one),
        Unary::Clamp(low, high) => x.max(V::splat(low)).min(V::splat(high)),
        Unary::Exp => x.exp(),
        Unary::Neg => zero.sub(x),
        Unary::Abs => x.max(zero.sub(x)),
        Unary::Elu(alpha) => x.where_positive(x, x.exp().sub(one).mul(V::splat(alpha))),
        // tanh x = 2 sigmoid(2x) - 1
        Unary::Tanh => x.mul(V::splat(2.0)).sigmoid().mul_add(V::splat(2.0), zero.sub(one)),
        // The plan gives these to the plain interpreter: no network needs them fast.
        Unary::Log | Unary::Sqrt => x,
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

/// Replaces every vector of a spilled tile; `o` and `p` say which one it is.
macro_rules! replace {
    ($self:ident, $o:ident, $p:ident, $x:ident, $value:expr) => {
        for $o in 0..$self.blocks {
            for $p in 0..$self.pixels {
                let at = $self.values.add(($o * $self.pixels + $p) * V::LIVE);
                let $x = V::load(at);
                let value: V = $value;
                value.store(at);
            }
        }
    };
}

impl Job for Spilled<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let (block, y, x0) = self.place;
        let constants = |v: &Vec<f32>| v.as_ptr().wrapping_add(block * LANES);
        let other = |view: &View| self.base.wrapping_add(view.at(block, y, x0));
        let channel = |view: &View| self.base.wrapping_add(view.at(block, 0, 0));
        match self.stage {
            Stage::Shift(v) => {
                let c = constants(v);
                replace!(self, o, p, x, x.add(V::load(c.add(o * LANES))));
            }
            Stage::Scale(v) => {
                let c = constants(v);
                replace!(self, o, p, x, x.mul(V::load(c.add(o * LANES))));
            }
            Stage::PRelu(v) | Stage::PReluAtMostOne(v) => {
                let c = constants(v);
                replace!(self, o, p, x, x.where_positive(x, x.mul(V::load(c.add(o * LANES)))));
            }
            // One loop each for the frequent ones: the choice is not made again for every vector.
            Stage::Act(Unary::Silu) => replace!(self, o, p, x, x.mul(x.sigmoid())),
            Stage::Act(Unary::Sigmoid) => replace!(self, o, p, x, x.sigmoid()),
            Stage::Act(act) => replace!(self, o, p, x, activate(x, *act)),
            Stage::Add(view) => {
                let from = other(view);
                replace!(self, o, p, x, x.add(V::load(from.add(o * view.plane + p * LANES))));
            }
            Stage::Mul(view) => {
                let from = other(view);
                replace!(self, o, p, x, x.mul(V::load(from.add(o * view.plane + p * LANES))));
            }
            Stage::SubFrom(view) => {
                let from = other(view);
                replace!(self, o, p, x, V::load(from.add(o * view.plane + p * LANES)).sub(x));
            }
            Stage::ShiftBy(view) => {
                let from = channel(view);
                replace!(self, o, p, x, x.add(V::load(from.add(o * view.plane))));
            }
            Stage::ScaleBy(view) => {
                let from = channel(view);
                replace!(self, o, p, x, x.mul(V::load(from.add(o * view.plane))));
            }
            Stage::Quantize(q) => {
                let (low, high) = (V::splat(q.input[0]), V::splat(q.input[1]));
                let scale = V::splat(q.steps / (q.input[1] - q.input[0]));
                let (out_low, out_scale) =
                    (V::splat(q.output[0]), V::splat((q.output[1] - q.output[0]) / q.steps));
                replace!(self, o, p, x, {
                    x.max(low).min(high).sub(low).mul(scale).round().mul_add(out_scale, out_low)
                });
            }
        }
    }
}

/// Replaces every vector of a tile in registers.
macro_rules! in_registers {
    ($tile:ident, $o:ident, $p:ident, $x:ident, $constant:ident = $load:expr, $value:expr) => {
        for $o in 0..O {
            let $constant = $load;
            for $p in 0..P {
                let $x = $tile[$o][$p];
                $tile[$o][$p] = $value;
            }
        }
    };
}

/// Applies the stages to a tile in registers.
///
/// # Safety
/// As for [`Lanes`]; `base` is the plan's memory, which holds every view of the stages, and the tile lies within them.
#[inline(always)]
pub unsafe fn apply<V: Lanes, const O: usize, const P: usize>(
    mut tile: [[V; P]; O],
    stages: &[Stage],
    base: *const f32,
    place: Place,
) -> [[V; P]; O] {
    let (block, y, x0) = place;
    for stage in stages {
        match stage {
            // What nearly every network does stays in registers; each of these is a few instructions.
            Stage::Shift(v) => {
                let c = v.as_ptr().add(block * LANES);
                in_registers!(tile, o, p, x, shift = V::load(c.add(o * LANES)), x.add(shift));
            }
            Stage::PReluAtMostOne(v) => {
                let c = v.as_ptr().add(block * LANES);
                in_registers!(tile, o, p, x, slope = V::load(c.add(o * LANES)), x.mul(slope).max(x));
            }
            Stage::Act(Unary::Relu) => {
                in_registers!(tile, o, p, x, zero = V::splat(0.0), x.max(zero));
            }
            Stage::Add(view) => {
                let from = base.add(view.at(block, y, x0));
                in_registers!(
                    tile,
                    o,
                    p,
                    x,
                    line = from.add(o * view.plane),
                    x.add(V::load(line.add(p * LANES)))
                );
            }
            _ => {
                // A copy: the tile itself must not have its address taken, or it would live in memory.
                let mut spilled = tile;
                let values = (&raw mut spilled).cast();
                V::outline(Spilled { values, blocks: O, pixels: P, stage, base, place });
                tile = spilled;
            }
        }
    }
    tile
}
