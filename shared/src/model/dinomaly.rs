//! Dinomaly (CVPR 2025) and Dinomaly2 (arXiv 2510.17611): patches → encoder → two group means, reconstructed by bottleneck and
//! decoder → distance maps.

use crate::Result;
use crate::model::config::{BottleneckInput, Comparison, Mlp, ModelConfig, Recentring};
use crate::model::encoder::{Encoder, Observe, Stage};
use crate::model::vit::{Block, BlockShape, Load, load_linear};
use crate::ops::{Linear, NoiseAt, Ops, Then};

/// The trained part: noisy MLP bottleneck and decoder.
#[derive(Clone, Debug)]
pub struct Head<T> {
    /// First layer of the bottleneck, if it narrows its input.
    narrow: Option<Linear<T>>,
    fc1: Linear<T>,
    fc2: Linear<T>,
    blocks: Vec<Block<T>>,
    /// Projection of the last block's output to all layers of the group, if these are concatenated.
    last: Option<Linear<T>>,
}

/// Name of the layer that narrows the bottleneck's input.
const NARROW: &str = "bottleneck.0.0";

/// Name of the bottleneck's first layer.
pub fn first_layer(config: &ModelConfig) -> &'static str {
    if config.bottleneck_width.is_some() { NARROW } else { "bottleneck.0.fc1" }
}

impl<T: Clone> Head<T> {
    /// Builds the head from `bottleneck.0.fc1|fc2.…` and `decoder.i.…`, as the official state dict names them; with a narrowed
    /// bottleneck from `bottleneck.0.0.…` and `bottleneck.1.0|3.…`, as that of Dinomaly2 does; with concatenated layers also
    /// `decoder.DEPTH.weight|bias`.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(config: &ModelConfig, load: &mut Load<'_, T>) -> Result<Self> {
        let (width, d) = (config.encoder.hidden_size, &config.decoder);
        let shape = BlockShape {
            width,
            hidden: d.intermediate_size,
            heads: d.num_attention_heads,
            mixer: d.mixer,
            attention_eps: d.attention_eps,
            hidden_neighbours: config.hidden_neighbours(),
            mlp: Mlp::Gelu,
            bias_entries: None,
            eps: d.layer_norm_eps,
        };
        let last = match config.comparison {
            Comparison::Mean => None,
            Comparison::Concatenated => {
                let outputs = config.groups[0].len() * width;
                Some(load_linear(&format!("decoder.{}", d.num_hidden_layers), width, outputs, load)?)
            }
        };
        let (inputs, [fc1, fc2]) = match config.bottleneck_width {
            None => (width, ["bottleneck.0.fc1", "bottleneck.0.fc2"]),
            Some(narrowed) => (narrowed, ["bottleneck.1.0", "bottleneck.1.3"]),
        };
        let narrow = config.bottleneck_width.map(|outputs| load_linear(NARROW, width, outputs, load)).transpose()?;
        Ok(Self {
            narrow,
            fc1: load_linear(fc1, inputs, d.intermediate_size, load)?,
            fc2: load_linear(fc2, d.intermediate_size, width, load)?,
            blocks: (0..d.num_hidden_layers)
                .map(|i| Block::load(&format!("decoder.{i}"), shape, load))
                .collect::<Result<_>>()?,
            last,
        })
    }

    /// `fused [batch, tokens, width]` → the decoder blocks' outputs, LAST block first: index 0 is compared with the shallowest
    /// target layer (the official code reverses the list before it groups). With concatenated layers there is one output.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn forward<O: Ops<Tensor = T>>(&self, ops: &O, fused: &T, observe: &mut Observe<'_, T>) -> Result<Vec<T>> {
        // The official code applies one dropout module three times: input, hidden, output.
        // That of Dinomaly2 drops after its first layer and not at the input, which the noise knows.
        let mut x = ops.bottleneck_noise(fused, NoiseAt::Input)?;
        if let Some(narrow) = &self.narrow {
            x = ops.bottleneck_noise(&ops.linear(&x, narrow, Then::Store)?, NoiseAt::Narrowed)?;
        }
        let hidden = ops.bottleneck_noise(&ops.linear(&x, &self.fc1, Then::Gelu)?, NoiseAt::Hidden)?;
        let mut x = ops.bottleneck_noise(&ops.linear(&hidden, &self.fc2, Then::Store)?, NoiseAt::Output)?;
        drop(hidden);
        observe(Stage::Bottleneck, &x);
        let mut outputs = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(ops, &x)?;
            observe(Stage::DecoderBlock(i), &x);
            outputs.push(x.clone());
        }
        if let Some(last) = &self.last {
            let all = ops.linear(&x, last, Then::Store)?;
            observe(Stage::DecoderBlock(self.blocks.len()), &all);
            return Ok(vec![all]);
        }
        outputs.reverse();
        Ok(outputs)
    }
}

