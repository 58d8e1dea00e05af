//! What a Dinomaly model is made of: everything needed to build it before any weight is read.

use serde::{Deserialize, Serialize};

use crate::maps::score::MapBorder;
use crate::ops::Neighbours;
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
    /// Which decoder outputs make the groups that these are compared with, as indices into the reversed list; the same as
    /// `groups` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_groups: Option<Vec<Vec<usize>>>,
    /// What a group is compared as.
    #[serde(default, skip_serializing_if = "is_default")]
    pub comparison: Comparison,
    /// What the bottleneck is given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bottleneck_input: BottleneckInput,
    /// Whether bottleneck and decoder are given patches only, without class and register tokens.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove_class_token: bool,
    /// The trained decoder.
    pub decoder: DecoderConfig,
    /// Dropout rate of the bottleneck while training ("noisy bottleneck").
    pub bottleneck_dropout: f64,
    /// Scale of the normal noise on the bottleneck's input while training, in token norms divided by channels (UniAD's
    /// feature jitter; official `FeatureJitter`). 0 in Dinomaly.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_jitter: f64,
    /// Share of patches whose tokens the bottleneck is given as zeros while training. 0 in Dinomaly; the official code has
    /// no such noise, the paper compares with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub patch_masking: f64,
    /// What the anomaly map's blur finds outside of the map.
    #[serde(default, skip_serializing_if = "is_default")]
    pub map_border: MapBorder,
}

/// How the decoder's outputs and the encoder's layers are compared (the paper's loose reconstruction).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// The mean of a group's layers with the mean of as many decoder blocks. Groups of one layer each are the classical
    /// layer-to-layer comparison.
    #[default]
    Mean,
    /// All layers of the one group side by side with what one more linear layer makes of the last decoder block (official
    /// `ViTillCat`).
    Concatenated,
}

/// What the bottleneck is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BottleneckInput {
    /// The mean of all target layers.
    #[default]
    Mean,
    /// The last target layer alone (ViTAD).
    Last,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Shape of a plain vision transformer, with the pieces in which the published ones differ.
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
    /// Side of the grid that the stored position table was made for, in patches; 0 with rotary positions, which have none.
    pub position_grid: usize,
    /// Epsilon of the encoder's layer norms: 1e-6 in DINO, DINOv2 and timm, 1e-5 in DINOv3.
    pub layer_norm_eps: f64,
    /// What its MLPs are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp: Mlp,
    /// How tokens know where they are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub positions: Positions,
}

/// The MLP of an encoder block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mlp {
    /// `fc2(gelu(fc1(x)))`.
    #[default]
    Gelu,
    /// `w3(silu(a) · b)`, a and b the halves of `w12(x)` (Shazeer 2020): DINOv2 giant, some of DINOv3.
    SwiGlu,
}

/// How an encoder's tokens know where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A table that is added to the class token and the patches.
    #[default]
    Table,
    /// Queries and keys of patches are rotated by angles that grow with their place (DINOv3).
    Rotary,
    /// A table in each block that is added to attention's logits, by head and by the way from query to key (BEiT).
    RelativeBias,
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
    /// Side of the window of patches around each that it must not attend to (UniAD's neighbour mask); 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub neighbour_mask: usize,
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
    /// A convolution of each channel in a block that widens before it and narrows after it; needs `remove_class_token`.
    Convolution {
        /// Side of the kernel, odd: 3, 5 or 7 in the paper.
        kernel: usize,
    },
}

impl DecoderConfig {
    /// The published decoder on an encoder: linear attention, with as many heads as that has.
    pub fn published(encoder: &EncoderConfig, blocks: usize) -> Self {
        Self {
            num_hidden_layers: blocks,
            num_attention_heads: encoder.num_attention_heads,
            intermediate_size: 4 * encoder.hidden_size,
            mixer: Mixer::Linear,
            neighbour_mask: 0,
            layer_norm_eps: 1e-8,
        }
    }
}

