//! Fewer, larger steps: what follows a convolution element by element (batch norm, bias, residual, activation, gate)
//! becomes stages of it, and constants are multiplied into its weights.

mod patterns;

use std::collections::HashMap;

use self::patterns::{find_focus, find_silu, readers};
use super::ir::{Binary, Data, Graph, Node, Op, Reduction, TensorId, Unary, Window};

/// Something done to each value of a picture on its way to memory.
#[derive(Debug, Clone, PartialEq)]
pub enum FusedStage {
    /// + constant per channel.
    Shift(Vec<f32>),
    /// * constant per channel.
    Scale(Vec<f32>),
    /// x where x > 0, else constant per channel * x.
    PRelu(Vec<f32>),
    /// An activation.
    Act(Unary),
    /// + a tensor of the same size.
    Add(TensorId),
    /// * a tensor of the same size.
    Mul(TensorId),
    /// a tensor of the same size - x.
    SubFrom(TensorId),
    /// + one computed value per channel.
    ShiftBy(TensorId),
    /// * one computed value per channel.
    ScaleBy(TensorId),
    /// Rounded to steps.
    Quantize(Quantize),
}

/// Rounding to the steps of a quantised network, one range for the whole tensor: the number of the step is
/// `round((clamp(x, in_low, in_high) - in_low) * steps / (in_high - in_low))`, its value
/// `number * (out_high - out_low) / steps + out_low`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantize {
    /// Range of the values, low and high.
    pub input: [f32; 2],
    /// Range of the result, low and high.
    pub output: [f32; 2],
    /// Steps: levels - 1.
    pub steps: f32,
}

impl FusedStage {
    /// The tensor it reads.
    pub fn reads(&self) -> Option<TensorId> {
        match self {
            FusedStage::Add(t)
            | FusedStage::Mul(t)
            | FusedStage::SubFrom(t)
            | FusedStage::ShiftBy(t)
            | FusedStage::ScaleBy(t) => Some(*t),
            _ => None,
        }
    }
}

/// What a fused node does before its stages.
#[derive(Debug, Clone)]
pub enum FusedKind {
    /// A convolution of the first input with these weights `[O, C/groups, kh, kw]`; the bias is a stage.
    Conv {
        /// The window.
        window: Window,
        /// Channel groups.
        groups: usize,
        /// Constant weights.
        weights: Vec<f32>,
    },
    /// Nothing: only the stages, on the first input.
    Map,
    /// Any other operator; only a normalisation over planes of a picture has stages.
    Op(Op),
}

/// A node after fusion.
#[derive(Debug, Clone)]
pub struct FusedNode {
    /// Of the node it began with.
    pub name: String,
    /// What comes first.
    pub kind: FusedKind,
    /// Inputs of `kind`. Constants among them have their values in the graph.
    pub inputs: Vec<TensorId>,
    /// What follows.
    pub stages: Vec<FusedStage>,
    /// What it makes.
    pub output: TensorId,
}

impl FusedNode {
    /// All tensors it reads.
    pub fn reads(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.inputs.iter().copied().chain(self.stages.iter().filter_map(FusedStage::reads))
    }
}

/// A graph after fusion: the tensors of the original, and fewer nodes.
#[derive(Debug, Clone)]
pub struct FusedGraph {
    /// The original; its nodes are not to be run.
    pub graph: Graph,
    /// What to run, in order.
    pub nodes: Vec<FusedNode>,
}

/// The constants of a tensor that is broadcast over a picture of `channels` channels: one for each of them.
fn per_channel(graph: &Graph, id: TensorId, channels: usize, rank: usize) -> Option<Vec<f32>> {
    let tensor = graph.tensor(id);
    let values = tensor.value.as_ref().and_then(Data::f32)?;
    if values.len() == 1 {
        return Some(vec![values[0]; channels]);
    }
    // Aligned at the right, only the channel dimension may differ from 1.
    let lead = rank.checked_sub(tensor.shape.len())?;
    let only_channels =
        tensor.shape.iter().enumerate().all(|(i, &d)| d == 1 || (i + lead == 1 && d == channels));
    (only_channels && values.len() == channels).then(|| values.to_vec())
}

