//! A model folder and labelled photos → the seven metrics, and a report.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use dinomaly_core::bundle::Model;
use dinomaly_core::maps::metrics::{Resampled, Thresholds, aupimo, image_f1, seg_f1};
use dinomaly_core::ops::Read;

use super::evaluation::{ClassMetrics, Evaluation, Found, evaluate_observed, samples_of};
use super::intervals::{IntervalPlan, Intervals, Replicates};
use super::photo_detector::PhotoDetector;
use super::report::{Facts, Report, page};
use super::{AnyDetector, DetectorDevice};
use crate::dataset::grey16::warn_if_clipped;
use crate::dataset::{Class, Dataset, Layout};
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
    /// How confidence intervals are found; none if omitted.
    pub intervals: Option<IntervalPlan>,
    /// Device and precision to score the photos with.
    pub place: DetectorDevice,
}

impl EvaluationPlan {
    /// All classes, no report, on the processor.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        let (model, data) = (model.into(), data.into());
        Self {
            model,
            data,
            layout: None,
            classes: Vec::new(),
            gallery: None,
            intervals: None,
            place: DetectorDevice::default(),
        }
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
    let mut beside = Vec::new();
    let mut evaluation = evaluate_observed(detector, dataset, &mut |class, found| {
        beside.push(Beside::of(model, class, found, plan.intervals.map(|plan| (plan, beside.len())))?);
        let begun = Instant::now();
        report.iter_mut().try_for_each(|report| report.add(class, found))?;
        reporting += begun.elapsed();
        Ok(())
    })?;
    let replicates: Vec<&Replicates> = beside.iter().filter_map(|beside| beside.replicates.as_ref()).collect();
    evaluation.intervals = plan.intervals.map(|plan| Intervals::of_mean(plan, &replicates));
    evaluation.classes.iter_mut().zip(beside).for_each(|(class, beside)| beside.put(class, plan.intervals));
    let seconds = (begun.elapsed() - reporting).as_secs_f64();
    let facts = Facts { model, data: &plan.data, seconds };
    let page = report.map(|report| page(&report, &evaluation, &facts)).transpose()?;
    Ok(Evaluated { evaluation, page })
}

/// Metrics of a class beside the seven.
struct Beside {
    aupimo: Result<f64, String>,
    i_f1: Option<f64>,
    seg_f1: Option<f64>,
    replicates: Option<Replicates>,
}

impl Beside {
    /// Of a class, with replicates if `intervals` gives a plan and the class's place.
    fn of(model: &Model, class: &Class, found: &[Found], intervals: Option<(IntervalPlan, usize)>) -> Result<Self> {
        let samples = samples_of(class, found);
        let calibration = model.calibration.of_class(Some(&class.name));
        let (scores, labels): (Vec<f32>, Vec<bool>) = samples.iter().map(|s| (s.score, s.anomalous)).unzip();
        let at = Thresholds { image: Some(calibration.threshold), pixel: calibration.pixel_threshold };
        let replicates = intervals.map(|(plan, place)| -> Result<Replicates> {
            Ok(Replicates::new(plan, place, &labels, &Resampled::new(&samples, at)?))
        });
        Ok(Self {
            aupimo: aupimo(&samples).map_err(|error| error.to_string()),
            i_f1: image_f1(&scores, &labels, calibration.threshold),
            seg_f1: calibration.pixel_threshold.and_then(|threshold| seg_f1(&samples, threshold)),
            replicates: replicates.transpose()?,
        })
    }

    /// Puts them into the class's metrics.
    fn put(self, class: &mut ClassMetrics, plan: Option<IntervalPlan>) {
        (class.i_f1, class.seg_f1) = (self.i_f1, self.seg_f1);
        class.intervals = plan.zip(self.replicates).map(|(plan, replicates)| replicates.intervals(plan));
        match self.aupimo {
            Ok(value) => class.aupimo = Some(value),
            // Without masks, a sentence says so of all pixel metrics.
            Err(reason) if class.metrics.aupro.is_some() => class.aupimo_undefined = Some(reason),
            Err(_) => {}
        }
    }
}
