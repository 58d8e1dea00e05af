//! The processor's module, for where there is no GPU: candle with simd128, one thread.

use candle_core::Device;
use dinomaly_core::Result;
use dinomaly_core::executors::candle::Candle;

use crate::results::DeviceDescribed;

/// What computes.
pub type Executor = Candle<'static>;

/// What it is called in messages.
pub const NAME: &str = "candle";

/// There is always a processor.
pub async fn open() -> Result<Executor> {
    Ok(Candle::infer(Device::Cpu))
}

/// Describes it for the page.
pub fn describe(_: &Executor) -> DeviceDescribed {
    DeviceDescribed { kind: "wasm", name: None, software: false }
}
