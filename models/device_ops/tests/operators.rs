//! Operators one by one, and blocks as networks have them.

use proptest::prelude::*;

use super::{Sketch, check, check_with, made_by, window};
use crate::device::Precision;
use crate::device_ops::OnDevice;
use crate::graph::{
    Binary, DetectionOutput, Op, PriorBoxClustered, Reduction, Sampling, TensorId, Unary, Window,
};

const ONE_SIDED: Window =
    Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], before: [0, 0], after: [1, 1] };
const UNEVEN: Window =
    Window { kernel: [3, 2], stride: [1, 2], dilation: [2, 3], before: [2, 1], after: [3, 2] };

#[test]
fn convolutions() {
    for (c, made, h, w, window, groups) in [
        (3, 16, 11, 29, window(3, 2, 1), 1),
        (3, 8, 17, 20, window(7, 2, 3), 1),
        (12, 16, 9, 13, window(3, 1, 1), 1),
        (32, 8, 10, 27, window(1, 1, 0), 1),
        (16, 24, 1, 1, window(1, 1, 0), 1),
        (16, 24, 3, 3, window(3, 1, 0), 1),
        (40, 24, 8, 9, window(1, 2, 0), 1),
        (16, 16, 12, 14, ONE_SIDED, 1),
        (16, 5, 12, 14, UNEVEN, 1),
        (1, 4, 5, 5, window(1, 1, 0), 1),
        (8, 8, 9, 9, window(3, 1, 1), 8),
        (33, 33, 7, 5, window(5, 1, 2), 33),
        (40, 40, 8, 8, window(8, 1, 0), 40),
        (6, 12, 9, 11, window(3, 2, 1), 6),
        (32, 64, 9, 9, window(3, 1, 1), 4),
        (16, 16, 12, 14, UNEVEN, 16),
    ] {
        let (mut sketch, x) = Sketch::new(&[1, c, h, w]);
        let plain = sketch.conv(x, made, window, groups);
        let followed = sketch.conv(x, made, window, groups);
        let followed = sketch.same(Op::Unary(Unary::LeakyRelu(0.1)), &[followed]);
        check(&sketch.finish(&[plain, followed]));
    }
}

/// A graph whose own batch is not 1: pictures of the batch come on top of it.
#[test]
fn a_graph_with_a_batch_of_its_own() {
    let (mut sketch, x) = Sketch::new(&[2, 6, 5, 7]);
    let y = sketch.conv(x, 8, window(3, 1, 1), 1);
    let z = sketch.conv(y, 8, window(3, 1, 1), 8);
    let slopes = sketch.constant(&[8]);
    let z = sketch.same(Op::PRelu, &[z, slopes]);
    let z = sketch.node(Op::MaxPool(window(2, 2, 0)), &[z], &[2, 8, 2, 3]);
    check(&sketch.finish(&[y, z]));
}

#[test]
fn activations() {
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
        let (mut sketch, x) = Sketch::new(&[1, 19, 5, 23]);
        let picture = sketch.same(Op::Unary(act), &[x]);
        let y = sketch.conv(x, 19, window(3, 1, 1), 19);
        let fused = sketch.same(Op::Unary(act), &[y]);
        let rows = sketch.node(Op::Reshape, &[x], &[19 * 5, 23]);
        let rows = sketch.same(Op::Unary(act), &[rows]);
        let flat = sketch.node(Op::Reshape, &[x], &[19 * 5 * 23]);
        let flat = sketch.same(Op::Unary(act), &[flat]);
        check(&sketch.finish(&[picture, fused, rows, flat]));
    }
    for act in [Unary::Sqrt, Unary::Log] {
        let (mut sketch, x) = Sketch::new(&[1, 4, 5, 5]);
        let y = sketch.same(Op::Unary(Unary::Exp), &[x]);
        let y = sketch.same(Op::Unary(act), &[y]);
        check(&sketch.finish(&[y]));
    }
}

