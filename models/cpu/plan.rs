//! A network ready to run on the CPU: steps with addresses, and one memory that is used from frame to frame.

use std::time::{Duration, Instant};

use super::convert::Flat;
use super::heads::compute_where_wanted;
use super::lanes::{Isa, LANES};
use super::lower::{LowerError, Lowered, lower};
use super::step::Step;
use crate::graph::Graph;
use crate::graph::fuse::fuse;

/// Bytes of working memory that a network may need.
const MAX_MEMORY: usize = 2 << 30;

/// A network ready to run.
#[derive(Debug)]
pub struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    memory: Vec<f32>,
    /// f32 to skip so that the first vector is aligned to its size.
    skip: usize,
    input_len: usize,
    outputs: Vec<Flat>,
}

/// What one step cost, of [`Plan::profile`].
#[derive(Debug, Clone)]
pub struct StepCost {
    /// Of the node in the file.
    pub name: String,
    /// What was computed, with sizes.
    pub what: String,
    /// Time for the whole step.
    pub took: Duration,
    /// Multiplications and additions.
    pub flops: u64,
}

impl Plan {
    /// Plans a graph with one input.
    pub fn new(graph: Graph, isa: Isa) -> Result<Self, LowerError> {
        let refuse = |reason: &str| LowerError { node: "network".to_owned(), reason: reason.to_owned() };
        if !Isa::available().contains(&isa) {
            return Err(refuse("this processor has not the instructions asked for"));
        }
        let [input] = graph.inputs[..] else {
            return Err(refuse(&format!("{} inputs; exactly one is supported", graph.inputs.len())));
        };
        let input_len = graph.tensor(input).len();
        let fused = fuse(graph);
        let Lowered { mut steps, buffers, mut outputs } = lower(&fused)?;
        compute_where_wanted(&mut steps, &outputs);
        let (starts, len) = addresses(&mut steps, &buffers, &outputs);
        for step in &mut steps {
            step.visit(&mut |view| view.offset += starts[view.buffer], &mut |flat| {
                flat.offset += starts[flat.buffer]
            });
        }
        outputs.iter_mut().for_each(|flat| flat.offset += starts[flat.buffer]);
        if len > MAX_MEMORY / size_of::<f32>() {
            return Err(refuse(&format!(
                "it needs {} MiB to work in; the limit is {} MiB",
                len >> 18,
                MAX_MEMORY >> 20
            )));
        }
        // The kernels rely on this; it is checked once here instead of in every row.
        for step in &mut steps {
            let mut inside = true;
            let mut outside = true;
            step.visit(&mut |view| inside &= view.start() + view.len() <= len, &mut |flat| {
                outside &= flat.offset + flat.len <= len;
            });
            if !(inside && outside) {
                return Err(LowerError {
                    node: step.name.clone(),
                    reason: "lies outside the plan's memory".into(),
                });
            }
        }
        let memory = vec![0.0; len + LANES];
        let skip = (memory.as_ptr() as usize).next_multiple_of(64).wrapping_sub(memory.as_ptr() as usize) / 4;
        Ok(Self { isa, steps, memory, skip, input_len, outputs })
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Values of all outputs together.
    pub fn output_len(&self) -> usize {
        self.outputs.iter().map(|flat| flat.len).sum()
    }

    /// Bytes of working memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory.len() * size_of::<f32>()
    }

    /// Computes the outputs, one after the other, for one input. Lengths as [`Plan::input_len`] and
    /// [`Plan::output_len`] say.
    pub fn run(&mut self, input: &[f32], outputs: &mut [f32]) {
        let memory = &mut self.memory[self.skip..];
        for step in &self.steps {
            step.run(self.isa, memory, input);
        }
        let mut rest = outputs;
        for flat in &self.outputs {
            let (to, after) = rest.split_at_mut(flat.len);
            to.copy_from_slice(&memory[flat.offset..flat.offset + flat.len]);
            rest = after;
        }
    }

    /// Runs once and says what each step cost.
    pub fn profile(&mut self, input: &[f32]) -> Vec<StepCost> {
        let memory = &mut self.memory[self.skip..];
        self.steps
            .iter()
            .map(|step| {
                let began = Instant::now();
                step.run(self.isa, memory, input);
                StepCost {
                    name: step.name.clone(),
                    what: step.describe(),
                    took: began.elapsed(),
                    flops: step.flops(),
                }
            })
            .collect()
    }
}

/// Gives each buffer an address such that buffers in use at the same time do not overlap: the largest first, each at
/// the lowest place that is free while it lives. Returns the addresses and the memory needed.
fn addresses(steps: &mut [Step], buffers: &[usize], outputs: &[Flat]) -> (Vec<usize>, usize) {
    let mut life = vec![(usize::MAX, 0usize); buffers.len()];
    let mut touch = |buffer: usize, time: usize| {
        life[buffer].0 = life[buffer].0.min(time);
        life[buffer].1 = life[buffer].1.max(time);
    };
    let end = steps.len();
    for (time, step) in steps.iter_mut().enumerate() {
        let mut touched = Vec::new();
        step.visit(&mut |view| touched.push(view.buffer), &mut |_| {});
        step.visit(&mut |_| {}, &mut |flat| touched.push(flat.buffer));
        touched.into_iter().for_each(|buffer| touch(buffer, time));
    }
    for flat in outputs {
        touch(flat.buffer, end);
    }
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&b| std::cmp::Reverse(buffers[b]));
    let mut starts = vec![0usize; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut len = 0;
    for buffer in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| life[other].0 <= life[buffer].1 && life[buffer].0 <= life[other].1)
            .map(|&other| (starts[other], starts[other] + buffers[other]))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if at + buffers[buffer] <= from {
                break;
            }
            at = at.max(to);
        }
        starts[buffer] = at;
        len = len.max(at + buffers[buffer]);
        placed.push(buffer);
    }
    (starts, len)
}
