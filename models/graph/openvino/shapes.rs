//! Operators of OpenVINO IR that take parts of a tensor, repeat it or resize it.

use super::document::Layer;
use super::operators::Lowering;
use crate::graph::error::ImportError;
use crate::graph::limits::MAX_NODE_INPUTS;
use crate::graph::lower::{Range, axes, axis, size, sizes};
use crate::graph::resize::{Coordinates, Nearest, Rule, Side};
use crate::graph::{Op, TensorId};

impl Lowering<'_> {
    pub fn split(self) -> Result<Vec<TensorId>, ImportError> {
        let x = self.input(0)?;
        let axis = axis(self.at, self.integer(1, "the axis")?, self.build.rank(x))?;
        let whole = self.build.shape(x)[axis];
        let lengths = match self.attributes.value::<usize>("num_splits")? {
            Some(parts @ 1..=MAX_NODE_INPUTS) if whole.is_multiple_of(parts) => vec![whole / parts; parts],
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

    pub fn strided_slice(&mut self) -> Result<TensorId, ImportError> {
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

    pub fn slice(&mut self) -> Result<TensorId, ImportError> {
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

    pub fn broadcast(&mut self) -> Result<TensorId, ImportError> {
        let (at, x) = (self.at, self.input(0)?);
        let target = sizes(at, &self.integers(1, "sizes")?, "a dimension")?;
        let shape = match self.attributes.choice("mode", &["numpy", "bidirectional"])? {
            "numpy" => target,
            _ => crate::graph::shape::broadcast(self.build.shape(x), &target)
                .ok_or_else(|| at.invalid(format!("{:?} and {target:?}", self.build.shape(x))))?,
        };
        self.build.shaped(at, Op::Broadcast, &[x], Some(&shape))
    }

    pub fn pad(&mut self) -> Result<TensorId, ImportError> {
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

    pub fn interpolate(&mut self, layer: &Layer<'_>) -> Result<TensorId, ImportError> {
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
