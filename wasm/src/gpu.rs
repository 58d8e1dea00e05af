//! The GPU's module: WGSL kernels through WebGPU.

use dinomaly_core::Result;
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

/// Describes it for the page.
pub fn describe(gpu: &Executor) -> DeviceDescribed {
    let adapter = gpu.adapter();
    DeviceDescribed {
        kind: "webgpu",
        name: Some(format!("{} {}", adapter.vendor, adapter.name).trim().to_owned()),
        software: adapter.is_software,
    }
}
