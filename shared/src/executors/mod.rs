//! Implementations of [`crate::ops::Ops`].

#[cfg(feature = "candle")]
pub mod candle;
#[cfg(any(feature = "candle", feature = "processor"))]
mod erf;
#[cfg(feature = "processor")]
pub mod processor;
pub mod reference;
pub mod watched;
#[cfg(feature = "webgpu")]
pub mod webgpu;
