//! A model folder and labelled photos → the seven metrics, and a report.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use dinomaly_core::bundle::Model;
use dinomaly_core::maps::metrics::seg_f1;
use dinomaly_core::ops::Read;

use super::evaluation::{Evaluation, evaluate_observed, samples_of};
use super::photo_detector::PhotoDetector;
use super::report::{Facts, Report, page};
use super::{AnyDetector, DetectorDevice};
use crate::dataset::grey16::warn_if_clipped;
use crate::dataset::{Dataset, Layout};
use crate::model_dir;

/// The model to evaluate, and labelled photos.
#[derive(Clone, Debug)]
pub struct EvaluationPlan {
    /// Model folder.
    pub model: PathBuf,
    /// Labelled data set.
    pub data: PathBuf,
    /// Layout of the data set; if omitted, it is detected.
    pub layout: Option<Layout>,
    /// Classes to evaluate; if empty, all.
    pub classes: Vec<String>,
    /// Number of photos per class in the report, worst first; if omitted, there is no report.
    pub gallery: Option<usize>,
    /// Device and precision to score the photos with.
    pub place: DetectorDevice,
}

impl EvaluationPlan {
    /// All classes, no report, on the processor.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        let (model, data) = (model.into(), data.into());
        Self { model, data, layout: None, classes: Vec::new(), gallery: None, place: DetectorDevice::default() }
    }
}

/// Results of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The metrics.
    pub evaluation: Evaluation,
    /// The report as HTML, if it was asked for.
    pub page: Option<String>,
}

/// Evaluates a model.
///
/// # Errors
/// One sentence that names the missing or unusable file.
pub fn evaluate(plan: &EvaluationPlan) -> Result<Evaluated> {
    let dataset = Dataset::open_for_evaluation(plan.layout, &plan.data, &plan.classes)?;
    let model = model_dir::read(&plan.model)?;
    for class in &dataset.classes {
        let photos: Vec<PathBuf> = class.test.iter().map(|photo| photo.path.clone()).collect();
        warn_if_clipped(&model.preprocessor, &photos);
    }
    match plan.place.open(&model)? {
        AnyDetector::Processor(detector) => measure(plan, &dataset, &model, &detector),
        AnyDetector::Gpu(detector) => measure(plan, &dataset, &model, &detector),
        AnyDetector::Cuda(detector) => measure(plan, &dataset, &model, &detector),
    }
}

fn measure<O: Read>(
    plan: &EvaluationPlan,
    dataset: &Dataset,
    model: &Model,
    detector: &PhotoDetector<O>,
) -> Result<Evaluated> {
    let mut report = plan.gallery.map(|gallery| Report::new(model, gallery));
    let (begun, mut reporting) = (Instant::now(), Duration::ZERO);
    let mut seg_f1s = Vec::new();
    let mut evaluation = evaluate_observed(detector, dataset, &mut |class, found| {
        let pixel_threshold = model.calibration.of_class(Some(&class.name)).pixel_threshold;
        seg_f1s.push(pixel_threshold.and_then(|threshold| seg_f1(&samples_of(class, found), threshold)));
        let begun = Instant::now();
        report.iter_mut().try_for_each(|report| report.add(class, found))?;
        reporting += begun.elapsed();
        Ok(())
    })?;
    evaluation.classes.iter_mut().zip(seg_f1s).for_each(|(class, seg_f1)| class.seg_f1 = seg_f1);
    let seconds = (begun.elapsed() - reporting).as_secs_f64();
    let facts = Facts { model, data: &plan.data, seconds };
    let page = report.map(|report| page(&report, &evaluation, &facts)).transpose()?;
    Ok(Evaluated { evaluation, page })
}
