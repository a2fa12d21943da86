//! Groups of nodes that are one operation: found before anything else is fused.

use std::collections::HashMap;

use super::is_picture;
use crate::graph::{Binary, Data, Graph, Op, TensorId, Unary, Window};

/// x * sigmoid(x) as one activation.
pub fn find_silu(graph: &mut Graph) {
    let readers = readers(graph);
    let makers: HashMap<TensorId, usize> =
        graph.nodes.iter().enumerate().map(|(i, n)| (n.output, i)).collect();
    for i in 0..graph.nodes.len() {
        if graph.nodes[i].op != Op::Binary(Binary::Mul) {
            continue;
        }
        let [a, b] = [graph.nodes[i].inputs[0], graph.nodes[i].inputs[1]];
        let gate_of = |gate: TensorId, x: TensorId| {
            makers.get(&gate).is_some_and(|&m| {
                graph.nodes[m].op == Op::Unary(Unary::Sigmoid)
                    && graph.nodes[m].inputs[0] == x
                    && readers[gate.0] == 1
            })
        };
        let x = if gate_of(b, a) {
            a
        } else if gate_of(a, b) {
            b
        } else {
            continue;
        };
        graph.nodes[i].op = Op::Unary(Unary::Silu);
        graph.nodes[i].inputs = vec![x];
    }
    drop_unused(graph);
}

/// A convolution over a concatenation of every s-th pixel of one picture (YOLOX' focus, space to depth) is a
/// convolution over that picture with a window and a stride s times as large, and nothing needs to be rearranged.
pub fn find_focus(graph: &mut Graph) {
    let makers: HashMap<TensorId, usize> =
        graph.nodes.iter().enumerate().map(|(i, n)| (n.output, i)).collect();
    for i in 0..graph.nodes.len() {
        let Op::Conv { window, groups: 1 } = graph.nodes[i].op else { continue };
        let Some((source, step, offsets)) = focus_of(graph, &makers, graph.nodes[i].inputs[0]) else {
            continue;
        };
        let source_shape = graph.tensor(source).shape.clone();
        let weight_id = graph.nodes[i].inputs[1];
        if window.dilation != [1, 1] || !source_shape[2..4].iter().all(|size| size.is_multiple_of(step)) {
            continue;
        }
        let Some(weights) = graph.constant(weight_id) else { continue };
        let channels = source_shape[1];
        let [kh, kw] = window.kernel;
        let outputs = weights.len() / (offsets.len() * channels * kh * kw);
        let (wide_h, wide_w) = (kh * step, kw * step);
        let mut wide = vec![0.0f32; outputs * channels * wide_h * wide_w];
        for o in 0..outputs {
            for (m, [dy, dx]) in offsets.iter().enumerate() {
                for c in 0..channels {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let from = (((o * offsets.len() + m) * channels + c) * kh + ky) * kw + kx;
                            let (y, x) = (ky * step + dy, kx * step + dx);
                            wide[((o * channels + c) * wide_h + y) * wide_w + x] += weights[from];
                        }
                    }
                }
            }
        }
        let id = TensorId(graph.tensors.len());
        let mut tensor = graph.tensor(weight_id).clone();
        tensor.shape = vec![outputs, channels, wide_h, wide_w];
        tensor.value = Some(Data::F32(wide.into()));
        graph.tensors.push(tensor);
        let node = &mut graph.nodes[i];
        node.inputs[0] = source;
        node.inputs[1] = id;
        node.op = Op::Conv {
            window: Window {
                kernel: [wide_h, wide_w],
                stride: window.stride.map(|s| s * step),
                dilation: [1, 1],
                before: window.before.map(|p| p * step),
                after: window.after.map(|p| p * step),
            },
            groups: 1,
        };
    }
    drop_unused(graph);
}

/// The picture, the step and each member's offset, if the tensor is such a concatenation.
fn focus_of(
    graph: &Graph,
    makers: &HashMap<TensorId, usize>,
    id: TensorId,
) -> Option<(TensorId, usize, Vec<[usize; 2]>)> {
    let concat = &graph.nodes[*makers.get(&id)?];
    if concat.op != (Op::Concat { axis: 1 }) || !is_picture(&graph.tensor(id).shape) {
        return None;
    }
    let mut found: Option<(TensorId, usize)> = None;
    let mut offsets = Vec::new();
    for &member in &concat.inputs {
        let (mut at, mut offset, mut step) = (member, [0usize; 2], [1usize; 2]);
        while let Some(&m) = makers.get(&at) {
            let Op::Slice { begin, step: by } = &graph.nodes[m].op else { break };
            let source = graph.nodes[m].inputs[0];
            let same_channels = graph.tensor(source).shape.get(1) == graph.tensor(at).shape.get(1);
            if begin.len() != 4 || !same_channels || begin[0] + begin[1] > 0 || by.iter().any(|s| *s < 1) {
                return None;
            }
            for axis in 0..2 {
                let stride = by[axis + 2] as usize;
                offset[axis] = begin[axis + 2] + offset[axis] * stride;
                step[axis] *= stride;
            }
            at = source;
        }
        if step[0] != step[1] || step[0] < 2 || offset[0] >= step[0] || offset[1] >= step[0] {
            return None;
        }
        if found.is_some_and(|(source, by)| source != at || by != step[0]) {
            return None;
        }
        let shape = &graph.tensor(at).shape;
        if graph.tensor(member).shape != [1, *shape.get(1)?, shape.get(2)? / step[0], shape.get(3)? / step[0]]
        {
            return None;
        }
        found = Some((at, step[0]));
        offsets.push(offset);
    }
    found.map(|(source, step)| (source, step, offsets))
}

/// How many nodes and outputs read each tensor.
pub fn readers(graph: &Graph) -> Vec<usize> {
    let mut readers = vec![0; graph.tensors.len()];
    for id in graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs) {
        readers[id.0] += 1;
    }
    readers
}

/// Removes nodes that contribute to no output.
fn drop_unused(graph: &mut Graph) {
    let mut used = vec![false; graph.tensors.len()];
    for id in &graph.outputs {
        used[id.0] = true;
    }
    for node in graph.nodes.iter().rev() {
        if used[node.output.0] {
            for id in &node.inputs {
                used[id.0] = true;
            }
        }
    }
    graph.nodes.retain(|node| used[node.output.0]);
}
