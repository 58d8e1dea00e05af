//! Wrapper of an executor that shows the inputs of its operations to a callback.

use crate::Result;
use crate::ops::{Linear, Neighbours, Norm, Ops, Places, Then};
use crate::photo::preprocess::Preprocessor;
use crate::tensor::HostTensor;

/// Event shown to the callback.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a, T> {
    /// Tensor after its upload.
    Uploaded(&'a T),
    /// Linear layer, before it is computed.
    Linear {
        /// `[batch, tokens, in]`.
        x: &'a T,
        /// `[out, in]`.
        weight: &'a T,
    },
    /// Attention, before it is computed.
    Attention {
        /// `[batch, tokens, 3·channels]`, as [`Ops::attention`] takes it.
        qkv: &'a T,
        /// Number of heads.
        heads: usize,
        /// Keys hidden from patches.
        hidden: Option<Neighbours>,
        /// Epsilon of linear attention; `None` for softmax attention.
        linear: Option<f64>,
    },
}

/// Executor that shows its inputs to `watch`, and stops if that returns an error.
pub struct Watched<O, W> {
    /// The wrapped executor.
    pub ops: O,
    watch: W,
}

impl<O: Ops, W: Fn(Seen<'_, O::Tensor>) -> Result<()>> Watched<O, W> {
    /// Wraps an executor.
    pub fn new(ops: O, watch: W) -> Self {
        Self { ops, watch }
    }
}

impl<O: Ops, W: Fn(Seen<'_, O::Tensor>) -> Result<()>> Ops for Watched<O, W> {
    type Tensor = O::Tensor;

    fn upload(&self, tensor: &HostTensor) -> Result<O::Tensor> {
        let uploaded = self.ops.upload(tensor)?;
        (self.watch)(Seen::Uploaded(&uploaded))?;
        Ok(uploaded)
    }

    fn upload_weight(&self, weight: &HostTensor) -> Result<O::Tensor> {
        let uploaded = self.ops.upload_weight(weight)?;
        (self.watch)(Seen::Uploaded(&uploaded))?;
        Ok(uploaded)
    }

    fn upload_rows(&self, rows: &HostTensor) -> Result<O::Tensor> {
        let uploaded = self.ops.upload_rows(rows)?;
        (self.watch)(Seen::Uploaded(&uploaded))?;
        Ok(uploaded)
    }

    fn upload_photos(&self, cut: &[Vec<u8>], preprocessor: &Preprocessor, patch: usize) -> Result<O::Tensor> {
        let uploaded = self.ops.upload_photos(cut, preprocessor, patch)?;
        (self.watch)(Seen::Uploaded(&uploaded))?;
        Ok(uploaded)
    }

    fn linear(&self, x: &O::Tensor, layer: &Linear<O::Tensor>, then: Then<'_, O::Tensor>) -> Result<O::Tensor> {
        (self.watch)(Seen::Linear { x, weight: &layer.weight })?;
        self.ops.linear(x, layer, then)
    }

    fn layer_norm(&self, x: &O::Tensor, norm: &Norm<O::Tensor>) -> Result<O::Tensor> {
        self.ops.layer_norm(x, norm)
    }

    fn attention(
        &self,
        qkv: &O::Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&O::Tensor>,
    ) -> Result<O::Tensor> {
        (self.watch)(Seen::Attention { qkv, heads, hidden, linear: None })?;
        self.ops.attention(qkv, heads, hidden, bias)
    }

    fn rotate(&self, qkv: &O::Tensor, heads: usize, rotation: &O::Tensor) -> Result<O::Tensor> {
        self.ops.rotate(qkv, heads, rotation)
    }

    fn swiglu(&self, x: &O::Tensor) -> Result<O::Tensor> {
        self.ops.swiglu(x)
    }

    fn linear_attention(
        &self,
        qkv: &O::Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        eps: f64,
    ) -> Result<O::Tensor> {
        (self.watch)(Seen::Attention { qkv, heads, hidden, linear: Some(eps) })?;
        self.ops.linear_attention(qkv, heads, hidden, eps)
    }

    fn recentre(&self, x: &O::Tensor, eps: Option<f64>) -> Result<O::Tensor> {
        self.ops.recentre(x, eps)
    }

    fn depthwise_conv(&self, x: &O::Tensor, weight: &O::Tensor) -> Result<O::Tensor> {
        self.ops.depthwise_conv(x, weight)
    }

    fn embed(&self, patches: &O::Tensor, prefix: &O::Tensor, positions: &O::Tensor) -> Result<O::Tensor> {
        self.ops.embed(patches, prefix, positions)
    }

    fn drop_tokens(&self, x: &O::Tensor, first: usize) -> Result<O::Tensor> {
        self.ops.drop_tokens(x, first)
    }

    fn mean_token(&self, x: &O::Tensor, first: usize) -> Result<O::Tensor> {
        self.ops.mean_token(x, first)
    }

    fn concatenate(&self, xs: &[O::Tensor]) -> Result<O::Tensor> {
        self.ops.concatenate(xs)
    }

    fn mean(&self, xs: &[O::Tensor]) -> Result<O::Tensor> {
        self.ops.mean(xs)
    }

    fn cosine_distance(&self, a: &O::Tensor, b: &O::Tensor) -> Result<O::Tensor> {
        self.ops.cosine_distance(a, b)
    }

    fn normalize(&self, x: &O::Tensor) -> Result<O::Tensor> {
        self.ops.normalize(x)
    }

    fn nearest(&self, cosines: &O::Tensor, so_far: Option<&O::Tensor>) -> Result<O::Tensor> {
        self.ops.nearest(cosines, so_far)
    }

    fn squared_norms(&self, x: &O::Tensor, parts: usize) -> Result<O::Tensor> {
        self.ops.squared_norms(x, parts)
    }

    fn choose(&self, values: &O::Tensor, x: &O::Tensor, prototypes: &O::Tensor) -> Result<O::Tensor> {
        self.ops.choose(values, x, prototypes)
    }

    fn top_rows(&self, x: &O::Tensor, rows: &O::Tensor, k: usize) -> Result<O::Tensor> {
        self.ops.top_rows(x, rows, k)
    }

    fn nearest_around(
        &self,
        x: &O::Tensor,
        rows: &O::Tensor,
        chosen: &O::Tensor,
        places: Places,
        so_far: Option<&O::Tensor>,
    ) -> Result<O::Tensor> {
        self.ops.nearest_around(x, rows, chosen, places, so_far)
    }
}
