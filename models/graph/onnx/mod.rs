//! ONNX files: one protobuf message with nodes, initialisers and the network's inputs and outputs.

mod census;
mod constants;
mod layers;
mod node;
mod operators;
mod proto;
mod tensors;

use std::collections::HashMap;

use prost::Message;

use super::build::Builder;
use super::error::{At, ImportError, at_most, name};
use super::limits::*;
use super::order::order;
use super::{Graph, TensorId};
use node::Call;

/// Versions of the standard operators that are understood.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=23;

/// Reads a network. `shapes` replace the shapes of the inputs with these names.
///
/// # Errors
/// See [`ImportError`].
pub fn import(bytes: &[u8], shapes: &[(&str, &[usize])]) -> Result<Graph, ImportError> {
    at_most("length of the file", bytes.len(), MAX_FILE_BYTES)?;
    census::check(bytes)?;
    let model =
        proto::Model::decode(bytes).map_err(|error| ImportError::malformed(format!("no ONNX: {error}")))?;
    let standard = model.opset_import.iter().find(|set| is_standard(&set.domain));
    let opset =
        standard.map(|set| set.version).ok_or_else(|| ImportError::malformed("no standard operator set"))?;
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        let reason = format!("operator set {opset}; {first} to {last} are understood");
        return Err(ImportError::malformed(reason));
    }
    let graph = model.graph.ok_or_else(|| ImportError::malformed("no graph"))?;
    if !graph.sparse_initializer.is_empty() {
        return Err(ImportError::malformed("sparse initialisers are not supported"));
    }
    at_most("number of nodes", graph.node.len(), MAX_NODES)?;
    let sources = sources(&graph)?;
    let wanted = |name: &String| sources.get(name.as_str()).copied();
    let needs: Vec<Vec<usize>> =
        graph.node.iter().map(|node| node.input.iter().filter_map(wanted).collect()).collect();
    let ends = graph.output.iter().filter_map(|output| wanted(&output.name));
    let order = order(&needs, ends).map_err(|place| at(&graph.node[place]).invalid("is part of a cycle"))?;

    let mut import = Import { build: Builder::default(), tensors: HashMap::new(), opset };
    import.inputs(&graph, shapes)?;
    let stored: HashMap<&str, &proto::Tensor> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for place in order {
        import.node(&graph.node[place], &stored)?;
    }
    let mut outputs = Vec::new();
    for output in &graph.output {
        let id = import.find(&output.name, &stored)?;
        let id =
            id.ok_or_else(|| ImportError::malformed(format!("nothing makes output {:?}", output.name)))?;
        outputs.push((output.name.clone(), id));
    }
    import.build.finish(&outputs)
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// A node for messages; one without a name is called by what it makes.
fn at(node: &proto::Node) -> At<'_> {
    let called =
        if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
    At { node: called, operator: &node.op_type }
}

/// Which node makes a tensor. Also checks names, and that nothing is made twice.
fn sources(graph: &proto::Graph) -> Result<HashMap<&str, usize>, ImportError> {
    let mut sources = HashMap::new();
    let mut constants = HashMap::new();
    for tensor in &graph.initializer {
        if constants.insert(name(&tensor.name)?, ()).is_some() {
            return Err(ImportError::malformed(format!("two initialisers {:?}", tensor.name)));
        }
    }
    for value in graph.input.iter().chain(&graph.output) {
        name(&value.name)?;
    }
    for (place, node) in graph.node.iter().enumerate() {
        name(&node.name)?;
        name(&node.op_type)?;
        name(&node.domain)?;
        at_most("inputs of a node", node.input.len(), MAX_NODE_INPUTS)?;
        at_most("outputs of a node", node.output.len(), MAX_NODE_INPUTS)?;
        for input in &node.input {
            name(input)?;
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            let made = name(output)?;
            if sources.insert(made, place).is_some() || constants.contains_key(made) {
                return Err(at(node).invalid(format!("makes {made:?}, which is there already")));
            }
        }
    }
    Ok(sources)
}

/// The import under way.
struct Import<'a> {
    build: Builder,
    tensors: HashMap<&'a str, TensorId>,
    opset: i64,
}

