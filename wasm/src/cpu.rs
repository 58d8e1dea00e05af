//! Module for the processor: products with simd128, one thread.

use dinomaly_core::Result;
use dinomaly_core::bundle::Manifest;
use dinomaly_core::executors::processor::Processor;
pub use dinomaly_core::executors::processor::ProcessorPrecision as Precision;
use dinomaly_core::tensor::StorageType;

use crate::results::{DeviceDescribed, KernelTimed};

/// Executor of this module.
pub type Executor = Processor;

/// Name of the executor in error messages.
pub const NAME: &str = "processor";

/// Opens the processor, which needs no tuning.
pub async fn open(_: Option<&str>) -> Result<Executor> {
    Ok(Processor::new(Precision::F32))
}

/// Precisions for a model, the fastest first: int8 if its weights are.
pub fn candidates(_: &Executor, manifest: &Manifest) -> Vec<Precision> {
    let mut all = vec![Precision::F32];
    if manifest.stores(StorageType::Int8) {
        all.insert(0, Precision::Int8);
    }
    all
}

/// The same executor in another precision.
pub fn compute_in(processor: Executor, precision: Precision) -> Executor {
    processor.with_precision(precision)
}

/// Relative error allowed for rounding: none, because activations keep thirteen bits.
pub fn rounding(_: &Executor) -> f32 {
    0.0
}

/// Checks the device, which cannot fail.
pub fn check(_: &Executor) -> Result<()> {
    Ok(())
}

/// Description for the page.
pub fn describe(processor: &Executor) -> DeviceDescribed {
    DeviceDescribed { kind: "wasm", name: None, software: false, precision: processor.precision().name(), tuning: None }
}

/// Compiles kernels, of which there are none.
pub fn prepare(_: &Executor, _: &Manifest) {}

/// Starts timing kernels, of which there are none.
pub fn start_profile(_: &Executor) -> Result<()> {
    Ok(())
}

/// Times of kernels: none.
pub fn kernel_times(_: &Executor) -> Vec<KernelTimed> {
    Vec::new()
}
