//! From a fused graph to steps: which layout each tensor has, which kernel computes it, which buffer it lies in.
//! Concatenations along channels are made in place where block boundaries allow it.

mod halos;
mod operators;

use std::collections::HashMap;

use super::conv::Conv;
use super::convert::Flat;
use super::depthwise::Depthwise;
use super::epilogue::Stage;
use super::lanes::LANES;
use super::layout::{Halo, Size, View};
use super::plain::{PlainStep, Source};
use super::spatial::Map;
use super::step::{InputChannel, Kernel, Step};
use crate::graph::fuse::{FusedGraph, FusedKind, FusedNode, FusedStage};
use crate::graph::{Data, Op, TensorId, Window};

/// Size, step, dilation and padding of a window: more is no network but a mistake, and its zeros would fill the memory.
const MAX_WINDOW: usize = 4096;

/// A graph was read but cannot be run on this device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {reason}")]
pub struct LowerError {
    /// The node.
    pub node: String,
    /// Why not.
    pub reason: String,
}

/// Steps with buffers that have no addresses yet.
pub struct Lowered {
    /// In order.
    pub steps: Vec<Step>,
    /// f32 of each buffer.
    pub buffers: Vec<usize>,
    /// Where the outputs lie.
    pub outputs: Vec<Flat>,
}

/// A picture tensor's part of a concatenation that is made in place.
#[derive(Clone, Copy)]
struct Place {
    whole: TensorId,
    block: usize,
}

struct Lowering<'a> {
    fused: &'a FusedGraph,
    steps: Vec<Step>,
    buffers: Vec<usize>,
    pictures: HashMap<TensorId, View>,
    plains: HashMap<TensorId, Flat>,
    halos: HashMap<TensorId, Halo>,
    places: HashMap<TensorId, Place>,
    /// Which node (by what it makes) is the last to read a tensor; outputs of the network are read for ever.
    last_read: HashMap<TensorId, TensorId>,
    /// Tensors that are the input with its channels permuted, scaled and shifted: made when somebody asks for them.
    inputs: HashMap<TensorId, Vec<InputChannel>>,
}

fn size_of(shape: &[usize]) -> Size {
    Size { c: shape[1], h: shape[2], w: shape[3] }
}

fn padded(mut values: Vec<f32>) -> Vec<f32> {
    values.resize(values.len().next_multiple_of(LANES), 0.0);
    values
}

fn check_window(node: &FusedNode) -> Result<(), LowerError> {
    let (FusedKind::Conv { window, .. }
    | FusedKind::Op(Op::MaxPool(window) | Op::AvgPool { window, .. } | Op::Conv { window, .. })) = &node.kind
    else {
        return Ok(());
    };
    let numbers = [window.kernel, window.stride, window.dilation, window.before, window.after];
    if numbers.iter().flatten().any(|number| *number > MAX_WINDOW) {
        let reason = format!("a window with sizes, steps or padding above {MAX_WINDOW}");
        return Err(LowerError { node: node.name.clone(), reason });
    }
    Ok(())
}

/// Turns a fused graph into steps.
pub fn lower(fused: &FusedGraph) -> Result<Lowered, LowerError> {
    let mut lowering = Lowering {
        fused,
        steps: Vec::new(),
        buffers: Vec::new(),
        pictures: HashMap::new(),
        plains: HashMap::new(),
        halos: HashMap::new(),
        places: HashMap::new(),
        last_read: last_reads(fused),
        inputs: HashMap::new(),
    };
    fused.nodes.iter().try_for_each(check_window)?;
    lowering.plan_halos();
    for &input in &fused.graph.inputs {
        let channels = fused.graph.tensor(input).shape.get(1).copied().unwrap_or(0);
        lowering.inputs.insert(input, (0..channels).map(InputChannel::same).collect());
    }
    for node in &fused.nodes {
        lowering.node(node)?;
    }
    let outputs =
        fused.graph.outputs.iter().map(|&id| lowering.plain(id, "output")).collect::<Result<_, _>>()?;
    Ok(Lowered { steps: lowering.steps, buffers: lowering.buffers, outputs })
}

