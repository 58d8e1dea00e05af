//! Inference on the processor, natively and in the browser: fused operations with SIMD on all cores, no autograd. Products use
//! `rten-gemm`, which selects instructions at run time (AVX2, AVX-512 and VNNI, NEON), or `gemm/tiles.rs` in the browser;
//! element-wise functions use `rten-vecmath`.
//!
//! Weights are packed once. In [`ProcessorPrecision::Int8`] they are int8 with a scale per output channel; inputs of products are
//! rounded to eight bits (more in the browser) with a scale per token; sums are exact in i32; all else is f32.

pub(super) mod attention;
mod bank;
pub(super) mod gelu;
pub(super) mod gemm;
mod pool;
mod product;
mod rows;
mod tensor;

use std::rc::Rc;

use crate::ops::{
    Linear, Neighbours, Norm, Ops, Places, Read, RelativeBias, Then, around_extents, choose_extents, conv_extents,
    mean_token_extents, nearest_extents, part_width, rotation_prefix, top_extents,
};
use crate::tensor::HostTensor;
use crate::{Error, Result};
use attention::Heads;
pub use gemm::Kernels;
use pool::Pool;
pub use tensor::ProcessorTensor;

/// Precision of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcessorPrecision {
    /// Single precision; int8 weights are widened.
    #[default]
    F32,
    /// Eight-bit integers, sums in 32 bits.
    Int8,
}

impl ProcessorPrecision {
    /// `f32` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// Executor on the processor. The default one computes in single precision.
#[derive(Default)]
pub struct Processor {
    precision: ProcessorPrecision,
    kernels: Kernels,
    pool: Rc<Pool>,
}

impl Processor {
    /// Executor with products in this precision.
    pub fn new(precision: ProcessorPrecision) -> Self {
        Self { precision, kernels: Kernels::default(), pool: Rc::default() }
    }

    /// The same executor in another precision, for weights uploaded from now on.
    #[must_use]
    pub fn with_precision(self, precision: ProcessorPrecision) -> Self {
        Self { precision, ..self }
    }

    /// The same executor with other kernels. For tests: those of the browser also run natively, in plain loops.
    #[must_use]
    pub fn with_kernels(self, kernels: Kernels) -> Self {
        Self { kernels, ..self }
    }

    /// Precision of matrix products.
    pub fn precision(&self) -> ProcessorPrecision {
        self.precision
    }

    /// Tensor of unspecified values, for a result.
    fn result(&self, shape: Vec<usize>) -> ProcessorTensor {
        ProcessorTensor::of_pool(&self.pool, shape)
    }
}

impl Ops for Processor {
    type Tensor = ProcessorTensor;

    fn upload(&self, tensor: &HostTensor) -> Result<ProcessorTensor> {
        Ok(ProcessorTensor::upload(tensor))
    }

    fn upload_weight(&self, weight: &HostTensor) -> Result<ProcessorTensor> {
        ProcessorTensor::upload_weight(weight, self.precision, self.kernels)
    }

    fn linear(
        &self,
        x: &ProcessorTensor,
        layer: &Linear<ProcessorTensor>,
        then: Then<'_, ProcessorTensor>,
    ) -> Result<ProcessorTensor> {
        let [batch, tokens, inputs] = x.activation("linear input")?;
        let [outputs, _] = layer.weight.matrix("linear weight")?;
        layer.weight.expect("linear weight", &[outputs, inputs])?;
        if let Some(bias) = &layer.bias {
            bias.expect("linear bias", &[outputs])?;
        }
        if let Then::Add(residual) = then {
            residual.expect("linear residual", &[batch, tokens, outputs])?;
        }
        let mut result = self.result(vec![batch, tokens, outputs]);
        let weight = layer.weight.packed()?;
        let bias = layer.bias.as_ref().map(ProcessorTensor::values).transpose()?;
        let then = match then {
            Then::Store => product::Then::Store,
            Then::Gelu => product::Then::Gelu,
            Then::Add(residual) => product::Then::Add(residual.values()?),
        };
        product::multiply(x.values()?, weight, bias, then, result.values_mut()?)?;
        Ok(result)
    }

    fn layer_norm(&self, x: &ProcessorTensor, norm: &Norm<ProcessorTensor>) -> Result<ProcessorTensor> {
        let [.., channels] = x.activation("layer norm input")?;
        norm.weight.expect("layer norm weight", &[channels])?;
        norm.bias.expect("layer norm bias", &[channels])?;
        let mut result = self.result(x.shape().to_vec());
        rows::layer_norm(x.values()?, norm.weight.values()?, norm.bias.values()?, norm.eps, result.values_mut()?);
        Ok(result)
    }

