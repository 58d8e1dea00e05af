//! A model and photos of good parts → the same model with new thresholds.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Calibration, Model};

use super::{thresholds, with_thresholds};
use crate::dataset::grey16::warn_if_clipped;
use crate::dataset::split::FALSE_ALARM_RATE;
use crate::dataset::{Class, Dataset, Layout};
use crate::inference::{AnyDetector, DetectorDevice};
use crate::model_dir;
use crate::system::atomic::check_other;

/// The model to calibrate, and good photos for the thresholds.
#[derive(Clone, Debug)]
pub struct CalibrationPlan {
    /// Model folder.
    pub model: PathBuf,
    /// Data set with photos of good parts that the model was not trained on.
    pub data: PathBuf,
    /// Folder to write the model to.
    pub out: PathBuf,
    /// Classes to set the thresholds of; if empty, all, which removes other classes from the model.
    pub classes: Vec<String>,
    /// Layout of the data set; if omitted, it is detected.
    pub layout: Option<Layout>,
    /// Share of good photos that the thresholds may call defective.
    pub false_alarm_rate: f64,
    /// Device and precision to score the photos with.
    pub place: DetectorDevice,
}

impl CalibrationPlan {
    /// All classes, 1 % false alarms, on the processor.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            data: data.into(),
            out: out.into(),
            classes: Vec::new(),
            layout: None,
            false_alarm_rate: FALSE_ALARM_RATE,
            place: DetectorDevice::default(),
        }
    }
}

/// A model with new thresholds.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The model, as written to the folder.
    pub model: Model,
    /// Classes removed from the model, because there are no photos of them.
    pub gone: Vec<String>,
}

/// Scores the photos and writes the model with the resulting thresholds. They replace all earlier ones, unless classes were
/// chosen.
///
/// # Errors
/// If the model is unusable, a class has no good photos, a photo cannot be read, or the folder cannot be written.
pub fn calibrate(plan: &CalibrationPlan) -> Result<Calibrated> {
    check_other(&plan.model, &plan.out)?;
    model_dir::check_target(&plan.out)?;
    let mut model = model_dir::read(&plan.model)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    let of_class = |class: Class| class.train.into_iter().map(move |photo| (class.name.clone(), photo));
    let photos: Vec<(String, PathBuf)> = dataset.classes.into_iter().flat_map(of_class).collect();
    warn_if_clipped(&model.preprocessor, &photos.iter().map(|(_, photo)| photo.clone()).collect::<Vec<_>>());
    let rate = plan.false_alarm_rate;
    let earlier = model.calibration.clone();
    if !plan.classes.is_empty() && earlier.false_alarm_rate != rate {
        bail!(
            "--classes keeps the other classes' thresholds, which are for --false-alarm-rate {}: give the same rate, or all classes",
            earlier.false_alarm_rate
        );
    }
    model.calibration = match plan.place.open(&model)? {
        AnyDetector::Processor(detector) => thresholds::of_photos(&detector, photos, rate, true)?,
        AnyDetector::Gpu(detector) => thresholds::of_photos(&detector, photos, rate, true)?,
        AnyDetector::Cuda(detector) => thresholds::of_photos(&detector, photos, rate, true)?,
    };
    let mut gone = Vec::new();
    if plan.classes.is_empty() {
        gone = earlier.classes.into_keys().filter(|class| !model.calibration.classes.contains_key(class)).collect();
    } else {
        keep_others(&mut model.calibration, earlier);
    }
    model.name = plan.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    model.card = with_thresholds(&model.card, &model.calibration);
    model_dir::write(&plan.out, &model)?;
    Ok(Calibrated { model, gone })
}

/// Keeps the earlier calibration of the other classes, and that of photos of unknown class.
fn keep_others(calibration: &mut Calibration, earlier: Calibration) {
    for (name, class) in earlier.classes {
        calibration.classes.entry(name).or_insert(class);
    }
    calibration.overall = earlier.overall;
    calibration.held_out &= earlier.held_out;
}
