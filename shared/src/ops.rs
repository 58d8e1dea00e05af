//! The operations that a model is written in. One operation is the work of one GPU kernel.
//!
//! Activations are packed rows `[batch, tokens, channels]`. Operations record or compute and never wait: results are read
//! back through [`Read`], once a photo. Dropping a tensor frees its memory.

use std::ops::Range;

use crate::maps::score::{AnomalyMap, MapLayout};
use crate::photo::preprocess::Preprocessor;
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Affine layer: `x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out, in]`, in the executor's storage type.
    pub weight: T,
    /// `[out]`, if the layer has one.
    pub bias: Option<T>,
}

/// Layer normalisation over channels.
#[derive(Clone, Debug)]
pub struct Norm<T> {
    /// `[channels]`.
    pub weight: T,
    /// `[channels]`.
    pub bias: T,
    /// Added to the variance.
    pub eps: f64,
}

/// Last step of a linear layer, before its result is stored.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a, T> {
    /// None.
    Store,
    /// GELU with the exact error function.
    Gelu,
    /// Addition of a residual of the same shape.
    Add(&'a T),
}

/// Place of noise in the bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseAt {
    /// Before the first layer.
    Input,
    /// After the hidden layer's GELU.
    Hidden,
    /// After the last layer.
    Output,
    /// After the layer that narrows the input, if there is one.
    Narrowed,
}

/// Keys hidden from each patch: the patches around it, itself included, on their square grid (neighbour masking of UniAD,
/// You et al. 2022; official `generate_mask`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbours {
    /// Number of tokens before the first patch. They attend to all tokens, and all tokens to them.
    pub prefix: usize,
    /// Half side of the square window around a patch, which ends at the border.
    pub reach: usize,
}

impl Neighbours {
    /// Whether token `key` is hidden from token `query`, on a grid of `grid × grid` patches.
    pub fn hides(&self, grid: usize, query: usize, key: usize) -> bool {
        if query < self.prefix || key < self.prefix {
            return false;
        }
        let place = |token: usize| ((token - self.prefix) / grid, (token - self.prefix) % grid);
        let ((row, column), (other_row, other_column)) = (place(query), place(key));
        row.abs_diff(other_row) <= self.reach && column.abs_diff(other_column) <= self.reach
    }

    /// Side of the grid in patches, from the number of tokens.
    ///
    /// # Errors
    /// If the tokens after the prefix do not form a square grid.
    pub fn grid(&self, tokens: usize) -> Result<usize> {
        square_grid(tokens.saturating_sub(self.prefix))
    }
}

/// Places of a bank's rows on the grid of patches: row j is of photo `j / grid²`, and of the patch `j % grid²` of that photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Side of the grid in patches.
    pub grid: usize,
    /// Half side of the square window around a patch, which ends at the border.
    pub reach: usize,
    /// Number in the whole bank of the first row of a piece.
    pub first: usize,
}

impl Places {
    /// Number of patches of a photo.
    pub fn patches(&self) -> usize {
        self.grid * self.grid
    }

    /// Photos that a piece of `n` rows has rows of.
    pub fn photos(&self, n: usize) -> Range<usize> {
        self.first / self.patches()..(self.first + n).div_ceil(self.patches())
    }

    /// Rows or columns of the grid within reach of one of them.
    pub fn around(&self, row: usize) -> Range<usize> {
        row.saturating_sub(self.reach)..(row + self.reach + 1).min(self.grid)
    }

    /// Number in a piece of `n` rows of the row of a photo's patch, if the piece has it.
    pub fn row_of(&self, photo: usize, row: usize, column: usize, n: usize) -> Option<usize> {
        let at = photo * self.patches() + row * self.grid + column;
        at.checked_sub(self.first).filter(|&at| at < n)
    }
}

/// Relative position bias of BEiT: a value added to attention's logits for the offset from each query to each key. The first
/// token is the class token, all others are patches.
#[derive(Clone, Copy, Debug)]
pub struct RelativeBias;

impl RelativeBias {
    /// Number of entries of a head's table on a grid of `grid × grid` patches: a square of offsets, then class token to patch,
    /// patch to class token, class token to itself.
    pub fn entries(grid: usize) -> usize {
        (2 * grid - 1).pow(2) + 3
    }

    /// Index of the entry for the offset from token `query` to token `key`.
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

