//! Module for the GPU: WGSL kernels through WebGPU.

use dinomaly_core::Result;
use dinomaly_core::bundle::Manifest;
pub use dinomaly_core::executors::webgpu::GpuPrecision as Precision;
use dinomaly_core::executors::webgpu::WebGpu;

use crate::results::{DeviceDescribed, KernelTimed};

/// Executor of this module.
pub type Executor = WebGpu;

/// Name of the executor in error messages.
pub const NAME: &str = "webgpu";

/// Opens the fastest GPU, even an emulated one: the page decides whether to use it. With the tuning of an earlier visit it is not
/// measured again.
pub async fn open(tuning: Option<&str>) -> Result<Executor> {
    if let Some(tuning) = tuning {
        // Fails for the tuning of an older page: the GPU is measured again.
        let _ = WebGpu::restore(tuning);
    }
    WebGpu::new().await
}

/// Precisions for a model, the fastest first.
pub fn candidates(gpu: &Executor, manifest: &Manifest) -> Vec<Precision> {
    gpu.candidates(manifest.self_test.is_some(), |storage| manifest.stores(storage))
}

/// The same executor in another precision.
pub fn compute_in(gpu: Executor, precision: Precision) -> Executor {
    gpu.with_precision(precision)
}

/// Relative error allowed for rounding.
pub fn rounding(gpu: &Executor) -> f32 {
    gpu.precision().rounding()
}

/// Checks that the device can go on in another precision.
pub fn check(gpu: &Executor) -> Result<()> {
    gpu.check()
}

/// Description for the page.
pub fn describe(gpu: &Executor) -> DeviceDescribed {
    let adapter = gpu.adapter();
    DeviceDescribed {
        kind: "webgpu",
        name: Some(format!("{} {}", adapter.vendor, adapter.name).trim().to_owned()),
        software: adapter.is_software,
        precision: gpu.precision().name(),
        tuning: Some(gpu.tuning()),
    }
}

/// Compiles kernels for a model in the background, while its weights are loaded.
pub fn prepare(gpu: &Executor, manifest: &Manifest) {
    gpu.compile(|storage| manifest.stores(storage));
}

/// Starts timing kernels.
pub fn start_profile(gpu: &Executor) -> Result<()> {
    gpu.start_profile()
}

/// Times of kernels since then.
pub fn kernel_times(gpu: &Executor) -> Vec<KernelTimed> {
    let times = gpu.profile().into_iter();
    times.map(|time| KernelTimed::new(time.kernel, time.count, time.nanoseconds)).collect()
}
