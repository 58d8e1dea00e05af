//! What runs the model: in each of the modules one executor.

#[cfg_attr(feature = "gpu", path = "gpu.rs")]
#[cfg_attr(not(feature = "gpu"), path = "cpu.rs")]
mod executor;

use dinomaly_core::Error;
use wasm_bindgen::prelude::*;

pub use executor::{
    Executor, NAME, Precision, candidates, check, compute_in, describe, kernel_times, prepare, rounding, start_profile,
};

use crate::refusal;

/// An executor without a model yet.
#[wasm_bindgen]
pub struct Device(Executor);

impl Device {
    /// The executor itself.
    pub fn into_executor(self) -> Executor {
        self.0
    }
}

/// Opens what this module computes on, which may be done while a model's files arrive. `tuning` is what a description of this device
/// said on an earlier visit.
///
/// # Errors
/// If there is no such device, or it cannot be used.
#[wasm_bindgen(js_name = openDevice)]
pub async fn open_device(tuning: Option<String>) -> Result<Device, JsValue> {
    Ok(Device(executor::open(tuning.as_deref()).await.map_err(unusable)?))
}

/// An error that another device may not have.
pub fn unusable(error: Error) -> JsValue {
    match error {
        Error::Device { .. } => refusal(error),
        other => refusal(Error::Device { executor: NAME, reason: other.to_string() }),
    }
}