    /// Side of the grid in patches that fits both a table of shape `[heads, entries]` and the number of tokens.
    ///
    /// # Errors
    /// If there is no such grid.
    pub fn grid(table: &[usize], heads: usize, tokens: usize) -> Result<usize> {
        let grid = square_grid(tokens.saturating_sub(1))?;
        if table == [heads, Self::entries(grid)] {
            return Ok(grid);
        }
        Err(Error::config(format!("a position bias of shape {table:?} does not fit {heads} heads and {tokens} tokens")))
    }
}

/// Number of tokens before the first patch, which `rotation [patches, size]` does not change; `packed` is the number of
/// channels of `qkv`.
///
/// # Errors
/// If head size or number of tokens do not fit.
pub fn rotation_prefix(tokens: usize, packed: usize, heads: usize, rotation: &[usize]) -> Result<usize> {
    match *rotation {
        [patches, size] if 3 * heads * size == packed && size % 2 == 0 && patches <= tokens => Ok(tokens - patches),
        _ => Err(Error::config(format!(
            "rotations of shape {rotation:?} do not fit {tokens} tokens of {packed} channels in {heads} heads"
        ))),
    }
}

/// Number of channels per head, in packed queries, keys and values of `packed` channels.
///
/// # Errors
/// If the channels cannot be split into 3 parts of `heads` heads.
pub fn head_size(packed: usize, heads: usize) -> Result<usize> {
    if heads > 0 && packed.is_multiple_of(3 * heads) {
        return Ok(packed / 3 / heads);
    }
    Err(Error::config(format!("qkv of {packed} channels cannot be split into 3 parts of {heads} heads")))
}

/// Side of a square grid of `patches` patches.
///
/// # Errors
/// If the number is not a square.
pub fn square_grid(patches: usize) -> Result<usize> {
    let grid = patches.isqrt();
    if grid > 0 && grid * grid == patches {
        return Ok(grid);
    }
    Err(Error::config(format!("{patches} patches do not form a square grid")))
}

/// Side of the grid, and of the kernel, in [`Ops::depthwise_conv`].
///
/// # Errors
/// If the patches do not form a square grid, or the kernels `weight [channels, 1, k, k]` do not fit.
pub fn conv_extents(tokens: usize, channels: usize, weight: &[usize]) -> Result<(usize, usize)> {
    let grid = square_grid(tokens)?;
    match *weight {
        [count, 1, height, width] if count == channels && height == width && height % 2 == 1 => Ok((grid, height)),
        _ => Err(Error::config(format!("kernels of shape {weight:?} do not fit {channels} channels"))),
    }
}

/// Number of channels of each part, in [`Ops::squared_norms`].
///
/// # Errors
/// If the channels cannot be split into `parts` equal parts.
pub fn part_width(channels: usize, parts: usize) -> Result<usize> {
    if channels > 0 && parts > 0 && channels.is_multiple_of(parts) {
        return Ok(channels / parts);
    }
    Err(Error::config(format!("{channels} channels cannot be split into {parts} parts")))
}

/// `[batch, tokens, channels]` in [`Ops::mean_token`].
///
/// # Errors
/// If there is no token from `first` on.
pub fn mean_token_extents(x: &[usize], first: usize) -> Result<[usize; 3]> {
    match *x {
        [batch, tokens, channels] if first < tokens => Ok([batch, tokens, channels]),
        _ => Err(Error::config(format!("tokens of shape {x:?} have none from number {first} on"))),
    }
}

/// `[batch, tokens, n]` of the cosines in [`Ops::nearest`].
///
/// # Errors
/// If there is no row of a bank, or the distances so far do not fit.
pub fn nearest_extents(cosines: &[usize], so_far: Option<&[usize]>) -> Result<[usize; 3]> {
    let &[batch, tokens, n @ (1..)] = cosines else {
        return Err(Error::config(format!(
            "cosines of shape {cosines:?} are not those of tokens with the rows of a bank"
        )));
    };
    match so_far {
        Some(found) if found != [batch, tokens] => {
            Err(Error::Shape { name: "distances so far".into(), expected: vec![batch, tokens], found: found.to_vec() })
        }
        _ => Ok([batch, tokens, n]),
    }
}

