//! The operations a model is written in. One operation is what one GPU kernel does.
//!
//! Activations are packed rows `[batch, tokens, channels]`. Operations record or compute and never wait; reading a
//! result back is the executor's own business and happens once a photo. Dropping a tensor gives its memory back.

use crate::Result;
use crate::tensor::HostTensor;

/// An affine layer: `x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out, in]`, in whatever storage the executor keeps weights.
    pub weight: T,
    /// `[out]`.
    pub bias: T,
}

/// A layer normalisation over channels.
#[derive(Clone, Debug)]
pub struct Norm<T> {
    /// `[channels]`.
    pub weight: T,
    /// `[channels]`.
    pub bias: T,
    /// Added to the variance.
    pub eps: f64,
}

/// What a linear layer does with its result before storing it.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a, T> {
    /// Store it.
    Store,
    /// Exact-erf GELU.
    Gelu,
    /// Add a residual of the same shape.
    Add(&'a T),
}

/// An executor: something that can run the model.
pub trait Ops {
    /// A tensor where this executor keeps it. Cloning shares, it never copies the values.
    type Tensor: Clone;

    /// Takes a host tensor over; a quantized weight may stay quantized.
    ///
    /// # Errors
    /// If the device has no room or cannot hold the type.
    fn upload(&self, tensor: &HostTensor) -> Result<Self::Tensor>;

    /// `[batch, tokens, in]` → `[batch, tokens, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        layer: &Linear<Self::Tensor>,
        then: Then<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Normalises each row over its channels, sums in f32 at least, biased variance. Same shape.
    fn layer_norm(&self, x: &Self::Tensor, norm: &Norm<Self::Tensor>) -> Result<Self::Tensor>;

    /// Softmax attention, scale `head_dim^-0.5`: `qkv [batch, tokens, 3·channels]` (q, k, v; inside each head by head) → `[batch, tokens, channels]`.
    fn attention(&self, qkv: &Self::Tensor, heads: usize) -> Result<Self::Tensor>;

    /// Linear attention, `phi = elu + 1`, no scale and no epsilon in the normaliser: shapes as in [`Ops::attention`].
    fn linear_attention(&self, qkv: &Self::Tensor, heads: usize) -> Result<Self::Tensor>;

    /// Adds `positions [patches, channels]` to every photo's `patches [batch, patches, channels]` and puts the rows of
    /// `prefix [p, channels]` (class token with its position, registers without) before them → `[batch, p + patches, channels]`.
    fn embed(&self, patches: &Self::Tensor, prefix: &Self::Tensor, positions: &Self::Tensor) -> Result<Self::Tensor>;

    /// Element-wise mean of tensors of one shape.
    fn mean(&self, xs: &[Self::Tensor]) -> Result<Self::Tensor>;

    /// `1 - cosine(a, b)` over channels: two `[batch, tokens, channels]` → `[batch, tokens]`.
    /// Each norm is clamped from below at 1e-8, as `torch.cosine_similarity` does.
    fn cosine_distance(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// The bottleneck's noise. Executors that only infer leave it as it is, as the official model does in evaluation.
    fn bottleneck_noise(&self, x: &Self::Tensor) -> Result<Self::Tensor> {
        Ok(x.clone())
    }
}

/// An executor whose results can be had: whoever waits for a photo needs it, the model does not.
pub trait Read: Ops {
    /// Copies tensors to the host, all in one readback; each row-major, in single precision. Processors answer at once, a
    /// GPU when it has finished: natively such a future may be waited for with any executor, in a browser the event loop
    /// goes on meanwhile.
    ///
    /// # Errors
    /// If the device fails.
    fn read_back(&self, tensors: &[&Self::Tensor]) -> impl Future<Output = Result<Vec<Vec<f32>>>>;
}
