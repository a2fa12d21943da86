//! The half of an SSD head that says where boxes lie, computed only at the pixels where a class is certain enough that a
//! box can become a detection. Nobody reads the others; what is computed is the same to the last bit.
#![allow(clippy::needless_range_loop, reason = "indices with constant bounds are what unrolls")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "kernels: what they ask for is said at `BoxesAll`, and `Step::run` keeps to it"
)]

use super::conv::Conv;
use super::convert::Flat;
use super::epilogue;
use super::lanes::{Job, LANES, Lanes, TileJob};
use super::plain::Source;
use super::step::{Kernel, Step};
use crate::graph::{DetectionOutput, Op};

/// A convolution whose result is a list of boxes, four numbers each, channels last.
#[derive(Debug, Clone)]
pub struct Boxes {
    /// The convolution. Of its output only the size counts: it has no place in memory.
    pub conv: Conv,
    /// Certainties, one per class for each box of each pixel.
    pub scores: Flat,
    /// Where the boxes go; those that nobody reads are 0.
    pub output: Flat,
    /// What reads them.
    pub reader: DetectionOutput,
}

impl Boxes {
    /// Pixels with a box that can become a detection.
    fn wanted(&self, memory: &[f32]) -> Vec<usize> {
        let DetectionOutput { classes, background, confidence, .. } = self.reader;
        let scores = &memory[self.scores.offset..self.scores.offset + self.scores.len];
        let per_pixel = self.conv.output.size.c / 4 * classes;
        let certain = |(n, score): (usize, &f32)| *score > confidence && background != Some(n % classes);
        let pixels = scores.chunks_exact(per_pixel).enumerate();
        pixels.filter(|(_, own)| own.iter().enumerate().any(certain)).map(|(pixel, _)| pixel).collect()
    }

    /// Computes the boxes.
    ///
    /// # Safety
    /// The processor has the instructions; the convolution's input, the certainties and the output lie in `memory`, and the
    /// halo is at least the padding.
    pub unsafe fn run(&self, isa: super::lanes::Isa, memory: &mut [f32]) {
        let wanted = self.wanted(memory);
        memory[self.output.offset..self.output.offset + self.output.len].fill(0.0);
        isa.run(BoxesAll { of: self, base: memory.as_mut_ptr(), wanted: &wanted });
    }
}

/// The boxes of some pixels.
struct BoxesAll<'a> {
    of: &'a Boxes,
    base: *mut f32,
    wanted: &'a [usize],
}

impl Job for BoxesAll<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        V::with_wide_tile(V::TILE, self);
    }
}

impl TileJob for BoxesAll<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes, const P: usize>(self) {
        let Self { of, base, wanted } = self;
        let blocks = of.conv.output.size.blocks();
        for group in wanted.chunks(P) {
            // A group that is not full computes its last pixel several times.
            let pixels: [usize; P] = std::array::from_fn(|p| group[p.min(group.len() - 1)]);
            let mut block = 0;
            while block < blocks {
                if V::OUTPUT_BLOCKS == 2 && block + 2 <= blocks {
                    tile::<V, 2, P>(of, base, block, &pixels);
                    block += 2;
                } else {
                    tile::<V, 1, P>(of, base, block, &pixels);
                    block += 1;
                }
            }
        }
    }
}

