//! The processor's module, for where there is no GPU: products with simd128, one thread.

use dinomaly_core::Result;
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::processor::{Precision, Processor};

use crate::results::DeviceDescribed;

/// What computes.
pub type Executor = Processor;

/// What it is called in messages.
pub const NAME: &str = "processor";

/// There is always a processor.
pub async fn open() -> Result<Executor> {
    Ok(Processor::new(Precision::F32))
}

/// Takes a model in single precision, int8 weights widened: in wasm products of int8 are slower than those of f32.
pub async fn load(processor: Executor, model: &Model, uploaded: &mut dyn FnMut()) -> Result<Detector<Executor>> {
    let detector = Detector::new(processor, model)?;
    uploaded();
    if let Some(self_test) = &model.self_test {
        detector.verify(NAME, self_test, 0.0).await?;
    }
    Ok(detector)
}

/// Describes it for the page.
pub fn describe(processor: &Executor) -> DeviceDescribed {
    DeviceDescribed { kind: "wasm", name: None, software: false, precision: processor.precision().name() }
}
