//! One step of a plan: which kernel runs on which views, and how to run it.

use super::conv::{self, Conv};
use super::convert::{self, Flat};
use super::depthwise::{self, Depthwise};
use super::epilogue::Stage;
use super::heads::Boxes;
use super::lanes::Isa;
use super::layout::View;
use super::plain::{self, PlainStep};
use super::spatial::{Map, MapAll, Normalise, Plane, PlaneAll, Pool, PoolAll, Upsample, UpsampleAll};
use crate::graph::Window;

/// Where one channel of the network's input goes, and what is done to it on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputChannel {
    /// Channel of the input.
    pub from: usize,
    /// Mean 0 and deviation 1 over the plane come first.
    pub normalise: Option<Normalise>,
    /// Multiplied with each value.
    pub scale: f32,
    /// Added after that.
    pub shift: f32,
}

impl InputChannel {
    /// A channel as it is.
    pub fn same(from: usize) -> Self {
        Self { from, normalise: None, scale: 1.0, shift: 0.0 }
    }

    /// What the values of a plane are multiplied with and what is added then, normalisation included.
    fn factors(&self, plane: &[f32]) -> (f32, f32) {
        let Some(norm) = self.normalise else { return (self.scale, self.shift) };
        let mean = mean(plane, |value| value);
        let factor = if norm.variance {
            norm.factor(self::mean(plane, |value| (value - mean) * (value - mean)))
        } else {
            1.0
        };
        (factor * self.scale, self.shift - mean * factor * self.scale)
    }
}

/// Mean of a function of the values. Sixteen sums side by side, since one would wait for each addition; short runs of
/// them in f32, the whole in f64, so that no digits are lost on large pictures.
fn mean(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut total = 0.0f64;
    for run in values.chunks(1024) {
        let mut sums = [0.0f32; 16];
        for part in run.chunks(16) {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += f(*value);
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
    }
    (total / values.len() as f64) as f32
}

/// A kernel and what it works on.
#[derive(Debug, Clone)]
pub enum Kernel {
    /// The network's input into a planar view.
    Input { channels: Vec<InputChannel>, output: View },
    /// The network's input as it is.
    InputFlat { output: Flat },
    /// Dense convolution.
    Conv(Conv),
    /// Depthwise convolution.
    Depthwise(Depthwise),
    /// Element by element.
    Map(Map),
    /// Pool.
    Pool(Pool),
    /// Nearest enlargement.
    Upsample(Upsample),
    /// Mean or normalisation of planes.
    Plane(Plane),
    /// Plain to blocked.
    ToBlocked { input: Flat, output: View },
    /// Blocked to plain.
    ToPlain { input: View, output: Flat },
    /// Blocked to channels-last, perhaps as part of wider rows.
    ToRows { input: View, output: Flat, row: usize, column: usize },
    /// Into the middle of another picture's channels.
    CopyChannels { input: View, output: View, first: usize },
    /// The boxes of an SSD head, where somebody reads them.
    Boxes(Box<Boxes>),
    /// Anything else, on plain tensors.
    Plain(PlainStep),
}

/// A step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Of the node in the file.
    pub name: String,
    /// What is computed.
    pub kernel: Kernel,
}

impl Step {
    /// Visits every place in memory that it touches.
    pub fn visit(&mut self, views: &mut dyn FnMut(&mut View), flats: &mut dyn FnMut(&mut Flat)) {
        let mut stages: &mut [Stage] = &mut [];
        match &mut self.kernel {
            Kernel::Input { output, .. } => views(output),
            Kernel::InputFlat { output } => flats(output),
            Kernel::Conv(k) => {
                views(&mut k.input);
                views(&mut k.output);
                stages = &mut k.stages;
            }
            Kernel::Depthwise(k) => {
                views(&mut k.input);
                views(&mut k.output);
                stages = &mut k.stages;
            }
            Kernel::Map(k) => {
                views(&mut k.input);
                views(&mut k.output);
                stages = &mut k.stages;
            }
            Kernel::Plane(k) => {
                views(&mut k.input);
                views(&mut k.output);
                stages = &mut k.stages;
            }
            Kernel::Pool(Pool { input, output, .. })
            | Kernel::Upsample(Upsample { input, output, .. })
            | Kernel::CopyChannels { input, output, .. } => {
                views(input);
                views(output);
            }
            Kernel::ToBlocked { input, output } => {
                flats(input);
                views(output);
            }
            Kernel::ToPlain { input, output } | Kernel::ToRows { input, output, .. } => {
                views(input);
                flats(output);
            }
            Kernel::Boxes(k) => {
                views(&mut k.conv.input);
                flats(&mut k.scores);
                flats(&mut k.output);
            }
            Kernel::Plain(step) => step.visit(flats),
        }
        for stage in stages {
            match stage {
                Stage::Add(view)
                | Stage::Mul(view)
                | Stage::SubFrom(view)
                | Stage::ShiftBy(view)
                | Stage::ScaleBy(view) => views(view),
                _ => {}
            }
        }
    }

    /// The picture that it makes.
    pub fn written(&self) -> Option<&View> {
        match &self.kernel {
            Kernel::Conv(k) => Some(&k.output),
            Kernel::Depthwise(k) => Some(&k.output),
            Kernel::Map(k) => Some(&k.output),
            Kernel::Pool(k) => Some(&k.output),
            Kernel::Upsample(k) => Some(&k.output),
            Kernel::Plane(k) => Some(&k.output),
            Kernel::Input { output, .. }
            | Kernel::ToBlocked { output, .. }
            | Kernel::CopyChannels { output, .. } => Some(output),
            Kernel::InputFlat { .. }
            | Kernel::ToPlain { .. }
            | Kernel::ToRows { .. }
            | Kernel::Boxes(_)
            | Kernel::Plain(_) => None,
        }
    }

