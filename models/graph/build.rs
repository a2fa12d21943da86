//! What both importers build a graph with: every tensor and node is held against the limits and its shape inferred as
//! it comes; what depends on constants only is computed at once; at the end what no output needs is dropped.

use std::cell::Cell;
use std::sync::Arc;

use super::error::{At, ImportError, at_most};
use super::limits::*;
use super::reference::{self, Operand};
use super::{Data, Graph, Kind, Node, Op, Tensor, TensorId, shape};

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Builder {
    graph: Graph,
    /// Values of all tensors.
    elements: usize,
    /// Values of the constants in the file.
    stored: usize,
    /// Values of the constants that were computed.
    folded: usize,
    /// Multiplications done to compute them, and values read.
    folding_work: Cell<u64>,
    /// Multiplications of one run.
    work: u64,
}

impl Builder {
    fn tensor(&mut self, tensor: Tensor) -> Result<TensorId, ImportError> {
        at_most("number of tensors", self.graph.tensors.len() + 1, MAX_TENSORS)?;
        self.elements = self.elements.saturating_add(count(&tensor.shape)?);
        at_most("number of values in all tensors", self.elements, MAX_TOTAL_ELEMENTS)?;
        self.graph.tensors.push(tensor);
        Ok(TensorId(self.graph.tensors.len() - 1))
    }

