//! Graphs with random weights, computed by every instruction set that this processor has and by the plain reference.

use proptest::prelude::*;

use super::lanes::Isa;
use super::plan::Plan;
use crate::graph::{
    Binary, Data, DetectionOutput, Graph, Kind, Node, Op, Reduction, Sampling, Tensor, TensorId, Unary,
    Window, reference,
};

/// Makes graphs; its random numbers are the same in every run.
pub struct Sketch {
    graph: Graph,
    seed: u64,
}

impl Sketch {
    pub fn new(c: usize, h: usize, w: usize) -> (Self, TensorId) {
        let mut sketch = Self { graph: Graph::default(), seed: 0x9e37_79b9_7f4a_7c15 };
        let input = sketch.tensor(vec![1, c, h, w], None);
        sketch.graph.inputs.push(input);
        (sketch, input)
    }

    fn random(&mut self) -> f32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, shape: Vec<usize>, value: Option<Data>) -> TensorId {
        let id = TensorId(self.graph.tensors.len());
        self.graph.tensors.push(Tensor { name: format!("t{}", id.0), shape, kind: Kind::F32, value });
        id
    }

    pub fn constant(&mut self, shape: Vec<usize>) -> TensorId {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|_| self.random()).collect();
        self.tensor(shape, Some(Data::F32(values.into())))
    }

    pub fn shape(&self, id: TensorId) -> Vec<usize> {
        self.graph.tensor(id).shape.clone()
    }

    pub fn node(&mut self, op: Op, inputs: Vec<TensorId>, shape: Vec<usize>) -> TensorId {
        let output = self.tensor(shape, None);
        self.graph.nodes.push(Node { name: format!("n{}", output.0), op, inputs, output });
        output
    }

    pub fn conv(&mut self, x: TensorId, outputs: usize, window: Window, groups: usize) -> TensorId {
        let shape = self.shape(x);
        let [kh, kw] = window.kernel;
        let weights = self.constant(vec![outputs, shape[1] / groups, kh, kw]);
        let bias = self.constant(vec![outputs]);
        let (h, w) = out(&window, shape[2], shape[3]);
        self.node(Op::Conv { window, groups }, vec![x, weights, bias], vec![1, outputs, h, w])
    }

    pub fn unary(&mut self, act: Unary, x: TensorId) -> TensorId {
        let shape = self.shape(x);
        self.node(Op::Unary(act), vec![x], shape)
    }

    pub fn binary(&mut self, op: Binary, a: TensorId, b: TensorId) -> TensorId {
        let shape = self.shape(a);
        self.node(Op::Binary(op), vec![a, b], shape)
    }

    pub fn finish(mut self, outputs: &[TensorId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

pub fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        before: [padding; 2],
        after: [padding; 2],
    }
}

fn out(window: &Window, h: usize, w: usize) -> (usize, usize) {
    let one = |axis: usize, size: usize| {
        let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        (size + window.before[axis] + window.after[axis] - reach) / window.stride[axis] + 1
    };
    (one(0, h), one(1, w))
}

