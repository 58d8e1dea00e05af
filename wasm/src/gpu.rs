//! The GPU's module: WGSL kernels through WebGPU.

use dinomaly_core::Result;
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::webgpu::WebGpu;

use crate::results::DeviceDescribed;

/// What computes.
pub type Executor = WebGpu;

/// What it is called in messages.
pub const NAME: &str = "webgpu";

/// Opens the fastest GPU, even one that is emulated: whether it is worth using is for the page to say.
pub async fn open() -> Result<Executor> {
    WebGpu::new().await
}

/// Takes a model in the fastest precision that its self-test accepts.
pub async fn load(gpu: Executor, model: &Model, uploaded: &mut dyn FnMut()) -> Result<Detector<Executor>> {
    Ok(gpu.open_model(model, uploaded).await?.detector)
}

/// Describes it for the page.
pub fn describe(gpu: &Executor) -> DeviceDescribed {
    let adapter = gpu.adapter();
    DeviceDescribed {
        kind: "webgpu",
        name: Some(format!("{} {}", adapter.vendor, adapter.name).trim().to_owned()),
        software: adapter.is_software,
        precision: gpu.precision().name(),
    }
}
