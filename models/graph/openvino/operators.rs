//! What each operator of OpenVINO's operation sets becomes in the graph.

use super::attributes::Attributes;
use super::constants::element_type;
use super::document::Layer;
use super::{detection, needed, quoted};
use crate::graph::build::Builder;
use crate::graph::error::{At, ImportError};
use crate::graph::lower::{Padding, Rounding, axes, axis, padded, pair};
use crate::graph::values::Stored;
use crate::graph::{Binary, Kind, Op, Reduction, TensorId, Unary, Window};

/// Adds the layer; returns the tensors of its output ports, fewer where the rest is not computed.
pub(super) fn lower(
    build: &mut Builder,
    attributes: &Attributes<'_>,
    layer: &Layer<'_>,
    inputs: &[TensorId],
) -> Result<Vec<TensorId>, ImportError> {
    let at = attributes.at;
    if !layer.version.starts_with("opset") {
        return Err(at.unsupported(format!("operation set {}", quoted(layer.version))));
    }
    let lowering = Lowering { build, attributes, inputs, at };
    let many = match layer.operator {
        "Split" | "VariadicSplit" => lowering.split()?,
        _ => vec![lowering.one(layer)?],
    };
    Ok(many)
}

/// One layer on its way into the graph.
pub(super) struct Lowering<'a> {
    pub build: &'a mut Builder,
    pub attributes: &'a Attributes<'a>,
    pub inputs: &'a [TensorId],
    pub at: At<'a>,
}

