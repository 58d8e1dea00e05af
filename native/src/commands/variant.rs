//! The paper's variants as options of `train`. The defaults are the published model.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::{BottleneckInput, Comparison, DecoderConfig, EncoderConfig, Mixer, ModelConfig};
use dinomaly_core::photo::preprocess::Geometry;

use crate::training::schedule::Schedule;

/// Options that change the published model.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Paper's variants (the defaults are the published model)")]
pub struct VariantOptions {
    /// Encoder blocks to reconstruct, counted from 0 [default: the published choice]
    ///
    /// There is a published choice for encoders of 12, 24, 32 and 40 blocks.
    #[arg(long, value_delimiter = ',', value_name = "BLOCK,…", hide_short_help = true)]
    layers: Vec<usize>,
    /// Groups of layers to compare: a number, dense, every2, every4, concatenated, or a list
    ///
    /// A number N makes N groups of neighbouring layers. dense compares each layer with its own reconstruction; every2 and
    /// every4 do so for every second or fourth layer. concatenated compares the concatenation of every second layer. A list
    /// such as 0,1,2,3/4,5,6,7 names the groups, as indices into --layers.
    #[arg(long, default_value = "2", value_name = "GROUPS", hide_short_help = true)]
    groups: Groups,
    /// Groups of decoder blocks to compare these with, such as 2/5/8 [default: as --groups]
    ///
    /// Blocks are counted from the last one, which is 0.
    #[arg(long, value_name = "GROUPS", hide_short_help = true)]
    decoder_groups: Option<Groups>,
    /// Number of decoder blocks [default: the number of layers]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N", hide_short_help = true)]
    decoder_blocks: Option<u32>,
    /// Input of the bottleneck: the mean of all layers, or the last layer
    #[arg(long, value_enum, default_value = "mean", value_name = "LAYERS", hide_short_help = true)]
    bottleneck_input: Input,
    /// Token mixer of the decoder: linear or softmax (attention), conv3, conv5 or conv7 (convolution)
    #[arg(long, default_value = "linear", value_name = "KIND", hide_short_help = true)]
    decoder: Decoder,
    /// Side of the neighbourhood that attention masks out around each patch, in patches; 0 for none
    #[arg(long, default_value_t = 0, value_name = "N", hide_short_help = true)]
    neighbour_mask: usize,
    /// Drop class and register tokens before the bottleneck; always the case with convolutions
    #[arg(long, hide_short_help = true)]
    remove_class_token: bool,
    /// Dropout rate of the bottleneck
    #[arg(long, default_value_t = 0.2, value_name = "RATE", hide_short_help = true)]
    dropout: f64,
    /// Scale of the Gaussian noise on the bottleneck's input; 20 in UniAD, 0 for none
    #[arg(long, default_value_t = 0.0, value_name = "SCALE", hide_short_help = true)]
    jitter: f64,
    /// Share of patches masked out at the bottleneck's input
    #[arg(long, default_value_t = 0.0, value_name = "RATE", hide_short_help = true)]
    patch_masking: f64,
    /// Share of points that count as easy; 0 is the plain global cosine loss
    #[arg(long, default_value_t = 0.9, value_name = "SHARE", hide_short_help = true)]
    mining_rate: f64,
    /// Factor on the gradient of easy points
    #[arg(long, default_value_t = 0.1, value_name = "FACTOR", hide_short_help = true)]
    mining_factor: f64,
    /// Iterations until --mining-rate is reached
    ///
    /// 1000 in the official scripts. The paper says 500 for one-class models.
    #[arg(long, default_value_t = 1000, value_name = "N", hide_short_help = true)]
    mining_warmup: usize,
}

