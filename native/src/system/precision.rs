//! What training multiplies in. Parameters, their gradients and moments, and every sum are f32 whatever is chosen.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use candle_core::Device;
use candle_core::cuda::set_gemm_reduced_precision_f32;
use dinomaly_core::executors::candle::kernels::Element;
use serde::{Deserialize, Serialize};

/// A precision of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    /// Single precision.
    #[default]
    F32,
    /// Factors rounded to ten bits inside the GPU's tensor cores, of values stored in f32.
    Tf32,
    /// Factors and activations between products rounded to eight bits.
    Bf16,
}

impl FromStr for TrainingPrecision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == text);
        found.context("a precision is f32, tf32 or bf16")
    }
}

impl TrainingPrecision {
    /// Every precision.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// As it is given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// What is chosen for a device where nothing else is asked for.
    pub fn usual(device: &Device) -> Self {
        if device.is_cuda() { Self::Bf16 } else { Self::F32 }
    }

    /// Has the device multiply so.
    ///
    /// # Errors
    /// If it cannot.
    pub fn begin(self, device: &Device) -> Result<()> {
        if self == Self::Tf32 && !device.is_cuda() {
            bail!(
                "--precision tf32 is for NVIDIA GPUs: the processor multiplies in f32, or in bf16 to try what it does"
            );
        }
        set_gemm_reduced_precision_f32(self == Self::Tf32);
        Ok(())
    }

    /// How activations between products are stored.
    pub fn element(self) -> Element {
        match self {
            Self::F32 | Self::Tf32 => Element::F32,
            Self::Bf16 => Element::Bf16,
        }
    }
}
