//! How operators of the formats are expressed in those of the graph, as far as both formats need it: axes and ranges
//! that count from the end, shapes with placeholders, padding by rule, resizing by any rule for the nearest sample.

use std::sync::Arc;

use super::build::{Builder, count};
use super::error::{At, ImportError};
use super::limits::{MAX_NODE_INPUTS, MAX_RANK, MAX_RESIZED_SIDE};
use super::{Binary, Data, Kind, Op, Reduction, Sampling, TensorId, Unary, Window};

/// An axis that may count from the end.
pub(super) fn axis(at: At<'_>, value: i64, rank: usize) -> Result<usize, ImportError> {
    let counted = if value < 0 { value.checked_add(rank as i64) } else { Some(value) };
    counted
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|axis| *axis < rank)
        .ok_or_else(|| at.invalid(format!("axis {value} of {rank} dimensions")))
}

/// Axes that may count from the end, sorted; none twice.
pub(super) fn axes(at: At<'_>, values: &[i64], rank: usize) -> Result<Vec<usize>, ImportError> {
    let mut axes = values.iter().map(|value| axis(at, *value, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(at.invalid(format!("axes {values:?} name one twice")));
    }
    Ok(axes)
}

/// A size or count out of a file.
pub(super) fn size(at: At<'_>, value: i64, what: &str) -> Result<usize, ImportError> {
    usize::try_from(value).map_err(|_| at.invalid(format!("{what} of {value}")))
}

pub(super) fn sizes(at: At<'_>, values: &[i64], what: &str) -> Result<Vec<usize>, ImportError> {
    values.iter().map(|value| size(at, *value, what)).collect()
}

/// Height and width.
pub(super) fn pair(at: At<'_>, values: &[i64], what: &str) -> Result<[usize; 2], ImportError> {
    match sizes(at, values, what)?.as_slice() {
        [height, width] => Ok([*height, *width]),
        other => Err(at.unsupported(format!("{what} over {} dimensions; only 2 are", other.len()))),
    }
}

/// How a window is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// As told.
    Explicit,
    /// So that the output has size / stride values; what does not divide goes to the end.
    SameUpper,
    /// The same, but it goes to the front.
    SameLower,
    /// Not at all.
    Valid,
}

/// What happens to places at the end that do not fill a stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// They are left out.
    Floor,
    /// One more window takes them.
    Ceil,
    /// As `Ceil`, but no window that would begin behind the input and its front padding.
    CeilInside,
}

/// The window with its padding decided for an input of this size. `after` contains what rounding up needs.
pub(super) fn padded(
    at: At<'_>,
    mut window: Window,
    padding: Padding,
    rounding: Rounding,
    shape: &[usize],
) -> Result<Window, ImportError> {
    let &[_, _, height, width] = shape else {
        return Err(at.unsupported(format!("a window over {shape:?}; only [N,C,H,W] is")));
    };
    for (side, size) in [height, width].into_iter().enumerate() {
        let (kernel, stride, dilation) = (window.kernel[side], window.stride[side], window.dilation[side]);
        let told = window;
        let misfit = || at.invalid(format!("window {told:?} does not fit {shape:?}"));
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err(misfit());
        }
        let reach =
            (kernel - 1).checked_mul(dilation).and_then(|way| way.checked_add(1)).ok_or_else(misfit)?;
        match padding {
            Padding::Explicit => {}
            Padding::Valid => (window.before[side], window.after[side]) = (0, 0),
            Padding::SameUpper | Padding::SameLower => {
                let way = (size.div_ceil(stride).saturating_sub(1)).checked_mul(stride).ok_or_else(misfit)?;
                let missing = way.checked_add(reach).ok_or_else(misfit)?.saturating_sub(size);
                let (less, more) = (missing / 2, missing - missing / 2);
                let upper = padding == Padding::SameUpper;
                (window.before[side], window.after[side]) = if upper { (less, more) } else { (more, less) };
            }
        }
        if rounding == Rounding::Floor {
            continue;
        }
        let (before, after) = (window.before[side], window.after[side]);
        let total = size.checked_add(before).and_then(|sum| sum.checked_add(after)).ok_or_else(misfit)?;
        let mut count = total.checked_sub(reach).ok_or_else(misfit)?.div_ceil(stride) + 1;
        if rounding == Rounding::CeilInside && (count - 1).saturating_mul(stride) >= size + before {
            count -= 1;
        }
        let end = (count.saturating_sub(1)).checked_mul(stride).and_then(|way| way.checked_add(reach));
        window.after[side] = end.ok_or_else(misfit)?.saturating_sub(size + before);
    }
    Ok(window)
}

