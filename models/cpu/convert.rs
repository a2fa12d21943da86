//! Between layouts: plain input to planar, blocked to plain in either order, and the zeros of the halo.
//! Safe code on slices: none of this is where the time goes.

use super::lanes::LANES;
use super::layout::View;

/// Where a plain tensor lies. Offsets count f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flat {
    /// The buffer it lies in, until addresses are given out; see `plan`.
    pub buffer: usize,
    /// Of its first value.
    pub offset: usize,
    /// Number of values.
    pub len: usize,
}

/// Writes the zeros around the planes of a view.
pub fn clear_halo(memory: &mut [f32], view: &View) {
    let halo = view.halo;
    if halo.is_none() {
        return;
    }
    let planes = view.planes();
    let start = view.start();
    for plane in memory[start..start + planes * view.plane].chunks_exact_mut(view.plane) {
        let (above, rest) = plane.split_at_mut(halo.top * view.row);
        above.fill(0.0);
        let (middle, below) = rest.split_at_mut(view.size.h * view.row);
        below.fill(0.0);
        if halo.left + halo.right > 0 {
            for row in middle.chunks_exact_mut(view.row) {
                row[..halo.left * view.pixel].fill(0.0);
                row[(halo.left + view.size.w) * view.pixel..].fill(0.0);
            }
        }
    }
}

/// Plain `[C, H, W]` into a blocked view; lanes beyond C become 0.
pub fn plain_to_blocked(memory: &mut [f32], plain: Flat, view: &View) {
    let (h, w) = (view.size.h, view.size.w);
    for block in 0..view.planes() {
        for y in 0..h {
            for lane in 0..LANES {
                let c = block * LANES + lane;
                for x in 0..w {
                    let value =
                        if c < view.size.c { memory[plain.offset + (c * h + y) * w + x] } else { 0.0 };
                    memory[view.at(block, y, x) + lane] = value;
                }
            }
        }
    }
}

/// A blocked or planar view to plain `[C, H, W]`.
pub fn to_plain(memory: &mut [f32], view: &View, plain: Flat) {
    let (h, w) = (view.size.h, view.size.w);
    for c in 0..view.size.c {
        let (plane, lane) = if view.pixel == LANES { (c / LANES, c % LANES) } else { (c, 0) };
        for y in 0..h {
            let to = plain.offset + (c * h + y) * w;
            let from = view.at(plane, y, 0) + lane;
            for x in 0..w {
                memory[to + x] = memory[from + x * view.pixel];
            }
        }
    }
}

/// A blocked view to plain `[H * W, row]` with pixel p's channels from `column` on: what a transposition to
/// channels-last asks for, also as a part of wider rows.
pub fn to_rows(memory: &mut [f32], view: &View, plain: Flat, row: usize, column: usize) {
    let (h, w) = (view.size.h, view.size.w);
    for block in 0..view.planes() {
        let channels = LANES.min(view.size.c - block * LANES);
        for y in 0..h {
            let from = view.at(block, y, 0);
            let to = plain.offset + y * w * row + column + block * LANES;
            if channels == LANES {
                for x in 0..w {
                    memory.copy_within(from + x * LANES..from + (x + 1) * LANES, to + x * row);
                }
            } else {
                for x in 0..w {
                    for c in 0..channels {
                        memory[to + x * row + c] = memory[from + x * LANES + c];
                    }
                }
            }
        }
    }
}

/// One view into another of the same size, which may begin in the middle of a block: for a concatenation that
/// cannot be made in place.
pub fn copy_channels(memory: &mut [f32], from: &View, to: &View, first_channel: usize) {
    for c in 0..from.size.c {
        let target = first_channel + c;
        for y in 0..from.size.h {
            let source = from.at(c / LANES, y, 0) + c % LANES;
            let goal = to.at(target / LANES, y, 0) + target % LANES;
            for x in 0..from.size.w {
                memory[goal + x * LANES] = memory[source + x * LANES];
            }
        }
    }
}
