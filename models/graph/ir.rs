//! The graph every importer produces and every executor takes: tensors with shapes that are known, nodes in an order
//! in which they can run, constants. No file format and no arithmetic here.

use std::sync::Arc;

/// Number of a tensor within its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// Values of a constant, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Weights and everything else that is computed with. f16 and f64 constants are widened or narrowed to this.
    F32(Arc<[f32]>),
    /// Shapes, axes and indices. All integer constants that are not dequantised become this.
    I64(Arc<[i64]>),
}

impl Data {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::I64(values) => values.len(),
        }
    }

    /// No values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values if they are f32.
    pub fn f32(&self) -> Option<&[f32]> {
        match self {
            Data::F32(values) => Some(values),
            Data::I64(_) => None,
        }
    }

    /// The values if they are integers.
    pub fn i64(&self) -> Option<&[i64]> {
        match self {
            Data::F32(_) => None,
            Data::I64(values) => Some(values),
        }
    }
}

/// What a tensor's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit floating point.
    F32,
    /// 64-bit integers: shapes, axes, indices.
    I64,
}

/// A value that flows along the graph or is constant.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name in the file it came from; for messages and for naming outputs.
    pub name: String,
    /// Sizes of its dimensions; `[]` is a scalar.
    pub shape: Vec<usize>,
    /// What its values are.
    pub kind: Kind,
    /// Its values, when they do not depend on the input.
    pub value: Option<Data>,
}

impl Tensor {
    /// Number of values. The importers keep this below their limit, so it cannot overflow.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// A dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A window that slides over the last two dimensions: convolutions and pools. Order is height, width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Size in taps, at least 1.
    pub kernel: [usize; 2],
    /// Step, at least 1.
    pub stride: [usize; 2],
    /// Distance of the taps, at least 1.
    pub dilation: [usize; 2],
    /// Zeros (for pools: nothing) added at top and left.
    pub before: [usize; 2],
    /// Zeros (for pools: nothing) added at bottom and right. For pools this includes what rounding up needs.
    pub after: [usize; 2],
}

/// Arithmetic on two tensors with NumPy's broadcasting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
}

/// Arithmetic on each value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// max(x, 0)
    Relu,
    /// x where x > 0, else slope * x
    LeakyRelu(f32),
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// x * sigmoid(x)
    Silu,
    /// x * clamp(x + 3, 0, 6) / 6
    HardSwish,
    /// clamp(alpha * x + beta, 0, 1)
    HardSigmoid(f32, f32),
    /// min(max(x, low), high)
    Clamp(f32, f32),
    /// e^x
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// Hyperbolic tangent.
    Tanh,
    /// -x
    Neg,
    /// |x|
    Abs,
    /// x where x > 0, else alpha * (e^x - 1)
    Elu(f32),
}

/// How a dimension is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reduction {
    Mean,
    Sum,
    Max,
    Min,
}

/// Where the samples of a [`Op::Resize`] are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Nearest: `floor(x_out * size_in / size_out)` (ONNX asymmetric + floor, which doubling needs).
    NearestAsymmetric,
    /// Bilinear, half-pixel centres, edges clamped.
    LinearHalfPixel,
    /// Bilinear, corners aligned.
    LinearAlignCorners,
}

/// OpenVINO's PriorBoxClustered-1: boxes of fixed sizes on a grid. Its first input is the layer size (height, width),
/// its second the image size (height, width).
#[derive(Debug, Clone, PartialEq)]
pub struct PriorBoxClustered {
    /// Widths of the boxes in pixels of the image.
    pub widths: Vec<f32>,
    /// Heights, as many as widths.
    pub heights: Vec<f32>,
    /// Step of the grid (height, width) in pixels; 0: image size / layer size.
    pub step: [f32; 2],
    /// Where in the cell the centre lies.
    pub offset: f32,
    /// Four numbers, or one, or none (0.1).
    pub variances: Vec<f32>,
    /// Boxes are clipped to 0..1.
    pub clip: bool,
}