impl Lowering<'_> {
    fn shape(&self, id: TensorId) -> &[usize] {
        &self.fused.graph.tensor(id).shape
    }

    fn size(&self, id: TensorId) -> Size {
        size_of(self.shape(id))
    }

    fn buffer(&mut self, len: usize) -> usize {
        self.buffers.push(len.next_multiple_of(LANES));
        self.buffers.len() - 1
    }

    fn step(&mut self, name: &str, kernel: Kernel) {
        self.steps.push(Step { name: name.to_owned(), kernel });
    }

    /// The view in which a picture is to be made.
    fn target(&mut self, id: TensorId) -> View {
        if let Some(view) = self.pictures.get(&id) {
            return *view;
        }
        let size = self.size(id);
        let view = match self.places.get(&id).copied() {
            Some(place) => self.target(place.whole).part(place.block, size.c),
            None => {
                let halo = self.halos.get(&id).copied().unwrap_or_default();
                let mut view = View::blocked(size, halo, 0);
                view.buffer = self.buffer(view.len());
                view
            }
        };
        self.pictures.insert(id, view);
        view
    }

    /// The input's channels in a planar view. With a view of its own for every tensor.
    fn input_view(&mut self, id: TensorId, name: &str) -> Option<View> {
        if let Some(view) = self.pictures.get(&id) {
            return Some(*view);
        }
        let channels = self.inputs.get(&id)?.clone();
        let halo = self.halos.get(&id).copied().unwrap_or_default();
        let mut view = View::planar(self.size(id), halo, 0);
        view.buffer = self.buffer(view.len());
        self.step(name, Kernel::Input { channels, output: view });
        self.pictures.insert(id, view);
        Some(view)
    }

    /// A picture as a view, blocked.
    fn picture(&mut self, id: TensorId, name: &str) -> Result<View, LowerError> {
        if let Some(view) = self.pictures.get(&id)
            && view.pixel == LANES
        {
            return Ok(*view);
        }
        let input = self.plain(id, name)?;
        let halo = self.halos.get(&id).copied().unwrap_or_default();
        let mut output = View::blocked(self.size(id), halo, 0);
        output.buffer = self.buffer(output.len());
        self.step(name, Kernel::ToBlocked { input, output });
        self.pictures.insert(id, output);
        Ok(output)
    }

    /// A tensor row-major without gaps.
    fn plain(&mut self, id: TensorId, name: &str) -> Result<Flat, LowerError> {
        if let Some(flat) = self.plains.get(&id) {
            return Ok(*flat);
        }
        let len = self.fused.graph.tensor(id).len();
        let flat = if let Some(view) = self.pictures.get(&id).copied() {
            if view.size.h * view.size.w == 1 && view.halo.is_none() && view.pixel == LANES {
                // One pixel: its channels lie one after the other already.
                Flat { buffer: view.buffer, offset: view.offset, len }
            } else {
                let output = self.flat(len);
                self.step(name, Kernel::ToPlain { input: view, output });
                output
            }
        } else if self.fused.graph.inputs.contains(&id) {
            let output = self.flat(len);
            self.step(name, Kernel::InputFlat { output });
            output
        } else if self.inputs.contains_key(&id) {
            let _ = self.input_view(id, name);
            return self.plain(id, name);
        } else if let Some(Data::F32(values)) = &self.fused.graph.tensor(id).value {
            let output = self.flat(len);
            let inputs = vec![(Source::Constant(Data::F32(values.clone())), vec![len])];
            self.step(
                name,
                Kernel::Plain(PlainStep { op: Op::Concat { axis: 0 }, inputs, output, shape: vec![len] }),
            );
            output
        } else {
            return Err(LowerError {
                node: name.to_owned(),
                reason: format!("tensor {} has no value here", self.fused.graph.tensor(id).name),
            });
        };
        self.plains.insert(id, flat);
        Ok(flat)
    }

    fn flat(&mut self, len: usize) -> Flat {
        Flat { buffer: self.buffer(len), offset: 0, len }
    }

    fn stages(&mut self, node: &FusedNode) -> Result<Vec<Stage>, LowerError> {
        node.stages
            .iter()
            .map(|stage| {
                Ok(match stage {
                    FusedStage::Shift(c) => Stage::Shift(padded(c.clone())),
                    FusedStage::Scale(c) => Stage::Scale(padded(c.clone())),
                    FusedStage::PRelu(c) if c.iter().all(|slope| *slope <= 1.0) => {
                        Stage::PReluAtMostOne(padded(c.clone()))
                    }
                    FusedStage::PRelu(c) => Stage::PRelu(padded(c.clone())),
                    FusedStage::Act(act) => Stage::Act(*act),
                    FusedStage::Add(id) => Stage::Add(self.picture(*id, &node.name)?),
                    FusedStage::Mul(id) => Stage::Mul(self.picture(*id, &node.name)?),
                    FusedStage::SubFrom(id) => Stage::SubFrom(self.picture(*id, &node.name)?),
                    FusedStage::ShiftBy(id) => Stage::ShiftBy(self.picture(*id, &node.name)?),
                    FusedStage::ScaleBy(id) => Stage::ScaleBy(self.picture(*id, &node.name)?),
                    FusedStage::Quantize(q) => Stage::Quantize(*q),
                })
            })
            .collect()
    }

    fn node(&mut self, node: &FusedNode) -> Result<(), LowerError> {
        match &node.kind {
            FusedKind::Conv { window, groups, weights } => self.conv(node, *window, *groups, weights),
            FusedKind::Map => self.map(node),
            FusedKind::Op(op) => self.operator(node, op),
        }
    }

    fn conv(
        &mut self,
        node: &FusedNode,
        window: Window,
        groups: usize,
        weights: &[f32],
    ) -> Result<(), LowerError> {
        let (input_size, output_size) = (self.size(node.inputs[0]), self.size(node.output));
        let mut stages = self.stages(node)?;
        let bias = match stages.first() {
            Some(Stage::Shift(bias)) => {
                let bias = bias.clone();
                stages.remove(0);
                bias
            }
            _ => padded(vec![0.0; output_size.c]),
        };
        if groups == 1 {
            let input = match self.input_view(node.inputs[0], &node.name) {
                Some(view) => view,
                None => self.picture(node.inputs[0], &node.name)?,
            };
            self.replace_residual(node, &input, &window);
            let output = self.target(node.output);
            let conv = Conv::new((input, output), window, weights, bias, stages);
            self.step(&node.name, Kernel::Conv(conv));
        } else if groups == input_size.c && output_size.c == input_size.c {
            let input = self.picture(node.inputs[0], &node.name)?;
            let output = self.target(node.output);
            let weights = Depthwise::pack(weights, input_size.c, &window);
            self.step(
                &node.name,
                Kernel::Depthwise(Depthwise { input, output, window, weights, bias, stages }),
            );
        } else {
            self.grouped(node, window, groups, weights, bias, stages)?;
        }
        Ok(())
    }

    /// When nobody reads the residual any more, the sum takes its place: a third less memory to go through.
    fn replace_residual(&mut self, node: &FusedNode, input: &View, window: &Window) {
        let Some(residual) = node.stages.iter().find_map(|stage| match stage {
            FusedStage::Add(id) => Some(*id),
            _ => None,
        }) else {
            return;
        };
        let read_once = node.reads().filter(|id| *id == residual).count() == 1;
        let last = self.last_read.get(&residual) == Some(&node.output);
        let halos = [residual, node.output].map(|id| self.halos.get(&id).copied().unwrap_or_default());
        let placed = [residual, node.output].iter().any(|id| self.places.contains_key(id));
        let contains = self.places.values().any(|p| p.whole == residual || p.whole == node.output);
        let Some(view) = self.pictures.get(&residual).copied() else { return };
        let plain_too = self.plains.contains_key(&residual);
        let simple = input.pixel == LANES && window.stride[1] == 1 && view.pixel == LANES;
        if read_once && last && simple && halos[0] == halos[1] && !placed && !contains && !plain_too {
            self.pictures.insert(node.output, view);
        }
    }

    /// Groups of several channels: one dense convolution with zeros for the other groups' channels. No network of
    /// ours has any; this is right rather than fast.
    fn grouped(
        &mut self,
        node: &FusedNode,
        window: Window,
        groups: usize,
        weights: &[f32],
        bias: Vec<f32>,
        stages: Vec<Stage>,
    ) -> Result<(), LowerError> {
        let input = self.picture(node.inputs[0], &node.name)?;
        let output = self.target(node.output);
        let (c_in, c_out) = (input.size.c / groups, (output.size.c / groups).max(1));
        let taps = window.kernel[0] * window.kernel[1];
        let mut dense = vec![0.0; output.size.c * input.size.c * taps];
        for o in 0..output.size.c {
            let first = o / c_out * c_in;
            let from = o * c_in * taps;
            let to = (o * input.size.c + first) * taps;
            dense[to..to + c_in * taps].copy_from_slice(&weights[from..from + c_in * taps]);
        }
        self.step(&node.name, Kernel::Conv(Conv::new((input, output), window, &dense, bias, stages)));
        Ok(())
    }

    fn map(&mut self, node: &FusedNode) -> Result<(), LowerError> {
        if let Some(channels) = self.inputs.get(&node.inputs[0])
            && let Some(changed) = on_the_way(channels, &node.stages)
        {
            self.inputs.insert(node.output, changed);
            return Ok(());
        }
        let stages = self.stages(node)?;
        let input = self.picture(node.inputs[0], &node.name)?;
        let output = self.target(node.output);
        self.step(&node.name, Kernel::Map(Map { input, output, stages }));
        Ok(())
    }
}

fn last_reads(fused: &FusedGraph) -> HashMap<TensorId, TensorId> {
    let mut last: HashMap<_, _> =
        fused.nodes.iter().flat_map(|node| node.reads().map(|id| (id, node.output))).collect();
    fused.graph.outputs.iter().for_each(|id| {
        last.remove(id);
    });
    last
}

/// Scales and shifts can be done while the input is copied.
fn on_the_way(channels: &[InputChannel], stages: &[FusedStage]) -> Option<Vec<InputChannel>> {
    let mut channels = channels.to_vec();
    for stage in stages {
        for (i, channel) in channels.iter_mut().enumerate() {
            match stage {
                FusedStage::Scale(c) => {
                    channel.scale *= c.get(i)?;
                    channel.shift *= c.get(i)?;
                }
                FusedStage::Shift(c) => channel.shift += c.get(i)?,
                _ => return None,
            }
        }
    }
    Some(channels)
}