/// Runs the graph with every instruction set, twice (memory is used again), and compares with the reference.
pub fn check(graph: &Graph) {
    let len = graph.tensor(graph.inputs[0]).len();
    let mut seed = 12345u32;
    let mut input = vec![0.0f32; len];
    for value in &mut input {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    let expected: Vec<f32> = reference::run(graph, &[&input]).unwrap().concat();
    let scale = expected.iter().fold(1.0f32, |most, v| most.max(v.abs()));
    for isa in Isa::available() {
        let mut plan = Plan::new(graph.clone(), isa).unwrap();
        let mut outputs = vec![f32::NAN; plan.output_len()];
        for _ in 0..2 {
            plan.run(&input, &mut outputs);
            for (i, (got, want)) in outputs.iter().zip(&expected).enumerate() {
                let off = (got - want).abs();
                assert!(off <= 2e-5 * scale + 1e-5, "{isa:?}, value {i}: {got} instead of {want}");
            }
        }
    }
}

#[test]
fn convolutions_of_all_kinds() {
    for (c, outputs, h, w, kernel, stride, padding) in [
        (3, 32, 11, 29, 3, 2, 1),
        (3, 16, 17, 40, 7, 2, 3),
        (12, 16, 9, 13, 3, 1, 1),
        (32, 8, 10, 27, 1, 1, 0),
        (8, 32, 10, 15, 1, 1, 0),
        (48, 64, 6, 6, 3, 1, 1),
        (64, 48, 5, 31, 1, 1, 0),
        (20, 33, 7, 1, 3, 1, 1),
        (16, 16, 1, 1, 1, 1, 0),
        (17, 50, 9, 9, 3, 2, 0),
        (16, 16, 13, 13, 3, 3, 1),
        (3, 5, 13, 13, 5, 3, 2),
        (40, 24, 8, 9, 1, 2, 0),
    ] {
        let (mut sketch, x) = Sketch::new(c, h, w);
        let y = sketch.conv(x, outputs, window(kernel, stride, padding), 1);
        check(&sketch.finish(&[y]));
    }
}

#[test]
fn every_width_of_tile() {
    for w in 1..=33 {
        let (mut sketch, x) = Sketch::new(16, 3, w);
        let x = sketch.unary(Unary::Relu, x);
        let y = sketch.conv(x, 48, window(3, 1, 1), 1);
        let z = sketch.conv(y, 16, window(3, 2, 1), 1);
        check(&sketch.finish(&[z]));
    }
}

#[test]
fn depthwise_and_grouped() {
    for (c, h, w, kernel, stride, padding) in [
        (8, 9, 9, 3, 1, 1),
        (16, 9, 40, 3, 2, 1),
        (40, 8, 8, 8, 1, 0),
        (33, 7, 5, 5, 1, 2),
        (64, 6, 4, 6, 2, 3),
    ] {
        let (mut sketch, x) = Sketch::new(c, h, w);
        let y = sketch.conv(x, c, window(kernel, stride, padding), c);
        let y = sketch.unary(Unary::Relu, y);
        check(&sketch.finish(&[y]));
    }
    let (mut sketch, x) = Sketch::new(32, 9, 9);
    let y = sketch.conv(x, 64, window(3, 1, 1), 4);
    check(&sketch.finish(&[y]));
}

#[test]
fn dilation_and_one_sided_padding() {
    let (mut sketch, x) = Sketch::new(16, 12, 14);
    let one_sided =
        Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], before: [0, 0], after: [1, 1] };
    let y = sketch.conv(x, 16, one_sided, 1);
    let wide = Window { kernel: [3, 2], stride: [1, 1], dilation: [2, 3], before: [2, 1], after: [2, 2] };
    let z = sketch.conv(y, 16, wide, 16);
    check(&sketch.finish(&[z]));
}

#[test]
fn every_activation() {
    for act in [
        Unary::Relu,
        Unary::LeakyRelu(0.1),
        Unary::Sigmoid,
        Unary::Silu,
        Unary::HardSwish,
        Unary::HardSigmoid(0.2, 0.5),
        Unary::Clamp(-0.3, 0.7),
        Unary::Exp,
        Unary::Tanh,
        Unary::Neg,
        Unary::Abs,
        Unary::Elu(0.7),
    ] {
        let (mut sketch, x) = Sketch::new(19, 5, 23);
        let y = sketch.conv(x, 35, window(1, 1, 0), 1);
        let y = sketch.unary(act, y);
        let z = sketch.unary(act, y);
        check(&sketch.finish(&[y, z]));
    }
    for act in [Unary::Sqrt, Unary::Log] {
        let (mut sketch, x) = Sketch::new(4, 5, 5);
        let y = sketch.unary(Unary::Exp, x);
        let y = sketch.unary(act, y);
        check(&sketch.finish(&[y]));
    }
}

