//! The networks that Meerkat is made for: they load, and their ends have the shapes that are documented for them.

use std::path::Path;

use super::data;
use crate::graph::{Graph, check, onnx, openvino};

/// Reads an OpenVINO network out of the shared data.
pub(super) fn openvino_network(data: &Path, name: &str, precision: &str) -> Graph {
    let base = data.join("weights/openvino").join(name).join(precision).join(name);
    let xml = std::fs::read_to_string(base.with_extension("xml")).unwrap();
    let bin = std::fs::read(base.with_extension("bin")).unwrap();
    openvino::import(&xml, &bin, &[]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads an ONNX network out of the shared data.
pub(super) fn onnx_network(data: &Path, path: &str, shapes: &[(&str, &[usize])]) -> Graph {
    let bytes = std::fs::read(data.join("weights").join(path)).unwrap();
    onnx::import(&bytes, shapes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names and shapes of the inputs, then of the outputs; the graph is sound.
fn ends(graph: &Graph) -> Vec<(&str, &[usize])> {
    assert_eq!(check(graph), Ok(()));
    let all = graph.inputs.iter().chain(&graph.outputs);
    all.map(|id| (graph.tensor(*id).name.as_str(), graph.tensor(*id).shape.as_slice())).collect()
}

#[test]
fn openvino_networks_load() {
    let Some(data) = data() else { return };
    type Ends<'a> = &'a [(&'a str, &'a [usize])];
    let expected: [(&str, &str, Ends<'_>); 6] = [
        (
            "person-detection-retail-0013",
            "FP32",
            &[("data", &[1, 3, 320, 544]), ("detection_out", &[1, 1, 200, 7])],
        ),
        (
            "face-detection-retail-0004",
            "FP32",
            &[("data", &[1, 3, 300, 300]), ("detection_out", &[1, 1, 200, 7])],
        ),
        ("landmarks-regression-retail-0009", "FP32", &[("0", &[1, 3, 48, 48]), ("95", &[1, 10, 1, 1])]),
        ("face-reidentification-retail-0095", "FP16", &[("0", &[1, 3, 128, 128]), ("658", &[1, 256, 1, 1])]),
        (
            "age-gender-recognition-retail-0013",
            "FP16-INT8",
            &[("data", &[1, 3, 62, 62]), ("prob", &[1, 2, 1, 1]), ("fc3_a", &[1, 1, 1, 1])],
        ),
        (
            "person-reidentification-retail-0277",
            "FP16",
            &[("data", &[1, 3, 256, 128]), ("reid_embedding", &[1, 256])],
        ),
    ];
    for (name, precision, expected) in expected {
        let graph = openvino_network(&data, name, precision);
        assert_eq!(ends(&graph), expected, "{name}");
    }
}

#[test]
fn onnx_networks_load() {
    let Some(data) = data() else { return };
    let yolox = onnx_network(&data, "yolox_nano/yolox_nano.onnx", &[]);
    let expected: [(&str, &[usize]); 2] = [("images", &[1, 3, 416, 416]), ("output", &[1, 3549, 85])];
    assert_eq!(ends(&yolox), expected);
    for size in ["n", "s"] {
        let fixed = onnx_network(&data, &format!("yunet/yunet_{size}_640_640.onnx"), &[]);
        let small = onnx_network(&data, &format!("yunet/yunet_{size}_320_320.onnx"), &[]);
        let path = format!("yunet/yunet_{size}_dynamic.onnx");
        let dynamic = onnx_network(&data, &path, &[("input", &[1, 3, 640, 640])]);
        assert_eq!(ends(&fixed), ends(&dynamic));
        assert_eq!(ends(&small)[..2], [("input", &[1, 3, 320, 320][..]), ("cls_8", &[1, 1600, 1])]);
        assert_eq!(small.outputs.len(), 12);
        // Shapes are folded: what is left of the dynamic network is the fixed one.
        assert_eq!(fixed.nodes.len(), dynamic.nodes.len());
    }
}

#[test]
fn a_dynamic_network_asks_for_its_shape_by_name() {
    let Some(data) = data() else { return };
    let bytes = std::fs::read(data.join("weights/yunet/yunet_n_dynamic.onnx")).unwrap();
    let error = onnx::import(&bytes, &[]).unwrap_err();
    assert_eq!(error.to_string(), r#"input "input" has no fixed shape: give "batch", "height", "width""#);
}
