//! The same network as a graph, so that the planned executor runs it on one thread, or a GPU's kernels do. It takes a
//! picture as all networks here do: blue, green, red, each 0..=255.

use candle_core::Tensor;
use candle_nn::Conv2d;

use super::{DEVIATION, FEATURES, GoogLeNet, Inception, MEAN, SIDE, Unit, pool_after, rounding_up};
use crate::graph::{At, Binary, Builder, Data, Graph, ImportError, Op, Reduction, TensorId, Unary, Window};

/// What the graph gives.
const OUTPUT: &str = "logits";

impl GoogLeNet {
    /// The graph with its constants.
    ///
    /// # Errors
    /// When a weight is no finite number; what is wrong, to be said behind the network's name.
    pub fn graph(&self) -> Result<Graph, String> {
        let mut planner = Planner { builder: Builder::default() };
        let output = planner.network(self)?;
        planner.builder.finish(&[(OUTPUT.to_owned(), output)]).map_err(said)
    }

    /// By what a colour of 0..=255 is multiplied, and what is added then: red, green, blue.
    fn colours(&self) -> [(f32, f32); 3] {
        std::array::from_fn(|channel| {
            let (mean, deviation) = (MEAN[channel], DEVIATION[channel]);
            let (scale, shift) = (1.0 / (255.0 * deviation), -mean / deviation);
            if !self.config.transform_input {
                return (scale as f32, shift as f32);
            }
            ((scale * deviation / 0.5) as f32, (shift * deviation / 0.5 + (mean - 0.5) / 0.5) as f32)
        })
    }
}

fn said(error: ImportError) -> String {
    format!("cannot be computed: {error}")
}

struct Planner {
    builder: Builder,
}

impl Planner {
    fn network(&mut self, network: &GoogLeNet) -> Result<TensorId, String> {
        let input = self.builder.input("picture", &[1, 3, SIDE, SIDE]).map_err(said)?;
        let colours = network.colours();
        let by = |part: fn(&(f32, f32)) -> f32| colours.iter().rev().map(part).collect::<Vec<f32>>();
        let scale = self.constant("scale", &[1, 3, 1, 1], &by(|colour| colour.0))?;
        let shift = self.constant("shift", &[1, 3, 1, 1], &by(|colour| colour.1))?;
        let scaled = self.op("scaled", Op::Binary(Binary::Mul), &[input, scale])?;
        let x = self.op("shifted", Op::Binary(Binary::Add), &[scaled, shift])?;
        // The picture's first colour is blue, the weights' first is red.
        let x = self.unit("conv1", &network.conv1, x, true)?;
        let x = self.halve("maxpool1", x, 3)?;
        let x = self.unit("conv2", &network.conv2, x, false)?;
        let x = self.unit("conv3", &network.conv3, x, false)?;
        let mut x = self.halve("maxpool2", x, 3)?;
        for (number, block) in network.blocks.iter().enumerate() {
            x = self.inception(super::BLOCKS[number].name, block, x)?;
            if let Some(side) = pool_after(number) {
                x = self.halve("maxpool", x, side)?;
            }
        }
        let mean = Op::Reduce { how: Reduction::Mean, axes: vec![2, 3], keep: true };
        let features = self.op("avgpool", mean, &[x])?;
        self.classify(network, features)
    }

    /// The last layer as a convolution over the one pixel that is left.
    fn classify(&mut self, network: &GoogLeNet, features: TensorId) -> Result<TensorId, String> {
        let classes = network.config.classes;
        let weight = values("fc.weight", network.fc.weight())?;
        let bias = network.fc.bias().ok_or("has no tensor fc.bias")?;
        let weight = self.constant("fc.weight", &[classes, FEATURES, 1, 1], &weight)?;
        let bias = self.constant("fc.bias", &[classes], &values("fc.bias", bias)?)?;
        let conv = Op::Conv { window: window(1, 1, [0, 0], [0, 0]), groups: 1 };
        let logits = self.op("fc", conv, &[features, weight, bias])?;
        let at = At { node: "logits", operator: "Reshape" };
        self.builder.shaped(at, Op::Reshape, &[logits], Some(&[1, classes])).map_err(said)
    }

    fn inception(&mut self, name: &str, block: &Inception, x: TensorId) -> Result<TensorId, String> {
        let first = self.unit(&format!("{name}.branch1"), &block.branch1, x, false)?;
        let second = self.pair(&format!("{name}.branch2"), &block.branch2, x)?;
        let third = self.pair(&format!("{name}.branch3"), &block.branch3, x)?;
        let pooled =
            self.op(&format!("{name}.branch4.0"), Op::MaxPool(window(3, 1, [1, 1], [1, 1])), &[x])?;
        let fourth = self.unit(&format!("{name}.branch4.1"), &block.branch4, pooled, false)?;
        self.op(name, Op::Concat { axis: 1 }, &[first, second, third, fourth])
    }

    fn pair(&mut self, name: &str, [narrow, wide]: &[Unit; 2], x: TensorId) -> Result<TensorId, String> {
        let x = self.unit(&format!("{name}.0"), narrow, x, false)?;
        self.unit(&format!("{name}.1"), wide, x, false)
    }

    /// A convolution and its ReLU. `turn`: it reads the channels in the opposite order.
    fn unit(&mut self, name: &str, Unit(conv): &Unit, x: TensorId, turn: bool) -> Result<TensorId, String> {
        let shape = conv.weight().dims().to_vec();
        let mut weight = values(name, conv.weight())?;
        if turn {
            let taps = shape[2] * shape[3];
            for kernel in weight.chunks_exact_mut(shape[1] * taps) {
                let turned: Vec<f32> = kernel.chunks_exact(taps).rev().flatten().copied().collect();
                kernel.copy_from_slice(&turned);
            }
        }
        let weight = self.constant(&format!("{name}.weight"), &shape, &weight)?;
        let bias = conv.bias().ok_or_else(|| format!("has no bias for {name}"))?;
        let bias = self.constant(&format!("{name}.bias"), &[shape[0]], &values(name, bias)?)?;
        let made =
            self.op(name, Op::Conv { window: convolution(conv, shape[2]), groups: 1 }, &[x, weight, bias])?;
        self.op(&format!("{name}.relu"), Op::Unary(Unary::Relu), &[made])
    }

    fn halve(&mut self, name: &str, x: TensorId, side: usize) -> Result<TensorId, String> {
        let length = self.builder.shape(x)[2];
        let after = rounding_up(length, side);
        self.op(name, Op::MaxPool(window(side, 2, [0, 0], [after, after])), &[x])
    }

    fn op(&mut self, name: &str, op: Op, inputs: &[TensorId]) -> Result<TensorId, String> {
        let at = At { node: name, operator: "GoogLeNet" };
        self.builder.op(at, op, inputs).map_err(said)
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<TensorId, String> {
        self.builder.stored(name, shape, Data::F32(values.into())).map_err(said)
    }
}

fn window(side: usize, stride: usize, before: [usize; 2], after: [usize; 2]) -> Window {
    Window { kernel: [side; 2], stride: [stride; 2], dilation: [1; 2], before, after }
}

fn convolution(conv: &Conv2d, side: usize) -> Window {
    let config = conv.config();
    window(side, config.stride, [config.padding; 2], [config.padding; 2])
}

/// The values of a weight, all of them finite.
fn values(name: &str, tensor: &Tensor) -> Result<Vec<f32>, String> {
    let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
    let values = flat.map_err(|error| format!("{name} cannot be read: {error}"))?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(format!("has weights in {name} that are no finite numbers")),
    }
}