/// One dimension of a slice as the formats tell it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// First index, clipped; none is the end the step leads away from.
    pub begin: Option<i64>,
    /// Index that is not taken any more, clipped; none is the end the step leads to.
    pub end: Option<i64>,
    /// Not 0.
    pub step: i64,
}

impl Range {
    pub const ALL: Self = Self { begin: None, end: None, step: 1 };

    /// First index, step and count for a dimension of this size.
    fn resolve(self, at: At<'_>, size: usize) -> Result<(usize, isize, usize), ImportError> {
        let count = size as i64;
        let misfit = || at.invalid(format!("{self:?} of {size}"));
        let step = isize::try_from(self.step).map_err(|_| misfit())?;
        // The first index may be that of a value, the last one step further.
        let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
        let place = |index: Option<i64>, default: i64| match index {
            None => default,
            Some(index) => (if index < 0 { index.saturating_add(count) } else { index }).clamp(low, high),
        };
        let (begin, end) = match step {
            0 => return Err(misfit()),
            1.. => (place(self.begin, low), place(self.end, high)),
            _ => (place(self.begin, high), place(self.end, low)),
        };
        let way = if step > 0 { end - begin } else { begin - end };
        let taken = if way <= 0 { 0 } else { way.unsigned_abs().div_ceil(self.step.unsigned_abs()) };
        let taken = usize::try_from(taken).map_err(|_| misfit())?;
        // Without values the begin is not used; it must not lie outside all the same.
        let begin = if taken == 0 { 0 } else { usize::try_from(begin).map_err(|_| misfit())? };
        Ok((begin, step, taken))
    }
}

impl Builder {
    /// The same values in another shape; at most one size may be -1 (what is left). With `zero_copies` a 0 is the
    /// input's size at the same place.
    pub fn reshape(
        &mut self,
        at: At<'_>,
        x: TensorId,
        sizes: &[i64],
        zero_copies: bool,
    ) -> Result<TensorId, ImportError> {
        let shape = self.shape(x);
        let misfit = || at.invalid(format!("{shape:?} cannot become {sizes:?}"));
        let mut made = Vec::with_capacity(sizes.len().min(MAX_RANK + 1));
        let mut rest = None;
        for (place, value) in sizes.iter().enumerate().take(MAX_RANK + 1) {
            made.push(match *value {
                0 if zero_copies => *shape.get(place).ok_or_else(misfit)?,
                -1 if rest.is_none() => {
                    rest = Some(place);
                    1
                }
                value => usize::try_from(value).map_err(|_| misfit())?,
            });
        }
        if let Some(place) = rest {
            let (all, known) = (count(shape)?, count(&made)?);
            if known == 0 || all % known != 0 {
                return Err(misfit());
            }
            made[place] = all / known;
        }
        self.shaped(at, Op::Reshape, &[x], Some(&made))
    }

    /// Reshapes to a shape that is known.
    pub fn reshape_to(&mut self, at: At<'_>, x: TensorId, shape: &[usize]) -> Result<TensorId, ImportError> {
        self.shaped(at, Op::Reshape, &[x], Some(shape))
    }

    /// Removes these dimensions of size 1, or all of them.
    pub fn squeeze(
        &mut self,
        at: At<'_>,
        x: TensorId,
        which: Option<&[i64]>,
    ) -> Result<TensorId, ImportError> {
        let shape = self.shape(x);
        let gone = match which {
            Some(values) => axes(at, values, shape.len())?,
            None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
        };
        if let Some(axis) = gone.iter().find(|axis| shape[**axis] != 1) {
            return Err(at.invalid(format!("dimension {axis} of {shape:?} cannot be removed")));
        }
        let made: Vec<usize> =
            (0..shape.len()).filter(|axis| !gone.contains(axis)).map(|axis| shape[axis]).collect();
        self.reshape_to(at, x, &made)
    }

    /// Adds dimensions of size 1 that have these places in the output.
    pub fn unsqueeze(&mut self, at: At<'_>, x: TensorId, places: &[i64]) -> Result<TensorId, ImportError> {
        let rank = self.rank(x) + places.len();
        super::error::at_most("number of dimensions", rank, MAX_RANK)?;
        let new = axes(at, places, rank)?;
        let mut old = self.shape(x).iter();
        let made: Vec<usize> = (0..rank)
            .map(|place| if new.contains(&place) { 1 } else { old.next().copied().unwrap_or(1) })
            .collect();
        self.reshape_to(at, x, &made)
    }

    pub fn transpose(&mut self, at: At<'_>, x: TensorId, order: &[i64]) -> Result<TensorId, ImportError> {
        let rank = self.rank(x);
        let order = order.iter().map(|value| axis(at, *value, rank)).collect::<Result<Vec<_>, _>>()?;
        self.op(at, Op::Transpose { order }, &[x])
    }

