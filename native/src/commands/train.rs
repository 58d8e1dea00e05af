//! `dinomaly train`: photos of good parts → a model folder.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use dinomaly_core::photo::preprocess::Preprocessor;

use super::devices::{Devices, DevicesOption};
use super::options::{GeometryOption, LayoutOption, parse_bytes, parse_colours, within};
use super::preset::PresetOption;
use super::variant::VariantOptions;
use crate::dataset::split::Split;
use crate::dataset::{Dataset, counted};
use crate::encoders::catalogue;
use crate::features::Limits;
use crate::features::photo_encoder::PhotoEncoder;
use crate::model_dir;
use crate::publish;
use crate::publish::calibrate::FalseAlarms;
use crate::system::device::free_memory;
use crate::system::interrupt::{Interrupt, Stopped};
use crate::system::precision::TrainingPrecision;
use crate::training::checkpoint::Interval;
use crate::training::recipe::{Recipe, Selection};
use crate::training::replicas::Team;
use crate::training::run::{Room, Run};
use crate::training::schedule::Schedule;
use crate::training::train::TrainingSettings;
use crate::training::work_folder::WorkFolder;

/// Arguments of `dinomaly train`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    // First, because the defaults of the others depend on it.
    #[command(flatten)]
    pub(super) preset: PresetOption,
    /// Data set, one of its class folders, or a folder of photos of good parts
    pub(super) data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    pub(super) out: PathBuf,
    /// Start over: discard the checkpoint of an unfinished run, and replace the model at --out
    #[arg(long)]
    restart: bool,
    #[command(flatten, next_help_heading = "Data")]
    pub(super) layout: LayoutOption,
    /// Classes to train on [default: all]
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…", help_heading = "Data")]
    pub(super) classes: Vec<String>,
    #[command(flatten, next_help_heading = "Data")]
    pub(super) geometry: GeometryOption,
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
    /// Pretrained encoder: a file (.pth, .safetensors), or a name from `dinomaly backbone list`
    ///
    /// A file is a checkpoint of a ViT from its original project, timm or Hugging Face. `dinomaly backbone fetch NAME`
    /// downloads an encoder that is known by name.
    #[arg(long, value_name = "FILE|NAME", help_heading = "Encoder")]
    pub(super) backbone: PathBuf,
    /// Number of the encoder's attention heads [default: width / 64]
    #[arg(long, value_name = "N", help_heading = "Encoder")]
    pub(super) heads: Option<usize>,
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
    /// Peak learning rate; the last is a tenth of it
    #[arg(
        long,
        default_value_t = 2e-3,
        allow_negative_numbers = true,
        value_parser = within(1e-10, 10.0),
        value_name = "RATE",
        help_heading = "Optimiser"
    )]
    lr: f64,
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
    pub(super) devices: DevicesOption,
    /// Precision of matrix products [default: bf16 on CUDA, f32 elsewhere]
    #[arg(long, value_enum, help_heading = "Device and memory")]
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
    pub(super) variant: VariantOptions,
}

impl Args {
    /// The same training for one class only, into a subfolder with its name.
    pub(super) fn of_class(&self, name: &str) -> Self {
        Self { out: self.out.join(name), classes: vec![name.into()], ..self.clone() }
    }
}

