//! Files that lie, contradict themselves or are cut: an error each, and neither a panic nor memory for what is claimed.

use proptest::prelude::*;
use prost::Message;

use super::{A, file, floats, integers, node, value_info};
use crate::graph::limits::*;
use crate::graph::onnx::{import, proto};
use crate::graph::{ImportError, check, reference};

/// A small network with constants of several kinds, a window, and shape arithmetic.
pub(in crate::graph) fn small() -> Vec<u8> {
    let graph = proto::Graph {
        input: vec![value_info("x", &[1, 2, 4, 4])],
        initializer: vec![
            floats("w", &[2, 2, 3, 3], &[0.25; 36]),
            floats("s", &[4], &[1.0, 1.0, 2.0, 2.0]),
            integers("flat", &[0, -1]),
            integers("one", &[1]),
        ],
        node: vec![
            node("Conv", &[("pads", A::Is(&[1, 1, 1, 1]))], &["x", "w"], &["c"]),
            node("MaxPool", &[("kernel_shape", A::Is(&[2, 2])), ("strides", A::Is(&[2, 2]))], &["c"], &["p"]),
            node("Resize", &[("mode", A::S("nearest"))], &["p", "", "s"], &["r"]),
            node("Add", &[], &["r", "c"], &["a"]),
            node("Reshape", &[], &["a", "flat"], &["f"]),
            node("Softmax", &[("axis", A::I(-1))], &["f"], &["y"]),
        ],
        output: vec![value_info("y", &[])],
        ..Default::default()
    };
    file(13, graph)
}

/// The file is refused, or makes a graph that keeps its promises and can be run.
fn survives(file: &[u8]) {
    if let Ok(graph) = import(file, &[]) {
        assert_eq!(check(&graph), Ok(()));
        let total: usize = graph.inputs.iter().map(|id| graph.tensor(*id).len()).sum();
        if total < 1 << 12 {
            let inputs: Vec<Vec<f32>> =
                graph.inputs.iter().map(|id| vec![0.5; graph.tensor(*id).len()]).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            reference::run(&graph, &inputs).unwrap();
        }
    }
}

#[test]
fn cut_at_every_byte() {
    let whole = small();
    assert!(import(&whole, &[]).is_ok());
    for length in 0..whole.len() {
        survives(&whole[..length]);
    }
    assert!(import(&[], &[]).is_err());
}

#[test]
fn every_byte_changed() {
    let whole = small();
    for place in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[place] ^= change;
            survives(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn several_bytes_changed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut changed = small();
        for (place, value) in changes {
            let place = place.index(changed.len());
            changed[place] = value;
        }
        survives(&changed);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        survives(&bytes);
    }
}

/// What a graph is refused with.
#[track_caller]
fn refused(graph: proto::Graph) -> ImportError {
    import(&file(13, graph), &[]).unwrap_err()
}

/// A graph of these nodes from `x` to `y`.
fn graph(nodes: Vec<proto::Node>, initializer: Vec<proto::Tensor>) -> proto::Graph {
    proto::Graph {
        input: vec![value_info("x", &[1, 2, 4, 4])],
        output: vec![value_info("y", &[])],
        node: nodes,
        initializer,
        ..Default::default()
    }
}

#[test]
fn constants_must_lie_inside_of_the_file() {
    let huge = [i64::MAX, 1 << 40, 1 << 26];
    for size in huge {
        let mut lie = floats("w", &[size], &[1.0]);
        let error = refused(graph(vec![node("Add", &[], &["x", "w"], &["y"])], vec![lie.clone()]));
        assert!(matches!(error, ImportError::TooLarge { .. } | ImportError::Malformed(_)), "{error}");
        lie.dims = vec![size, 0];
        let error = refused(graph(vec![node("Add", &[], &["x", "w"], &["y"])], vec![lie]));
        assert!(matches!(error, ImportError::TooLarge { .. } | ImportError::Malformed(_)), "{error}");
    }
    let negative = refused(graph(vec![node("Add", &[], &["x", "w"], &["y"])], vec![floats("w", &[-1], &[])]));
    assert!(negative.to_string().contains("negative size"));
    let outside = proto::Tensor { data_location: 1, ..floats("w", &[1], &[]) };
    let outside = refused(graph(vec![node("Add", &[], &["x", "w"], &["y"])], vec![outside]));
    assert!(outside.to_string().contains("another file"), "{outside}");
    let outside = proto::Tensor { external_data: vec![proto::Ignored {}], ..floats("w", &[1], &[1.0]) };
    let outside = refused(graph(vec![node("Add", &[], &["x", "w"], &["y"])], vec![outside]));
    assert!(outside.to_string().contains("another file"), "{outside}");
}

