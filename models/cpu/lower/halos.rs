//! Which pictures get zeros around them, and which are made as parts of a concatenation.

use std::collections::HashMap;

use super::{Lowering, Place, size_of};
use crate::cpu::lanes::LANES;
use crate::cpu::layout::{Halo, Size};
use crate::graph::fuse::{FusedGraph, FusedKind, FusedNode, is_picture};
use crate::graph::{Op, Sampling, TensorId, Window};

impl Lowering<'_> {
    /// Decides which tensors get halos, and which concatenations are made in place.
    pub(super) fn plan_halos(&mut self) {
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
