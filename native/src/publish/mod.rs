//! Trained weights → a published model: thresholds from held-out photos, self-test, model card.

mod calibrate;
mod card;
mod defective;
mod encoder;
mod few_shot;
pub mod hub;
mod import;
mod licence;
#[doc(hidden)]
pub mod moments;
pub mod onnx;
mod quantize;
mod scores;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use dinomaly_core::bundle::{Calibration, Model};
use dinomaly_core::detector::{SELF_TEST_SEED, SELF_TEST_TOLERANCE};
use dinomaly_core::model::config::Architecture;
use dinomaly_core::photo::preprocess::Preprocessor;
use dinomaly_core::tensor::named::Weights;
use pollster::block_on;

use crate::dataset::Dataset;
use crate::dataset::split::Split;
use crate::inference::photo_detector::PhotoDetector;
use crate::model_dir;
use crate::training::trainer::TrainingSettings;
use crate::training::{RecentLosses, Trained};

pub use calibrate::{Calibrated, CalibrationPlan, calibrate};
pub use defective::{ClassRecall, Recall};
pub use encoder::encoder;
pub use few_shot::{AddPlan, FewShotPlan, add, few_shot};
pub use import::{ImportPlan, import};
pub use quantize::{QuantizePlan, Quantized, quantize};

/// Calibrates and writes a trained model.
///
/// # Errors
/// If a photo cannot be read, or the folder cannot be written.
pub fn publish(trained: Trained) -> Result<Model> {
    let Trained { out, recipe, preprocessor, encoder: mut weights, head, losses, dataset, split, device, work, .. } =
        trained;
    head.check_finite().context("the trained weights are not finite: train again with --restart and a lower --lr")?;
    weights.0.extend(head.0);
    let config = Architecture::Dinomaly(recipe.config.clone());
    let parts = Parts { config: &config, preprocessor: &preprocessor, weights };
    let photos = good_photos(&dataset, &split);
    let (held_out, false_alarm_rate) = (!split.held_out.is_empty(), trained.false_alarm_rate);
    let good = Good { photos, held_out, false_alarm_rate, device };
    let model = assemble(&out, parts, good, |model| card(model, &split, &recipe.settings, &losses))?;
    model_dir::write_with(&out, &model, Some(recipe.file()?))?;
    work.finish()?;
    Ok(model)
}

/// A model before it is calibrated.
pub(crate) struct Parts<'a> {
    /// Config of the model.
    pub(crate) config: &'a Architecture,
    /// Geometry and normalisation.
    pub(crate) preprocessor: &'a Preprocessor,
    /// The model's weights, without blocks that never run.
    pub(crate) weights: Weights,
}

/// Good photos for the thresholds.
pub(crate) struct Good {
    /// Class and photo of good parts.
    pub(crate) photos: Vec<(String, PathBuf)>,
    /// Whether the model was not trained on them.
    pub(crate) held_out: bool,
    /// Share of good photos that the thresholds may call defective.
    pub(crate) false_alarm_rate: f64,
    /// Device that scores them: the processor or an NVIDIA GPU.
    pub(crate) device: Device,
}

/// Assembles and calibrates the model for the folder `out`; `card` writes its model card.
///
/// # Errors
/// If parts do not fit together, the device differs from the processor, or a photo cannot be read.
pub(crate) fn assemble(out: &Path, parts: Parts<'_>, good: Good, card: impl FnOnce(&Model) -> String) -> Result<Model> {
    let Parts { config, preprocessor, mut weights } = parts;
    let name = out.file_name().context("a model folder has a name")?.to_string_lossy().into_owned();
    weights.prune(config.taps());
    let detector = PhotoDetector::of_parts(config, preprocessor, &weights)?;
    let self_test = block_on(detector.detector().self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
    let Good { photos, held_out, false_alarm_rate: rate, device } = good;
    let calibration = if device.is_cpu() {
        scores::calibration(&detector, photos, rate, held_out)?
    } else {
        drop(detector);
        let detector = PhotoDetector::of_parts_on_cuda(config, preprocessor, &weights, Some(&self_test), device)?;
        scores::calibration(&detector, photos, rate, held_out)?
    };
    let mut model = Model {
        name,
        config: config.clone(),
        preprocessor: preprocessor.clone(),
        calibration,
        weights,
        self_test: Some(self_test),
        card: String::new(),
    };
    model.card = card(&model);
    Ok(model)
}

/// Photos for the thresholds: held-out ones, and the training photos of classes without held-out ones.
fn good_photos(dataset: &Dataset, split: &Split) -> Vec<(String, PathBuf)> {
    let mut photos = split.held_out.clone();
    for class in dataset.classes.iter().filter(|class| !split.held_out.iter().any(|(name, _)| *name == class.name)) {
        photos.extend(class.train.iter().map(|photo| (class.name.clone(), photo.clone())));
    }
    photos
}

/// The model card.
fn card(model: &Model, split: &Split, settings: &TrainingSettings, losses: &RecentLosses) -> String {
    let classes = model.calibration.classes.keys().cloned().collect::<Vec<_>>().join(", ");
    let schedule = &settings.schedule;
    format!(
        "# {name}\n\n\
         A Dinomaly anomaly detector for {classes}.\n\n\
         | | |\n|---|---|\n\
         | encoder | {encoder}, frozen |\n\
         | geometry | {view} |\n\
         | training photos | {train} good ones, {held_out} more held out for the thresholds |\n\
         | schedule | {iterations} iterations of {batch} photos, learning rate {peak:e} to {last:e}, seed {seed} |\n\
         | loss at the end | {loss:.5} (mean of the last 100 iterations) |\n\
         {thresholds}\n",
        name = model.name,
        encoder = model.config.encoder().name,
        view = model.preprocessor.view(),
        train = split.train.len(),
        held_out = split.held_out.len(),
        iterations = schedule.iterations,
        batch = settings.batch,
        peak = schedule.peak,
        last = schedule.last,
        seed = settings.seed,
        loss = losses.mean(),
        thresholds = model.calibration.card_row(),
    )
}

/// A model card with the line on thresholds of this calibration.
fn with_thresholds(card: &str, calibration: &Calibration) -> String {
    let line = calibration.card_row();
    if !card.lines().any(|l| l.starts_with(Calibration::CARD_ROW)) {
        return format!("{card}\n| | |\n|---|---|\n{line}\n");
    }
    let replaced = |l: &str| if l.starts_with(Calibration::CARD_ROW) { line.clone() } else { l.to_owned() };
    card.lines().map(|l| replaced(l) + "\n").collect()
}
