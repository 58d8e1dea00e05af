//! The processor's module, for where there is no GPU: products with simd128, one thread.

use dinomaly_core::Result;
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::processor::{Precision, Processor};
use dinomaly_core::tensor::Data;

use crate::results::DeviceDescribed;

/// What computes.
pub type Executor = Processor;

/// What it is called in messages.
pub const NAME: &str = "processor";

/// There is always a processor.
pub async fn open() -> Result<Executor> {
    Ok(Processor::new(Precision::F32))
}

/// Takes a model: int8 weights as they are where the self-test accepts products of whole numbers, all others in single precision.
pub async fn load(_: Executor, model: &Model, uploaded: &mut dyn FnMut()) -> Result<Detector<Executor>> {
    let is_int8 = model.weights.0.values().any(|tensor| matches!(tensor.data, Data::Int8 { .. }));
    if is_int8 && let Ok(detector) = load_in(Precision::Int8, model, uploaded).await {
        return Ok(detector);
    }
    load_in(Precision::F32, model, uploaded).await
}

async fn load_in(precision: Precision, model: &Model, uploaded: &mut dyn FnMut()) -> Result<Detector<Executor>> {
    let detector = Detector::new(Processor::new(precision), model)?;
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
