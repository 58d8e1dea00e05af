//! Every operation as one or a few dispatches.

use super::kernel::{Kernel, params};
use super::linear::{Operands, Tile};
use super::tensor::{GpuTensor, Storage, padded_row};
use super::{GpuPrecision, WebGpu};
use crate::ops::{
    Linear, Neighbours, Norm, Ops, Places, RelativeBias, Then, around_extents, choose_extents, conv_extents, head_size,
    mean_token_extents, nearest_extents, part_width, rotation_prefix, top_extents,
};
use crate::photo::preprocess::{Preprocessor, Resized};
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Number of operands that one step of a mean adds.
const MEAN_STEP: usize = 4;
/// Number of rows of a workgroup of layer norm, and of the division by the norm.
const NORMED_ROWS: usize = 4;
/// Number of workgroups along the first dimension of a dispatch that has one workgroup per row of a tensor.
const GROUPS_ACROSS: usize = 32768;

impl Ops for WebGpu {
    type Tensor = GpuTensor;

    fn upload(&self, tensor: &HostTensor) -> Result<GpuTensor> {
        self.gpu.check()?;
        GpuTensor::upload(&self.pool, tensor)
    }

    fn upload_weight(&self, weight: &HostTensor) -> Result<GpuTensor> {
        self.gpu.check()?;
        GpuTensor::upload_weight(&self.pool, weight, self.precision)
    }

    fn upload_rows(&self, rows: &HostTensor) -> Result<GpuTensor> {
        self.upload_weight(rows)
    }

