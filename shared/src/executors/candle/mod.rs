//! Executor on candle: training on CPU and CUDA (the head by [`Taped`], encoders by candle's autograd), inference on CUDA and
//! natively on the CPU.
//!
//! candle's fused layer norm and softmax drop gradients silently. The fused layer norm, bias and GELU of this crate are
//! differentiable; its softmax is not, and is used only for inference.

mod depthwise;
pub mod fused;
pub mod kernels;
mod taped;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax;

use crate::ops::{
    Linear, Neighbours, NoiseAt, Norm, Ops, Places, Read, RelativeBias, Then, around_extents, choose_extents,
    conv_extents, mean_token_extents, nearest_extents, part_width, rotation_prefix, top_extents,
};
use crate::tensor::HostTensor;
use crate::{Error, Result};
use kernels::Element;
pub use taped::Taped;

/// Noise on the bottleneck's activations in training; called for input, hidden layer and output in turn.
pub type Noise<'a> = dyn Fn(&Tensor, NoiseAt) -> candle_core::Result<Tensor> + Sync + 'a;

/// No noise.
///
/// # Errors
/// None.
pub fn no_noise(x: &Tensor, _at: NoiseAt) -> candle_core::Result<Tensor> {
    Ok(x.clone())
}

/// Executor on candle, for inference or training.
///
/// In bf16, operands and results of products, and activations between them, are bf16. Parameters, residuals and sums are f32.
pub struct Candle<'a> {
    device: Device,
    mode: Mode<'a>,
    stored: DType,
}

enum Mode<'a> {
    /// Fused operations, no gradients.
    Infer,
    /// Differentiable operations, and the bottleneck's noise.
    Train(&'a Noise<'a>),
}

impl Candle<'static> {
    /// Executor for inference and frozen parts.
    pub fn infer(device: Device) -> Self {
        Self { device, mode: Mode::Infer, stored: DType::F32 }
    }
}

impl<'a> Candle<'a> {
    /// Executor with gradients, and `noise` in the bottleneck.
    pub fn train(device: Device, noise: &'a Noise<'a>) -> Self {
        Self { device, mode: Mode::Train(noise), stored: DType::F32 }
    }

    /// The same executor with another storage type of activations between products.
    #[must_use]
    pub fn storing(mut self, element: Element) -> Self {
        self.stored = element.dtype();
        self
    }

    /// Operand of a product.
    fn factor(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_dtype(self.stored)?)
    }

    /// Device of the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Copies a result to the host.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // The first line is the sentence, the rest a backtrace.
        let text = error.to_string();
        Error::Device { executor: "candle", reason: text.lines().next().unwrap_or_default().to_owned() }
    }
}