impl Lowering<'_> {
    pub fn input(&self, place: usize) -> Result<TensorId, ImportError> {
        needed(self.at, self.inputs, place)
    }

    pub fn integers(&self, place: usize, what: &str) -> Result<Vec<i64>, ImportError> {
        self.build.integers(self.at, self.input(place)?, what)
    }

    pub fn integer(&self, place: usize, what: &str) -> Result<i64, ImportError> {
        match self.integers(place, what)?.as_slice() {
            [value] => Ok(*value),
            values => Err(self.at.invalid(format!("{what}: {} values instead of one", values.len()))),
        }
    }

    fn one(mut self, layer: &Layer<'_>) -> Result<TensorId, ImportError> {
        let (at, attributes) = (self.at, self.attributes);
        match layer.operator {
            "Add" => self.binary(Binary::Add),
            "Subtract" => self.binary(Binary::Sub),
            "Multiply" => self.binary(Binary::Mul),
            "Divide" => self.divide(),
            "Maximum" => self.binary(Binary::Max),
            "Minimum" => self.binary(Binary::Min),
            "Power" => self.binary(Binary::Pow),
            "SquaredDifference" => {
                let difference = self.binary(Binary::Sub)?;
                self.build.binary(at, Binary::Mul, difference, difference)
            }
            "ReLU" => self.unary(Unary::Relu),
            "Sigmoid" => self.unary(Unary::Sigmoid),
            "HSwish" => self.unary(Unary::HardSwish),
            "Exp" => self.unary(Unary::Exp),
            "Log" => self.unary(Unary::Log),
            "Sqrt" => self.unary(Unary::Sqrt),
            "Tanh" => self.unary(Unary::Tanh),
            "Negative" => self.unary(Unary::Neg),
            "Abs" => self.unary(Unary::Abs),
            "Elu" => self.unary(Unary::Elu(attributes.needed("alpha")?)),
            "Clamp" => self.unary(Unary::Clamp(attributes.needed("min")?, attributes.needed("max")?)),
            "Swish" => self.swish(),
            "HardSigmoid" => {
                let parameter = |place| self.build.float(at, self.input(place)?, "a parameter");
                let how = Unary::HardSigmoid(parameter(1)?, parameter(2)?);
                self.unary(how)
            }
            "PReLU" => self.prelu(),
            "Convolution" | "GroupConvolution" => self.conv(layer.operator == "GroupConvolution"),
            "MaxPool" | "AvgPool" => self.pool(layer.operator == "AvgPool"),
            "BatchNormInference" => self.batch_norm(layer),
            "MVN" => self.mvn(layer),
            "SoftMax" | "Softmax" => {
                let x = self.input(0)?;
                let axis = axis(at, attributes.or("axis", 1)?, self.build.rank(x))?;
                self.build.op(at, Op::Softmax { axis }, &[x])
            }
            "ReduceMean" => self.reduce(Reduction::Mean),
            "ReduceSum" => self.reduce(Reduction::Sum),
            "ReduceMax" => self.reduce(Reduction::Max),
            "ReduceMin" => self.reduce(Reduction::Min),
            "MatMul" => {
                let transpose_a = attributes.boolean("transpose_a", false)?;
                let transpose_b = attributes.boolean("transpose_b", false)?;
                self.build.op(at, Op::MatMul { transpose_a, transpose_b }, self.inputs)
            }
            "FakeQuantize" => {
                attributes.choice("auto_broadcast", &["numpy"])?;
                self.build.op(at, Op::FakeQuantize { levels: attributes.needed("levels")? }, self.inputs)
            }
            "Convert" => self.convert(),
            "Concat" => {
                let axis = axis(at, attributes.needed("axis")?, self.build.rank(self.input(0)?))?;
                self.build.op(at, Op::Concat { axis }, self.inputs)
            }
            "Gather" => self.gather(),
            "Transpose" => self.transpose(),
            "Reshape" => {
                let wanted = self.integers(1, "sizes")?;
                let zero_copies = attributes.boolean("special_zero", false)?;
                self.build.reshape(at, self.input(0)?, &wanted, zero_copies)
            }
            "Squeeze" => {
                let which = if self.inputs.len() > 1 { Some(self.integers(1, "axes")?) } else { None };
                // With this attribute the rank would depend on the sizes.
                attributes.choice("allow_axis_skip", &["false"])?;
                self.build.squeeze(at, self.input(0)?, which.as_deref())
            }
            "Unsqueeze" => {
                let places = self.integers(1, "axes")?;
                self.build.unsqueeze(at, self.input(0)?, &places)
            }
            "ShapeOf" => {
                attributes.ignore(&["output_type"]);
                let shape: Vec<i64> =
                    self.build.shape(self.input(0)?).iter().map(|size| *size as i64).collect();
                self.build.row(at, &shape)
            }
            "StridedSlice" => self.strided_slice(),
            "Slice" => self.slice(),
            "Broadcast" => self.broadcast(),
            "Pad" => self.pad(),
            "Interpolate" => self.interpolate(layer),
            "PriorBoxClustered" => detection::prior_boxes(self.build, attributes, self.inputs),
            "DetectionOutput" => detection::detections(self.build, attributes, self.inputs),
            _ => Err(at.unsupported("the operator is not known")),
        }
    }

    fn binary(&mut self, how: Binary) -> Result<TensorId, ImportError> {
        let (a, b) = (self.input(0)?, self.input(1)?);
        if self.attributes.choice("auto_broadcast", &["numpy", "none"])? == "none"
            && self.build.shape(a) != self.build.shape(b)
        {
            return Err(self.at.invalid("inputs of different shapes without broadcasting"));
        }
        self.build.binary(self.at, how, a, b)
    }

    /// Integers are rounded down, or towards zero without `m_pythondiv`; only where that is the same they are divided.
    fn divide(&mut self) -> Result<TensorId, ImportError> {
        self.attributes.ignore(&["m_pythondiv"]);
        for place in 0..2 {
            let id = self.input(place)?;
            if self.build.get(id).kind == Kind::I64
                && self.integers(place, "numbers")?.iter().any(|value| *value < 0)
            {
                return Err(self.at.unsupported("division of negative integers"));
            }
        }
        self.binary(Binary::Div)
    }

    fn unary(&mut self, how: Unary) -> Result<TensorId, ImportError> {
        self.build.unary(self.at, how, self.input(0)?)
    }

    fn swish(&mut self) -> Result<TensorId, ImportError> {
        let x = self.input(0)?;
        if let Some(beta) = self.inputs.get(1)
            && self.build.float(self.at, *beta, "beta")? != 1.0
        {
            return Err(self.at.unsupported("a beta other than 1"));
        }
        self.build.op(self.at, Op::Unary(Unary::Silu), &[x])
    }

    fn prelu(&mut self) -> Result<TensorId, ImportError> {
        let (x, slope) = (self.input(0)?, self.input(1)?);
        let (shape, slopes) = (self.build.shape(x), self.build.shape(slope));
        let channels = shape.get(1).copied().unwrap_or(1);
        let aligned = slopes.len() == 1 || (slopes.len() + 1 >= shape.len() && slopes.len() <= shape.len());
        let wide: Vec<usize> = slopes.iter().copied().filter(|size| *size != 1).collect();
        let made = match wide.as_slice() {
            [] => Vec::new(),
            [one] if *one == channels && aligned => {
                let place = slopes.iter().position(|size| size == one);
                if slopes.len() > 1 && place.map(|place| place + shape.len() - slopes.len()) != Some(1) {
                    return Err(self.at.unsupported(format!("slopes {slopes:?} for {shape:?}")));
                }
                vec![channels]
            }
            _ => return Err(self.at.unsupported(format!("slopes {slopes:?} for {shape:?}"))),
        };
        let slope = self.build.reshape_to(self.at, slope, &made)?;
        self.build.op(self.at, Op::PRelu, &[x, slope])
    }

    fn padding(&self) -> Result<Padding, ImportError> {
        Ok(
            match self
                .attributes
                .choice("auto_pad", &["explicit", "notset", "same_upper", "same_lower", "valid"])?
            {
                "same_upper" => Padding::SameUpper,
                "same_lower" => Padding::SameLower,
                "valid" => Padding::Valid,
                _ => Padding::Explicit,
            },
        )
    }

    fn window(&self, kernel: [usize; 2]) -> Result<Window, ImportError> {
        let two = |key: &str, default: [usize; 2]| match self.attributes.list::<i64>(key)? {
            Some(values) => pair(self.at, &values, key),
            None => Ok(default),
        };
        Ok(Window {
            kernel,
            stride: two("strides", [1, 1])?,
            dilation: two("dilations", [1, 1])?,
            before: two("pads_begin", [0, 0])?,
            after: two("pads_end", [0, 0])?,
        })
    }

    fn conv(&mut self, grouped: bool) -> Result<TensorId, ImportError> {
        let (x, weight) = (self.input(0)?, self.input(1)?);
        let shape = self.build.shape(weight).to_vec();
        let (groups, weight, kernel) = match *shape.as_slice() {
            [groups, made, taken, height, width] if grouped => {
                let all = groups.checked_mul(made).ok_or_else(|| self.at.invalid("too many channels"))?;
                let weight = self.build.reshape_to(self.at, weight, &[all, taken, height, width])?;
                (groups, weight, [height, width])
            }
            [_, _, height, width] if !grouped => (1, weight, [height, width]),
            _ => {
                return Err(self
                    .at
                    .unsupported(format!("weights {shape:?}; only convolutions over 2 dimensions are")));
            }
        };
        let window =
            padded(self.at, self.window(kernel)?, self.padding()?, Rounding::Floor, self.build.shape(x))?;
        self.build.op(self.at, Op::Conv { window, groups }, &[x, weight])
    }

    fn pool(&mut self, average: bool) -> Result<TensorId, ImportError> {
        let (at, x) = (self.at, self.input(0)?);
        let kernel = pair(at, &self.attributes.needed_list::<i64>("kernel")?, "kernel")?;
        let rounding = match self.attributes.choice("rounding_type", &["floor", "ceil", "ceil_torch"])? {
            "ceil" => Rounding::Ceil,
            "ceil_torch" => Rounding::CeilInside,
            _ => Rounding::Floor,
        };
        let (window, padding) = (self.window(kernel)?, self.padding()?);
        let floor = padded(at, window, padding, Rounding::Floor, self.build.shape(x))?;
        let window = padded(at, window, padding, rounding, self.build.shape(x))?;
        if !average {
            // These tell how the places of the largest values are counted, which are not computed.
            self.attributes.ignore(&["axis", "index_element_type"]);
            return self.build.op(at, Op::MaxPool(window), &[x]);
        }
        let count_padding = !self.attributes.boolean("exclude-pad", false)?;
        if count_padding && window.after.iter().zip(floor.after).any(|(after, told)| *after > told) {
            return Err(at.unsupported("rounding up while padding counts"));
        }
        self.build.op(at, Op::AvgPool { window, count_padding }, &[x])
    }

    fn batch_norm(&mut self, layer: &Layer<'_>) -> Result<TensorId, ImportError> {
        if layer.version == "opset1" {
            return Err(self.at.unsupported("the order of inputs before opset5"));
        }
        let epsilon = self.attributes.needed("epsilon")?;
        self.build.op(self.at, Op::BatchNorm { epsilon }, self.inputs)
    }

    fn mvn(&mut self, layer: &Layer<'_>) -> Result<TensorId, ImportError> {
        let (at, attributes, x) = (self.at, self.attributes, self.input(0)?);
        let rank = self.build.rank(x);
        let (axes, inside) = match layer.version {
            "opset1" | "opset2" => {
                let first = if attributes.boolean("across_channels", false)? { 1 } else { 2 };
                ((first..rank).collect(), true)
            }
            _ => {
                let inside =
                    attributes.choice("eps_mode", &["inside_sqrt", "outside_sqrt"])? == "inside_sqrt";
                (axes(at, &self.integers(1, "axes")?, rank)?, inside)
            }
        };
        let normalize_variance = attributes.boolean("normalize_variance", true)?;
        let epsilon = attributes.needed("eps")?;
        self.build.op(at, Op::Mvn { axes, normalize_variance, epsilon, inside }, &[x])
    }

    fn reduce(&mut self, how: Reduction) -> Result<TensorId, ImportError> {
        let x = self.input(0)?;
        let axes = axes(self.at, &self.integers(1, "axes")?, self.build.rank(x))?;
        let keep = self.attributes.boolean("keep_dims", false)?;
        self.build.reduce(self.at, how, x, axes, keep)
    }

    fn convert(&mut self) -> Result<TensorId, ImportError> {
        let x = self.input(0)?;
        match element_type(self.attributes, "destination_type")? {
            Stored::F16 | Stored::Bf16 | Stored::F32 | Stored::F64 => self.build.cast_f32(self.at, x),
            Stored::I32 | Stored::I64 => self.build.cast_i64(self.at, x),
            other => Err(self.at.unsupported(format!("conversion to {other:?}"))),
        }
    }

    fn gather(&mut self) -> Result<TensorId, ImportError> {
        if self.attributes.or::<i64>("batch_dims", 0)? != 0 {
            return Err(self.at.unsupported("batch_dims other than 0"));
        }
        let x = self.input(0)?;
        let axis = axis(self.at, self.integer(2, "the axis")?, self.build.rank(x))?;
        self.build.gather(self.at, x, self.input(1)?, axis)
    }

    fn transpose(&mut self) -> Result<TensorId, ImportError> {
        let x = self.input(0)?;
        let mut order = self.integers(1, "the order")?;
        if order.is_empty() {
            order = (0..self.build.rank(x) as i64).rev().collect();
        }
        self.build.transpose(self.at, x, &order)
    }
}
