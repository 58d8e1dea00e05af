//! A few good photos → a published model without training: their patches' features in a memory.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::SELF_TEST_SEED;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::fewshot::bank::{self, Bank};
use dinomaly_core::fewshot::subspace::{self, Subspaces};
use dinomaly_core::fewshot::{FeatureEncoder, Features, leave_one_out};
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{EncoderConfig, MemoryConfig, MemoryKind};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::named::Weights;
use pollster::block_on;

use super::defective::Scores;
use super::{SELF_TEST_TOLERANCE, THRESHOLDS, thresholds, thresholds_line};
use crate::dataset::grey16;
use crate::dataset::split::FALSE_ALARM_RATE;
use crate::dataset::{Class, Dataset, Layout, WindowChoice, counted, read_photo};
use crate::encoders::embedded;
use crate::encoders::opened::OpenedBackbone;
use crate::inference::photo_detector::PhotoDetector;
use crate::model_dir;
use crate::system::batch_size::{self, BATCH};
use crate::system::device::DeviceChoice;
use crate::system::prefetch::prefetch;
use crate::system::progress::Progress;

/// Share of a map that a photo's score averages: small defects count more than with Dinomaly's hundredth.
const SCORE_SHARE: f64 = 0.003;

/// Memory of good photos to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryChoice {
    /// Principal directions of patches: small and fast, however many photos there are.
    #[default]
    Subspace,
    /// The patches themselves.
    Bank,
}

impl MemoryChoice {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Subspace, Self::Bank];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subspace => "subspace",
            Self::Bank => "bank",
        }
    }

    /// Encoder blocks that are compared by default, 0-based: all by subspaces, every other one by a bank. Chosen with
    /// [`MemoryChoice::side`] on photos of two products (`tests/BENCHMARKS.md`).
    pub fn layers(self, depth: usize) -> Vec<usize> {
        match self {
            Self::Subspace => (0..depth).collect(),
            Self::Bank => (1..depth).step_by(2).collect(),
        }
    }

    /// Side of the square that whole photos are resized to by default.
    pub fn side(self) -> usize {
        match self {
            Self::Subspace => 448,
            Self::Bank => 320,
        }
    }
}

/// Photos to make a detector of, and how. [`FewShotPlan::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct FewShotPlan {
    /// Data set, one of its class folders, or a folder of photos of good parts.
    pub data: PathBuf,
    /// Folder to write the model to.
    pub out: PathBuf,
    /// Layout of the data; if omitted, it is detected.
    pub layout: Option<Layout>,
    /// Classes; if empty, all.
    pub classes: Vec<String>,
    /// Checkpoint of a pretrained encoder, or the name of one that was fetched; if omitted, the embedded encoder.
    pub backbone: Option<PathBuf>,
    /// Number of the encoder's attention heads, where they are not width / 64.
    pub heads: Option<usize>,
    /// Kind of memory.
    pub memory: MemoryChoice,
    /// Encoder blocks to compare, 0-based; if empty, [`MemoryChoice::layers`].
    pub layers: Vec<usize>,
    /// Side of the square that whole photos are resized to, in pixels; if omitted, [`MemoryChoice::side`], or 224 for the embedded
    /// encoder.
    pub side: Option<usize>,
    /// Values of 16-bit grey that become black and white.
    pub window: WindowChoice,
    /// Largest size of a bank in bytes.
    pub bank_size: u64,
    /// Share of the patches' variance that a subspace explains.
    pub variance: f64,
    /// Share of good photos that the thresholds may call defective.
    pub false_alarm_rate: f64,
    /// Device for the encoder.
    pub device: DeviceChoice,
}

impl FewShotPlan {
    /// A subspace of the photos in `data`, on the embedded encoder and the processor.
    pub fn new(data: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            out: out.into(),
            layout: None,
            classes: Vec::new(),
            backbone: None,
            heads: None,
            memory: MemoryChoice::default(),
            layers: Vec::new(),
            side: None,
            window: WindowChoice::default(),
            bank_size: 64 << 20,
            variance: 0.99,
            false_alarm_rate: FALSE_ALARM_RATE,
            device: DeviceChoice::Cpu,
        }
    }

    /// The detector's configuration but for the memory's size, which the photos decide.
    fn config(&self, encoder: EncoderConfig) -> MemoryConfig {
        let mut layers =
            if self.layers.is_empty() { self.memory.layers(encoder.num_hidden_layers) } else { self.layers.clone() };
        layers.sort_unstable();
        layers.dedup();
        MemoryConfig {
            encoder,
            final_norm: false,
            groups: (0..layers.len()).map(|layer| vec![layer]).collect(),
            target_layers: layers,
            memory: match self.memory {
                MemoryChoice::Subspace => MemoryKind::Subspace { subspaces: 1 },
                MemoryChoice::Bank => MemoryKind::Bank { rows: 1 },
            },
            score_share: SCORE_SHARE,
            map_border: MapBorder::Zero,
        }
    }
}

