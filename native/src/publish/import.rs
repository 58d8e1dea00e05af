//! A Dinomaly checkpoint of another project → a model folder.

use std::path::PathBuf;

use anyhow::{Result, bail};
use candle_core::Device;
use dinomaly_core::bundle::Model;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig, Recentring};
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};

use super::{Good, Parts, assemble};
use crate::dataset::{Class, Dataset, Layout};
use crate::encoders::anomalib::Saved;
use crate::encoders::backbone::{Origin, Told};
use crate::encoders::import as checkpoint;
use crate::model_dir;
use crate::training::{Groups, Variant};

/// The checkpoint to import, and good photos for the thresholds.
#[derive(Clone, Debug)]
pub struct ImportPlan {
    /// Checkpoint: a state dict of the official implementation, or a checkpoint of anomalib.
    pub checkpoint: PathBuf,
    /// Data set with photos of good parts, to set the thresholds.
    pub data: PathBuf,
    /// Folder to write the model to.
    pub out: PathBuf,
    /// Classes of the model; if empty, all of the data set.
    pub classes: Vec<String>,
    /// Number of photos per class to set its threshold, spread over its folder.
    pub photos: usize,
    /// Whether the model was not trained on these photos.
    pub held_out: bool,
    /// Resolution of the model's input; if omitted, what the checkpoint says, else that of the official scripts.
    pub geometry: Option<Geometry>,
    /// Number of the encoder's attention heads; if omitted, that of published encoders of its name or shape.
    pub heads: Option<usize>,
    /// The library whose way to fit the encoder's position table is taken; told by the tensors' names if omitted.
    pub origin: Option<Origin>,
    /// Layout of the data set; if omitted, it is detected.
    pub layout: Option<Layout>,
    /// Share of good photos that the thresholds may call defective.
    pub false_alarm_rate: f64,
    /// Differences from the published model; what the checkpoint says of them is taken where they are not given.
    pub variant: Variant,
}

/// Resolution of the official scripts.
const GEOMETRY: Geometry = Geometry { resize: 448, crop: 392 };

impl ImportPlan {
    fn geometry(&self, saved: &Saved) -> Result<Geometry> {
        match (self.geometry, saved.pixels) {
            (Some(geometry), _) => Ok(geometry),
            (None, Some(pixels)) => Ok(pixels.geometry),
            (None, None) if saved.is_without_pixels => bail!(
                "it was saved without its pre-processor, so nothing tells the size of photos: give --resize and --crop"
            ),
            (None, None) => Ok(GEOMETRY),
        }
    }

    /// The variant, with what the checkpoint says where nothing is given. anomalib's two groups are always of the first and the second
    /// four layers and blocks, however many there are.
    fn model(&self, encoder: EncoderConfig, geometry: Geometry, saved: &Saved) -> Result<ModelConfig> {
        let mut variant = self.variant.clone();
        let usual = Variant::default();
        if variant.layers.is_empty() {
            variant.layers = saved.layers().unwrap_or_default();
        }
        variant.decoder_blocks = variant.decoder_blocks.or(saved.decoder_blocks());
        let (layers, blocks) = (variant.layers.len(), variant.decoder_blocks.unwrap_or(variant.layers.len()));
        if (variant.groups == usual.groups && variant.decoder_groups.is_none())
            && (saved.layers().is_some() || saved.decoder_blocks().is_some())
            && ![(0, 8), (8, 8)].contains(&(layers, blocks))
        {
            let groups = Groups::Listed(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
            (variant.groups, variant.decoder_groups) = (groups.clone(), Some(groups));
        }
        if variant.recentring == usual.recentring && saved.recentres() {
            variant.recentring = Recentring::Layers;
        }
        variant.remove_class_token |= saved.removes_class_token();
        let mut config = variant.model(encoder, geometry)?;
        if let Some(heads) = saved.decoder_heads() {
            config.decoder.num_attention_heads = heads;
            config.validate()?;
        }
        Ok(config)
    }
}

/// Reads the checkpoint, sets thresholds and writes the model.
///
/// # Errors
/// If the checkpoint has unknown or missing tensors, which the error names, a photo cannot be read, or the folder cannot be
/// written.
pub fn import(plan: &ImportPlan) -> Result<Model> {
    model_dir::check_target(&plan.out)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    let mut geometry = GEOMETRY;
    let told = Told { heads: plan.heads, origin: plan.origin };
    let imported = checkpoint::read(&plan.checkpoint, told, |encoder, saved| {
        geometry = plan.geometry(saved)?;
        plan.model(encoder, geometry, saved)
    })?;
    let (source, resized) = match imported.config.map_border {
        MapBorder::Zero => ("the official implementation", Resized::Bytes),
        MapBorder::Reflect => ("anomalib (MLPs without biases, maps mirrored at the border)", Resized::Floats),
    };
    println!("{} tensors of {source}, encoder {}", imported.weights.0.len(), imported.config.encoder.name);
    let (mean, std) = (imported.mean, imported.std);
    let preprocessor = Preprocessor { geometry, tiles: None, mean, std, window: None, resized };
    let photos = dataset.classes.iter().flat_map(|class| spread(class, plan.photos)).collect();
    let (false_alarm_rate, device) = (plan.false_alarm_rate, Device::Cpu);
    let good = Good { photos, held_out: plan.held_out, false_alarm_rate, device };
    let config = imported.config.into();
    let parts = Parts { config: &config, preprocessor: &preprocessor, weights: imported.weights };
    let model = assemble(&plan.out, parts, good, |model| {
        let classes = model.calibration.classes.keys().cloned().collect::<Vec<_>>().join(", ");
        format!(
            "# {name}\n\n\
             A Dinomaly anomaly detector for {classes}, imported from a checkpoint of {source}.\n\n\
             | | |\n|---|---|\n\
             | encoder | {encoder}, frozen |\n\
             | geometry | {view} |\n\
             {thresholds}\n",
            name = model.name,
            encoder = model.config.encoder().name,
            view = model.preprocessor.view(),
            thresholds = model.calibration.card_row(),
        )
    })?;
    model_dir::write(&plan.out, &model)?;
    Ok(model)
}

/// `photos` good photos of a class, evenly spaced: neighbours in a folder are often photos of one part.
fn spread(class: &Class, photos: usize) -> impl Iterator<Item = (String, PathBuf)> {
    let count = photos.min(class.train.len());
    (0..count).map(move |i| (class.name.clone(), class.train[i * class.train.len() / count].clone()))
}
