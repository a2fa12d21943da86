//! Pictures made from numbers, for tests.

use meerkat_base::{Image, PixelFormat};

/// A picture of pseudo-random bytes: the upper 8 bits of a linear congruential generator.
pub(crate) fn noise(width: u32, height: u32, format: PixelFormat, seed: u32) -> Image {
    let mut state = seed;
    let len = width as usize * height as usize * format.channels();
    let data = (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Image::new(width, height, format, data).expect("the length fits")
}

/// Numbers as a broken network may give them: ordinary ones, huge ones, infinities and NaN.
pub(crate) fn odd_number() -> impl proptest::strategy::Strategy<Value = f32> {
    use proptest::prelude::*;
    prop_oneof![
        6 => -2.0f32..2.0,
        2 => 0.5f32..1.0,
        1 => -1e4f32..1e4,
        1 => prop_oneof![
            Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX), Just(-f32::MAX), Just(1e-40f32),
        ],
    ]
}

/// A box is finite, has an area and lies within the picture; the score is a certainty.
pub(crate) fn sound(bbox: &meerkat_base::Rect, score: f32, picture: (u32, u32)) -> bool {
    let meerkat_base::Rect { x, y, width, height } = *bbox;
    let slack = 1e-2;
    x >= 0.0
        && y >= 0.0
        && width > 0.0
        && height > 0.0
        && x + width <= picture.0 as f32 + slack
        && y + height <= picture.1 as f32 + slack
        && (0.0..=1.0).contains(&score)
}

/// A network whose output is `slope` times the picture's mean brightness (0..=255) plus `level`: what it says can be
/// chosen without weights.
pub(crate) fn brightness_network(
    name: &str,
    (width, height): (usize, usize),
    output: (&str, &[usize]),
    slope: &[f32],
    level: &[f32],
) -> super::network::Network {
    use crate::graph::{Binary, Data, Graph, Kind, Node, Op, Reduction, Tensor, TensorId};

    let mut graph = Graph::default();
    let mut tensor = |name: &str, shape: &[usize], value: Option<&[f32]>| {
        let value = value.map(|values| Data::F32(values.into()));
        graph.tensors.push(Tensor { name: name.into(), shape: shape.into(), kind: Kind::F32, value });
        TensorId(graph.tensors.len() - 1)
    };
    let input = tensor("picture", &[1, 3, height, width], None);
    let mean = tensor("mean", &vec![1; output.1.len()], None);
    let reduced = tensor("reduced", &[1, 1, 1, 1], None);
    let (slope, level) = (tensor("slope", output.1, Some(slope)), tensor("level", output.1, Some(level)));
    let scaled = tensor("scaled", output.1, None);
    let result = tensor(output.0, output.1, None);
    let mut node = |op, inputs: &[TensorId], output| {
        graph.nodes.push(Node {
            name: format!("node {}", graph.nodes.len()),
            op,
            inputs: inputs.into(),
            output,
        });
    };
    node(Op::Reduce { how: Reduction::Mean, axes: vec![1, 2, 3], keep: true }, &[input], reduced);
    node(Op::Reshape, &[reduced], mean);
    node(Op::Binary(Binary::Mul), &[mean, slope], scaled);
    node(Op::Binary(Binary::Add), &[scaled, level], result);
    graph.inputs = vec![input];
    graph.outputs = vec![result];
    super::network::Network::new(name, "", graph, crate::device::DeviceChoice::Cpu)
        .expect("the graph is simple")
}

/// A colour picture of fields of 4 x 4 pixels, darker and brighter than `brightness` by `contrast`.
pub(crate) fn board(width: u32, height: u32, brightness: u8, contrast: u8) -> Image {
    let data = (0..width * height)
        .flat_map(|at| {
            let is_dark = (at % width / 4 + at / width / 4).is_multiple_of(2);
            [if is_dark { brightness - contrast } else { brightness + contrast }; 3]
        })
        .collect();
    Image::new(width, height, PixelFormat::Bgr8, data).expect("the length fits")
}
