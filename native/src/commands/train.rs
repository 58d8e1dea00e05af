//! `dinomaly train`: photos of good parts → a model folder.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{
    DevicesOption, EncoderOption, FalseAlarms, LayoutOption, TileOption, ViewOption, about_precision, named,
    parse_bytes, parse_colours, within,
};
use super::preset::PresetOption;
use super::variant::VariantOptions;
use crate::dataset::WindowChoice;
use crate::features::augmentation::Augmentation;
use crate::publish;
use crate::system::interrupt::Interrupt;
use crate::system::precision::TrainingPrecision;
use crate::training::optimizer::Optimizer;
use crate::training::schedule::WarmupEnd;
use crate::training::{self, Interval, TrainingPlan, Variant};

/// Arguments of `dinomaly train`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    // First, because the defaults of the others depend on it.
    #[command(flatten)]
    preset: PresetOption,
    /// Data set, one of its class folders, or a folder of photos of good parts
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Start over: discard the checkpoint of an unfinished run, and replace the model at --out
    #[arg(long)]
    restart: bool,
    #[command(flatten, next_help_heading = "Data")]
    layout: LayoutOption,
    /// Classes to train on [default: all]
    #[arg(long, value_name = "CLASS,…", help_heading = "Data")]
    classes: Vec<String>,
    #[command(flatten, next_help_heading = "Data")]
    view: ViewOption,
    #[command(flatten, next_help_heading = "Data")]
    tiles: TileOption,
    /// Values of 16-bit grey that become black and white: range, percentile, clip or LOW..HIGH
    ///
    /// `range` goes from the smallest to the largest value of the training photos, if one exceeds 255; `percentile` leaves out
    /// the smallest and largest thousandth; `clip` has white from 255 on, as the official loader. The model keeps the window.
    #[arg(long, default_value_t, value_name = "WINDOW", help_heading = "Data")]
    window: WindowChoice,
    /// Share of good photos held out to set thresholds, up to 0.5
    ///
    /// At least five photos of each class are held out, but never more than half of them.
    #[arg(
        long,
        default_value_t = 0.1,
        allow_negative_numbers = true,
        value_parser = within(0.0, 0.5),
        value_name = "SHARE",
        help_heading = "Data"
    )]
    holdout: f64,
    #[command(flatten, next_help_heading = "Data")]
    false_alarms: FalseAlarms,
    /// Number of good photos of each class to train on, chosen by the seed from those not held out [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N", help_heading = "Data")]
    shots: Option<u32>,
    /// Augmentation of the training photos: none, or few-shot (Dinomaly2's for training on few photos)
    ///
    /// few-shot looks at another part of a photo each time, turned and mirrored, and so runs the encoder in every iteration.
    #[arg(
        long,
        default_value = "none",
        value_parser = named(&Augmentation::ALL, Augmentation::name, about_augmentation),
        value_name = "KIND",
        help_heading = "Data"
    )]
    augmentation: Augmentation,
    /// Pretrained encoder: a file (.pth, .safetensors), or a name from `dinomaly backbone list` [default: the embedded one]
    ///
    /// A file is a checkpoint of a ViT from its original project, timm or Hugging Face. `dinomaly backbone fetch NAME`
    /// downloads an encoder that is known by name. The embedded encoder is small.
    #[arg(long, value_name = "FILE|NAME", help_heading = "Encoder")]
    backbone: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Encoder")]
    encoder: EncoderOption,
    /// Mean of the pixels that the encoder was trained on, 0..1 [default: its file's, else ImageNet's]
    ///
    /// Encoders whose file does not name it: 0.5,0.5,0.5 for BEiT v1 and for the augreg ViT of Google and timm;
    /// 0.430,0.411,0.296 for DINOv3 of satellite images.
    #[arg(long, value_parser = parse_colours, value_name = "R,G,B", help_heading = "Encoder")]
    mean: Option<[f32; 3]>,
    /// Standard deviation of these pixels [default: its file's, else ImageNet's]
    #[arg(long, value_parser = parse_colours, value_name = "R,G,B", help_heading = "Encoder")]
    std: Option<[f32; 3]>,
    /// Photos per batch
    #[arg(
        long,
        default_value_t = 16,
        value_parser = within(1_usize, 4096),
        value_name = "N",
        help_heading = "Optimiser"
    )]
    batch: usize,
    /// Number of optimiser steps
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N",
        help_heading = "Optimiser"
    )]
    iterations: u32,
    /// Peak learning rate
    #[arg(
        long,
        default_value_t = 2e-3,
        allow_negative_numbers = true,
        value_parser = within(1e-10, 10.0),
        value_name = "RATE",
        help_heading = "Optimiser"
    )]
    lr: f64,
    /// Peak learning rate divided by the last; 1 keeps the rate constant after warm-up, as Dinomaly2 does
    #[arg(
        long,
        default_value_t = 10.0,
        allow_negative_numbers = true,
        value_parser = within(1.0, 1e9),
        value_name = "FACTOR",
        help_heading = "Optimiser"
    )]
    lr_fall: f64,
    /// Peak learning rate of the bottleneck's first layer; 2e-4 in Dinomaly2 [default: --lr]
    #[arg(
        long,
        allow_negative_numbers = true,
        value_parser = within(1e-10, 10.0),
        value_name = "RATE",
        help_heading = "Optimiser"
    )]
    first_layer_lr: Option<f64>,
    /// Learning rate of the last of 100 warm-up iterations: at-peak, or below-peak (Dinomaly2)
    #[arg(
        long,
        default_value = "at-peak",
        value_parser = named(&WarmupEnd::ALL, WarmupEnd::name, about_warmup_end),
        value_name = "RATE",
        help_heading = "Optimiser"
    )]
    warmup_end: WarmupEnd,
    /// Optimiser: stable-adamw-amsgrad, or stable-adamw (Dinomaly2)
    #[arg(
        long,
        default_value = "stable-adamw-amsgrad",
        value_parser = named(&Optimizer::ALL, Optimizer::name, about_optimizer),
        value_name = "NAME",
        help_heading = "Optimiser"
    )]
    optimizer: Optimizer,
    /// Epsilon in the optimiser's denominator
    ///
    /// The official scripts have 1e-10 for multi-class models and 1e-8 for most one-class models.
    #[arg(
        long,
        default_value_t = 1e-10,
        allow_negative_numbers = true,
        value_parser = within(1e-30, 1.0),
        value_name = "EPS",
        help_heading = "Optimiser"
    )]
    optimizer_eps: f64,
    /// Seed of initial weights, photo order, dropout and held-out photos
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Optimiser")]
    seed: u64,
    #[command(flatten, next_help_heading = "Device and memory")]
    devices: DevicesOption,
    /// Precision of matrix products [default: bf16 on CUDA, f32 elsewhere]
    #[arg(
        long,
        value_parser = named(&TrainingPrecision::ALL, TrainingPrecision::name, about_precision),
        help_heading = "Device and memory"
    )]
    precision: Option<TrainingPrecision>,
    /// GPU memory for cached features [default: 40 % of the free memory]
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE", help_heading = "Device and memory")]
    cache_device: Option<u64>,
    /// Main memory for cached features; the rest goes to a file beside the model
    #[arg(
        long,
        default_value = "4GiB",
        value_parser = parse_bytes,
        value_name = "SIZE",
        help_heading = "Device and memory"
    )]
    cache_memory: u64,
    /// Iterations between checkpoints [default: every minute]
    ///
    /// A checkpoint is also written at the end, and when Ctrl-C stops the run.
    #[arg(
        long,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N",
        help_heading = "Checkpoints and logs"
    )]
    checkpoint_every: Option<u32>,
    /// Folder for TensorBoard event files, one for each start of the run
    #[arg(long, value_name = "DIR", help_heading = "Checkpoints and logs")]
    tensorboard: Option<PathBuf>,
    #[command(flatten)]
    variant: VariantOptions,
}

