//! OpenVINO IR, version 10 and 11: an XML with layers and edges, and a file of weights that constants point into.

mod attributes;
mod constants;
mod detection;
mod document;
mod operators;
mod shapes;

use std::collections::HashMap;

use super::build::Builder;
use super::error::{At, ImportError, at_most, name};
use super::limits::{MAX_FILE_BYTES, MAX_RANK};
use super::order::order;
use super::{Graph, TensorId};
use attributes::{Attributes, quoted};
use constants::Weights;
use document::Layer;

/// Reads a network. `shapes` replace the shapes of the inputs with these names; inputs are called by the first of
/// their tensor names, or by their layer's name where they have none, and both are understood here. Outputs likewise;
/// of several tensor names the one counts that the output's own layer is called by.
///
/// # Errors
/// See [`ImportError`].
pub fn import(xml: &str, bin: &[u8], shapes: &[(&str, &[usize])]) -> Result<Graph, ImportError> {
    at_most("length of the weights", bin.len(), MAX_FILE_BYTES)?;
    let document = document::parse(xml)?;
    let layers = document::layers(&document)?;
    let needs: Vec<Vec<usize>> =
        layers.iter().map(|layer| layer.inputs.iter().map(|(source, _)| *source).collect()).collect();
    let results: Vec<usize> = (0..layers.len()).filter(|place| layers[*place].operator == "Result").collect();
    let parameters: Vec<usize> =
        (0..layers.len()).filter(|place| layers[*place].operator == "Parameter").collect();
    let order = order(&needs, parameters.iter().chain(&results).copied())
        .map_err(|place| layers[place].at().invalid("is part of a cycle"))?;

    let mut import = Import {
        build: Builder::default(),
        weights: Weights::new(bin),
        made: vec![Vec::new(); layers.len()],
    };
    let mut given: HashMap<&str, &[usize]> = shapes.iter().copied().collect();
    let mut outputs = Vec::new();
    for place in order {
        let layer = &layers[place];
        let inputs = layer
            .inputs
            .iter()
            .map(|(source, port)| import.made[*source].get(*port).copied())
            .collect::<Option<Vec<TensorId>>>()
            .ok_or_else(|| layer.at().unsupported("takes an output of another layer that is not computed"))?;
        import.made[place] = match layer.operator {
            "Parameter" => {
                let name = port_name(layer, 0)?;
                let given = given.remove(name).or_else(|| given.remove(layer.name));
                let shape = input_shape(layer, name, given)?;
                vec![import.build.input(name, &shape)?]
            }
            "Result" => {
                let (&[id], &[(source, port)]) = (inputs.as_slice(), layer.inputs.as_slice()) else {
                    return Err(layer.at().invalid("needs one input"));
                };
                outputs.push((place, result_name(layer, &layers[source], port)?.to_owned(), id));
                Vec::new()
            }
            _ => import.layer(layer, &inputs)?,
        };
    }
    if let Some(input) = given.keys().next() {
        return Err(ImportError::Shape { input: (*input).into(), reason: "there is no such input".into() });
    }
    // In the order of the file, whichever could be computed first.
    outputs.sort_by_key(|(place, _, _)| *place);
    let outputs: Vec<(String, TensorId)> = outputs.into_iter().map(|(_, name, id)| (name, id)).collect();
    import.build.finish(&outputs)
}

/// The first tensor name of an output port, or the layer's name.
fn port_name<'a>(layer: &Layer<'a>, port: usize) -> Result<&'a str, ImportError> {
    let names = layer.outputs.get(port).copied().unwrap_or("");
    match names.split(',').next() {
        Some(first) if !first.is_empty() => name(first),
        _ => Ok(layer.name),
    }
}

/// What an output is called: where its port has several names, the one that the `Result` layer is called by, such as
/// `prob` in `prob/sink_port_0`; else the first.
fn result_name<'a>(result: &Layer<'a>, source: &Layer<'a>, port: usize) -> Result<&'a str, ImportError> {
    let called = result.name.rsplit_once("/sink_port_").map_or(result.name, |(called, _)| called);
    let names = source.outputs.get(port).copied().unwrap_or("");
    if names.split(',').any(|name| name == called) { name(called) } else { port_name(source, port) }
}

/// The shape of an input: as given, else as the file says if that is one shape.
fn input_shape(layer: &Layer<'_>, input: &str, given: Option<&[usize]>) -> Result<Vec<usize>, ImportError> {
    let attributes = Attributes::new(layer);
    let precision = attributes.needed::<String>("element_type")?;
    if !matches!(precision.as_str(), "f32" | "f16" | "f64") {
        return Err(layer.at().unsupported(format!("an input of {}", quoted(&precision))));
    }
    let text = attributes.text("shape").unwrap_or("");
    attributes.all_read()?;
    // One dimension is a number, or -1, ? or a range such as 1..4 where it is open.
    let dimensions: Vec<Option<usize>> = match text {
        "" => Vec::new(),
        text => text.split(',').take(MAX_RANK + 1).map(|piece| piece.trim().parse().ok()).collect(),
    };
    at_most("number of dimensions", dimensions.len(), MAX_RANK)?;
    if let Some(given) = given {
        let any_rank = text == "...";
        let fits = any_rank || given.len() == dimensions.len();
        if !fits {
            let reason = format!("{given:?} has not the {} dimensions of the file", dimensions.len());
            return Err(ImportError::Shape { input: input.into(), reason });
        }
        return Ok(given.to_vec());
    }
    let open: Vec<String> = dimensions
        .iter()
        .enumerate()
        .filter(|(_, size)| size.is_none())
        .map(|(place, _)| place.to_string())
        .collect();
    if !open.is_empty() {
        let dimensions = format!("dimension {}", open.join(", "));
        return Err(ImportError::OpenShape { input: input.into(), dimensions });
    }
    Ok(dimensions.into_iter().flatten().collect())
}

/// The import under way.
struct Import<'a> {
    build: Builder,
    weights: Weights<'a>,
    /// Tensors of each layer's output ports.
    made: Vec<Vec<TensorId>>,
}

impl Import<'_> {
    fn layer(&mut self, layer: &Layer<'_>, inputs: &[TensorId]) -> Result<Vec<TensorId>, ImportError> {
        let attributes = Attributes::new(layer);
        let made = match layer.operator {
            "Const" => vec![self.weights.constant(&mut self.build, &attributes)?],
            _ => operators::lower(&mut self.build, &attributes, layer, inputs)?,
        };
        attributes.all_read()?;
        Ok(made)
    }
}

/// The input with this number.
fn needed(at: At<'_>, inputs: &[TensorId], place: usize) -> Result<TensorId, ImportError> {
    inputs.get(place).copied().ok_or_else(|| at.invalid(format!("input {place} is missing")))
}

#[cfg(test)]
pub(super) mod tests;
