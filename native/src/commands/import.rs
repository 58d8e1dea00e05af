//! `dinomaly import`: a Dinomaly checkpoint of another project → a model folder.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::photo::preprocess::Preprocessor;

use super::options::{GeometryOption, LayoutOption};
use super::variant::VariantOptions;
use crate::dataset::{Class, Dataset};
use crate::encoders::import;
use crate::model_dir;
use crate::publish;
use crate::publish::calibrate::FalseAlarms;
use crate::publish::{Good, Parts};

/// Arguments of `dinomaly import`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Checkpoint: a state dict of the official implementation (.pth), or anomalib's .ckpt or .pt
    checkpoint: PathBuf,
    /// Data set with photos of good parts, to set the thresholds
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Classes of the model [default: all of the data set]
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Vec<String>,
    /// Number of photos per class to set its threshold, spread over its folder
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    photos: u32,
    /// State that the model was not trained on these photos
    #[arg(long)]
    held_out: bool,
    #[command(flatten)]
    geometry: GeometryOption,
    /// Number of the encoder's attention heads [default: width / 64]
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    #[command(flatten)]
    layout: LayoutOption,
    #[command(flatten)]
    false_alarms: FalseAlarms,
    #[command(flatten)]
    variant: VariantOptions,
}

/// Reads the checkpoint, sets thresholds and writes the model.
///
/// # Errors
/// If the checkpoint has unknown or missing tensors, which the error names, a photo cannot be read, or the folder cannot be
/// written.
pub fn run(args: &Args) -> Result<()> {
    model_dir::check_target(&args.out)?;
    let dataset = Dataset::open_for_training(args.layout.layout, &args.data, &args.classes)?;
    let geometry = args.geometry.into();
    let imported = import::read(&args.checkpoint, args.heads, |encoder| args.variant.model(encoder, geometry))?;
    let source = match imported.config.map_border {
        MapBorder::Zero => "the official implementation",
        MapBorder::Reflect => "anomalib (MLPs without biases, maps mirrored at the border)",
    };
    println!("{} tensors of {source}, encoder {}", imported.weights.0.len(), imported.config.encoder.name);
    let preprocessor = Preprocessor { geometry, mean: imported.mean, std: imported.std };
    let photos = dataset.classes.iter().flat_map(|class| spread(class, args.photos as usize)).collect();
    let (false_alarm_rate, device) = (args.false_alarms.rate, Device::Cpu);
    let good = Good { photos, held_out: args.held_out, false_alarm_rate, device };
    let parts = Parts { config: &imported.config, preprocessor: &preprocessor, weights: imported.weights };
    let model = publish::assemble(&args.out, parts, good, |model| {
        let classes = model.calibration.classes.keys().cloned().collect::<Vec<_>>().join(", ");
        format!(
            "# {name}\n\n\
             A Dinomaly anomaly detector for {classes}, imported from a checkpoint of {source}.\n\n\
             | | |\n|---|---|\n\
             | encoder | {encoder}, frozen |\n\
             | geometry | resized to {resize} × {resize}, centre {crop} × {crop} |\n\
             {thresholds}\n",
            name = model.name,
            encoder = model.config.encoder.name,
            resize = geometry.resize,
            crop = geometry.crop,
            thresholds = publish::thresholds(&model.calibration),
        )
    })?;
    model_dir::write(&args.out, &model)?;
    println!("model written to {}", args.out.display());
    Ok(())
}

/// `photos` good photos of a class, evenly spaced: neighbours in a folder are often photos of one part.
fn spread(class: &Class, photos: usize) -> impl Iterator<Item = (String, PathBuf)> {
    let count = photos.min(class.train.len());
    (0..count).map(move |i| (class.name.clone(), class.train[i * class.train.len() / count].clone()))
}