impl EncoderConfig {
    /// A plain vision transformer: twelve blocks, MLPs four times as wide as a token, no registers, a position table of
    /// `grid` × `grid` patches. Fields in which an encoder differs are set around it:
    /// `EncoderConfig { num_register_tokens: 4, ..EncoderConfig::vit(384, 6, 14, 37) }`.
    pub fn vit(width: usize, heads: usize, patch: usize, grid: usize) -> Self {
        Self {
            name: "vit".into(),
            hidden_size: width,
            num_attention_heads: heads,
            num_hidden_layers: 12,
            intermediate_size: 4 * width,
            patch_size: patch,
            num_register_tokens: 0,
            position_grid: grid,
            layer_norm_eps: 1e-6,
            mlp: Mlp::Gelu,
            positions: Positions::Table,
        }
    }

    /// The smallest shape that has all parts, for tests.
    #[doc(hidden)]
    pub fn tiny() -> Self {
        Self { name: "tiny".into(), intermediate_size: 8, ..Self::vit(4, 2, 2, 3) }
    }

    /// Tokens before the first patch: the class token and the registers.
    pub fn prefix_tokens(&self) -> usize {
        1 + self.num_register_tokens
    }

    /// Channels of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }
}

impl ModelConfig {
    /// The published choice for an encoder: the eight middle layers, two groups of four, eight linear-attention blocks.
    ///
    /// Target layers as in the official scripts: 2..=9 of 12 blocks, 4,6,…,18 of 24. The paper goes no deeper; of 32 and 40
    /// blocks (DINOv3 huge, DINOv2 giant) every third is taken, as far from the first block as from the last.
    ///
    /// # Errors
    /// [`Error::Config`] for an encoder of another depth, for which the paper gives no layers.
    pub fn published(encoder: EncoderConfig) -> Result<Self> {
        let target_layers = match encoder.num_hidden_layers {
            12 => (2..=9).collect(),
            24 => (4..=18).step_by(2).collect(),
            32 => (5..=26).step_by(3).collect(),
            40 => (9..=30).step_by(3).collect(),
            depth => {
                return Err(Error::config(format!(
                    "no published target layers for an encoder of {depth} blocks (12, 24, 32 and 40 have them): name them, for example with --layers"
                )));
            }
        };
        let decoder = DecoderConfig::published(&encoder, 8);
        let config = Self { target_layers, ..Self::with_decoder(encoder, decoder) };
        config.validate()?;
        Ok(config)
    }