    fn attention(
        &self,
        qkv: &ProcessorTensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&ProcessorTensor>,
    ) -> Result<ProcessorTensor> {
        let split = Heads::split(qkv, heads)?;
        let bias = match bias {
            Some(bias) => {
                let grid = RelativeBias::grid(bias.shape(), heads, split.tokens)?;
                Some(attention::Bias { table: bias.values()?, grid })
            }
            None => None,
        };
        let mut result = self.result(split.shape());
        attention::softmax(&split, self.kernels, self.precision, qkv.values()?, hidden, bias, result.values_mut()?)?;
        Ok(result)
    }

    fn linear_attention(
        &self,
        qkv: &ProcessorTensor,
        heads: usize,
        hidden: Option<Neighbours>,
        eps: f64,
    ) -> Result<ProcessorTensor> {
        let split = Heads::split(qkv, heads)?;
        let mut result = self.result(split.shape());
        attention::linear(&split, self.kernels, qkv.values()?, hidden, eps as f32, result.values_mut()?)?;
        Ok(result)
    }

    fn recentre(&self, x: &ProcessorTensor, eps: Option<f64>) -> Result<ProcessorTensor> {
        let [_, tokens, channels] = x.activation("tokens to recentre")?;
        let mut result = self.result(x.shape().to_vec());
        rows::recentre(x.values()?, tokens, channels, eps, result.values_mut()?);
        Ok(result)
    }

    fn rotate(&self, qkv: &ProcessorTensor, heads: usize, rotation: &ProcessorTensor) -> Result<ProcessorTensor> {
        let [_, tokens, packed] = qkv.activation("qkv")?;
        let prefix = rotation_prefix(tokens, packed, heads, rotation.shape())?;
        let mut result = self.result(qkv.shape().to_vec());
        rows::rotate(qkv.values()?, tokens, prefix, heads, rotation.values()?, result.values_mut()?);
        Ok(result)
    }

    fn swiglu(&self, x: &ProcessorTensor) -> Result<ProcessorTensor> {
        let [batch, tokens, channels] = x.activation("SwiGLU input")?;
        let mut result = self.result(vec![batch, tokens, channels / 2]);
        rows::swiglu(x.values()?, channels, result.values_mut()?);
        Ok(result)
    }

    fn depthwise_conv(&self, x: &ProcessorTensor, weight: &ProcessorTensor) -> Result<ProcessorTensor> {
        let [_, tokens, channels] = x.activation("convolution input")?;
        let (grid, side) = conv_extents(tokens, channels, weight.shape())?;
        let mut result = self.result(x.shape().to_vec());
        rows::depthwise_conv(x.values()?, channels, weight.values()?, grid, side, result.values_mut()?);
        Ok(result)
    }

    fn embed(
        &self,
        patches: &ProcessorTensor,
        prefix: &ProcessorTensor,
        positions: &ProcessorTensor,
    ) -> Result<ProcessorTensor> {
        let [batch, tokens, channels] = patches.activation("patch embeddings")?;
        positions.expect("positions", &[tokens, channels])?;
        let [before, _] = prefix.matrix("prefix tokens")?;
        prefix.expect("prefix tokens", &[before, channels])?;
        let mut result = self.result(vec![batch, before + tokens, channels]);
        let (prefix, positions) = (prefix.values()?, positions.values()?);
        let photos = patches.values()?.chunks_exact(tokens * channels);
        for (photo, out) in photos.zip(result.values_mut()?.chunks_exact_mut((before + tokens) * channels)) {
            let (first, rest) = out.split_at_mut(prefix.len());
            first.copy_from_slice(prefix);
            rest.iter_mut().zip(photo).zip(positions).for_each(|((out, patch), position)| *out = patch + position);
        }
        Ok(result)
    }

    fn drop_tokens(&self, x: &ProcessorTensor, first: usize) -> Result<ProcessorTensor> {
        let [batch, tokens, channels] = x.activation("tokens")?;
        let mut result = self.result(vec![batch, tokens - first, channels]);
        let photos = x.values()?.chunks_exact(tokens * channels);
        for (photo, out) in photos.zip(result.values_mut()?.chunks_exact_mut((tokens - first) * channels)) {
            out.copy_from_slice(&photo[first * channels..]);
        }
        Ok(result)
    }

    fn mean_token(&self, x: &ProcessorTensor, first: usize) -> Result<ProcessorTensor> {
        let [batch, tokens, channels] = mean_token_extents(x.shape(), first)?;
        let mut result = self.result(vec![batch, 1, channels]);
        rows::mean_token(x.values()?, tokens, channels, first, result.values_mut()?);
        Ok(result)
    }

