//! A model → the same model with weights of fewer bits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::{SELF_TEST_SEED, SELF_TEST_TOLERANCE};
use dinomaly_core::quant::{self, Format, InputMoments, Rounding};
use dinomaly_core::tensor::Data;
use pollster::block_on;

use super::moments;
use crate::dataset::{Dataset, Layout};
use crate::inference::comparison::BeforeAfter;
use crate::inference::evaluation::{Evaluation, check_labelled, evaluate};
use crate::inference::photo_detector::PhotoDetector;
use crate::model_dir;
use crate::system::atomic::check_other;

/// The model to quantize, the format and the photos.
#[derive(Clone, Debug)]
pub struct QuantizePlan {
    /// Model folder.
    pub model: PathBuf,
    /// Format of the weights.
    pub to: Format,
    /// Folder to write the quantized model to.
    pub out: PathBuf,
    /// Data set with photos of good parts to compensate rounding errors on; if omitted, generated pictures. Not for f16.
    pub photos: Option<PathBuf>,
    /// Labelled data set to evaluate before and after.
    pub report: Option<PathBuf>,
    /// Classes of the data sets to use; if empty, all.
    pub classes: Vec<String>,
    /// Layout of the data sets; if omitted, it is detected.
    pub layout: Option<Layout>,
    /// Text file to append to the model card.
    pub note: Option<PathBuf>,
}

impl QuantizePlan {
    /// With generated pictures, and no evaluation.
    pub fn new(model: impl Into<PathBuf>, to: Format, out: impl Into<PathBuf>) -> Self {
        let (model, out) = (model.into(), out.into());
        Self { model, to, out, photos: None, report: None, classes: Vec::new(), layout: None, note: None }
    }
}

/// A quantized model, and the changes.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The model, as written to the folder.
    pub model: Model,
    /// Lines of the model card: number of tensors of each format, with its largest rounding error.
    pub summary: String,
    /// Score and map of the self-test picture before and after, if the model had a self-test.
    pub self_tests: Option<[SelfTest; 2]>,
    /// Metrics before and after, if there is labelled data.
    pub evaluations: Option<[Evaluation; 2]>,
    to: Format,
}

impl Quantized {
    /// The metrics side by side, if there is labelled data.
    pub fn comparison(&self) -> Option<BeforeAfter<'_>> {
        let [before, after] = self.evaluations.as_ref()?;
        Some(BeforeAfter { before: ("before", before), after: (name(self.to), after) })
    }
}

/// Number of photos or generated pictures for the second moments that weight rounding errors. With a quarter of the generated
/// pictures, int4 changes the maps of a DeiT-Ti model by 17 % more.
pub(super) const PICTURES: usize = 128;

/// Quantizes the weights, and writes the model with its own self-test. Thresholds stay the same.
///
/// # Errors
/// If the model is unusable or quantized already, a photo cannot be read, or the folder cannot be written.
pub fn quantize(plan: &QuantizePlan) -> Result<Quantized> {
    check_other(&plan.model, &plan.out)?;
    model_dir::check_target(&plan.out)?;
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("note {}", path.display()));
    let note = plan.note.as_ref().map(read).transpose()?;
    let original = model_dir::read(&plan.model)?;
    if original.weights.0.values().any(|tensor| matches!(tensor.data, Data::Int8 { .. } | Data::Int4 { .. })) {
        bail!("model {} is quantized already: quantize the original", plan.model.display());
    }
    if !plan.classes.is_empty() && plan.photos.is_none() && plan.report.is_none() {
        bail!("--classes selects classes of --photos and --report: give one of these options");
    }
    let labelled = |data: &PathBuf| Dataset::open_for_evaluation(plan.layout, data, &plan.classes);
    let labelled = plan.report.as_ref().map(labelled).transpose()?;
    labelled.iter().try_for_each(check_labelled)?;
    let (moments, seen) = input_moments(plan, &original)?;

    let mut model = original.clone();
    let (weights, rounding) = quant::quantize_to(&original.weights, plan.to, &moments)?;
    model.weights = weights;
    model.name = plan.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    // The quantized model's own output is the reference that devices are compared with.
    let detector = PhotoDetector::of_parts(&model.config, &model.preprocessor, &model.weights)?;
    let self_test = block_on(detector.detector().self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
    let mut summary = describe(&model, &rounding);
    if !seen.is_empty() {
        summary += &format!("Rounding errors are compensated on the layers' inputs for {seen}.\n");
    }
    let evaluations = labelled.map(|data| evaluations(&original, &detector, &data)).transpose()?;
    let self_tests = original.self_test.map(|before| [before, self_test.clone()]);
    model.self_test = Some(self_test);
    let mut quantized = Quantized { model, summary, self_tests, evaluations, to: plan.to };
    let mut card = format!("\n{}", quantized.summary);
    if let Some(comparison) = quantized.comparison() {
        card += &format!("\nMetrics on labelled photos, in percent:\n\n{}", comparison.markdown());
    }
    if let Some(note) = &note {
        card += &format!("\n{}\n", note.trim());
    }
    quantized.model.card += &card;
    model_dir::write(&plan.out, &quantized.model)?;
    Ok(quantized)
}

/// The moments that weight rounding errors, and a description of their pictures; both empty for f16.
fn input_moments(plan: &QuantizePlan, original: &Model) -> Result<(InputMoments, String)> {
    Ok(match &plan.photos {
        Some(_) if plan.to == Format::F16 => bail!("--photos has no effect on f16: leave it out"),
        None if plan.to == Format::F16 => (InputMoments::new(), String::new()),
        None => (moments::of_generated(original, PICTURES)?, format!("{PICTURES} generated pictures")),
        Some(data) => {
            let good = Dataset::open_for_training(plan.layout, data, &plan.classes)?;
            let photos = moments::choose(&good, PICTURES);
            (moments::of_photos(original, &photos)?, format!("{} photos of good parts", photos.len()))
        }
    })
}

fn name(format: Format) -> &'static str {
    match format {
        Format::Int8 => "int8",
        Format::Int4 => "int4",
        Format::F16 => "f16",
    }
}

/// Evaluations of the original and the quantized model.
fn evaluations(original: &Model, quantized: &PhotoDetector, data: &Dataset) -> Result<[Evaluation; 2]> {
    let before = evaluate(&PhotoDetector::new(original)?, data)?;
    Ok([before, evaluate(quantized, data)?])
}

/// Number of tensors of each format, with its largest rounding error.
fn describe(model: &Model, rounding: &[Rounding]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Rounding>> = BTreeMap::new();
    for rounding in rounding {
        let kind = match model.weights.0[&rounding.name].data {
            Data::Int4 { .. } => "int4 with one scale per 32 values of a row",
            Data::Int8 { .. } => "int8 with one scale per output channel",
            Data::F16(_) | Data::F32(_) => "f16",
        };
        kinds.entry(kind).or_default().push(rounding);
    }
    let line = |(kind, roundings): (&str, Vec<&Rounding>)| {
        let worst = roundings.iter().max_by(|a, b| a.relative.total_cmp(&b.relative))?;
        let Rounding { name, relative, .. } = worst;
        Some(format!("Tensors in {kind}: {}, largest relative rounding {relative:.4} ({name}).\n", roundings.len()))
    };
    kinds.into_iter().filter_map(line).collect()
}