/// Trains a model and writes it. An unfinished run of the same command is resumed.
///
/// # Errors
/// One sentence that names the cause, or [`Stopped`] after Ctrl-C. The last checkpoint is kept.
pub fn run(args: &Args) -> Result<()> {
    model_dir::check_target(&args.out)?;
    let dataset = Dataset::open_for_training(args.layout.layout, &args.data, &args.classes)?;
    args.preset.check(dataset.classes.len())?;
    print!("{}", args.preset);
    let devices = args.devices.open(args.batch)?;
    let device = devices.first().clone();
    let precision = args.precision.unwrap_or(TrainingPrecision::usual(&device));
    precision.begin(&device)?;
    // Checks the option before the first photo is read.
    on_device(args.cache_device, &device)?;
    let (backbone, backbone_file) = catalogue::read(&args.backbone, args.heads)?;
    let geometry = args.geometry.into();
    let config = args.variant.model(backbone.config.clone(), geometry)?;
    let (mean, std) = (args.mean.unwrap_or(backbone.mean), args.std.unwrap_or(backbone.std));
    if let Some(std) = std.iter().find(|std| !(**std > 0.0 && std.is_finite())) {
        bail!("--std {std}: a standard deviation must be positive");
    }
    let preprocessor = Preprocessor { geometry, mean, std };
    let work = WorkFolder::begin(&args.out)?;
    let interrupt = Interrupt::listen("finishing this step")?;

    let settings = TrainingSettings {
        batch: args.batch,
        seed: args.seed,
        schedule: args.variant.schedule(Schedule {
            peak: args.lr,
            last: args.lr / 10.0,
            ..Schedule::official(args.iterations as usize)
        })?,
        gradient_clip: 0.1,
        optimizer_eps: args.optimizer_eps,
        precision,
    };
    let split = Split::new(&dataset, args.holdout, args.seed);
    println!(
        "{}, {} to train on, {} held out; backbone {}, pixels normalised by mean {mean:?}, std {std:?}",
        counted(dataset.classes.len(), "class", "classes"),
        counted(split.train.len(), "good photo", "good photos"),
        split.held_out.len(),
        config.encoder.name
    );
    let checkpoint = work.checkpoint();
    let data = split.fingerprint(&backbone_file, &preprocessor)?;
    let classes = dataset.classes.iter().map(|class| class.name.clone()).collect();
    let selection = Some(Selection { classes, holdout: args.holdout });
    let recipe = Recipe { config, settings, data, preprocessor: Some(preprocessor.clone()), selection };
    if !args.restart && !checkpoint.exists() && recipe.is_finished(&args.out, args.false_alarms.rate)? {
        println!("{} is trained already: nothing to do (--restart trains it again)", args.out.display());
        return Ok(());
    }
    if args.restart && checkpoint.exists() {
        std::fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    let replicas = devices.count() as u64;
    let train_on = |device: Device, team: Option<Team>| -> Result<(Run, bool)> {
        // Each device keeps the features of all photos, because any photo may be in its part of a batch.
        let limits = Limits { device: on_device(args.cache_device, &device)?, memory: args.cache_memory / replicas };
        let encoder = PhotoEncoder::new(&backbone.weights, &recipe.config, &preprocessor, device.clone(), precision)?;
        let mut run = Run::begin(recipe.clone(), checkpoint.clone(), device)?;
        if let Some(folder) = args.tensorboard.as_ref().filter(|_| team.as_ref().is_none_or(|team| team.rank() == 0)) {
            run.note_events(folder)?;
        }
        let checkpoints = args.checkpoint_every.map_or_else(Interval::default, |n| Interval::Iterations(n as usize));
        let room = Room { limits, folder: work.folder(), checkpoints };
        let finished = run.train(&encoder, &split, room, &interrupt, team)?;
        Ok((run, finished))
    };
    let (run, finished) = match devices {
        Devices::One(device) => train_on(device, None)?,
        Devices::Several(replicas) => replicas.each(|device, team| train_on(device, Some(team)))?,
    };
    if !finished {
        return Err(Stopped::after(run.iteration()).into());
    }
    let trained = publish::Trained {
        recipe: &recipe,
        preprocessor: &preprocessor,
        encoder: &backbone.weights,
        head: run.head_weights()?,
        losses: run.losses(),
        false_alarm_rate: args.false_alarms.rate,
        device,
    };
    publish::publish(&args.out, trained, &dataset, &split).map_err(|error| match error.downcast_ref() {
        Some(dinomaly_core::Error::Tensor { .. }) => {
            error.context("the trained weights are not finite: train again with --restart and a lower --lr")
        }
        _ => error,
    })?;
    work.finish()?;
    println!("model written to {}", args.out.display());
    Ok(())
}

/// Default share of the free GPU memory for cached features. The rest is enough for the largest batch of the largest published
/// model.
const SHARE_OF_DEVICE: f64 = 0.4;

/// Bytes for cached features on the training device.
fn on_device(size: Option<u64>, device: &Device) -> Result<u64> {
    match (size, free_memory(device)?) {
        (None, None) => Ok(0),
        (None, Some(free)) => Ok((SHARE_OF_DEVICE * free as f64) as u64),
        (Some(size), Some(_)) => Ok(size),
        (Some(_), None) => bail!("--cache-device is for NVIDIA GPUs: use --cache-memory with the processor"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};
    use dinomaly_core::photo::preprocess::Geometry;

    use super::super::preset::Preset;
    use super::*;

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
        assert_eq!(Geometry::from(args.geometry), Geometry { resize: 448, crop: 392 });
        assert!(format!("{:?}", args.variant).contains("dropout: 0.4"), "{:?}", args.variant);
        let args = parse("--iterations 10000 --dropout 0.3 --preset mvtec-separate --mining-warmup=500").unwrap();
        assert_eq!((args.iterations, args.optimizer_eps), (10_000, 1e-8));
        let variant = format!("{:?}", args.variant);
        assert!(variant.contains("dropout: 0.3") && variant.contains("mining_warmup: 500"), "{variant}");
        let said = args.preset.to_string();
        assert!(
            said.starts_with("preset mvtec-separate (dinomaly_mvtec_sep.py): optimizer-eps 1e-8, resize"),
            "{said}"
        );
        assert!(said.ends_with("given instead of the preset's: iterations, dropout, mining-warmup\n"), "{said}");
        assert!(args.preset.check(1).is_ok());
        let error = args.preset.check(15).unwrap_err().to_string();
        assert!(error.contains("mvtec-separate is for one-class models, but the data has 15 classes"), "{error}");
        let args = parse("").unwrap();
        assert_eq!((args.iterations, args.preset.to_string().as_str()), (10_000, ""));
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
        for preset in Preset::value_variants() {
            let name = preset.to_possible_value().unwrap().get_name().to_owned();
            let args = parse(&format!("--preset {name}")).unwrap();
            let found = format!("{args:?}");
            for (option, value) in preset.settings() {
                let (number, text) = (value.parse::<f64>(), option);
                let shown = match (option, &number) {
                    ("groups", Ok(_)) => "groups: Equal(2)".into(),
                    ("decoder", _) if value == "linear" => "decoder: Decoder(Linear)".into(),
                    // ViTAD
                    ("groups", Err(_)) => "groups: Listed([[0], [1], [2]])".into(),
                    ("decoder", _) => "decoder: Decoder(Softmax)".into(),
                    ("layers", _) => "layers: [2, 5, 8, 11]".into(),
                    ("decoder_groups", _) => "decoder_groups: Some(Listed([[2], [5], [8]]))".into(),
                    ("decoder_blocks", _) => "decoder_blocks: Some(9)".into(),
                    ("bottleneck_input", _) => "bottleneck_input: Last".into(),
                    ("resize" | "crop" | "batch" | "iterations" | "mining_warmup", _) => format!("{text}: {value}"),
                    (_, number) => format!("{text}: {:?}", number.as_ref().unwrap()),
                };
                let ends = [",", " }"];
                assert!(
                    ends.iter().any(|end| found.contains(&format!("{shown}{end}"))),
                    "{name}: no {shown} in {found}"
                );
            }
        }
    }
}