#[test]
fn slopes_scales_and_normalisation_of_any_rank() {
    for shape in [&[1, 6, 4, 5][..], &[1, 6], &[1, 6, 9], &[3, 6, 2, 2]] {
        let (mut sketch, x) = Sketch::new(shape);
        let slopes = sketch.constant(&[6]);
        let one = sketch.constant(&[]);
        let [scale, shift, mean] = [0; 3].map(|_| sketch.constant(&[6]));
        let variance = sketch.values(&[6], &[0.5, 1.0, 0.7, 2.0, 1.5, 0.9]);
        let a = sketch.same(Op::PRelu, &[x, slopes]);
        let b = sketch.same(Op::PRelu, &[x, one]);
        let c = sketch.same(Op::BatchNorm { epsilon: 1e-3 }, &[x, scale, shift, mean, variance]);
        check(&sketch.finish(&[a, b, c]));
    }
}

#[test]
fn arithmetic_with_broadcasting() {
    for how in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Pow] {
        let (mut sketch, x) = Sketch::new(&[1, 4, 3, 5]);
        // Away from zero: quotients and powers of small numbers say little.
        let positive = sketch.same(Op::Unary(Unary::Exp), &[x]);
        let gate = sketch.node(
            Op::Reduce { how: Reduction::Mean, axes: vec![2, 3], keep: true },
            &[positive],
            &[1, 4, 1, 1],
        );
        let row =
            sketch.node(Op::Slice { begin: vec![0, 1, 2, 0], step: vec![1; 4] }, &[positive], &[1, 1, 1, 5]);
        let row = sketch.node(Op::Reshape, &[row], &[5]);
        let scalar = sketch.values(&[], &[1.5]);
        let channels = sketch.values(&[4, 1, 1], &[1.5, 0.5, 2.0, 1.0]);
        let full = sketch.same(Op::Unary(Unary::Sigmoid), &[x]);
        let full = sketch.same(Op::Unary(Unary::Exp), &[full]);
        let mut outputs = Vec::new();
        for other in [gate, row, scalar, channels, full] {
            outputs.push(sketch.node(Op::Binary(how), &[positive, other], &[1, 4, 3, 5]));
            outputs.push(sketch.node(Op::Binary(how), &[other, positive], &[1, 4, 3, 5]));
        }
        let flat = sketch.node(Op::Reshape, &[positive], &[12, 5]);
        outputs.push(sketch.node(Op::Binary(how), &[flat, row], &[12, 5]));
        outputs.push(sketch.same(Op::Binary(how), &[flat, flat]));
        check(&sketch.finish(&outputs));
    }
    // A whole power of a negative number is no logarithm's business.
    let (mut sketch, x) = Sketch::new(&[1, 8]);
    let two = sketch.values(&[], &[2.0]);
    let many = sketch.values(&[8], &[1.0, 2.0, 3.0, 2.0, 1.0, 0.0, 2.0, 3.0]);
    let a = sketch.same(Op::Binary(Binary::Pow), &[x, two]);
    let b = sketch.same(Op::Binary(Binary::Pow), &[x, many]);
    check(&sketch.finish(&[a, b]));
}

#[test]
fn pools() {
    for w in [
        window(2, 2, 0),
        window(3, 2, 1),
        window(5, 1, 2),
        ONE_SIDED,
        Window { kernel: [2, 2], stride: [1, 1], dilation: [3, 3], before: [1, 1], after: [1, 1] },
        Window { kernel: [11, 13], stride: [1, 1], dilation: [1, 1], before: [0, 0], after: [0, 0] },
    ] {
        let (mut sketch, x) = Sketch::new(&[1, 20, 11, 13]);
        let [h, v] = made_by(&w, [11, 13]);
        let shape = [1, 20, h, v];
        let a = sketch.node(Op::MaxPool(w), &[x], &shape);
        let b = sketch.node(Op::AvgPool { window: w, count_padding: true }, &[x], &shape);
        let c = sketch.node(Op::AvgPool { window: w, count_padding: false }, &[x], &shape);
        check(&sketch.finish(&[a, b, c]));
    }
}

