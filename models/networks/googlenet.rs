//! GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015) with batch normalisation, as torchvision has
//! it: Inception v1 without the two auxiliary heads, which only training needs. Where the paper's third branch has
//! 5 x 5 taps, torchvision's weights have 3 x 3.

mod load;
mod plan;

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{
    BatchNormConfig, Conv2d, Conv2dConfig, Linear, Module, VarBuilder, batch_norm, conv2d_no_bias, linear,
};

pub use self::load::{check, import};
use super::imagenet;

/// Width and height of the input.
pub const SIDE: usize = 224;

/// Added to the variances of the batch normalisation.
const EPSILON: f64 = 1e-3;

/// Values per pixel that the classifier reads.
const FEATURES: usize = 1024;

/// Mean and deviation of ImageNet's colours (red, green, blue; 0..=1), which torchvision takes off and divides by.
pub const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// See [`MEAN`].
pub const DEVIATION: [f64; 3] = [0.229, 0.224, 0.225];

/// What differs between networks of this architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Number of classes.
    pub classes: usize,
    /// Colours that come with [`MEAN`] and [`DEVIATION`] are brought to -1..=1 first: the weights come from
    /// TensorFlow. torchvision does so with all weights that it loads.
    pub transform_input: bool,
}

impl Config {
    /// torchvision's weights of ImageNet.
    pub fn imagenet() -> Self {
        Self::of_classes(imagenet::CLASSES)
    }

    /// Weights that were trained on from those, for other classes.
    pub fn of_classes(classes: usize) -> Self {
        Self { classes, transform_input: true }
    }
}

/// The four branches of a block: 1 x 1; 1 x 1 before 3 x 3; 1 x 1 before 3 x 3; pool before 1 x 1. Channels read,
/// then made by each convolution.
struct Widths {
    name: &'static str,
    reads: usize,
    branch1: usize,
    branch2: [usize; 2],
    branch3: [usize; 2],
    branch4: usize,
}

const fn widths(name: &'static str, [reads, a, b0, b1, c0, c1, d]: [usize; 7]) -> Widths {
    Widths { name, reads, branch1: a, branch2: [b0, b1], branch3: [c0, c1], branch4: d }
}

/// Table 1 of the paper.
const BLOCKS: [Widths; 9] = [
    widths("inception3a", [192, 64, 96, 128, 16, 32, 32]),
    widths("inception3b", [256, 128, 128, 192, 32, 96, 64]),
    widths("inception4a", [480, 192, 96, 208, 16, 48, 64]),
    widths("inception4b", [512, 160, 112, 224, 24, 64, 64]),
    widths("inception4c", [512, 128, 128, 256, 24, 64, 64]),
    widths("inception4d", [512, 112, 144, 288, 32, 64, 64]),
    widths("inception4e", [528, 256, 160, 320, 32, 128, 128]),
    widths("inception5a", [832, 256, 160, 320, 32, 128, 128]),
    widths("inception5b", [832, 384, 192, 384, 48, 128, 128]),
];

/// The pool that follows a block, by its number: size of the window; the step is 2 always.
fn pool_after(block: usize) -> Option<usize> {
    match block {
        1 => Some(3),
        6 => Some(2),
        _ => None,
    }
}

/// A convolution, its batch normalisation multiplied into it, and a ReLU.
#[derive(Debug, Clone)]
struct Unit(Conv2d);

impl Unit {
    fn new(reads: usize, makes: usize, taps: usize, stride: usize, weights: VarBuilder<'_>) -> Result<Self> {
        let config = Conv2dConfig { padding: taps / 2, stride, ..Conv2dConfig::default() };
        let conv = conv2d_no_bias(reads, makes, taps, config, weights.pp("conv"))?;
        let norm = BatchNormConfig { eps: EPSILON, ..BatchNormConfig::default() };
        let norm = batch_norm(makes, norm, weights.pp("bn"))?;
        Ok(Self(conv.absorb_bn(&norm)?))
    }
}

impl Module for Unit {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)?.relu()
    }
}

/// Four branches side by side.
#[derive(Debug, Clone)]
struct Inception {
    branch1: Unit,
    branch2: [Unit; 2],
    branch3: [Unit; 2],
    branch4: Unit,
}

impl Inception {
    fn new(own: &Widths, weights: VarBuilder<'_>) -> Result<Self> {
        let pair = |[narrow, makes]: [usize; 2], weights: VarBuilder<'_>| {
            let first = Unit::new(own.reads, narrow, 1, 1, weights.pp("0"))?;
            Result::Ok([first, Unit::new(narrow, makes, 3, 1, weights.pp("1"))?])
        };
        Ok(Self {
            branch1: Unit::new(own.reads, own.branch1, 1, 1, weights.pp("branch1"))?,
            branch2: pair(own.branch2, weights.pp("branch2"))?,
            branch3: pair(own.branch3, weights.pp("branch3"))?,
            branch4: Unit::new(own.reads, own.branch4, 1, 1, weights.pp("branch4.1"))?,
        })
    }
}