    /// Takes a part of each dimension.
    pub(super) fn slice(
        &mut self,
        at: At<'_>,
        x: TensorId,
        ranges: &[Range],
    ) -> Result<TensorId, ImportError> {
        let shape = self.shape(x);
        let (mut begin, mut step, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for (range, size) in ranges.iter().zip(shape) {
            let (first, way, taken) = range.resolve(at, *size)?;
            begin.push(first);
            step.push(way);
            made.push(taken);
        }
        self.shaped(at, Op::Slice { begin, step }, &[x], Some(&made))
    }

    /// Slices of an axis given by their lengths.
    pub fn split(
        &mut self,
        at: At<'_>,
        x: TensorId,
        axis: usize,
        lengths: &[usize],
    ) -> Result<Vec<TensorId>, ImportError> {
        super::error::at_most("outputs of a node", lengths.len(), MAX_NODE_INPUTS)?;
        let shape = self.shape(x).to_vec();
        let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
        if total != Some(shape[axis]) {
            return Err(at.invalid(format!("parts {lengths:?} of {shape:?} along axis {axis}")));
        }
        let mut start = 0;
        let mut parts = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (mut begin, mut made) = (vec![0; shape.len()], shape.clone());
            (begin[axis], made[axis]) = (start, *length);
            parts.push(self.shaped(
                at,
                Op::Slice { begin, step: vec![1; shape.len()] },
                &[x],
                Some(&made),
            )?);
            start += length;
        }
        Ok(parts)
    }

    pub fn binary(
        &mut self,
        at: At<'_>,
        how: Binary,
        a: TensorId,
        b: TensorId,
    ) -> Result<TensorId, ImportError> {
        self.op(at, Op::Binary(how), &[a, b])
    }

    /// Arithmetic on each value; integers only where they are constants and the result is an integer.
    pub fn unary(&mut self, at: At<'_>, how: Unary, x: TensorId) -> Result<TensorId, ImportError> {
        if let Unary::Clamp(low, high) = how
            && (low.is_nan() || high.is_nan() || low > high)
        {
            return Err(at.unsupported(format!("bounds {low} and {high}")));
        }
        if self.get(x).kind == Kind::F32 {
            return self.op(at, Op::Unary(how), &[x]);
        }
        let of: fn(i64) -> Option<i64> = match how {
            Unary::Neg => i64::checked_neg,
            Unary::Abs => i64::checked_abs,
            Unary::Relu => |value| Some(value.max(0)),
            _ => return Err(at.unsupported("integers")),
        };
        let values = self.integers(at, x, "values")?.into_iter().map(of).collect::<Option<Vec<i64>>>();
        let values = values.ok_or_else(|| at.invalid("integers overflow"))?;
        let shape = self.shape(x).to_vec();
        self.made(at, &shape, Data::I64(values.into()))
    }

    /// A constant that was computed of others.
    pub fn made(&mut self, at: At<'_>, shape: &[usize], value: Data) -> Result<TensorId, ImportError> {
        self.may_fold(value.len(), value.len() as u64)?;
        self.constant(at.node, shape, value)
    }

    /// A computation on each value that only constants can have.
    pub fn map_constant(
        &mut self,
        at: At<'_>,
        x: TensorId,
        of: impl Fn(f32) -> f32,
    ) -> Result<TensorId, ImportError> {
        let values: Arc<[f32]> = self.floats(at, x, "values")?.into_iter().map(of).collect();
        let shape = self.shape(x).to_vec();
        self.made(at, &shape, Data::F32(values))
    }

    /// Constants as f32; what flows is f32 already.
    pub fn cast_f32(&mut self, at: At<'_>, x: TensorId) -> Result<TensorId, ImportError> {
        match self.get(x).kind {
            Kind::F32 => Ok(x),
            Kind::I64 => self.map_constant(at, x, |value| value),
        }
    }

    /// Constants as integers, cut towards zero.
    pub fn cast_i64(&mut self, at: At<'_>, x: TensorId) -> Result<TensorId, ImportError> {
        if self.get(x).kind == Kind::I64 {
            return Ok(x);
        }
        let values: Arc<[i64]> =
            self.floats(at, x, "values")?.into_iter().map(|value| value as i64).collect();
        let shape = self.shape(x).to_vec();
        self.made(at, &shape, Data::I64(values))
    }

    pub fn reduce(
        &mut self,
        at: At<'_>,
        how: Reduction,
        x: TensorId,
        axes: Vec<usize>,
        keep: bool,
    ) -> Result<TensorId, ImportError> {
        if axes.is_empty() {
            return Ok(x);
        }
        if self.get(x).kind == Kind::I64 {
            return self.reduce_integers(at, how, x, &axes, keep);
        }
        self.op(at, Op::Reduce { how, axes, keep }, &[x])
    }

