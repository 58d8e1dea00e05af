//! What both kinds of memory can do.

use candle_core::{Device, Result, Tensor};

/// A photo's values in memory.
pub trait Held {
    /// The values `[count]` on a device.
    ///
    /// # Errors
    /// If the device fails.
    fn fetch(&self, device: &Device) -> Result<Tensor>;

    /// Waits until no device fetches from this memory any more: before that it must not be dropped.
    fn wait(&self) {}
}