#[test]
fn reductions_and_normalisation() {
    let shape = [1usize, 4, 6, 5];
    for axes in [vec![2, 3], vec![1], vec![3], vec![0, 2], vec![1, 2, 3], vec![0, 1, 2, 3]] {
        let (mut sketch, x) = Sketch::new(&shape);
        let mut outputs: Vec<TensorId> = Vec::new();
        let kept: Vec<usize> = (0..4).map(|i| if axes.contains(&i) { 1 } else { shape[i] }).collect();
        let gone: Vec<usize> = (0..4).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
        for how in [Reduction::Mean, Reduction::Sum, Reduction::Max, Reduction::Min] {
            outputs.push(sketch.node(Op::Reduce { how, axes: axes.clone(), keep: true }, &[x], &kept));
            outputs.push(sketch.node(Op::Reduce { how, axes: axes.clone(), keep: false }, &[x], &gone));
        }
        for (normalize_variance, inside) in [(true, true), (true, false), (false, true)] {
            let op = Op::Mvn { axes: axes.clone(), normalize_variance, epsilon: 1e-3, inside };
            outputs.push(sketch.same(op, &[x]));
        }
        check(&sketch.finish(&outputs));
    }
}

#[test]
fn softmax_along_every_axis() {
    let (mut sketch, x) = Sketch::new(&[2, 4, 6, 5]);
    let outputs: Vec<TensorId> = (0..4).map(|axis| sketch.same(Op::Softmax { axis }, &[x])).collect();
    check(&sketch.finish(&outputs));
}

#[test]
fn products_of_matrices() {
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        let op = Op::MatMul { transpose_a, transpose_b };
        let (mut sketch, x) = Sketch::new(&[2, 3, 4, 6]);
        let (rows, inner) = if transpose_a { (6, 4) } else { (4, 6) };
        let side = |lead: &[usize]| {
            let last = if transpose_b { [5, inner] } else { [inner, 5] };
            [lead, &last].concat()
        };
        let mut outputs = Vec::new();
        // One matrix for all, one for each of the last leading dimension, as many as there are.
        for lead in [&[][..], &[3], &[2, 3], &[2, 1]] {
            let weights = sketch.constant(&side(lead));
            outputs.push(sketch.node(op.clone(), &[x, weights], &[2, 3, rows, 5]));
        }
        // Both depend on the picture.
        let other = sketch.node(Op::Slice { begin: vec![0; 4], step: vec![1; 4] }, &[x], &[2, 1, 4, 5]);
        let other = sketch.node(Op::Pad { before: vec![0; 4], value: 0.5 }, &[other], &[2, 1, 6, 5]);
        let other =
            sketch.node(Op::Slice { begin: vec![0; 4], step: vec![1; 4] }, &[other], &[2, 1, inner, 5]);
        let other = if transpose_b {
            sketch.node(Op::Transpose { order: vec![0, 1, 3, 2] }, &[other], &[2, 1, 5, inner])
        } else {
            other
        };
        outputs.push(sketch.node(op.clone(), &[x, other], &[2, 3, rows, 5]));
        // A constant times something that depends on the picture.
        let left = sketch.constant(if transpose_a { &[3, 7] } else { &[7, 3] });
        let narrow = sketch.node(Op::Slice { begin: vec![0; 4], step: vec![1; 4] }, &[x], &[2, 3, 3, 5]);
        let narrow = if transpose_b {
            sketch.node(Op::Transpose { order: vec![0, 1, 3, 2] }, &[narrow], &[2, 3, 5, 3])
        } else {
            narrow
        };
        outputs.push(sketch.node(op, &[left, narrow], &[2, 3, 7, 5]));
        check(&sketch.finish(&outputs));
    }
}

