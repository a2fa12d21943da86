//! Operators on plain tensors: what comes after the pictures, heads and lists. Those that our networks use have code
//! of their own here; the rest is computed by the reference interpreter, which is right and slow.

use super::convert::Flat;
use crate::graph::detection_output::detection_output;
use crate::graph::{Data, Op, reference};

/// Where an operand comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The plan's memory.
    Memory(Flat),
    /// A constant of the file.
    Constant(Data),
}

/// An operator on plain tensors.
#[derive(Debug, Clone)]
pub struct PlainStep {
    /// Which.
    pub op: Op,
    /// Operands with their shapes.
    pub inputs: Vec<(Source, Vec<usize>)>,
    /// Where the result goes.
    pub output: Flat,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl PlainStep {
    /// Visits its places in memory.
    pub fn visit(&mut self, flats: &mut dyn FnMut(&mut Flat)) {
        for (operand, _) in &mut self.inputs {
            if let Source::Memory(flat) = operand {
                flats(flat);
            }
        }
        flats(&mut self.output);
    }

    fn values<'a>(&'a self, memory: &'a [f32], input: usize) -> &'a [f32] {
        match &self.inputs[input].0 {
            Source::Memory(flat) => &memory[flat.offset..flat.offset + flat.len],
            Source::Constant(data) => data.f32().unwrap_or_default(),
        }
    }
}

/// Computes the step.
pub fn run(step: &PlainStep, memory: &mut [f32]) {
    match &step.op {
        Op::Concat { axis } => concat(step, memory, *axis),
        Op::Softmax { axis } if axis + 1 == step.shape.len() => softmax(step, memory),
        Op::MatMul { transpose_a: false, transpose_b } if step.inputs[1].1.len() == 2 => {
            matmul(step, memory, *transpose_b);
        }
        Op::Transpose { order } => transpose(step, memory, order),
        Op::DetectionOutput(op) => {
            let mut rows = vec![0.0; step.output.len];
            let [boxes, scores, priors] = [0, 1, 2].map(|i| step.values(memory, i));
            detection_output(op, boxes, scores, priors, &mut rows);
            memory[step.output.offset..][..rows.len()].copy_from_slice(&rows);
        }
        _ => interpret(step, memory),
    }
}

fn interpret(step: &PlainStep, memory: &mut [f32]) {
    let data: Vec<Data> = step
        .inputs
        .iter()
        .map(|(source, _)| match source {
            Source::Memory(flat) => Data::F32(memory[flat.offset..flat.offset + flat.len].into()),
            Source::Constant(data) => data.clone(),
        })
        .collect();
    let operands: Vec<_> =
        data.iter().zip(&step.inputs).map(|(data, (_, shape))| reference::Operand { shape, data }).collect();
    let to = &mut memory[step.output.offset..step.output.offset + step.output.len];
    match reference::compute(&step.op, &operands, &step.shape) {
        Ok(Data::F32(values)) if values.len() == to.len() => to.copy_from_slice(&values),
        // Shapes and kinds were checked at load; what is left is an index outside, which has no right answer.
        _ => to.fill(f32::NAN),
    }
}

/// Copies every input's runs along the axis.
fn concat(step: &PlainStep, memory: &mut [f32], axis: usize) {
    let outer: usize = step.shape[..axis].iter().product();
    let run: usize = step.shape[axis..].iter().product();
    let mut at = step.output.offset;
    for (source, shape) in &step.inputs {
        let part: usize = shape[axis..].iter().product();
        for i in 0..outer {
            let to = at + i * run;
            match source {
                Source::Memory(flat) => {
                    let from = flat.offset + i * part;
                    memory.copy_within(from..from + part, to);
                }
                Source::Constant(data) => {
                    let values = data.f32().unwrap_or_default();
                    memory[to..to + part].copy_from_slice(&values[i * part..(i + 1) * part]);
                }
            }
        }
        at += part;
    }
}

/// Rows of `a` times the matrix `b` `[K, N]`, or `[N, K]` when it is transposed.
fn matmul(step: &PlainStep, memory: &mut [f32], transposed: bool) {
    let columns = step.shape.last().copied().unwrap_or(1).max(1);
    let inner = step.inputs[0].1.last().copied().unwrap_or(1).max(1);
    let mut result = vec![0.0f32; step.output.len];
    let (a, b) = (step.values(memory, 0), step.values(memory, 1));
    for (row, to) in a.chunks_exact(inner).zip(result.chunks_exact_mut(columns)) {
        if transposed {
            for (to, column) in to.iter_mut().zip(b.chunks_exact(inner)) {
                let mut sums = [0.0f32; 16];
                for (x, y) in row.chunks(16).zip(column.chunks(16)) {
                    for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
                        *sum += x * y;
                    }
                }
                *to = sums.iter().sum();
            }
        } else {
            for (x, line) in row.iter().zip(b.chunks_exact(columns)) {
                for (to, y) in to.iter_mut().zip(line) {
                    *to += x * y;
                }
            }
        }
    }
    memory[step.output.offset..][..result.len()].copy_from_slice(&result);
}

/// Along the last axis.
fn softmax(step: &PlainStep, memory: &mut [f32]) {
    let row = step.shape.last().copied().unwrap_or(1).max(1);
    if let Source::Memory(flat) = &step.inputs[0].0 {
        memory.copy_within(flat.offset..flat.offset + flat.len, step.output.offset);
    }
    for values in memory[step.output.offset..step.output.offset + step.output.len].chunks_exact_mut(row) {
        let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for value in values.iter_mut() {
            *value = (*value - most).exp();
            sum += *value;
        }
        values.iter_mut().for_each(|value| *value /= sum);
    }
}

/// Walks the output in order, the last dimension in an inner loop.
fn transpose(step: &PlainStep, memory: &mut [f32], order: &[usize]) {
    let Source::Memory(input) = step.inputs[0].0 else { return interpret(step, memory) };
    let shape = &step.inputs[0].1;
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    let Some((&last, outer)) = order.split_last() else { return interpret(step, memory) };
    let (count, stride) = (shape[last], strides[last]);
    let mut index = vec![0; outer.len()];
    let mut to = step.output.offset;
    while to < step.output.offset + step.output.len {
        let from: usize = input.offset + index.iter().zip(outer).map(|(i, &d)| i * strides[d]).sum::<usize>();
        for i in 0..count {
            memory[to + i] = memory[from + i * stride];
        }
        to += count;
        for (i, &d) in index.iter_mut().zip(outer).rev() {
            *i += 1;
            if *i < shape[d] {
                break;
            }
            *i = 0;
        }
    }
}
