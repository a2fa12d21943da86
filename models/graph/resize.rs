//! Which sample of the input each place of a resized output takes, by the rules that ONNX and OpenVINO share.

use super::build::Builder;
use super::error::{At, ImportError};
use super::{Op, Sampling, TensorId};

/// From a place of the output to a place of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    /// As half pixel, but 0 where the output has one place.
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// Half pixel without going back by half.
    TfHalfPixelForNn,
}

impl Coordinates {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "half_pixel" => Self::HalfPixel,
            "pytorch_half_pixel" => Self::PytorchHalfPixel,
            "align_corners" => Self::AlignCorners,
            "asymmetric" => Self::Asymmetric,
            "tf_half_pixel_for_nn" => Self::TfHalfPixelForNn,
            _ => return None,
        })
    }

    /// The formats compute this in f32, and so it is done here.
    fn place(self, place: usize, side: Side) -> f32 {
        let x = place as f32;
        match self {
            Self::HalfPixel => (x + 0.5) / side.scale - 0.5,
            Self::PytorchHalfPixel if side.output <= 1 => 0.0,
            Self::PytorchHalfPixel => (x + 0.5) / side.scale - 0.5,
            Self::AlignCorners if side.output <= 1 => 0.0,
            Self::AlignCorners => x * (side.input - 1) as f32 / (side.output - 1) as f32,
            Self::Asymmetric => x / side.scale,
            Self::TfHalfPixelForNn => (x + 0.5) / side.scale,
        }
    }
}

/// From a place between two samples to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    Floor,
    Ceil,
    RoundPreferFloor,
    RoundPreferCeil,
    /// Ceil when the output is smaller, else cut.
    Simple,
}

impl Nearest {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "round_prefer_floor" => Self::RoundPreferFloor,
            "round_prefer_ceil" => Self::RoundPreferCeil,
            "simple" => Self::Simple,
            _ => return None,
        })
    }

    fn sample(self, place: f32, side: Side) -> usize {
        let sample = match self {
            Self::Floor => place.floor(),
            Self::Ceil => place.ceil(),
            Self::RoundPreferFloor => (place - 0.5).ceil(),
            Self::RoundPreferCeil => (place + 0.5).floor(),
            Self::Simple if side.scale < 1.0 => place.ceil(),
            Self::Simple => place.trunc(),
        };
        sample.clamp(0.0, (side.input - 1) as f32) as usize
    }
}

/// One dimension that is resized.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    /// Size before, at least 1.
    pub input: usize,
    /// Size after, at least 1.
    pub output: usize,
    /// Output size per input size, as the rules use it.
    pub scale: f32,
}

impl Side {
    pub fn to_size(input: usize, output: usize) -> Self {
        Self { input, output, scale: output as f32 / input as f32 }
    }

    /// The output has as many places as whole samples fit.
    pub fn by_scale(at: At<'_>, input: usize, scale: f32) -> Result<Self, ImportError> {
        let output = (input as f32 * scale).floor();
        if !(scale > 0.0 && (1.0..1e8).contains(&output)) {
            return Err(at.invalid(format!("{input} values resized by {scale}")));
        }
        Ok(Self { input, output: output as usize, scale })
    }
}

/// How samples are taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Nearest(Coordinates, Nearest),
    Linear(Coordinates),
}

impl Builder {
    /// Resizes the last two dimensions.
    pub(super) fn resize(
        &mut self,
        at: At<'_>,
        x: TensorId,
        rule: Rule,
        sides: [Side; 2],
    ) -> Result<TensorId, ImportError> {
        let shape = self.resized_shape(at, x, sides.map(|side| side.output))?;
        match rule {
            Rule::Nearest(coordinates, nearest) => {
                let table = |side: Side| -> Vec<usize> {
                    (0..side.output)
                        .map(|place| nearest.sample(coordinates.place(place, side), side))
                        .collect()
                };
                let [rows, columns] = sides.map(table);
                self.resize_nearest(at, x, &rows, &columns)
            }
            Rule::Linear(coordinates) => {
                let same_scale =
                    sides.iter().all(|side| side.input as f32 * side.scale == side.output as f32);
                let one = sides.iter().any(|side| side.output == 1 && side.input != 1);
                let sampling = match coordinates {
                    Coordinates::AlignCorners => Sampling::LinearAlignCorners,
                    Coordinates::HalfPixel if same_scale => Sampling::LinearHalfPixel,
                    Coordinates::PytorchHalfPixel if same_scale && !one => Sampling::LinearHalfPixel,
                    _ => {
                        return Err(
                            at.unsupported(format!("linear resizing with {coordinates:?} and {sides:?}"))
                        );
                    }
                };
                self.shaped(at, Op::Resize(sampling), &[x], Some(&shape))
            }
        }
    }
}
