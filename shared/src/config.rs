//! What a Dinomaly model is made of: everything needed to build it before any weight is read.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A whole detector: frozen encoder, which of its layers are collected, how they are grouped, and the decoder.
///
/// Serialised as `config.json` of a published model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The frozen vision transformer.
    pub encoder: EncoderConfig,
    /// Encoder blocks whose outputs are collected, 0-based, ascending. Later blocks are never run.
    pub target_layers: Vec<usize>,
    /// Which collected layers make one group, as indices into `target_layers`. The decoder's outputs are grouped
    /// by the same indices after their list is reversed: the shallow layers face the last decoder blocks.
    pub groups: Vec<Vec<usize>>,
    /// The trained decoder.
    pub decoder: DecoderConfig,
    /// Dropout rate of the bottleneck while training ("noisy bottleneck").
    pub bottleneck_dropout: f64,
}

/// Shape of a DINO / DINOv2 / timm vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Where the weights come from, for people ("dinov2-reg-small", "deit-tiny", …).
    pub name: String,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Blocks of the whole encoder (a published model holds only those up to the last target layer).
    pub num_hidden_layers: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Register tokens after the class token.
    pub num_register_tokens: usize,
    /// Side of the grid that the stored position table was made for, in patches.
    pub position_grid: usize,
    /// Epsilon of the encoder's layer norms: 1e-6 in DINO, DINOv2 and timm.
    pub layer_norm_eps: f64,
}

/// Shape of the reconstructing decoder. Its width is the encoder's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Channels inside the MLP (and inside the bottleneck's).
    pub intermediate_size: usize,
    /// How tokens exchange information.
    pub mixer: Mixer,
    /// Epsilon of the decoder's layer norms: 1e-8 in the official code.
    pub layer_norm_eps: f64,
}

/// How the tokens of a block exchange information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixer {
    /// `softmax(q·k / sqrt(d)) v`.
    Softmax,
    /// `phi(q) (Σ phi(k) v) / (phi(q)·Σ phi(k))`, `phi = elu + 1`, no scale, no epsilon.
    Linear,
}

impl ModelConfig {
    /// The published choice for an encoder: the eight middle layers, two groups of four, eight linear-attention blocks.
    ///
    /// Target layers as in the official scripts: 2..=9 of 12 blocks, 4,6,…,18 of 24.
    ///
    /// # Errors
    /// [`Error::Config`] for an encoder of another depth, for which the paper gives no layers.
    pub fn published(encoder: EncoderConfig) -> Result<Self> {
        let target_layers = match encoder.num_hidden_layers {
            12 => (2..=9).collect(),
            24 => (4..=18).step_by(2).collect(),
            depth => {
                return Err(Error::config(format!(
                    "no published target layers for an encoder of {depth} blocks (12 and 24 have them): name them explicitly"
                )));
            }
        };
        let decoder = DecoderConfig {
            num_hidden_layers: 8,
            num_attention_heads: encoder.num_attention_heads,
            intermediate_size: 4 * encoder.hidden_size,
            mixer: Mixer::Linear,
            layer_norm_eps: 1e-8,
        };
        let config = Self {
            encoder,
            target_layers,
            groups: vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]],
            decoder,
            bottleneck_dropout: 0.2,
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field that does not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config(reason));
        let e = &self.encoder;
        for (name, value) in [
            ("encoder.hidden_size", e.hidden_size),
            ("encoder.intermediate_size", e.intermediate_size),
            ("encoder.patch_size", e.patch_size),
            ("encoder.position_grid", e.position_grid),
            ("decoder.num_hidden_layers", self.decoder.num_hidden_layers),
            ("decoder.intermediate_size", self.decoder.intermediate_size),
        ] {
            if value == 0 {
                return refuse(format!("{name} must be at least 1"));
            }
        }
        for (name, heads) in [
            ("encoder.num_attention_heads", e.num_attention_heads),
            ("decoder.num_attention_heads", self.decoder.num_attention_heads),
        ] {
            if heads == 0 || !e.hidden_size.is_multiple_of(heads) {
                return refuse(format!("{name} = {heads} does not divide hidden_size = {}", e.hidden_size));
            }
        }
        if self.target_layers.is_empty() || !self.target_layers.is_sorted_by(|a, b| a < b) {
            return refuse(format!("target_layers {:?} must be ascending and not empty", self.target_layers));
        }
        if let Some(&layer) = self.target_layers.iter().find(|&&layer| layer >= e.num_hidden_layers) {
            return refuse(format!(
                "target layer {layer} does not exist: the encoder has {} blocks",
                e.num_hidden_layers
            ));
        }
        if self.decoder.num_hidden_layers != self.target_layers.len() {
            return refuse(format!(
                "{} decoder blocks cannot be paired with {} target layers",
                self.decoder.num_hidden_layers,
                self.target_layers.len()
            ));
        }
        if self.groups.is_empty() || self.groups.iter().any(Vec::is_empty) {
            return refuse("groups must not be empty".into());
        }
        if let Some(index) = self.groups.iter().flatten().find(|&&i| i >= self.target_layers.len()) {
            return refuse(format!("group index {index} is beyond the {} target layers", self.target_layers.len()));
        }
        if !(0.0..1.0).contains(&self.bottleneck_dropout) {
            return refuse(format!("bottleneck_dropout = {} is outside 0..1", self.bottleneck_dropout));
        }
        Ok(())
    }

    /// How many encoder blocks are run: up to the last target layer.
    pub fn encoder_blocks_run(&self) -> usize {
        self.target_layers.last().map_or(0, |last| last + 1)
    }

    /// Tokens before the first patch: the class token and the registers.
    pub fn prefix_tokens(&self) -> usize {
        1 + self.encoder.num_register_tokens
    }
}
