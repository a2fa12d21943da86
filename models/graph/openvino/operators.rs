//! What each operator of OpenVINO's operation sets becomes in the graph.

use super::attributes::Attributes;
use super::constants::element_type;
use super::document::Layer;
use super::{detection, needed, quoted};
use crate::graph::build::Builder;
use crate::graph::error::{At, ImportError};
use crate::graph::limits::MAX_NODE_INPUTS;
use crate::graph::lower::{Padding, Range, Rounding, axes, axis, padded, pair, size, sizes};
use crate::graph::resize::{Coordinates, Nearest, Rule, Side};
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

struct Lowering<'a> {
    build: &'a mut Builder,
    attributes: &'a Attributes<'a>,
    inputs: &'a [TensorId],
    at: At<'a>,
}

impl Lowering<'_> {
    fn input(&self, place: usize) -> Result<TensorId, ImportError> {
        needed(self.at, self.inputs, place)
    }

    fn integers(&self, place: usize, what: &str) -> Result<Vec<i64>, ImportError> {
        self.build.integers(self.at, self.input(place)?, what)
    }

    fn integer(&self, place: usize, what: &str) -> Result<i64, ImportError> {
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
            Stored::F16 | Stored::Bf16 | Stored::F32 | Stored::F64 => self.build.to_f32(self.at, x),
            Stored::I32 | Stored::I64 => self.build.to_i64(self.at, x),
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

    fn split(self) -> Result<Vec<TensorId>, ImportError> {
        let x = self.input(0)?;
        let axis = axis(self.at, self.integer(1, "the axis")?, self.build.rank(x))?;
        let whole = self.build.shape(x)[axis];
        let lengths = match self.attributes.value::<usize>("num_splits")? {
            Some(parts @ 1..=MAX_NODE_INPUTS) if whole % parts == 0 => vec![whole / parts; parts],
            Some(parts) => return Err(self.at.invalid(format!("{whole} values in {parts} parts"))),
            None => {
                let mut lengths = self.integers(2, "lengths")?;
                let known: i64 =
                    lengths.iter().filter(|length| **length >= 0).fold(0, |sum, l| sum.saturating_add(*l));
                // One of them may be what is left.
                if let Some(rest) = lengths.iter_mut().find(|length| **length == -1) {
                    *rest = (whole as i64).saturating_sub(known);
                }
                sizes(self.at, &lengths, "a part")?
            }
        };
        self.build.split(self.at, x, axis, &lengths)
    }

    fn strided_slice(&mut self) -> Result<TensorId, ImportError> {
        let (at, x) = (self.at, self.input(0)?);
        let (begin, end) = (self.integers(1, "begins")?, self.integers(2, "ends")?);
        let step = if self.inputs.len() > 3 { self.integers(3, "steps")? } else { vec![1; begin.len()] };
        if begin.len() != end.len() || begin.len() != step.len() {
            return Err(at.invalid("as many begins as ends and steps are needed"));
        }
        let mask = |key: &str| -> Result<Vec<bool>, ImportError> {
            let bits = self.attributes.list::<u8>(key)?.unwrap_or_default();
            Ok((0..begin.len()).map(|place| bits.get(place).is_some_and(|bit| *bit != 0)).collect())
        };
        let (begin_mask, end_mask) = (mask("begin_mask")?, mask("end_mask")?);
        let (new_mask, shrink_mask) = (mask("new_axis_mask")?, mask("shrink_axis_mask")?);
        let ellipsis_mask = mask("ellipsis_mask")?;
        let shape = self.build.shape(x).to_vec();
        let told = (0..begin.len()).filter(|place| !new_mask[*place] && !ellipsis_mask[*place]).count();
        let unnamed =
            shape.len().checked_sub(told).ok_or_else(|| at.invalid(format!("{told} ranges of {shape:?}")))?;
        let (mut ranges, mut made) = (Vec::new(), Vec::new());
        // What the dimensions become: none for one that goes away, a 1 for one that is added.
        let mut seen_ellipsis = false;
        for place in 0..begin.len() {
            if ellipsis_mask[place] {
                if seen_ellipsis {
                    return Err(at.invalid("two ellipses"));
                }
                seen_ellipsis = true;
                ranges.extend(std::iter::repeat_n(Range::ALL, unnamed));
                made.extend(std::iter::repeat_n(Shaped::Kept, unnamed));
            } else if new_mask[place] {
                made.push(Shaped::New);
            } else if shrink_mask[place] {
                let first = begin[place];
                // -1 is the last value, whose end is not 0.
                let end = if first == -1 { None } else { Some(first.saturating_add(1)) };
                ranges.push(Range { begin: Some(first), end, step: 1 });
                made.push(Shaped::Gone);
            } else {
                ranges.push(Range {
                    begin: (!begin_mask[place]).then_some(begin[place]),
                    end: (!end_mask[place]).then_some(end[place]),
                    step: step[place],
                });
                made.push(Shaped::Kept);
            }
        }
        ranges.resize(shape.len(), Range::ALL);
        let sliced = self.build.slice(at, x, &ranges)?;
        let sliced_shape = self.build.shape(sliced).to_vec();
        let mut sizes = sliced_shape.iter().copied();
        let mut output = Vec::new();
        for what in made {
            match what {
                Shaped::New => output.push(1),
                Shaped::Kept => output.extend(sizes.next()),
                Shaped::Gone => {
                    if sizes.next() != Some(1) {
                        return Err(at.invalid(format!("an index outside of {shape:?}")));
                    }
                }
            }
        }
        output.extend(sizes);
        if output == sliced_shape { Ok(sliced) } else { self.build.reshape_to(at, sliced, &output) }
    }

    fn slice(&mut self) -> Result<TensorId, ImportError> {
        let x = self.input(0)?;
        let (begin, end, step) =
            (self.integers(1, "begins")?, self.integers(2, "ends")?, self.integers(3, "steps")?);
        let rank = self.build.rank(x);
        let on = match self.inputs.len() {
            0..=4 => (0..begin.len() as i64).collect(),
            _ => self.integers(4, "axes")?,
        };
        let mut ranges = vec![Range::ALL; rank];
        if begin.len() != end.len() || begin.len() != step.len() || begin.len() != on.len() {
            return Err(self.at.invalid("as many begins as ends, steps and axes are needed"));
        }
        axes(self.at, &on, rank)?;
        for (place, on) in on.iter().enumerate() {
            ranges[axis(self.at, *on, rank)?] =
                Range { begin: Some(begin[place]), end: Some(end[place]), step: step[place] };
        }
        self.build.slice(self.at, x, &ranges)
    }

    fn broadcast(&mut self) -> Result<TensorId, ImportError> {
        let (at, x) = (self.at, self.input(0)?);
        let target = sizes(at, &self.integers(1, "sizes")?, "a dimension")?;
        let shape = match self.attributes.choice("mode", &["numpy", "bidirectional"])? {
            "numpy" => target,
            _ => crate::graph::shape::broadcast(self.build.shape(x), &target)
                .ok_or_else(|| at.invalid(format!("{:?} and {target:?}", self.build.shape(x))))?,
        };
        self.build.shaped(at, Op::Broadcast, &[x], Some(&shape))
    }

    fn pad(&mut self) -> Result<TensorId, ImportError> {
        let (at, x) = (self.at, self.input(0)?);
        self.attributes.choice("pad_mode", &["constant"])?;
        let before = sizes(at, &self.integers(1, "padding")?, "padding")?;
        let after = sizes(at, &self.integers(2, "padding")?, "padding")?;
        let value = match self.inputs.get(3) {
            Some(id) => self.build.float(at, *id, "the value")?,
            None => 0.0,
        };
        self.build.pad(at, x, before, &after, value)
    }

    fn interpolate(&mut self, layer: &Layer<'_>) -> Result<TensorId, ImportError> {
        let (at, attributes, x) = (self.at, self.attributes, self.input(0)?);
        if layer.version == "opset1" {
            return Err(at.unsupported("the operator before opset4"));
        }
        let coordinates = attributes.choice(
            "coordinate_transformation_mode",
            &["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn"],
        )?;
        let nearest = attributes.choice(
            "nearest_mode",
            &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"],
        )?;
        let mode = attributes.choice("mode", &["nearest", "linear", "linear_onnx"])?;
        let (Some(coordinates), Some(nearest)) = (Coordinates::named(coordinates), Nearest::named(nearest))
        else {
            return Err(at.unsupported("this rule"));
        };
        let rule =
            if mode == "nearest" { Rule::Nearest(coordinates, nearest) } else { Rule::Linear(coordinates) };
        let sizes_given = attributes.choice("shape_calculation_mode", &["sizes", "scales"])? == "sizes";
        let padding = ["pads_begin", "pads_end"].iter().map(|key| attributes.list::<i64>(key));
        if padding.collect::<Result<Vec<_>, _>>()?.iter().flatten().flatten().any(|pad| *pad != 0) {
            return Err(at.unsupported("padding"));
        }
        // Linear resizing to a smaller size differs with this; to a larger it does not.
        let antialias = attributes.boolean("antialias", false)?;
        attributes.ignore(&["cube_coeff"]);
        let &[_, _, height, width] = self.build.shape(x) else {
            return Err(at.unsupported(format!("{:?}; only [N,C,H,W] is", self.build.shape(x))));
        };
        // Before opset11 sizes and scales come separately.
        let separate = !matches!(layer.version.trim_start_matches("opset").parse::<u32>(), Ok(11..));
        let (scales, on) = if separate { (2, 3) } else { (1, 2) };
        let on = if self.inputs.len() > on { self.integers(on, "axes")? } else { vec![0, 1, 2, 3] };
        let on = on.iter().map(|value| axis(at, *value, 4)).collect::<Result<Vec<_>, _>>()?;
        let all = self.build.shape(x).to_vec();
        let mut sides = [Side::to_size(height, height), Side::to_size(width, width)];
        let told = if sizes_given {
            self.build.floats(at, self.input(1)?, "sizes")?
        } else {
            self.build.floats(at, self.input(scales)?, "scales")?
        };
        if told.len() != on.len() {
            return Err(at.invalid(format!("{} sizes for {} axes", told.len(), on.len())));
        }
        for (axis, value) in on.into_iter().zip(told) {
            let side = match sizes_given {
                true => Side::to_size(all[axis], size(at, value as i64, "a dimension")?),
                false => Side::by_scale(at, all[axis], value)?,
            };
            match axis {
                2 | 3 => sides[axis - 2] = side,
                _ if side.output == side.input => {}
                _ => return Err(at.unsupported("resizing of channels")),
            }
        }
        if antialias && mode != "nearest" && sides.iter().any(|side| side.output < side.input) {
            return Err(at.unsupported("antialias"));
        }
        self.build.resize(at, x, rule, sides)
    }
}

/// What a dimension of a strided slice becomes.
#[derive(Debug, Clone, Copy)]
enum Shaped {
    Kept,
    Gone,
    New,
}