#[test]
fn what_is_made_of_constants_is_limited() {
    // 4096 times 4096 zeros out of 16 bytes.
    let nodes = vec![
        node("ConstantOfShape", &[], &["sizes"], &["zeros"]),
        node("ReduceMax", &[("keepdims", A::I(0))], &["zeros"], &["zero"]),
        node("Add", &[], &["x", "zero"], &["y"]),
    ];
    let error = refused(graph(nodes, vec![integers("sizes", &[4096, 4096])]));
    assert!(
        matches!(error, ImportError::TooLarge { what: "number of values made of constants", .. }),
        "{error}"
    );
    // Doubled again and again.
    let mut nodes = vec![node("Identity", &[], &["one"], &["d0"])];
    for turn in 0..40 {
        let (from, to) = (format!("d{turn}"), format!("d{}", turn + 1));
        nodes.push(node("Concat", &[("axis", A::I(0))], &[&from, &from], &[&to]));
    }
    nodes.push(node("Gather", &[], &["d40", "zero"], &["picked"]));
    nodes.push(node("Add", &[], &["x", "picked"], &["y"]));
    let error = refused(graph(nodes, vec![floats("one", &[1], &[1.0]), integers("zero", &[0])]));
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    let bounds = |end: i64| vec![integers("a", &[0]), integers("b", &[end]), integers("c", &[1])];
    let range = vec![node("Range", &[], &["a", "b", "c"], &["r"]), node("Reshape", &[], &["x", "r"], &["y"])];
    let error = refused(graph(range, bounds(i64::MAX)));
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
}

#[test]
fn what_flows_is_limited() {
    let expand = vec![node("Expand", &[], &["x", "sizes"], &["y"])];
    for sizes in [[i64::MAX, 2, 4, 4], [1 << 22, 2, 4, 4]] {
        let error = refused(graph(expand.clone(), vec![integers("sizes", &sizes)]));
        assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    }
    let pad = vec![node("Pad", &[], &["x", "pads"], &["y"])];
    let error =
        refused(graph(pad, vec![integers("pads", &[0, 0, 0, 0, i64::MAX, i64::MAX, i64::MAX, i64::MAX])]));
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    let resize = vec![node("Resize", &[], &["x", "", "", "sizes"], &["y"])];
    let error = refused(graph(resize.clone(), vec![integers("sizes", &[1, 2, i64::MAX, 4])]));
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    let error = refused(graph(resize, vec![integers("sizes", &[1, 2, 1 << 20, 4])]));
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    let mut input = graph(vec![node("Relu", &[], &["x"], &["y"])], vec![]);
    input.input = vec![value_info("x", &[i64::MAX, i64::MAX])];
    assert!(matches!(refused(input), ImportError::TooLarge { .. }));
    let mut input = graph(vec![node("Relu", &[], &["x"], &["y"])], vec![]);
    input.input = vec![value_info("x", &[1; 9])];
    assert!(matches!(refused(input), ImportError::TooLarge { .. }));
    // Each fits, all together do not.
    let mut nodes = vec![node("Expand", &[], &["x", "sizes"], &["y0"])];
    for turn in 0..20 {
        nodes.push(node("Relu", &[], &[&format!("y{turn}")], &[&format!("y{}", turn + 1)]));
    }
    let mut all = graph(nodes, vec![integers("sizes", &[1 << 21, 2, 4, 4])]);
    all.output = vec![value_info("y20", &[])];
    let error = refused(all);
    assert!(
        matches!(error, ImportError::TooLarge { what: "number of values in all tensors", .. }),
        "{error}"
    );
}

#[test]
fn windows_are_limited() {
    let around = [("kernel_shape", A::Is(&[1, 1])), ("pads", A::Is(&[0, 0, i64::MAX, 0]))];
    for attributes in [
        &around[..],
        &[("kernel_shape", A::Is(&[i64::MAX, 1]))],
        &[("kernel_shape", A::Is(&[1, 1])), ("dilations", A::Is(&[i64::MAX, 1]))],
        &[
            ("kernel_shape", A::Is(&[2, 2])),
            ("dilations", A::Is(&[i64::MAX, 1])),
            ("auto_pad", A::S("SAME_UPPER")),
        ],
        &[("kernel_shape", A::Is(&[1, 1])), ("strides", A::Is(&[i64::MAX, 1])), ("ceil_mode", A::I(1))],
        &[("kernel_shape", A::Is(&[1, 1])), ("strides", A::Is(&[-1, 1]))],
        &[("kernel_shape", A::Is(&[0, 1]))],
    ] {
        let error = refused(graph(vec![node("MaxPool", attributes, &["x"], &["y"])], vec![]));
        assert!(matches!(error, ImportError::Invalid { .. }), "{error}");
    }
}

