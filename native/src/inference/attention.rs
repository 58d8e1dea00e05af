//! Attention of a decoder's patches (the paper's Figure 3): softmax attention may focus on a few places, linear attention spreads.
//!
//! The unchanged model runs on an executor that records the inputs of every attention.

use std::cell::RefCell;

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::watched::{Seen, Watched};
use dinomaly_core::ops::{Neighbours, Ops};
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::tensor::HostTensor;
use rayon::prelude::*;

/// One attention of one photo.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `[tokens, 3, heads, size]`.
    qkv: Vec<f32>,
    tokens: usize,
    heads: usize,
    linear: Option<f64>,
    hidden: Option<Neighbours>,
    /// Tokens before the first patch.
    prefix: usize,
}

/// Spread of attention over the patches: means over all heads and queries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpread {
    /// Entropy of the patches' weights, relative to uniform weights: 0 is one patch, 1 all patches alike.
    pub entropy: f64,
    /// Mean distance between a patch and the patches that it attends to, in patches.
    pub distance: f64,
}

/// The attention of every decoder block on a photo, first block first.
///
/// # Errors
/// If the decoder has no attention, the model looks at tiles, or the device fails.
pub fn of_decoder(model: &Model, photo: &Photo, device: Device) -> Result<Vec<Attention>> {
    if model.preprocessor.tiles.is_some() {
        bail!(
            "model {} looks at photos in tiles, and attention is drawn for photos that are one square: train a model without --tile-size",
            model.name
        );
    }
    let (config, grid) = (model.config.dinomaly("the decoder's attention")?, model.grid());
    let patch = config.encoder.patch_size;
    let seen = RefCell::default();
    let candle = watched(device, &seen);
    let dinomaly = model.weights.dinomaly(&candle, config, grid)?;
    let patches = model.preprocessor.patches(photo, patch);
    let patches = candle.upload(&HostTensor::f32([1, grid * grid, 3 * patch * patch], patches)?)?;
    dinomaly.distances(&candle, &patches)?;
    // Those of the encoder come first.
    let decoder = seen.take().split_off(config.encoder_blocks_run());
    if decoder.len() != config.decoder.num_hidden_layers {
        bail!("the decoder of model {} has convolutions and no attention", model.name);
    }
    let prefix = config.kept_prefix_tokens();
    Ok(decoder.into_iter().map(|attention| Attention { prefix, ..attention }).collect())
}

impl Attention {
    /// Number of attention heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Number of patches, which form a square grid.
    pub fn patches(&self) -> usize {
        self.tokens - self.prefix
    }

    /// Weights of a patch for all tokens in a head: `[tokens]`, class and register tokens first. They sum to 1, or less if softmax has
    /// masked neighbours, as in the model.
    pub fn weights(&self, head: usize, patch: usize) -> Vec<f32> {
        let query = self.prefix + patch;
        let (q, size) = (self.part(0, head, query), self.qkv.len() / (3 * self.tokens * self.heads));
        let product = |key: usize| -> f32 {
            let k = self.part(1, head, key);
            match self.linear {
                Some(_) => q.iter().zip(k).map(|(&q, &k)| phi(q) * phi(k)).sum(),
                None => q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() / (size as f32).sqrt(),
            }
        };
        let mut weights: Vec<f32> = (0..self.tokens).map(product).collect();
        let largest = weights.iter().copied().fold(f32::MIN, f32::max);
        if self.linear.is_none() {
            weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
        }
        let sum: f32 = weights.iter().sum();
        if let Some(hidden) = self.hidden {
            let grid = self.patches().isqrt();
            let keys = weights.iter_mut().enumerate();
            keys.filter(|(key, _)| hidden.hides(grid, query, *key)).for_each(|(_, weight)| *weight = 0.0);
        }
        // Masked keys count in the sum of softmax, but not in that of linear attention.
        let sum = self.linear.map_or(sum, |eps| weights.iter().sum::<f32>() + eps as f32);
        weights.iter_mut().for_each(|weight| *weight /= sum);
        weights
    }

    /// Weights of a patch for all patches, `[patches]`: of one head, or the mean over heads.
    pub fn to_patches(&self, head: Option<usize>, patch: usize) -> Vec<f32> {
        let heads = head.map_or(0..self.heads, |head| head..head + 1);
        let share = 1.0 / heads.len() as f32;
        let mut mean = vec![0.0; self.patches()];
        for head in heads {
            let weights = self.weights(head, patch);
            mean.iter_mut().zip(&weights[self.prefix..]).for_each(|(mean, weight)| *mean += share * weight);
        }
        mean
    }