/// Residual, gate by computed values, PReLU, constants before and after, normalisation: as the networks use them.
#[test]
fn a_block_with_everything() {
    for (c, h, w) in [(24, 10, 17), (64, 3, 3), (16, 150, 140)] {
        let (mut sketch, input) = Sketch::new(3, h, w);
        let scale = sketch.constant(vec![1, 3, 1, 1]);
        let shift = sketch.constant(vec![1, 3, 1, 1]);
        let x = sketch.binary(Binary::Mul, input, scale);
        let x = sketch.binary(Binary::Add, x, shift);
        let x = sketch.conv(x, c, window(3, 1, 1), 1);
        let slopes = sketch.constant(vec![c]);
        let shape = sketch.shape(x);
        let x = sketch.node(Op::PRelu, vec![x, slopes], shape.clone());
        let y = sketch.conv(x, c, window(3, 1, 1), c);
        let norm = (0..3).map(|_| sketch.constant(vec![c])).collect::<Vec<_>>();
        let variance = sketch.constant(vec![c]);
        let variance = sketch.tensor(vec![c], {
            let values: Vec<f32> =
                sketch.graph.constant(variance).unwrap().iter().map(|v| v.abs() + 0.5).collect();
            Some(Data::F32(values.into()))
        });
        let y = sketch.node(
            Op::BatchNorm { epsilon: 1e-3 },
            vec![y, norm[0], norm[1], norm[2], variance],
            shape.clone(),
        );
        let y = sketch.unary(Unary::Silu, y);
        let y = sketch.conv(y, c, window(1, 1, 0), 1);
        let mean = sketch.node(
            Op::Reduce { how: Reduction::Mean, axes: vec![2, 3], keep: true },
            vec![y],
            vec![1, c, 1, 1],
        );
        let gate = sketch.conv(mean, 8, window(1, 1, 0), 1);
        let gate = sketch.unary(Unary::Relu, gate);
        let gate = sketch.conv(gate, c, window(1, 1, 0), 1);
        let gate = sketch.unary(Unary::Sigmoid, gate);
        let y = sketch.binary(Binary::Mul, y, gate);
        let y = sketch.binary(Binary::Add, x, y);
        let slopes = sketch.constant(vec![c]);
        let y = sketch.node(Op::PRelu, vec![y, slopes], shape.clone());
        let z = sketch.node(
            Op::Mvn { axes: vec![2, 3], normalize_variance: true, epsilon: 1e-5, inside: true },
            vec![y],
            shape.clone(),
        );
        let minus = sketch.binary(Binary::Sub, y, z);
        let sig = sketch.unary(Unary::Sigmoid, minus);
        let silu = sketch.binary(Binary::Mul, minus, sig);
        check(&sketch.finish(&[silu]));
    }
}

/// Normalisation of the input itself with what follows it, a product with a matrix at the end.
#[test]
fn normalised_input_and_matrix() {
    for transpose_b in [false, true] {
        let (mut sketch, x) = Sketch::new(3, 20, 31);
        let norm = |x, sketch: &mut Sketch, variance| {
            let shape = sketch.shape(x);
            let op =
                Op::Mvn { axes: vec![2, 3], normalize_variance: variance, epsilon: 1e-4, inside: !variance };
            sketch.node(op, vec![x], shape)
        };
        let y = norm(x, &mut sketch, true);
        let scale = sketch.constant(vec![1, 3, 1, 1]);
        let shift = sketch.constant(vec![1, 3, 1, 1]);
        let y = sketch.binary(Binary::Mul, y, scale);
        let y = sketch.binary(Binary::Add, y, shift);
        let y = sketch.conv(y, 24, window(3, 2, 1), 1);
        let y = norm(y, &mut sketch, true);
        let y = sketch.unary(Unary::Relu, y);
        let y = norm(y, &mut sketch, false);
        let y = sketch.conv(y, 20, window(1, 1, 0), 1);
        let mean = Op::Reduce { how: Reduction::Mean, axes: vec![2, 3], keep: true };
        let y = sketch.node(mean, vec![y], vec![1, 20, 1, 1]);
        let y = sketch.node(Op::Reshape, vec![y], vec![1, 20]);
        let matrix = sketch.constant(if transpose_b { vec![7, 20] } else { vec![20, 7] });
        let y = sketch.node(Op::MatMul { transpose_a: false, transpose_b }, vec![y, matrix], vec![1, 7]);
        check(&sketch.finish(&[y]));
    }
}