#[test]
fn movement() {
    let (mut sketch, x) = Sketch::new(&[1, 4, 6, 5]);
    let mut outputs = Vec::new();
    let slice = |begin: [usize; 4], step: [isize; 4]| Op::Slice { begin: begin.into(), step: step.into() };
    outputs.push(sketch.node(slice([0, 1, 2, 0], [1, 1, 1, 1]), &[x], &[1, 2, 3, 5]));
    outputs.push(sketch.node(slice([0, 3, 1, 4], [1, -1, 2, -2]), &[x], &[1, 4, 3, 3]));
    outputs.push(sketch.node(Op::Transpose { order: vec![0, 2, 3, 1] }, &[x], &[1, 6, 5, 4]));
    outputs.push(sketch.node(Op::Transpose { order: vec![3, 2, 0, 1] }, &[x], &[5, 6, 1, 4]));
    let flat = sketch.node(Op::Reshape, &[x], &[20, 6]);
    outputs.push(flat);
    let rows = sketch.integers(&[3, 0, -1, 3]);
    outputs.push(sketch.node(Op::Gather { axis: 1 }, &[x, rows], &[1, 4, 6, 5]));
    outputs.push(sketch.node(Op::Gather { axis: 0 }, &[flat, rows], &[4, 6]));
    let row = sketch.node(slice([0, 0, 2, 0], [1; 4]), &[x], &[1, 4, 1, 5]);
    outputs.push(sketch.node(Op::Broadcast, &[row], &[3, 4, 2, 5]));
    let short = sketch.node(Op::Reshape, &[row], &[4, 5]);
    outputs.push(sketch.node(Op::Broadcast, &[short], &[2, 1, 4, 5]));
    outputs.push(sketch.node(Op::Pad { before: vec![0, 1, 0, 2], value: -0.75 }, &[x], &[1, 5, 9, 8]));
    outputs.push(sketch.node(Op::Pad { before: vec![1, 0], value: 0.0 }, &[flat], &[22, 6]));
    let constant = sketch.constant(&[1, 2, 6, 5]);
    outputs.push(sketch.node(Op::Concat { axis: 1 }, &[x, constant, x], &[1, 10, 6, 5]));
    outputs.push(sketch.node(Op::Concat { axis: 3 }, &[x, x], &[1, 4, 6, 10]));
    // The same values as an output twice, and the input itself.
    outputs.extend([flat, x]);
    check(&sketch.finish(&outputs));
}

#[test]
fn sizes() {
    for (sampling, h, w) in [
        (Sampling::NearestAsymmetric, 14, 10),
        (Sampling::NearestAsymmetric, 3, 13),
        (Sampling::LinearHalfPixel, 14, 10),
        (Sampling::LinearHalfPixel, 4, 13),
        (Sampling::LinearAlignCorners, 13, 5),
        (Sampling::LinearAlignCorners, 1, 9),
    ] {
        let (mut sketch, x) = Sketch::new(&[1, 3, 7, 5]);
        let y = sketch.node(Op::Resize(sampling), &[x], &[1, 3, h, w]);
        check(&sketch.finish(&[y]));
    }
}

/// In f16 a value beside the border of a step may fall to its other side: one step is allowed there.
#[test]
fn steps_of_quantised_networks() {
    let (mut sketch, x) = Sketch::new(&[1, 3, 6, 5]);
    let one = [-0.5, 0.75, -0.4, 0.8].map(|value| sketch.values(&[1, 1, 1, 1], &[value]));
    let many = [[-0.5, -0.2, -0.9], [0.75, 0.6, 0.4], [-0.4, -0.1, -0.8], [0.8, 0.7, 0.9]]
        .map(|values| sketch.values(&[1, 3, 1, 1], &values));
    let op = Op::FakeQuantize { levels: 17 };
    let a = sketch.same(op.clone(), &[x, one[0], one[1], one[2], one[3]]);
    let b = sketch.same(op.clone(), &[x, many[0], many[1], many[2], many[3]]);
    let rows = sketch.node(Op::Reshape, &[x], &[18, 5]);
    let row = [-0.5, 0.75, -0.4, 0.8].map(|value| sketch.values(&[1], &[value]));
    let c = sketch.same(op.clone(), &[rows, row[0], row[1], row[2], row[3]]);
    // Low above high: work for the host.
    let d = sketch.same(op, &[x, one[1], one[0], one[2], one[3]]);
    check_with(&sketch.finish(&[a, b, c, d]), 2e-5, 0.12);
}

