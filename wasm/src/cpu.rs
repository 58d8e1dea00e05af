//! The processor's module, for where there is no GPU: products with simd128, one thread.

use dinomaly_core::Result;
use dinomaly_core::bundle::{Manifest, Storage};
use dinomaly_core::executors::processor::Processor;
pub use dinomaly_core::executors::processor::ProcessorPrecision as Precision;

use crate::results::{DeviceDescribed, KernelTimed};

/// What computes.
pub type Executor = Processor;

/// What it is called in messages.
pub const NAME: &str = "processor";

/// There is always a processor. It has not been measured.
pub async fn open(_: Option<&str>) -> Result<Executor> {
    Ok(Processor::new(Precision::F32))
}

/// What a model may be computed in, the fastest first: int8 weights as they are.
pub fn candidates(_: &Executor, manifest: &Manifest) -> Vec<Precision> {
    let mut all = vec![Precision::F32];
    if manifest.stores(Storage::Int8) {
        all.insert(0, Precision::Int8);
    }
    all
}

/// The processor in another precision.
pub fn compute_in(processor: Executor, precision: Precision) -> Executor {
    processor.with_precision(precision)
}

/// What part of a result may be lost to rounding: here activations keep thirteen bits.
pub fn rounding(_: &Executor) -> f32 {
    0.0
}

/// It always can go on.
pub fn check(_: &Executor) -> Result<()> {
    Ok(())
}

/// Describes it for the page.
pub fn describe(processor: &Executor) -> DeviceDescribed {
    DeviceDescribed { kind: "wasm", name: None, software: false, precision: processor.precision().name(), tuning: None }
}

/// Nothing is left to compile.
pub fn prepare(_: &Executor, _: &Manifest) {}

/// Kernels are timed on GPUs only.
pub fn start_profile(_: &Executor) -> Result<()> {
    Ok(())
}

/// None.
pub fn kernel_times(_: &Executor) -> Vec<KernelTimed> {
    Vec::new()
}