    fn upload_photos(&self, cut: &[Vec<u8>], preprocessor: &Preprocessor, patch: usize) -> Result<GpuTensor> {
        self.gpu.check()?;
        let Preprocessor { geometry, resized, .. } = preprocessor;
        if *resized == Resized::Floats {
            return self.upload(&preprocessor.batch_of_cuts(cut, patch)?);
        }
        let (grid, row) = (geometry.grid(patch), 3 * patch * patch);
        let mut rgb = cut.concat();
        rgb.resize(rgb.len().next_multiple_of(4), 0);
        let (rgb, values) = (self.pool.upload(&rgb)?, self.pool.upload(bytemuck::bytes_of(&preprocessor.values()))?);
        let length = cut.len() * grid * grid * padded_row(row) / 4;
        self.dispatch(
            Kernel::Patches,
            words([length, row, padded_row(row) / 4, patch, grid, geometry.crop])?,
            vec![cut.len(), grid * grid, row],
            &[&rgb.buffer, &values.buffer],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn linear(&self, x: &GpuTensor, layer: &Linear<GpuTensor>, then: Then<'_, GpuTensor>) -> Result<GpuTensor> {
        self.product(self.tile, x, layer, then)
    }

    fn layer_norm(&self, x: &GpuTensor, norm: &Norm<GpuTensor>) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("layer norm input")?;
        norm.weight.expect("layer norm weight", &[channels])?;
        norm.bias.expect("layer norm bias", &[channels])?;
        let operands = [
            x.buffer("layer norm input")?,
            norm.weight.buffer("layer norm weight")?,
            norm.bias.buffer("layer norm bias")?,
        ];
        let [rows, channels, channels4] = words([batch * tokens, channels, padded_row(channels) / 4])?;
        let words = [rows, channels, channels4, (norm.eps as f32).to_bits()];
        let groups = (batch * tokens).div_ceil(NORMED_ROWS);
        self.dispatch(Kernel::LayerNorm, words, x.shape().to_vec(), &operands, one_a_row(groups))
    }

    fn attention(
        &self,
        qkv: &GpuTensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&GpuTensor>,
    ) -> Result<GpuTensor> {
        let Heads { batch, tokens, channels, size } = split(qkv, heads)?;
        let packed = qkv.buffer("qkv")?;
        // If there is no bias, its binding takes any buffer.
        let (table, bias_grid, bias_pitch) = match bias {
            Some(bias) => {
                let grid = RelativeBias::grid(bias.shape(), heads, tokens)?;
                (bias.buffer("position bias")?, grid, padded_row(RelativeBias::entries(grid)))
            }
            None => (packed, 0, 0),
        };
        let scale = (size as f64).powf(-0.5) as f32;
        let [tokens_, heads_, size_, pitch, pitch_out] =
            words([tokens, heads, size, padded_row(3 * channels), padded_row(channels)])?;
        let [prefix, grid, reach] = window(hidden, tokens)?;
        let [bias_grid, bias_pitch] = words([bias_grid, bias_pitch])?;
        let scale = scale.to_bits();
        let words = [tokens_, heads_, size_, pitch, pitch_out, scale, prefix, grid, reach, bias_grid, bias_pitch];
        // The last head also writes the row's padding.
        let groups = [tokens.div_ceil(32), batch * heads, (size + padded_row(channels) - channels).div_ceil(64)];
        self.dispatch(Kernel::Attention, words, vec![batch, tokens, channels], &[packed, table], groups)
    }

    fn rotate(&self, qkv: &GpuTensor, heads: usize, rotation: &GpuTensor) -> Result<GpuTensor> {
        let [_, tokens, packed] = qkv.activation("qkv")?;
        let prefix = rotation_prefix(tokens, packed, heads, rotation.shape())?;
        let [_, size] = rotation.matrix("rotations")?;
        let length = qkv.padded_len();
        self.dispatch(
            Kernel::Rotate,
            words([length, tokens, prefix, size, 2 * heads * size, padded_row(packed), padded_row(size)])?,
            qkv.shape().to_vec(),
            &[qkv.buffer("qkv")?, rotation.buffer("rotations")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn swiglu(&self, x: &GpuTensor) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("SwiGLU input")?;
        let (half, pitch_out) = (channels / 2, padded_row(channels / 2));
        let length = batch * tokens * pitch_out;
        self.dispatch(
            Kernel::Swiglu,
            words([length, half, padded_row(channels), pitch_out])?,
            vec![batch, tokens, half],
            &[x.buffer("SwiGLU input")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn linear_attention(
        &self,
        qkv: &GpuTensor,
        heads: usize,
        hidden: Option<Neighbours>,
        eps: f64,
    ) -> Result<GpuTensor> {
        let Heads { batch, tokens, channels, size } = split(qkv, heads)?;
        let (pitch, columns) = (padded_row(3 * channels), padded_row(size + 1));
        let packed = qkv.buffer("qkv")?;
        let sums = self.dispatch(
            Kernel::KeyValueSums,
            words([tokens, heads, size, pitch, columns / 4])?,
            vec![batch * heads, size, size + 1],
            &[packed],
            [columns.div_ceil(32), size.div_ceil(32), batch * heads],
        )?;
        let groups = [(size + padded_row(channels) - channels).div_ceil(32), tokens.div_ceil(32), batch * heads];
        let [tokens_, heads_, size_, pitch, columns_, pitch_out] =
            words([tokens, heads, size, pitch, columns, padded_row(channels)])?;
        let [prefix, grid, reach] = window(hidden, tokens)?;
        self.dispatch(
            Kernel::LinearAttention,
            [tokens_, heads_, size_, pitch, columns_, pitch_out, prefix, grid, reach, (eps as f32).to_bits()],
            vec![batch, tokens, channels],
            &[packed, sums.buffer("key-value sums")?],
            groups,
        )
    }

    fn recentre(&self, x: &GpuTensor, eps: Option<f64>) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("tokens to recentre")?;
        let groups = one_a_row((batch * tokens).div_ceil(NORMED_ROWS));
        let [rows, tokens, channels, channels4] = words([batch * tokens, tokens, channels, padded_row(channels) / 4])?;
        let words = [rows, tokens, channels, channels4, eps.is_some().into(), (eps.unwrap_or(0.0) as f32).to_bits()];
        let operands = [x.buffer("tokens to recentre")?];
        self.dispatch(Kernel::Recentre, words, x.shape().to_vec(), &operands, groups)
    }

    fn depthwise_conv(&self, x: &GpuTensor, weight: &GpuTensor) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("convolution input")?;
        let (grid, side) = conv_extents(tokens, channels, weight.shape())?;
        let channels4 = padded_row(channels) / 4;
        let length = batch * tokens * channels4;
        self.dispatch(
            Kernel::DepthwiseConv,
            words([length, grid, channels, channels4, side, padded_row(side)])?,
            x.shape().to_vec(),
            &[x.buffer("convolution input")?, weight.buffer("convolution kernels")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn drop_tokens(&self, x: &GpuTensor, first: usize) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("tokens")?;
        let result = GpuTensor::result(&self.pool, vec![batch, tokens.saturating_sub(first), channels])?;
        self.copy(x, first, &result, 0)?;
        Ok(result)
    }

    fn mean_token(&self, x: &GpuTensor, first: usize) -> Result<GpuTensor> {
        let [batch, tokens, channels] = mean_token_extents(x.shape(), first)?;
        let channels4 = padded_row(channels) / 4;
        self.dispatch(
            Kernel::MeanToken,
            words([batch * channels4, tokens, first, channels4])?,
            vec![batch, 1, channels],
            &[x.buffer("tokens")?],
            one_a_row(batch * channels4),
        )
    }

    fn concatenate(&self, xs: &[GpuTensor]) -> Result<GpuTensor> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to concatenate"))?;
        let [batch, tokens, channels] = first.activation("tokens")?;
        let result = GpuTensor::result(&self.pool, vec![batch, tokens, xs.len() * channels])?;
        for (i, x) in xs.iter().enumerate() {
            x.expect("concatenation operand", first.shape())?;
            self.copy(x, 0, &result, i * channels)?;
        }
        Ok(result)
    }

    fn embed(&self, patches: &GpuTensor, prefix: &GpuTensor, positions: &GpuTensor) -> Result<GpuTensor> {
        let [batch, tokens, channels] = patches.activation("patch embeddings")?;
        positions.expect("positions", &[tokens, channels])?;
        let [before, _] = prefix.matrix("prefix tokens")?;
        prefix.expect("prefix tokens", &[before, channels])?;
        let channels4 = padded_row(channels) / 4;
        let length = batch * (before + tokens) * channels4;
        self.dispatch(
            Kernel::Embed,
            words([length, before, tokens, channels4])?,
            vec![batch, before + tokens, channels],
            &[patches.buffer("patch embeddings")?, prefix.buffer("prefix tokens")?, positions.buffer("positions")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn mean(&self, xs: &[GpuTensor]) -> Result<GpuTensor> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to average"))?;
        for x in xs {
            x.expect("mean operand", first.shape())?;
        }
        let length = first.padded_len() / 4;
        let result = GpuTensor::result(&self.pool, first.shape().to_vec())?;
        for (step, operands) in xs.chunks(MEAN_STEP).enumerate() {
            let last = (step + 1) * MEAN_STEP >= xs.len();
            let factor = if last { 1.0 / xs.len() as f32 } else { 1.0 };
            let mut buffers = operands.iter().map(|x| x.buffer("mean operand")).collect::<Result<Vec<_>>>()?;
            // Unused bindings need a buffer too.
            buffers.resize(MEAN_STEP, buffers[0]);
            let [length_, count, resume] = words([length, operands.len(), usize::from(step > 0)])?;
            self.kernels.record(
                Kernel::Mean,
                params([length_, count, resume, factor.to_bits()]),
                result.buffer("mean")?,
                &buffers,
                [length.div_ceil(256), 1, 1],
            )?;
        }
        Ok(result)
    }

    fn cosine_distance(&self, a: &GpuTensor, b: &GpuTensor) -> Result<GpuTensor> {
        let [batch, tokens, channels] = a.activation("cosine operand")?;
        b.expect("cosine operand", a.shape())?;
        let pitch = padded_row(tokens);
        self.dispatch(
            Kernel::CosineDistance,
            words([batch * pitch, padded_row(channels) / 4, tokens, pitch])?,
            vec![batch, tokens],
            &[a.buffer("cosine operand")?, b.buffer("cosine operand")?],
            one_a_row(batch * pitch),
        )
    }

    fn normalize(&self, x: &GpuTensor) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("rows to normalise")?;
        self.dispatch(
            Kernel::Normalize,
            words([batch * tokens, channels, padded_row(channels) / 4])?,
            x.shape().to_vec(),
            &[x.buffer("rows to normalise")?],
            one_a_row((batch * tokens).div_ceil(NORMED_ROWS)),
        )
    }

    fn nearest(&self, cosines: &GpuTensor, so_far: Option<&GpuTensor>) -> Result<GpuTensor> {
        let [batch, tokens, n] = nearest_extents(cosines.shape(), so_far.map(GpuTensor::shape))?;
        let (pitch, operand) = (padded_row(tokens), cosines.buffer("cosines")?);
        // If there are no distances so far, their binding takes any buffer.
        let found = so_far.map_or(Ok(operand), |found| found.buffer("distances so far"))?;
        self.dispatch(
            Kernel::Nearest,
            words([batch * pitch, n, padded_row(n) / 4, tokens, pitch, usize::from(so_far.is_some())])?,
            vec![batch, tokens],
            &[operand, found],
            one_a_row(batch * pitch),
        )
    }

    fn squared_norms(&self, x: &GpuTensor, parts: usize) -> Result<GpuTensor> {
        let [batch, tokens, channels] = x.activation("parts")?;
        let (width, pitch) = (part_width(channels, parts)?, padded_row(parts));
        let rows = batch * tokens * pitch;
        self.dispatch(
            Kernel::SquaredNorms,
            words([rows, width, padded_row(channels), parts, pitch])?,
            vec![batch, tokens, parts],
            &[x.buffer("parts")?],
            one_a_row(rows),
        )
    }

    fn choose(&self, values: &GpuTensor, x: &GpuTensor, prototypes: &GpuTensor) -> Result<GpuTensor> {
        let [batch, tokens, n, _] = choose_extents(values.shape(), x.shape(), prototypes.shape())?;
        let cosines = self.class_cosines(x, prototypes)?;
        self.dispatch(
            Kernel::Choose,
            words([tokens, padded_row(tokens), n, padded_row(n)])?,
            vec![batch, tokens],
            &[values.buffer("values")?, cosines.buffer("cosines")?],
            [batch, 1, 1],
        )
    }

    fn top_rows(&self, x: &GpuTensor, rows: &GpuTensor, k: usize) -> Result<GpuTensor> {
        let [batch, n, _] = top_extents(x.shape(), rows.shape())?;
        let cosines = self.class_cosines(x, rows)?;
        let (pitch, length) = (padded_row(n), batch * padded_row(n));
        self.dispatch(
            Kernel::TopRows,
            words([length, n, pitch, k.min(n)])?,
            vec![batch, n],
            &[cosines.buffer("cosines")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    fn nearest_around(
        &self,
        x: &GpuTensor,
        rows: &GpuTensor,
        chosen: &GpuTensor,
        places: Places,
        so_far: Option<&GpuTensor>,
    ) -> Result<GpuTensor> {
        let so_far_shape = so_far.map(GpuTensor::shape);
        let [batch, tokens, n, channels] =
            around_extents(x.shape(), rows.shape(), chosen.shape(), places, so_far_shape)?;
        let (pitch, inputs4) = (padded_row(tokens), padded_row(channels) / 4);
        let photos = chosen.buffer("chosen photos")?;
        // If there are no distances so far, their binding takes any buffer.
        let found = so_far.map_or(Ok(photos), |found| found.buffer("distances so far"))?;
        let mut operands = vec![x.buffer("tokens")?, photos, found];
        let (kind, group4) = match rows.storage() {
            Storage::F32(values) => {
                operands.push(&values.buffer);
                (Operands::F32, 0)
            }
            Storage::F16(values) => {
                operands.push(&values.buffer);
                (Operands::F16, 0)
            }
            Storage::Int8 { values, scales } => {
                operands.extend([&values.buffer, &scales.buffer]);
                (Operands::Int8, 0)
            }
            Storage::Int4 { values, scales, group4 } => {
                operands.extend([&values.buffer, &scales.buffer]);
                (Operands::Int4, *group4)
            }
        };
        let Places { grid, reach, first } = places;
        let [rows, tokens_, pitch, grid, reach, first, n] =
            words([batch * pitch, tokens, pitch, grid, reach.min(grid), first, n])?;
        let [inputs4, group4, pitch_photos, resumed] =
            words([inputs4, group4, padded_row(chosen.shape()[1]), usize::from(so_far.is_some())])?;
        self.dispatch(
            Kernel::NearestAround(kind),
            [rows, tokens_, pitch, grid, reach, first, n, inputs4, group4, pitch_photos, resumed],
            vec![batch, tokens],
            &operands,
            one_a_row(batch * padded_row(tokens)),
        )
    }
}

impl WebGpu {
    /// Cosines of each photo's first token with rows, as places in the order of numbers: `x [batch, tokens, channels]` and
    /// `rows [n, channels]` → `[batch, n]`.
    fn class_cosines(&self, x: &GpuTensor, rows: &GpuTensor) -> Result<GpuTensor> {
        let [batch, n, channels] = top_extents(x.shape(), rows.shape())?;
        let (pitch, channels4) = (padded_row(n), padded_row(channels) / 4);
        let length = batch * pitch;
        self.dispatch(
            Kernel::ClassCosines,
            words([length, n, pitch, x.shape()[1] * channels4, channels4])?,
            vec![batch, n],
            &[x.buffer("tokens")?, rows.buffer("rows")?],
            [length.div_ceil(256), 1, 1],
        )
    }

    /// Whether int8 weights are multiplied with int8 activations.
    fn rounds_activations(&self) -> bool {
        self.precision == GpuPrecision::Int8 && self.gpu.adapter.integer_dot
    }

    /// [`Ops::linear`] in the given tile.
    pub(super) fn product(
        &self,
        tile: Tile,
        x: &GpuTensor,
        layer: &Linear<GpuTensor>,
        then: Then<'_, GpuTensor>,
    ) -> Result<GpuTensor> {
        let [batch, tokens, inputs] = x.activation("linear input")?;
        let [outputs, _] = layer.weight.matrix("linear weight")?;
        layer.weight.expect("linear weight", &[outputs, inputs])?;
        let input = x.buffer("linear input")?;
        // The numbers are those of linear.wgsl. The binding of an absent bias or residual takes any buffer.
        let (biased, bias) = match &layer.bias {
            Some(bias) => {
                bias.expect("linear bias", &[outputs])?;
                (1, bias.buffer("linear bias")?)
            }
            None => (0, input),
        };
        let (then, residual) = match then {
            Then::Store => (0, bias),
            Then::Gelu => (1, bias),
            Then::Add(residual) => {
                residual.expect("linear residual", &[batch, tokens, outputs])?;
                (2, residual.buffer("linear residual")?)
            }
        };
        let (rows, inputs4) = (batch * tokens, padded_row(inputs) / 4);
        let pitch = padded_row(inputs4 + 2);
        let rounded;
        let mut operands = vec![bias, residual];
        let mut group = 0;
        let kind = match layer.weight.storage() {
            Storage::F32(weight) => {
                operands.extend([input, &weight.buffer]);
                Operands::F32
            }
            Storage::F16(weight) => {
                operands.extend([input, &weight.buffer]);
                Operands::F16
            }
            Storage::Int8 { values, scales } if self.rounds_activations() => {
                let words = words([rows, inputs4, pitch])?;
                rounded = self.dispatch(Kernel::QuantizeRows, words, vec![rows, pitch], &[input], one_a_row(rows))?;
                operands.extend([rounded.buffer("rounded input")?, &values.buffer, &scales.buffer]);
                Operands::Int8Both
            }
            Storage::Int8 { values, scales } => {
                operands.extend([input, &values.buffer, &scales.buffer]);
                Operands::Int8
            }
            Storage::Int4 { values, scales, group4 } => {
                operands.extend([input, &values.buffer, &scales.buffer]);
                group = *group4;
                Operands::Int4
            }
        };
        let words = words([rows, outputs, inputs4, padded_row(outputs) / 4, then, biased, pitch, group])?;
        let groups = tile.groups(outputs, rows);
        self.dispatch(Kernel::Linear(kind, tile), words, vec![batch, tokens, outputs], &operands, groups)
    }

    /// Records a copy of tokens from `first` on to columns from `start` on. The last columns include the padding.
    fn copy(&self, x: &GpuTensor, first: usize, result: &GpuTensor, start: usize) -> Result<()> {
        let [batch, tokens, width] = result.activation("tokens")?;
        let [.., channels] = x.activation("tokens")?;
        let columns = if start + channels == width { padded_row(width) - start } else { channels };
        let length = batch * tokens * columns;
        let words = words([length, tokens, first, channels, columns, padded_row(channels), padded_row(width), start])?;
        let groups = [length.div_ceil(256), 1, 1];
        self.kernels.record(Kernel::Copy, params(words), result.buffer("tokens")?, &[x.buffer("tokens")?], groups)
    }

    /// Records a kernel that writes a new tensor.
    pub(super) fn dispatch<const N: usize>(
        &self,
        kernel: Kernel,
        words: [u32; N],
        shape: Vec<usize>,
        operands: &[&wgpu::Buffer],
        groups: [usize; 3],
    ) -> Result<GpuTensor> {
        let result = GpuTensor::result(&self.pool, shape)?;
        self.kernels.record(kernel, params(words), result.buffer("result")?, operands, groups)?;
        Ok(result)
    }
}

/// Prefix, grid and reach of hidden neighbours; zeros if none are hidden.
fn window(hidden: Option<Neighbours>, tokens: usize) -> Result<[u32; 3]> {
    match hidden {
        Some(hidden) => words([hidden.prefix, hidden.grid(tokens)?, hidden.reach]),
        None => Ok([0; 3]),
    }
}

/// Extents of packed queries, keys and values.
struct Heads {
    batch: usize,
    tokens: usize,
    channels: usize,
    size: usize,
}

fn split(qkv: &GpuTensor, heads: usize) -> Result<Heads> {
    let [batch, tokens, packed] = qkv.activation("qkv")?;
    Ok(Heads { batch, tokens, channels: packed / 3, size: head_size(packed, heads)? })
}

/// One workgroup per row, in two dimensions if they exceed the limit of one.
fn one_a_row(rows: usize) -> [usize; 3] {
    [rows.min(GROUPS_ACROSS), rows.div_ceil(GROUPS_ACROSS), 1]
}

/// Extents as a kernel's parameters.
pub(super) fn words<const N: usize>(extents: [usize; N]) -> Result<[u32; N]> {
    let mut words = [0; N];
    for (word, extent) in words.iter_mut().zip(extents) {
        *word = u32::try_from(extent)
            .map_err(|_| Error::config(format!("an extent of {extent} is too large for a GPU")))?;
    }
    Ok(words)
}
