//! A plain interpreter of every operator, in f32 and one thread: the definition the executors are tested against, and
//! what computes the constants at import. Loops are naive on purpose; nothing here is fast.

mod arithmetic;
mod integers;
mod movement;
mod windows;

use super::{Data, Graph, Kind, Node, Op, Tensor, TensorId, shape};
use movement::Moved;

/// Why a graph could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The graph contradicts itself.
    #[error("not a sound graph: {0}")]
    Graph(String),
    /// The inputs are not those of the graph.
    #[error("inputs do not fit: {0}")]
    Inputs(String),
    /// A node met values that it cannot work with: an index outside.
    #[error("node {node:?}: {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// What went wrong.
        reason: String,
    },
}

/// Runs the graph on `inputs`, row-major and in the order of [`Graph::inputs`], and returns its outputs in the order of
/// [`Graph::outputs`]. Integer outputs are given as f32.
///
/// # Errors
/// When the graph is not sound, when inputs are missing or of other lengths, when an index lies outside.
pub fn run(graph: &Graph, inputs: &[&[f32]]) -> Result<Vec<Vec<f32>>, ReferenceError> {
    run_through(graph, inputs, &mut |_, made| made)
}

/// The same; every node's result passes through `change` before anybody reads it: for other arithmetic than f32.
pub(crate) fn run_through(
    graph: &Graph,
    inputs: &[&[f32]],
    change: &mut dyn FnMut(&Node, Data) -> Data,
) -> Result<Vec<Vec<f32>>, ReferenceError> {
    shape::check(graph).map_err(ReferenceError::Graph)?;
    if inputs.len() != graph.inputs.len() {
        let reason = format!("{} given, {} needed", inputs.len(), graph.inputs.len());
        return Err(ReferenceError::Inputs(reason));
    }
    let mut values: Vec<Option<Data>> = graph.tensors.iter().map(|tensor| tensor.value.clone()).collect();
    for (id, input) in graph.inputs.iter().zip(inputs) {
        let tensor = graph.tensor(*id);
        if input.len() != tensor.len() || tensor.kind != Kind::F32 {
            let reason = format!("{} values for {:?} of shape {:?}", input.len(), tensor.name, tensor.shape);
            return Err(ReferenceError::Inputs(reason));
        }
        values[id.0] = Some(Data::F32((*input).into()));
    }
    // After which node a tensor is needed no more, so that a large network fits into memory.
    let mut last = vec![0; graph.tensors.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in &node.inputs {
            last[id.0] = index;
        }
    }
    for id in &graph.outputs {
        last[id.0] = usize::MAX;
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let missing = || ReferenceError::Graph(format!("node {:?} lacks an input", node.name));
        let mut operands = Vec::with_capacity(node.inputs.len());
        for id in &node.inputs {
            operands.push(Operand::new(graph.tensor(*id), values[id.0].as_ref().ok_or_else(missing)?));
        }
        let made = compute(&node.op, &operands, &graph.tensor(node.output).shape)
            .map_err(|reason| ReferenceError::Node { node: node.name.clone(), reason })?;
        values[node.output.0] = Some(change(node, made));
        for id in &node.inputs {
            if last[id.0] == index {
                values[id.0] = None;
            }
        }
    }
    let output = |id: &TensorId| match &values[id.0] {
        Some(Data::F32(values)) => Ok(values.to_vec()),
        Some(Data::I64(values)) => Ok(values.iter().map(|value| *value as f32).collect()),
        None => Err(ReferenceError::Graph(format!("output {} is not made", id.0))),
    };
    graph.outputs.iter().map(output).collect()
}

/// A tensor with its values.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub shape: &'a [usize],
    pub data: &'a Data,
}

impl<'a> Operand<'a> {
    pub fn new(tensor: &'a Tensor, data: &'a Data) -> Self {
        Self { shape: &tensor.shape, data }
    }

    /// The values; none if they are integers, which the check of kinds has ruled out.
    fn f32(&self) -> &'a [f32] {
        self.data.f32().unwrap_or_default()
    }

    fn i64(&self) -> &'a [i64] {
        self.data.i64().unwrap_or_default()
    }
}

