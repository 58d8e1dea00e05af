//! A few good photos → a published model without training: their patches' features in a memory.

mod record;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::fewshot::{FeatureEncoder, GoodPhotos, Made, Recipe, make};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};
use dinomaly_core::photo::tiles::Tiles;
use pollster::block_on;
use sha2::{Digest, Sha256};

use self::record::{Record, RecordedPhoto};
use crate::dataset::{Dataset, Layout, WindowChoice, counted, few, grey16};
use crate::encoders::backbone::{Backbone, Origin, Told};
use crate::encoders::embedded;
use crate::encoders::opened::OpenedBackbone;
use crate::features::good_photos::{EncoderTask, GoodPhotoEncoder, encode_good_photos};
use crate::model_dir;
use crate::system::device::DeviceChoice;
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
    /// Number of the encoder's attention heads; if omitted, what the files beside it say, or that of published encoders of its shape.
    pub heads: Option<usize>,
    /// The library whose way to fit the encoder's position table is taken; told by the tensors' names if omitted.
    pub origin: Option<Origin>,
    /// Memory and thresholds to make.
    pub recipe: Recipe,
    /// Side of the square that whole photos are resized to, in pixels; if omitted, that of
    /// [`MemoryChoice::side`](dinomaly_core::fewshot::MemoryChoice::side), or 224 for the embedded encoder.
    pub side: Option<usize>,
    /// Side of tiles in pixels of the photo, each of which is resized to that square; if omitted, the whole photo is.
    pub tile_size: Option<usize>,
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
            origin: None,
            recipe: Recipe::default(),
            side: None,
            tile_size: None,
            window: WindowChoice::default(),
            device: DeviceChoice::Cpu,
        }
    }
}

/// Makes a detector of good photos and writes it.
///
/// # Errors
/// If the data has no photos, one cannot be read, parts do not fit together, or the folder cannot be written.
pub fn few_shot(plan: &FewShotPlan) -> Result<Made> {
    model_dir::check_target(&plan.out)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    let told = Told { heads: plan.heads, origin: plan.origin };
    let OpenedBackbone { backbone, hash } = OpenedBackbone::open(plan.backbone.as_deref(), told)?;
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
    let photos = by_class(dataset);
    let window = grey16::window(plan.window, &photos.values().flatten().cloned().collect::<Vec<_>>())?;
    let geometry = Geometry { resize: side, crop: side };
    let tiles = plan.tile_size.map(Tiles::new);
    tiles.map_or(Ok(()), |tiles| tiles.check(geometry)).context("--tile-size")?;
    let record = Record {
        backbone: plan.backbone.clone(),
        backbone_sha256: hex(&hash),
        heads: plan.heads,
        origin: plan.origin,
        recipe: plan.recipe.clone(),
        preprocessor: Preprocessor {
            geometry,
            tiles,
            mean: backbone.mean,
            std: backbone.std,
            window,
            resized: Resized::Bytes,
        },
        photos: BTreeMap::new(),
    };
    Making { record, backbone, photos, out: &plan.out }.run_on(plan.device)
}

/// Photos to add to a model.
#[derive(Clone, Debug)]
pub struct AddPlan {
    /// Model folder that [`few_shot`] wrote.
    pub model: PathBuf,
    /// More good photos, as for [`FewShotPlan::data`].
    pub data: PathBuf,
    /// Folder to write the model to; if omitted, that of the model.
    pub out: Option<PathBuf>,
    /// Layout of the data; if omitted, it is detected.
    pub layout: Option<Layout>,
    /// Class of the photos, if they are of one class.
    pub class: Option<String>,
    /// Device for the encoder.
    pub device: DeviceChoice,
}

/// Makes the detector that [`few_shot`] makes of a model's photos and these ones, and writes it.
///
/// # Errors
/// As [`few_shot`]; if the model does not say what it was made of, or one of its photos is gone or was changed.
pub fn add(plan: &AddPlan) -> Result<Made> {
    let out = plan.out.as_ref().unwrap_or(&plan.model);
    model_dir::check_target(out)?;
    let mut record = Record::read(&plan.model)?;
    let more = by_class(Dataset::open_for_training(plan.layout, &plan.data, &[])?);
    let known: Vec<String> = record.photos.keys().cloned().collect();
    let mut photos = BTreeMap::<String, Vec<PathBuf>>::new();
    for (class, recorded) in std::mem::take(&mut record.photos) {
        for RecordedPhoto { path, sha256 } in recorded {
            let found = fs::read(&path).ok().map(|bytes| hex(&Sha256::digest(bytes)));
            if found.as_ref() != Some(&sha256) {
                let what = if found.is_some() { "was changed" } else { "is gone" };
                bail!("{}, which the model was made of, {what}: make the model again, of all photos", path.display());
            }
            photos.entry(class.clone()).or_default().push(path);
        }
    }
    for (found, more) in class_of_photos(more, plan.class.as_deref(), &known)? {
        let kept = if known.contains(&found) { "class" } else { "new class" };
        println!("{} to {kept} {found}", counted(more.len(), "photo", "photos"));
        photos.entry(found).or_default().extend(more);
    }
    let told = Told { heads: record.heads, origin: record.origin };
    let OpenedBackbone { backbone, hash } = OpenedBackbone::open(record.backbone.as_deref(), told)?;
    if hex(&hash) != record.backbone_sha256 {
        bail!("the encoder is another one than the model was made with: make the model again, of all photos");
    }
    Making { record, backbone, photos, out }.run_on(plan.device)
}

