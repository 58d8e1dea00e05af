//! Plain loops: the reference that other executors are tested against. Every sum is accumulated in f64, so that only inputs and
//! stored results are rounded.

use std::rc::Rc;

use crate::ops::{
    Linear, Neighbours, Norm, Ops, Places, Read, RelativeBias, Then, around_extents, choose_extents, conv_extents,
    head_size, mean_token_extents, nearest_extents, part_width, rotation_prefix, top_extents,
};
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Executor of plain loops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// Tensor of [`Reference`]: shape and shared values.
#[derive(Clone, Debug)]
pub struct ReferenceTensor {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Values in single precision.
    pub values: Rc<Vec<f32>>,
}

impl ReferenceTensor {
    fn new(shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, values: Rc::new(values) }
    }

    /// `[batch, tokens, channels]` of an activation.
    fn rows(&self, name: &str) -> Result<(usize, usize, usize)> {
        match self.shape[..] {
            [batch, tokens, channels] => Ok((batch, tokens, channels)),
            _ => Err(Error::Tensor {
                name: name.into(),
                reason: format!("expected [batch, tokens, channels], found shape {:?}", self.shape),
            }),
        }
    }

    fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        Err(Error::Shape { name: name.into(), expected: shape.to_vec(), found: self.shape.clone() })
    }
}

impl Ops for Reference {
    type Tensor = ReferenceTensor;

    fn upload(&self, tensor: &HostTensor) -> Result<ReferenceTensor> {
        Ok(ReferenceTensor::new(tensor.shape.clone(), tensor.to_f32().into_owned()))
    }

    fn linear(
        &self,
        x: &ReferenceTensor,
        layer: &Linear<ReferenceTensor>,
        then: Then<'_, ReferenceTensor>,
    ) -> Result<ReferenceTensor> {
        let (batch, tokens, inputs) = x.rows("linear input")?;
        let outputs = layer.weight.shape[0];
        layer.weight.expect("linear weight", &[outputs, inputs])?;
        if let Some(bias) = &layer.bias {
            bias.expect("linear bias", &[outputs])?;
        }
        if let Then::Add(residual) = then {
            residual.expect("linear residual", &[batch, tokens, outputs])?;
        }
        let mut values = Vec::with_capacity(batch * tokens * outputs);
        for row in x.values.chunks_exact(inputs) {
            for (output, weight) in layer.weight.values.chunks_exact(inputs).enumerate() {
                let bias = layer.bias.as_ref().map_or(0.0, |bias| f64::from(bias.values[output]));
                let sum = bias + dot(row, weight);
                values.push(match then {
                    Then::Store => sum as f32,
                    Then::Gelu => gelu(sum) as f32,
                    Then::Add(residual) => (sum + f64::from(residual.values[values.len()])) as f32,
                });
            }
        }
        Ok(ReferenceTensor::new(vec![batch, tokens, outputs], values))
    }

