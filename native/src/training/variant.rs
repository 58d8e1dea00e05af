//! The paper's variants: what of a model and its training may differ from Dinomaly as published.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::{
    BottleneckInput, Comparison, DecoderConfig, EncoderConfig, MaskedShare, Mixer, ModelConfig, Recentring,
};
use dinomaly_core::photo::preprocess::Geometry;

use crate::training::schedule::Schedule;

/// What may differ from the published model, which is the default.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Encoder blocks to reconstruct, from 0 on; the published choice if empty.
    pub layers: Vec<usize>,
    /// Which layers are compared together.
    pub groups: Groups,
    /// Decoder blocks that the groups are compared with, as places in the list of blocks from the last one on; the same places as
    /// the groups if omitted.
    pub decoder_groups: Option<Groups>,
    /// Number of decoder blocks; as many as there are layers if omitted.
    pub decoder_blocks: Option<usize>,
    /// Whether the class token is subtracted from what is reconstructed.
    pub recentring: Recentring,
    /// What the bottleneck is given.
    pub bottleneck_input: BottleneckInput,
    /// Number of channels that the bottleneck first narrows its input to; it does not if omitted.
    pub bottleneck_width: Option<usize>,
    /// How the decoder's tokens exchange information.
    pub decoder: Decoder,
    /// Epsilon in the normaliser of linear attention.
    pub attention_eps: f64,
    /// Side of the window of patches around each that it must not attend to; 0 for none.
    pub neighbour_mask: usize,
    /// Whether bottleneck and decoder get patches only, no class and register tokens; convolutions and recentred layers
    /// always do.
    pub remove_class_token: bool,
    /// Dropout rate of the bottleneck.
    pub dropout: f64,
    /// Scale of the normal noise on the bottleneck's input.
    pub jitter: f64,
    /// Share of patches that the bottleneck must do without.
    pub patch_masking: f64,
    /// Which patches these are.
    pub masked_share: MaskedShare,
    /// Share of points that count as easy; 0 trains with the plain global cosine loss.
    pub mining_rate: f64,
    /// Factor on the gradient of easy points.
    pub mining_factor: f64,
    /// Iterations until that share is reached.
    pub mining_warmup: usize,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            groups: Groups::Equal(2),
            decoder_groups: None,
            decoder_blocks: None,
            recentring: Recentring::None,
            bottleneck_input: BottleneckInput::Mean,
            bottleneck_width: None,
            decoder: Decoder(Mixer::Linear),
            attention_eps: 0.0,
            neighbour_mask: 0,
            remove_class_token: false,
            dropout: 0.2,
            jitter: 0.0,
            patch_masking: 0.0,
            masked_share: MaskedShare::Drawn,
            mining_rate: 0.9,
            mining_factor: 0.1,
            mining_warmup: 1000,
        }
    }
}

impl Variant {
    /// The model's config for an encoder and a photo geometry.
    ///
    /// # Errors
    /// If options contradict each other, the encoder or the geometry; the error names them.
    pub fn model(&self, encoder: EncoderConfig, geometry: Geometry) -> Result<ModelConfig> {
        let Geometry { resize, crop } = geometry;
        geometry.validate(encoder.patch_size).with_context(|| format!("--resize {resize} --crop {crop}"))?;
        let grid = geometry.grid(encoder.patch_size);
        if self.neighbour_mask > grid {
            bail!(
                "--neighbour-mask {}: the crop has {grid} patches a side, so no patch would be left",
                self.neighbour_mask
            );
        }
        let mut config = if self.layers.is_empty() {
            ModelConfig::published(encoder)?
        } else {
            let decoder = DecoderConfig::published(&encoder, self.layers.len());
            ModelConfig { target_layers: self.layers.clone(), ..ModelConfig::with_decoder(encoder, decoder) }
        };
        let layers = config.target_layers.len();
        (config.groups, config.comparison) = (self.groups.of(layers)?, self.groups.comparison());
        config.decoder.num_hidden_layers = self.decoder_blocks.unwrap_or(layers);
        let blocks = config.decoder.num_hidden_layers;
        config.decoder.mixer = self.decoder.0;
        config.decoder.neighbour_mask = self.neighbour_mask;
        config.decoder.attention_eps = self.attention_eps;
        config.recentring = self.recentring;
        config.bottleneck_width = self.bottleneck_width;
        config.remove_class_token = self.remove_class_token
            || self.recentring == Recentring::Layers
            || matches!(self.decoder.0, Mixer::Convolution { .. });
        config.bottleneck_dropout = self.dropout;
        config.feature_jitter = self.jitter;
        config.patch_masking = self.patch_masking;
        config.masked_share = self.masked_share;
        config.decoder_groups = self.decoder_groups.as_ref().map(|groups| groups.of(blocks)).transpose()?;
        config.bottleneck_input = self.bottleneck_input;
        config.validate()?;
        Ok(config)
    }