/// Makes a detector of good photos and writes it.
///
/// # Errors
/// If the data has no photos, one cannot be read, parts do not fit together, or the folder cannot be written.
pub fn few_shot(plan: &FewShotPlan) -> Result<Model> {
    model_dir::check_target(&plan.out)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    let backbone = OpenedBackbone::open(plan.backbone.as_deref(), plan.heads)?.backbone;
    if plan.backbone.is_none() {
        println!("{}", embedded::about(&backbone));
    }
    let patch = backbone.config.patch_size;
    let side = plan.side.unwrap_or_else(|| {
        let usual = if plan.backbone.is_some() { plan.memory.side() } else { embedded::GEOMETRY.crop };
        usual / patch * patch
    });
    if !side.is_multiple_of(patch) {
        bail!("--size {side} is no multiple of the encoder's patches of {patch} pixels");
    }
    let geometry = Geometry { resize: side, crop: side };
    let good: Vec<PathBuf> = dataset.classes.iter().flat_map(|class| class.train.clone()).collect();
    let window = grey16::window(plan.window, &good)?;
    let preprocessor = Preprocessor { geometry, mean: backbone.mean, std: backbone.std, window };
    grey16::warn_if_clipped(&preprocessor, &good);
    let config = plan.config(backbone.config);
    let parts = Parts { plan, dataset: &dataset, config, preprocessor, weights: backbone.weights };
    match plan.device {
        DeviceChoice::Gpu => parts.model(block_on(WebGpu::new())?, BATCH),
        device => match device.open()? {
            device if device.is_cpu() => parts.model(Processor::new(ProcessorPrecision::F32), BATCH),
            device => {
                let batch = batch_size::of_candle(&device, &parts.config.clone().into(), geometry)?;
                parts.model(Candle::infer(device), batch)
            }
        },
    }
}

/// All that a model is made of.
struct Parts<'a> {
    plan: &'a FewShotPlan,
    dataset: &'a Dataset,
    config: MemoryConfig,
    preprocessor: Preprocessor,
    weights: Weights,
}

/// A memory, and how its photos score without themselves.
struct Made {
    config: MemoryConfig,
    weights: Weights,
    scores: Scores,
}

impl Parts<'_> {
    /// Encodes the photos on an executor, `batch` at a time, makes the memory, sets thresholds and writes the model.
    fn model<O: Read>(self, ops: O, batch: usize) -> Result<Model> {
        let Self { plan, dataset, config, preprocessor, mut weights } = self;
        let encoder = FeatureEncoder::new(ops, &config, &preprocessor, &weights)?;
        let features = dataset.classes.iter().map(|class| features(&encoder, class, &preprocessor, batch));
        let features = features.collect::<Result<Vec<_>>>()?;
        let made = match plan.memory {
            MemoryChoice::Bank => of_bank(&encoder, &config, dataset, &features, plan.bank_size)?,
            MemoryChoice::Subspace => of_subspaces(&encoder, &config, dataset, &features, plan.variance)?,
        };
        drop(encoder);
        let Made { config: memory, weights: made, mut scores } = made;
        weights.prune(memory.taps());
        weights.0.extend(made.0);
        let config = memory.clone().into();
        let detector = PhotoDetector::of_parts(&config, &preprocessor, &weights)?;
        thresholds::say_doubts(&scores, plan.false_alarm_rate);
        for class in dataset.classes.iter().filter(|class| class.train.len() == 1) {
            eprintln!(
                "dinomaly: threshold of {}: one photo does not tell how good parts differ; it is set by copies of it, moved by half a patch",
                class.name
            );
            let grid = preprocessor.geometry.grid(memory.encoder.patch_size);
            let copies = leave_one_out::moved(&read_photo(&class.train[0], preprocessor.window)?, grid);
            let found = block_on(detector.detector().detect(&copies))?;
            scores.insert(class.name.clone(), found.iter().map(|found| found.score).collect());
        }
        let held_out = dataset.classes.iter().all(|class| class.train.len() > 1);
        let calibration = thresholds::of_scores(&scores, plan.false_alarm_rate, held_out)?;
        let self_test = block_on(detector.detector().self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
        let mut model = Model {
            name: plan.out.file_name().context("a model folder has a name")?.to_string_lossy().into_owned(),
            config,
            preprocessor,
            calibration,
            weights,
            self_test: Some(self_test),
            card: String::new(),
        };
        model.card = card(&model, &memory, dataset);
        model_dir::write(&plan.out, &model)?;
        Ok(model)
    }
}