    /// What the network takes.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Result<TensorId, ImportError> {
        at_most("number of inputs", self.graph.inputs.len() + 1, MAX_PORTS)?;
        if shape.contains(&0) {
            return Err(ImportError::malformed(format!("input {name:?} of shape {shape:?} has no values")));
        }
        let id =
            self.tensor(Tensor { name: name.into(), shape: shape.into(), kind: Kind::F32, value: None })?;
        self.graph.inputs.push(id);
        Ok(id)
    }

    /// A constant out of the file. Its values must be as many as its shape says.
    pub fn stored(&mut self, name: &str, shape: &[usize], value: Data) -> Result<TensorId, ImportError> {
        self.stored = self.stored.saturating_add(value.len());
        self.constant(name, shape, value)
    }

    /// A constant that the importer made up.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: Data) -> Result<TensorId, ImportError> {
        if count(shape)? != value.len() {
            let reason = format!("constant {name:?} of shape {shape:?} has {} values", value.len());
            return Err(ImportError::malformed(reason));
        }
        let kind = match value {
            Data::F32(_) => Kind::F32,
            Data::I64(_) => Kind::I64,
        };
        self.tensor(Tensor { name: name.into(), shape: shape.into(), kind, value: Some(value) })
    }

    /// One f32 that the importer made up.
    pub fn scalar(&mut self, at: At<'_>, value: f32) -> Result<TensorId, ImportError> {
        self.constant(at.node, &[], Data::F32(Arc::new([value])))
    }

    /// A row of integers that the importer made up.
    pub fn row(&mut self, at: At<'_>, values: &[i64]) -> Result<TensorId, ImportError> {
        self.constant(at.node, &[values.len()], Data::I64(values.into()))
    }

    pub fn get(&self, id: TensorId) -> &Tensor {
        self.graph.tensor(id)
    }

    pub fn shape(&self, id: TensorId) -> &[usize] {
        &self.get(id).shape
    }

    pub fn rank(&self, id: TensorId) -> usize {
        self.shape(id).len()
    }

    /// Integers of a constant; f32 that are whole numbers count as such.
    pub fn integers(&self, at: At<'_>, id: TensorId, what: &str) -> Result<Vec<i64>, ImportError> {
        self.charge(self.get(id).len() as u64)?;
        match &self.get(id).value {
            Some(Data::I64(values)) => Ok(values.to_vec()),
            Some(Data::F32(values)) => values
                .iter()
                .map(|value| (value.fract() == 0.0 && value.abs() < 1e9).then_some(*value as i64))
                .collect::<Option<Vec<i64>>>()
                .ok_or_else(|| at.invalid(format!("{what} are no whole numbers"))),
            None => Err(at.unsupported(format!("{what} that depend on the input"))),
        }
    }

    /// Values of a constant as f32.
    pub fn floats(&self, at: At<'_>, id: TensorId, what: &str) -> Result<Vec<f32>, ImportError> {
        self.charge(self.get(id).len() as u64)?;
        match &self.get(id).value {
            Some(Data::F32(values)) => Ok(values.to_vec()),
            Some(Data::I64(values)) => Ok(values.iter().map(|value| *value as f32).collect()),
            None => Err(at.unsupported(format!("{what} that depend on the input"))),
        }
    }

    /// The one value of a constant.
    pub fn float(&self, at: At<'_>, id: TensorId, what: &str) -> Result<f32, ImportError> {
        match self.floats(at, id, what)?.as_slice() {
            [value] => Ok(*value),
            values => Err(at.invalid(format!("{what}: {} values instead of one", values.len()))),
        }
    }

    /// Adds an operator whose inputs tell its output's shape.
    pub fn op(&mut self, at: At<'_>, op: Op, inputs: &[TensorId]) -> Result<TensorId, ImportError> {
        self.shaped(at, op, inputs, None)
    }

    /// Adds an operator; `given` is the shape of its output where its inputs do not tell it.
    pub fn shaped(
        &mut self,
        at: At<'_>,
        op: Op,
        inputs: &[TensorId],
        given: Option<&[usize]>,
    ) -> Result<TensorId, ImportError> {
        at_most("inputs of a node", inputs.len(), MAX_NODE_INPUTS)?;
        let shapes: Vec<&[usize]> = inputs.iter().map(|id| self.shape(*id)).collect();
        let kinds: Vec<Kind> = inputs.iter().map(|id| self.get(*id).kind).collect();
        let made = shape::output(&op, &shapes, given).map_err(|reason| at.invalid(reason))?;
        let kind = shape::kind(&op, &kinds).map_err(|reason| at.invalid(reason))?;
        let elements = count(&made)?;
        let work = shape::work(&op, &shapes, &made);
        if inputs.iter().all(|id| self.get(*id).value.is_some()) {
            let value = self.fold(at, &op, inputs, &made, work)?;
            return self.tensor(Tensor { name: at.node.into(), shape: made, kind, value: Some(value) });
        }
        if elements == 0 {
            return Err(at.unsupported(format!("makes {made:?}, which has no values")));
        }
        if kind != Kind::F32 {
            return Err(at.unsupported("integers that depend on the input"));
        }
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK {
            return Err(ImportError::TooLarge {
                what: "work of one run",
                claimed: self.work,
                limit: MAX_WORK,
            });
        }
        let output = self.tensor(Tensor { name: at.node.into(), shape: made, kind, value: None })?;
        at_most("number of nodes", self.graph.nodes.len() + 1, MAX_NODES)?;
        self.graph.nodes.push(Node { name: at.node.into(), op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Counts what is about to be made of constants against the limit.
    pub fn may_fold(&mut self, elements: usize, work: u64) -> Result<(), ImportError> {
        self.folded = self.folded.saturating_add(elements);
        at_most("number of values made of constants", self.folded, self.folded_limit())?;
        self.charge(work)
    }

    fn folded_limit(&self) -> usize {
        self.stored.saturating_mul(FOLDED_PER_STORED).saturating_add(MAX_FOLDED_ELEMENTS)
    }

    /// Counts work on constants against the limit.
    fn charge(&self, work: u64) -> Result<(), ImportError> {
        let limit = (self.folded_limit() as u64).saturating_mul(FOLDING_WORK_PER_ELEMENT as u64);
        let claimed = self.folding_work.get().saturating_add(work);
        self.folding_work.set(claimed);
        if claimed > limit {
            return Err(ImportError::TooLarge { what: "work on constants", claimed, limit });
        }
        Ok(())
    }

    fn fold(
        &mut self,
        at: At<'_>,
        op: &Op,
        inputs: &[TensorId],
        made: &[usize],
        work: u64,
    ) -> Result<Data, ImportError> {
        if let (Op::Reshape, Some(value)) = (op, &self.get(inputs[0]).value) {
            return Ok(value.clone());
        }
        self.may_fold(count(made)?, work)?;
        let mut operands = Vec::with_capacity(inputs.len());
        for id in inputs {
            let tensor = self.get(*id);
            operands.extend(tensor.value.as_ref().map(|value| Operand::new(tensor, value)));
        }
        reference::compute(op, &operands, made).map_err(|reason| at.invalid(reason))
    }

    /// Names what the network gives and drops everything that does not lead there.
    pub fn finish(mut self, outputs: &[(String, TensorId)]) -> Result<Graph, ImportError> {
        at_most("number of outputs", outputs.len(), MAX_PORTS)?;
        if outputs.is_empty() {
            return Err(ImportError::malformed("the network has no output"));
        }
        for (name, id) in outputs {
            if self.get(*id).value.is_some() {
                return Err(ImportError::malformed(format!("output {name:?} does not depend on any input")));
            }
            // An input, or a tensor that is an output already, gets a copy: each output has its own name and buffer.
            let taken = self.graph.inputs.contains(id) || self.graph.outputs.contains(id);
            let id = match taken {
                true => {
                    let shape = self.shape(*id).to_vec();
                    let at = At { node: name, operator: "Result" };
                    self.shaped(at, Op::Reshape, &[*id], Some(&shape))?
                }
                false => *id,
            };
            self.graph.tensors[id.0].name.clone_from(name);
            self.graph.outputs.push(id);
        }
        Ok(pruned(self.graph))
    }
}

/// The same graph without nodes that no output needs and tensors that no node needs. Inputs stay.
fn pruned(graph: Graph) -> Graph {
    let mut needed = vec![false; graph.tensors.len()];
    for id in graph.inputs.iter().chain(&graph.outputs) {
        needed[id.0] = true;
    }
    let mut nodes = graph.nodes;
    let mut live = vec![false; nodes.len()];
    for (node, live) in nodes.iter().zip(&mut live).rev() {
        *live = needed[node.output.0];
        if *live {
            node.inputs.iter().for_each(|id| needed[id.0] = true);
        }
    }
    let mut live = live.into_iter();
    nodes.retain(|_| live.next().unwrap_or(false));
    let mut places = vec![TensorId(0); needed.len()];
    let mut tensors = Vec::new();
    for (index, tensor) in graph.tensors.into_iter().enumerate() {
        places[index] = TensorId(tensors.len());
        if needed[index] {
            tensors.push(tensor);
        }
    }
    let moved = |ids: Vec<TensorId>| ids.into_iter().map(|id| places[id.0]).collect();
    for node in &mut nodes {
        node.inputs = moved(std::mem::take(&mut node.inputs));
        node.output = places[node.output.0];
    }
    Graph { tensors, nodes, inputs: moved(graph.inputs), outputs: moved(graph.outputs) }
}

/// Number of values of a shape, held against the limits.
pub(super) fn count(shape: &[usize]) -> Result<usize, ImportError> {
    at_most("number of dimensions", shape.len(), MAX_RANK)?;
    shape::elements(shape).ok_or_else(|| {
        let claimed = shape.iter().fold(1usize, |product, size| product.saturating_mul((*size).max(1)));
        ImportError::too_large("number of values in a tensor", claimed, MAX_TENSOR_ELEMENTS)
    })
}