/// Two branches and the picture they came from, joined; enlarged; joined again with a part that is no whole block.
#[test]
fn concatenations() {
    for last in [16, 5] {
        let (mut sketch, x) = Sketch::new(8, 12, 20);
        let a = sketch.conv(x, 32, window(3, 1, 1), 1);
        let b = sketch.conv(a, 16, window(1, 1, 0), 1);
        let c = sketch.conv(b, last, window(3, 1, 1), 1);
        let joined = sketch.node(Op::Concat { axis: 1 }, vec![a, b, c], vec![1, 48 + last, 12, 20]);
        let d = sketch.conv(joined, 32, window(3, 1, 1), 1);
        let pooled = sketch.node(Op::MaxPool(window(2, 2, 0)), vec![d], vec![1, 32, 6, 10]);
        let large = sketch.node(Op::Resize(Sampling::NearestAsymmetric), vec![pooled], vec![1, 32, 12, 20]);
        let again = sketch.node(Op::Concat { axis: 1 }, vec![large, d, b], vec![1, 80, 12, 20]);
        let e = sketch.conv(again, 7, window(3, 1, 1), 1);
        let uneven = sketch.node(Op::Concat { axis: 1 }, vec![e, e, b], vec![1, 30, 12, 20]);
        check(&sketch.finish(&[e, uneven]));
    }
}

/// Weights of 8 bits on a picture of few pixels, values rounded to steps: as quantised networks are.
#[test]
fn quantised() {
    for (c, outputs, size, kernel) in [(48, 150, 5, 3), (33, 20, 3, 3), (200, 64, 1, 1), (16, 24, 7, 3)] {
        let (mut sketch, x) = Sketch::new(c, size, size);
        let range: Vec<TensorId> =
            [0.1f32, 0.9, 0.0, 1.0].map(|v| sketch.tensor(vec![], Some(Data::F32([v].into())))).to_vec();
        let shape = sketch.shape(x);
        let inputs = [vec![x], range].concat();
        let rounded = sketch.node(Op::FakeQuantize { levels: 256 }, inputs, shape);
        let shape = vec![outputs, c, kernel, kernel];
        let scales: Vec<f32> = (0..outputs).map(|o| 0.001 * (o + 1) as f32).collect();
        let per_output = c * kernel * kernel;
        let numbers: Vec<f32> = (0..outputs * per_output)
            .map(|i| {
                let number = if i % per_output == 0 { 127.0 } else { (sketch.random() * 127.0).round() };
                number * scales[i / per_output]
            })
            .collect();
        let weights = sketch.tensor(shape, Some(Data::F32(numbers.into())));
        let bias = sketch.constant(vec![outputs]);
        let layer = window(kernel, 1, kernel / 2);
        let op = Op::Conv { window: layer, groups: 1 };
        let y = sketch.node(op, vec![rounded, weights, bias], vec![1, outputs, size, size]);
        let y = sketch.unary(Unary::Relu, y);
        check(&sketch.finish(&[y]));
    }
}

#[test]
fn pools() {
    for w in [
        window(2, 2, 0),
        window(3, 2, 1),
        window(5, 1, 2),
        Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], before: [0, 0], after: [1, 1] },
        Window { kernel: [2, 2], stride: [1, 1], dilation: [3, 3], before: [1, 1], after: [1, 1] },
    ] {
        let (mut sketch, x) = Sketch::new(20, 11, 13);
        let x = sketch.conv(x, 20, window(3, 1, 1), 1);
        let (h, v) = out(&w, 11, 13);
        let shape = vec![1, 20, h, v];
        let a = sketch.node(Op::MaxPool(w), vec![x], shape.clone());
        let b = sketch.node(Op::AvgPool { window: w, count_padding: true }, vec![x], shape.clone());
        let c = sketch.node(Op::AvgPool { window: w, count_padding: false }, vec![x], shape);
        check(&sketch.finish(&[a, b, c]));
    }
}

