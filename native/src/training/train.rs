//! Photos of good parts → a trained model, which is then published.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use dinomaly_core::photo::preprocess::{Preprocessor, Resized};
use dinomaly_core::photo::tiles::Tiles;
use dinomaly_core::tensor::named::Weights;

use super::devices::Devices;
use super::loss::hard_points;
use super::plan::TrainingPlan;
use super::recent_losses::RecentLosses;
use super::recipe::{Recipe, Selection};
use super::replicas::Team;
use super::run::{Room, Run};
use super::trainer::{Batches, TrainingSettings};
use super::work_folder::WorkFolder;
use crate::dataset::grey16;
use crate::dataset::split::Split;
use crate::dataset::{Dataset, counted};
use crate::encoders::embedded;
use crate::encoders::opened::OpenedBackbone;
use crate::features::Limits;
use crate::features::photo_encoder::PhotoEncoder;
use crate::model_dir;
use crate::system::device::free_memory;
use crate::system::interrupt::{Interrupt, Stopped};
use crate::system::precision::TrainingPrecision;

/// A finished run, whose model is not written yet: [`publish`](crate::publish::publish) does that.
pub struct Trained {
    /// Folder that the model is for.
    pub(crate) out: PathBuf,
    /// What it was trained with.
    pub(crate) recipe: Recipe,
    /// Geometry and normalisation.
    pub(crate) preprocessor: Preprocessor,
    /// The backbone's tensors.
    pub(crate) encoder: Weights,
    /// The trained tensors.
    pub(crate) head: Weights,
    /// Losses of the last iterations.
    pub losses: RecentLosses,
    /// Share of good photos that the thresholds may call defective.
    pub(crate) false_alarm_rate: f64,
    /// The photos.
    pub(crate) dataset: Dataset,
    /// Which of them were trained on.
    pub(crate) split: Split,
    /// Where it was trained, and where good photos are looked at.
    pub(crate) device: Device,
    /// Holds the checkpoint until the model is written.
    pub(crate) work: WorkFolder,
}