/// Classes of added photos: a folder of photos has the name of the class that is given, or of the model's only one.
fn class_of_photos(
    photos: BTreeMap<String, Vec<PathBuf>>,
    given: Option<&str>,
    known: &[String],
) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let name = match (given, known) {
        (Some(given), _) => given,
        (None, [only]) => only,
        (None, _) => return Ok(photos),
    };
    let found = few(&photos.keys().cloned().collect::<Vec<_>>());
    match <[_; 1]>::try_from(photos.into_values().collect::<Vec<_>>()) {
        Ok([of_one]) => Ok(BTreeMap::from([(name.to_owned(), of_one)])),
        Err(_) if given.is_some() => bail!("--class names the class of one folder of photos, and these are of {found}"),
        Err(_) => {
            bail!("the model is of {name} alone, and these photos are of {found}: add a folder of photos of one class")
        }
    }
}

fn by_class(dataset: Dataset) -> BTreeMap<String, Vec<PathBuf>> {
    dataset.classes.into_iter().map(|class| (class.name, class.train)).collect()
}

/// All that a model is made of. The record has no photos yet.
struct Making<'a> {
    record: Record,
    backbone: Backbone,
    photos: BTreeMap<String, Vec<PathBuf>>,
    out: &'a Path,
}

impl Making<'_> {
    fn run_on(self, device: DeviceChoice) -> Result<Made> {
        let Self { mut record, backbone: Backbone { config, mut weights, .. }, photos, out } = self;
        let preprocessor = record.preprocessor.clone();
        grey16::warn_if_clipped(&preprocessor, &photos.values().flatten().cloned().collect::<Vec<_>>());
        let blocks = config.num_hidden_layers;
        let mut config = record.recipe.config(config, blocks)?;
        if config.final_norm && !weights.has_final_norm() {
            eprintln!(
                "dinomaly: {} has no final norm, which this memory is to apply: its blocks are compared as they are",
                config.encoder.name
            );
            config.final_norm = false;
        }
        let turns = record.recipe.turns;
        let encoder = GoodPhotoEncoder { config: &config, preprocessor: &preprocessor, weights: &weights, turns };
        let mut made = encoder.on(device, Remember { record: &mut record, photos: &photos })?;
        let name = out.file_name().context("a model folder has a name")?.to_string_lossy().into_owned();
        let card = made.card(&name, &preprocessor);
        weights.prune(made.config.taps());
        weights.0.append(&mut made.weights.0);
        let (config, calibration) = (made.config.clone().into(), made.calibration.clone());
        let self_test = Some(made.self_test.clone());
        let model = Model { name, config, preprocessor, calibration, weights, self_test, card };
        model_dir::write_with(out, &model, Some(record.file()?))?;
        Ok(made)
    }
}

/// Encodes the photos, writes them down, and makes memory and thresholds.
struct Remember<'a> {
    record: &'a mut Record,
    photos: &'a BTreeMap<String, Vec<PathBuf>>,
}

impl EncoderTask for Remember<'_> {
    type Output = Made;

    fn run<O: Read>(self, encoder: &FeatureEncoder<O>, batch: usize) -> Result<Made> {
        let mut features = Vec::new();
        for (class, photos) in self.photos {
            let of_class = encode_good_photos(encoder, photos, batch)?;
            let recorded = std::iter::zip(photos, &of_class).map(|(path, features)| {
                let path = path.canonicalize().with_context(|| format!("{} cannot be read", path.display()))?;
                Ok(RecordedPhoto { path, sha256: hex(&features.photo.sha256) })
            });
            self.record.photos.insert(class.clone(), recorded.collect::<Result<_>>()?);
            features.push(of_class);
        }
        let of_class = self.photos.keys().zip(&features);
        let good: GoodPhotos = of_class.map(|(class, photos)| (class.clone(), photos.iter().collect())).collect();
        let progress = Progress::new("scoring each photo by the others", good.values().map(Vec::len).sum(), "photos");
        let made = block_on(make(encoder, &good, &self.record.recipe, || progress.advance(1, String::new)))?;
        progress.finish();
        Ok(made)
    }
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
