//! Configuration of a Dinomaly model: everything needed to build it before any weight is read.

use serde::{Deserialize, Serialize};

use crate::maps::score::MapBorder;
use crate::ops::Neighbours;
use crate::{Error, Result};

/// Configuration of encoder, target layers, groups and decoder. Serialised as `config.json` of a published model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The frozen vision transformer.
    pub encoder: EncoderConfig,
    /// Encoder blocks whose outputs are compared, 0-based, ascending. Later blocks are never run.
    pub target_layers: Vec<usize>,
    /// Groups of target layers, as indices into `target_layers`. The decoder's outputs are grouped by the same indices after
    /// their list is reversed: shallow layers are compared with the last decoder blocks.
    pub groups: Vec<Vec<usize>>,
    /// Groups of decoder outputs, as indices into the reversed list. If absent, the same as `groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_groups: Option<Vec<Vec<usize>>>,
    /// How groups are compared.
    #[serde(default, skip_serializing_if = "is_default")]
    pub comparison: Comparison,
    /// Input of the bottleneck.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bottleneck_input: BottleneckInput,
    /// Whether bottleneck and decoder see patches only, no class or register tokens.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remove_class_token: bool,
    /// The trained decoder.
    pub decoder: DecoderConfig,
    /// Dropout rate of the bottleneck in training ("noisy bottleneck").
    pub bottleneck_dropout: f64,
    /// Scale of Gaussian noise on the bottleneck's input in training, in token norms divided by channels (feature jitter of
    /// UniAD; official `FeatureJitter`). 0 in Dinomaly.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_jitter: f64,
    /// Share of patches whose tokens are zeroed at the bottleneck's input in training. 0 in Dinomaly; the paper compares with
    /// this noise, the official code does not have it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub patch_masking: f64,
    /// Padding of the anomaly map for its blur.
    #[serde(default, skip_serializing_if = "is_default")]
    pub map_border: MapBorder,
}

/// Comparison of the decoder's outputs with the encoder's layers (the paper's loose reconstruction).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Mean of a group's layers with the mean of as many decoder blocks. Groups of one layer each are the classical
    /// layer-to-layer comparison.
    #[default]
    Mean,
    /// Concatenation of all layers of the only group with a linear projection of the last decoder block (official `ViTillCat`).
    Concatenated,
}

/// Input of the bottleneck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BottleneckInput {
    /// Mean of all target layers.
    #[default]
    Mean,
    /// Last target layer only (ViTAD).
    Last,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Configuration of a plain vision transformer, with the options in which published encoders differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Name for people ("dinov2-reg-small", "deit-tiny", …).
    pub name: String,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Number of blocks of the whole encoder. A published model holds only those up to the last target layer.
    pub num_hidden_layers: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Number of register tokens after the class token.
    pub num_register_tokens: usize,
    /// Side of the stored position table's grid in patches; 0 with rotary positions, which have no table.
    pub position_grid: usize,
    /// Epsilon of the encoder's layer norms: 1e-6 in DINO, DINOv2 and timm, 1e-5 in DINOv3.
    pub layer_norm_eps: f64,
    /// Kind of MLP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp: Mlp,
    /// Kind of position encoding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub positions: Positions,
}

/// MLP of an encoder block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mlp {
    /// `fc2(gelu(fc1(x)))`.
    #[default]
    Gelu,
    /// `w3(silu(a) · b)`, where a and b are the halves of `w12(x)` (Shazeer 2020): DINOv2 giant, some of DINOv3.
    SwiGlu,
}

/// Position encoding of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Table added to the class token and the patches.
    #[default]
    Table,
    /// Rotation of the patches' queries and keys by angles of their row and column (DINOv3).
    Rotary,
    /// Table in each block added to attention's logits, by head and offset from query to key (BEiT).
    RelativeBias,
}

/// Configuration of the decoder. Its width is the encoder's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Number of channels inside the MLP, and inside the bottleneck's.
    pub intermediate_size: usize,
    /// Mixing of tokens.
    pub mixer: Mixer,
    /// Side of the window of hidden patches around each patch (UniAD's neighbour mask); 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub neighbour_mask: usize,
    /// Epsilon of the decoder's layer norms: 1e-8 in the official code.
    pub layer_norm_eps: f64,
}

/// Mixing of the tokens of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixer {
    /// `softmax(q·k / sqrt(d)) v`.
    Softmax,
    /// `phi(q) (Σ phi(k) v) / (phi(q)·Σ phi(k))`, `phi = elu + 1`, no scale, no epsilon.
    Linear,
    /// Depthwise convolution in an inverted bottleneck; needs `remove_class_token`.
    Convolution {
        /// Side of the kernel, odd: 3, 5 or 7 in the paper.
        kernel: usize,
    },
}

impl DecoderConfig {
    /// The published decoder for an encoder: linear attention, with the encoder's number of heads.
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

    /// Number of tokens before the first patch: the class token and the registers.
    pub fn prefix_tokens(&self) -> usize {
        1 + self.num_register_tokens
    }

    /// Number of channels of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }
}

impl ModelConfig {
    /// The published configuration for an encoder: eight middle layers, two groups of four, eight blocks with linear attention.
    ///
    /// Target layers are those of the official scripts: 2..=9 of 12 blocks, 4,6,…,18 of 24. Deeper encoders are not in the
    /// paper: of 32 and 40 blocks (DINOv3 huge, DINOv2 giant) every third is taken, centred in the depth.
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

    /// The published configuration with another decoder, and no target layers yet.
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
        // Limits far beyond every published model: a damaged file must not ask for memory that no machine has.
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
                "rotary positions need a head size that is a multiple of 4, found {}",
                e.head_size()
            ));
        }
        if e.positions == Positions::RelativeBias && e.num_register_tokens > 0 {
            return refuse("a relative position bias does not support register tokens".into());
        }
        self.validate_groups()?;
        if let Mixer::Convolution { kernel } = self.decoder.mixer
            && (kernel % 2 == 0 || kernel > 1 << 8 || !self.remove_class_token || self.decoder.neighbour_mask > 0)
        {
            return refuse(format!(
                "a convolution of side {kernel} in the decoder needs an odd side below 256, remove_class_token and no neighbour_mask"
            ));
        }
        for (name, rate) in [("bottleneck_dropout", self.bottleneck_dropout), ("patch_masking", self.patch_masking)] {
            if !(0.0..1.0).contains(&rate) {
                return refuse(format!("{name} = {rate} is outside 0..1"));
            }
        }
        if !(self.feature_jitter.is_finite() && self.feature_jitter >= 0.0) {
            return refuse(format!("feature_jitter = {} must be finite and not negative", self.feature_jitter));
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
                return refuse("comparison = concatenated needs one group and no decoder_groups".into());
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

    /// Number of encoder blocks that are run: up to the last target layer.
    pub fn encoder_blocks_run(&self) -> usize {
        self.target_layers.last().map_or(0, |last| last + 1)
    }

    /// Number of tokens before the first patch in bottleneck, decoder and distances: none, or all of the encoder's.
    pub fn kept_prefix_tokens(&self) -> usize {
        if self.remove_class_token { 0 } else { self.encoder.prefix_tokens() }
    }

    /// Keys hidden from the decoder's patches.
    pub fn hidden_neighbours(&self) -> Option<Neighbours> {
        let side = self.decoder.neighbour_mask;
        (side > 0).then(|| Neighbours { prefix: self.kept_prefix_tokens(), reach: side / 2 })
    }
}
