//! The interface of both kinds of memory.

use candle_core::{Device, Result, Tensor};

/// A photo's features in memory.
pub trait Held {
    /// The values `[count]`, on a device.
    ///
    /// # Errors
    /// If the device fails.
    fn fetch(&self, device: &Device) -> Result<Tensor>;

    /// Waits until no device fetches from this memory any more. It must not be dropped earlier.
    fn wait(&self) {}
}