impl<'a> Import<'a> {
    /// Inputs of the network: those of the file that are not initialised by it.
    fn inputs(&mut self, graph: &'a proto::Graph, shapes: &[(&str, &[usize])]) -> Result<(), ImportError> {
        let constants: std::collections::HashSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut given: HashMap<&str, &[usize]> = shapes.iter().copied().collect();
        for input in graph.input.iter().filter(|input| !constants.contains(input.name.as_str())) {
            let shape = input_shape(input, given.remove(input.name.as_str()))?;
            let id = self.build.input(&input.name, &shape)?;
            if self.tensors.insert(&input.name, id).is_some() {
                return Err(ImportError::malformed(format!("two inputs {:?}", input.name)));
            }
        }
        match given.keys().next() {
            Some(input) => {
                Err(ImportError::Shape { input: (*input).into(), reason: "there is no such input".into() })
            }
            None => Ok(()),
        }
    }

    /// The tensor of this name; an initialiser is read when it is first needed.
    fn find(
        &mut self,
        name: &'a str,
        stored: &HashMap<&'a str, &'a proto::Tensor>,
    ) -> Result<Option<TensorId>, ImportError> {
        if let Some(id) = self.tensors.get(name) {
            return Ok(Some(*id));
        }
        let Some(tensor) = stored.get(name) else { return Ok(None) };
        let (shape, data) = tensors::read(tensor)?;
        let id = self.build.stored(name, &shape, data)?;
        self.tensors.insert(name, id);
        Ok(Some(id))
    }

    fn node(
        &mut self,
        node: &'a proto::Node,
        stored: &HashMap<&'a str, &'a proto::Tensor>,
    ) -> Result<(), ImportError> {
        let at = at(node);
        if !is_standard(&node.domain) {
            return Err(at.unsupported(format!("operators of {:?}", node.domain)));
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let id = if name.is_empty() { None } else { self.find(name, stored)? };
            if id.is_none() && !name.is_empty() {
                return Err(at.invalid(format!("nothing makes its input {name:?}")));
            }
            inputs.push(id);
        }
        let call = Call::new(at, node, &inputs, self.opset);
        let made = operators::lower(&mut self.build, &call)?;
        call.all_read()?;
        for (place, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let id =
                made.get(place).ok_or_else(|| at.unsupported(format!("output {place} is not computed")))?;
            self.tensors.insert(name, *id);
        }
        Ok(())
    }
}

/// The shape of an input: as given, else as the file says if that is one shape.
fn input_shape(input: &proto::ValueInfo, given: Option<&[usize]>) -> Result<Vec<usize>, ImportError> {
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor.as_ref());
    let tensor =
        tensor.ok_or_else(|| ImportError::malformed(format!("input {:?} is no tensor", input.name)))?;
    use proto::element::{BFLOAT16, DOUBLE, FLOAT, FLOAT16};
    if !matches!(tensor.element, FLOAT | FLOAT16 | DOUBLE | BFLOAT16) {
        let reason = format!("input {:?} is not of floating point", input.name);
        return Err(ImportError::malformed(reason));
    }
    let dimensions = tensor.shape.as_ref().map(|shape| shape.dim.as_slice());
    if let Some(given) = given {
        if dimensions.is_some_and(|dimensions| dimensions.len() != given.len()) {
            let reason = format!("{given:?} has not as many dimensions as in the file");
            return Err(ImportError::Shape { input: input.name.clone(), reason });
        }
        return Ok(given.to_vec());
    }
    let open = |dimensions: String| ImportError::OpenShape { input: input.name.clone(), dimensions };
    let dimensions = dimensions.ok_or_else(|| open("all of its dimensions".into()))?;
    at_most("number of dimensions", dimensions.len(), MAX_RANK)?;
    let (mut shape, mut unknown) = (Vec::new(), Vec::new());
    for (place, dimension) in dimensions.iter().enumerate() {
        match &dimension.size {
            Some(proto::Size::Value(size)) if *size > 0 => {
                let size = usize::try_from(*size);
                shape.push(size.map_err(|_| ImportError::malformed("a dimension that is too large"))?);
            }
            Some(proto::Size::Name(called)) if !called.is_empty() => {
                unknown.push(format!("{:?}", name(called)?))
            }
            _ => unknown.push(format!("dimension {place}")),
        }
    }
    if unknown.is_empty() { Ok(shape) } else { Err(open(unknown.join(", "))) }
}

#[cfg(test)]
pub(super) mod tests;
