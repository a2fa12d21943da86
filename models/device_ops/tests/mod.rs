//! Every operator and whole blocks with random weights, in batches, against the plain reference: on candle's CPU device
//! always, on the first GPU where the build and the machine have one. Then the real networks.

use candle_core::Device;

use super::OnDevice;
use crate::device::Precision;
use crate::graph::{Data, Graph, Kind, Node, Op, Tensor, TensorId, Window, reference};

mod operators;
mod real;

/// Where the tests run: the CPU, and the GPU if there is one.
pub(super) fn devices() -> Vec<Device> {
    #[cfg(feature = "cuda")]
    match crate::cuda::device(0) {
        Ok(gpu) => return vec![Device::Cpu, gpu],
        Err(error) => {
            assert!(std::env::var_os("MEERKAT_REQUIRE_GPU").is_none(), "no GPU: {error}");
            eprintln!("skipped on cuda:0: {error}");
        }
    }
    vec![Device::Cpu]
}

/// Makes graphs; its random numbers are the same in every run.
pub(super) struct Sketch {
    graph: Graph,
    seed: u64,
}

impl Sketch {
    /// With an input of this shape.
    pub fn new(shape: &[usize]) -> (Self, TensorId) {
        let mut sketch = Self { graph: Graph::default(), seed: 0x9e37_79b9_7f4a_7c15 };
        let input = sketch.tensor(shape, None);
        sketch.graph.inputs.push(input);
        (sketch, input)
    }

    fn random(&mut self) -> f32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, shape: &[usize], value: Option<Data>) -> TensorId {
        let id = TensorId(self.graph.tensors.len());
        let kind = if matches!(value, Some(Data::I64(_))) { Kind::I64 } else { Kind::F32 };
        self.graph.tensors.push(Tensor { name: format!("t{}", id.0), shape: shape.to_vec(), kind, value });
        id
    }

    /// Random numbers between -1 and 1.
    pub fn constant(&mut self, shape: &[usize]) -> TensorId {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.random()).collect();
        self.tensor(shape, Some(Data::F32(values.into())))
    }

    /// These numbers.
    pub fn values(&mut self, shape: &[usize], values: &[f32]) -> TensorId {
        self.tensor(shape, Some(Data::F32(values.into())))
    }

    /// These integers.
    pub fn integers(&mut self, values: &[i64]) -> TensorId {
        self.tensor(&[values.len()], Some(Data::I64(values.into())))
    }

    pub fn shape(&self, id: TensorId) -> Vec<usize> {
        self.graph.tensor(id).shape.clone()
    }

    pub fn node(&mut self, op: Op, inputs: &[TensorId], shape: &[usize]) -> TensorId {
        let output = self.tensor(shape, None);
        self.graph.nodes.push(Node { name: format!("n{}", output.0), op, inputs: inputs.to_vec(), output });
        output
    }

    /// A node whose output has the shape of its first input.
    pub fn same(&mut self, op: Op, inputs: &[TensorId]) -> TensorId {
        let shape = self.shape(inputs[0]);
        self.node(op, inputs, &shape)
    }

    /// A convolution with weights that keep the size of the values.
    pub fn conv(&mut self, x: TensorId, made: usize, window: Window, groups: usize) -> TensorId {
        let shape = self.shape(x);
        let [kh, kw] = window.kernel;
        let per_group = shape[1] / groups;
        let size = ((per_group * kh * kw) as f32).sqrt();
        let weights: Vec<f32> = (0..made * per_group * kh * kw).map(|_| self.random() * 1.7 / size).collect();
        let weights = self.values(&[made, per_group, kh, kw], &weights);
        let bias = self.constant(&[made]);
        let [h, w] = made_by(&window, [shape[2], shape[3]]);
        self.node(Op::Conv { window, groups }, &[x, weights, bias], &[shape[0], made, h, w])
    }

    pub fn finish(mut self, outputs: &[TensorId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

pub(super) fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        before: [padding; 2],
        after: [padding; 2],
    }
}

pub(super) fn made_by(window: &Window, size: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|side| {
        let reach = (window.kernel[side] - 1) * window.dilation[side] + 1;
        (size[side] + window.before[side] + window.after[side] - reach) / window.stride[side] + 1
    })
}

/// Random pictures between -1 and 1.
pub(super) fn pictures(len: usize, count: usize) -> Vec<f32> {
    let mut seed = 12345u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len * count).map(|_| next()).collect()
}

/// Runs the network on the pictures and gives its outputs, picture by picture, each output of all pictures.
pub(super) fn run(network: &mut OnDevice, graph: &Graph, input: &[f32]) -> Vec<Vec<f32>> {
    let len = graph.tensor(graph.inputs[0]).len();
    let mut outputs = vec![vec![f32::NAN; 3]; graph.outputs.len()];
    network.run(input.len() / len, &mut |into| into.copy_from_slice(input), &mut outputs).unwrap();
    outputs
}

/// Runs on every device in both precisions, three pictures at once and then one, and compares with the reference.
pub(super) fn check(graph: &Graph) {
    check_with(graph, 2e-5, 1e-2);
}

pub(super) fn check_with(graph: &Graph, f32_tolerance: f32, f16_tolerance: f32) {
    assert_eq!(crate::graph::check(graph), Ok(()));
    let len = graph.tensor(graph.inputs[0]).len();
    let input = pictures(len, 3);
    let expected: Vec<Vec<Vec<f32>>> =
        input.chunks_exact(len).map(|picture| reference::run(graph, &[picture]).unwrap()).collect();
    for device in devices() {
        for (precision, tolerance) in [(Precision::F32, f32_tolerance), (Precision::F16, f16_tolerance)] {
            let mut network = OnDevice::load(graph.clone(), &device, precision).unwrap();
            for count in [3, 1] {
                let outputs = run(&mut network, graph, &input[..count * len]);
                for (number, output) in outputs.iter().enumerate() {
                    let want: Vec<f32> = expected[..count].iter().flat_map(|p| p[number].clone()).collect();
                    assert_eq!(output.len(), want.len(), "{device:?} {precision:?}");
                    let scale = want.iter().fold(1.0f32, |most, v| most.max(v.abs()));
                    for (i, (got, want)) in output.iter().zip(&want).enumerate() {
                        let near = (got - want).abs() <= tolerance * scale;
                        assert!(
                            near || got == want,
                            "{device:?} {precision:?} output {number} value {i}: {got}, not {want}"
                        );
                    }
                }
            }
        }
    }
}