impl Ops for Candle<'_> {
    type Tensor = Tensor;

    fn upload(&self, tensor: &HostTensor) -> Result<Tensor> {
        Ok(Tensor::from_slice(&tensor.to_f32(), tensor.shape.as_slice(), &self.device)?)
    }

    fn linear(&self, x: &Tensor, layer: &Linear<Tensor>, then: Then<'_, Tensor>) -> Result<Tensor> {
        let (batch, tokens, inputs) = x.dims3()?;
        let outputs = layer.weight.dim(0)?;
        // One large product, because a batched one would multiply photo by photo.
        let product = self.factor(x)?.reshape((batch * tokens, inputs))?.matmul(&self.factor(&layer.weight)?.t()?)?;
        self.finish(&product.reshape((batch, tokens, outputs))?, layer.bias.as_ref(), then)
    }

    fn layer_norm(&self, x: &Tensor, norm: &Norm<Tensor>) -> Result<Tensor> {
        let Norm { weight, bias, eps } = norm;
        Ok(fused::layer_norm(&single(x)?, weight, bias, *eps, self.stored)?)
    }

    fn attention(
        &self,
        qkv: &Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [q, k, v] = split_heads(&self.factor(qkv)?, heads)?;
        let scale = (q.dim(D::Minus1)? as f64).powf(-0.5);
        let product = q.matmul(&k.t()?)?;
        let logits = || -> Result<Tensor> {
            let logits = (single(&product)? * scale)?;
            Ok(match bias {
                Some(bias) => logits.broadcast_add(&self.spread(bias, qkv.dim(1)?)?)?,
                None => logits,
            })
        };
        let weights = match (&self.mode, bias) {
            (Mode::Infer, None) => fused::softmax(&product, scale)?,
            (Mode::Infer, Some(_)) => fused::softmax(&logits()?, 1.0)?,
            (Mode::Train(_), _) => softmax(&logits()?, D::Minus1)?,
        };
        let weights = match hidden {
            Some(hidden) => single(&weights)?.broadcast_mul(&self.visible(hidden, qkv.dim(1)?)?)?,
            None => weights,
        };
        join_heads(&self.factor(&weights)?.matmul(&v)?)
    }

    fn linear_attention(&self, qkv: &Tensor, heads: usize, hidden: Option<Neighbours>, eps: f64) -> Result<Tensor> {
        let qkv = &self.factor(qkv)?;
        if matches!(self.mode, Mode::Infer)
            && hidden.is_none()
            && let Some(heads) = fused::heads_of(qkv, heads)?
        {
            return Ok(fused::linear_attention(qkv, heads, eps as f32)?.tokens);
        }
        // All results are sums over tokens or channels.
        let [q, k, v] = split_heads(&single(qkv)?, heads)?;
        let (q, k) = ((q.elu(1.0)? + 1.0)?, (k.elu(1.0)? + 1.0)?);
        if let Some(hidden) = hidden {
            // Each query has other hidden keys, which needs the product of all queries with all keys.
            let weights = q.matmul(&k.t()?)?.broadcast_mul(&self.visible(hidden, qkv.dim(1)?)?)?;
            return join_heads(&weights.matmul(&v)?.broadcast_div(&(weights.sum_keepdim(D::Minus1)? + eps)?)?);
        }
        let sums = k.t()?.matmul(&v)?;
        let totals = q.matmul(&k.sum_keepdim(D::Minus2)?.t()?)?;
        join_heads(&q.matmul(&sums)?.broadcast_div(&(totals + eps)?)?)
    }

    fn recentre(&self, x: &Tensor, eps: Option<f64>) -> Result<Tensor> {
        let x = single(x)?;
        let rest = x.broadcast_sub(&x.narrow(1, 0, 1)?)?;
        let Some(eps) = eps else { return Ok(rest) };
        let channels = x.dim(D::Minus1)?;
        let constant = |value: f32| Tensor::full(value, channels, x.device());
        Ok(fused::layer_norm(&rest, &constant(1.0)?, &constant(0.0)?, eps, DType::F32)?)
    }

    fn rotate(&self, qkv: &Tensor, heads: usize, rotation: &Tensor) -> Result<Tensor> {
        let (batch, tokens, packed) = qkv.dims3()?;
        let prefix = rotation_prefix(tokens, packed, heads, rotation.dims())?;
        let (qkv, width, half) = (single(qkv)?, packed / 3, rotation.dim(1)? / 2);
        // Cosines of 1 and sines of 0 do not change the prefix.
        let column = |first: usize, fill: f64| -> candle_core::Result<Tensor> {
            let before = rotation.narrow(0, 0, 1)?.narrow(1, 0, half)?.affine(0.0, fill)?;
            let before = before.broadcast_as((prefix, half))?;
            let all = Tensor::cat(&[&before, &rotation.narrow(1, first, half)?], 0)?;
            all.reshape((tokens, 1, 1, half))
        };
        let (cosines, sines) = (column(0, 1.0)?, column(half, 0.0)?);
        let parts = qkv.narrow(2, 0, 2 * width)?.reshape((batch, tokens, 2 * heads, 2, half))?;
        let (a, b) = (parts.narrow(3, 0, 1)?, parts.narrow(3, 1, 1)?);
        let turned = Tensor::cat(
            &[
                (a.broadcast_mul(&cosines)? - b.broadcast_mul(&sines)?)?,
                (b.broadcast_mul(&cosines)? + a.broadcast_mul(&sines)?)?,
            ],
            3,
        )?;
        let turned = turned.reshape((batch, tokens, 2 * width))?;
        Ok(Tensor::cat(&[&turned, &qkv.narrow(2, 2 * width, width)?], 2)?)
    }

    fn swiglu(&self, x: &Tensor) -> Result<Tensor> {
        let (x, channels) = (single(x)?, x.dim(D::Minus1)? / 2);
        Ok((x.narrow(D::Minus1, 0, channels)?.silu()? * x.narrow(D::Minus1, channels, channels)?)?)
    }

    fn depthwise_conv(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let (grid, side) = conv_extents(tokens, channels, weight.dims())?;
        let image = single(x)?.reshape((batch, grid, grid, channels))?;
        // Channels last, as in the image.
        let kernels = weight.reshape((channels, side * side))?.t()?.contiguous()?;
        let convolved = if self.device.is_cpu() {
            depthwise::depthwise_conv(&image, &kernels)?
        } else {
            shifted_products(&image, &kernels, side)?
        };
        Ok(convolved.reshape((batch, tokens, channels))?)
    }

    fn drop_tokens(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        Ok(x.narrow(1, first, x.dim(1)? - first)?.contiguous()?)
    }

    fn mean_token(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        let [_, tokens, _] = mean_token_extents(x.dims(), first)?;
        Ok(single(&x.narrow(1, first, tokens - first)?)?.mean_keepdim(1)?)
    }

    fn concatenate(&self, xs: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::cat(xs, 2)?)
    }

    fn embed(&self, patches: &Tensor, prefix: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (batch, _, channels) = patches.dims3()?;
        let prefix = prefix.broadcast_as((batch, prefix.dim(0)?, channels))?;
        Ok(Tensor::cat(&[&prefix, &single(patches)?.broadcast_add(positions)?], 1)?)
    }

    fn mean(&self, xs: &[Tensor]) -> Result<Tensor> {
        if matches!(self.mode, Mode::Infer) {
            return Ok(fused::mean(xs)?);
        }
        let (first, rest) = xs.split_first().ok_or_else(|| Error::config("no tensors to average"))?;
        let sum = rest.iter().try_fold(single(first)?, |sum, x| -> Result<_> { Ok((sum + single(x)?)?) })?;
        Ok((sum / xs.len() as f64)?)
    }

    fn cosine_distance(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok((1.0 - cosines(&single(a)?, &single(b)?)?)?)
    }

    fn normalize(&self, x: &Tensor) -> Result<Tensor> {
        let (x, _) = (single(x)?, x.dims3()?);
        let squares = x.sqr()?.sum_keepdim(D::Minus1)?;
        // `maximum` would hide a NaN.
        let smallest = Tensor::full(1e-16f32, squares.shape(), x.device())?;
        Ok(x.broadcast_div(&squares.lt(1e-16)?.where_cond(&smallest, &squares)?.sqrt()?)?)
    }

    fn nearest(&self, cosines: &Tensor, so_far: Option<&Tensor>) -> Result<Tensor> {
        nearest_extents(cosines.dims(), so_far.map(Tensor::dims))?;
        let cosines = single(cosines)?;
        let (distance, total) = ((1.0 - cosines.max(D::Minus1)?)?, cosines.sum(D::Minus1)?);
        let Some(so_far) = so_far else { return Ok(keep_nan(&distance, &total)?) };
        let so_far = single(so_far)?;
        Ok(keep_nan(&distance.minimum(&so_far)?, &(total + so_far)?)?)
    }

    fn squared_norms(&self, x: &Tensor, parts: usize) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let width = part_width(channels, parts)?;
        Ok(single(x)?.sqr()?.reshape((batch, tokens, parts, width))?.sum(D::Minus1)?)
    }

    fn choose(&self, values: &Tensor, x: &Tensor, prototypes: &Tensor) -> Result<Tensor> {
        let [batch, tokens, n, _] = choose_extents(values.dims(), x.dims(), prototypes.dims())?;
        // A product of matrices may round equal prototypes differently.
        let cosines = cosines(&single(&x.narrow(1, 0, 1)?)?, &single(prototypes)?.unsqueeze(0)?)?;
        // On CUDA, `argmax` gives any one of equal ones.
        let largest = cosines.broadcast_eq(&cosines.max_keepdim(1)?)?;
        let places = Tensor::arange(0, n as u32, x.device())?.broadcast_as((batch, n))?;
        let last = Tensor::full(n as u32 - 1, (batch, n), x.device())?;
        let chosen = largest.where_cond(&places, &last)?.min(1)?;
        let chosen = chosen.reshape((batch, 1, 1))?.broadcast_as((batch, tokens, 1))?.contiguous()?;
        let found = single(values)?.contiguous()?.gather(&chosen, 2)?.squeeze(2)?;
        Ok(keep_nan(&found, &cosines.sum_keepdim(1)?.broadcast_as((batch, tokens))?)?)
    }

    fn top_rows(&self, x: &Tensor, rows: &Tensor, k: usize) -> Result<Tensor> {
        let [batch, n, _] = top_extents(x.dims(), rows.dims())?;
        let cosines = cosines(&single(&x.narrow(1, 0, 1)?)?, &single(rows)?.unsqueeze(0)?)?.detach();
        // Number of rows before each one, because sorting on CUDA keeps no order of equal ones.
        let (own, others) = (cosines.unsqueeze(2)?, cosines.unsqueeze(1)?);
        let places = Tensor::arange(0, n as u32, x.device())?;
        let earlier = places.unsqueeze(0)?.broadcast_lt(&places.unsqueeze(1)?)?.broadcast_as((batch, n, n))?;
        let none = earlier.zeros_like()?;
        let before = own.broadcast_eq(&others)?.where_cond(&earlier, &none)?;
        let before = (single(&own.broadcast_lt(&others)?)? + single(&before)?)?.sum(D::Minus1)?;
        let chosen = single(&before.lt(k as f64)?)?;
        Ok(keep_nan(&chosen, &cosines.sum_keepdim(1)?.broadcast_as((batch, n))?)?)
    }

    fn nearest_around(
        &self,
        x: &Tensor,
        rows: &Tensor,
        chosen: &Tensor,
        places: Places,
        so_far: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [batch, tokens, n, channels] =
            around_extents(x.dims(), rows.dims(), chosen.dims(), places, so_far.map(Tensor::dims))?;
        // All cosines, and then those around a token's place: one product is faster than many small ones.
        let product = self.factor(x)?.reshape((batch * tokens, channels))?.matmul(&self.factor(rows)?.t()?)?;
        let cosines = single(&product)?.reshape((batch, tokens, n))?;
        let of_row = |of: &dyn Fn(usize) -> usize| -> Result<Tensor> {
            let numbers: Vec<u32> = (places.first..places.first + n).map(|row| of(row) as u32).collect();
            Ok(Tensor::from_vec(numbers, n, x.device())?)
        };
        let weights = single(chosen)?.index_select(&of_row(&|row| row / places.patches())?, 1)?.unsqueeze(1)?;
        let mut used = weights.ne(0.0)?.broadcast_as((batch, tokens, n))?;
        let none = used.zeros_like()?;
        let (grid, prefix) = (places.grid, tokens - places.patches());
        let lines: [&dyn Fn(usize) -> usize; 2] = [&|patch| patch / grid, &|patch| patch % grid];
        for line in lines {
            // Tokens before the first patch are out of reach.
            let of_token = |token: usize| token.checked_sub(prefix).map_or(-1e6, |patch| line(patch) as f32);
            let token = Tensor::from_vec((0..tokens).map(of_token).collect(), (tokens, 1), x.device())?;
            let row = single(&of_row(&|row| line(row % places.patches()))?)?;
            let near = token.broadcast_sub(&row)?.abs()?.le(places.reach as f64)?;
            used = near.broadcast_as((batch, tokens, n))?.where_cond(&used, &none)?;
        }
        let cosines = cosines.broadcast_mul(&weights)?;
        let lowest = Tensor::full(-1f32, cosines.shape(), x.device())?;
        let total = used.where_cond(&cosines, &cosines.zeros_like()?)?.sum(D::Minus1)?;
        let distance = (1.0 - used.where_cond(&cosines, &lowest)?.max(D::Minus1)?)?.minimum(2.0)?;
        let Some(so_far) = so_far else { return Ok(keep_nan(&distance, &total)?) };
        let so_far = single(so_far)?;
        Ok(keep_nan(&distance.minimum(&so_far)?, &(total + so_far)?)?)
    }

    fn bottleneck_noise(&self, x: &Tensor, at: NoiseAt) -> Result<Tensor> {
        Ok(match self.mode {
            Mode::Infer => x.clone(),
            Mode::Train(noise) => noise(x, at)?,
        })
    }
}