fn about_warmup_end(end: WarmupEnd) -> &'static str {
    match end {
        WarmupEnd::AtPeak => "The peak: Dinomaly",
        WarmupEnd::BelowPeak => "One step below the peak: Dinomaly2",
    }
}

fn about_optimizer(optimizer: Optimizer) -> &'static str {
    match optimizer {
        Optimizer::StableAdamwAmsgrad => "StableAdamW with AMSGrad: Dinomaly",
        Optimizer::StableAdamw => "StableAdamW: Dinomaly2",
    }
}

fn about_augmentation(augmentation: Augmentation) -> &'static str {
    match augmentation {
        Augmentation::None => "Photos as they are; the encoder sees each once",
        Augmentation::FewShot => {
            "Random part of the crop's area, quarter turns, mirroring; with replacement below a batch"
        }
    }
}

impl Args {
    /// What the options say.
    pub(crate) fn plan(&self) -> TrainingPlan {
        TrainingPlan {
            data: self.data.clone(),
            layout: self.layout.layout,
            classes: self.classes.clone(),
            backbone: self.backbone.clone(),
            heads: self.encoder.heads,
            origin: self.encoder.origin,
            out: self.out.clone(),
            geometry: self.view.geometry(),
            tile_size: self.tiles.tile_size,
            window: self.window,
            mean: self.mean,
            std: self.std,
            batch: self.batch,
            iterations: self.iterations as usize,
            lr: self.lr,
            lr_fall: self.lr_fall,
            first_layer_lr: self.first_layer_lr,
            warmup_end: self.warmup_end,
            optimizer: self.optimizer,
            optimizer_eps: self.optimizer_eps,
            seed: self.seed,
            holdout: self.holdout,
            shots: self.shots.map(|shots| shots as usize),
            augmentation: self.augmentation,
            false_alarm_rate: self.false_alarms.rate,
            cache_device: self.cache_device,
            cache_memory: self.cache_memory,
            precision: self.precision,
            checkpoints: self.checkpoint_every.map_or_else(Interval::default, |n| Interval::Iterations(n as usize)),
            tensorboard: self.tensorboard.clone(),
            restart: self.restart,
            devices: self.devices.choices(),
            preset: self.preset.choice.clone(),
            variant: Variant::from(&self.variant),
        }
    }
}