/// The head of an SSD: boxes and scores of two levels, priors, and the list of detections, which stays in f32.
#[test]
fn detections() {
    let (mut sketch, x) = Sketch::new(&[1, 8, 4, 6]);
    let (boxes, scores) = (sketch.conv(x, 4, window(3, 1, 1), 1), sketch.conv(x, 2, window(1, 1, 0), 1));
    let rows = |sketch: &mut Sketch, t: TensorId, of: usize| {
        let last = sketch.node(Op::Transpose { order: vec![0, 2, 3, 1] }, &[t], &[1, 4, 6, of]);
        sketch.node(Op::Reshape, &[last], &[1, 24 * of])
    };
    let boxes = rows(&mut sketch, boxes, 4);
    let scores = sketch.node(Op::Reshape, &[scores], &[1, 2, 24]);
    let scores = sketch.node(Op::Transpose { order: vec![0, 2, 1] }, &[scores], &[1, 24, 2]);
    let scores = sketch.same(Op::Softmax { axis: 2 }, &[scores]);
    let scores = sketch.node(Op::Reshape, &[scores], &[1, 48]);
    let (layer, image) = (sketch.integers(&[4, 6]), sketch.integers(&[64, 96]));
    let prior = PriorBoxClustered {
        widths: vec![20.0],
        heights: vec![30.0],
        step: [16.0, 16.0],
        offset: 0.5,
        variances: vec![0.1, 0.1, 0.2, 0.2],
        clip: false,
    };
    let priors = sketch.node(Op::PriorBoxClustered(prior), &[layer, image], &[2, 96]);
    let priors = sketch.node(Op::Reshape, &[priors], &[1, 2, 96]);
    let op = DetectionOutput {
        classes: 2,
        background: Some(0),
        top_k: 100,
        keep_top_k: 10,
        confidence: 0.3,
        nms: 0.45,
        variance_encoded: false,
        clip_before: false,
        clip_after: true,
    };
    let list = sketch.node(Op::DetectionOutput(op), &[boxes, scores, priors], &[1, 1, 10, 7]);
    // Detections of like scores change places when scores are rounded, so f16 is only seen to run here; the real
    // networks show how near its numbers are.
    check_with(&sketch.finish(&[list]), 1e-4, f32::INFINITY);
}

/// Residual, gate by computed values, more stages than one pass takes: as networks have them.
#[test]
fn a_block_with_everything() {
    for (c, h, w) in [(24, 10, 17), (64, 3, 3), (1, 5, 4)] {
        let (mut sketch, input) = Sketch::new(&[1, 3, h, w]);
        let scale = sketch.constant(&[1, 3, 1, 1]);
        let shift = sketch.constant(&[1, 3, 1, 1]);
        let x = sketch.same(Op::Binary(Binary::Mul), &[input, scale]);
        let x = sketch.same(Op::Binary(Binary::Add), &[x, shift]);
        let x = sketch.conv(x, c, window(3, 1, 1), 1);
        let slopes = sketch.constant(&[c]);
        let x = sketch.same(Op::PRelu, &[x, slopes]);
        let y = sketch.conv(x, c, window(3, 1, 1), c);
        let y = sketch.same(Op::Unary(Unary::Silu), &[y]);
        let y = sketch.conv(y, c, window(1, 1, 0), 1);
        let mean = Op::Reduce { how: Reduction::Mean, axes: vec![2, 3], keep: true };
        let mean = sketch.node(mean, &[y], &[1, c, 1, 1]);
        let gate = sketch.conv(mean, 8, window(1, 1, 0), 1);
        let gate = sketch.same(Op::Unary(Unary::Relu), &[gate]);
        let gate = sketch.conv(gate, c, window(1, 1, 0), 1);
        let gate = sketch.same(Op::Unary(Unary::Sigmoid), &[gate]);
        let y = sketch.same(Op::Binary(Binary::Mul), &[y, gate]);
        let y = sketch.same(Op::Binary(Binary::Add), &[y, gate]);
        let y = sketch.same(Op::Binary(Binary::Add), &[x, y]);
        let y = sketch.same(Op::Binary(Binary::Sub), &[x, y]);
        let mut y = sketch.same(Op::Binary(Binary::Mul), &[y, x]);
        for _ in 0..8 {
            let shift = sketch.constant(&[1, c, 1, 1]);
            y = sketch.same(Op::Binary(Binary::Add), &[y, shift]);
            y = sketch.same(Op::Unary(Unary::Tanh), &[y]);
        }
        check(&sketch.finish(&[y]));
    }
}