/// The same sums in the same order as `conv` has, for pixels that lie anywhere.
#[inline(always)]
unsafe fn tile<V: Lanes, const O: usize, const P: usize>(
    of: &Boxes,
    base: *mut f32,
    block: usize,
    pixels: &[usize; P],
) {
    let Conv { input, output, window, weights, bias, stages, .. } = &of.conv;
    let taps = window.kernel[0] * window.kernel[1];
    let block_weights = input.size.c * taps * LANES;
    let mut sums = [[V::splat(0.0); P]; O];
    for o in 0..O {
        sums[o] = [V::load(bias.as_ptr().add((block + o) * LANES)); P];
    }
    let mut from = [base.cast_const(); P];
    for p in 0..P {
        let (y, x) = (pixels[p] / output.size.w, pixels[p] % output.size.w);
        from[p] = base
            .add(input.at(0, y * window.stride[0], x * window.stride[1]))
            .sub(window.before[0] * input.row + window.before[1] * LANES);
    }
    let mut weight = weights.as_ptr().add(block * block_weights);
    for plane in 0..input.planes() {
        let channels = LANES.min(input.size.c - plane * LANES);
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                let tap = plane * input.plane
                    + ky * window.dilation[0] * input.row
                    + kx * window.dilation[1] * LANES;
                for c in 0..channels {
                    let mut own = [V::splat(0.0); O];
                    for o in 0..O {
                        own[o] = V::load(weight.add(o * block_weights));
                    }
                    for p in 0..P {
                        let value = V::splat(*from[p].add(tap + c));
                        for o in 0..O {
                            sums[o][p] = value.mul_add(own[o], sums[o][p]);
                        }
                    }
                    weight = weight.add(LANES);
                }
            }
        }
    }
    // The stages have constants per channel only; where the tile lies makes no difference to them.
    let sums = epilogue::apply(sums, stages, base, (block, 0, 0));
    for o in 0..O {
        let first = (block + o) * LANES;
        let count = LANES.min(output.size.c - first);
        for p in 0..P {
            let mut values = [0.0f32; LANES];
            sums[o][p].store(values.as_mut_ptr());
            let to = base.add(of.output.offset + pixels[p] * output.size.c + first);
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, count);
        }
    }
}

/// Finds heads of one level and puts the convolutions of their boxes behind those of their certainties.
pub fn compute_where_wanted(steps: &mut Vec<Step>, outputs: &[Flat]) {
    let mut at = 0;
    while at < steps.len() {
        if let Some(Found { conv, rows, boxes }) = find(steps, at, outputs) {
            let name = steps[conv].name.clone();
            steps.insert(at, Step { name, kernel: Kernel::Boxes(Box::new(boxes)) });
            let (first, second) = (conv.min(rows), conv.max(rows));
            steps.remove(second);
            steps.remove(first);
        }
        at += 1;
    }
}

struct Found {
    conv: usize,
    rows: usize,
    boxes: Boxes,
}

/// Steps that touch a buffer.
fn touching(steps: &mut [Step], buffer: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for (n, step) in steps.iter_mut().enumerate() {
        let mut touches = false;
        step.visit(&mut |view| touches |= view.buffer == buffer, &mut |_| {});
        step.visit(&mut |_| {}, &mut |flat| touches |= flat.buffer == buffer);
        if touches {
            found.push(n);
        }
    }
    found
}

/// The head whose boxes the step `at` reads, if they are made for it alone by one convolution.
fn find(steps: &mut [Step], at: usize, outputs: &[Flat]) -> Option<Found> {
    let Kernel::Plain(step) = &steps[at].kernel else { return None };
    let Op::DetectionOutput(reader) = &step.op else { return None };
    let reader = reader.clone();
    let [(Source::Memory(boxes), _), (Source::Memory(scores), _), ..] = step.inputs[..] else { return None };
    if outputs.iter().any(|flat| flat.buffer == boxes.buffer) {
        return None;
    }
    let [rows, _] = touching(steps, boxes.buffer)[..] else { return None };
    let Kernel::ToRows { input, output, row, column: 0 } = steps[rows].kernel else { return None };
    if output != boxes || row != input.size.c || rows >= at {
        return None;
    }
    let [conv, _] = touching(steps, input.buffer)[..] else { return None };
    let Kernel::Conv(own) = &steps[conv].kernel else { return None };
    let size = own.output.size;
    let read = own.input.buffer;
    let fits = own.output == input
        && own.input.pixel == LANES
        && own.small_weights.is_none()
        && own.stages.iter().all(|stage| !stage.reads_memory())
        && size.c.is_multiple_of(4)
        && reader.classes > 0
        && boxes.len == size.c * size.h * size.w
        && scores.len == boxes.len / 4 * reader.classes;
    // What it reads must still be there when it is computed later.
    let kept =
        steps[conv..at].iter().skip(1).all(|step| step.written().is_none_or(|view| view.buffer != read));
    let boxes = Boxes { conv: own.clone(), scores, output: boxes, reader };
    (fits && kept).then_some(Found { conv, rows, boxes })
}