impl Candle<'_> {
    /// Last step of a linear layer.
    fn finish(&self, product: &Tensor, bias: Option<&Tensor>, then: Then<'_, Tensor>) -> Result<Tensor> {
        let Some(bias) = bias else {
            return Ok(match then {
                Then::Gelu => self.factor(&single(product)?.gelu_erf()?)?,
                Then::Store => product.clone(),
                Then::Add(residual) => (single(product)? + single(residual)?)?,
            });
        };
        Ok(match then {
            Then::Gelu => fused::add_bias_gelu(product, bias)?,
            Then::Store => fused::add_bias(product, bias)?,
            Then::Add(residual) => fused::add_bias_residual(product, bias, &single(residual)?)?,
        })
    }

    /// Expands a relative position bias `[heads, entries]` to every pair of tokens: `[1, heads, tokens, tokens]`.
    fn spread(&self, bias: &Tensor, tokens: usize) -> Result<Tensor> {
        let heads = bias.dim(0)?;
        let grid = RelativeBias::grid(bias.dims(), heads, tokens)?;
        let entry = |i: usize| RelativeBias::entry(grid, i / tokens, i % tokens) as u32;
        let entries = Tensor::from_iter((0..tokens * tokens).map(entry), &self.device)?;
        Ok(bias.index_select(&entries, 1)?.reshape((1, heads, tokens, tokens))?)
    }

    /// Mask `[tokens, tokens]`: 1 if the key is visible to the query, 0 if it is hidden.
    fn visible(&self, hidden: Neighbours, tokens: usize) -> Result<Tensor> {
        let grid = hidden.grid(tokens)?;
        let sees = |i: usize| if hidden.hides(grid, i / tokens, i % tokens) { 0f32 } else { 1.0 };
        Ok(Tensor::from_iter((0..tokens * tokens).map(sees), &self.device)?.reshape((tokens, tokens))?)
    }
}

