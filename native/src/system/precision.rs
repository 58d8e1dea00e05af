//! Precision of matrix products in training. Parameters, gradients, moments and sums are always f32.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use candle_core::Device;
use candle_core::cuda::set_gemm_reduced_precision_f32;
use dinomaly_core::executors::candle::kernels::Element;
use serde::{Deserialize, Serialize};

/// Precision of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    /// Single precision.
    #[default]
    F32,
    /// Values are stored in f32; the GPU's tensor cores round factors to a mantissa of ten bits.
    Tf32,
    /// Factors and the activations between products are rounded to bf16.
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
    /// All precisions.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Default precision of a device.
    pub fn usual(device: &Device) -> Self {
        if device.is_cuda() { Self::Bf16 } else { Self::F32 }
    }

    /// Sets the device to this precision.
    ///
    /// # Errors
    /// If the device does not support it.
    pub fn begin(self, device: &Device) -> Result<()> {
        if self == Self::Tf32 && !device.is_cuda() {
            bail!("--precision tf32 is for NVIDIA GPUs: use f32 on the processor, or bf16 to try its effect");
        }
        set_gemm_reduced_precision_f32(self == Self::Tf32);
        Ok(())
    }

    /// Storage type of the activations between products.
    pub fn element(self) -> Element {
        match self {
            Self::F32 | Self::Tf32 => Element::F32,
            Self::Bf16 => Element::Bf16,
        }
    }
}
