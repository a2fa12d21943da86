//! Each operator of ONNX through the importer and the plain interpreter, with answers worked out by hand; and files
//! that must be refused.

mod hostile;

use prost::Message;

use super::import;
use super::proto::{self, kind};
use crate::graph::{Graph, ImportError, check, reference};

/// An input of the node under test.
#[derive(Clone, Copy)]
pub(super) enum In<'a> {
    /// An input of the network: shape and values.
    X(&'a [i64], &'a [f32]),
    /// A constant of f32.
    F(&'a [i64], &'a [f32]),
    /// A constant row of integers.
    I(&'a [i64]),
    /// Left out.
    Not,
}

/// An attribute's value.
#[derive(Clone, Copy)]
pub(super) enum A<'a> {
    I(i64),
    F(f32),
    S(&'a str),
    Is(&'a [i64]),
    Fs(&'a [f32]),
}

pub(super) fn attribute(name: &str, value: A<'_>) -> proto::Attribute {
    let mut made = proto::Attribute { name: name.into(), ..Default::default() };
    match value {
        A::I(i) => (made.kind, made.i) = (kind::INT, i),
        A::F(f) => (made.kind, made.f) = (kind::FLOAT, f),
        A::S(s) => (made.kind, made.s) = (kind::STRING, s.as_bytes().to_vec()),
        A::Is(ints) => (made.kind, made.ints) = (kind::INTS, ints.to_vec()),
        A::Fs(floats) => (made.kind, made.floats) = (kind::FLOATS, floats.to_vec()),
    }
    made
}

pub(super) fn value_info(name: &str, dims: &[i64]) -> proto::ValueInfo {
    let dim = dims.iter().map(|size| proto::Dimension { size: Some(proto::Size::Value(*size)) }).collect();
    let tensor = proto::TensorType { element: proto::element::FLOAT, shape: Some(proto::Shape { dim }) };
    proto::ValueInfo { name: name.into(), r#type: Some(proto::Type { tensor: Some(tensor) }) }
}

pub(super) fn floats(name: &str, dims: &[i64], values: &[f32]) -> proto::Tensor {
    proto::Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: proto::element::FLOAT,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub(super) fn integers(name: &str, values: &[i64]) -> proto::Tensor {
    proto::Tensor {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: proto::element::INT64,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

pub(super) fn node(op: &str, attributes: &[(&str, A<'_>)], inputs: &[&str], outputs: &[&str]) -> proto::Node {
    proto::Node {
        name: format!("the {op}"),
        op_type: op.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: outputs.iter().map(|name| (*name).into()).collect(),
        attribute: attributes.iter().map(|(name, value)| attribute(name, *value)).collect(),
        ..Default::default()
    }
}

pub(super) fn file(opset: i64, graph: proto::Graph) -> Vec<u8> {
    let opset_import = vec![proto::OperatorSet { domain: String::new(), version: opset }];
    proto::Model { ir_version: 8, graph: Some(graph), opset_import }.encode_to_vec()
}

/// A network of this one node, with outputs `y0`, `y1`, …, and the values of its inputs.
fn single<'a>(
    opset: i64,
    op: &str,
    attributes: &[(&str, A<'_>)],
    inputs: &[In<'a>],
    outputs: usize,
) -> (Vec<u8>, Vec<&'a [f32]>) {
    let (mut graph, mut values, mut names) = (proto::Graph::default(), Vec::new(), Vec::new());
    for (place, input) in inputs.iter().enumerate() {
        let name = format!("x{place}");
        match input {
            In::X(dims, x) => {
                graph.input.push(value_info(&name, dims));
                values.push(*x);
            }
            In::F(dims, x) => graph.initializer.push(floats(&name, dims, x)),
            In::I(x) => graph.initializer.push(integers(&name, x)),
            In::Not => {
                names.push(String::new());
                continue;
            }
        }
        names.push(name);
    }
    let made: Vec<String> = (0..outputs).map(|place| format!("y{place}")).collect();
    graph.output = made.iter().map(|name| value_info(name, &[])).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    graph.node.push(node(op, attributes, &names, &made));
    (file(opset, graph), values)
}

fn run(graph: &Graph, inputs: &[&[f32]]) -> Vec<(Vec<usize>, Vec<f32>)> {
    assert_eq!(check(graph), Ok(()));
    let made = reference::run(graph, inputs).unwrap();
    graph.outputs.iter().zip(made).map(|(id, values)| (graph.tensor(*id).shape.clone(), values)).collect()
}

#[track_caller]
fn same(made: &(Vec<usize>, Vec<f32>), shape: &[usize], values: &[f32]) {
    assert_eq!(made.0, shape);
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0) || a == b;
    assert!(
        made.1.len() == values.len() && made.1.iter().zip(values).all(near),
        "{:?} not {values:?}",
        made.1
    );
}

#[track_caller]
fn gives(
    opset: i64,
    op: &str,
    attributes: &[(&str, A<'_>)],
    inputs: &[In<'_>],
    shape: &[usize],
    values: &[f32],
) {
    let (file, x) = single(opset, op, attributes, inputs, 1);
    let graph = import(&file, &[]).unwrap_or_else(|error| panic!("{op}: {error}"));
    same(&run(&graph, &x)[0], shape, values);
}

/// Small files for the fuzz target, by name.
pub(in crate::graph) fn seeds() -> std::collections::BTreeMap<String, Vec<u8>> {
    let image = In::X(&[1, 2, 4, 4], &[]);
    let two = ("kernel_shape", A::Is(&[2, 2]));
    let step = ("strides", A::Is(&[2, 2]));
    let one = |opset, op, attributes: &[(&str, A<'_>)], inputs: &[In<'_>], outputs| {
        (format!("seed-{}-{opset}", op), single(opset, op, attributes, inputs, outputs).0)
    };
    let scales = In::F(&[4], &[1.0, 1.0, 2.0, 1.5]);
    let linear = ("mode", A::S("linear"));
    let statistics = In::F(&[2], &[1.0, 0.5]);
    let kept = ("keepdims", A::I(0));
    let files = [
        ("seed-network".to_owned(), hostile::small()),
        one(
            13,
            "Conv",
            &[("group", A::I(2)), ("dilations", A::Is(&[2, 1]))],
            &[image, In::F(&[2, 1, 1, 1], &[1.0, 2.0])],
            1,
        ),
        one(11, "Conv", &[("auto_pad", A::S("SAME_UPPER"))], &[image, In::F(&[1, 2, 1, 2], &[0.5; 4])], 1),
        one(12, "MaxPool", &[two, step, ("ceil_mode", A::I(1))], &[image], 1),
        one(
            12,
            "AveragePool",
            &[two, ("pads", A::Is(&[1, 1, 0, 0])), ("count_include_pad", A::I(1))],
            &[image],
            1,
        ),
        one(13, "Resize", &[linear], &[image, In::Not, In::Not, In::I(&[1, 2, 8, 8])], 1),
        one(11, "Resize", &[("nearest_mode", A::S("ceil"))], &[image, In::Not, scales], 1),
        one(9, "Upsample", &[], &[image, scales], 1),
        one(13, "BatchNormalization", &[], &[image, statistics, statistics, statistics, statistics], 1),
        one(13, "InstanceNormalization", &[], &[image, statistics, statistics], 1),
        one(13, "Slice", &[], &[image, In::I(&[-1]), In::I(&[i64::MIN]), In::I(&[2]), In::I(&[-2])], 1),
        one(13, "Split", &[("axis", A::I(1))], &[image, In::I(&[1, 1])], 2),
        one(13, "Concat", &[("axis", A::I(-3))], &[image, image], 1),
        one(13, "Reshape", &[], &[image, In::I(&[0, -1])], 1),
        one(13, "Transpose", &[("perm", A::Is(&[0, 2, 3, 1]))], &[image], 1),
        one(13, "Gather", &[("axis", A::I(1))], &[image, In::I(&[1, 0, -1])], 1),
        one(13, "Expand", &[], &[image, In::I(&[2, 1, 1, 1])], 1),
        one(13, "Tile", &[], &[image, In::I(&[1, 2, 1, 1])], 1),
        one(13, "Pad", &[], &[image, In::I(&[0, 0, 1, 1, 0, 0, 1, 1])], 1),
        one(13, "Gemm", &[("transB", A::I(1))], &[In::X(&[1, 2], &[]), In::F(&[1, 2], &[1.0, 2.0])], 1),
        one(13, "MatMul", &[], &[image, In::F(&[4, 1], &[1.0; 4])], 1),
        one(11, "Softmax", &[("axis", A::I(1))], &[image], 1),
        one(18, "ReduceMean", &[kept], &[image, In::I(&[2, 3])], 1),
        one(11, "Clip", &[], &[image, In::F(&[], &[0.0]), In::F(&[], &[6.0])], 1),
        one(13, "PRelu", &[], &[image, In::F(&[2, 1, 1], &[0.5, 0.25])], 1),
        one(13, "DepthToSpace", &[("blocksize", A::I(1))], &[image], 1),
        one(13, "Pow", &[], &[image, In::F(&[], &[2.0])], 1),
    ];
    files.into_iter().collect()
}

/// What a node is refused with.
#[track_caller]
fn refused(opset: i64, op: &str, attributes: &[(&str, A<'_>)], inputs: &[In<'_>]) -> String {
    let (file, _) = single(opset, op, attributes, inputs, 1);
    let error = import(&file, &[]).unwrap_err();
    let named = matches!(error, ImportError::Unsupported { .. } | ImportError::Invalid { .. });
    assert!(named, "{error}");
    error.to_string()
}

const X: In<'_> = In::X(&[2, 2], &[-2.0, -0.5, 0.5, 2.0]);

#[test]
fn arithmetic_on_each_value() {
    let on = |op: &str, attributes: &[(&str, A<'_>)], values: [f32; 4]| {
        gives(13, op, attributes, &[X], &[2, 2], &values)
    };
    on("Relu", &[], [0.0, 0.0, 0.5, 2.0]);
    on("LeakyRelu", &[("alpha", A::F(0.5))], [-1.0, -0.25, 0.5, 2.0]);
    on("LeakyRelu", &[], [-0.02, -0.005, 0.5, 2.0]);
    on("Sigmoid", &[], [0.119_202_92, 0.377_540_67, 0.622_459_33, 0.880_797_1]);
    on("HardSigmoid", &[], [0.1, 0.4, 0.6, 0.9]);
    on("HardSigmoid", &[("alpha", A::F(1.0)), ("beta", A::F(0.0))], [0.0, 0.0, 0.5, 1.0]);
    on("Tanh", &[], [-0.964_027_6, -0.462_117_17, 0.462_117_17, 0.964_027_6]);
    on("Exp", &[], [0.135_335_28, 0.606_530_66, 1.648_721_3, 7.389_056]);
    on("Neg", &[], [2.0, 0.5, -0.5, -2.0]);
    on("Abs", &[], [2.0, 0.5, 0.5, 2.0]);
    on("Elu", &[("alpha", A::F(2.0))], [-1.729_329_5, -0.786_938_7, 0.5, 2.0]);
    on("Reciprocal", &[], [-0.5, -2.0, 2.0, 0.5]);
    gives(14, "HardSwish", &[], &[X], &[2, 2], &[-0.333_333_34, -0.208_333_33, 0.291_666_66, 1.666_666_6]);
    let positive = In::X(&[2], &[1.0, 4.0]);
    gives(13, "Sqrt", &[], &[positive], &[2], &[1.0, 2.0]);
    gives(13, "Log", &[], &[positive], &[2], &[0.0, 1.386_294_4]);
    gives(13, "Identity", &[], &[X], &[2, 2], &[-2.0, -0.5, 0.5, 2.0]);
    gives(13, "Dropout", &[], &[X], &[2, 2], &[-2.0, -0.5, 0.5, 2.0]);
    gives(13, "Cast", &[("to", A::I(10))], &[X], &[2, 2], &[-2.0, -0.5, 0.5, 2.0]);
    gives(9, "Clip", &[("min", A::F(-1.0))], &[X], &[2, 2], &[-1.0, -0.5, 0.5, 2.0]);
    let bounds = [X, In::F(&[], &[-1.0]), In::F(&[], &[1.0])];
    gives(11, "Clip", &[], &bounds, &[2, 2], &[-1.0, -0.5, 0.5, 1.0]);
    gives(11, "Clip", &[], &[X, In::Not, In::F(&[], &[1.0])], &[2, 2], &[-2.0, -0.5, 0.5, 1.0]);
}

#[test]
fn arithmetic_on_two_tensors_is_broadcast() {
    let column = In::F(&[2, 1], &[1.0, -2.0]);
    let row = In::X(&[2], &[10.0, 100.0]);
    let on = |op: &str, inputs: &[In<'_>], values: [f32; 4]| gives(13, op, &[], inputs, &[2, 2], &values);
    on("Add", &[X, column], [-1.0, 0.5, -1.5, 0.0]);
    on("Sub", &[X, column], [-3.0, -1.5, 2.5, 4.0]);
    on("Mul", &[X, row], [-20.0, -50.0, 5.0, 200.0]);
    on("Div", &[row, column], [10.0, 100.0, -5.0, -50.0]);
    on("Max", &[X, column], [1.0, 1.0, 0.5, 2.0]);
    on("Min", &[X, column], [-2.0, -0.5, -2.0, -2.0]);
    on("Max", &[X, column, In::F(&[], &[1.5])], [1.5, 1.5, 1.5, 2.0]);
    on("Sum", &[X, X, X], [-6.0, -1.5, 1.5, 6.0]);
    on("Pow", &[X, In::F(&[], &[2.0])], [4.0, 0.25, 0.25, 4.0]);
    on("Pow", &[X, In::I(&[2])], [4.0, 0.25, 0.25, 4.0]);
    assert!(refused(13, "Add", &[], &[X, In::F(&[3], &[0.0; 3])]).contains("broadcast"));
    assert!(refused(13, "Add", &[], &[X, In::I(&[1])]).contains("kinds"));
}

#[test]
fn slopes_per_channel() {
    let x = In::X(&[1, 2, 1, 2], &[-1.0, 1.0, -1.0, 1.0]);
    gives(13, "PRelu", &[], &[x, In::F(&[2, 1, 1], &[0.5, 2.0])], &[1, 2, 1, 2], &[-0.5, 1.0, -2.0, 1.0]);
    gives(13, "PRelu", &[], &[x, In::F(&[1], &[3.0])], &[1, 2, 1, 2], &[-3.0, 1.0, -3.0, 1.0]);
    // One slope per column is no slope per channel.
    assert!(refused(13, "PRelu", &[], &[x, In::F(&[2], &[0.5, 2.0])]).contains("slopes"));
}

#[test]
fn convolutions() {
    let x = In::X(&[1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let w = In::F(&[1, 1, 2, 2], &[1.0, 0.0, 0.0, -1.0]);
    gives(13, "Conv", &[], &[x, w], &[1, 1, 2, 2], &[-4.0; 4]);
    let bias = In::F(&[1], &[10.0]);
    gives(13, "Conv", &[("strides", A::Is(&[2, 1]))], &[x, w, bias], &[1, 1, 1, 2], &[6.0, 6.0]);
    let padded = [("pads", A::Is(&[1, 0, 0, 1])), ("kernel_shape", A::Is(&[2, 2]))];
    let expected = [-2.0, -3.0, 0.0, -4.0, -4.0, 3.0, -4.0, -4.0, 6.0];
    gives(13, "Conv", &padded, &[x, w], &[1, 1, 3, 3], &expected);
    gives(13, "Conv", &[("dilations", A::Is(&[2, 2]))], &[x, w], &[1, 1, 1, 1], &[-8.0]);
    let upper = [-4.0, -4.0, 3.0, -4.0, -4.0, 6.0, 7.0, 8.0, 9.0];
    gives(13, "Conv", &[("auto_pad", A::S("SAME_UPPER"))], &[x, w], &[1, 1, 3, 3], &upper);
    let lower = [-1.0, -2.0, -3.0, -4.0, -4.0, -4.0, -7.0, -4.0, -4.0];
    gives(13, "Conv", &[("auto_pad", A::S("SAME_LOWER"))], &[x, w], &[1, 1, 3, 3], &lower);
    // Two groups of two channels, three outputs in each.
    let x = In::X(&[1, 4, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
    let w = In::F(&[6, 2, 1, 1], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, -1.0]);
    gives(13, "Conv", &[("group", A::I(2))], &[x, w], &[1, 6, 1, 1], &[1.0, 2.0, 3.0, 3.0, 4.0, -1.0]);
    assert!(refused(13, "Conv", &[("group", A::I(3))], &[x, w]).contains("groups"));
    assert!(refused(13, "Conv", &[("group", A::I(0))], &[x, w]).contains("groups"));
    assert!(
        refused(13, "Conv", &[("strides", A::Is(&[0, 1])), ("group", A::I(2))], &[x, w]).contains("window")
    );
    assert!(refused(13, "Conv", &[("kernel_shape", A::Is(&[3, 3]))], &[x, w]).contains("kernel_shape"));
    let volume = In::X(&[1, 1, 1, 1, 1], &[1.0]);
    assert!(refused(13, "Conv", &[], &[volume, In::F(&[1, 1, 1, 1, 1], &[1.0])]).contains("2 dimensions"));
}

#[test]
fn pools() {
    let x = In::X(&[1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0, 9.0]);
    let two = ("kernel_shape", A::Is(&[2, 2]));
    let step = ("strides", A::Is(&[2, 2]));
    let up = ("ceil_mode", A::I(1));
    let around = ("pads", A::Is(&[1, 1, 1, 1]));
    gives(12, "MaxPool", &[two, step], &[x], &[1, 1, 1, 1], &[4.0]);
    gives(12, "MaxPool", &[two, step, up], &[x], &[1, 1, 2, 2], &[4.0, 6.0, 8.0, 9.0]);
    gives(12, "MaxPool", &[two, step, around], &[x], &[1, 1, 2, 2], &[1.0, 3.0, 7.0, 9.0]);
    gives(12, "AveragePool", &[two, step], &[x], &[1, 1, 1, 1], &[0.5]);
    gives(12, "AveragePool", &[two, step, up], &[x], &[1, 1, 2, 2], &[0.5, 4.5, 7.5, 9.0]);
    gives(12, "AveragePool", &[two, step, around], &[x], &[1, 1, 2, 2], &[1.0, 2.5, 5.5, 4.5]);
    let counted = [two, step, around, ("count_include_pad", A::I(1))];
    gives(12, "AveragePool", &counted, &[x], &[1, 1, 2, 2], &[0.25, 1.25, 2.75, 4.5]);
    gives(12, "GlobalAveragePool", &[], &[x], &[1, 1, 1, 1], &[35.0 / 9.0]);
    gives(12, "GlobalMaxPool", &[], &[x], &[1, 1, 1, 1], &[9.0]);
    // A window that would begin behind the input is left out when rounding up.
    let one = ("kernel_shape", A::Is(&[1, 1]));
    gives(
        12,
        "MaxPool",
        &[one, step, up],
        &[In::X(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])],
        &[1, 1, 1, 1],
        &[1.0],
    );
    let outside = [two, ("pads", A::Is(&[2, 2, 0, 0]))];
    assert!(refused(12, "MaxPool", &outside, &[x]).contains("outside"));
    assert!(
        refused(12, "AveragePool", &[two, step, up, ("count_include_pad", A::I(1))], &[x]).contains("counts")
    );
    let (file, _) = single(12, "MaxPool", &[two], &[x], 2);
    assert!(import(&file, &[]).unwrap_err().to_string().contains("output 1 is not computed"));
}

#[test]
fn normalisation() {
    let x = In::X(&[1, 2, 1, 2], &[1.0, 3.0, 10.0, 20.0]);
    let four = |values: &'static [f32]| In::F(&[2], values);
    let parameters = [x, four(&[1.0, 2.0]), four(&[0.0, 1.0]), four(&[1.0, 10.0]), four(&[4.0, 25.0])];
    let zero = [("epsilon", A::F(0.0)), ("momentum", A::F(0.9))];
    gives(13, "BatchNormalization", &zero, &parameters, &[1, 2, 1, 2], &[0.0, 1.0, 1.0, 5.0]);
    gives(
        13,
        "InstanceNormalization",
        &[("epsilon", A::F(0.0))],
        &parameters[..3],
        &[1, 2, 1, 2],
        &[-1.0, 1.0, -1.0, 3.0],
    );
    let third = [0.090_030_57, 0.244_728_48, 0.665_240_94];
    let x = In::X(&[1, 3], &[1.0, 2.0, 3.0]);
    gives(13, "Softmax", &[], &[x], &[1, 3], &third);
    gives(11, "Softmax", &[], &[x], &[1, 3], &third);
    let x = In::X(&[1, 3, 1], &[1.0, 2.0, 3.0]);
    // Before operator set 13 everything from the axis on counts, from then on one dimension.
    gives(11, "Softmax", &[("axis", A::I(1))], &[x], &[1, 3, 1], &third);
    gives(13, "Softmax", &[("axis", A::I(2))], &[x], &[1, 3, 1], &[1.0; 3]);
}

#[test]
fn matrices() {
    let a = In::X(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b = In::F(&[2, 3], &[1.0, 0.0, -1.0, 0.0, 1.0, 2.0]);
    gives(13, "MatMul", &[], &[a, b], &[2, 3], &[1.0, 2.0, 3.0, 3.0, 4.0, 5.0]);
    gives(13, "Gemm", &[("transA", A::I(1))], &[a, b], &[2, 3], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let scaled = [("alpha", A::F(2.0)), ("beta", A::F(10.0)), ("transB", A::I(1))];
    let b = In::F(&[3, 2], &[1.0, 0.0, 0.0, 1.0, -1.0, 2.0]);
    gives(
        13,
        "Gemm",
        &scaled,
        &[a, b, In::F(&[3], &[0.1, 0.2, 0.3])],
        &[2, 3],
        &[3.0, 6.0, 9.0, 7.0, 10.0, 13.0],
    );
    // Leading dimensions are broadcast.
    let many = In::X(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    gives(13, "MatMul", &[], &[many, In::F(&[2, 1], &[1.0, 10.0])], &[2, 1, 1], &[21.0, 43.0]);
    assert!(refused(13, "MatMul", &[], &[a, In::F(&[3, 1], &[0.0; 3])]).contains("multiplied"));
}

#[test]
fn reductions() {
    let x = In::X(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 9.0]);
    let last = ("axes", A::Is(&[-1]));
    gives(13, "ReduceMean", &[last], &[x], &[2, 1], &[2.0, 6.0]);
    gives(18, "ReduceMean", &[("keepdims", A::I(0))], &[x, In::I(&[0])], &[3], &[2.5, 3.5, 6.0]);
    gives(13, "ReduceSum", &[], &[x, In::I(&[1])], &[2, 1], &[6.0, 18.0]);
    gives(13, "ReduceSum", &[("keepdims", A::I(0))], &[x], &[], &[24.0]);
    gives(13, "ReduceMax", &[last], &[x], &[2, 1], &[3.0, 9.0]);
    gives(13, "ReduceMin", &[last], &[x], &[2, 1], &[1.0, 4.0]);
    gives(13, "ReduceL2", &[last], &[In::X(&[1, 2], &[3.0, 4.0])], &[1, 1], &[5.0]);
    assert!(refused(13, "ReduceMean", &[("axes", A::Is(&[2]))], &[x]).contains("axis 2"));
    assert!(refused(13, "ReduceMean", &[("axes", A::Is(&[1, -1]))], &[x]).contains("twice"));
}

const SIX: In<'_> = In::X(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

#[test]
fn shapes() {
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    gives(13, "Reshape", &[], &[SIX, In::I(&[3, -1])], &[3, 2], &values);
    gives(13, "Reshape", &[], &[SIX, In::I(&[0, 1, -1])], &[2, 1, 3], &values);
    gives(13, "Flatten", &[], &[In::X(&[1, 2, 3], &values)], &[1, 6], &values);
    gives(13, "Flatten", &[("axis", A::I(3))], &[In::X(&[1, 2, 3], &values)], &[6, 1], &values);
    gives(13, "Unsqueeze", &[], &[SIX, In::I(&[0, -1])], &[1, 2, 3, 1], &values);
    gives(11, "Unsqueeze", &[("axes", A::Is(&[1]))], &[SIX], &[2, 1, 3], &values);
    let wide = In::X(&[1, 2, 1, 3], &values);
    gives(13, "Squeeze", &[], &[wide], &[2, 3], &values);
    gives(13, "Squeeze", &[], &[wide, In::I(&[-2])], &[1, 2, 3], &values);
    gives(11, "Squeeze", &[("axes", A::Is(&[0]))], &[wide], &[2, 1, 3], &values);
    gives(13, "Transpose", &[], &[SIX], &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let turned = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0];
    gives(
        13,
        "Transpose",
        &[("perm", A::Is(&[2, 0, 1]))],
        &[In::X(&[1, 2, 3], &values)],
        &[3, 1, 2],
        &turned,
    );
    gives(
        13,
        "Expand",
        &[],
        &[In::X(&[2, 1], &[1.0, 2.0]), In::I(&[1, 1, 2])],
        &[1, 2, 2],
        &[1.0, 1.0, 2.0, 2.0],
    );
    gives(13, "Tile", &[], &[In::X(&[1, 2], &[1.0, 2.0]), In::I(&[2, 2])], &[2, 4], &[1.0, 2.0].repeat(4));
    assert!(refused(13, "Reshape", &[], &[SIX, In::I(&[4, -1])]).contains("cannot become"));
    assert!(refused(13, "Reshape", &[], &[SIX, In::I(&[-1, -1])]).contains("cannot become"));
    assert!(refused(13, "Reshape", &[], &[SIX, In::X(&[2], &[3.0, 2.0])]).contains("depend on the input"));
    assert!(refused(13, "Squeeze", &[], &[wide, In::I(&[1])]).contains("cannot be removed"));
    assert!(refused(13, "Transpose", &[("perm", A::Is(&[0, 0]))], &[SIX]).contains("no order"));
}

#[test]
fn parts() {
    gives(
        13,
        "Concat",
        &[("axis", A::I(-1))],
        &[SIX, In::F(&[2, 1], &[7.0, 8.0])],
        &[2, 4],
        &[1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0],
    );
    gives(
        13,
        "Concat",
        &[("axis", A::I(0))],
        &[SIX, In::F(&[1, 3], &[7.0; 3])],
        &[3, 3],
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 7.0, 7.0],
    );
    let range = |begin, end| [SIX, In::I(begin), In::I(end), In::I(&[1])];
    gives(13, "Slice", &[], &range(&[1], &[3]), &[2, 2], &[2.0, 3.0, 5.0, 6.0]);
    gives(13, "Slice", &[], &range(&[-2], &[i64::MAX]), &[2, 2], &[2.0, 3.0, 5.0, 6.0]);
    let back = [SIX, In::I(&[-1]), In::I(&[i64::MIN]), In::I(&[1]), In::I(&[-2])];
    gives(13, "Slice", &[], &back, &[2, 2], &[3.0, 1.0, 6.0, 4.0]);
    gives(
        13,
        "Slice",
        &[],
        &[SIX, In::I(&[0, 0]), In::I(&[1, 9]), In::Not, In::I(&[1, 2])],
        &[1, 2],
        &[1.0, 3.0],
    );
    let old = [("starts", A::Is(&[1])), ("ends", A::Is(&[2])), ("axes", A::Is(&[0]))];
    gives(9, "Slice", &old, &[SIX], &[1, 3], &[4.0, 5.0, 6.0]);
    gives(13, "Gather", &[("axis", A::I(1))], &[SIX, In::I(&[2, -3])], &[2, 2], &[3.0, 1.0, 6.0, 4.0]);
    assert!(refused(13, "Gather", &[("axis", A::I(1))], &[SIX, In::I(&[3])]).contains("index 3"));
    assert!(refused(13, "Slice", &[], &range(&[2], &[2])).contains("no values"));
    assert!(
        refused(13, "Slice", &[], &[SIX, In::I(&[0]), In::I(&[1]), In::I(&[1]), In::I(&[0])])
            .contains("Range")
    );

    let (file, x) = single(13, "Split", &[("axis", A::I(1))], &[SIX, In::I(&[1, 2])], 2);
    let made = run(&import(&file, &[]).unwrap(), &x);
    same(&made[0], &[2, 1], &[1.0, 4.0]);
    same(&made[1], &[2, 2], &[2.0, 3.0, 5.0, 6.0]);
    // Parts of one size; the last is smaller.
    let (file, x) = single(18, "Split", &[("axis", A::I(1)), ("num_outputs", A::I(2))], &[SIX], 2);
    let made = run(&import(&file, &[]).unwrap(), &x);
    same(&made[0], &[2, 2], &[1.0, 2.0, 4.0, 5.0]);
    same(&made[1], &[2, 1], &[3.0, 6.0]);

    let around = [0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 0.5, 3.0, 4.0];
    let x = In::X(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    gives(13, "Pad", &[], &[x, In::I(&[1, 1, 0, 0]), In::F(&[], &[0.5])], &[3, 3], &around);
    gives(9, "Pad", &[("pads", A::Is(&[1, 1, 0, 0])), ("value", A::F(0.5))], &[x], &[3, 3], &around);
    assert!(refused(13, "Pad", &[], &[x, In::I(&[1, 1, 0, -1])]).contains("padding of -1"));
    assert!(refused(13, "Pad", &[("mode", A::S("reflect"))], &[x, In::I(&[0, 0, 0, 0])]).contains("mode"));
}

#[test]
fn resizing() {
    let x = In::X(&[1, 1, 1, 2], &[1.0, 3.0]);
    let asymmetric = ("coordinate_transformation_mode", A::S("asymmetric"));
    let nearest = [asymmetric, ("nearest_mode", A::S("floor"))];
    let doubled = [x, In::Not, In::F(&[4], &[1.0, 1.0, 2.0, 2.0])];
    let twice = [1.0, 1.0, 3.0, 3.0, 1.0, 1.0, 3.0, 3.0];
    gives(13, "Resize", &nearest, &doubled, &[1, 1, 2, 4], &twice);
    gives(13, "Resize", &[], &doubled, &[1, 1, 2, 4], &twice);
    gives(10, "Resize", &[], &[x, In::F(&[4], &[1.0, 1.0, 2.0, 2.0])], &[1, 1, 2, 4], &twice);
    gives(9, "Upsample", &[], &[x, In::F(&[4], &[1.0, 1.0, 2.0, 2.0])], &[1, 1, 2, 4], &twice);
    gives(7, "Upsample", &[("scales", A::Fs(&[1.0, 1.0, 2.0, 2.0]))], &[x], &[1, 1, 2, 4], &twice);
    let sizes = [x, In::Not, In::Not, In::I(&[1, 1, 1, 4])];
    let linear = ("mode", A::S("linear"));
    gives(13, "Resize", &[linear], &sizes, &[1, 1, 1, 4], &[1.0, 1.5, 2.5, 3.0]);
    let corners = [linear, ("coordinate_transformation_mode", A::S("align_corners"))];
    gives(13, "Resize", &corners, &sizes, &[1, 1, 1, 4], &[1.0, 1.666_666_6, 2.333_333_3, 3.0]);
    // A rule that no executor has is done by choosing rows and columns.
    let up = [asymmetric, ("nearest_mode", A::S("ceil"))];
    gives(13, "Resize", &up, &sizes, &[1, 1, 1, 4], &[1.0, 3.0, 3.0, 3.0]);
    assert!(refused(13, "Resize", &[linear, asymmetric], &sizes).contains("linear"));
    assert!(refused(13, "Resize", &[("mode", A::S("cubic"))], &sizes).contains("cubic"));
    assert!(refused(13, "Resize", &[], &[x, In::Not, In::Not, In::I(&[1, 2, 1, 4])]).contains("channels"));
    assert!(refused(13, "Resize", &[], &[x, In::Not, In::Not, In::Not]).contains("scales or sizes"));
    let blocks = In::X(&[1, 4, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
    gives(13, "DepthToSpace", &[("blocksize", A::I(2))], &[blocks], &[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn constants_are_folded_away() {
    // y = x + ((2 * 3 - 1) as float, of the shape of x without its first dimension)
    let mut graph = proto::Graph { input: vec![value_info("x", &[2, 3])], ..Default::default() };
    graph.initializer =
        vec![integers("two", &[2]), integers("three", &[3]), integers("one", &[1]), integers("zero", &[0])];
    graph.initializer.push(integers("unused", &[7, 8, 9]));
    graph.node = vec![
        // Not in the order in which they can run.
        node("Add", &[], &["x", "filled"], &["y"]),
        node("Mul", &[], &["two", "three"], &["six"]),
        node("Sub", &[], &["six", "one"], &["five"]),
        node("Cast", &[("to", A::I(1))], &["five"], &["five f32"]),
        node("Shape", &[], &["x"], &["shape"]),
        node("Gather", &[("axis", A::I(0))], &["shape", "one"], &["last"]),
        node("ConstantOfShape", &[], &["last"], &["zeros"]),
        node("Add", &[], &["zeros", "five f32"], &["filled"]),
        node("Unknown", &[], &["x"], &["never used"]),
    ];
    graph.output = vec![value_info("y", &[])];
    let graph = import(&file(13, graph), &[]).unwrap();
    assert_eq!((graph.nodes.len(), graph.tensors.len()), (1, 3));
    same(&run(&graph, &[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])[0], &[2, 3], &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
}

#[test]
fn operators_on_constants_only() {
    let x = In::X(&[4], &[0.0; 4]);
    let with = |nodes: Vec<proto::Node>, initializer: Vec<proto::Tensor>, values: [f32; 4]| {
        let mut graph = proto::Graph {
            input: vec![value_info("x", &[4])],
            node: nodes,
            initializer,
            ..Default::default()
        };
        graph.node.push(node("Cast", &[("to", A::I(1))], &["made"], &["made f32"]));
        graph.node.push(node("Add", &[], &["x", "made f32"], &["y"]));
        graph.output = vec![value_info("y", &[])];
        let graph = import(&file(13, graph), &[]).unwrap();
        assert_eq!(graph.nodes.len(), 1);
        same(&run(&graph, &[&[0.0; 4]])[0], &[4], &values);
    };
    let row = |name: &str, values: &[i64]| integers(name, values);
    let scalar = |name: &str, value: i64| proto::Tensor { dims: vec![], ..integers(name, &[value]) };
    let range = || node("Range", &[], &["a", "b", "c"], &["made"]);
    with(vec![range()], vec![scalar("a", 1), scalar("b", 8), scalar("c", 2)], [1.0, 3.0, 5.0, 7.0]);
    with(vec![range()], vec![scalar("a", 3), scalar("b", -1), scalar("c", -1)], [3.0, 2.0, 1.0, 0.0]);
    let compare = |op: &str| node(op, &[], &["a", "b"], &["made"]);
    let pair = || vec![row("a", &[1, 2, 3, 4]), row("b", &[2])];
    with(vec![compare("Equal")], pair(), [0.0, 1.0, 0.0, 0.0]);
    with(vec![compare("Less")], pair(), [1.0, 0.0, 0.0, 0.0]);
    with(vec![compare("Greater")], pair(), [0.0, 0.0, 1.0, 1.0]);
    let chosen = vec![
        node("Greater", &[], &["a", "b"], &["which"]),
        node("Where", &[], &["which", "a", "b"], &["made"]),
    ];
    with(chosen, pair(), [2.0, 2.0, 3.0, 4.0]);
    let constant = node("Constant", &[("value_ints", A::Is(&[4, 3, 2, 1]))], &[], &["made"]);
    with(vec![constant], vec![], [4.0, 3.0, 2.0, 1.0]);
    assert!(refused(13, "Floor", &[], &[x]).contains("depend on the input"));
}

#[test]
fn quantised_weights_become_f32() {
    let mut weight = integers("w", &[]);
    (weight.data_type, weight.dims, weight.raw_data) =
        (proto::element::INT8, vec![2, 1, 1, 1], vec![0xff, 3]);
    let mut zero = integers("z", &[]);
    (zero.data_type, zero.dims, zero.raw_data) = (proto::element::INT8, vec![2], vec![1, 1]);
    let graph = proto::Graph {
        input: vec![value_info("x", &[1, 1, 1, 1])],
        initializer: vec![weight, floats("s", &[2], &[0.5, 2.0]), zero],
        node: vec![
            node("DequantizeLinear", &[("axis", A::I(0))], &["w", "s", "z"], &["weight"]),
            node("Conv", &[], &["x", "weight"], &["y"]),
        ],
        output: vec![value_info("y", &[])],
        ..Default::default()
    };
    let graph = import(&file(13, graph), &[]).unwrap();
    same(&run(&graph, &[&[10.0]])[0], &[1, 2, 1, 1], &[-10.0, 40.0]);
}

#[test]
fn an_output_has_its_own_name_and_buffer() {
    let graph = proto::Graph {
        input: vec![value_info("x", &[2])],
        node: vec![
            node("Relu", &[], &["x"], &["r"]),
            node("Identity", &[], &["r"], &["a"]),
            node("Identity", &[], &["x"], &["b"]),
        ],
        output: vec![value_info("a", &[]), value_info("r", &[]), value_info("b", &[])],
        ..Default::default()
    };
    let graph = import(&file(13, graph), &[]).unwrap();
    let names: Vec<&str> = graph.outputs.iter().map(|id| graph.tensor(*id).name.as_str()).collect();
    assert_eq!(names, ["a", "r", "b"]);
    let made = run(&graph, &[&[-1.0, 2.0]]);
    assert_eq!(
        made.iter().map(|(_, values)| values.clone()).collect::<Vec<_>>(),
        [[0.0, 2.0], [0.0, 2.0], [-1.0, 2.0]]
    );
    assert_eq!(graph.tensor(graph.inputs[0]).name, "x");
}

#[test]
fn shapes_are_given_by_name() {
    let mut input = value_info("x", &[1, 1]);
    let named = |name: &str| proto::Dimension { size: Some(proto::Size::Name(name.into())) };
    let shape =
        input.r#type.as_mut().and_then(|kind| kind.tensor.as_mut()).and_then(|tensor| tensor.shape.as_mut());
    shape.unwrap().dim = vec![named("batch"), proto::Dimension::default(), named("width")];
    let graph = proto::Graph {
        input: vec![input],
        node: vec![node("Relu", &[], &["x"], &["y"])],
        output: vec![value_info("y", &[])],
        ..Default::default()
    };
    let file = file(13, graph);
    let open = import(&file, &[]).unwrap_err();
    assert_eq!(open.to_string(), r#"input "x" has no fixed shape: give "batch", dimension 1, "width""#);
    let graph = import(&file, &[("x", &[1, 2, 3])]).unwrap();
    assert_eq!(graph.tensor(graph.outputs[0]).shape, [1, 2, 3]);
    assert!(matches!(import(&file, &[("x", &[1, 2])]), Err(ImportError::Shape { .. })));
    assert!(matches!(import(&file, &[("x", &[1, 2, 3]), ("z", &[1])]), Err(ImportError::Shape { .. })));
    assert!(matches!(import(&file, &[("x", &[1, 0, 3])]), Err(ImportError::Malformed(_))));
}

#[test]
fn what_is_not_supported_is_named() {
    let reason = refused(13, "Softplus", &[], &[X]);
    assert_eq!(reason, r#"node "the Softplus" (Softplus) is not supported: the operator is not known"#);
    assert!(refused(13, "Relu", &[("colour", A::I(1))], &[X]).contains(r#"attribute "colour""#));
    assert!(refused(13, "Elu", &[("alpha", A::I(1))], &[X]).contains(r#"attribute "alpha" is of type 2"#));
    assert!(refused(13, "Cast", &[("to", A::I(7))], &[X]).contains("depend on the input"));
    assert!(refused(13, "Relu", &[], &[]).contains("input 0 is missing"));
    assert!(refused(11, "Clip", &[], &[X, In::F(&[], &[2.0]), In::F(&[], &[1.0])]).contains("bounds"));
    let (file, _) = single(99, "Relu", &[], &[X], 1);
    assert!(import(&file, &[]).unwrap_err().to_string().contains("operator set 99"));
}
