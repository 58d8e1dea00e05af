//! The paper's variants as options of `train`. The defaults are the published model.

use dinomaly_core::model::config::{BottleneckInput, MaskedShare, Recentring};

use super::options::{named, within};
use crate::training::{Decoder, Groups, MASKED_SHARES, RECENTRINGS, Variant, masked_share_name, recentring_name};

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
    /// Class token subtracted from what is reconstructed: none, target (Dinomaly2) or layers (anomalib)
    ///
    /// target: each group's mean minus its class token, then a layer norm without weights; the bottleneck is given the layers as they
    /// are. layers: every layer minus its class token, in the bottleneck too, which gets patches only.
    #[arg(
        long,
        default_value = "none",
        value_parser = named(&RECENTRINGS, recentring_name, about_recentring),
        value_name = "KIND",
        hide_short_help = true
    )]
    recentring: Recentring,
    /// Channels that a linear layer narrows the bottleneck's input to; 256 in Dinomaly2 [default: no such layer]
    ///
    /// With it dropout follows this layer, and is not applied to the bottleneck's input.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65536), value_name = "N", hide_short_help = true)]
    bottleneck_width: Option<u32>,
    /// Epsilon in the normaliser of linear attention; 1e-8 in Dinomaly2
    #[arg(
        long,
        default_value_t = 0.0,
        allow_negative_numbers = true,
        value_parser = within(0.0, 0.1),
        value_name = "EPS",
        hide_short_help = true
    )]
    attention_eps: f64,
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
    /// Which patches these are: each drawn on its own, or an exact share of each photo's (MAE)
    ///
    /// Neither the paper nor the official code says which of the two its Table A8 had.
    #[arg(
        long,
        default_value = "drawn",
        value_parser = named(&MASKED_SHARES, masked_share_name, about_masked_share),
        value_name = "KIND",
        hide_short_help = true
    )]
    masked_share: MaskedShare,
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

/// Layers that the bottleneck is given.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Input {
    Mean,
    Last,
}

fn about_masked_share(share: MaskedShare) -> &'static str {
    match share {
        MaskedShare::Drawn => "Each patch on its own: their number varies from photo to photo",
        MaskedShare::Exact => "The same number of patches in each photo, as in MAE",
    }
}

fn about_recentring(recentring: Recentring) -> &'static str {
    match recentring {
        Recentring::None => "Layers as they are: Dinomaly",
        Recentring::Target => "Each group's mean minus its class token, normalised: Dinomaly2",
        Recentring::Layers => "Every layer minus its class token: anomalib's use_context_recentering",
    }
}

impl From<&VariantOptions> for Variant {
    fn from(options: &VariantOptions) -> Self {
        Self {
            layers: options.layers.clone(),
            groups: options.groups.clone(),
            decoder_groups: options.decoder_groups.clone(),
            decoder_blocks: options.decoder_blocks.map(|blocks| blocks as usize),
            bottleneck_input: match options.bottleneck_input {
                Input::Mean => BottleneckInput::Mean,
                Input::Last => BottleneckInput::Last,
            },
            recentring: options.recentring,
            bottleneck_width: options.bottleneck_width.map(|width| width as usize),
            decoder: options.decoder,
            attention_eps: options.attention_eps,
            neighbour_mask: options.neighbour_mask,
            remove_class_token: options.remove_class_token,
            dropout: options.dropout,
            jitter: options.jitter,
            patch_masking: options.patch_masking,
            masked_share: options.masked_share,
            mining_rate: options.mining_rate,
            mining_factor: options.mining_factor,
            mining_warmup: options.mining_warmup,
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use clap::Parser;
    use dinomaly_core::model::config::{Comparison, EncoderConfig, Mixer, ModelConfig};
    use dinomaly_core::photo::preprocess::Geometry;

    use super::*;
    use crate::training::schedule::Schedule;

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
        Variant::from(&variant).model(encoder(layers), Geometry { resize: 32, crop: 32 })
    }

    #[test]
    fn without_options_it_is_the_published_model() {
        for layers in [12, 24] {
            assert_eq!(model(layers, "").unwrap(), ModelConfig::published(encoder(layers)).unwrap());
        }
        let schedule = Variant::from(&Command::parse_from(["train"]).variant).schedule(Schedule::official(10)).unwrap();
        assert_eq!(schedule, Schedule::official(10));
        assert_eq!(Variant::from(&Command::parse_from(["train"]).variant), Variant::default());
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
        let exact = model(12, "--patch-masking 0.4 --masked-share exact").unwrap();
        assert_eq!((config.masked_share, exact.masked_share), (MaskedShare::Drawn, MaskedShare::Exact));
        let config = model(12, "--layers 2,5,8,11 --groups 0/1/2 --decoder-blocks 9 --decoder-groups 2/5/8").unwrap();
        assert_eq!((config.decoder.num_hidden_layers, config.groups), (9, vec![vec![0], vec![1], vec![2]]));
        assert_eq!(config.decoder_groups, Some(vec![vec![2], vec![5], vec![8]]));
        let config = model(12, "--recentring target --bottleneck-width 256 --attention-eps 1e-8").unwrap();
        assert_eq!((config.recentring, config.bottleneck_width), (Recentring::Target, Some(256)));
        assert!(config.decoder.attention_eps == 1e-8 && !config.remove_class_token);
        let config = model(12, "--recentring layers").unwrap();
        assert!(config.recentring == Recentring::Layers && config.remove_class_token);
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
            (12, "--recentring target --groups concatenated", "comparison = concatenated has none"),
            (12, "--attention-eps 1e-8 --decoder softmax", "attention_eps = 0.00000001 is for linear attention"),
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
