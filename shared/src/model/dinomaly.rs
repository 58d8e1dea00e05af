//! Dinomaly (CVPR 2025): patches → encoder → two group means, reconstructed by bottleneck and decoder → distance maps.

use crate::Result;
use crate::model::config::{BottleneckInput, Comparison, Mlp, ModelConfig};
use crate::model::encoder::{Encoder, Observe, Stage};
use crate::model::vit::{Block, BlockShape, Load, load_linear};
use crate::ops::{Linear, NoiseAt, Ops, Then};

/// The trained part: noisy MLP bottleneck and decoder.
#[derive(Clone, Debug)]
pub struct Head<T> {
    fc1: Linear<T>,
    fc2: Linear<T>,
    blocks: Vec<Block<T>>,
    /// Projection of the last block's output to all layers of the group, if these are concatenated.
    last: Option<Linear<T>>,
}

impl<T: Clone> Head<T> {
    /// Builds the head from `bottleneck.0.fc1|fc2.…` and `decoder.i.…`, as the official state dict names them; with
    /// concatenated layers also `decoder.DEPTH.weight|bias`.
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
        Ok(Self {
            fc1: load_linear("bottleneck.0.fc1", width, d.intermediate_size, load)?,
            fc2: load_linear("bottleneck.0.fc2", d.intermediate_size, width, load)?,
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
        let x = ops.bottleneck_noise(fused, NoiseAt::Input)?;
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

/// Groups the target layers' outputs and fuses them for the bottleneck. Class and register tokens are removed if the
/// model is configured so.
///
/// # Errors
/// As [`Ops`].
pub fn encoded<O: Ops>(ops: &O, layers: &[O::Tensor], config: &ModelConfig) -> Result<Encoded<O::Tensor>> {
    let kept = |x: O::Tensor| {
        if config.remove_class_token { ops.drop_tokens(&x, config.encoder.prefix_tokens()) } else { Ok(x) }
    };
    let groups = match config.comparison {
        Comparison::Mean => group_means(ops, layers, &config.groups)?,
        Comparison::Concatenated => {
            vec![ops.concatenate(&config.groups[0].iter().map(|&i| layers[i].clone()).collect::<Vec<_>>())?]
        }
    };
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
        let Encoded { groups, fused } = encoded(ops, &layers, &self.config)?;
        drop(layers);
        groups.iter().enumerate().for_each(|(j, group)| observe(Stage::EncodedGroup(j), group));
        observe(Stage::Fused, &fused);
        let decoded = decoded(ops, self.head.forward(ops, &fused, observe)?, &self.config)?;
        decoded.iter().enumerate().for_each(|(j, group)| observe(Stage::DecodedGroup(j), group));
        groups.iter().zip(&decoded).map(|(e, d)| ops.cosine_distance(e, d)).collect()
    }
}
