//! The GPU's module: WGSL kernels through WebGPU.

use dinomaly_core::Result;
use dinomaly_core::bundle::Manifest;
pub use dinomaly_core::executors::webgpu::GpuPrecision as Precision;
use dinomaly_core::executors::webgpu::WebGpu;

use crate::results::{DeviceDescribed, KernelTimed};

/// What computes.
pub type Executor = WebGpu;

/// What it is called in messages.
pub const NAME: &str = "webgpu";

/// Opens the fastest GPU, even one that is emulated: whether it is worth using is for the page to say. What an earlier visit measured
/// of it need not be measured again.
pub async fn open(tuning: Option<&str>) -> Result<Executor> {
    if let Some(tuning) = tuning {
        // One of an older page: the GPU is measured again.
        let _ = WebGpu::restore(tuning);
    }
    WebGpu::new().await
}

/// What a model may be computed in, the fastest first.
pub fn candidates(gpu: &Executor, manifest: &Manifest) -> Vec<Precision> {
    gpu.candidates(manifest)
}

/// The GPU in another precision.
pub fn compute_in(gpu: Executor, precision: Precision) -> Executor {
    gpu.with_precision(precision)
}

/// What part of a result may be lost to rounding.
pub fn rounding(gpu: &Executor) -> f32 {
    gpu.precision().rounding()
}

/// Whether it can go on in another precision.
pub fn check(gpu: &Executor) -> Result<()> {
    gpu.check()
}

/// Describes it for the page.
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

/// Compiles what a model's photos need, which goes on while the weights arrive.
pub fn prepare(gpu: &Executor, manifest: &Manifest) {
    gpu.compile(manifest);
}

/// Times kernels from now on.
pub fn start_profile(gpu: &Executor) -> Result<()> {
    gpu.start_profile()
}

/// What they took since.
pub fn kernel_times(gpu: &Executor) -> Vec<KernelTimed> {
    let times = gpu.profile().into_iter();
    times.map(|time| KernelTimed::new(time.kernel, time.count, time.nanoseconds)).collect()
}