/// Features of the encoder: all that the head is trained on.
#[derive(Clone, Debug)]
pub struct Encoded<T> {
    /// Features of each group of target layers `[batch, tokens, channels]`.
    pub groups: Vec<T>,
    /// Input of the bottleneck `[batch, tokens, width]`.
    pub fused: T,
}

/// Groups the target layers' outputs and fuses them for the bottleneck. The class token is subtracted, and class and register
/// tokens are removed, if the model is configured so.
///
/// # Errors
/// As [`Ops`].
pub fn encoded<O: Ops>(ops: &O, layers: &[O::Tensor], config: &ModelConfig) -> Result<Encoded<O::Tensor>> {
    let kept = |x: O::Tensor| {
        if config.remove_class_token { ops.drop_tokens(&x, config.encoder.prefix_tokens()) } else { Ok(x) }
    };
    let recentred;
    let layers = match config.recentring {
        Recentring::Layers => {
            recentred = layers.iter().map(|layer| ops.recentre(layer, None)).collect::<Result<Vec<_>>>()?;
            &recentred
        }
        Recentring::None | Recentring::Target => layers,
    };
    let mut groups = match config.comparison {
        Comparison::Mean => group_means(ops, layers, &config.groups)?,
        Comparison::Concatenated => {
            vec![ops.concatenate(&config.groups[0].iter().map(|&i| layers[i].clone()).collect::<Vec<_>>())?]
        }
    };
    if config.recentring == Recentring::Target {
        groups = groups.iter().map(|group| ops.recentre(group, Some(Recentring::EPS))).collect::<Result<_>>()?;
    }
    let fused = match config.bottleneck_input {
        BottleneckInput::Mean => ops.mean(layers)?,
        BottleneckInput::Last => layers[layers.len() - 1].clone(),
    };
    Ok(Encoded { groups: groups.into_iter().map(kept).collect::<Result<_>>()?, fused: kept(fused)? })
}

/// Groups the outputs of [`Head::forward`], for comparison with [`Encoded::groups`].
///
/// # Errors
/// As [`Ops`].
pub fn decoded<O: Ops>(ops: &O, outputs: Vec<O::Tensor>, config: &ModelConfig) -> Result<Vec<O::Tensor>> {
    match config.comparison {
        Comparison::Mean => group_means(ops, &outputs, config.decoder_groups.as_ref().unwrap_or(&config.groups)),
        Comparison::Concatenated => Ok(outputs),
    }
}

/// Mean of the layers in each group.
fn group_means<O: Ops>(ops: &O, layers: &[O::Tensor], groups: &[Vec<usize>]) -> Result<Vec<O::Tensor>> {
    groups.iter().map(|group| ops.mean(&group.iter().map(|&i| layers[i].clone()).collect::<Vec<_>>())).collect()
}

/// Encoder and head on one executor.
#[derive(Clone, Debug)]
pub struct Dinomaly<T> {
    encoder: Encoder<T>,
    head: Head<T>,
    config: ModelConfig,
}