/// Computes one operator. Shapes and kinds must have passed `shape::output` and `shape::kind`.
pub(crate) fn compute(op: &Op, inputs: &[Operand<'_>], output: &[usize]) -> Result<Data, String> {
    if let Some(moved) = Moved::new(op) {
        return match inputs[0].data {
            Data::F32(_) => {
                let sources: Vec<_> = inputs.iter().map(|input| (input.shape, input.f32())).collect();
                movement::run(&moved, &sources, inputs.get(1).map(Operand::i64), output)
                    .map(|made| Data::F32(made.into()))
            }
            Data::I64(_) => {
                let sources: Vec<_> = inputs.iter().map(|input| (input.shape, input.i64())).collect();
                movement::run(&moved, &sources, inputs.get(1).map(Operand::i64), output)
                    .map(|made| Data::I64(made.into()))
            }
        };
    }
    if let (Op::Binary(how), Data::I64(_)) = (op, inputs[0].data) {
        return integers::binary(*how, inputs[0], inputs[1], output).map(|made| Data::I64(made.into()));
    }
    let x = inputs[0];
    let made = match op {
        Op::Conv { window, groups } => {
            windows::conv(window, *groups, x, inputs[1], inputs.get(2).map(Operand::f32), output)
        }
        Op::MaxPool(window) => windows::max_pool(window, x, output),
        Op::AvgPool { window, count_padding } => windows::avg_pool(window, *count_padding, x, output),
        Op::Resize(sampling) => windows::resize(*sampling, x, output),
        Op::Pad { before, value } => movement::pad(before, *value, (x.shape, x.f32()), output),
        Op::BatchNorm { epsilon } => arithmetic::batch_norm(*epsilon, inputs),
        Op::Binary(how) => arithmetic::binary(*how, x, inputs[1], output),
        Op::Unary(how) => x.f32().iter().map(|value| arithmetic::unary(*how, *value)).collect(),
        Op::PRelu => arithmetic::prelu(x, inputs[1].f32()),
        Op::Reduce { how, axes, .. } => arithmetic::reduce(*how, axes, x),
        Op::Mvn { axes, normalize_variance, epsilon, inside } => {
            arithmetic::mvn(axes, *normalize_variance, *epsilon, *inside, x)
        }
        Op::Softmax { axis } => arithmetic::softmax(*axis, x),
        Op::MatMul { transpose_a, transpose_b } => {
            arithmetic::matmul(*transpose_a, *transpose_b, x, inputs[1], output)
        }
        Op::FakeQuantize { levels } => arithmetic::fake_quantize(*levels, inputs),
        Op::PriorBoxClustered(prior) => prior_boxes(prior, x.i64(), inputs[1].i64(), output),
        Op::DetectionOutput(detection) => {
            let mut made = vec![0.0; output.iter().product()];
            super::detection_output::detection_output(
                detection,
                x.f32(),
                inputs[1].f32(),
                inputs[2].f32(),
                &mut made,
            );
            made
        }
        Op::Concat { .. }
        | Op::Slice { .. }
        | Op::Reshape
        | Op::Transpose { .. }
        | Op::Gather { .. }
        | Op::Broadcast => {
            return Err("is computed elsewhere".into());
        }
    };
    Ok(Data::F32(made.into()))
}

/// Boxes x0, y0, x1, y1 of each cell and each size, then as many times the variances.
fn prior_boxes(prior: &super::PriorBoxClustered, layer: &[i64], image: &[i64], output: &[usize]) -> Vec<f32> {
    let (&[layer_height, layer_width], &[image_height, image_width]) = (layer, image) else {
        return Vec::new();
    };
    let step =
        |given: f32, image: i64, layer: i64| if given == 0.0 { image as f32 / layer as f32 } else { given };
    let step_y = step(prior.step[0], image_height, layer_height);
    let step_x = step(prior.step[1], image_width, layer_width);
    let half = output[1];
    let mut made = Vec::with_capacity(2 * half);
    'cells: for row in 0..layer_height {
        if layer_width <= 0 {
            break;
        }
        for column in 0..layer_width {
            let centre_x = (column as f32 + prior.offset) * step_x;
            let centre_y = (row as f32 + prior.offset) * step_y;
            for (width, height) in prior.widths.iter().zip(&prior.heights) {
                if made.len() >= half {
                    break 'cells;
                }
                let corners = [
                    (centre_x - width / 2.0) / image_width as f32,
                    (centre_y - height / 2.0) / image_height as f32,
                    (centre_x + width / 2.0) / image_width as f32,
                    (centre_y + height / 2.0) / image_height as f32,
                ];
                made.extend(corners.map(|value| if prior.clip { value.clamp(0.0, 1.0) } else { value }));
            }
        }
    }
    made.resize(half, 0.0);
    let variance = |index: usize| match prior.variances.as_slice() {
        [] => 0.1,
        [one] => *one,
        all => all.get(index % 4).copied().unwrap_or(0.1),
    };
    made.extend((0..half).map(variance));
    made
}

#[cfg(test)]
mod tests;