    fn concatenate(&self, xs: &[ProcessorTensor]) -> Result<ProcessorTensor> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to concatenate"))?;
        let [batch, tokens, channels] = first.activation("tokens")?;
        let mut result = self.result(vec![batch, tokens, xs.len() * channels]);
        for (i, x) in xs.iter().enumerate() {
            x.expect("concatenation operand", first.shape())?;
            let rows = result.values_mut()?.chunks_exact_mut(xs.len() * channels);
            for (out, row) in rows.zip(x.values()?.chunks_exact(channels)) {
                out[i * channels..][..channels].copy_from_slice(row);
            }
        }
        Ok(result)
    }

    fn mean(&self, xs: &[ProcessorTensor]) -> Result<ProcessorTensor> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to average"))?;
        for x in xs {
            x.expect("mean operand", first.shape())?;
        }
        let operands = xs.iter().map(ProcessorTensor::values).collect::<Result<Vec<_>>>()?;
        let mut result = self.result(first.shape().to_vec());
        rows::mean(&operands, result.values_mut()?);
        Ok(result)
    }

    fn cosine_distance(&self, a: &ProcessorTensor, b: &ProcessorTensor) -> Result<ProcessorTensor> {
        let [batch, tokens, channels] = a.activation("cosine operand")?;
        b.expect("cosine operand", a.shape())?;
        let mut result = self.result(vec![batch, tokens]);
        rows::cosine_distance(a.values()?, b.values()?, channels, result.values_mut()?);
        Ok(result)
    }

    fn normalize(&self, x: &ProcessorTensor) -> Result<ProcessorTensor> {
        let [.., channels] = x.activation("rows to normalise")?;
        let mut result = self.result(x.shape().to_vec());
        bank::normalize(x.values()?, channels, result.values_mut()?);
        Ok(result)
    }

    fn nearest(&self, cosines: &ProcessorTensor, so_far: Option<&ProcessorTensor>) -> Result<ProcessorTensor> {
        let [batch, tokens, n] = nearest_extents(cosines.shape(), so_far.map(ProcessorTensor::shape))?;
        let so_far = so_far.map(ProcessorTensor::values).transpose()?;
        let mut result = self.result(vec![batch, tokens]);
        bank::nearest(cosines.values()?, n, so_far, result.values_mut()?);
        Ok(result)
    }

    fn squared_norms(&self, x: &ProcessorTensor, parts: usize) -> Result<ProcessorTensor> {
        let [batch, tokens, channels] = x.activation("parts")?;
        let width = part_width(channels, parts)?;
        let mut result = self.result(vec![batch, tokens, parts]);
        bank::squared_norms(x.values()?, width, result.values_mut()?);
        Ok(result)
    }

    fn choose(
        &self,
        values: &ProcessorTensor,
        x: &ProcessorTensor,
        prototypes: &ProcessorTensor,
    ) -> Result<ProcessorTensor> {
        let [batch, tokens, _, channels] = choose_extents(values.shape(), x.shape(), prototypes.shape())?;
        let mut result = self.result(vec![batch, tokens]);
        bank::choose(values.values()?, x.values()?, prototypes.values()?, channels, tokens, result.values_mut()?);
        Ok(result)
    }

    fn top_rows(&self, x: &ProcessorTensor, rows: &ProcessorTensor, k: usize) -> Result<ProcessorTensor> {
        let [batch, n, channels] = top_extents(x.shape(), rows.shape())?;
        let mut result = self.result(vec![batch, n]);
        bank::top_rows(x.values()?, x.shape()[1], rows.values()?, channels, k, result.values_mut()?);
        Ok(result)
    }

    fn nearest_around(
        &self,
        x: &ProcessorTensor,
        rows: &ProcessorTensor,
        chosen: &ProcessorTensor,
        places: Places,
        so_far: Option<&ProcessorTensor>,
    ) -> Result<ProcessorTensor> {
        let so_far_shape = so_far.map(ProcessorTensor::shape);
        let [batch, tokens, _, channels] =
            around_extents(x.shape(), rows.shape(), chosen.shape(), places, so_far_shape)?;
        let mut result = self.result(vec![batch, tokens]);
        match so_far {
            Some(found) => result.values_mut()?.copy_from_slice(found.values()?),
            None => result.values_mut()?.fill(2.0),
        }
        let extents = [tokens, channels, chosen.shape()[1]];
        bank::nearest_around(x.values()?, rows.values()?, chosen.values()?, places, extents, result.values_mut()?);
        Ok(result)
    }
}

impl Read for Processor {
    async fn read_back(&self, tensors: &[&ProcessorTensor]) -> Result<Vec<Vec<f32>>> {
        tensors.iter().map(|tensor| Ok(tensor.values()?.to_vec())).collect()
    }
}