    fn layer_norm(&self, x: &ReferenceTensor, norm: &Norm<ReferenceTensor>) -> Result<ReferenceTensor> {
        let (_, _, channels) = x.rows("layer norm input")?;
        norm.weight.expect("layer norm weight", &[channels])?;
        norm.bias.expect("layer norm bias", &[channels])?;
        let mut values = Vec::with_capacity(x.values.len());
        for row in x.values.chunks_exact(channels) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / channels as f64;
            let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / channels as f64;
            let scale = 1.0 / (variance + norm.eps).sqrt();
            for ((&v, &weight), &bias) in row.iter().zip(norm.weight.values.iter()).zip(norm.bias.values.iter()) {
                values.push(((f64::from(v) - mean) * scale * f64::from(weight) + f64::from(bias)) as f32);
            }
        }
        Ok(ReferenceTensor::new(x.shape.clone(), values))
    }

    fn attention(
        &self,
        qkv: &ReferenceTensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&ReferenceTensor>,
    ) -> Result<ReferenceTensor> {
        let (_, tokens, _) = qkv.rows("qkv")?;
        let grid = bias.map(|bias| RelativeBias::grid(&bias.shape, heads, tokens)).transpose()?.unwrap_or(0);
        let bias = |head: usize, query: usize, key: usize| {
            bias.map_or(0.0, |b| f64::from(b.values[head * b.shape[1] + RelativeBias::entry(grid, query, key)]))
        };
        attend(qkv, heads, hidden, |head, query, q, keys, hides| {
            let scale = (q.len() as f64).powf(-0.5);
            let logits: Vec<f64> =
                keys.iter().enumerate().map(|(key, k)| scale * dot(q, k) + bias(head, query, key)).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|l| (l - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            weights.iter().enumerate().map(|(key, weight)| if hides(key) { 0.0 } else { weight / total }).collect()
        })
    }

    // Quadratic form of the same sums: slower than in the other executors, and independent of their order of summation.
    fn linear_attention(
        &self,
        qkv: &ReferenceTensor,
        heads: usize,
        hidden: Option<Neighbours>,
        eps: f64,
    ) -> Result<ReferenceTensor> {
        attend(qkv, heads, hidden, |_, _, q, keys, hides| {
            let product = |k: &[f32]| q.iter().zip(k).map(|(&a, &b)| elu_plus_one(a) * elu_plus_one(b)).sum::<f64>();
            let weights: Vec<f64> =
                keys.iter().enumerate().map(|(key, k)| if hides(key) { 0.0 } else { product(k) }).collect();
            let total = weights.iter().sum::<f64>() + eps;
            weights.iter().map(|weight| weight / total).collect()
        })
    }

    fn recentre(&self, x: &ReferenceTensor, eps: Option<f64>) -> Result<ReferenceTensor> {
        let (_, tokens, channels) = x.rows("tokens to recentre")?;
        let mut values = Vec::with_capacity(x.values.len());
        for photo in x.values.chunks_exact(tokens * channels) {
            for row in photo.chunks_exact(channels) {
                let row: Vec<f64> = row.iter().zip(photo).map(|(&v, &first)| f64::from(v) - f64::from(first)).collect();
                let (mean, scale) = eps.map_or((0.0, 1.0), |eps| {
                    let mean = row.iter().sum::<f64>() / channels as f64;
                    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / channels as f64;
                    (mean, 1.0 / (variance + eps).sqrt())
                });
                values.extend(row.iter().map(|v| ((v - mean) * scale) as f32));
            }
        }
        Ok(ReferenceTensor::new(x.shape.clone(), values))
    }

    fn rotate(&self, qkv: &ReferenceTensor, heads: usize, rotation: &ReferenceTensor) -> Result<ReferenceTensor> {
        let (_, tokens, packed) = qkv.rows("qkv")?;
        let prefix = rotation_prefix(tokens, packed, heads, &rotation.shape)?;
        let (size, mut values) = (rotation.shape[1], qkv.values.to_vec());
        for (row, out) in values.chunks_exact_mut(packed).enumerate() {
            let Some(patch) = (row % tokens).checked_sub(prefix) else { continue };
            let (cosines, sines) = rotation.values[patch * size..][..size].split_at(size / 2);
            for head in out[..2 * heads * size].chunks_exact_mut(size) {
                let (first, second) = head.split_at_mut(size / 2);
                for (((a, b), &cosine), &sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                    let ([x, y], [cosine, sine]) = ([*a, *b].map(f64::from), [cosine, sine].map(f64::from));
                    (*a, *b) = ((x * cosine - y * sine) as f32, (y * cosine + x * sine) as f32);
                }
            }
        }
        Ok(ReferenceTensor::new(qkv.shape.clone(), values))
    }

    fn swiglu(&self, x: &ReferenceTensor) -> Result<ReferenceTensor> {
        let (batch, tokens, channels) = x.rows("SwiGLU input")?;
        let gated = |row: &[f32]| {
            let (gates, values) = row.split_at(channels / 2);
            let silu = |x: f64| x / (1.0 + (-x).exp());
            gates.iter().zip(values).map(|(&a, &b)| (silu(f64::from(a)) * f64::from(b)) as f32).collect::<Vec<_>>()
        };
        let values = x.values.chunks_exact(channels).flat_map(gated).collect();
        Ok(ReferenceTensor::new(vec![batch, tokens, channels / 2], values))
    }

    fn depthwise_conv(&self, x: &ReferenceTensor, weight: &ReferenceTensor) -> Result<ReferenceTensor> {
        let (batch, tokens, channels) = x.rows("convolution input")?;
        let (grid, side) = conv_extents(tokens, channels, &weight.shape)?;
        let reach = side / 2;
        let mut values = Vec::with_capacity(x.values.len());
        for photo in 0..batch {
            for (row, column, channel) in
                (0..tokens * channels).map(|i| (i / channels / grid, i / channels % grid, i % channels))
            {
                let mut sum = 0.0;
                for (dy, dx) in (0..side * side).map(|i| (i / side, i % side)) {
                    let (from_row, from_column) = (row + dy, column + dx);
                    if (reach..grid + reach).contains(&from_row) && (reach..grid + reach).contains(&from_column) {
                        let token = photo * tokens + (from_row - reach) * grid + from_column - reach;
                        let weight = weight.values[(channel * side + dy) * side + dx];
                        sum += f64::from(weight) * f64::from(x.values[token * channels + channel]);
                    }
                }
                values.push(sum as f32);
            }
        }
        Ok(ReferenceTensor::new(x.shape.clone(), values))
    }

    fn drop_tokens(&self, x: &ReferenceTensor, first: usize) -> Result<ReferenceTensor> {
        let (batch, tokens, channels) = x.rows("tokens")?;
        let photos = x.values.chunks_exact(tokens * channels);
        let values = photos.flat_map(|photo| &photo[first * channels..]).copied().collect();
        Ok(ReferenceTensor::new(vec![batch, tokens - first, channels], values))
    }

    fn mean_token(&self, x: &ReferenceTensor, first: usize) -> Result<ReferenceTensor> {
        let [batch, tokens, channels] = mean_token_extents(&x.shape, first)?;
        let mean = |photo: &[f32], channel: usize| {
            let values = photo[first * channels..].iter().skip(channel).step_by(channels);
            (values.map(|&v| f64::from(v)).sum::<f64>() / (tokens - first) as f64) as f32
        };
        let photos = x.values.chunks_exact(tokens * channels);
        let values = photos.flat_map(|photo| (0..channels).map(move |channel| mean(photo, channel))).collect();
        Ok(ReferenceTensor::new(vec![batch, 1, channels], values))
    }

    fn concatenate(&self, xs: &[ReferenceTensor]) -> Result<ReferenceTensor> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to concatenate"))?;
        let (batch, tokens, channels) = first.rows("tokens")?;
        for x in xs {
            x.expect("concatenation operand", &first.shape)?;
        }
        let row = |token: usize| xs.iter().flat_map(move |x| &x.values[token * channels..(token + 1) * channels]);
        let values = (0..batch * tokens).flat_map(row).copied().collect();
        Ok(ReferenceTensor::new(vec![batch, tokens, xs.len() * channels], values))
    }

    fn embed(
        &self,
        patches: &ReferenceTensor,
        prefix: &ReferenceTensor,
        positions: &ReferenceTensor,
    ) -> Result<ReferenceTensor> {
        let (batch, tokens, channels) = patches.rows("patch embeddings")?;
        positions.expect("positions", &[tokens, channels])?;
        let before = prefix.shape[0];
        prefix.expect("prefix tokens", &[before, channels])?;
        let mut values = Vec::with_capacity(batch * (before + tokens) * channels);
        for photo in patches.values.chunks_exact(tokens * channels) {
            values.extend_from_slice(&prefix.values);
            values.extend(photo.iter().zip(positions.values.iter()).map(|(p, position)| p + position));
        }
        Ok(ReferenceTensor::new(vec![batch, before + tokens, channels], values))
    }

    fn mean(&self, xs: &[ReferenceTensor]) -> Result<ReferenceTensor> {
        let first = xs.first().ok_or_else(|| Error::config("no tensors to average"))?;
        for x in xs {
            x.expect("mean operand", &first.shape)?;
        }
        let values = (0..first.values.len())
            .map(|i| (xs.iter().map(|x| f64::from(x.values[i])).sum::<f64>() / xs.len() as f64) as f32)
            .collect();
        Ok(ReferenceTensor::new(first.shape.clone(), values))
    }

    fn cosine_distance(&self, a: &ReferenceTensor, b: &ReferenceTensor) -> Result<ReferenceTensor> {
        let (batch, tokens, channels) = a.rows("cosine operand")?;
        b.expect("cosine operand", &a.shape)?;
        let rows = a.values.chunks_exact(channels).zip(b.values.chunks_exact(channels));
        let values = rows.map(|(a, b)| (1.0 - cosine(a, b)) as f32).collect();
        Ok(ReferenceTensor::new(vec![batch, tokens], values))
    }

    fn normalize(&self, x: &ReferenceTensor) -> Result<ReferenceTensor> {
        let (_, _, channels) = x.rows("rows to normalise")?;
        let unit = |row: &[f32]| {
            let norm = dot(row, row).sqrt();
            // `f64::max` would hide a NaN.
            let norm = if norm < 1e-8 { 1e-8 } else { norm };
            row.iter().map(|&v| (f64::from(v) / norm) as f32).collect::<Vec<_>>()
        };
        let values = x.values.chunks_exact(channels).flat_map(unit).collect();
        Ok(ReferenceTensor::new(x.shape.clone(), values))
    }

    fn nearest(&self, cosines: &ReferenceTensor, so_far: Option<&ReferenceTensor>) -> Result<ReferenceTensor> {
        let [batch, tokens, n] = nearest_extents(&cosines.shape, so_far.map(|found| &found.shape[..]))?;
        let distance = |(token, row): (usize, &[f32])| {
            let mut values: Vec<f64> = row.iter().map(|&cosine| 1.0 - f64::from(cosine)).collect();
            values.extend(so_far.map(|found| f64::from(found.values[token])));
            smallest(&values) as f32
        };
        let values = cosines.values.chunks_exact(n).enumerate().map(distance).collect();
        Ok(ReferenceTensor::new(vec![batch, tokens], values))
    }

    fn squared_norms(&self, x: &ReferenceTensor, parts: usize) -> Result<ReferenceTensor> {
        let (batch, tokens, channels) = x.rows("parts")?;
        let width = part_width(channels, parts)?;
        let values = x.values.chunks_exact(width).map(|part| dot(part, part) as f32).collect();
        Ok(ReferenceTensor::new(vec![batch, tokens, parts], values))
    }

    fn choose(
        &self,
        values: &ReferenceTensor,
        x: &ReferenceTensor,
        prototypes: &ReferenceTensor,
    ) -> Result<ReferenceTensor> {
        let [batch, tokens, n, channels] = choose_extents(&values.shape, &x.shape, &prototypes.shape)?;
        let of_photo = |photo: usize| {
            let class_token = &x.values[photo * tokens * channels..][..channels];
            let negated = |prototype: &[f32]| -cosine(class_token, prototype);
            let cosines: Vec<f64> = prototypes.values.chunks_exact(channels).map(negated).collect();
            let nearest = smallest(&cosines);
            let chosen = cosines.iter().position(|&cosine| cosine == nearest);
            let rows = values.values[photo * tokens * n..][..tokens * n].chunks_exact(n);
            rows.map(|row| chosen.map_or(f32::NAN, |chosen| row[chosen])).collect::<Vec<_>>()
        };
        Ok(ReferenceTensor::new(vec![batch, tokens], (0..batch).flat_map(of_photo).collect()))
    }

    fn top_rows(&self, x: &ReferenceTensor, rows: &ReferenceTensor, k: usize) -> Result<ReferenceTensor> {
        let [batch, n, channels] = top_extents(&x.shape, &rows.shape)?;
        let tokens = x.shape[1];
        let of_photo = |photo: usize| {
            let class_token = &x.values[photo * tokens * channels..][..channels];
            let cosines: Vec<f64> = rows.values.chunks_exact(channels).map(|row| cosine(class_token, row)).collect();
            if cosines.iter().any(|cosine| cosine.is_nan()) {
                return vec![f32::NAN; n];
            }
            let mut order: Vec<usize> = (0..n).collect();
            // Stable: earlier ones of equal ones stay first.
            order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
            let mut chosen = vec![0.0; n];
            order.iter().take(k).for_each(|&row| chosen[row] = 1.0);
            chosen
        };
        Ok(ReferenceTensor::new(vec![batch, n], (0..batch).flat_map(of_photo).collect()))
    }

    fn nearest_around(
        &self,
        x: &ReferenceTensor,
        rows: &ReferenceTensor,
        chosen: &ReferenceTensor,
        places: Places,
        so_far: Option<&ReferenceTensor>,
    ) -> Result<ReferenceTensor> {
        let so_far_shape = so_far.map(|found| &found.shape[..]);
        let [batch, tokens, n, channels] = around_extents(&x.shape, &rows.shape, &chosen.shape, places, so_far_shape)?;
        let (photos, prefix) = (chosen.shape[1], tokens - places.patches());
        let distance = |at: usize| {
            let mut values = vec![so_far.map_or(2.0, |found| f64::from(found.values[at]))];
            let place = (at % tokens).checked_sub(prefix).map(|patch| (patch / places.grid, patch % places.grid));
            if let Some((row, column)) = place {
                for photo in places.photos(n) {
                    let weight = f64::from(chosen.values[at / tokens * photos + photo]);
                    let near = places.around(row).flat_map(|y| places.around(column).map(move |x| (y, x)));
                    let near = near.filter_map(|(y, x)| places.row_of(photo, y, x, n));
                    // A photo that is not chosen has no part, whatever its rows hold.
                    for near in near.filter(|_| weight != 0.0) {
                        let token = &x.values[at * channels..][..channels];
                        values.push(1.0 - weight * dot(token, &rows.values[near * channels..][..channels]));
                    }
                }
            }
            smallest(&values) as f32
        };
        Ok(ReferenceTensor::new(vec![batch, tokens], (0..batch * tokens).map(distance).collect()))
    }
}