    /// Spread of this attention.
    pub fn spread(&self) -> AttentionSpread {
        let patches = self.patches();
        let of_query = |patch: usize| {
            let spreads = (0..self.heads).map(|head| spread(&self.weights(head, patch)[self.prefix..], patch));
            spreads.fold((0.0, 0.0), |sum, one| (sum.0 + one.entropy, sum.1 + one.distance))
        };
        let sum = (0..patches).into_par_iter().map(of_query).reduce(|| (0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let count = (patches * self.heads) as f64;
        AttentionSpread { entropy: sum.0 / count, distance: sum.1 / count }
    }

    /// Query, key or value (0, 1, 2) of a token in a head.
    fn part(&self, part: usize, head: usize, token: usize) -> &[f32] {
        let size = self.qkv.len() / (3 * self.tokens * self.heads);
        &self.qkv[((token * 3 + part) * self.heads + head) * size..][..size]
    }
}

/// `elu + 1`.
fn phi(x: f32) -> f32 {
    if x > 0.0 { x + 1.0 } else { x.exp() }
}

/// Spread of one query's weights, normalised to sum 1.
fn spread(weights: &[f32], query: usize) -> AttentionSpread {
    let (grid, sum) = (weights.len().isqrt(), weights.iter().map(|&weight| f64::from(weight)).sum::<f64>());
    let (mut entropy, mut distance) = (0.0, 0.0);
    for (key, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        let weight = f64::from(weight) / sum;
        let apart = |a: usize, b: usize| a.abs_diff(b) as f64;
        entropy -= weight * weight.ln();
        distance += weight * apart(key / grid, query / grid).hypot(apart(key % grid, query % grid));
    }
    AttentionSpread { entropy: entropy / (weights.len() as f64).ln(), distance }
}

/// candle, with a record of the inputs of every attention.
fn watched(
    device: Device,
    noted: &RefCell<Vec<Attention>>,
) -> Watched<Candle<'static>, impl Fn(Seen<'_, Tensor>) -> dinomaly_core::Result<()>> {
    let reader = Candle::infer(device.clone());
    Watched::new(Candle::infer(device), move |seen| {
        if let Seen::Attention { qkv, heads, hidden, linear } = seen {
            let (qkv, tokens) = (reader.read(qkv)?, qkv.dim(1)?);
            noted.borrow_mut().push(Attention { qkv, tokens, heads, linear, hidden, prefix: 0 });
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights, applied to the values, give the executor's output for the same queries, keys and values.
    #[test]
    fn weights_are_those_of_the_executor() {
        let (prefix, patches, heads, size) = (2, 9, 3, 4);
        let (tokens, channels) = (prefix + patches, heads * size);
        let values: Vec<f32> = (0..tokens * 3 * channels).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * 2.0).collect();
        let qkv = Tensor::from_vec(values, (1, tokens, 3 * channels), &Device::Cpu).unwrap();
        for hidden in [None, Some(Neighbours { prefix, reach: 1 })] {
            let seen = RefCell::default();
            let candle = watched(Device::Cpu, &seen);
            let softmax = candle.attention(&qkv, heads, hidden, None).unwrap();
            let linear = candle.linear_attention(&qkv, heads, hidden, 0.5).unwrap();
            for (attention, output) in seen.take().into_iter().zip([softmax, linear]) {
                let attention = Attention { prefix, ..attention };
                let output = output.to_vec3::<f32>().unwrap().remove(0);
                for (head, patch) in (0..heads).flat_map(|head| (0..patches).map(move |patch| (head, patch))) {
                    let weights = attention.weights(head, patch);
                    for channel in 0..size {
                        let of = |key: usize| weights[key] * attention.part(2, head, key)[channel];
                        let mixed: f32 = (0..tokens).map(of).sum();
                        let expected = output[prefix + patch][head * size + channel];
                        assert!((mixed - expected).abs() < 1e-5, "{hidden:?}: {mixed}, expected {expected}");
                    }
                }
                let mean = attention.to_patches(None, 4);
                let sum: f32 = (0..heads).map(|head| attention.to_patches(Some(head), 4)[7]).sum();
                assert!(mean.len() == patches && (mean[7] - sum / heads as f32).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn a_spread_is_least_at_one_place_and_largest_everywhere() {
        let mut one = [0.0; 9];
        one[8] = 0.2;
        let found = spread(&one, 0);
        assert!(found.entropy.abs() < 1e-12 && (found.distance - 8f64.sqrt()).abs() < 1e-12, "{found:?}");
        let found = spread(&[0.1; 9], 4);
        let expected = (4.0 + 4.0 * 2f64.sqrt()) / 9.0;
        assert!((found.entropy - 1.0).abs() < 1e-12 && (found.distance - expected).abs() < 1e-7, "{found:?}");
    }
}