/// `[batch, n, channels]` in [`Ops::top_rows`].
///
/// # Errors
/// If the operands do not fit together, or one of tokens, n and channels is zero.
pub fn top_extents(x: &[usize], rows: &[usize]) -> Result<[usize; 3]> {
    match (x, rows) {
        (&[batch, (1..), channels @ (1..)], &[n @ (1..), width]) if width == channels => Ok([batch, n, channels]),
        _ => Err(Error::config(format!("tokens of shape {x:?} do not fit rows of shape {rows:?}"))),
    }
}

/// `[batch, tokens, n, channels]` in [`Ops::nearest_around`].
///
/// # Errors
/// If the operands do not fit together, or n or channels are zero.
pub fn around_extents(
    x: &[usize],
    rows: &[usize],
    chosen: &[usize],
    places: Places,
    so_far: Option<&[usize]>,
) -> Result<[usize; 4]> {
    let (&[batch, tokens, channels @ (1..)], &[n @ (1..), width], &[photos_of_batch, photos]) = (x, rows, chosen)
    else {
        return Err(Error::config(format!(
            "tokens of shape {x:?} do not fit rows of shape {rows:?} and chosen photos of shape {chosen:?}"
        )));
    };
    let Places { grid, first, .. } = places;
    if channels != width || photos_of_batch != batch || grid == 0 || tokens < places.patches() {
        return Err(Error::config(format!(
            "tokens of shape {x:?} do not fit rows of shape {rows:?}, chosen photos of shape {chosen:?} and a grid of {grid} × {grid}"
        )));
    }
    if first + n > photos * places.patches() {
        return Err(Error::config(format!(
            "rows {first} to {} are beyond {photos} photos of {grid} × {grid} patches",
            first + n - 1
        )));
    }
    match so_far {
        Some(found) if found != [batch, tokens] => {
            Err(Error::Shape { name: "distances so far".into(), expected: vec![batch, tokens], found: found.to_vec() })
        }
        _ => Ok([batch, tokens, n, channels]),
    }
}

/// `[batch, tokens, n, channels]` in [`Ops::choose`].
///
/// # Errors
/// If the operands do not fit together, or one of tokens, n and channels is zero.
pub fn choose_extents(values: &[usize], x: &[usize], prototypes: &[usize]) -> Result<[usize; 4]> {
    match (values, x, prototypes) {
        (&[batch, tokens @ (1..), n @ (1..)], &[photos, rows, channels @ (1..)], &[count, width])
            if [photos, rows, count, width] == [batch, tokens, n, channels] =>
        {
            Ok([batch, tokens, n, channels])
        }
        _ => Err(Error::config(format!(
            "values of shape {values:?} do not fit tokens of shape {x:?} and prototypes of shape {prototypes:?}"
        ))),
    }
}

/// An executor of the model: processor, GPU, or training library.
///
/// Every method can fail: [`Error::Device`] if the device fails or is out of memory; [`Error::Config`], [`Error::Shape`] or
/// [`Error::Tensor`] if operands do not fit together. "As [`Ops`]" below an `# Errors` heading means these.
pub trait Ops {
    /// Tensor in the executor's memory. A clone shares the values.
    type Tensor: Clone;

    /// Copies a host tensor to the executor.
    ///
    /// # Errors
    /// If the device is out of memory or does not support the type.
    fn upload(&self, tensor: &HostTensor) -> Result<Self::Tensor>;

    /// Copies the weight `[out, in]` of a linear layer to the executor. Only weights may be stored in a smaller type.
    ///
    /// # Errors
    /// As [`Ops::upload`].
    fn upload_weight(&self, weight: &HostTensor) -> Result<Self::Tensor> {
        self.upload(weight)
    }

    /// Copies rows `[n, channels]` of a bank for [`Ops::nearest_around`] to the executor. They may be stored in a smaller type, too.
    ///
    /// # Errors
    /// As [`Ops::upload`].
    fn upload_rows(&self, rows: &HostTensor) -> Result<Self::Tensor> {
        self.upload(rows)
    }

    /// Uploads photos as patches `[batch, grid², 3·patch²]`, in the order of [`Preprocessor::patches`]; `cut` holds results of
    /// [`Preprocessor::cut`]. By default the host normalises and reorders the pixels; an
    /// executor that does so itself gives the same bits.
    ///
    /// # Errors
    /// As [`Ops::upload`].
    fn upload_photos(&self, cut: &[Vec<u8>], preprocessor: &Preprocessor, patch: usize) -> Result<Self::Tensor> {
        self.upload(&preprocessor.batch_of_cuts(cut, patch)?)
    }