impl Module for Inception {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [narrow2, wide2] = &self.branch2;
        let [narrow3, wide3] = &self.branch3;
        let pooled = max_pool(x, 3, 1, [1, 1])?;
        let branches = [
            self.branch1.forward(x)?,
            wide2.forward(&narrow2.forward(x)?)?,
            wide3.forward(&narrow3.forward(x)?)?,
            self.branch4.forward(&pooled)?,
        ];
        Tensor::cat(&branches, 1)
    }
}

/// Pools behind a ReLU: nothing there is below 0, so the zeros that are added are as good as nothing.
fn max_pool(x: &Tensor, side: usize, stride: usize, [before, after]: [usize; 2]) -> Result<Tensor> {
    let padded = x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
    padded.max_pool2d_with_stride(side, stride)
}

/// Zeros below and at the right that a window of this size and step 2 needs to reach every pixel.
fn rounding_up(length: usize, side: usize) -> usize {
    let beyond = length.saturating_sub(side) % 2;
    if length < side { side - length } else { beyond }
}

fn halve(x: &Tensor, side: usize) -> Result<Tensor> {
    // Pictures are square here.
    let after = rounding_up(x.dim(2)?, side);
    max_pool(x, side, 2, [0, after])
}

/// The network.
#[derive(Debug, Clone)]
pub struct GoogLeNet {
    config: Config,
    conv1: Unit,
    conv2: Unit,
    conv3: Unit,
    blocks: Vec<Inception>,
    fc: Linear,
}

impl GoogLeNet {
    /// Builds it; the tensors have torchvision's names.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; [`expected`] says which there must be.
    pub fn new(config: Config, weights: VarBuilder<'_>) -> Result<Self> {
        let block = |own: &Widths| Inception::new(own, weights.pp(own.name));
        Ok(Self {
            config,
            conv1: Unit::new(3, 64, 7, 2, weights.pp("conv1"))?,
            conv2: Unit::new(64, 64, 1, 1, weights.pp("conv2"))?,
            conv3: Unit::new(64, 192, 3, 1, weights.pp("conv3"))?,
            blocks: BLOCKS.iter().map(block).collect::<Result<_>>()?,
            fc: linear(FEATURES, config.classes, weights.pp("fc"))?,
        })
    }

    /// Builds it of tensors that are as [`check`] wants them.
    ///
    /// # Errors
    /// As [`GoogLeNet::new`].
    pub fn of_tensors(config: Config, tensors: HashMap<String, Tensor>) -> Result<Self> {
        Self::new(config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
    }

    /// Red, green and blue brought from ImageNet's mean and deviation to -1..=1.
    fn transform(&self, x: &Tensor) -> Result<Tensor> {
        if !self.config.transform_input {
            return Ok(x.clone());
        }
        let channels = (0..3).map(|channel| {
            let (scale, shift) = (DEVIATION[channel] / 0.5, (MEAN[channel] - 0.5) / 0.5);
            x.narrow(1, channel, 1)?.affine(scale, shift)
        });
        Tensor::cat(&channels.collect::<Result<Vec<_>>>()?, 1)
    }
}

impl Module for GoogLeNet {
    /// From (batch, 3, 224, 224), red, green, blue less [`MEAN`] by [`DEVIATION`], to (batch, classes), before the
    /// softmax.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.transform(x)?;
        let x = halve(&self.conv1.forward(&x)?, 3)?; // (batch, 64, 56, 56)
        let x = self.conv3.forward(&self.conv2.forward(&x)?)?;
        let mut x = halve(&x, 3)?; // (batch, 192, 28, 28)
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            if let Some(side) = pool_after(number) {
                x = halve(&x, side)?; // (batch, 480, 14, 14), (batch, 832, 7, 7)
            }
        }
        let features = x.mean((2, 3))?; // (batch, 1024)
        self.fc.forward(&features)
    }
}

/// Name and shape of every tensor that the network needs.
pub fn expected(classes: usize) -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    let mut unit = |name: &str, reads: usize, makes: usize, taps: usize| {
        all.push((format!("{name}.conv.weight"), vec![makes, reads, taps, taps]));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            all.push((format!("{name}.bn.{part}"), vec![makes]));
        }
    };
    unit("conv1", 3, 64, 7);
    unit("conv2", 64, 64, 1);
    unit("conv3", 64, 192, 3);
    for Widths { name, reads, branch1, branch2, branch3, branch4 } in &BLOCKS {
        unit(&format!("{name}.branch1"), *reads, *branch1, 1);
        for (branch, [narrow, makes]) in [("branch2", branch2), ("branch3", branch3)] {
            unit(&format!("{name}.{branch}.0"), *reads, *narrow, 1);
            unit(&format!("{name}.{branch}.1"), *narrow, *makes, 3);
        }
        unit(&format!("{name}.branch4.1"), *reads, *branch4, 1);
    }
    all.push(("fc.weight".to_owned(), vec![classes, FEATURES]));
    all.push(("fc.bias".to_owned(), vec![classes]));
    all
}

/// What training leaves and nobody needs afterwards.
pub fn is_left_over(name: &str) -> bool {
    name.starts_with("aux1.") || name.starts_with("aux2.") || name.ends_with(".num_batches_tracked")
}

#[cfg(test)]
mod tests;