/// Trains, going on with an unfinished run of the same plan. `None` if its model stands at the plan's place already.
///
/// # Errors
/// One sentence naming what is wrong, or [`Stopped`] if `interrupt` asked; everything up to the last checkpoint is kept.
pub fn train(plan: &TrainingPlan, interrupt: &Interrupt) -> Result<Option<Trained>> {
    model_dir::check_target(&plan.out)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    if let Some(preset) = &plan.preset {
        preset.check(dataset.classes.len())?;
        print!("{preset}");
    }
    let devices = Devices::open(&plan.devices, plan.batch)?;
    let device = devices.first().clone();
    let precision = plan.precision.unwrap_or(TrainingPrecision::usual(&device));
    precision.begin(&device)?;
    // Checks the option before the first photo is read.
    on_device(plan.cache_device, &device)?;
    let OpenedBackbone { backbone, hash } = OpenedBackbone::open(plan.backbone.as_deref(), plan.told())?;
    let geometry = plan.geometry();
    if plan.backbone.is_none() {
        println!("{}", embedded::about(&backbone));
        if let Some(choice) = &plan.preset {
            geometry.validate(backbone.config.patch_size).with_context(|| choice.preset.needs_backbone())?;
        }
    }
    let config = plan.variant.model(backbone.config.clone(), geometry)?;
    let (mean, std) = (plan.mean.unwrap_or(backbone.mean), plan.std.unwrap_or(backbone.std));
    if let Some(std) = std.iter().find(|std| !(**std > 0.0 && std.is_finite())) {
        bail!("--std {std}: a standard deviation must be positive");
    }
    let good: Vec<PathBuf> = dataset.classes.iter().flat_map(|class| class.train.clone()).collect();
    let window = grey16::window(plan.window, &good)?;
    if let Some(window) = window {
        println!("16-bit grey: values {window} become black to white (--window)");
    }
    let tiles = plan.tile_size.map(Tiles::new);
    tiles.map_or(Ok(()), |tiles| tiles.check(geometry)).context("--tile-size")?;
    if tiles.is_some() && !plan.augmentation.is_none() {
        bail!("--augmentation {} looks at whole photos: leave --tile-size out", plan.augmentation.name());
    }
    let preprocessor = Preprocessor { geometry, tiles, mean, std, window, resized: Resized::Bytes };
    grey16::warn_if_clipped(&preprocessor, &good);
    let settings = plan.settings(precision)?;
    let split = match plan.shots {
        Some(shots) => Split::of_few(&dataset, plan.holdout, plan.seed, shots)?,
        None => Split::new(&dataset, plan.holdout, plan.seed),
    };
    check_mining(&settings, split.train.len(), geometry.crop / config.encoder.patch_size)?;
    let work = WorkFolder::begin(&plan.out)?;
    println!(
        "{}, {} to train on, {} held out; backbone {}, pixels normalised by mean {mean:?}, std {std:?}",
        counted(dataset.classes.len(), "class", "classes"),
        counted(split.train.len(), "good photo", "good photos"),
        split.held_out.len(),
        config.encoder.name
    );
    let checkpoint = work.checkpoint();
    let data = split.fingerprint(&hash, &preprocessor)?;
    let classes = dataset.classes.iter().map(|class| class.name.clone()).collect();
    let selection = Some(Selection { classes, holdout: plan.holdout, shots: plan.shots });
    let recipe = Recipe { config, settings, data, preprocessor: Some(preprocessor.clone()), selection };
    if !plan.restart && !checkpoint.exists() && recipe.is_finished(&plan.out, plan.false_alarm_rate)? {
        return Ok(None);
    }
    if plan.restart && checkpoint.exists() {
        std::fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    let replicas = devices.count() as u64;
    let train_on = |device: Device, team: Option<Team>| -> Result<(Run, bool)> {
        // Each device keeps the features of all photos, because any photo may be in its part of a batch.
        let limits = Limits { device: on_device(plan.cache_device, &device)?, memory: plan.cache_memory / replicas };
        let encoder = PhotoEncoder::new(&backbone.weights, &recipe.config, &preprocessor, device.clone(), precision)?;
        let mut run = Run::begin(recipe.clone(), checkpoint.clone(), device)?;
        if let Some(folder) = plan.tensorboard.as_ref().filter(|_| team.as_ref().is_none_or(|team| team.rank() == 0)) {
            run.note_events(folder)?;
        }
        let room = Room { limits, folder: work.folder(), checkpoints: plan.checkpoints };
        let finished = run.train(&encoder, &split, room, interrupt, team)?;
        Ok((run, finished))
    };
    let (run, finished) = match devices {
        Devices::One(device) => train_on(device, None)?,
        Devices::Several(replicas) => replicas.each(|device, team| train_on(device, Some(team)))?,
    };
    if !finished {
        return Err(Stopped::after(run.iteration()).into());
    }
    let (head, losses) = (run.head_weights()?, run.losses().clone());
    Ok(Some(Trained {
        out: plan.out.clone(),
        recipe,
        preprocessor,
        encoder: backbone.weights,
        head,
        losses,
        false_alarm_rate: plan.false_alarm_rate,
        dataset,
        split,
        device,
        work,
    }))
}

/// Checks that hard mining leaves points to the last iteration, in which it leaves fewest. `side`: patches along a side.
fn check_mining(settings: &TrainingSettings, photos: usize, side: usize) -> Result<()> {
    let batch = Batches::of(settings, photos).size();
    let (points, rate) =
        (batch * side * side, settings.schedule.mining(settings.schedule.iterations.saturating_sub(1)).rate);
    if hard_points(points, rate) == 0 {
        bail!(
            "a batch of {} has {points} patches, and hard mining at rate {rate} leaves none of them: choose a larger --batch or --crop, or a \
             smaller --mining-rate",
            counted(batch, "photo", "photos")
        );
    }
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
