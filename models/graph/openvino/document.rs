//! The XML of an OpenVINO IR as layers and edges; nothing is computed here. Only what the importer needs is kept.

use std::collections::HashMap;

use roxmltree::{Document, Node, ParsingOptions};

use crate::graph::error::{At, ImportError, at_most, name};
use crate::graph::limits::*;

/// One `<layer>`.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub name: &'a str,
    pub operator: &'a str,
    /// Operation set, such as `opset8`.
    pub version: &'a str,
    /// Attributes of its `<data>`.
    pub data: Vec<(&'a str, &'a str)>,
    /// Sources of its inputs, in the order of its ports: layer and output port, both as positions.
    pub inputs: Vec<(usize, usize)>,
    /// Tensor names of its output ports; the port's own text, separated by commas.
    pub outputs: Vec<&'a str>,
}

impl<'a> Layer<'a> {
    pub fn at(&self) -> At<'a> {
        At { node: self.name, operator: self.operator }
    }
}

/// Parses the text; nothing of it is expanded or fetched.
pub(super) fn parse(xml: &str) -> Result<Document<'_>, ImportError> {
    at_most("length of the XML", xml.len(), MAX_XML_BYTES)?;
    // The parser compares the attributes of an element with one another. They can be counted before it does so:
    // each has two quotes, and none may contain a `<`.
    let quotes = |piece: &str| piece.bytes().filter(|byte| matches!(byte, b'"' | b'\'')).count();
    let most = xml.split('<').map(quotes).max().unwrap_or(0) / 2;
    at_most("number of attributes of an XML element", most, MAX_XML_ATTRIBUTES)?;
    // Declared names are handed down to every element inside; IR has none.
    if xml.contains("xmlns") {
        return Err(ImportError::malformed("XML with namespaces"));
    }
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MAX_XML_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(xml, options)
        .map_err(|error| ImportError::malformed(format!("XML: {error}")))
}

fn child<'a, 'i>(node: Node<'a, 'i>, tag: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(tag))
}

fn attribute<'a>(node: Node<'a, '_>, key: &str) -> Result<&'a str, ImportError> {
    node.attribute(key)
        .ok_or_else(|| ImportError::malformed(format!("<{}> without {key:?}", node.tag_name().name())))
        .and_then(name)
}

/// The layers in the order of the file, with their edges.
pub(super) fn layers<'a>(document: &'a Document<'_>) -> Result<Vec<Layer<'a>>, ImportError> {
    let net = document.root_element();
    if !net.has_tag_name("net") {
        return Err(ImportError::malformed(format!("<{}> is no OpenVINO network", net.tag_name().name())));
    }
    let version = attribute(net, "version")?;
    if !matches!(version, "10" | "11") {
        return Err(ImportError::malformed(format!("IR version {version:?}; 10 and 11 are understood")));
    }
    let list = child(net, "layers").ok_or_else(|| ImportError::malformed("no <layers>"))?;

    let mut layers = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    // Port names in the file, by layer; edges refer to them.
    let mut ports: Vec<Ports<'_>> = Vec::new();
    for node in list.children().filter(|node| node.has_tag_name("layer")) {
        at_most("number of layers", layers.len() + 1, MAX_TENSORS)?;
        let id = attribute(node, "id")?;
        if places.insert(id, layers.len()).is_some() {
            return Err(ImportError::malformed(format!("two layers {id:?}")));
        }
        let mut outputs = Vec::new();
        let mut own = Ports { inputs: Vec::new(), outputs: Vec::new() };
        for port in
            child(node, "input").iter().flat_map(Node::children).filter(|port| port.has_tag_name("port"))
        {
            own.inputs.push((attribute(port, "id")?, None));
            at_most("inputs of a node", own.inputs.len(), MAX_NODE_INPUTS)?;
        }
        for port in
            child(node, "output").iter().flat_map(Node::children).filter(|port| port.has_tag_name("port"))
        {
            own.outputs.push(attribute(port, "id")?);
            outputs.push(port.attribute("names").unwrap_or(""));
            at_most("outputs of a node", outputs.len(), MAX_NODE_INPUTS)?;
        }
        ports.push(own);
        let data =
            child(node, "data").iter().flat_map(Node::attributes).map(|a| (a.name(), a.value())).collect();
        layers.push(Layer {
            name: attribute(node, "name")?,
            operator: attribute(node, "type")?,
            version: node.attribute("version").unwrap_or(""),
            data,
            inputs: Vec::new(),
            outputs,
        });
    }
    connect(net, &places, &mut ports)?;
    for (layer, ports) in layers.iter_mut().zip(ports) {
        for (port, source) in ports.inputs {
            let source =
                source.ok_or_else(|| layer.at().invalid(format!("nothing leads to input port {port:?}")))?;
            layer.inputs.push(source);
        }
    }
    Ok(layers)
}

/// Ports of one layer as the file names them.
struct Ports<'a> {
    /// With the layer and the output port that lead there, once known.
    inputs: Vec<(&'a str, Option<(usize, usize)>)>,
    outputs: Vec<&'a str>,
}

fn connect(
    net: Node<'_, '_>,
    places: &HashMap<&str, usize>,
    ports: &mut [Ports<'_>],
) -> Result<(), ImportError> {
    let edges = child(net, "edges").ok_or_else(|| ImportError::malformed("no <edges>"))?;
    for edge in edges.children().filter(|node| node.has_tag_name("edge")) {
        let lost = |what: &str| ImportError::malformed(format!("an edge names a {what} that there is not"));
        let layer = |key: &str| places.get(attribute(edge, key)?).copied().ok_or_else(|| lost("layer"));
        let (from, to) = (layer("from-layer")?, layer("to-layer")?);
        let (from_port, to_port) = (attribute(edge, "from-port")?, attribute(edge, "to-port")?);
        let output =
            ports[from].outputs.iter().position(|port| *port == from_port).ok_or_else(|| lost("port"))?;
        let input =
            ports[to].inputs.iter_mut().find(|(port, _)| *port == to_port).ok_or_else(|| lost("port"))?;
        if input.1.replace((from, output)).is_some() {
            return Err(ImportError::malformed(format!("two edges lead to port {to_port:?} of one layer")));
        }
    }
    Ok(())
}
