//! A published model and photos of good parts → the same model with other thresholds.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Calibration, Model};

use super::{thresholds, with_thresholds};
use crate::dataset::split::FALSE_ALARM_RATE;
use crate::dataset::{Class, Dataset, Layout};
use crate::inference::{Looking, Place};
use crate::model_dir;
use crate::system::atomic::check_other;

/// What to calibrate, and on which photos.
#[derive(Clone, Debug)]
pub struct CalibrationPlan {
    /// Folder of the model.
    pub model: PathBuf,
    /// Data set whose photos to train on are good ones that the model was not trained on.
    pub data: PathBuf,
    /// Folder to write the model to.
    pub out: PathBuf,
    /// Classes whose thresholds are set; if empty, all, and the model knows no others then.
    pub classes: Vec<String>,
    /// Layout of the data; told from what lies there if omitted.
    pub layout: Option<Layout>,
    /// Share of good photos that the thresholds may call defective.
    pub false_alarm_rate: f64,
    /// Where the photos are looked at.
    pub place: Place,
}

impl CalibrationPlan {
    /// On all classes, with one false alarm in a hundred, on the processor.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            data: data.into(),
            out: out.into(),
            classes: Vec::new(),
            layout: None,
            false_alarm_rate: FALSE_ALARM_RATE,
            place: Place::default(),
        }
    }
}

/// A model with new thresholds.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The model as it was written.
    pub model: Model,
    /// Classes that the model knew and no longer knows, because the photos show none of them.
    pub gone: Vec<String>,
}

/// Scores the photos and writes the model with the thresholds that follow; they are then the model's only ones, unless classes
/// were chosen.
///
/// # Errors
/// An unusable model, a class without good photos, a photo that cannot be read, or an unwritable folder.
pub fn calibrate(plan: &CalibrationPlan) -> Result<Calibrated> {
    check_other(&plan.model, &plan.out)?;
    model_dir::check_target(&plan.out)?;
    let mut model = model_dir::read(&plan.model)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    let of_class = |class: Class| class.train.into_iter().map(move |photo| (class.name.clone(), photo));
    let photos: Vec<(String, PathBuf)> = dataset.classes.into_iter().flat_map(of_class).collect();
    let rate = plan.false_alarm_rate;
    let earlier = model.calibration.clone();
    if !plan.classes.is_empty() && earlier.false_alarm_rate != rate {
        bail!(
            "--classes leaves the other classes' thresholds, which are for --false-alarm-rate {}: give that, or all classes",
            earlier.false_alarm_rate
        );
    }
    model.calibration = match plan.place.open(&model)? {
        Looking::Processor(detector) => thresholds::of_photos(&detector, photos, rate, true)?,
        Looking::Gpu(detector) => thresholds::of_photos(&detector, photos, rate, true)?,
        Looking::Cuda(detector) => thresholds::of_photos(&detector, photos, rate, true)?,
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

/// Leaves what is known of the classes that were not looked at, and of photos of no known class.
fn keep_others(calibration: &mut Calibration, earlier: Calibration) {
    for (name, class) in earlier.classes {
        calibration.classes.entry(name).or_insert(class);
    }
    calibration.overall = earlier.overall;
    calibration.held_out &= earlier.held_out;
}
