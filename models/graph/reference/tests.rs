//! Graphs that are none are refused and never run; what operators compute is tested with the importers.

use std::sync::Arc;

use super::{ReferenceError, run};
use crate::graph::{Binary, Data, Graph, Kind, Node, Op, Tensor, TensorId, Unary, Window, check};

fn tensor(shape: &[usize]) -> Tensor {
    Tensor { name: format!("{shape:?}"), shape: shape.to_vec(), kind: Kind::F32, value: None }
}

fn node(op: Op, inputs: &[usize], output: usize) -> Node {
    Node {
        name: "n".into(),
        op,
        inputs: inputs.iter().map(|id| TensorId(*id)).collect(),
        output: TensorId(output),
    }
}

/// Input 0, the node, output 1.
fn graph(op: Op, input: &[usize], output: &[usize]) -> Graph {
    Graph {
        tensors: vec![tensor(input), tensor(output)],
        nodes: vec![node(op, &[0], 1)],
        inputs: vec![TensorId(0)],
        outputs: vec![TensorId(1)],
    }
}

#[test]
fn a_sound_graph_runs() {
    let relu = graph(Op::Unary(Unary::Relu), &[2], &[2]);
    assert_eq!(run(&relu, &[&[-1.0, 2.0]]), Ok(vec![vec![0.0, 2.0]]));
    assert!(matches!(run(&relu, &[&[1.0]]), Err(ReferenceError::Inputs(_))));
    assert!(matches!(run(&relu, &[]), Err(ReferenceError::Inputs(_))));
    assert!(matches!(run(&relu, &[&[1.0, 2.0], &[1.0]]), Err(ReferenceError::Inputs(_))));
}

#[test]
fn unsound_graphs_are_found() {
    let sound = || graph(Op::Unary(Unary::Relu), &[2, 2], &[2, 2]);
    assert_eq!(check(&sound()), Ok(()));
    let wrong = |change: &dyn Fn(&mut Graph), reason: &str| {
        let mut graph = sound();
        change(&mut graph);
        let error = run(&graph, &[&[0.0; 4]]).unwrap_err();
        assert!(matches!(&error, ReferenceError::Graph(text) if text.contains(reason)), "{reason}: {error}");
    };
    wrong(&|graph| graph.tensors[1].shape = vec![4], "makes [2, 2], not [4]");
    wrong(&|graph| graph.tensors[1].kind = Kind::I64, "makes");
    wrong(&|graph| graph.nodes[0].output = TensorId(7), "no tensor 7");
    wrong(&|graph| graph.nodes[0].inputs = vec![TensorId(1)], "not made yet");
    wrong(&|graph| graph.nodes[0].inputs = vec![], "takes 1 inputs");
    wrong(&|graph| graph.nodes[0].output = TensorId(0), "there already");
    wrong(&|graph| graph.outputs = vec![TensorId(9)], "no tensor 9");
    wrong(&|graph| graph.nodes.clear(), "never made");
    wrong(&|graph| graph.inputs = vec![TensorId(0); 2], "there already");
    wrong(&|graph| graph.tensors[0].shape = vec![usize::MAX, 2], "too large");
    wrong(&|graph| graph.tensors[0].value = Some(Data::F32(Arc::new([0.0; 3]))), "does not have its values");
    wrong(&|graph| graph.tensors[0].value = Some(Data::I64(Arc::new([0; 4]))), "does not have its values");
}

#[test]
fn operators_that_contradict_themselves_are_found() {
    let window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], before: [0, 0], after: [0, 0] };
    for op in [
        Op::MaxPool(Window { stride: [0, 1], ..window }),
        Op::MaxPool(Window { kernel: [3, 1], ..window }),
        Op::MaxPool(Window { before: [usize::MAX, 0], ..window }),
        Op::MaxPool(Window { after: [1, 0], ..window }),
        Op::Transpose { order: vec![0, 1, 2] },
        Op::Transpose { order: vec![0, 1, 2, 2] },
        Op::Slice { begin: vec![0; 4], step: vec![1, 1, 1, 0] },
        Op::Slice { begin: vec![0; 3], step: vec![1; 4] },
        Op::Slice { begin: vec![0, 0, 0, usize::MAX], step: vec![1, 1, 1, isize::MAX] },
        Op::Softmax { axis: 4 },
        Op::Concat { axis: 4 },
        Op::Pad { before: vec![0, 0, 0, 1], value: 0.0 },
        Op::Binary(Binary::Add),
        Op::FakeQuantize { levels: 2 },
    ] {
        let graph = graph(op.clone(), &[1, 2, 2, 2], &[1, 2, 2, 2]);
        assert!(check(&graph).is_err(), "{op:?}");
    }
}

#[test]
fn an_index_outside_is_an_error() {
    let mut gather = graph(Op::Gather { axis: 0 }, &[2], &[1]);
    let index =
        |value: i64| Tensor { kind: Kind::I64, value: Some(Data::I64(Arc::new([value]))), ..tensor(&[1]) };
    gather.nodes[0].inputs.push(TensorId(2));
    gather.tensors.push(index(-1));
    assert_eq!(run(&gather, &[&[1.0, 2.0]]), Ok(vec![vec![2.0]]));
    gather.tensors[2] = index(2);
    assert!(matches!(run(&gather, &[&[1.0, 2.0]]), Err(ReferenceError::Node { .. })));
    gather.tensors[2] = index(i64::MIN);
    assert!(matches!(run(&gather, &[&[1.0, 2.0]]), Err(ReferenceError::Node { .. })));
}

#[test]
fn places_of_two_operands_are_those_of_each_index() {
    use super::movement::{broadcast_strides, each, each_pair, offset};
    let shapes: [&[usize]; 9] =
        [&[], &[1], &[4], &[3, 1], &[3, 4], &[2, 1, 4], &[2, 3, 1], &[1, 1, 1], &[2, 3, 4]];
    for a in shapes {
        for b in shapes {
            let Some(output) = crate::graph::shape::broadcast(a, b) else { continue };
            let (strides_a, strides_b) = (broadcast_strides(a, &output), broadcast_strides(b, &output));
            let mut expected = Vec::new();
            each(&output, |index| expected.push((offset(index, &strides_a), offset(index, &strides_b))));
            let mut made = Vec::new();
            each_pair(a, b, &output, |place_a, place_b| made.push((place_a, place_b)));
            assert_eq!(made, expected, "{a:?} and {b:?}");
        }
    }
    each_pair(&[0, 2], &[2], &[0, 2], |_, _| panic!("there is nothing"));
    each_pair(&[2, 0], &[1], &[2, 0], |_, _| panic!("there is nothing"));
}