impl VariantOptions {
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
        config.decoder.num_hidden_layers = self.decoder_blocks.map_or(layers, |blocks| blocks as usize);
        let blocks = config.decoder.num_hidden_layers;
        config.decoder.mixer = self.decoder.0;
        config.decoder.neighbour_mask = self.neighbour_mask;
        config.remove_class_token = self.remove_class_token || matches!(self.decoder.0, Mixer::Convolution { .. });
        config.bottleneck_dropout = self.dropout;
        config.feature_jitter = self.jitter;
        config.patch_masking = self.patch_masking;
        config.decoder_groups = self.decoder_groups.as_ref().map(|groups| groups.of(blocks)).transpose()?;
        config.bottleneck_input = match self.bottleneck_input {
            Input::Mean => BottleneckInput::Mean,
            Input::Last => BottleneckInput::Last,
        };
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
enum Groups {
    Equal(usize),
    Every(usize),
    Concatenated,
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

/// Layers that the bottleneck is given.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Input {
    Mean,
    Last,
}

/// A kind of decoder.
#[derive(Clone, Copy, Debug)]
struct Decoder(Mixer);

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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        variant: VariantOptions,
    }

    fn encoder(layers: usize) -> EncoderConfig {
        EncoderConfig { num_hidden_layers: layers, ..EncoderConfig::tiny() }
    }

    fn model(layers: usize, options: &str) -> Result<ModelConfig> {
        let variant = Command::try_parse_from(std::iter::once("train").chain(options.split_whitespace()))?.variant;
        variant.model(encoder(layers), Geometry { resize: 32, crop: 32 })
    }

    #[test]
    fn without_options_it_is_the_published_model() {
        for layers in [12, 24] {
            assert_eq!(model(layers, "").unwrap(), ModelConfig::published(encoder(layers)).unwrap());
        }
        let schedule = Command::parse_from(["train"]).variant.schedule(Schedule::official(10)).unwrap();
        assert_eq!(schedule, Schedule::official(10));
    }

    #[test]
    fn every_variant_is_an_option() {
        let groups = |options: &str| model(12, options).unwrap().groups;
        assert_eq!(groups("--groups 1"), [[0, 1, 2, 3, 4, 5, 6, 7]]);
        assert_eq!(groups("--groups 3"), [vec![0, 1], vec![2, 3, 4], vec![5, 6, 7]]);
        assert_eq!(groups("--groups dense").len(), 8);
        assert_eq!(groups("--groups every2"), [[1], [3], [5], [7]]);
        assert_eq!(groups("--groups every4"), [[3], [7]]);
        assert_eq!(groups("--groups 0,2/5"), [vec![0, 2], vec![5]]);
        let config = model(12, "--groups concatenated").unwrap();
        assert_eq!((config.groups, config.comparison), (vec![vec![1, 3, 5, 7]], Comparison::Concatenated));
        let config = model(12, "--decoder conv5 --dropout 0 --jitter 20").unwrap();
        assert_eq!(config.decoder.mixer, Mixer::Convolution { kernel: 5 });
        assert!(config.remove_class_token && config.bottleneck_dropout == 0.0 && config.feature_jitter == 20.0);
        let config = model(12, "--decoder softmax --neighbour-mask 3 --remove-class-token").unwrap();
        assert_eq!((config.decoder.mixer, config.decoder.neighbour_mask), (Mixer::Softmax, 3));
        let config = model(12, "--patch-masking 0.4 --bottleneck-input last").unwrap();
        assert_eq!((config.patch_masking, config.bottleneck_input), (0.4, BottleneckInput::Last));
        let config = model(12, "--layers 2,5,8,11 --groups 0/1/2 --decoder-blocks 9 --decoder-groups 2/5/8").unwrap();
        assert_eq!((config.decoder.num_hidden_layers, config.groups), (9, vec![vec![0], vec![1], vec![2]]));
        assert_eq!(config.decoder_groups, Some(vec![vec![2], vec![5], vec![8]]));
        let config = model(6, "--layers 1,2,3,5").unwrap();
        assert_eq!((config.target_layers, config.groups), (vec![1, 2, 3, 5], vec![vec![0, 1], vec![2, 3]]));
        assert_eq!(config.decoder.num_hidden_layers, 4);
    }

    #[test]
    fn contradictions_are_named() {
        for (layers, options, expected) in [
            (6, "", "--layers"),
            (12, "--layers 3,2", "ascending"),
            (12, "--layers 2,12", "target layer 12 does not exist"),
            (12, "--groups 9", "8 layers cannot make 9 groups"),
            (12, "--groups 0,8", "group index 8"),
            (12, "--groups some", "expected a number of groups"),
            (12, "--decoder conv4", "odd side"),
            (12, "--decoder mean", "expected linear, softmax"),
            (12, "--decoder conv3 --neighbour-mask 3", "no neighbour_mask"),
            (12, "--groups 0/0", "0 is given twice"),
            (12, "--neighbour-mask 17", "the crop has 16 patches a side"),
            (12, "--dropout 1", "bottleneck_dropout"),
            (12, "--jitter nan", "feature_jitter"),
            (12, "--patch-masking 1", "patch_masking"),
            (12, "--decoder-blocks 9", "9 decoder blocks cannot be paired with 8"),
            (12, "--decoder-groups 0/9", "decoder group index 9"),
            (12, "--decoder-groups 0,1", "1 decoder groups cannot be compared with 2 groups"),
        ] {
            let error = model(layers, options).unwrap_err().to_string();
            assert!(error.contains(expected), "{options}: {error}");
        }
    }
}
