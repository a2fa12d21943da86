//! Operators that read a neighbourhood of each place, as candle operators: a convolution that goes over its taps
//! directly (depthwise, grouped, few input channels), the rearrangement that makes a convolution a product of matrices,
//! and pools. All take `[.., C, H, W]`, any padding, stride and dilation per side. The CPU code is plain: it is there so
//! that everything around the GPU's kernels can be tested, not to be fast.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::program::{Program, floats, stored};
use crate::graph::Window;

/// A window and the planes it slides from and to.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    /// Channels read and made.
    pub channels: [usize; 2],
    /// Height and width of what is read.
    pub input: [usize; 2],
    /// Height and width of what is made.
    pub output: [usize; 2],
    /// The window.
    pub window: Window,
}

impl Geometry {
    /// Taps of the window.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Values of one plane that is made.
    pub fn made(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values of one plane that is read.
    pub fn read(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Each place that is made is one place that is read.
    pub fn is_pointwise(&self) -> bool {
        let Window { kernel, stride, before, after, .. } = self.window;
        kernel == [1, 1] && stride == [1, 1] && before == [0, 0] && after == [0, 0]
    }

    /// Pictures in a tensor of this shape, checked against what is read.
    pub(crate) fn pictures(&self, layout: &Layout) -> Result<usize> {
        let dims = layout.dims();
        let expected = [self.channels[0], self.input[0], self.input[1]];
        match dims.len().checked_sub(3) {
            Some(lead) if dims[lead..] == expected => Ok(dims[..lead].iter().product()),
            _ => bail!("a window over {expected:?} was given {dims:?}"),
        }
    }

    /// The shape with other last three dimensions.
    pub(crate) fn shape(&self, layout: &Layout, last: &[usize]) -> Shape {
        let dims = layout.dims();
        let mut made = dims[..dims.len().saturating_sub(3)].to_vec();
        made.extend_from_slice(last);
        Shape::from(made)
    }

    /// Place in the input's plane of a tap of the window at a place of the output; none outside.
    fn tap(&self, place: [usize; 2], tap: [usize; 2]) -> Option<usize> {
        let at = |side: usize| {
            (place[side] * self.window.stride[side] + tap[side] * self.window.dilation[side])
                .checked_sub(self.window.before[side])
                .filter(|at| *at < self.input[side])
        };
        Some(at(0)? * self.input[1] + at(1)?)
    }
}

fn dtype(storage: &CpuStorage) -> DType {
    if matches!(storage, CpuStorage::F16(_)) { DType::F16 } else { DType::F32 }
}

/// A convolution that goes over its taps for each value, with what follows it.
#[derive(Debug)]
pub struct Direct<'a> {
    /// Planes and window.
    pub geometry: Geometry,
    /// Channel groups.
    pub groups: usize,
    /// `[O, C / groups, kh, kw]`.
    pub weights: &'a Tensor,
    /// What follows.
    pub program: &'a Program,
}

impl Direct<'_> {
    /// The weights are as many as are read.
    pub(crate) fn check(&self) -> Result<()> {
        let [read, made] = self.geometry.channels;
        let groups = self.groups;
        let fits = groups > 0 && read % groups == 0 && made % groups == 0;
        if !fits || self.weights.elem_count() != made * (read / groups) * self.geometry.taps() {
            bail!(
                "weights {:?} do not fit {read} and {made} channels in {groups} groups",
                self.weights.dims()
            );
        }
        Ok(())
    }
}

impl CustomOp1 for Direct<'_> {
    fn name(&self) -> &'static str {
        "direct-convolution"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.check()?;
        let g = &self.geometry;
        let pictures = g.pictures(layout)?;
        let x = floats(storage, layout)?;
        let weights = self.weights.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let [read, made] = g.channels;
        let (per_group, made_per_group) = (read / self.groups, made / self.groups);
        let mut values = Vec::with_capacity(pictures * made * g.made());
        for picture in 0..pictures {
            for channel in 0..made {
                let first = picture * read + channel / made_per_group * per_group;
                let filter = &weights[channel * per_group * g.taps()..][..per_group * g.taps()];
                for row in 0..g.output[0] {
                    for column in 0..g.output[1] {
                        let mut sum = 0.0f32;
                        for ky in 0..g.window.kernel[0] {
                            for kx in 0..g.window.kernel[1] {
                                let Some(at) = g.tap([row, column], [ky, kx]) else { continue };
                                for c in 0..per_group {
                                    let weight = filter[c * g.taps() + ky * g.window.kernel[1] + kx];
                                    sum += x[(first + c) * g.read() + at] * weight;
                                }
                            }
                        }
                        values.push(sum);
                    }
                }
            }
        }
        self.program.apply(&mut values)?;
        let shape = g.shape(layout, &[made, g.output[0], g.output[1]]);
        Ok((stored(values, dtype(storage))?, shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        crate::cuda::launch::direct(self, storage, layout)
    }
}

/// What each place's window sees as a column: `[.., C * kh * kw, H * W]`, so that a convolution is its weights times
/// this, and the result lies as a picture again.
#[derive(Debug)]
pub struct Columns {
    /// Planes and window.
    pub geometry: Geometry,
}

impl CustomOp1 for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = &self.geometry;
        let pictures = g.pictures(layout)?;
        let x = floats(storage, layout)?;
        let mut values = Vec::with_capacity(pictures * g.channels[0] * g.taps() * g.made());
        for plane in x.chunks_exact(g.read()) {
            for ky in 0..g.window.kernel[0] {
                for kx in 0..g.window.kernel[1] {
                    for row in 0..g.output[0] {
                        let place = |column| g.tap([row, column], [ky, kx]).map_or(0.0, |at| plane[at]);
                        values.extend((0..g.output[1]).map(place));
                    }
                }
            }
        }
        let shape = Shape::from((pictures, g.channels[0] * g.taps(), g.made()));
        Ok((stored(values, dtype(storage))?, shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        crate::cuda::launch::columns(self, storage, layout)
    }
}

/// How a window becomes one value. The numbers are those of `cuda/kernels.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Pooling {
    /// The largest.
    Max = 0,
    /// The mean of what lies inside.
    Mean = 1,
    /// The mean where outside counts as zeros.
    MeanWithPadding = 2,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Planes and window; as many channels are made as are read.
    pub geometry: Geometry,
    /// How.
    pub how: Pooling,
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = &self.geometry;
        let pictures = g.pictures(layout)?;
        let x = floats(storage, layout)?;
        let mut values = Vec::with_capacity(pictures * g.channels[0] * g.made());
        for plane in x.chunks_exact(g.read()) {
            for row in 0..g.output[0] {
                for column in 0..g.output[1] {
                    let (mut largest, mut sum, mut inside) = (f32::NEG_INFINITY, 0.0f32, 0u32);
                    for ky in 0..g.window.kernel[0] {
                        for kx in 0..g.window.kernel[1] {
                            let Some(at) = g.tap([row, column], [ky, kx]) else { continue };
                            largest = largest.max(plane[at]);
                            sum += plane[at];
                            inside += 1;
                        }
                    }
                    values.push(match self.how {
                        Pooling::Max => largest,
                        Pooling::Mean => sum / inside as f32,
                        Pooling::MeanWithPadding => sum / g.taps() as f32,
                    });
                }
            }
        }
        let shape = g.shape(layout, &[g.channels[0], g.output[0], g.output[1]]);
        Ok((stored(values, dtype(storage))?, shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        crate::cuda::launch::pool(self, storage, layout)
    }
}
