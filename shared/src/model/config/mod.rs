//! Configuration of a detector: everything needed to build it before any weight is read.

mod architecture;
mod encoder;
mod memory;

use serde::{Deserialize, Serialize};

pub use architecture::Architecture;
pub use encoder::{EncoderConfig, Mlp, Positions, Resampling, Taps};
use encoder::{check_eps, check_limits};
pub use memory::{MemoryConfig, MemoryKind};

use crate::maps::score::MapBorder;
use crate::ops::Neighbours;
use crate::{Error, Result};

/// Configuration of a Dinomaly detector: encoder, target layers, groups and decoder. Serialised as `config.json` of a published model.
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
    /// What is reconstructed: the layers themselves, or their difference from the class token.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recentring: Recentring,
    /// Input of the bottleneck.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bottleneck_input: BottleneckInput,
    /// Number of channels that a linear layer narrows the bottleneck's input to, before its MLP: 256 in Dinomaly2. Dropout then
    /// follows that layer, and is not applied to the input. If absent, as in Dinomaly, there is no such layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bottleneck_width: Option<usize>,
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
    /// Which patches these are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub masked_share: MaskedShare,
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

/// Subtraction of the class token from the encoder's features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recentring {
    /// None.
    #[default]
    None,
    /// In what is compared: each group's mean minus its class token, then a layer norm without weight and bias, eps
    /// [`Recentring::EPS`] (Dinomaly2, official `context_aware_recenter`). The bottleneck sees the layers as they are.
    Target,
    /// In every layer, before bottleneck and groups, without a norm (anomalib's `use_context_recentering`, which differs from
    /// Dinomaly2's). Needs `remove_class_token`: the class token is nothing but zeros then.
    Layers,
}

impl Recentring {
    /// Epsilon of the norm in [`Recentring::Target`].
    pub const EPS: f64 = 1e-8;
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

/// Choice of the patches that patch masking hides. Neither the paper nor the official code says which of the two Table A8 had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskedShare {
    /// Each patch on its own, so that their number varies from photo to photo.
    #[default]
    Drawn,
    /// The same number of patches in each photo, the nearest to the share (MAE).
    Exact,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// Epsilon in the normaliser of linear attention: none in Dinomaly, 1e-8 in Dinomaly2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention_eps: f64,
}

/// Mixing of the tokens of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixer {
    /// `softmax(q·k / sqrt(d)) v`.
    Softmax,
    /// `phi(q) (Σ phi(k) v) / (phi(q)·Σ phi(k) + attention_eps)`, `phi = elu + 1`, no scale.
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
            attention_eps: 0.0,
        }
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
            recentring: Recentring::None,
            bottleneck_input: BottleneckInput::Mean,
            bottleneck_width: None,
            remove_class_token: false,
            decoder,
            bottleneck_dropout: 0.2,
            feature_jitter: 0.0,
            patch_masking: 0.0,
            masked_share: MaskedShare::Drawn,
            map_border: MapBorder::Zero,
        }
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field that does not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config(reason));
        self.encoder.validate()?;
        for (name, value, least, most) in [
            ("decoder.num_hidden_layers", self.decoder.num_hidden_layers, 1, 1 << 10),
            ("decoder.intermediate_size", self.decoder.intermediate_size, 1, 1 << 18),
            ("decoder.neighbour_mask", self.decoder.neighbour_mask, 0, 1 << 12),
            ("bottleneck_width", self.bottleneck_width.unwrap_or(1), 1, 1 << 16),
        ] {
            check_limits(name, value, least, most)?;
        }
        check_eps("decoder.layer_norm_eps", self.decoder.layer_norm_eps)?;
        check_eps("decoder.attention_eps", self.decoder.attention_eps)?;
        if self.decoder.attention_eps > 0.0 && self.decoder.mixer != Mixer::Linear {
            return refuse(format!(
                "decoder.attention_eps = {} is for linear attention, and the decoder has another mixer",
                self.decoder.attention_eps
            ));
        }
        self.encoder.check_heads("decoder.num_attention_heads", self.decoder.num_attention_heads)?;
        self.encoder.check_layers(&self.target_layers)?;
        self.validate_groups()?;
        if let Mixer::Convolution { kernel } = self.decoder.mixer
            && (kernel % 2 == 0 || kernel > 1 << 8 || !self.remove_class_token || self.decoder.neighbour_mask > 0)
        {
            return refuse(format!(
                "a convolution of side {kernel} in the decoder needs an odd side below 256, remove_class_token and no neighbour_mask"
            ));
        }
        if self.recentring == Recentring::Layers && !self.remove_class_token {
            return refuse("recentring = layers needs remove_class_token".into());
        }
        if self.recentring == Recentring::Target && self.comparison == Comparison::Concatenated {
            return refuse("recentring = target is of a group's mean, and comparison = concatenated has none".into());
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

    /// What is taken from the encoder.
    pub fn taps(&self) -> Taps<'_> {
        Taps { encoder: &self.encoder, layers: &self.target_layers, final_norm: false }
    }

    /// Number of encoder blocks that are run: up to the last target layer.
    pub fn encoder_blocks_run(&self) -> usize {
        self.taps().blocks_run()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers from before these fields refuse names that they do not know.
    #[test]
    fn what_dinomaly_does_not_have_is_written_of_others_only() {
        let published = ModelConfig::published(EncoderConfig::tiny()).unwrap();
        let written = serde_json::to_value(&published).unwrap();
        let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert!(["recentring", "bottleneck_width"].iter().all(|name| !names(&written).iter().any(|n| n == name)));
        assert!(!names(&written["decoder"]).contains(&"attention_eps".to_owned()));
        let mut other = published.clone();
        (other.recentring, other.bottleneck_width, other.decoder.attention_eps) = (Recentring::Target, Some(256), 1e-8);
        let text = serde_json::to_string(&other).unwrap();
        assert!(text.contains(r#""recentring":"target","bottleneck_width":256"#), "{text}");
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), other);
        assert_eq!(serde_json::from_value::<ModelConfig>(written).unwrap(), published);
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        type Change = fn(&mut ModelConfig);
        let changes: [(&str, Change); 5] = [
            ("recentring = layers needs remove_class_token", |c| c.recentring = Recentring::Layers),
            ("comparison = concatenated has none", |c| {
                (c.recentring, c.comparison) = (Recentring::Target, Comparison::Concatenated);
                c.groups = vec![vec![1, 3]];
            }),
            ("bottleneck_width = 0", |c| c.bottleneck_width = Some(0)),
            ("decoder.attention_eps = 2", |c| c.decoder.attention_eps = 2.0),
            ("is for linear attention", |c| (c.decoder.attention_eps, c.decoder.mixer) = (1e-8, Mixer::Softmax)),
        ];
        for (expected, change) in changes {
            let mut config = ModelConfig::published(EncoderConfig::tiny()).unwrap();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}
