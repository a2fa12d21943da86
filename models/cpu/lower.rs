//! From a fused graph to steps: which layout each tensor has, which kernel computes it, which buffer it lies in.
//! Concatenations along channels are made in place where block boundaries allow it.

use std::collections::HashMap;

use super::conv::Conv;
use super::convert::Flat;
use super::depthwise::Depthwise;
use super::epilogue::{self, Stage};
use super::lanes::LANES;
use super::layout::{Halo, Size, View};
use super::plain::{PlainStep, Source};
use super::spatial::{Map, Normalise, Plane, Pool, Pooling, Upsample};
use super::step::{InputChannel, Kernel, Step};
use crate::graph::fuse::{FusedGraph, FusedKind, FusedNode, FusedStage, is_picture, is_plane_mean};
use crate::graph::{Data, Op, Sampling, TensorId, Window};

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

fn halo_of(window: &Window, input: Size, output: Size) -> Halo {
    // What the last window reaches may be less than the padding of the file, or more.
    let reach = |axis: usize, inner: usize, outer: usize| {
        ((outer - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1)
            .saturating_sub(inner + window.before[axis])
    };
    Halo {
        top: window.before[0],
        left: window.before[1],
        bottom: reach(0, input.h, output.h),
        right: reach(1, input.w, output.w),
    }
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

    /// Decides which tensors get halos, and which concatenations are made in place.
    fn plan_halos(&mut self) {
        let fused = self.fused;
        for node in &fused.nodes {
            if let FusedKind::Conv { window, .. } = &node.kind {
                let halo = halo_of(window, self.size(node.inputs[0]), self.size(node.output));
                let known = self.halos.entry(node.inputs[0]).or_default();
                *known = known.union(halo);
            }
        }
        let made: HashMap<TensorId, &FusedNode> = fused.nodes.iter().map(|n| (n.output, n)).collect();
        for node in fused.nodes.iter().rev() {
            let FusedKind::Op(Op::Concat { axis: 1 }) = node.kind else { continue };
            if !is_picture(self.shape(node.output)) {
                continue;
            }
            let mut block = 0;
            for (i, &member) in node.inputs.iter().enumerate() {
                let channels = self.shape(member)[1];
                let is_last = i + 1 == node.inputs.len();
                let own = made.get(&member).is_some_and(|n| makes_picture(n, self.fused));
                let once = node.inputs.iter().filter(|&&m| m == member).count() == 1;
                if !(is_last || channels.is_multiple_of(LANES)) {
                    break;
                }
                if own && once && !self.places.contains_key(&member) {
                    self.places.insert(member, Place { whole: node.output, block });
                }
                block += channels / LANES;
            }
        }
        // Members and wholes share rows, so they share the halo; a whole may be a member itself.
        loop {
            let mut changed = false;
            for (member, place) in &self.places {
                let [a, b] =
                    [*member, place.whole].map(|id| self.halos.get(&id).copied().unwrap_or_default());
                let both = a.union(b);
                for id in [*member, place.whole] {
                    if self.halos.insert(id, both) != Some(both) {
                        changed = true;
                    }
                }
            }
            if !changed {
                return;
            }
        }
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

    fn operator(&mut self, node: &FusedNode, op: &Op) -> Result<(), LowerError> {
        let name = node.name.as_str();
        let first = node.inputs[0];
        let picture = is_picture(self.shape(first)) && is_picture(self.shape(node.output));
        match op {
            Op::MaxPool(window) | Op::AvgPool { window, .. } if picture => {
                let how = match op {
                    Op::AvgPool { count_padding: true, .. } => Pooling::MeanAll,
                    Op::AvgPool { .. } => Pooling::MeanInside,
                    _ => Pooling::Max,
                };
                let size = self.size(first);
                let input = self.picture(first, name)?;
                let output = self.target(node.output);
                let whole =
                    window.kernel == [size.h, size.w] && window.before == [0, 0] && how != Pooling::Max;
                if whole && output.size.h * output.size.w == 1 {
                    self.step(
                        name,
                        Kernel::Plane(Plane { input, output, normalise: None, stages: Vec::new() }),
                    );
                } else {
                    self.step(name, Kernel::Pool(Pool { input, output, window: *window, how }));
                }
            }
            op if picture && is_plane_mean(op) => {
                let input = self.picture(first, name)?;
                let output = self.target(node.output);
                self.step(name, Kernel::Plane(Plane { input, output, normalise: None, stages: Vec::new() }));
            }
            Op::Mvn { axes, normalize_variance, epsilon, inside } if picture && axes == &[2, 3] => {
                let normalise =
                    Normalise { variance: *normalize_variance, epsilon: *epsilon, inside: *inside };
                if let Some(changed) = self.normalised_input(first, normalise, &node.stages) {
                    self.inputs.insert(node.output, changed);
                    return Ok(());
                }
                let stages = self.stages(node)?;
                let input = self.picture(first, name)?;
                let output = self.target(node.output);
                self.step(name, Kernel::Plane(Plane { input, output, normalise: Some(normalise), stages }));
            }
            Op::Resize(Sampling::NearestAsymmetric) if picture && self.whole_factor(node).is_some() => {
                let factor = self.whole_factor(node).unwrap_or(1);
                let input = self.picture(first, name)?;
                let output = self.target(node.output);
                self.step(name, Kernel::Upsample(Upsample { input, output, factor }));
            }
            Op::Concat { axis: 1 } if is_picture(self.shape(node.output)) && self.in_blocks(node) => {
                self.concat(node)?;
            }
            Op::Gather { axis: 1 } if self.inputs.contains_key(&first) && picture => {
                let indices = self.fused.graph.tensor(node.inputs[1]).value.as_ref().and_then(Data::i64);
                let channels = &self.inputs[&first];
                let chosen: Option<Vec<_>> = indices.and_then(|indices| {
                    indices.iter().map(|&i| channels.get(usize::try_from(i).ok()?).copied()).collect()
                });
                match chosen {
                    Some(chosen) => {
                        self.inputs.insert(node.output, chosen);
                    }
                    None => self.plain_operator(node, op)?,
                }
            }
            Op::Reshape => {
                // The same values in the same order: the same memory.
                let flat = self.plain(first, name)?;
                self.plains.insert(node.output, flat);
            }
            Op::Transpose { order } if order == &[0, 2, 3, 1] && self.is_blocked(first) => {
                let input = self.picture(first, name)?;
                let output = self.flat(self.fused.graph.tensor(first).len());
                let row = input.size.c;
                self.step(name, Kernel::ToRows { input, output, row, column: 0 });
                self.plains.insert(node.output, output);
            }
            Op::Unary(act) if epilogue::has_kernel(*act) => {
                // Element by element: as a picture of sixteen channels and one row, whatever the shape is.
                let input = self.plain(first, name)?;
                let output = self.flat(input.len);
                let [input, flat] =
                    [input, output].map(|flat| View::line(flat.buffer, flat.offset, flat.len));
                let stages = vec![Stage::Act(*act)];
                self.step(name, Kernel::Map(Map { input, output: flat, stages }));
                self.plains.insert(node.output, output);
            }
            _ => self.plain_operator(node, op)?,
        }
        Ok(())
    }

    /// The normalisation of the input's own channels can be done while they are copied.
    fn normalised_input(
        &self,
        id: TensorId,
        normalise: Normalise,
        stages: &[FusedStage],
    ) -> Option<Vec<InputChannel>> {
        let as_they_are = |c: &InputChannel| *c == InputChannel::same(c.from);
        let channels = self.inputs.get(&id).filter(|channels| channels.iter().all(as_they_are))?;
        let changed: Vec<_> =
            channels.iter().map(|c| InputChannel { normalise: Some(normalise), ..*c }).collect();
        on_the_way(&changed, stages)
    }

    fn is_blocked(&self, id: TensorId) -> bool {
        self.pictures.get(&id).is_some_and(|view| view.pixel == LANES)
    }

    fn whole_factor(&self, node: &FusedNode) -> Option<usize> {
        let (from, to) = (self.size(node.inputs[0]), self.size(node.output));
        let factor = to.h / from.h;
        (to.h == from.h * factor && to.w == from.w * factor && factor > 0).then_some(factor)
    }

    /// Whether the concatenation is better made of blocks: all members but the last are whole blocks, or at least
    /// one of them has been made in place.
    fn in_blocks(&self, node: &FusedNode) -> bool {
        let whole = node.inputs.iter().rev().skip(1).all(|&id| self.shape(id)[1].is_multiple_of(LANES));
        whole || node.inputs.iter().any(|id| self.places.get(id).is_some_and(|p| p.whole == node.output))
    }

    fn concat(&mut self, node: &FusedNode) -> Result<(), LowerError> {
        let output = self.target(node.output);
        let mut first = 0;
        for &member in &node.inputs {
            if self.places.get(&member).is_none_or(|place| place.whole != node.output) {
                let input = self.picture(member, &node.name)?;
                self.step(&node.name, Kernel::CopyChannels { input, output, first });
            }
            first += self.shape(member)[1];
        }
        Ok(())
    }

    fn plain_operator(&mut self, node: &FusedNode, op: &Op) -> Result<(), LowerError> {
        let mut inputs = Vec::new();
        for &id in &node.inputs {
            let tensor = self.fused.graph.tensor(id);
            let source = match &tensor.value {
                Some(data) => Source::Constant(data.clone()),
                None => Source::Memory(self.plain(id, &node.name)?),
            };
            inputs.push((source, tensor.shape.clone()));
        }
        let shape = self.shape(node.output).to_vec();
        let output = self.flat(shape.iter().product());
        self.step(&node.name, Kernel::Plain(PlainStep { op: op.clone(), inputs, output, shape }));
        self.plains.insert(node.output, output);
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

/// The node's result is made by a picture kernel, which can write where it is told.
fn makes_picture(node: &FusedNode, fused: &FusedGraph) -> bool {
    let shape = |id: TensorId| &fused.graph.tensor(id).shape;
    match &node.kind {
        FusedKind::Conv { .. } => true,
        FusedKind::Map => !fused.graph.inputs.contains(&node.inputs[0]),
        FusedKind::Op(op) => {
            is_picture(shape(node.inputs[0]))
                && match op {
                    Op::MaxPool(_) | Op::AvgPool { .. } => true,
                    Op::Resize(Sampling::NearestAsymmetric) => {
                        let (from, to) = (size_of(shape(node.inputs[0])), size_of(shape(node.output)));
                        to.h % from.h == 0 && to.w % from.w == 0 && to.h / from.h == to.w / from.w
                    }
                    Op::Concat { axis: 1 } => {
                        node.inputs.iter().rev().skip(1).all(|&id| shape(id)[1].is_multiple_of(LANES))
                    }
                    _ => false,
                }
        }
    }
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