    /// The schedule with these options of hard mining.
    ///
    /// # Errors
    /// If a share or factor lies outside 0..1.
    pub fn schedule(&self, schedule: Schedule) -> Result<Schedule> {
        if !(0.0..1.0).contains(&self.mining_rate) || !(0.0..=1.0).contains(&self.mining_factor) {
            bail!("--mining-rate {} and --mining-factor {} must lie in 0..1", self.mining_rate, self.mining_factor);
        }
        let (mining_rate, mining_factor) = (self.mining_rate, self.mining_factor);
        Ok(Schedule { mining_rate, mining_factor, mining_warmup: self.mining_warmup, ..schedule })
    }
}

/// The layers to compare, by group.
#[derive(Clone, Debug, PartialEq)]
pub enum Groups {
    /// So many groups of neighbouring layers.
    Equal(usize),
    /// The last of so many layers each, with its own.
    Every(usize),
    /// Every second layer, all as one.
    Concatenated,
    /// Groups of places among the layers.
    Listed(Vec<Vec<usize>>),
}

impl FromStr for Groups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Equal(count));
        }
        match text {
            "dense" => return Ok(Self::Every(1)),
            "every2" => return Ok(Self::Every(2)),
            "every4" => return Ok(Self::Every(4)),
            "concatenated" => return Ok(Self::Concatenated),
            _ => {}
        }
        let group = |part: &str| part.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
        let groups = text.split('/').map(group).collect::<Result<Vec<_>, _>>().map_err(|_| {
            "expected a number of groups, dense, every2, every4, concatenated, or groups such as 0,1,2,3/4,5,6,7"
                .to_owned()
        })?;
        let places = groups.concat();
        match places.iter().enumerate().find(|(i, place)| places[..*i].contains(place)) {
            Some((_, place)) => Err(format!("{place} is given twice")),
            None => Ok(Self::Listed(groups)),
        }
    }
}

impl Groups {
    /// The groups as indices into `layers` layers. `every2` takes the last of each two layers and `every4` the last of each four,
    /// as in the paper's sparse layer-to-layer comparison.
    fn of(&self, layers: usize) -> Result<Vec<Vec<usize>>> {
        let last_of_each = |step: usize| (0..layers / step).map(move |i| (i + 1) * step - 1);
        Ok(match self {
            Self::Equal(count) => {
                if *count == 0 || *count > layers {
                    bail!("--groups {count}: {layers} layers cannot make {count} groups");
                }
                (0..*count).map(|i| (i * layers / count..(i + 1) * layers / count).collect()).collect()
            }
            Self::Every(step) => last_of_each(*step).map(|i| vec![i]).collect(),
            Self::Concatenated => vec![last_of_each(2).collect()],
            Self::Listed(groups) => groups.clone(),
        })
    }

    fn comparison(&self) -> Comparison {
        if *self == Self::Concatenated { Comparison::Concatenated } else { Comparison::Mean }
    }
}

/// Every way to recentre.
pub const RECENTRINGS: [Recentring; 3] = [Recentring::None, Recentring::Target, Recentring::Layers];

/// Name of a way to recentre on the command line.
pub fn recentring_name(recentring: Recentring) -> &'static str {
    match recentring {
        Recentring::None => "none",
        Recentring::Target => "target",
        Recentring::Layers => "layers",
    }
}

/// Both ways to choose the patches that are masked.
pub const MASKED_SHARES: [MaskedShare; 2] = [MaskedShare::Drawn, MaskedShare::Exact];

/// Name of a way to choose masked patches on the command line.
pub fn masked_share_name(share: MaskedShare) -> &'static str {
    match share {
        MaskedShare::Drawn => "drawn",
        MaskedShare::Exact => "exact",
    }
}

/// A kind of decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoder(pub Mixer);

impl FromStr for Decoder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "linear" => Mixer::Linear,
            "softmax" => Mixer::Softmax,
            _ => match text.strip_prefix("conv").map(str::parse) {
                Some(Ok(kernel)) => Mixer::Convolution { kernel },
                _ => return Err("expected linear, softmax, conv3, conv5 or conv7".into()),
            },
        }))
    }
}
