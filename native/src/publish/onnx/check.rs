//! The written file, run by an ONNX runtime and compared with the model.

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::SELF_TEST_SEED;
use dinomaly_core::maps::score::mean_of_highest;
use dinomaly_core::photo::preprocess::Resized;
use pollster::block_on;
use rten::ValueOrView;
use rten_tensor::NdTensor;

use super::run::{failed, reading, run};
use super::{ExportPlan, Input};
use crate::inference::photo_detector::PhotoDetector;

/// Largest difference of a map in single precision, as a share of its largest value: ten times that of any executor.
const LARGEST: f32 = 1e-4;

/// The same in int8: more is no rounding.
const LARGEST_IN_INT8: f32 = 0.25;

/// What a file computes of the self-test picture, against the processor in single precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Scores of file and processor.
    pub scores: [f32; 2],
    /// Largest difference of a value of the maps, as a share of the largest value.
    pub map: f32,
}

/// Runs the file on the self-test picture.
///
/// # Errors
/// If the runtime refuses the file, or the maps differ by more than rounding.
pub fn check(model: &Model, plan: &ExportPlan) -> Result<Difference> {
    let detector = PhotoDetector::of_parts(&model.config, &model.preprocessor, &model.weights)?;
    let cut = detector.detector().prepare(&SelfTest::picture_of(SELF_TEST_SEED));
    let expected = block_on(detector.detector().maps(std::slice::from_ref(&cut)))?.remove(0);
    let score = mean_of_highest(&expected.values, model.config.score_share());

    let fails = || format!("{} was written, but fails its check", plan.out.display());
    let (patch, grid, side) = (model.config.encoder().patch_size, model.grid(), model.preprocessor.geometry.crop);
    let input: ValueOrView<'_> = match plan.input {
        Input::Photo if model.preprocessor.resized == Resized::Bytes => {
            NdTensor::from_data([1, side, side, 3], cut).into()
        }
        Input::Photo => {
            let values = cut.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect::<Vec<_>>();
            NdTensor::from_data([1, side, side, 3], values).into()
        }
        Input::Patches => {
            let patches = model.preprocessor.patches_of_cut(&cut, patch);
            NdTensor::from_data([1, grid * grid, 3 * patch * patch], patches).into()
        }
    };
    let graph = reading().load_file(&plan.out).map_err(failed).with_context(fails)?;
    let found = run(&graph, Some(input), &["score", "map"]).with_context(fails)?;
    let [found_score, found_map] = &found[..] else { unreachable!("two outputs were asked for") };
    if found_map.len() != expected.values.len() {
        bail!("{}: its map has {} values, expected {}", fails(), found_map.len(), expected.values.len());
    }
    let differences = found_map.iter().zip(&expected.values).map(|(a, b)| (a - b).abs() / expected.peak().abs());
    // `f32::max` would hide a NaN.
    let map = differences
        .fold(0.0, |largest: f32, d| if largest.is_nan() || d > largest || d.is_nan() { d } else { largest });
    let allowed = if plan.int8 { LARGEST_IN_INT8 } else { LARGEST };
    if map.is_nan() || map > allowed {
        bail!(
            "{}: the map of a generated picture differs by {map:.1e} of its largest value, expected at most {allowed:.0e}",
            fails()
        );
    }
    Ok(Difference { scores: [found_score[0], score], map })
}
