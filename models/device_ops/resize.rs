//! Resizing along one dimension: which lines of the input a line of the output lies between, and how near to the second.

use candle_core::{DType, Device, Result, Tensor};

use crate::graph::Sampling;

/// Lines of one dimension.
#[derive(Debug)]
pub struct Lines {
    axis: usize,
    low: Tensor,
    /// The line after `low`, and how much of it is taken; none where each line is one line of the input.
    high: Option<(Tensor, Tensor)>,
}

impl Lines {
    /// For a dimension of `size` lines that becomes one of `made`. `axis` counts the batch; none where nothing changes.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(
        sampling: Sampling,
        size: usize,
        made: usize,
        axis: usize,
        device: &Device,
    ) -> Result<Option<Self>> {
        if size == made {
            return Ok(None);
        }
        let last = size.saturating_sub(1);
        let at = |line: usize| -> f32 {
            let at = match sampling {
                Sampling::NearestAsymmetric => (line * size / made) as f32,
                Sampling::LinearHalfPixel => (line as f32 + 0.5) * size as f32 / made as f32 - 0.5,
                Sampling::LinearAlignCorners if made == 1 => 0.0,
                Sampling::LinearAlignCorners => line as f32 * last as f32 / (made - 1) as f32,
            };
            at.clamp(0.0, last as f32)
        };
        let low: Vec<u32> = (0..made).map(|line| at(line).floor() as u32).collect();
        let parts: Vec<f32> = (0..made).map(|line| at(line) - at(line).floor()).collect();
        let high: Vec<u32> = low.iter().map(|line| (line + 1).min(last as u32)).collect();
        let upload = |lines: &[u32]| Tensor::from_slice(lines, lines.len(), device);
        // [made] along the axis of [N, 1, C, H, W].
        let shape: Vec<usize> = (axis..5).map(|i| if i == axis { made } else { 1 }).collect();
        let high = if parts.iter().all(|part| *part == 0.0) {
            None
        } else {
            Some((upload(&high)?, Tensor::from_slice(&parts, shape, device)?))
        };
        Ok(Some(Self { axis, low: upload(&low)?, high }))
    }

    /// Resizes that dimension.
    ///
    /// # Errors
    /// When the device fails.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let low = x.index_select(&self.low, self.axis)?;
        let Some((high, part)) = &self.high else { return Ok(low) };
        let high = x.index_select(high, self.axis)?.to_dtype(DType::F32)?;
        let low = low.to_dtype(DType::F32)?;
        let between = (high - &low)?.broadcast_mul(part)?;
        (low + between)?.to_dtype(x.dtype())
    }
}