impl Read for Reference {
    async fn read_back(&self, tensors: &[&ReferenceTensor]) -> Result<Vec<Vec<f32>>> {
        Ok(tensors.iter().map(|tensor| tensor.values.to_vec()).collect())
    }
}

/// Weighted sum of values for every photo, head and token of packed `qkv`, with the weights of
/// `weigh(head, token, query, keys, is_hidden)`.
fn attend(
    qkv: &ReferenceTensor,
    heads: usize,
    hidden: Option<Neighbours>,
    weigh: impl Fn(usize, usize, &[f32], &[&[f32]], &dyn Fn(usize) -> bool) -> Vec<f64>,
) -> Result<ReferenceTensor> {
    let (batch, tokens, packed) = qkv.rows("qkv")?;
    let grid = hidden.map_or(Ok(0), |hidden| hidden.grid(tokens))?;
    let (channels, size) = (packed / 3, head_size(packed, heads)?);
    let mut out = vec![0f32; batch * tokens * channels];
    let mut sums = vec![0f64; size];
    for photo in 0..batch {
        for head in 0..heads {
            let part = |token: usize, which: usize| {
                let start = (photo * tokens + token) * packed + which * channels + head * size;
                &qkv.values[start..start + size]
            };
            let keys: Vec<&[f32]> = (0..tokens).map(|token| part(token, 1)).collect();
            let values: Vec<&[f32]> = (0..tokens).map(|token| part(token, 2)).collect();
            for token in 0..tokens {
                sums.fill(0.0);
                let hides = |key: usize| hidden.is_some_and(|hidden| hidden.hides(grid, token, key));
                for (weight, value) in weigh(head, token, part(token, 0), &keys, &hides).iter().zip(&values) {
                    for (sum, &v) in sums.iter_mut().zip(*value) {
                        *sum += weight * f64::from(v);
                    }
                }
                let start = (photo * tokens + token) * channels + head * size;
                for (o, &sum) in out[start..start + size].iter_mut().zip(&sums) {
                    *o = sum as f32;
                }
            }
        }
    }
    Ok(ReferenceTensor::new(vec![batch, tokens, channels], out))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a).sqrt().max(1e-8) * dot(b, b).sqrt().max(1e-8))
}

/// Smallest of some values, NaN if one of them is.
fn smallest(values: &[f64]) -> f64 {
    values.iter().fold(f64::INFINITY, |a, &b| if a.is_nan() || a < b { a } else { b })
}

/// `x Φ(x)` with the exact error function (PyTorch's default GELU).
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn elu_plus_one(x: f32) -> f64 {
    let x = f64::from(x);
    if x > 0.0 { x + 1.0 } else { x.exp() }
}
