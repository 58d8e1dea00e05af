//! A published model → the same model with weights in fewer bits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::SELF_TEST_SEED;
use dinomaly_core::quant::{self, Format, InputMoments, Rounding};
use dinomaly_core::tensor::Data;
use pollster::block_on;

use super::{SELF_TEST_TOLERANCE, moments};
use crate::dataset::{Dataset, Layout};
use crate::inference::comparison::Comparison;
use crate::inference::detect::PhotoDetector;
use crate::inference::evaluate::{Evaluation, check_labelled, evaluate};
use crate::model_dir;
use crate::system::atomic::check_other;

/// What to quantize, and how.
#[derive(Clone, Debug)]
pub struct QuantizePlan {
    /// Folder of the model.
    pub model: PathBuf,
    /// What weights become.
    pub to: Format,
    /// Folder to write the quantized model to.
    pub out: PathBuf,
    /// Data set with photos of good parts that rounding errors are made up for on; generated pictures if omitted. Not for f16.
    pub photos: Option<PathBuf>,
    /// Labelled data set to evaluate on before and after.
    pub report: Option<PathBuf>,
    /// Classes of the data sets; all if empty.
    pub classes: Vec<String>,
    /// Layout of the data sets; told from what lies there if omitted.
    pub layout: Option<Layout>,
    /// Text file to append to the model card.
    pub note: Option<PathBuf>,
}

impl QuantizePlan {
    /// On generated pictures, with no report.
    pub fn new(model: impl Into<PathBuf>, to: Format, out: impl Into<PathBuf>) -> Self {
        let (model, out) = (model.into(), out.into());
        Self { model, to, out, photos: None, report: None, classes: Vec::new(), layout: None, note: None }
    }
}

/// A quantized model, and what that changed.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The model as it was written.
    pub model: Model,
    /// Lines of the model card: how many tensors became what, with the largest error of each kind.
    pub summary: String,
    /// Score and map of the self-test picture before and after, where the model had a self-test.
    pub self_tests: Option<[SelfTest; 2]>,
    /// Metrics before and after, where a report was asked for.
    pub evaluations: Option<[Evaluation; 2]>,
    to: Format,
}

impl Quantized {
    /// The metrics side by side, where a report was asked for.
    pub fn comparison(&self) -> Option<Comparison<'_>> {
        let [before, after] = self.evaluations.as_ref()?;
        Some(Comparison { before: ("before", before), after: (name(self.to), after) })
    }
}

/// Photos or generated pictures whose second moments rounding errors are weighed with. A quarter of the generated ones gives maps
/// of a DeiT-Ti model that int4 changes by 17 % more.
const PICTURES: usize = 128;

/// Rounds the weights, and writes the model with a self-test of its own; thresholds stay what they are.
///
/// # Errors
/// An unusable model, one that is quantized already, photos that cannot be read, or an unwritable folder.
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
        bail!("--classes chooses among those of --photos and --report: give one of them");
    }
    let labelled = |data: &PathBuf| Dataset::open_as(plan.layout, data, &plan.classes);
    let labelled = plan.report.as_ref().map(labelled).transpose()?;
    labelled.iter().try_for_each(check_labelled)?;
    let (moments, seen) = input_moments(plan, &original)?;

    let mut model = original.clone();
    let (weights, rounding) = quant::quantize_to(&original.weights, plan.to, &moments)?;
    model.weights = weights;
    model.name = plan.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    // What the quantized model computes is right by definition: devices are compared with it.
    let detector = PhotoDetector::of_parts(&model.config, &model.preprocessor, &model.weights)?;
    let self_test = block_on(detector.detector().self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
    let mut summary = describe(&model, &rounding);
    if !seen.is_empty() {
        summary += &format!("Rounding errors are made up for on the inputs that {seen} give the layers.\n");
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

/// What rounding errors are weighed with, and the pictures that it comes from, in words; nothing for f16.
fn input_moments(plan: &QuantizePlan, original: &Model) -> Result<(InputMoments, String)> {
    Ok(match &plan.photos {
        Some(_) if plan.to == Format::F16 => bail!("--photos does nothing for f16: leave it out"),
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

/// Before and after.
fn evaluations(original: &Model, quantized: &PhotoDetector, data: &Dataset) -> Result<[Evaluation; 2]> {
    let geometry = original.preprocessor.geometry;
    let before = evaluate(&PhotoDetector::new(original)?, geometry, data)?;
    Ok([before, evaluate(quantized, geometry, data)?])
}

/// How many tensors became what, with the largest error of each kind.
fn describe(model: &Model, rounding: &[Rounding]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Rounding>> = BTreeMap::new();
    for rounding in rounding {
        let kind = match model.weights.0[&rounding.name].data {
            Data::Int4 { .. } => "int4 with a scale for each 32 values of a row",
            Data::Int8 { .. } => "int8 with one scale for each output channel",
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