    /// Shape arithmetic reduces whole rows only (the product of a shape is no operator here).
    fn reduce_integers(
        &mut self,
        at: At<'_>,
        how: Reduction,
        x: TensorId,
        axes: &[usize],
        keep: bool,
    ) -> Result<TensorId, ImportError> {
        let values = self.integers(at, x, "values")?;
        if axes.len() != self.rank(x) {
            return Err(at.unsupported("integers reduced over a part of their dimensions"));
        }
        let made = match how {
            Reduction::Sum => values.iter().try_fold(0i64, |sum, value| sum.checked_add(*value)),
            Reduction::Max => values.iter().max().copied(),
            Reduction::Min => values.iter().min().copied(),
            Reduction::Mean => None,
        };
        let made = made.ok_or_else(|| at.unsupported(format!("{how:?} of integers {values:?}")))?;
        let shape = if keep { vec![1; axes.len()] } else { Vec::new() };
        self.made(at, &shape, Data::I64(Arc::new([made])))
    }

    /// Rows chosen by constant indices.
    pub fn gather(
        &mut self,
        at: At<'_>,
        x: TensorId,
        indices: TensorId,
        axis: usize,
    ) -> Result<TensorId, ImportError> {
        let size = self.shape(x)[axis] as i64;
        let rows = self.integers(at, indices, "indices")?;
        if let Some(row) = rows.iter().find(|row| !(-size..size).contains(*row)) {
            return Err(at.invalid(format!("index {row} of {size}")));
        }
        // Executors see indices that count from the front.
        let rows: Arc<[i64]> = rows.into_iter().map(|row| if row < 0 { row + size } else { row }).collect();
        let shape = self.shape(indices).to_vec();
        let indices = self.made(at, &shape, Data::I64(rows))?;
        self.op(at, Op::Gather { axis }, &[x, indices])
    }

    /// Adds `value` around the input.
    pub fn pad(
        &mut self,
        at: At<'_>,
        x: TensorId,
        before: Vec<usize>,
        after: &[usize],
        value: f32,
    ) -> Result<TensorId, ImportError> {
        let shape = self.shape(x);
        if before.len() != shape.len() || after.len() != shape.len() {
            return Err(at.invalid(format!("padding {before:?} and {after:?} of {shape:?}")));
        }
        let made: Vec<usize> = (0..shape.len())
            .map(|axis| shape[axis].saturating_add(before[axis]).saturating_add(after[axis]))
            .collect();
        count(&made)?;
        self.shaped(at, Op::Pad { before, value }, &[x], Some(&made))
    }

    /// Takes for each place of the output the row and column of the input that the tables name.
    pub fn resize_nearest(
        &mut self,
        at: At<'_>,
        x: TensorId,
        rows: &[usize],
        columns: &[usize],
    ) -> Result<TensorId, ImportError> {
        let &[batch, channels, height, width] = self.shape(x) else {
            return Err(at.unsupported(format!("resizing {:?}; only [N,C,H,W] is", self.shape(x))));
        };
        let asymmetric = |table: &[usize], size: usize| {
            table.iter().enumerate().all(|(made, from)| *from == made * size / table.len())
        };
        if asymmetric(rows, height) && asymmetric(columns, width) {
            let shape = [batch, channels, rows.len(), columns.len()];
            return self.shaped(at, Op::Resize(Sampling::NearestAsymmetric), &[x], Some(&shape));
        }
        let mut made = x;
        for (axis, table) in [(2, rows), (3, columns)] {
            let indices: Vec<i64> = table.iter().map(|from| *from as i64).collect();
            let indices = self.row(at, &indices)?;
            made = self.op(at, Op::Gather { axis }, &[made, indices])?;
        }
        Ok(made)
    }

    /// An [N,C,H,W] shape with another height and width, for resizing.
    pub fn resized_shape(
        &self,
        at: At<'_>,
        x: TensorId,
        sides: [usize; 2],
    ) -> Result<Vec<usize>, ImportError> {
        let &[batch, channels, height, width] = self.shape(x) else {
            return Err(at.unsupported(format!("resizing {:?}; only [N,C,H,W] is", self.shape(x))));
        };
        if sides.contains(&0) {
            return Err(at.invalid(format!("resizing to {sides:?}")));
        }
        for side in [height, width].iter().chain(&sides) {
            super::error::at_most("a side that is resized", *side, MAX_RESIZED_SIDE)?;
        }
        let shape = vec![batch, channels, sides[0], sides[1]];
        count(&shape)?;
        Ok(shape)
    }
}
