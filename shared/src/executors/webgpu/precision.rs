//! How much of a number's precision is given up for speed.

use std::str::FromStr;

use crate::bundle::SelfTest;
use crate::{Error, Result};

/// What linear layers are computed in. Sums are f32 in all of them, and so is everything but linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuPrecision {
    /// Weights as they are stored, activations f32: nothing is given up.
    #[default]
    F32,
    /// Weights that are stored in f32 are rounded to f16: half the memory and half the traffic.
    F16,
    /// Where weights are int8, activations are rounded to int8 too, with a scale for each token; other weights as in
    /// [`GpuPrecision::F16`]. An adapter without integer dot products computes as in that.
    Int8,
}

impl GpuPrecision {
    /// From what gives up most to what gives up nothing.
    pub const FASTEST_FIRST: [Self; 3] = [Self::Int8, Self::F16, Self::F32];

    /// What part of a result its rounding may cost: what a self-test allows beside its tolerance.
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
