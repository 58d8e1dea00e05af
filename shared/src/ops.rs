//! The operations a model is written in. One operation is what one GPU kernel does.
//!
//! Activations are packed rows `[batch, tokens, channels]`. Operations record or compute and never wait; reading a
//! result back is the executor's own business and happens once a photo. Dropping a tensor gives its memory back.

use crate::maps::score::{AnomalyMap, MapLayout};
use crate::photo::preprocess::Preprocessor;
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// An affine layer: `x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out, in]`, in whatever storage the executor keeps weights.
    pub weight: T,
    /// `[out]`; some layers have none.
    pub bias: Option<T>,
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

/// Where in the bottleneck noise comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseAt {
    /// Before the first layer.
    Input,
    /// After the hidden layer's GELU.
    Hidden,
    /// After the last layer.
    Output,
}

/// What each patch must not look at: the patches around it, itself included, on their square grid (the neighbour masking of
/// UniAD, You et al. 2022; official `generate_mask`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbours {
    /// Tokens before the first patch: they see everything and are seen by everything.
    pub prefix: usize,
    /// How far the square window around a patch reaches; it is cut at the border.
    pub reach: usize,
}

impl Neighbours {
    /// Whether token `query` must not see token `key`, on a grid of so many patches a side.
    pub fn hides(&self, grid: usize, query: usize, key: usize) -> bool {
        if query < self.prefix || key < self.prefix {
            return false;
        }
        let place = |token: usize| ((token - self.prefix) / grid, (token - self.prefix) % grid);
        let ((row, column), (other_row, other_column)) = (place(query), place(key));
        row.abs_diff(other_row) <= self.reach && column.abs_diff(other_column) <= self.reach
    }

    /// Patches on a side of the grid that makes these tokens.
    ///
    /// # Errors
    /// If what follows the prefix is no square.
    pub fn grid(&self, tokens: usize) -> Result<usize> {
        square_grid(tokens.saturating_sub(self.prefix))
    }
}

/// What is added to attention's logits for the way from each query to each key: BEiT's relative position bias. The first
/// token is the class token, all others are patches.
#[derive(Clone, Copy, Debug)]
pub struct RelativeBias;

impl RelativeBias {
    /// Entries of a head's table on a grid of so many patches a side: a square of ways, then class token to patch, patch to
    /// class token, class token to itself.
    pub fn entries(grid: usize) -> usize {
        (2 * grid - 1).pow(2) + 3
    }

    /// The entry for the way from token `query` to token `key`.
    pub fn entry(grid: usize, query: usize, key: usize) -> usize {
        let ways = (2 * grid - 1).pow(2);
        match (query.checked_sub(1), key.checked_sub(1)) {
            (None, None) => ways + 2,
            (_, None) => ways + 1,
            (None, _) => ways,
            (Some(q), Some(k)) => {
                let (row, column) = (q / grid + grid - 1 - k / grid, q % grid + grid - 1 - k % grid);
                row * (2 * grid - 1) + column
            }
        }
    }

    /// Patches on a side of the grid that a table of shape `[heads, entries]` and these tokens have in common.
    ///
    /// # Errors
    /// If they have none.
    pub fn grid(table: &[usize], heads: usize, tokens: usize) -> Result<usize> {
        let grid = square_grid(tokens.saturating_sub(1))?;
        if table == [heads, Self::entries(grid)] {
            return Ok(grid);
        }
        Err(Error::config(format!("a position bias of shape {table:?} does not fit {heads} heads and {tokens} tokens")))
    }
}

/// Tokens before the first patch that `rotation [patches, size]` leaves alone in `qkv` of so many channels.
///
/// # Errors
/// If head size or tokens do not fit.
pub fn rotation_prefix(tokens: usize, packed: usize, heads: usize, rotation: &[usize]) -> Result<usize> {
    match *rotation {
        [patches, size] if 3 * heads * size == packed && size % 2 == 0 && patches <= tokens => Ok(tokens - patches),
        _ => Err(Error::config(format!(
            "rotations of shape {rotation:?} do not fit {tokens} tokens of {packed} channels in {heads} heads"
        ))),
    }
}

/// Patches on a side of a square grid of `patches`.
///
/// # Errors
/// If they are no square.
pub fn square_grid(patches: usize) -> Result<usize> {
    let grid = patches.isqrt();
    if grid > 0 && grid * grid == patches {
        return Ok(grid);
    }
    Err(Error::config(format!("{patches} patches are no square grid")))
}

/// Sides of the grid and of the kernel of [`Ops::depthwise_conv`].
///
/// # Errors
/// If the patches are no square, or the kernels `weight [channels, 1, k, k]` do not fit them.
pub fn conv_extents(tokens: usize, channels: usize, weight: &[usize]) -> Result<(usize, usize)> {
    let grid = square_grid(tokens)?;
    match *weight {
        [count, 1, height, width] if count == channels && height == width && height % 2 == 1 => Ok((grid, height)),
        _ => Err(Error::config(format!("kernels of shape {weight:?} do not fit {channels} channels"))),
    }
}

/// An executor: something that can run the model.
pub trait Ops {
    /// A tensor where this executor keeps it. Cloning shares, it never copies the values.
    type Tensor: Clone;

    /// Takes a host tensor over.
    ///
    /// # Errors
    /// If the device has no room or cannot hold the type.
    fn upload(&self, tensor: &HostTensor) -> Result<Self::Tensor>;

