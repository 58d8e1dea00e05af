//! Executor of the model, one for each module.

#[cfg_attr(feature = "gpu", path = "gpu.rs")]
#[cfg_attr(not(feature = "gpu"), path = "cpu.rs")]
mod executor;

use dinomaly_core::Error;
use wasm_bindgen::prelude::*;

pub use executor::{
    Executor, NAME, Precision, candidates, check, compute_in, describe, kernel_times, prepare, rounding, start_profile,
};

use crate::refusal;

/// Executor with no model yet.
#[wasm_bindgen]
pub struct Device(Executor);

impl Device {
    /// The executor itself.
    pub fn into_executor(self) -> Executor {
        self.0
    }
}

/// Opens this module's device, which can be done while a model's files are loaded. `tuning` is that of the device's description on an
/// earlier visit.
///
/// # Errors
/// If there is no device, or it cannot be used.
#[wasm_bindgen(js_name = openDevice)]
pub async fn open_device(tuning: Option<String>) -> Result<Device, JsValue> {
    Ok(Device(executor::open(tuning.as_deref()).await.map_err(unusable)?))
}

/// Turns an error into a `DeviceError`, which another device may not have.
pub fn unusable(error: Error) -> JsValue {
    match error {
        Error::Device { .. } => refusal(error),
        other => refusal(Error::Device { executor: NAME, reason: other.to_string() }),
    }
}
