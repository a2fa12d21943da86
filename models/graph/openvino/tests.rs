//! Operators of OpenVINO IR through the importer and the plain interpreter, with answers worked out by hand; and files
//! that must be refused.

mod hostile;

use std::fmt::Write;

use super::import;
use crate::graph::{Graph, ImportError, check, reference};

/// Writes an IR: layers with their edges, constants into the file of weights.
#[derive(Default)]
pub(super) struct Ir {
    layers: String,
    edges: String,
    pub bin: Vec<u8>,
    count: usize,
}

impl Ir {
    fn dims(shape: &[usize]) -> String {
        shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }

    /// Adds a layer with one output port, number 9; returns its number.
    pub fn layer(
        &mut self,
        operator: &str,
        version: &str,
        data: &str,
        inputs: &[(usize, usize)],
        outputs: usize,
    ) -> usize {
        let id = self.count;
        self.count += 1;
        let mut ports = String::new();
        for (place, (from, port)) in inputs.iter().enumerate() {
            write!(ports, r#"<port id="{place}"><dim>1</dim></port>"#).unwrap();
            writeln!(
                self.edges,
                r#"<edge from-layer="{from}" from-port="{}" to-layer="{id}" to-port="{place}"/>"#,
                port + 9
            )
            .unwrap();
        }
        let names = |port: usize| format!(r#"<port id="{}" names="t{id}.{port}"/>"#, port + 9);
        let made: String = (0..outputs).map(names).collect();
        writeln!(
            self.layers,
            r#"<layer id="{id}" name="l{id}" type="{operator}" version="{version}"><data {data}/><input>{ports}</input><output>{made}</output></layer>"#
        )
        .unwrap();
        id
    }

    pub fn parameter(&mut self, shape: &[usize]) -> usize {
        let data = format!(r#"element_type="f32" shape="{}""#, Self::dims(shape));
        self.layer("Parameter", "opset1", &data, &[], 1)
    }

    pub fn constant(&mut self, kind: &str, shape: &[usize], bytes: &[u8]) -> usize {
        let (offset, size, dims) = (self.bin.len(), bytes.len(), Self::dims(shape));
        self.bin.extend(bytes);
        let data = format!(r#"element_type="{kind}" shape="{dims}" offset="{offset}" size="{size}""#);
        self.layer("Const", "opset1", &data, &[], 1)
    }

    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> usize {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant("f32", shape, &bytes)
    }

    pub fn integers(&mut self, shape: &[usize], values: &[i64]) -> usize {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant("i64", shape, &bytes)
    }

    pub fn result(&mut self, from: usize, port: usize) {
        self.layer("Result", "opset1", "", &[(from, port)], 0);
    }

    pub fn xml(&self) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<net name=\"n\" version=\"11\"><layers>\n{}</layers><edges>\n{}</edges></net>",
            self.layers, self.edges
        )
    }
}

/// An input of the layer under test.
#[derive(Clone, Copy)]
enum In<'a> {
    X(&'a [usize], &'a [f32]),
    F(&'a [usize], &'a [f32]),
    I(&'a [i64]),
    /// A single integer.
    N(i64),
}

fn single<'a>(
    version: &str,
    operator: &str,
    data: &str,
    inputs: &[In<'a>],
    outputs: usize,
) -> (Ir, Vec<&'a [f32]>) {
    let (mut ir, mut values) = (Ir::default(), Vec::new());
    let sources: Vec<(usize, usize)> = inputs
        .iter()
        .map(|input| match input {
            In::X(shape, x) => {
                values.push(*x);
                (ir.parameter(shape), 0)
            }
            In::F(shape, x) => (ir.floats(shape, x), 0),
            In::I(x) => (ir.integers(&[x.len()], x), 0),
            In::N(x) => (ir.integers(&[], &[*x]), 0),
        })
        .collect();
    let made = ir.layer(operator, version, data, &sources, outputs);
    for port in 0..outputs {
        ir.result(made, port);
    }
    (ir, values)
}

fn run(graph: &Graph, inputs: &[&[f32]]) -> Vec<(Vec<usize>, Vec<f32>)> {
    assert_eq!(check(graph), Ok(()));
    let made = reference::run(graph, inputs).unwrap();
    graph.outputs.iter().zip(made).map(|(id, values)| (graph.tensor(*id).shape.clone(), values)).collect()
}

#[track_caller]
fn same(made: &(Vec<usize>, Vec<f32>), shape: &[usize], values: &[f32]) {
    assert_eq!(made.0, shape);
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
    assert!(
        made.1.len() == values.len() && made.1.iter().zip(values).all(near),
        "{:?} not {values:?}",
        made.1
    );
}

#[track_caller]
fn gives(version: &str, operator: &str, data: &str, inputs: &[In<'_>], shape: &[usize], values: &[f32]) {
    let (ir, x) = single(version, operator, data, inputs, 1);
    let graph = import(&ir.xml(), &ir.bin, &[]).unwrap_or_else(|error| panic!("{operator}: {error}"));
    same(&run(&graph, &x)[0], shape, values);
}

/// Small files for the fuzz target, by name: the XML, a zero byte, the weights.
pub(in crate::graph) fn seeds() -> std::collections::BTreeMap<String, Vec<u8>> {
    let joined = |xml: String, bin: Vec<u8>| [xml.as_bytes(), &[0], &bin].concat();
    let image = In::X(&[1, 2, 4, 4], &[]);
    let one = |version: &str, operator: &str, data: &str, inputs: &[In<'_>], outputs| {
        let (ir, _) = single(version, operator, data, inputs, outputs);
        (format!("seed-{operator}"), joined(ir.xml(), ir.bin))
    };
    let (xml, bin) = hostile::small();
    let masks =
        r#"begin_mask="0,1" end_mask="1,0" new_axis_mask="0,0" shrink_axis_mask="0,0" ellipsis_mask="0,0""#;
    let pool = r#"strides="2,2" kernel="3,3" pads_begin="1,1" pads_end="0,0" rounding_type="ceil" auto_pad="explicit""#;
    let resize = r#"mode="nearest" shape_calculation_mode="scales" coordinate_transformation_mode="asymmetric" nearest_mode="floor""#;
    let detection = r#"background_label_id="0" top_k="3" keep_top_k="2" code_type="caffe.PriorBoxParameter.CENTER_SIZE" share_location="true" nms_threshold="0.5" confidence_threshold="0.1" normalized="true""#;
    let ranges = In::F(&[], &[1.0]);
    let files = [
        ("seed-network".to_owned(), joined(xml, bin)),
        one(
            "opset1",
            "Convolution",
            r#"strides="1,2" auto_pad="same_lower""#,
            &[image, In::F(&[1, 2, 1, 2], &[0.5; 4])],
            1,
        ),
        one("opset8", "MaxPool", pool, &[image], 2),
        one("opset1", "AvgPool", &format!(r#"{pool} exclude-pad="true""#), &[image], 1),
        one(
            "opset6",
            "MVN",
            r#"eps="0.1" eps_mode="outside_sqrt" normalize_variance="true""#,
            &[image, In::I(&[2, 3])],
            1,
        ),
        one("opset1", "StridedSlice", masks, &[image, In::I(&[0, 1]), In::I(&[1, 2]), In::I(&[1, -1])], 1),
        one("opset8", "Slice", "", &[image, In::I(&[3]), In::I(&[0]), In::I(&[-2]), In::I(&[2])], 1),
        one("opset1", "Split", r#"num_splits="2""#, &[image, In::N(1)], 2),
        one("opset1", "VariadicSplit", "", &[image, In::N(2), In::I(&[1, -1])], 2),
        one("opset11", "Interpolate", resize, &[image, In::F(&[2], &[2.0, 1.5]), In::I(&[2, 3])], 1),
        one("opset1", "FakeQuantize", r#"levels="4""#, &[image, ranges, ranges, ranges, ranges], 1),
        one("opset1", "ReduceMean", r#"keep_dims="true""#, &[image, In::I(&[-1, 2])], 1),
        one(
            "opset1",
            "Pad",
            r#"pad_mode="constant""#,
            &[image, In::I(&[0, 0, 1, 1]), In::I(&[0, 0, 0, 1])],
            1,
        ),
        one("opset1", "Broadcast", r#"mode="bidirectional""#, &[image, In::I(&[2, 1, 1, 1])], 1),
        one("opset8", "Gather", r#"batch_dims="0""#, &[image, In::I(&[1, 0]), In::N(1)], 1),
        one("opset1", "Clamp", r#"min="0" max="6""#, &[image], 1),
        one(
            "opset8",
            "DetectionOutput",
            detection,
            &[In::X(&[1, 8], &[]), In::X(&[1, 4], &[]), In::F(&[1, 2, 8], &[0.5; 16])],
            1,
        ),
    ];
    files.into_iter().collect()
}

#[track_caller]
fn refused(version: &str, operator: &str, data: &str, inputs: &[In<'_>]) -> String {
    let (ir, _) = single(version, operator, data, inputs, 1);
    let error = import(&ir.xml(), &ir.bin, &[]).unwrap_err();
    let named = matches!(error, ImportError::Unsupported { .. } | ImportError::Invalid { .. });
    assert!(named, "{error}");
    error.to_string()
}

const X: In<'_> = In::X(&[2, 2], &[-2.0, -0.5, 0.5, 2.0]);

#[test]
fn arithmetic() {
    let on = |operator: &str, data: &str, values: [f32; 4]| {
        gives("opset1", operator, data, &[X], &[2, 2], &values)
    };
    on("ReLU", "", [0.0, 0.0, 0.5, 2.0]);
    on("Sigmoid", "", [0.119_202_92, 0.377_540_67, 0.622_459_33, 0.880_797_1]);
    on("Clamp", r#"min="-1" max="1""#, [-1.0, -0.5, 0.5, 1.0]);
    on("HSwish", "", [-0.333_333_34, -0.208_333_33, 0.291_666_66, 1.666_666_6]);
    on("Swish", "", [-0.238_405_84, -0.188_770_34, 0.311_229_66, 1.761_594_2]);
    on("Elu", r#"alpha="2""#, [-1.729_329_5, -0.786_938_7, 0.5, 2.0]);
    on("Negative", "", [2.0, 0.5, -0.5, -2.0]);
    gives(
        "opset1",
        "HardSigmoid",
        "",
        &[X, In::F(&[], &[0.2]), In::F(&[], &[0.5])],
        &[2, 2],
        &[0.1, 0.4, 0.6, 0.9],
    );
    let row = In::F(&[2], &[1.0, 10.0]);
    let two = |operator: &str, values: [f32; 4]| {
        gives("opset1", operator, r#"auto_broadcast="numpy""#, &[X, row], &[2, 2], &values);
    };
    two("Add", [-1.0, 9.5, 1.5, 12.0]);
    two("Subtract", [-3.0, -10.5, -0.5, -8.0]);
    two("Multiply", [-2.0, -5.0, 0.5, 20.0]);
    two("Divide", [-2.0, -0.05, 0.5, 0.2]);
    two("Maximum", [1.0, 10.0, 1.0, 10.0]);
    two("Minimum", [-2.0, -0.5, 0.5, 2.0]);
    two("SquaredDifference", [9.0, 110.25, 0.25, 64.0]);
    gives("opset1", "Power", "", &[X, In::F(&[], &[2.0])], &[2, 2], &[4.0, 0.25, 0.25, 4.0]);
    let none = refused("opset1", "Add", r#"auto_broadcast="none""#, &[X, row]);
    assert!(none.contains("without broadcasting"));
    assert!(refused("opset1", "Add", r#"auto_broadcast="pdpd""#, &[X, row]).contains("pdpd"));
    let x = In::X(&[1, 2, 1, 2], &[-1.0, 1.0, -1.0, 1.0]);
    gives("opset1", "PReLU", "", &[x, In::F(&[2], &[0.5, 2.0])], &[1, 2, 1, 2], &[-0.5, 1.0, -2.0, 1.0]);
    gives(
        "opset1",
        "PReLU",
        "",
        &[x, In::F(&[1, 2, 1, 1], &[0.5, 2.0])],
        &[1, 2, 1, 2],
        &[-0.5, 1.0, -2.0, 1.0],
    );
    assert!(refused("opset1", "PReLU", "", &[x, In::F(&[1, 1, 1, 2], &[0.5, 2.0])]).contains("slopes"));
}

#[test]
fn convolutions_and_pools() {
    let data = r#"strides="1,1" dilations="1,1" pads_begin="0,0" pads_end="0, 0" auto_pad="explicit""#;
    let x = In::X(&[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let w = In::F(&[1, 2, 1, 2], &[1.0, 10.0, 100.0, 1000.0]);
    gives("opset1", "Convolution", data, &[x, w], &[1, 1, 1, 1], &[4321.0]);
    // [groups, made, taken, height, width]
    let w = In::F(&[2, 1, 1, 1, 2], &[1.0, 10.0, 100.0, 1000.0]);
    gives("opset1", "GroupConvolution", data, &[x, w], &[1, 2, 1, 1], &[21.0, 4300.0]);
    let around = r#"strides="1,2" dilations="1,1" pads_begin="0,1" pads_end="0,1" auto_pad="notset""#;
    gives("opset1", "GroupConvolution", around, &[x, w], &[1, 2, 1, 2], &[10.0, 2.0, 3000.0, 400.0]);
    let x = In::X(&[1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0, 9.0]);
    let pool = |rounding: &str| {
        format!(
            r#"strides="2,2" kernel="2,2" pads_begin="0,0" pads_end="0,0" rounding_type="{rounding}" auto_pad="explicit""#
        )
    };
    let last = format!(r#"{} dilations="1,1" axis="0" index_element_type="i64""#, pool("ceil"));
    gives("opset8", "MaxPool", &last, &[x], &[1, 1, 2, 2], &[4.0, 6.0, 8.0, 9.0]);
    gives("opset1", "MaxPool", &pool("floor"), &[x], &[1, 1, 1, 1], &[4.0]);
    let excluded = format!(r#"{} exclude-pad="true""#, pool("ceil"));
    gives("opset1", "AvgPool", &excluded, &[x], &[1, 1, 2, 2], &[0.5, 4.5, 7.5, 9.0]);
    let included = r#"strides="2,2" kernel="2,2" pads_begin="1,1" pads_end="1,1" exclude-pad="false" rounding_type="floor""#;
    gives("opset1", "AvgPool", included, &[x], &[1, 1, 2, 2], &[0.25, 1.25, 2.75, 4.5]);
    let counted = format!(r#"{} exclude-pad="false""#, pool("ceil"));
    assert!(refused("opset1", "AvgPool", &counted, &[x]).contains("counts"));
    let same = r#"strides="2,2" kernel="2,2" auto_pad="same_upper""#;
    gives("opset1", "MaxPool", same, &[x], &[1, 1, 2, 2], &[4.0, 6.0, 8.0, 9.0]);
}

#[test]
fn statistics() {
    let x = In::X(&[1, 2, 1, 2], &[1.0, 3.0, 10.0, 20.0]);
    let inside = r#"eps="0" eps_mode="INSIDE_SQRT" normalize_variance="true""#;
    gives("opset6", "MVN", inside, &[x, In::I(&[2, 3])], &[1, 2, 1, 2], &[-1.0, 1.0, -1.0, 1.0]);
    let outside = r#"eps="1" eps_mode="outside_sqrt" normalize_variance="true""#;
    gives("opset6", "MVN", outside, &[x, In::I(&[-1])], &[1, 2, 1, 2], &[-0.5, 0.5, -5.0 / 6.0, 5.0 / 6.0]);
    let inside = r#"eps="3" eps_mode="inside_sqrt" normalize_variance="true""#;
    gives("opset6", "MVN", inside, &[x, In::I(&[3])], &[1, 2, 1, 2], &[-0.5, 0.5, -0.944_911_2, 0.944_911_2]);
    let means = r#"eps="1" normalize_variance="false" across_channels="false""#;
    gives("opset2", "MVN", means, &[x], &[1, 2, 1, 2], &[-1.0, 1.0, -5.0, 5.0]);
    gives("opset1", "ReduceMean", r#"keep_dims="true""#, &[x, In::I(&[2, 3])], &[1, 2, 1, 1], &[2.0, 15.0]);
    gives("opset1", "ReduceSum", r#"keep_dims="false""#, &[x, In::I(&[1])], &[1, 1, 2], &[11.0, 23.0]);
    gives("opset8", "SoftMax", r#"axis="-1""#, &[In::X(&[1, 2], &[0.0, 0.0])], &[1, 2], &[0.5, 0.5]);
    let four = |values: &'static [f32]| In::F(&[2], values);
    let all = [x, four(&[1.0, 2.0]), four(&[0.0, 1.0]), four(&[1.0, 10.0]), four(&[4.0, 25.0])];
    gives("opset5", "BatchNormInference", r#"epsilon="0""#, &all, &[1, 2, 1, 2], &[0.0, 1.0, 1.0, 5.0]);
}

#[test]
fn matrices_and_shapes() {
    let x = In::X(&[1, 2], &[1.0, 2.0]);
    let w = In::F(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    gives(
        "opset1",
        "MatMul",
        r#"transpose_a="false" transpose_b="true""#,
        &[x, w],
        &[1, 3],
        &[1.0, 2.0, 3.0],
    );
    let six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let x = In::X(&[2, 3], &six);
    gives("opset1", "Reshape", r#"special_zero="true""#, &[x, In::I(&[0, 1, -1])], &[2, 1, 3], &six);
    gives("opset1", "Unsqueeze", "", &[x, In::I(&[0])], &[1, 2, 3], &six);
    gives("opset1", "Squeeze", "", &[In::X(&[1, 2, 3], &six), In::I(&[0])], &[2, 3], &six);
    gives("opset1", "Transpose", "", &[x, In::I(&[1, 0])], &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    gives(
        "opset8",
        "Gather",
        r#"batch_dims="0""#,
        &[x, In::I(&[2, 1, -3]), In::N(1)],
        &[2, 3],
        &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0],
    );
    gives(
        "opset1",
        "Concat",
        r#"axis="-1""#,
        &[x, In::F(&[2, 1], &[7.0, 8.0])],
        &[2, 4],
        &[1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0],
    );
    gives(
        "opset1",
        "Broadcast",
        r#"mode="numpy""#,
        &[In::X(&[2, 1], &[1.0, 2.0]), In::I(&[2, 2])],
        &[2, 2],
        &[1.0, 1.0, 2.0, 2.0],
    );
    gives(
        "opset1",
        "Pad",
        r#"pad_mode="constant""#,
        &[x, In::I(&[0, 1]), In::I(&[0, 0]), In::F(&[], &[9.0])],
        &[2, 4],
        &[9.0, 1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6.0],
    );
    gives(
        "opset8",
        "Slice",
        "",
        &[x, In::I(&[2]), In::I(&[0]), In::I(&[-1]), In::I(&[1])],
        &[2, 2],
        &[3.0, 2.0, 6.0, 5.0],
    );
    assert!(
        refused("opset8", "Gather", r#"batch_dims="1""#, &[x, In::I(&[0]), In::N(1)]).contains("batch_dims")
    );

    let (ir, x) = single("opset1", "Split", r#"num_splits="3""#, &[x, In::N(1)], 3);
    let made = run(&import(&ir.xml(), &ir.bin, &[]).unwrap(), &x);
    same(&made[2], &[2, 1], &[3.0, 6.0]);
    let (ir, x) =
        single("opset1", "VariadicSplit", "", &[In::X(&[2, 3], &six), In::N(1), In::I(&[1, -1])], 2);
    let made = run(&import(&ir.xml(), &ir.bin, &[]).unwrap(), &x);
    same(&made[1], &[2, 2], &[2.0, 3.0, 5.0, 6.0]);
}

#[test]
fn strided_slices() {
    let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
    let x = In::X(&[2, 3, 4], &values);
    let masks = |begin: &str, end: &str, new: &str, shrink: &str, ellipsis: &str| {
        format!(
            r#"begin_mask="{begin}" end_mask="{end}" new_axis_mask="{new}" shrink_axis_mask="{shrink}" ellipsis_mask="{ellipsis}""#
        )
    };
    let on = |data: String, begin: &[i64], end: &[i64], step: &[i64], shape: &[usize], expected: &[f32]| {
        gives("opset1", "StridedSlice", &data, &[x, In::I(begin), In::I(end), In::I(step)], shape, expected);
    };
    on(
        masks("0", "0", "0", "0", "0"),
        &[1, 1, 1],
        &[2, 3, 3],
        &[1, 1, 1],
        &[1, 2, 2],
        &[17.0, 18.0, 21.0, 22.0],
    );
    on(
        masks("1,0,0", "1,0,0", "", "", ""),
        &[9, -1, 0],
        &[9, 3, 4],
        &[1, 1, 2],
        &[2, 1, 2],
        &[8.0, 10.0, 20.0, 22.0],
    );
    on(
        masks("0,0,1", "0,0,1", "", "", ""),
        &[0, 0, 0],
        &[1, 1, 0],
        &[1, 1, -1],
        &[1, 1, 4],
        &[3.0, 2.0, 1.0, 0.0],
    );
    on(masks("", "", "", "1,1,0", ""), &[1, -1, 2], &[0, 0, 4], &[1, 1, 1], &[2], &[22.0, 23.0]);
    on(masks("", "", "1,0", "0,1", ""), &[0, 1], &[0, 0], &[1, 1], &[1, 3, 4], &values[12..]);
    on(masks("", "", "0,1", "", "1,0"), &[0, 0], &[0, 0], &[1, 1], &[2, 3, 4, 1], &values);
    on(
        masks("", "", "", "0,1", "1,0"),
        &[0, 3],
        &[0, 0],
        &[1, 1],
        &[2, 3],
        &[3.0, 7.0, 11.0, 15.0, 19.0, 23.0],
    );
    let far = [x, In::I(&[5]), In::I(&[6]), In::I(&[1])];
    assert!(refused("opset1", "StridedSlice", &masks("", "", "", "1", ""), &far).contains("no values"));
}

#[test]
fn resizing() {
    let x = In::X(&[1, 1, 1, 2], &[1.0, 3.0]);
    let data = |mode: &str, coordinates: &str| {
        format!(
            r#"mode="{mode}" shape_calculation_mode="sizes" coordinate_transformation_mode="{coordinates}" nearest_mode="floor" antialias="false" pads_begin="0" pads_end="0" cube_coeff="-0.75""#
        )
    };
    let inputs = [x, In::I(&[1, 4]), In::F(&[2], &[1.0, 2.0]), In::I(&[2, 3])];
    gives(
        "opset4",
        "Interpolate",
        &data("nearest", "asymmetric"),
        &inputs,
        &[1, 1, 1, 4],
        &[1.0, 1.0, 3.0, 3.0],
    );
    gives(
        "opset4",
        "Interpolate",
        &data("linear_onnx", "half_pixel"),
        &inputs,
        &[1, 1, 1, 4],
        &[1.0, 1.5, 2.5, 3.0],
    );
    let scales = data("nearest", "asymmetric").replace("sizes", "scales");
    gives("opset4", "Interpolate", &scales, &inputs, &[1, 1, 1, 4], &[1.0, 1.0, 3.0, 3.0]);
    let inputs = [x, In::F(&[2], &[2.0, 1.0]), In::I(&[2, 3])];
    gives("opset11", "Interpolate", &scales, &inputs, &[1, 1, 2, 2], &[1.0, 3.0, 1.0, 3.0]);
    assert!(refused("opset11", "Interpolate", &data("cubic", "half_pixel"), &inputs).contains("cubic"));
}

#[test]
fn quantisation() {
    let x = In::X(&[1, 1, 1, 5], &[-1.0, 0.1, 0.26, 0.9, 7.0]);
    let ranges = [x, In::F(&[], &[0.0]), In::F(&[], &[1.0]), In::F(&[], &[0.0]), In::F(&[], &[10.0])];
    let data = r#"levels="5" auto_broadcast="numpy""#;
    gives("opset1", "FakeQuantize", data, &ranges, &[1, 1, 1, 5], &[0.0, 0.0, 2.5, 10.0, 10.0]);
    // 8-bit weights with their conversion, zero point and scale are folded into f32.
    let mut ir = Ir::default();
    let x = ir.parameter(&[1, 1, 1, 1]);
    let stored = ir.constant("i8", &[2, 1, 1, 1], &[0xff, 3]);
    let wide = ir.layer("Convert", "opset1", r#"destination_type="f32""#, &[(stored, 0)], 1);
    let zero = ir.constant("f16", &[1], &[0, 0x3c]);
    let zero = ir.layer("Convert", "opset1", r#"destination_type="f32""#, &[(zero, 0)], 1);
    let moved = ir.layer("Subtract", "opset1", "", &[(wide, 0), (zero, 0)], 1);
    let scale = ir.floats(&[2, 1, 1, 1], &[0.5, 2.0]);
    let weight = ir.layer("Multiply", "opset1", "", &[(moved, 0), (scale, 0)], 1);
    let made = ir.layer("Convolution", "opset1", r#"strides="1,1""#, &[(x, 0), (weight, 0)], 1);
    ir.result(made, 0);
    let graph = import(&ir.xml(), &ir.bin, &[]).unwrap();
    assert_eq!((graph.nodes.len(), graph.tensors.len()), (1, 3));
    same(&run(&graph, &[&[10.0]])[0], &[1, 2, 1, 1], &[-10.0, 40.0]);
}

#[test]
fn boxes_of_a_grid() {
    // Its sizes come of the shapes of two tensors, as detectors have it.
    let mut ir = Ir::default();
    let picture = ir.parameter(&[1, 3, 100, 200]);
    let map = ir.parameter(&[1, 8, 1, 2]);
    let shape = |ir: &mut Ir, of: usize| {
        let whole = ir.layer("ShapeOf", "opset3", r#"output_type="i64""#, &[(of, 0)], 1);
        let bounds = [ir.integers(&[1], &[2]), ir.integers(&[1], &[4]), ir.integers(&[1], &[1])];
        let inputs = [(whole, 0), (bounds[0], 0), (bounds[1], 0), (bounds[2], 0)];
        ir.layer("StridedSlice", "opset1", r#"begin_mask="0" end_mask="1""#, &inputs, 1)
    };
    let sizes = [(shape(&mut ir, map), 0), (shape(&mut ir, picture), 0)];
    let data = r#"width="20" height="10" clip="false" step="0" step_w="0" step_h="0" offset="0.5" variance="0.1,0.1,0.2,0.2""#;
    let priors = ir.layer("PriorBoxClustered", "opset1", data, &sizes, 1);
    let flat = ir.integers(&[3], &[0, 1, -1]);
    let map = ir.layer("Reshape", "opset1", r#"special_zero="true""#, &[(map, 0), (flat, 0)], 1);
    // 16 values of the map and 16 of the priors.
    let line = ir.integers(&[3], &[1, 1, 16]);
    let priors = ir.layer("Reshape", "opset1", r#"special_zero="false""#, &[(priors, 0), (line, 0)], 1);
    let made = ir.layer("Add", "opset1", "", &[(map, 0), (priors, 0)], 1);
    ir.result(made, 0);
    let graph = import(&ir.xml(), &ir.bin, &[]).unwrap();
    let expected = [0.2, 0.45, 0.3, 0.55, 0.7, 0.45, 0.8, 0.55, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2];
    let made = run(&graph, &[&[0.0; 60000], &[0.0; 16]]);
    same(&made[0], &[1, 1, 16], &expected);
}

#[test]
fn detections() {
    let data = r#"background_label_id="0" top_k="3" variance_encoded_in_target="false" keep_top_k="2" code_type="caffe.PriorBoxParameter.CENTER_SIZE" share_location="true" nms_threshold="0.5" confidence_threshold="0.1" clip_after_nms="false" clip_before_nms="false" decrease_label_id="false" normalized="true" input_height="1" input_width="1" objectness_score="0""#;
    let boxes = In::X(&[1, 8], &[0.0; 8]);
    let scores = In::X(&[1, 4], &[0.2, 0.8, 0.3, 0.7]);
    let priors: &[f32] = &[0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.9, 0.9, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2];
    let inputs = [boxes, scores, In::F(&[1, 2, 8], priors)];
    let expected = [0.0, 1.0, 0.8, 0.1, 0.1, 0.3, 0.3, 0.0, 1.0, 0.7, 0.5, 0.5, 0.9, 0.9];
    gives("opset8", "DetectionOutput", data, &inputs, &[1, 1, 2, 7], &expected);
    gives(
        "opset1",
        "DetectionOutput",
        &format!(r#"{data} num_classes="2""#),
        &inputs,
        &[1, 1, 2, 7],
        &expected,
    );
    let on = |from: &str, to: &str| refused("opset8", "DetectionOutput", &data.replace(from, to), &inputs);
    assert!(on("CENTER_SIZE", "CORNER").contains("CORNER"));
    assert!(on(r#"share_location="true""#, r#"share_location="false""#).contains("share_location"));
    assert!(on(r#"normalized="true""#, "").contains("normalized"));
    assert!(on(r#"nms_threshold="0.5""#, r#"nms_threshold="nan""#).contains("threshold"));
    let all = refused("opset1", "DetectionOutput", &format!(r#"{data} num_classes="3""#), &inputs);
    assert!(all.contains("confidences"));
}

#[test]
fn ports_are_called_by_their_tensors() {
    let mut ir = Ir::default();
    let x = ir.parameter(&[1, 2]);
    let made = ir.layer("ReLU", "opset1", "", &[(x, 0)], 1);
    ir.result(made, 0);
    let named = |xml: &str| {
        let graph = import(xml, &ir.bin, &[("l0", &[3, 2])]).unwrap();
        assert_eq!(graph.tensor(graph.outputs[0]).shape, [3, 2]);
        let name = |id: crate::graph::TensorId| graph.tensor(id).name.clone();
        (name(graph.inputs[0]), name(graph.outputs[0]))
    };
    let xml = ir.xml();
    assert_eq!(named(&xml), ("t0.0".into(), "t1.0".into()));
    assert_eq!(named(&xml.replace(r#" names="t1.0""#, "")), ("t0.0".into(), "l1".into()));
    let several = xml.replace("t1.0", "other,prob").replace(r#"name="l2""#, r#"name="prob/sink_port_0""#);
    assert_eq!(named(&several), ("t0.0".into(), "prob".into()));
    let open = xml.replace(r#"shape="1,2""#, r#"shape="?,2""#);
    assert_eq!(named(&open), ("t0.0".into(), "t1.0".into()));
    let error = import(&open, &ir.bin, &[]).unwrap_err();
    assert_eq!(error.to_string(), r#"input "t0.0" has no fixed shape: give dimension 0"#);
    assert!(matches!(import(&xml, &ir.bin, &[("l0", &[1])]), Err(ImportError::Shape { .. })));
    assert!(matches!(import(&xml, &ir.bin, &[("z", &[1])]), Err(ImportError::Shape { .. })));
    assert!(import(&xml.replace(r#"version="11""#, r#"version="10""#), &ir.bin, &[]).is_ok());
    assert!(import(&xml.replace(r#"version="11""#, r#"version="7""#), &ir.bin, &[]).is_err());
}

#[test]
fn what_is_not_supported_is_named() {
    let reason = refused("opset1", "Mish", "", &[X]);
    assert_eq!(reason, r#"node "l1" (Mish) is not supported: the operator is not known"#);
    assert!(refused("extension", "ReLU", "", &[X]).contains("operation set"));
    assert!(refused("opset1", "ReLU", r#"colour="red""#, &[X]).contains(r#"attribute "colour""#));
    assert!(refused("opset1", "Clamp", r#"min="one" max="2""#, &[X]).contains(r#"cannot be "one""#));
    assert!(refused("opset1", "Clamp", r#"min="2" max="1""#, &[X]).contains("bounds"));
    assert!(refused("opset1", "Clamp", r#"min="2""#, &[X]).contains("missing"));
    assert!(refused("opset1", "Convert", r#"destination_type="i64""#, &[X]).contains("depend on the input"));
    let (ir, _) = single("opset1", "ReLU", "", &[X], 1);
    let bytes = ir.xml().replace(r#"element_type="f32""#, r#"element_type="u8""#);
    assert!(import(&bytes, &ir.bin, &[]).unwrap_err().to_string().contains("an input of"));
}
