//! A few good photos → a published model without training: their patches' features in a memory.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::fewshot::{FeatureEncoder, Features, GoodPhotos, Recipe, make};
use dinomaly_core::model::config::MemoryConfig;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::named::Weights;
use pollster::block_on;

use crate::dataset::grey16;
use crate::dataset::{Class, Dataset, Layout, WindowChoice, read_photo};
use crate::encoders::embedded;
use crate::encoders::opened::OpenedBackbone;
use crate::model_dir;
use crate::system::batch_size::{self, BATCH};
use crate::system::device::DeviceChoice;
use crate::system::prefetch::prefetch;
use crate::system::progress::Progress;

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
    /// Memory and thresholds to make.
    pub recipe: Recipe,
    /// Side of the square that whole photos are resized to, in pixels; if omitted, that of
    /// [`MemoryChoice::side`](dinomaly_core::fewshot::MemoryChoice::side), or 224 for the embedded encoder.
    pub side: Option<usize>,
    /// Values of 16-bit grey that become black and white.
    pub window: WindowChoice,
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
            recipe: Recipe::default(),
            side: None,
            window: WindowChoice::default(),
            device: DeviceChoice::Cpu,
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
        let usual = if plan.backbone.is_some() { plan.recipe.memory.side() } else { embedded::GEOMETRY.crop };
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
    let blocks = backbone.config.num_hidden_layers;
    let config = plan.recipe.config(backbone.config, blocks)?;
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

impl Parts<'_> {
    /// Encodes the photos on an executor, `batch` at a time, makes the memory, sets thresholds and writes the model.
    fn model<O: Read>(self, ops: O, batch: usize) -> Result<Model> {
        let Self { plan, dataset, config, preprocessor, mut weights } = self;
        let encoder = FeatureEncoder::new(ops, &config, &preprocessor, &weights)?;
        let features = dataset.classes.iter().map(|class| features(&encoder, class, &preprocessor, batch));
        let features = features.collect::<Result<Vec<_>>>()?;
        let of_class = dataset.classes.iter().zip(&features);
        let photos: GoodPhotos =
            of_class.map(|(class, photos)| (class.name.clone(), photos.iter().collect())).collect();
        let progress = Progress::new("scoring each photo by the others", dataset.train_photos(), "photos");
        let made = block_on(make(&encoder, &photos, &plan.recipe, || progress.advance(1, String::new)))?;
        progress.finish();
        drop(encoder);
        println!("{made}");
        for (class, doubt) in &made.doubts {
            eprintln!("dinomaly: threshold of {class}: {doubt}");
        }
        let name = plan.out.file_name().context("a model folder has a name")?.to_string_lossy().into_owned();
        let card = made.card(&name, &preprocessor);
        weights.prune(made.config.taps());
        weights.0.extend(made.weights.0);
        let (config, calibration) = (made.config.into(), made.calibration);
        let model = Model { name, config, preprocessor, calibration, weights, self_test: Some(made.self_test), card };
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
        let count = prepared.len();
        features.extend(block_on(encoder.features(prepared))?);
        progress.advance(count, String::new);
        Ok(true)
    })?;
    progress.finish();
    Ok(features)
}