    /// Takes the weight of a linear layer over, `[out, in]`: an executor may keep it, and nothing else, in a smaller type.
    ///
    /// # Errors
    /// As [`Ops::upload`].
    fn upload_weight(&self, weight: &HostTensor) -> Result<Self::Tensor> {
        self.upload(weight)
    }

    /// Takes photos over as [`Preprocessor::patches`] has them, `[batch, grid², 3·patch²]`; each is what
    /// [`Geometry::cut`](crate::photo::preprocess::Geometry::cut) made of it. The host normalises and sorts the pixels, unless an
    /// executor does, which then gives the same bits.
    ///
    /// # Errors
    /// As [`Ops::upload`].
    fn upload_photos(&self, cut: &[Vec<u8>], preprocessor: &Preprocessor, patch: usize) -> Result<Self::Tensor> {
        let shape = [cut.len(), preprocessor.geometry.grid(patch).pow(2), 3 * patch * patch];
        let patches = cut.iter().flat_map(|photo| preprocessor.patches_of_cut(photo, patch)).collect();
        self.upload(&HostTensor::f32(shape, patches)?)
    }

    /// `[batch, tokens, in]` → `[batch, tokens, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        layer: &Linear<Self::Tensor>,
        then: Then<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Normalises each row over its channels, sums in f32 at least, biased variance. Same shape.
    fn layer_norm(&self, x: &Self::Tensor, norm: &Norm<Self::Tensor>) -> Result<Self::Tensor>;

    /// Softmax attention, scale `head_dim^-0.5`: `qkv [batch, tokens, 3·channels]` (q, k, v; inside each head by head) →
    /// `[batch, tokens, channels]`. Weights of hidden keys become zero AFTER the softmax and are not made up for, as the
    /// official code has it. `bias [heads, RelativeBias::entries]` is added to the scaled logits: a table of the ways on the
    /// grid, not of all pairs of tokens, which would be hundreds of times as large.
    fn attention(
        &self,
        qkv: &Self::Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Turns queries and keys of `qkv [batch, tokens, 3·heads·size]`, in each head channel i with channel i + size/2, by the
    /// angle whose cosine and sine are entries i and i + size/2 of a patch's row in `rotation [patches, size]`. The tokens
    /// before the patches, and all values, stay as they are.
    fn rotate(&self, qkv: &Self::Tensor, heads: usize, rotation: &Self::Tensor) -> Result<Self::Tensor>;

    /// `silu(a) · b` with the halves a and b of the channels: `[batch, tokens, 2·channels]` → `[batch, tokens, channels]`.
    fn swiglu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Linear attention, `phi = elu + 1`, no scale and no epsilon in the normaliser: shapes as in [`Ops::attention`]. Hidden
    /// keys are left out BEFORE the normaliser is summed.
    fn linear_attention(&self, qkv: &Self::Tensor, heads: usize, hidden: Option<Neighbours>) -> Result<Self::Tensor>;

    /// Convolves each channel with a kernel of its own, zeros around the grid: patches `x [batch, grid², channels]` and
    /// `weight [channels, 1, k, k]`, k odd → the shape of `x`.
    fn depthwise_conv(&self, x: &Self::Tensor, weight: &Self::Tensor) -> Result<Self::Tensor>;

    /// Adds `positions [patches, channels]` to every photo's `patches [batch, patches, channels]` and puts the rows of
    /// `prefix [p, channels]` (class token with its position, registers without) before them → `[batch, p + patches, channels]`.
    fn embed(&self, patches: &Self::Tensor, prefix: &Self::Tensor, positions: &Self::Tensor) -> Result<Self::Tensor>;

    /// The tokens from number `first` on: `[batch, tokens, channels]` → `[batch, tokens - first, channels]`.
    fn drop_tokens(&self, x: &Self::Tensor, first: usize) -> Result<Self::Tensor>;

    /// Tensors of one shape side by side: each `[batch, tokens, channels]` → `[batch, tokens, n·channels]`.
    fn concatenate(&self, xs: &[Self::Tensor]) -> Result<Self::Tensor>;

    /// Element-wise mean of tensors of one shape.
    fn mean(&self, xs: &[Self::Tensor]) -> Result<Self::Tensor>;

    /// `1 - cosine(a, b)` over channels: two `[batch, tokens, channels]` → `[batch, tokens]`.
    /// Each norm is clamped from below at 1e-8, as `torch.cosine_similarity` does.
    fn cosine_distance(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// The bottleneck's noise. Executors that only infer leave it as it is, as the official model does in evaluation.
    fn bottleneck_noise(&self, x: &Self::Tensor, _at: NoiseAt) -> Result<Self::Tensor> {
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

    /// The anomaly maps of `photos` from every group's distances `[photos, tokens]`, in one readback. The host makes them
    /// of the distances, unless an executor has them where the distances are.
    ///
    /// # Errors
    /// If the device fails, or a distance is not a finite number.
    fn read_maps(
        &self,
        groups: &[Self::Tensor],
        photos: usize,
        layout: &MapLayout,
    ) -> impl Future<Output = Result<Vec<AnomalyMap>>> {
        async move { layout.maps(&self.read_back(&groups.iter().collect::<Vec<_>>()).await?, photos) }
    }
}