/// The head of an SSD and of a YOLOX: channels last, softmax, one list of all levels.
#[test]
fn heads() {
    let (mut sketch, x) = Sketch::new(16, 10, 14);
    let a = sketch.conv(x, 6, window(3, 1, 1), 1);
    let b = sketch.conv(x, 8, window(3, 2, 1), 1);
    let rows = |sketch: &mut Sketch, t: TensorId, row: usize| {
        let s = sketch.shape(t);
        let last = sketch.node(Op::Transpose { order: vec![0, 2, 3, 1] }, vec![t], vec![1, s[2], s[3], s[1]]);
        sketch.node(Op::Reshape, vec![last], vec![1, s[1] * s[2] * s[3] / row, row])
    };
    let (p, q) = (rows(&mut sketch, a, 2), rows(&mut sketch, b, 2));
    let n = sketch.shape(p)[1] + sketch.shape(q)[1];
    let all = sketch.node(Op::Concat { axis: 1 }, vec![p, q], vec![1, n, 2]);
    let soft = sketch.node(Op::Softmax { axis: 2 }, vec![all], vec![1, n, 2]);
    let one = sketch.conv(x, 4, window(1, 1, 0), 1);
    let two = sketch.conv(x, 1, window(1, 1, 0), 1);
    let two = sketch.unary(Unary::Sigmoid, two);
    let head = sketch.node(Op::Concat { axis: 1 }, vec![one, two], vec![1, 5, 10, 14]);
    let flat = sketch.node(Op::Reshape, vec![head], vec![1, 5, 140]);
    let turned = sketch.node(Op::Transpose { order: vec![0, 2, 1] }, vec![flat], vec![1, 140, 5]);
    let odd = sketch.unary(Unary::Tanh, turned);
    check(&sketch.finish(&[soft, odd]));
}

/// The head of an SSD: only boxes that can become detections are computed, and the list is the same.
#[test]
fn boxes_are_computed_where_they_are_wanted() {
    let detection = |confidence| DetectionOutput {
        classes: 3,
        background: Some(0),
        top_k: 40,
        keep_top_k: 10,
        confidence,
        nms: 0.45,
        variance_encoded: false,
        clip_before: false,
        clip_after: false,
    };
    // No pixel, some pixels, all pixels; 5 boxes of 3 classes each.
    for (confidence, h, w) in [(2.0, 7, 9), (0.9, 7, 9), (0.6, 10, 13), (0.0, 6, 5), (0.9, 1, 1)] {
        let (mut sketch, x) = Sketch::new(8, h, w);
        let x = sketch.conv(x, 24, window(3, 1, 1), 1);
        let places = sketch.conv(x, 20, window(3, 1, 1), 1);
        let certainties = sketch.conv(x, 15, window(3, 1, 1), 1);
        // Small enough that exponentials tell them apart.
        let small = sketch.tensor(vec![1], Some(Data::F32([0.02].into())));
        let places = sketch.binary(Binary::Mul, places, small);
        let certainties = sketch.binary(Binary::Mul, certainties, small);
        let last = |sketch: &mut Sketch, x: TensorId| {
            let shape = sketch.shape(x);
            let turned = Op::Transpose { order: vec![0, 2, 3, 1] };
            sketch.node(turned, vec![x], vec![1, shape[2], shape[3], shape[1]])
        };
        let places = last(&mut sketch, places);
        let places = sketch.node(Op::Reshape, vec![places], vec![1, 20 * h * w]);
        let certainties = last(&mut sketch, certainties);
        let certainties = sketch.node(Op::Reshape, vec![certainties], vec![1, 5 * h * w, 3]);
        let certainties = sketch.node(Op::Softmax { axis: 2 }, vec![certainties], vec![1, 5 * h * w, 3]);
        let certainties = sketch.node(Op::Reshape, vec![certainties], vec![1, 15 * h * w]);
        let mut priors = Vec::new();
        for n in 0..5 * h * w {
            let (x, y) = ((n / 5 % w) as f32 / w as f32, (n / 5 / w) as f32 / h as f32);
            priors.extend([x, y, x + 0.1 + 0.01 * (n % 5) as f32, y + 0.2]);
        }
        priors.extend([0.1, 0.1, 0.2, 0.2].repeat(5 * h * w));
        let priors = sketch.tensor(vec![1, 2, 20 * h * w], Some(Data::F32(priors.into())));
        let op = Op::DetectionOutput(detection(confidence));
        let list = sketch.node(op, vec![places, certainties, priors], vec![1, 1, 10, 7]);
        let graph = sketch.finish(&[list]);
        let mut plan = Plan::new(graph.clone(), Isa::best()).unwrap();
        let input = vec![0.5; plan.input_len()];
        assert!(plan.profile(&input).iter().any(|step| step.what.contains("wanted")));
        check(&graph);
    }
}