/// OpenVINO's DetectionOutput-8 with shared locations, centre-size code and normalised priors: inputs are the boxes
/// [1, priors*4], the confidences [1, priors*classes] and the priors [1, 2, priors*4] (boxes, variances; boxes alone,
/// [1, 1, priors*4], will do when the variances are encoded). Its output is [1, 1, keep_top_k, 7]: image, label, score, x0, y0, x1, y1; a row with image -1 ends the list.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionOutput {
    /// Number of classes with the background.
    pub classes: usize,
    /// The class that is no object.
    pub background: Option<usize>,
    /// Candidates per class that enter the suppression.
    pub top_k: usize,
    /// Boxes kept over all classes.
    pub keep_top_k: usize,
    /// Least confidence.
    pub confidence: f32,
    /// Overlap (intersection over union) above which the weaker box goes.
    pub nms: f32,
    /// Variances are part of the target already and are not multiplied in.
    pub variance_encoded: bool,
    /// Boxes are clipped to 0..1 before suppression.
    pub clip_before: bool,
    /// Boxes are clipped to 0..1 after suppression.
    pub clip_after: bool,
}

/// What a node computes. Shapes: N batch, C channels, H height, W width. Optional inputs come last and are absent
/// when they are not given.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// x [N,C,H,W], weight [O, C/groups, kh, kw], bias [O] or none.
    Conv {
        /// The window.
        window: Window,
        /// Channel groups; C groups of one channel are a depthwise convolution.
        groups: usize,
    },
    /// x, scale [C], shift [C], mean [C], variance [C].
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Two inputs.
    Binary(Binary),
    /// One input.
    Unary(Unary),
    /// x [N,C,...], slope [C] or a scalar: x where x > 0, else slope * x.
    PRelu,
    /// Largest of the window; taps outside do not count.
    MaxPool(Window),
    /// Mean of the window.
    AvgPool {
        /// The window.
        window: Window,
        /// Taps outside count as zeros.
        count_padding: bool,
    },
    /// Reduces these dimensions.
    Reduce {
        /// How.
        how: Reduction,
        /// Sorted, without duplicates.
        axes: Vec<usize>,
        /// They stay with size 1.
        keep: bool,
    },
    /// Subtracts the mean over `axes` and divides by sqrt(variance + epsilon) (inside) or sqrt(variance) + epsilon.
    Mvn {
        /// Sorted, without duplicates.
        axes: Vec<usize>,
        /// Divide by the deviation at all.
        normalize_variance: bool,
        /// Against division by zero.
        epsilon: f32,
        /// Epsilon under the root.
        inside: bool,
    },
    /// e^x / sum of e^x along the axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// a [..., M, K] times b [..., K, N], with broadcasting of the leading dimensions.
    MatMul {
        /// a is given transposed.
        transpose_a: bool,
        /// b is given transposed.
        transpose_b: bool,
    },
    /// All inputs, one after the other along the axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// A part of the input: for each dimension where it begins, its step (not 0, may be negative); the output's
    /// shape says how many are taken.
    Slice {
        /// First index per dimension.
        begin: Vec<usize>,
        /// Step per dimension.
        step: Vec<isize>,
    },
    /// The same values in the output's shape: reshape, flatten, squeeze, unsqueeze.
    Reshape,
    /// Output dimension i is input dimension `order[i]`.
    Transpose {
        /// A permutation.
        order: Vec<usize>,
    },
    /// To the output's height and width.
    Resize(Sampling),
    /// Rows of the input chosen by indices (second input) along the axis.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// Repeats dimensions of size 1 up to the output's shape.
    Broadcast,
    /// Adds constant values around the input.
    Pad {
        /// Added in front, per dimension.
        before: Vec<usize>,
        /// The value added.
        value: f32,
    },
    /// x, in_low, in_high, out_low, out_high: rounds to `levels` steps (OpenVINO FakeQuantize-1).
    FakeQuantize {
        /// Number of steps, at least 2.
        levels: usize,
    },
    /// See [`PriorBoxClustered`].
    PriorBoxClustered(PriorBoxClustered),
    /// See [`DetectionOutput`].
    DetectionOutput(DetectionOutput),
}

/// One computation.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name in the file it came from, for messages.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it takes.
    pub inputs: Vec<TensorId>,
    /// What it makes. All operators here make one tensor (a Split is imported as several slices).
    pub output: TensorId,
}

/// A whole network. Every tensor's shape is known; nodes are in an order in which they can run; no node's output is
/// constant (constants are folded at import) and every node contributes to an output.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// What the network takes.
    pub inputs: Vec<TensorId>,
    /// What the network gives, in the order of the file.
    pub outputs: Vec<TensorId>,
}

impl Graph {
    /// The tensor with this number.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// Values of a constant f32 tensor.
    pub fn constant(&self, id: TensorId) -> Option<&[f32]> {
        self.tensor(id).value.as_ref().and_then(Data::f32)
    }
}