impl<T: Clone> Dinomaly<T> {
    /// Builds both parts; see [`Encoder::load`] and [`Head::load`] for the names.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(config: &ModelConfig, grid: usize, load: &mut Load<'_, T>) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::load(config.taps(), grid, load)?,
            head: Head::load(config, load)?,
            config: config.clone(),
        })
    }

    /// `patches [batch, grid², 3·patch²]` → for each group the cosine distances `[batch, tokens]`. The first
    /// [`ModelConfig::kept_prefix_tokens`] are class and register tokens, which are not part of the map.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn distances<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T) -> Result<Vec<T>> {
        self.distances_observed(ops, patches, &mut |_, _| {})
    }

    /// [`Dinomaly::distances`] that passes every intermediate tensor to `observe`.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn distances_observed<O: Ops<Tensor = T>>(
        &self,
        ops: &O,
        patches: &T,
        observe: &mut Observe<'_, T>,
    ) -> Result<Vec<T>> {
        let layers = self.encoder.forward(ops, patches, observe)?;
        self.distances_of(ops, layers, observe)
    }

    /// `patches [batch, grid², 3·patch²]` → the target layers' outputs, each `[batch, tokens, width]`.
    ///
    /// # Errors
    /// As [`Ops`].
    pub(crate) fn layers<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T) -> Result<Vec<T>> {
        self.encoder.forward(ops, patches, &mut |_, _| {})
    }

    /// [`Dinomaly::distances_observed`] from the target layers' outputs, which are dropped early.
    ///
    /// # Errors
    /// As [`Ops`].
    pub(crate) fn distances_of<O: Ops<Tensor = T>>(
        &self,
        ops: &O,
        layers: Vec<T>,
        observe: &mut Observe<'_, T>,
    ) -> Result<Vec<T>> {
        let Encoded { groups, fused } = encoded(ops, &layers, &self.config)?;
        drop(layers);
        groups.iter().enumerate().for_each(|(j, group)| observe(Stage::EncodedGroup(j), group));
        observe(Stage::Fused, &fused);
        let decoded = decoded(ops, self.head.forward(ops, &fused, observe)?, &self.config)?;
        decoded.iter().enumerate().for_each(|(j, group)| observe(Stage::DecodedGroup(j), group));
        groups.iter().zip(&decoded).map(|(e, d)| ops.cosine_distance(e, d)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::reference::Reference;
    use crate::model::config::EncoderConfig;
    use crate::tensor::HostTensor;

    /// Two photos of a class token, a register and four patches.
    #[test]
    fn recentred_are_the_layers_in_anomalib_and_only_the_target_in_dinomaly2() {
        let (tokens, width, prefix) = (6, 4, 2);
        let value = |layer: usize, photo: usize, token: usize, channel: usize| {
            ((layer * 31 + photo * 17 + (token + 2) * (channel + 3) * 7) % 23) as f64 / 5.0
        };
        let all = |of: &dyn Fn(usize, usize, usize) -> f64, tokens: std::ops::Range<usize>| -> Vec<f64> {
            let photo =
                |photo| tokens.clone().flat_map(move |t| (0..width).map(move |c| of(photo, t, c))).collect::<Vec<_>>();
            (0..2).flat_map(photo).collect()
        };
        let layer = |layer| {
            let values = all(&|photo, token, channel| value(layer, photo, token, channel), 0..tokens);
            HostTensor::f32([2, tokens, width], values.into_iter().map(|v| v as f32).collect()).unwrap()
        };
        let layers: Vec<_> = (0..8).map(|i| Reference.upload(&layer(i)).unwrap()).collect();
        let mean = |of: &[usize], photo, token, channel| {
            of.iter().map(|&layer| value(layer, photo, token, channel)).sum::<f64>() / of.len() as f64
        };
        let every: Vec<usize> = (0..8).collect();
        let close = |found: &[f32], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found}, expected {expected}");
            }
        };
        let published =
            ModelConfig::published(EncoderConfig { num_register_tokens: 1, ..EncoderConfig::tiny() }).unwrap();

        let config = ModelConfig { recentring: Recentring::Layers, remove_class_token: true, ..published.clone() };
        config.validate().unwrap();
        let found = encoded(&Reference, &layers, &config).unwrap();
        let recentred = |of: &[usize]| {
            all(&|photo, token, channel| mean(of, photo, token, channel) - mean(of, photo, 0, channel), prefix..tokens)
        };
        close(&found.fused.values, &recentred(&every));
        found.groups.iter().zip(&config.groups).for_each(|(group, of)| close(&group.values, &recentred(of)));

        let config = ModelConfig { recentring: Recentring::Target, ..published };
        let found = encoded(&Reference, &layers, &config).unwrap();
        close(&found.fused.values, &all(&|photo, token, channel| mean(&every, photo, token, channel), 0..tokens));
        for (group, of) in found.groups.iter().zip(&config.groups) {
            let normed = |photo, token, channel| {
                let row: Vec<f64> = (0..width).map(|c| mean(of, photo, token, c) - mean(of, photo, 0, c)).collect();
                let centre = row.iter().sum::<f64>() / width as f64;
                let variance = row.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / width as f64;
                (row[channel] - centre) / (variance + 1e-8).sqrt()
            };
            close(&group.values, &all(&normed, 0..tokens));
        }
    }
}
