//! What must hold for every file given to the importers, however wild: used by the fuzz targets and by the ordinary
//! test that replays the corpus.

use meerkat_models::cpu::Plan;
use meerkat_models::cpu::lanes::Isa;
use meerkat_models::graph::{Graph, ImportError, Op, check, limits, onnx, openvino, reference};
use meerkat_models::weights::torch;

/// An ONNX file.
pub fn onnx(input: &[u8]) {
    sound(onnx::import(input, &[]));
}

/// The XML of an OpenVINO IR, a zero byte, and its weights.
pub fn openvino(input: &[u8]) {
    let split = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (xml, bin) = input.split_at(split);
    let Ok(xml) = std::str::from_utf8(xml) else { return };
    sound(openvino::import(xml, bin.get(1..).unwrap_or_default(), &[]));
}

/// A state dict of `torch.save`: either an error that can be read, or tensors that have as many values as they say.
pub fn torch(input: &[u8]) {
    match torch::read(input) {
        Ok(weights) => {
            for weight in weights {
                let values: usize = weight.shape.iter().product();
                assert_eq!(values * weight.scalar.size_bytes(), weight.bytes.len());
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 64 << 10, "{} bytes of message", text.len());
        }
    }
}

/// Either an error that can be read, or a graph that keeps its promises and runs.
fn sound(imported: Result<Graph, ImportError>) {
    let graph = match imported {
        Ok(graph) => graph,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 64 << 10, "{} bytes of message", text.len());
            return;
        }
    };
    assert_eq!(check(&graph), Ok(()));
    assert!(!graph.outputs.is_empty());
    let total: usize = graph.tensors.iter().map(|tensor| tensor.len()).sum();
    assert!(total <= limits::MAX_TOTAL_ELEMENTS);
    for node in &graph.nodes {
        assert!(graph.tensor(node.output).value.is_none(), "constants are folded");
    }
    if cost(&graph) > 1 << 20 {
        return;
    }
    let inputs: Vec<Vec<f32>> = graph.inputs.iter().map(|id| vec![0.5; graph.tensor(*id).len()]).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let outputs = reference::run(&graph, &inputs).expect("what was imported can be run");
    for (id, output) in graph.outputs.iter().zip(outputs) {
        assert_eq!(graph.tensor(*id).len(), output.len());
    }
    // The executor may refuse a graph, with a reason, but not panic on one.
    let input = inputs.concat();
    match Plan::new(graph, Isa::best()) {
        Ok(mut plan) => {
            let mut outputs = vec![0.0; plan.output_len()];
            plan.run(&input, &mut outputs);
        }
        Err(error) => assert!(!error.reason.is_empty()),
    }
}

/// About how much the plain interpreter has to do.
fn cost(graph: &Graph) -> usize {
    let values: usize = graph.tensors.iter().map(|tensor| tensor.len()).sum();
    let of = |node: &meerkat_models::graph::Node| {
        let made = graph.tensor(node.output).len();
        let per_value = match &node.op {
            Op::Conv { window, .. } => {
                window.kernel[0] * window.kernel[1] * graph.tensor(node.inputs[1]).shape[1]
            }
            Op::MaxPool(window) | Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1],
            Op::MatMul { .. } => graph.tensor(node.inputs[0]).len(),
            Op::DetectionOutput(detection) => detection.top_k * detection.classes,
            _ => 1,
        };
        made.saturating_mul(per_value)
    };
    graph.nodes.iter().map(of).fold(values, usize::saturating_add)
}
