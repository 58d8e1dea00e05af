//! A model and photos of good parts, and of defective ones if there are some → the same model with new thresholds.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Calibration, Model};
use dinomaly_core::fewshot::thresholds::{self, FALSE_ALARM_RATE};
use dinomaly_core::ops::Read;

use super::defective::{self, Recall};
use super::{scores, with_thresholds};
use crate::dataset::grey16::warn_if_clipped;
use crate::dataset::{Class, Dataset, Layout};
use crate::inference::photo_detector::PhotoDetector;
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
    /// Folder of photos of defective parts to report the recall of, in a subfolder for each class if there are several.
    pub defective: Option<PathBuf>,
    /// Chooses the thresholds with the highest F1 on good and defective photos, instead of by `false_alarm_rate`.
    pub best_f1: bool,
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
            defective: None,
            best_f1: false,
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
    /// How many of the known defective photos the thresholds find.
    pub recall: Option<Recall>,
}

/// Scores the photos and writes the model with the resulting thresholds. They replace all earlier ones, unless classes were
/// chosen.
///
/// # Errors
/// If the model is unusable, a class has no good photos, a defective photo belongs to no class, a photo cannot be read, or the
/// folder cannot be written.
pub fn calibrate(plan: &CalibrationPlan) -> Result<Calibrated> {
    check_other(&plan.model, &plan.out)?;
    model_dir::check_target(&plan.out)?;
    let mut model = model_dir::read(&plan.model)?;
    let dataset = Dataset::open_for_training(plan.layout, &plan.data, &plan.classes)?;
    let classes: Vec<String> = dataset.classes.iter().map(|class| class.name.clone()).collect();
    let defective = plan.defective.as_ref().map(|folder| defective::list(folder, &classes)).transpose()?;
    let of_class = |class: Class| class.train.into_iter().map(move |photo| (class.name.clone(), photo));
    let photos: Vec<(String, PathBuf)> = dataset.classes.into_iter().flat_map(of_class).collect();
    warn_if_clipped(&model.preprocessor, &photos.iter().map(|(_, photo)| photo.clone()).collect::<Vec<_>>());
    if plan.best_f1 && (defective.is_none() || !plan.classes.is_empty()) {
        bail!(
            "thresholds of the highest F1 need photos of defective parts and apply to all classes: give --defective, and no --classes"
        );
    }
    let rate = plan.false_alarm_rate;
    let earlier = model.calibration.clone();
    if !plan.classes.is_empty() && earlier.false_alarm_rate != rate {
        bail!(
            "--classes keeps the other classes' thresholds, which are for --false-alarm-rate {}: give the same rate, or all classes",
            earlier.false_alarm_rate
        );
    }
    let (calibration, recall) = match plan.place.open(&model)? {
        AnyDetector::Processor(detector) => measured(&detector, plan, photos, defective)?,
        AnyDetector::Gpu(detector) => measured(&detector, plan, photos, defective)?,
        AnyDetector::Cuda(detector) => measured(&detector, plan, photos, defective)?,
    };
    model.calibration = calibration;
    let mut gone = Vec::new();
    if plan.classes.is_empty() {
        gone = earlier.classes.into_keys().filter(|class| !model.calibration.classes.contains_key(class)).collect();
    } else {
        keep_others(&mut model.calibration, earlier);
    }
    model.name = plan.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    model.card = with_thresholds(&model.card, &model.calibration);
    model_dir::write(&plan.out, &model)?;
    Ok(Calibrated { model, gone, recall })
}

/// Thresholds from the scores of good and, if they are to be chosen by them, of defective photos; and what they find.
fn measured<O: Read>(
    detector: &PhotoDetector<O>,
    plan: &CalibrationPlan,
    good: Vec<(String, PathBuf)>,
    defective: Option<Vec<(String, PathBuf)>>,
) -> Result<(Calibration, Option<Recall>)> {
    let Some(defective) = defective else {
        return Ok((scores::calibration(detector, good, plan.false_alarm_rate, true)?, None));
    };
    let [good_count, defective_count] = [&good, &defective].map(Vec::len);
    println!("calibrating on {} with {good_count} good and {defective_count} defective photos", detector.place());
    let (good, defective) = (scores::by_class(detector, good)?, scores::by_class(detector, defective)?);
    let mut calibration = thresholds::of_measured(&good, plan.false_alarm_rate, true)?;
    if plan.best_f1 {
        defective::choose(&mut calibration, &good.scores, &defective.scores);
        // As rare as the alarms of the chosen thresholds.
        let rate = calibration.false_alarm_rate;
        thresholds::set_pixel_thresholds(&mut calibration, &good.peaks, rate);
    } else {
        scores::say_doubts(&good.scores, plan.false_alarm_rate);
    }
    let recall = Recall::of(&calibration, &good.scores, &defective.scores);
    Ok((calibration, Some(recall)))
}

/// Keeps the earlier calibration of the other classes, and that of photos of unknown class.
fn keep_others(calibration: &mut Calibration, earlier: Calibration) {
    for (name, class) in earlier.classes {
        calibration.classes.entry(name).or_insert(class);
    }
    calibration.overall = earlier.overall;
    calibration.held_out &= earlier.held_out;
}
