//! Every operator but convolutions: which kernel computes it.

use super::{LowerError, Lowering, on_the_way};
use crate::cpu::epilogue::{self, Stage};
use crate::cpu::lanes::LANES;
use crate::cpu::layout::View;
use crate::cpu::plain::{PlainStep, Source};
use crate::cpu::spatial::{Map, Normalise, Plane, Pool, Pooling, Upsample};
use crate::cpu::step::{InputChannel, Kernel};
use crate::graph::fuse::{FusedNode, FusedStage, is_picture, is_plane_mean};
use crate::graph::{Data, Op, Sampling, TensorId};

impl Lowering<'_> {
    pub(super) fn operator(&mut self, node: &FusedNode, op: &Op) -> Result<(), LowerError> {
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