    /// The published model but for its decoder, with no target layers yet.
    pub fn with_decoder(encoder: EncoderConfig, decoder: DecoderConfig) -> Self {
        Self {
            encoder,
            target_layers: Vec::new(),
            groups: vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]],
            decoder_groups: None,
            comparison: Comparison::Mean,
            bottleneck_input: BottleneckInput::Mean,
            remove_class_token: false,
            decoder,
            bottleneck_dropout: 0.2,
            feature_jitter: 0.0,
            patch_masking: 0.0,
            map_border: MapBorder::Zero,
        }
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field that does not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config(reason));
        let e = &self.encoder;
        // Far beyond every published model: more is a damaged file, and would ask for memory that no machine has.
        for (name, value, least, most) in [
            ("encoder.hidden_size", e.hidden_size, 1, 1 << 16),
            ("encoder.intermediate_size", e.intermediate_size, 1, 1 << 18),
            ("encoder.patch_size", e.patch_size, 1, 1 << 10),
            ("encoder.num_hidden_layers", e.num_hidden_layers, 1, 1 << 10),
            ("encoder.num_register_tokens", e.num_register_tokens, 0, 1 << 10),
            ("encoder.position_grid", e.position_grid, 0, 1 << 12),
            ("decoder.num_hidden_layers", self.decoder.num_hidden_layers, 1, 1 << 10),
            ("decoder.intermediate_size", self.decoder.intermediate_size, 1, 1 << 18),
            ("decoder.neighbour_mask", self.decoder.neighbour_mask, 0, 1 << 12),
        ] {
            if !(least..=most).contains(&value) {
                return refuse(format!("{name} = {value} must be from {least} to {most}"));
            }
        }
        for (name, eps) in
            [("encoder.layer_norm_eps", e.layer_norm_eps), ("decoder.layer_norm_eps", self.decoder.layer_norm_eps)]
        {
            if !(0.0..1.0).contains(&eps) {
                return refuse(format!("{name} = {eps} is outside 0..1"));
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
        if e.positions != Positions::Rotary && e.position_grid == 0 {
            return refuse("encoder.position_grid must be at least 1".into());
        }
        if e.positions == Positions::Rotary && !e.head_size().is_multiple_of(4) {
            return refuse(format!(
                "rotary positions turn 4 channels together, heads of {} have a rest",
                e.head_size()
            ));
        }
        if e.positions == Positions::RelativeBias && e.num_register_tokens > 0 {
            return refuse("a relative position bias has no place for register tokens".into());
        }
        self.validate_groups()?;
        if let Mixer::Convolution { kernel } = self.decoder.mixer
            && (kernel % 2 == 0 || !self.remove_class_token || self.decoder.neighbour_mask > 0)
        {
            return refuse(format!(
                "a convolution of side {kernel} in the decoder needs an odd side, remove_class_token, and no neighbour_mask"
            ));
        }
        for (name, rate) in [("bottleneck_dropout", self.bottleneck_dropout), ("patch_masking", self.patch_masking)] {
            if !(0.0..1.0).contains(&rate) {
                return refuse(format!("{name} = {rate} is outside 0..1"));
            }
        }
        if !(self.feature_jitter.is_finite() && self.feature_jitter >= 0.0) {
            return refuse(format!("feature_jitter = {} must be a number from 0 on", self.feature_jitter));
        }
        Ok(())
    }

    fn validate_groups(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config(reason));
        let (layers, blocks) = (self.target_layers.len(), self.decoder.num_hidden_layers);
        let decoder_groups = self.decoder_groups.as_ref().unwrap_or(&self.groups);
        if self.groups.is_empty() || self.groups.iter().chain(decoder_groups).any(Vec::is_empty) {
            return refuse("groups must not be empty".into());
        }
        if let Some(index) = self.groups.iter().flatten().find(|&&i| i >= layers) {
            return refuse(format!("group index {index} is beyond the {layers} target layers"));
        }
        if self.comparison == Comparison::Concatenated {
            if self.groups.len() > 1 || self.decoder_groups.is_some() {
                return refuse("concatenated layers are one group, and the decoder has none".into());
            }
            return Ok(());
        }
        if self.decoder_groups.is_none() && blocks != layers {
            return refuse(format!("{blocks} decoder blocks cannot be paired with {layers} target layers"));
        }
        if let Some(index) = decoder_groups.iter().flatten().find(|&&i| i >= blocks) {
            return refuse(format!("decoder group index {index} is beyond the {blocks} decoder blocks"));
        }
        if decoder_groups.len() != self.groups.len() {
            return refuse(format!(
                "{} decoder groups cannot be compared with {} groups",
                decoder_groups.len(),
                self.groups.len()
            ));
        }
        Ok(())
    }

    /// How many encoder blocks are run: up to the last target layer.
    pub fn encoder_blocks_run(&self) -> usize {
        self.target_layers.last().map_or(0, |last| last + 1)
    }

    /// Tokens before the first patch in bottleneck, decoder and distances: none, or all of the encoder's.
    pub fn kept_prefix_tokens(&self) -> usize {
        if self.remove_class_token { 0 } else { self.encoder.prefix_tokens() }
    }

    /// What the decoder's patches must not attend to.
    pub fn hidden_neighbours(&self) -> Option<Neighbours> {
        let side = self.decoder.neighbour_mask;
        (side > 0).then(|| Neighbours { prefix: self.kept_prefix_tokens(), reach: side / 2 })
    }
}