    /// `[batch, tokens, in]` → `[batch, tokens, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        layer: &Linear<Self::Tensor>,
        then: Then<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Normalises each row over its channels: biased variance, sums in f32 or better. Same shape.
    fn layer_norm(&self, x: &Self::Tensor, norm: &Norm<Self::Tensor>) -> Result<Self::Tensor>;

    /// Softmax attention, scale `head_dim^-0.5`: `qkv [batch, tokens, 3·channels]` (q, k, v, each head by head) →
    /// `[batch, tokens, channels]`. Weights of hidden keys become zero AFTER the softmax, and the others are not renormalised,
    /// as in the official code. `bias [heads, RelativeBias::entries]` is added to the scaled logits: a table of offsets on the
    /// grid, because one of all pairs of tokens would be hundreds of times as large.
    fn attention(
        &self,
        qkv: &Self::Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Rotary positions: turns queries and keys of `qkv [batch, tokens, 3·heads·size]`. In each head, channels i and i + size/2
    /// turn by the angle whose cosine and sine are entries i and i + size/2 of the patch's row in `rotation [patches, size]`.
    /// Tokens before the first patch, and all values, do not change.
    fn rotate(&self, qkv: &Self::Tensor, heads: usize, rotation: &Self::Tensor) -> Result<Self::Tensor>;

    /// `silu(a) · b` with the halves a and b of the channels: `[batch, tokens, 2·channels]` → `[batch, tokens, channels]`.
    fn swiglu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Linear attention, `phi = elu + 1`, no scale; shapes as in [`Ops::attention`]. `eps` is added to the normaliser: 0 in
    /// Dinomaly, 1e-8 in Dinomaly2. Hidden keys are excluded BEFORE the normaliser is summed.
    fn linear_attention(
        &self,
        qkv: &Self::Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        eps: f64,
    ) -> Result<Self::Tensor>;

    /// Each photo's tokens `x [batch, tokens, channels]` minus its first one, the class token. With `eps` each difference is then
    /// normalised over its channels as by [`Ops::layer_norm`], without weight and bias. Same shape.
    fn recentre(&self, x: &Self::Tensor, eps: Option<f64>) -> Result<Self::Tensor>;

    /// Depthwise convolution with zero padding: patches `x [batch, grid², channels]` and `weight [channels, 1, k, k]`, k odd →
    /// the shape of `x`.
    fn depthwise_conv(&self, x: &Self::Tensor, weight: &Self::Tensor) -> Result<Self::Tensor>;

    /// Adds `positions [patches, channels]` to `patches [batch, patches, channels]` and prepends the rows of
    /// `prefix [p, channels]`: class token plus its position, then registers, which have none → `[batch, p + patches, channels]`.
    fn embed(&self, patches: &Self::Tensor, prefix: &Self::Tensor, positions: &Self::Tensor) -> Result<Self::Tensor>;

    /// Removes the first `first` tokens: `[batch, tokens, channels]` → `[batch, tokens - first, channels]`.
    fn drop_tokens(&self, x: &Self::Tensor, first: usize) -> Result<Self::Tensor>;

    /// Mean over the tokens from `first` on: `[batch, tokens, channels]` → `[batch, 1, channels]`.
    fn mean_token(&self, x: &Self::Tensor, first: usize) -> Result<Self::Tensor>;

    /// Concatenates n tensors of one shape along channels: each `[batch, tokens, channels]` → `[batch, tokens, n·channels]`.
    fn concatenate(&self, xs: &[Self::Tensor]) -> Result<Self::Tensor>;

    /// Element-wise mean of tensors of one shape.
    fn mean(&self, xs: &[Self::Tensor]) -> Result<Self::Tensor>;

    /// Cosine distance `1 - cosine(a, b)` over channels: two `[batch, tokens, channels]` → `[batch, tokens]`.
    /// Each norm is at least 1e-8, as in `torch.cosine_similarity`.
    fn cosine_distance(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Divides each row of `x [batch, tokens, channels]` by its Euclidean norm, which is at least 1e-8, as
    /// `torch.nn.functional.normalize` with that eps; sums in f32 or better. Same shape.
    fn normalize(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Cosine distance to the nearest row of a bank: `cosines [batch, tokens, n]` of unit rows with n unit rows of the bank →
    /// `min(1 - max over n, so_far)`, `[batch, tokens]`. `so_far [batch, tokens]` holds the distances to rows seen before, so that
    /// a bank is passed in pieces. NaN if one of the values is NaN.
    fn nearest(&self, cosines: &Self::Tensor, so_far: Option<&Self::Tensor>) -> Result<Self::Tensor>;

    /// Sum of squares of each part of the channels: `[batch, tokens, parts·channels]` → `[batch, tokens, parts]`.
    fn squared_norms(&self, x: &Self::Tensor, parts: usize) -> Result<Self::Tensor>;

    /// Choice by the class token: of each photo, the values of the prototype whose cosine with the first token is largest, the
    /// first one of equal ones: `values [batch, tokens, n]`, `x [batch, tokens, channels]` and `prototypes [n, channels]` →
    /// `[batch, tokens]`. Norms as in [`Ops::cosine_distance`]. NaN in all of a photo if one of its cosines is NaN.
    fn choose(&self, values: &Self::Tensor, x: &Self::Tensor, prototypes: &Self::Tensor) -> Result<Self::Tensor>;

    /// Which k rows are nearest to the class token: `x [batch, tokens, channels]` and `rows [n, channels]` → `[batch, n]`, of each
    /// photo 1 for the k rows whose cosines with its first token are largest, earlier ones of equal ones first, and 0 for all others;
    /// only 1 if k is n or more. Norms as in [`Ops::cosine_distance`]. NaN in all of a photo if one of its cosines is NaN.
    fn top_rows(&self, x: &Self::Tensor, rows: &Self::Tensor, k: usize) -> Result<Self::Tensor>;

    /// Cosine distance to the nearest row of a bank that lies around a token's place: unit rows `x [batch, tokens, channels]`, the
    /// last `grid²` of which have places, unit `rows [n, channels]` from [`Ops::upload_rows`] at `places`, and
    /// `chosen [batch, photos]` of 0 and 1 → `min(1 - max chosen · x·row, so_far)`, `[batch, tokens]`, with the maximum over rows
    /// that are of chosen photos and of places within reach. 2, the largest distance, stands for a missing maximum, as of the tokens
    /// before the first patch, and for `so_far [batch, tokens]` before the first piece of a bank. NaN if one of the compared values
    /// is NaN.
    ///
    /// Not a product and then [`Ops::nearest`]: of a grid of 28, that would compute 87 times as many cosines for a reach of 1.
    fn nearest_around(
        &self,
        x: &Self::Tensor,
        rows: &Self::Tensor,
        chosen: &Self::Tensor,
        places: Places,
        so_far: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// Noise of the bottleneck. Executors for inference return `x`, as the official model does in evaluation.
    fn bottleneck_noise(&self, x: &Self::Tensor, _at: NoiseAt) -> Result<Self::Tensor> {
        Ok(x.clone())
    }
}

/// An executor whose results can be read back. The forward pass needs only [`Ops`], a detector needs this too.
pub trait Read: Ops {
    /// Copies tensors to the host in one readback, each row-major in f32. The future of a processor is ready at once, that of a
    /// GPU when it has finished. Any async runtime can wait for it; in a browser the event loop goes on meanwhile.
    ///
    /// # Errors
    /// If the device fails.
    fn read_back(&self, tensors: &[&Self::Tensor]) -> impl Future<Output = Result<Vec<Vec<f32>>>>;

    /// Anomaly maps of `photos` photos from every group's distances `[photos, tokens]`, and the values of another tensor, if there is
    /// one, in one readback. By default the host computes the maps from the distances; a GPU computes them before the readback.
    ///
    /// # Errors
    /// If the device fails, or a distance is not finite.
    fn read_maps(
        &self,
        groups: &[Self::Tensor],
        beside: Option<&Self::Tensor>,
        photos: usize,
        layout: &MapLayout,
    ) -> impl Future<Output = Result<(Vec<AnomalyMap>, Vec<f32>)>> {
        async move {
            let mut values = self.read_back(&groups.iter().chain(beside).collect::<Vec<_>>()).await?;
            let more = if beside.is_some() { values.pop().unwrap_or_default() } else { Vec::new() };
            Ok((layout.maps(&values, photos)?, more))
        }
    }
}
