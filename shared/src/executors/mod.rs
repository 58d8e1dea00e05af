//! The implementations of [`crate::ops::Ops`], side by side.

#[cfg(feature = "candle")]
pub mod candle;
#[cfg(feature = "processor")]
pub mod processor;
pub mod reference;
pub mod watched;
#[cfg(feature = "webgpu")]
pub mod webgpu;
