//! Which device computes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A device as it is written in settings and on the command line: `auto`, `cpu`, `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU where there is one and the build supports it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

/// What a GPU computes in; the CPU always computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Weights and values in 32 bits: the same numbers as on the CPU.
    #[default]
    F32,
    /// Weights and values in 16 bits; sums and everything between two of them in 32 bits. Certainties may be up to
    /// 0.02 away from those of f32.
    F16,
}

/// Where a network computes, and in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compute {
    /// Where.
    pub device: DeviceChoice,
    /// In what, if that is a GPU.
    pub precision: Precision,
}

impl From<DeviceChoice> for Compute {
    fn from(device: DeviceChoice) -> Self {
        Self { device, precision: Precision::default() }
    }
}

impl DeviceChoice {
    /// Replaces `Auto` by what this machine has.
    pub fn resolve(self) -> Self {
        match self {
            #[cfg(feature = "cuda")]
            DeviceChoice::Auto if crate::cuda::device(0).is_ok() => DeviceChoice::Cuda(0),
            DeviceChoice::Auto => DeviceChoice::Cpu,
            chosen => chosen,
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Neither `auto` nor `cpu` nor `cuda:N`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device; use auto, cpu or cuda:N")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .filter(|n| *n < 64)
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| UnknownDevice(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for device in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Cuda(7)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    #[test]
    fn refuses_what_is_no_device() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:99999999999999999999", "CPU"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text:?}");
        }
    }
}