/// Features of a class's photos. All cores decode and resize the next batch while one is encoded.
fn features<O: Read>(
    encoder: &FeatureEncoder<O>,
    class: &Class,
    preprocessor: &Preprocessor,
    batch: usize,
) -> Result<Vec<Features>> {
    let progress = Progress::new("encoding photos", class.train.len(), "photos");
    let mut features = Vec::with_capacity(class.train.len());
    let read = |_, photo: &PathBuf| -> Result<Vec<u8>> {
        Ok(preprocessor.geometry.cut(&read_photo(photo, preprocessor.window)?))
    };
    prefetch(&class.train, batch, read, |_, prepared| {
        let prepared = prepared.into_iter().collect::<Result<Vec<_>>>()?;
        features.extend(block_on(encoder.features(&prepared))?);
        progress.advance(prepared.len(), String::new);
        Ok(true)
    })?;
    progress.finish();
    Ok(features)
}

/// A bank of all classes' photos, with the scores of each photo by the patches of all others.
fn of_bank<O: Read>(
    encoder: &FeatureEncoder<O>,
    config: &MemoryConfig,
    dataset: &Dataset,
    features: &[Vec<Features>],
    size: u64,
) -> Result<Made> {
    let width = config.encoder.hidden_size;
    let most = (size / (2 * width * config.groups.len()) as u64) as usize;
    let photos: Vec<&Features> = features.iter().flatten().collect();
    let patches = photos.first().map_or(0, |photo| photo.groups[0].len() / width);
    if most < patches {
        let room = counted(most, "patch", "patches");
        bail!("--bank-size {size} has room for {room} of each layer, and one photo has {patches}: give more");
    }
    let bank = Bank::of(&photos, width, most);
    let (config, weights) = bank::memory(config, &photos, &bank)?;
    if let MemoryKind::Bank { rows } = config.memory {
        let lost = if bank.loss > 0.0 {
            format!(", thinned: those left out are at a mean distance of {:.4}", bank.loss)
        } else {
            String::new()
        };
        println!("bank of {}{lost}", counted(rows, "patch", "patches"));
    }
    let progress = Progress::new("scoring each photo by the others", photos.len(), "photos");
    let mut found = block_on(leave_one_out::of_bank(encoder, &photos, &bank, || progress.advance(1, String::new)))?;
    progress.finish();
    let mut scores = Scores::new();
    for class in dataset.classes.iter().rev() {
        let of_class = found.split_off(found.len().saturating_sub(class.train.len()));
        scores.insert(class.name.clone(), of_class);
    }
    Ok(Made { config, weights, scores })
}

/// A subspace for each class, with the scores of each photo by a subspace of the others.
fn of_subspaces<O: Read>(
    encoder: &FeatureEncoder<O>,
    config: &MemoryConfig,
    dataset: &Dataset,
    features: &[Vec<Features>],
    variance: f64,
) -> Result<Made> {
    let subspaces = Subspaces::new(config.encoder.hidden_size, variance);
    let (config, weights) = subspace::memory(config, features, &subspaces)?;
    let photos = features.iter().map(Vec::len).sum();
    let progress = Progress::new("scoring each photo by the others", photos, "photos");
    let mut scores = Scores::new();
    for (class, features) in dataset.classes.iter().zip(features) {
        let done = || progress.advance(1, String::new);
        let found = block_on(leave_one_out::of_subspace(encoder, features, &subspaces, done))?;
        scores.insert(class.name.clone(), found);
    }
    progress.finish();
    Ok(Made { config, weights, scores })
}

/// The model card.
fn card(model: &Model, memory: &MemoryConfig, dataset: &Dataset) -> String {
    let classes = model.calibration.classes.keys().cloned().collect::<Vec<_>>().join(", ");
    let side = model.preprocessor.geometry.crop;
    format!(
        "# {name}\n\n\
         An anomaly detector for {classes}, made of good photos without training.\n\n\
         | | |\n|---|---|\n\
         | encoder | {encoder}, frozen |\n\
         | memory | {kind} of blocks {layers:?} |\n\
         | geometry | whole photos, resized to {side} × {side} |\n\
         | photos | {photos} good ones |\n\
         {thresholds}\n",
        name = model.name,
        encoder = memory.encoder.name,
        kind = memory.memory,
        layers = memory.target_layers,
        photos = dataset.train_photos(),
        thresholds = if model.calibration.held_out {
            thresholds_line(&model.calibration)
        } else {
            format!("{THRESHOLDS} of a class of one photo set by copies of it: no promise |")
        },
    )
}