/// Slopes of a PReLU: these belong to channels whatever their shape.
fn slopes(graph: &Graph, id: TensorId, channels: usize) -> Option<Vec<f32>> {
    match graph.constant(id)? {
        [one] => Some(vec![*one; channels]),
        values if values.len() == channels => Some(values.to_vec()),
        _ => None,
    }
}

/// Batch 1, channels, height, width: what the picture kernels work on.
pub fn is_picture(shape: &[usize]) -> bool {
    shape.len() == 4 && shape[0] == 1
}

struct Fuser<'a> {
    graph: &'a Graph,
    readers: Vec<usize>,
    /// In order; absorbed nodes leave a hole.
    nodes: Vec<Option<FusedNode>>,
    /// Which node made a tensor.
    maker: HashMap<TensorId, usize>,
}

impl Fuser<'_> {
    fn push(&mut self, node: FusedNode) {
        self.maker.insert(node.output, self.nodes.len());
        self.nodes.push(Some(node));
    }

    /// The node that made `id` can take further stages: nobody else reads what it makes.
    fn open(&self, id: TensorId) -> Option<usize> {
        let at = *self.maker.get(&id)?;
        let node = self.nodes[at].as_ref()?;
        let takes_stages = match &node.kind {
            FusedKind::Conv { .. } | FusedKind::Map => true,
            FusedKind::Op(op) => is_plane_norm(op) && is_picture(&self.graph.tensor(id).shape),
        };
        (self.readers[id.0] == 1 && takes_stages).then_some(at)
    }

    /// Adds a stage to the node that made `main`, or begins a new one.
    fn attach(&mut self, node: &Node, main: TensorId, stage: FusedStage) {
        let mut fused = match self.open(main) {
            Some(at) => self.nodes[at].take().unwrap_or_else(|| unreachable!("open nodes are there")),
            None => FusedNode {
                name: node.name.clone(),
                kind: FusedKind::Map,
                inputs: vec![main],
                stages: Vec::new(),
                output: node.output,
            },
        };
        fused.stages.push(stage);
        fused.output = node.output;
        // At the end: what the stage reads has been computed by then.
        self.push(fused);
    }

    fn binary(&mut self, node: &Node, op: Binary) -> bool {
        let shape = &self.graph.tensor(node.output).shape;
        if !is_picture(shape) || node.inputs.len() != 2 || node.inputs[0] == node.inputs[1] {
            return false;
        }
        let channels = shape[1];
        let full = |id: TensorId| {
            let tensor = self.graph.tensor(id);
            tensor.value.is_none() && tensor.shape == *shape
        };
        let stage = |main: TensorId, other: TensorId, reversed: bool| -> Option<FusedStage> {
            if !full(main) {
                return None;
            }
            if let Some(constants) = per_channel(self.graph, other, channels, 4) {
                return match op {
                    Binary::Add => Some(FusedStage::Shift(constants)),
                    Binary::Mul => Some(FusedStage::Scale(constants)),
                    Binary::Sub if !reversed => {
                        Some(FusedStage::Shift(constants.iter().map(|c| -c).collect()))
                    }
                    Binary::Div if !reversed => {
                        Some(FusedStage::Scale(constants.iter().map(|c| 1.0 / c).collect()))
                    }
                    _ => None,
                };
            }
            let tensor = self.graph.tensor(other);
            if tensor.value.is_some() {
                return None;
            }
            if tensor.shape == *shape {
                return match op {
                    Binary::Add => Some(FusedStage::Add(other)),
                    Binary::Mul => Some(FusedStage::Mul(other)),
                    Binary::Sub if reversed => Some(FusedStage::SubFrom(other)),
                    _ => None,
                };
            }
            if tensor.shape == [1, channels, 1, 1] {
                return match op {
                    Binary::Add => Some(FusedStage::ShiftBy(other)),
                    Binary::Mul => Some(FusedStage::ScaleBy(other)),
                    _ => None,
                };
            }
            None
        };
        let [a, b] = [node.inputs[0], node.inputs[1]];
        let choices = [stage(a, b, false).map(|s| (a, s)), stage(b, a, true).map(|s| (b, s))];
        // Rather the operand whose maker is still open and came last; else the one that begins a new node.
        let best =
            choices.into_iter().flatten().max_by_key(|(main, _)| self.open(*main).map_or(0, |at| at + 1));
        let Some((main, stage)) = best else { return false };
        self.attach(node, main, stage);
        true
    }

    fn node(&mut self, node: &Node) {
        let shape = &self.graph.tensor(node.output).shape;
        let fused = match &node.op {
            Op::Conv { window, groups } => self.conv(node, *window, *groups),
            Op::BatchNorm { epsilon } if is_picture(shape) => self.batch_norm(node, *epsilon),
            Op::Binary(op) => self.binary(node, *op),
            Op::Unary(act) if is_picture(shape) && !matches!(act, Unary::Log | Unary::Sqrt) => {
                self.attach(node, node.inputs[0], FusedStage::Act(*act));
                true
            }
            Op::FakeQuantize { levels } if is_picture(shape) => self.quantize(node, *levels),
            Op::PRelu if is_picture(shape) => match slopes(self.graph, node.inputs[1], shape[1]) {
                Some(slopes) => {
                    self.attach(node, node.inputs[0], FusedStage::PRelu(slopes));
                    true
                }
                None => false,
            },
            _ => false,
        };
        if !fused {
            self.push(FusedNode {
                name: node.name.clone(),
                kind: FusedKind::Op(node.op.clone()),
                inputs: node.inputs.clone(),
                stages: Vec::new(),
                output: node.output,
            });
        }
    }

    fn conv(&mut self, node: &Node, window: Window, groups: usize) -> bool {
        if !is_picture(&self.graph.tensor(node.inputs[0]).shape) {
            return false;
        }
        let Some(weights) = self.graph.constant(node.inputs[1]) else { return false };
        let mut stages = Vec::new();
        if let Some(bias) = node.inputs.get(2) {
            let Some(bias) = self.graph.constant(*bias) else { return false };
            stages.push(FusedStage::Shift(bias.to_vec()));
        }
        let kind = FusedKind::Conv { window, groups, weights: weights.to_vec() };
        let inputs = vec![node.inputs[0]];
        self.push(FusedNode { name: node.name.clone(), kind, inputs, stages, output: node.output });
        true
    }

    fn quantize(&mut self, node: &Node, levels: usize) -> bool {
        let scalar = |i: usize| match self.graph.constant(node.inputs[i]) {
            Some([one]) => Some(*one),
            _ => None,
        };
        let (Some(il), Some(ih), Some(ol), Some(oh)) = (scalar(1), scalar(2), scalar(3), scalar(4)) else {
            return false;
        };
        if !(il < ih && levels >= 2) {
            return false;
        }
        let quantize = Quantize { input: [il, ih], output: [ol, oh], steps: (levels - 1) as f32 };
        self.attach(node, node.inputs[0], FusedStage::Quantize(quantize));
        true
    }

    fn batch_norm(&mut self, node: &Node, epsilon: f32) -> bool {
        let constant = |i: usize| self.graph.constant(node.inputs[i]);
        let (Some(scale), Some(shift), Some(mean), Some(variance)) =
            (constant(1), constant(2), constant(3), constant(4))
        else {
            return false;
        };
        let factor: Vec<f32> = scale.iter().zip(variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let offset = shift.iter().zip(mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
        self.attach(node, node.inputs[0], FusedStage::Scale(factor));
        let Some(at) = self.nodes.len().checked_sub(1) else { return true };
        if let Some(last) = &mut self.nodes[at] {
            last.stages.push(FusedStage::Shift(offset));
        }
        true
    }
}

/// Scales and shifts right after a convolution become part of its weights and one shift.
fn fold_constants(node: &mut FusedNode) {
    let FusedKind::Conv { weights, .. } = &mut node.kind else { return };
    let first_other = node
        .stages
        .iter()
        .position(|s| !matches!(s, FusedStage::Scale(_) | FusedStage::Shift(_)))
        .unwrap_or(node.stages.len());
    if first_other == 0 {
        return;
    }
    let outputs = match &node.stages[0] {
        FusedStage::Scale(c) | FusedStage::Shift(c) => c.len(),
        _ => return,
    };
    let per_output = weights.len() / outputs.max(1);
    let mut bias = vec![0.0f32; outputs];
    for stage in node.stages.drain(..first_other) {
        match stage {
            FusedStage::Shift(c) => bias.iter_mut().zip(c).for_each(|(b, c)| *b += c),
            FusedStage::Scale(c) => {
                bias.iter_mut().zip(&c).for_each(|(b, c)| *b *= c);
                for (filter, c) in weights.chunks_exact_mut(per_output.max(1)).zip(&c) {
                    filter.iter_mut().for_each(|w| *w *= c);
                }
            }
            _ => unreachable!("only scales and shifts come before the first other stage"),
        }
    }
    node.stages.insert(0, FusedStage::Shift(bias));
}

/// A scale per channel of what only one convolution reads goes into that convolution's weights. (A shift cannot: the
/// convolution's padding is zero, not the shifted zero.)
fn fold_input_scale(nodes: &mut Vec<FusedNode>, graph: &Graph) {
    let mut i = 0;
    while i < nodes.len() {
        let node = &nodes[i];
        let readers: Vec<usize> =
            (0..nodes.len()).filter(|&j| nodes[j].reads().any(|t| t == node.output)).collect();
        let scale = match (&node.kind, node.stages.as_slice()) {
            (FusedKind::Map, [FusedStage::Scale(scale)]) if !graph.outputs.contains(&node.output) => {
                scale.clone()
            }
            _ => {
                i += 1;
                continue;
            }
        };
        let (source, output) = (node.inputs[0], node.output);
        let reader = match readers.as_slice() {
            [one] => *one,
            _ => {
                i += 1;
                continue;
            }
        };
        let FusedNode { kind, inputs, stages, .. } = &mut nodes[reader];
        if let FusedKind::Conv { groups: 1, weights, window } = kind
            && stages.iter().all(|s| s.reads() != Some(output))
        {
            let taps = window.kernel[0] * window.kernel[1];
            for filter in weights.chunks_exact_mut(scale.len() * taps) {
                for (channel, factor) in filter.chunks_exact_mut(taps).zip(&scale) {
                    channel.iter_mut().for_each(|w| *w *= factor);
                }
            }
            inputs[0] = source;
            nodes.remove(i);
        } else {
            i += 1;
        }
    }
}

/// A normalisation over whole planes.
fn is_plane_norm(op: &Op) -> bool {
    matches!(op, Op::Mvn { axes, .. } if axes == &[2, 3])
}

/// A mean over a whole plane, kept as a 1x1 picture.
pub fn is_plane_mean(op: &Op) -> bool {
    matches!(op, Op::Reduce { how: Reduction::Mean, axes, keep: true } if axes == &[2, 3])
}

/// Fuses what can be fused.
pub fn fuse(mut graph: Graph) -> FusedGraph {
    find_silu(&mut graph);
    find_focus(&mut graph);
    let mut fuser =
        Fuser { readers: readers(&graph), graph: &graph, nodes: Vec::new(), maker: HashMap::new() };
    for node in &graph.nodes {
        fuser.node(node);
    }
    let mut nodes: Vec<FusedNode> = fuser.nodes.into_iter().flatten().collect();
    fold_input_scale(&mut nodes, &graph);
    nodes.iter_mut().for_each(fold_constants);
    FusedGraph { graph, nodes }
}