#[test]
fn refuses_what_it_cannot_compute() {
    let device = candle_core::Device::Cpu;
    let (mut sketch, x) = Sketch::new(&[1, 4]);
    let y = sketch.same(Op::Unary(Unary::Relu), &[x]);
    let mut graph = sketch.finish(&[y]);
    graph.inputs.push(x);
    assert!(OnDevice::load(graph.clone(), &device, Precision::F32).is_err());
    graph.inputs.clear();
    assert!(OnDevice::load(graph, &device, Precision::F32).is_err());
    // An index outside is known when the network is loaded.
    let (mut sketch, x) = Sketch::new(&[1, 4]);
    let rows = sketch.integers(&[4]);
    let y = sketch.node(Op::Gather { axis: 1 }, &[x, rows], &[1, 1]);
    assert!(OnDevice::load(sketch.finish(&[y]), &device, Precision::F32).is_err());
}

/// A tensor of another size than a stage reads is an error, not a read beyond its end.
#[test]
fn programs_check_what_they_read() {
    use crate::device_ops::program::{Code, Program, Stage};
    use candle_core::{DType, Device, Tensor};
    let x = Tensor::zeros((2, 3, 4), DType::F32, &Device::Cpu).unwrap();
    for (code, right) in
        [(Code::Shift, 3), (Code::PRelu, 3), (Code::Add, 24), (Code::SubFrom, 24), (Code::ScaleBy, 6)]
    {
        for len in [right - 1, right, right + 1] {
            let read = Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap();
            let stages = vec![Stage::with(code, Some(read))];
            let program = Program { stages, channels: 3, inner: 4 };
            assert_eq!(x.apply_op1_no_bwd(&program).is_ok(), len == right, "{code:?} {len}");
        }
    }
    let missing = Program { stages: vec![Stage::with(Code::Add, None)], channels: 3, inner: 4 };
    assert!(x.apply_op1_no_bwd(&missing).is_err());
    let other_size = Program { stages: Vec::new(), channels: 5, inner: 4 };
    assert!(x.apply_op1_no_bwd(&other_size).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_chain_of_convolutions(
        c in 1usize..20, h in 1usize..16, w in 1usize..20,
        layers in prop::collection::vec((1usize..24, 1usize..4, 1usize..3, any::<bool>(), any::<bool>()), 1..5),
    ) {
        let (mut sketch, mut x) = Sketch::new(&[1, c, h, w]);
        for (made, kernel, stride, depthwise, residual) in layers {
            let shape = sketch.shape(x);
            let layer = window(kernel, stride, kernel / 2);
            let y = if depthwise {
                sketch.conv(x, shape[1], layer, shape[1])
            } else {
                sketch.conv(x, made, layer, 1)
            };
            x = if residual && sketch.shape(y) == shape { sketch.same(Op::Binary(Binary::Add), &[y, x]) } else { y };
            x = sketch.same(Op::Unary(Unary::Clamp(-2.0, 2.0)), &[x]);
        }
        check(&sketch.finish(&[x]));
    }
}
