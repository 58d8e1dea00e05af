//! The implementations of [`crate::ops::Ops`], side by side.

#[cfg(feature = "candle")]
pub mod candle;
pub mod reference;
#[cfg(feature = "webgpu")]
pub mod webgpu;