#[test]
fn a_graph_must_be_one() {
    let cycle = vec![
        node("Add", &[], &["x", "b"], &["a"]),
        node("Relu", &[], &["a"], &["b"]),
        node("Relu", &[], &["a"], &["y"]),
    ];
    assert!(refused(graph(cycle, vec![])).to_string().contains("cycle"));
    let own = vec![node("Relu", &[], &["y"], &["y"])];
    assert!(refused(graph(own, vec![])).to_string().contains("cycle"));
    let lost = vec![node("Add", &[], &["x", "nowhere"], &["y"])];
    assert!(refused(graph(lost, vec![])).to_string().contains(r#"nothing makes its input "nowhere""#));
    let twice = vec![node("Relu", &[], &["x"], &["y"]), node("Tanh", &[], &["x"], &["y"])];
    assert!(refused(graph(twice, vec![])).to_string().contains("there already"));
    assert!(refused(graph(vec![], vec![])).to_string().contains("nothing makes output"));
    let constant = graph(vec![], vec![floats("y", &[1], &[1.0])]);
    assert!(refused(constant).to_string().contains("does not depend on any input"));
    let mut none = graph(vec![], vec![]);
    none.output.clear();
    assert!(refused(none).to_string().contains("no output"));
    let same = vec![floats("w", &[1], &[1.0]), floats("w", &[1], &[2.0])];
    assert!(
        refused(graph(vec![node("Add", &[], &["x", "w"], &["y"])], same))
            .to_string()
            .contains("two initialisers")
    );
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    let error = refused(graph(vec![node("Relu", &[], &["x"], &[&long])], vec![]));
    assert!(matches!(error, ImportError::TooLarge { what: "length of a name", .. }), "{error}");
    let no_set = proto::Model { graph: Some(graph(vec![], vec![])), ..Default::default() };
    assert!(import(&no_set.encode_to_vec(), &[]).unwrap_err().to_string().contains("operator set"));
    let foreign = proto::Node { domain: "com.example".into(), ..node("Relu", &[], &["x"], &["y"]) };
    assert!(refused(graph(vec![foreign], vec![])).to_string().contains("com.example"));
}

#[test]
fn numbers_at_their_ends() {
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX];
    for a in ends {
        for b in ends {
            for (op, attributes, inputs) in [
                ("Slice", &[][..], &["x", "a", "b"][..]),
                ("Slice", &[], &["x", "zero", "zero", "a", "b"]),
                ("Slice", &[], &["x", "a", "b", "zero", "b"]),
                ("Reshape", &[], &["x", "ab"]),
                ("Expand", &[], &["x", "ab"]),
                ("Tile", &[], &["x", "abab"]),
                ("Gather", &[("axis", A::I(a))], &["x", "b"]),
                ("Unsqueeze", &[], &["x", "ab"]),
                ("Squeeze", &[], &["x", "ab"]),
                ("Transpose", &[("perm", A::Is(&[a, b, 0, 1]))], &["x"]),
                ("Split", &[("axis", A::I(1))], &["x", "ab"]),
                ("Split", &[("axis", A::I(1)), ("num_outputs", A::I(b))], &["x"]),
                ("Pad", &[], &["x", "abababab"]),
                ("ReduceSum", &[], &["x", "ab"]),
                ("Softmax", &[("axis", A::I(a))], &["x"]),
                ("Flatten", &[("axis", A::I(a))], &["x"]),
                ("Concat", &[("axis", A::I(a))], &["x", "x"]),
                ("Shape", &[("start", A::I(a)), ("end", A::I(b))], &["x"]),
                ("DepthToSpace", &[("blocksize", A::I(a))], &["x"]),
                ("Conv", &[("group", A::I(a)), ("pads", A::Is(&[b, 0, 0, a]))], &["x", "w"]),
                ("MaxPool", &[("kernel_shape", A::Is(&[2, 2])), ("pads", A::Is(&[a, b, 1, 1]))], &["x"]),
                ("MaxPool", &[("kernel_shape", A::Is(&[a, b])), ("ceil_mode", A::I(1))], &["x"]),
                ("Add", &[], &["a", "b"]),
                ("Sub", &[], &["a", "b"]),
                ("Mul", &[], &["a", "b"]),
                ("Div", &[], &["a", "b"]),
                ("Pow", &[], &["a", "b"]),
                ("Neg", &[], &["a"]),
                ("Abs", &[], &["a"]),
                ("Range", &[], &["a", "b", "one"]),
                ("Range", &[], &["one", "a", "b"]),
                ("ConstantOfShape", &[], &["ab"]),
                ("Resize", &[], &["x", "", "", "abab"]),
            ] {
                let initializer = vec![
                    integers("a", &[a]),
                    integers("b", &[b]),
                    integers("ab", &[a, b]),
                    integers("abab", &[a, b, a, b]),
                    integers("abababab", &[a, b, a, b, a, b, a, b]),
                    integers("zero", &[0]),
                    integers("one", &[1]),
                    floats("w", &[2, 2, 1, 1], &[1.0; 4]),
                ];
                // Constants are used as sizes, so that they are looked at.
                let nodes = vec![
                    node(op, attributes, inputs, &["made"]),
                    node("Shape", &[], &["made"], &["sizes"]),
                    node("ConstantOfShape", &[], &["sizes"], &["zeros"]),
                    node("ReduceSum", &[("keepdims", A::I(0))], &["zeros"], &["sum"]),
                    node("Add", &[], &["x", "sum"], &["y"]),
                ];
                survives(&file(18, graph(nodes, initializer)));
            }
        }
    }
}
