//! Precision of linear layers on the GPU, and those that are worth a try.

use std::str::FromStr;

use super::WebGpu;
use super::kernel::Kernel;
use super::linear::Operands;
use crate::executors::INT8_ERROR;
use crate::tensor::StorageType;
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
            Self::Int8 => INT8_ERROR,
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

impl WebGpu {
    /// Precisions that differ for weights of the types that `stores` accepts, the fastest first. The model's self-test decides among
    /// them; if it has none, f32 is the only one. So it is on an emulated GPU, where smaller types save no time (on SwiftShader f16
    /// weights took as long as f32 ones, int8 activations a fifth longer).
    pub fn candidates(&self, has_self_test: bool, stores: impl Fn(StorageType) -> bool) -> Vec<GpuPrecision> {
        if !has_self_test || self.adapter().is_software {
            return vec![GpuPrecision::F32];
        }
        let differs = |precision: &GpuPrecision| match precision {
            GpuPrecision::F32 => true,
            GpuPrecision::F16 => stores(StorageType::Float32),
            GpuPrecision::Int8 => stores(StorageType::Int8) && self.adapter().integer_dot,
        };
        GpuPrecision::FASTEST_FIRST.into_iter().filter(differs).collect()
    }

    /// Compiles the kernels that nearly every model with weights of these types needs, in the present precision. A browser does so in
    /// the background while weights are loaded. Other kernels are compiled on first use.
    pub fn compile(&self, stores: impl Fn(StorageType) -> bool) {
        // A shard of a smaller type has a few tensors in f32 too.
        let stored = StorageType::ALL.into_iter().filter(|&storage| storage == StorageType::Float32 || stores(storage));
        for operands in stored.map(|storage| Operands::of(storage, self.precision, self.adapter().integer_dot)) {
            self.kernels.pipeline(Kernel::Linear(operands, self.tile));
            if operands == Operands::Int8Both {
                self.kernels.pipeline(Kernel::QuantizeRows);
            }
        }
        Kernel::USUAL.into_iter().for_each(|kernel| drop(self.kernels.pipeline(kernel)));
    }
}