    /// Computes the step.
    ///
    /// The plan has checked that every view lies within `memory`, that halos suffice and that outputs overlap no
    /// input: that is what the kernels rely on.
    pub fn run(&self, isa: Isa, memory: &mut [f32], input: &[f32]) {
        if let Some(view) = self.written() {
            convert::clear_halo(memory, view);
        }
        let base = memory.as_mut_ptr();
        // SAFETY: `Plan::new` asked the processor for `isa` and checked every view against the memory's length.
        unsafe {
            match &self.kernel {
                Kernel::Conv(conv) => isa.run(conv::All { conv, base }),
                Kernel::Depthwise(depthwise) => isa.run(depthwise::All { depthwise, base }),
                Kernel::Map(of) => isa.run(MapAll { of, base }),
                Kernel::Pool(of) => isa.run(PoolAll { of, base }),
                Kernel::Upsample(of) => isa.run(UpsampleAll { of, base }),
                Kernel::Plane(of) => isa.run(PlaneAll { of, base }),
                Kernel::Input { channels, output } => load_input(memory, input, channels, output),
                Kernel::InputFlat { output } => {
                    memory[output.offset..output.offset + output.len].copy_from_slice(input);
                }
                Kernel::ToBlocked { input, output } => convert::plain_to_blocked(memory, *input, output),
                Kernel::ToPlain { input, output } => convert::to_plain(memory, input, *output),
                Kernel::ToRows { input, output, row, column } => {
                    convert::to_rows(memory, input, *output, *row, *column);
                }
                Kernel::CopyChannels { input, output, first } => {
                    convert::copy_channels(memory, input, output, *first);
                }
                Kernel::Boxes(boxes) => boxes.run(isa, memory),
                Kernel::Plain(step) => plain::run(step, memory),
            }
        }
    }
}

/// The network's input, plain `[C, H, W]`, into a planar view.
fn load_input(memory: &mut [f32], input: &[f32], channels: &[InputChannel], view: &View) {
    let (h, w) = (view.size.h, view.size.w);
    for (plane, channel) in channels.iter().enumerate() {
        let (scale, shift) = channel.factors(&input[channel.from * h * w..][..h * w]);
        for y in 0..h {
            let from = &input[(channel.from * h + y) * w..][..w];
            let at = view.at(plane, y, 0);
            let to = &mut memory[at..at + w];
            if scale == 1.0 && shift == 0.0 {
                to.copy_from_slice(from);
            } else {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from * scale + shift;
                }
            }
        }
    }
}

impl Step {
    /// What it does and on which sizes, for tables of costs.
    pub fn describe(&self) -> String {
        let size = |view: &View| format!("{}x{}x{}", view.size.c, view.size.h, view.size.w);
        match &self.kernel {
            Kernel::Conv(k) => {
                let [h, w] = k.window.kernel;
                format!("conv {h}x{w}/{} {} -> {}", k.window.stride[0], size(&k.input), size(&k.output))
            }
            Kernel::Depthwise(k) => {
                let [h, w] = k.window.kernel;
                format!("depthwise {h}x{w}/{} {} -> {}", k.window.stride[0], size(&k.input), size(&k.output))
            }
            Kernel::Map(k) => {
                format!("map {} {:?}", size(&k.output), k.stages.iter().map(std::mem::discriminant).count())
            }
            Kernel::Pool(k) => {
                format!("pool {:?} {} -> {}", k.window.kernel, size(&k.input), size(&k.output))
            }
            Kernel::Upsample(k) => format!("upsample {} -> {}", size(&k.input), size(&k.output)),
            Kernel::Plane(k) => format!("plane {} normalise {}", size(&k.input), k.normalise.is_some()),
            Kernel::Input { output, .. } => format!("input {}", size(output)),
            Kernel::InputFlat { output } => format!("input {}", output.len),
            Kernel::ToBlocked { output, .. } => format!("to blocked {}", size(output)),
            Kernel::ToPlain { input, .. } => format!("to plain {}", size(input)),
            Kernel::ToRows { input, .. } => format!("to rows {}", size(input)),
            Kernel::CopyChannels { input, .. } => format!("copy {}", size(input)),
            Kernel::Boxes(k) => {
                format!("boxes where they are wanted {} -> {}", size(&k.conv.input), size(&k.conv.output))
            }
            Kernel::Plain(step) => {
                let op = format!("{:?}", step.op);
                format!("{} {:?}", op.split([' ', '(']).next().unwrap_or_default(), step.shape)
            }
        }
    }

    /// Multiplications and additions of the convolutions; 0 for everything else.
    pub fn flops(&self) -> u64 {
        let window = |window: &Window, input: usize, output: &View| {
            2 * window.kernel.iter().product::<usize>()
                * input
                * output.size.c
                * output.size.h
                * output.size.w
        };
        (match &self.kernel {
            Kernel::Conv(k) => window(&k.window, k.input.size.c, &k.output),
            Kernel::Depthwise(k) => window(&k.window, 1, &k.output),
            _ => 0,
        }) as u64
    }
}