/// Every second pixel of the input in four places, as YOLOX begins.
#[test]
fn focus_becomes_one_convolution() {
    let (mut sketch, x) = Sketch::new(3, 12, 20);
    let mut parts = Vec::new();
    for dx in 0..2 {
        for dy in 0..2 {
            let rows = sketch.node(
                Op::Slice { begin: vec![0, 0, dy, 0], step: vec![1, 1, 2, 1] },
                vec![x],
                vec![1, 3, 6, 20],
            );
            parts.push(sketch.node(
                Op::Slice { begin: vec![0, 0, 0, dx], step: vec![1, 1, 1, 2] },
                vec![rows],
                vec![1, 3, 6, 10],
            ));
        }
    }
    let joined = sketch.node(Op::Concat { axis: 1 }, parts, vec![1, 12, 6, 10]);
    let y = sketch.conv(joined, 16, window(3, 1, 1), 1);
    let graph = sketch.finish(&[y]);
    assert_eq!(crate::graph::fuse::fuse(graph.clone()).nodes.len(), 1);
    check(&graph);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chain_of_convolutions(
        c in 1usize..40, h in 1usize..24, w in 1usize..40,
        layers in prop::collection::vec((1usize..50, 1usize..4, 1usize..3, any::<bool>(), any::<bool>()), 1..5),
    ) {
        let (mut sketch, mut x) = Sketch::new(c, h, w);
        for (outputs, kernel, stride, depthwise, residual) in layers {
            let shape = sketch.shape(x);
            let layer = window(kernel, stride, kernel / 2);
            let y = if depthwise {
                sketch.conv(x, shape[1], layer, shape[1])
            } else {
                sketch.conv(x, outputs, layer, 1)
            };
            x = if residual && sketch.shape(y) == shape { sketch.binary(Binary::Add, y, x) } else { y };
            x = sketch.unary(Unary::Clamp(-2.0, 2.0), x);
        }
        check(&sketch.finish(&[x]));
    }
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let (mut sketch, x) = Sketch::new(1, 1, 1);
    let wide = Window {
        kernel: [1, 1],
        stride: [20_000, 20_000],
        dilation: [1, 1],
        before: [9999; 2],
        after: [10_000; 2],
    };
    let y = sketch.conv(x, 1, wide, 1);
    let error = Plan::new(sketch.finish(&[y]), Isa::Portable).unwrap_err();
    assert!(error.to_string().contains("padding"), "{error}");
    let (mut sketch, x) = Sketch::new(1, 3000, 3000);
    let y = sketch.conv(x, 4096, window(1, 1, 0), 1);
    let error = Plan::new(sketch.finish(&[y]), Isa::Portable).unwrap_err();
    assert!(error.to_string().contains("MiB"), "{error}");
}