impl Read for Candle<'_> {
    async fn read_back(&self, tensors: &[&Tensor]) -> Result<Vec<Vec<f32>>> {
        tensors.iter().map(|tensor| self.read(tensor)).collect()
    }
}

/// The tensor in f32, the type of all but products.
fn single(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(DType::F32)?)
}

/// Cosines of the rows of two tensors that broadcast; each norm is at least 1e-8.
fn cosines(a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    let norm = |x: &Tensor| x.sqr()?.sum(D::Minus1)?.sqrt()?.maximum(1e-8);
    a.broadcast_mul(b)?.sum(D::Minus1)? / norm(a)?.broadcast_mul(&norm(b)?)?
}

/// The result, or NaN where the sum of what it was made of is: candle's maxima and minima skip a NaN, sums do not.
fn keep_nan(result: &Tensor, sum: &Tensor) -> candle_core::Result<Tensor> {
    sum.eq(sum)?.where_cond(result, sum)
}

/// `[batch, tokens, 3·channels]` → q, k, v, each `[batch, heads, tokens, channels / heads]` and contiguous.
fn split_heads(qkv: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let parts = qkv.reshape((batch, tokens, 3, heads, packed / 3 / heads))?.permute((2, 0, 3, 1, 4))?;
    let part = |i| parts.get(i)?.contiguous();
    Ok([part(0)?, part(1)?, part(2)?])
}

/// `[batch, heads, tokens, size]` → `[batch, tokens, heads·size]`.
fn join_heads(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, tokens, size) = x.dims4()?;
    Ok(x.transpose(1, 2)?.reshape((batch, tokens, heads * size))?)
}

/// Depthwise convolution as a sum of shifted products, for devices that have no fused form: `image [batch, grid, grid,
/// channels]`, `kernels [side², channels]`.
fn shifted_products(image: &Tensor, kernels: &Tensor, side: usize) -> candle_core::Result<Tensor> {
    let (reach, grid) = (side / 2, image.dim(1)?);
    let padded = image.pad_with_zeros(1, reach, reach)?.pad_with_zeros(2, reach, reach)?;
    let product = |place: usize| {
        let shifted = padded.narrow(1, place / side, grid)?.narrow(2, place % side, grid)?;
        shifted.broadcast_mul(&kernels.get(place)?)
    };
    (1..side * side).try_fold(product(0)?, |sum, place| sum + product(place)?)
}
