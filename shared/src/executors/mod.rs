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

/// Largest allowed relative error of the score, and of the map's root mean square, with rounded activations, if that is more
/// than the tolerance. Measured with eight bits: 0.7 and 1.3 % with the embedded model, whose seven metrics change by at most
/// 0.16 points; 2.0 and 0.2 % with DeiT-Ti trained on one product, weights rounded too. Single map values change by up to
/// 19 %, but only the smallest ones, which do not matter.
pub const INT8_ERROR: f32 = 0.03;