/// Trains a model and writes it. An unfinished run of the same command is resumed.
///
/// # Errors
/// As [`training::train()`] and [`publish::publish`].
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::listen("finishing this step")?;
    match training::train(&args.plan(), &interrupt)? {
        None => {
            println!("{} is trained already: nothing to do (--restart trains it again)", args.out.display());
        }
        Some(trained) => {
            publish::publish(trained)?;
            println!("model written to {}", args.out.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use dinomaly_core::photo::preprocess::Geometry;

    use super::*;
    use crate::system::device::DeviceChoice;
    use crate::training::Preset;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(options: &str) -> Result<Args, clap::Error> {
        let words = format!("train data --backbone b --out o {options}");
        Command::try_parse_from(words.split_whitespace()).map(|command| command.args)
    }

    #[test]
    fn a_preset_sets_defaults_and_what_is_given_wins() {
        let args = parse("--preset real-iad").unwrap();
        assert_eq!((args.iterations, args.optimizer_eps), (50_000, 1e-10));
        assert_eq!(args.view.geometry(), Some(Geometry { resize: 448, crop: 392 }));
        assert!(format!("{:?}", args.variant).contains("dropout: 0.4"), "{:?}", args.variant);
        let args = parse("--iterations 10000 --dropout 0.3 --preset mvtec-separate --mining-warmup=500").unwrap();
        assert_eq!((args.iterations, args.optimizer_eps), (10_000, 1e-8));
        let variant = format!("{:?}", args.variant);
        assert!(variant.contains("dropout: 0.3") && variant.contains("mining_warmup: 500"), "{variant}");
        let choice = args.preset.choice.as_ref().unwrap();
        let said = choice.to_string();
        assert!(
            said.starts_with("preset mvtec-separate (dinomaly_mvtec_sep.py): optimizer-eps 1e-8, resize"),
            "{said}"
        );
        assert!(said.ends_with("given instead of the preset's: iterations, dropout, mining-warmup\n"), "{said}");
        assert!(choice.check(1).is_ok());
        let error = choice.check(15).unwrap_err().to_string();
        assert!(error.contains("mvtec-separate is for one-class models, but the data has 15 classes"), "{error}");
        let args = parse("").unwrap();
        assert_eq!((args.iterations, args.preset.choice.as_ref()), (10_000, None));
        assert!(parse("--preset coco").unwrap_err().to_string().contains("real-iad-separate"));
    }

    #[test]
    fn absurd_numbers_are_refused_with_their_range() {
        for options in [
            "--lr -1",
            "--lr nan",
            "--lr 1e30",
            "--optimizer-eps -1",
            "--batch 1000000000",
            "--holdout 0.9",
            "--resize 1000000 --crop 1000000",
        ] {
            let error = parse(options).unwrap_err().to_string();
            assert!(error.contains("it must be a number from"), "{options}: {error}");
        }
        assert!(parse("--cache-memory much").unwrap_err().to_string().contains("much is not a size such as 512MiB"));
        assert!(parse("--mean nan,0,0").unwrap_err().to_string().contains("a number from 0 to 1 for each of red"));
    }

    #[test]
    fn every_preset_sets_what_it_says() {
        for preset in Preset::ALL {
            let plan = parse(&format!("--preset {}", preset.name())).unwrap().plan();
            let expected = TrainingPlan::new("data", "o").with_preset(preset);
            assert_eq!(plan, TrainingPlan { backbone: Some("b".into()), devices: plan.devices.clone(), ..expected });
        }
    }

    #[test]
    fn options_that_are_not_given_are_the_defaults_of_a_plan() {
        let plan = parse("").unwrap().plan();
        let expected = TrainingPlan::new("data", "o");
        assert_eq!(plan, TrainingPlan { backbone: Some("b".into()), devices: vec![DeviceChoice::Cpu], ..expected });
        let geometry = |options| parse(options).unwrap().plan().geometry;
        assert_eq!(geometry("--crop 196"), Some(Geometry { resize: 196, crop: 196 }));
        assert_eq!(geometry("--resize 448"), Some(Geometry { resize: 448, crop: 448 }));
        assert_eq!(geometry("--resize 448 --crop 392"), Some(Geometry { resize: 448, crop: 392 }));
        assert_eq!(geometry("--preset mvtec --crop 196"), Some(Geometry { resize: 448, crop: 196 }));
        assert_eq!(geometry("--preset vitad"), Some(Geometry { resize: 256, crop: 256 }));
    }
}
