//! What was trained → a published model: thresholds from held-out photos, self-test, model card.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use dinomaly_core::bundle::{Calibration, ClassCalibration, Model, ScoreStatistics};
use dinomaly_core::config::ModelConfig;
use dinomaly_core::detector::SELF_TEST_SEED;
use dinomaly_core::preprocess::Preprocessor;
use dinomaly_core::weights::Weights;
use pollster::block_on;

use crate::dataset::Dataset;
use crate::detect::PhotoDetector;
use crate::model_dir;
use crate::run::{HELD_OUT, Split, recent_mean};
use crate::train::Settings;

/// A photo is called defective beyond this many standard deviations above the mean of good photos.
const DEVIATIONS: f64 = 3.0;

/// How far score and map of the self-test picture may be from ours on another device. f32 executors differ by less than
/// 1e-5; maps lie in 0..=2 and defects stand out by a few hundredths.
pub const SELF_TEST_TOLERANCE: f32 = 1e-3;

/// The parts of a finished run.
pub struct Trained<'a> {
    /// Shape of the model.
    pub config: &'a ModelConfig,
    /// Geometry and normalisation.
    pub preprocessor: &'a Preprocessor,
    /// The backbone's tensors.
    pub encoder: &'a Weights,
    /// The trained tensors.
    pub head: Weights,
    /// Loss of every iteration.
    pub losses: &'a [f64],
    /// Rates, batch and seed.
    pub settings: &'a Settings,
}

/// Assembles, calibrates and writes a model.
///
/// # Errors
/// A photo that cannot be read, or a folder that cannot be written.
pub fn publish(out: &Path, trained: Trained<'_>, dataset: &Dataset, split: &Split) -> Result<()> {
    let Trained { config, preprocessor, encoder, head, losses, settings } = trained;
    let name = out.file_name().context("a model folder has a name")?.to_string_lossy().into_owned();
    let mut weights = encoder.clone();
    weights.0.extend(head.0);
    weights.prune(config);
    let detector = PhotoDetector::of_parts(config, preprocessor, &weights, Device::Cpu)?;
    let calibration = calibrate(&detector, dataset, split)?;
    let self_test = block_on(detector.detector().self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
    let mut model = Model {
        name,
        config: config.clone(),
        preprocessor: preprocessor.clone(),
        calibration,
        weights,
        self_test: Some(self_test),
        card: String::new(),
    };
    model.card = card(&model, split, settings, losses);
    model_dir::write(out, &model)
}

/// Thresholds from the held-out photos, or from the training photos of a class where none were held out.
fn calibrate(detector: &PhotoDetector, dataset: &Dataset, split: &Split) -> Result<Calibration> {
    let held_out = !split.held_out.is_empty();
    let mut photos = split.held_out.clone();
    for class in dataset.classes.iter().filter(|class| !split.held_out.iter().any(|(name, _)| *name == class.name)) {
        photos.extend(class.train.iter().map(|photo| (class.name.clone(), photo.clone())));
    }
    println!("calibrating on {} {} photos", photos.len(), if held_out { "held-out" } else { "training" });
    let (names, paths): (Vec<String>, Vec<PathBuf>) = photos.into_iter().unzip();
    let scores = detector.scores(&paths)?;
    let mut by_class: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (name, &score) in names.into_iter().zip(&scores) {
        by_class.entry(name).or_default().push(score);
    }
    let few: Vec<&str> = by_class.iter().filter(|(_, s)| s.len() < HELD_OUT).map(|(name, _)| name.as_str()).collect();
    if !few.is_empty() {
        println!("too few good photos for thresholds to rely on: {}", few.join(", "));
    }
    thresholds(&by_class, held_out)
}

/// The thresholds of classes by their good photos' scores. Too few scores say little about how much they vary: such a class
/// has at least the usual deviation of all classes.
fn thresholds(by_class: &BTreeMap<String, Vec<f32>>, held_out: bool) -> Result<Calibration> {
    let statistics: BTreeMap<&String, ScoreStatistics> =
        by_class.iter().map(|(name, scores)| Ok((name, ScoreStatistics::of(scores)?))).collect::<Result<_>>()?;
    let all: Vec<f32> = by_class.values().flatten().copied().collect();
    let within = statistics.values().map(|s| s.std * s.std * s.count as f64).sum::<f64>() / all.len() as f64;
    let calibration = |good_scores: ScoreStatistics| {
        let least = if good_scores.count < HELD_OUT { within.sqrt() } else { 0.0 };
        let threshold = good_scores.mean + DEVIATIONS * good_scores.std.max(least);
        ClassCalibration { threshold: threshold as f32, good_scores }
    };
    let classes = statistics.into_iter().map(|(name, good_scores)| (name.clone(), calibration(good_scores))).collect();
    Ok(Calibration { classes, overall: calibration(ScoreStatistics::of(&all)?), held_out })
}

/// The model card.
fn card(model: &Model, split: &Split, settings: &Settings, losses: &[f64]) -> String {
    let classes = model.calibration.classes.keys().cloned().collect::<Vec<_>>().join(", ");
    let geometry = model.preprocessor.geometry;
    let schedule = &settings.schedule;
    format!(
        "# {name}\n\n\
         A Dinomaly anomaly detector for {classes}.\n\n\
         | | |\n|---|---|\n\
         | encoder | {encoder}, frozen |\n\
         | geometry | resized to {resize} × {resize}, centre {crop} × {crop} |\n\
         | training photos | {train} good ones, {held_out} more held out for the thresholds |\n\
         | schedule | {iterations} iterations of {batch} photos, learning rate {peak:e} to {last:e}, seed {seed} |\n\
         | loss at the end | {loss:.5} (mean of the last 100 iterations) |\n\
         | thresholds | mean + {DEVIATIONS} standard deviations of {source} photos' scores |\n",
        name = model.name,
        encoder = model.config.encoder.name,
        resize = geometry.resize,
        crop = geometry.crop,
        train = split.train.len(),
        held_out = split.held_out.len(),
        iterations = schedule.iterations,
        batch = settings.batch,
        peak = schedule.peak,
        last = schedule.last,
        seed = settings.seed,
        loss = recent_mean(losses),
        source = if model.calibration.held_out { "held-out good" } else { "the training" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_with_few_photos_has_a_threshold_above_them() {
        let large: Vec<f32> = (0..40).map(|i| 0.1 + 0.01 * (i % 5) as f32).collect();
        let by_class =
            BTreeMap::from([("few".into(), vec![0.3, 0.3001]), ("large".into(), large), ("one".into(), vec![0.2])]);
        let found = thresholds(&by_class, true).unwrap();
        let of = |name: &str| found.classes[name].threshold;
        // The deviation of 0, 1, 2, 3, 4 is √2, and large's photos make up nearly all.
        assert!((of("large") - 0.12 - 3.0 * 0.0141).abs() < 1e-3, "{}", of("large"));
        assert!((of("few") - 0.30005 - 3.0 * 0.0141).abs() < 3e-3, "{}", of("few"));
        assert!((of("one") - 0.2 - 3.0 * 0.0141).abs() < 3e-3, "{}", of("one"));
    }
}
