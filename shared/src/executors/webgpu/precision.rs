//! Precision of linear layers on the GPU.

use std::str::FromStr;

use crate::bundle::SelfTest;
use crate::{Error, Result};

/// Precision of linear layers. Sums, and all other operations, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuPrecision {
    /// Weights as stored, activations f32: no further loss.
    #[default]
    F32,
    /// f32 weights are rounded to f16: half the memory and traffic.
    F16,
    /// Inputs of int8 weights are rounded to int8, with a scale per token; other weights are as in [`GpuPrecision::F16`]. The same as
    /// [`GpuPrecision::F16`] on adapters that have no integer dot products.
    Int8,
}

impl GpuPrecision {
    /// All precisions, the fastest first.
    pub const FASTEST_FIRST: [Self; 3] = [Self::Int8, Self::F16, Self::F32];

    /// Largest relative error of a result by rounding, which the self-test allows if it exceeds the tolerance.
    pub fn rounding(self) -> f32 {
        match self {
            Self::F32 | Self::F16 => 0.0,
            Self::Int8 => SelfTest::ROUNDED,
        }
    }

    /// `f32`, `f16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

impl FromStr for GpuPrecision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::FASTEST_FIRST.into_iter().find(|precision| precision.name() == text);
        known.ok_or_else(|| Error::config(format!("precision {text} is not known: choose f32, f16 or int8")))
    }
}
