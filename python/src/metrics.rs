//! Arrays → the seven metrics, and those beside them.

use dinomaly::inference::{IntervalPlan, Intervals, intervals};
use dinomaly_core::maps::metrics::{Metrics, Sample, Thresholds, aupimo, image_f1};
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

type Maps<'py> = Vec<PyReadonlyArray2<'py, f32>>;
type Masks<'py> = Vec<Option<PyReadonlyArray2<'py, bool>>>;

/// The metrics of photos, whose arrays `_metrics.py` has checked. Without maps those of images only.
/// Last come the threshold of scores, and number and seed of the resamples.
#[pyfunction]
pub fn metrics<'py>(
    py: Python<'py>,
    maps: Option<Maps<'py>>,
    masks: Option<Masks<'py>>,
    labels: Vec<bool>,
    scores: Vec<f32>,
    beside: (Option<f32>, usize, u64),
) -> PyResult<Bound<'py, PyDict>> {
    let (threshold, resamples, seed) = beside;
    let sample = |i: usize| -> PyResult<Sample<'_>> {
        let (map, width, mask) = match (&maps, &masks) {
            (Some(maps), Some(masks)) => {
                let mask = masks[i].as_ref().map(|mask| mask.as_slice()).transpose()?;
                (maps[i].as_slice()?, maps[i].shape()[1], mask)
            }
            _ => (&[0.0][..], 1, None),
        };
        Ok(Sample { map, width, mask, anomalous: labels[i], score: scores[i] })
    };
    let samples = (0..labels.len()).map(sample).collect::<PyResult<Vec<_>>>()?;
    let (with_maps, at) = (maps.is_some(), Thresholds { image: threshold, pixel: None });
    let computed = py.detach(|| -> Result<_, dinomaly_core::Error> {
        let seven = match with_maps {
            true => Metrics::of(&samples)?,
            false => Metrics::of_scores(&scores, &labels, "photos")?,
        };
        let plan = (resamples > 0).then_some(IntervalPlan { resamples, seed });
        let found = plan.map(|plan| intervals(plan, &samples, at)).transpose()?;
        Ok((seven, aupimo(&samples).ok().filter(|_| with_maps), found))
    });
    let (seven, aupimo, found) = computed.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let named = PyDict::new(py);
    for (name, value) in KEYS.into_iter().zip(seven.values()) {
        named.set_item(name, value)?;
    }
    named.set_item("undefined", seven.undefined)?;
    named.set_item("aupimo", aupimo)?;
    if let Some(threshold) = threshold {
        named.set_item("i_f1", image_f1(&scores, &labels, threshold))?;
    }
    if let Some(found) = found {
        named.set_item("intervals", ends(py, &found)?)?;
    }
    Ok(named)
}

/// Lower and upper ends by name, as the metrics are called.
fn ends<'py>(py: Python<'py>, found: &Intervals) -> PyResult<Bound<'py, PyDict>> {
    let named = PyDict::new(py);
    for (name, ends) in KEYS.into_iter().chain(["aupimo", "i_f1"]).zip(found.values()) {
        named.set_item(name, ends.map(|[low, high]| (low, high)))?;
    }
    Ok(named)
}

/// Names in the order of [`Metrics::values`], as in the JSON of `dinomaly evaluate`.
const KEYS: [&str; 7] = ["i_auroc", "i_ap", "i_f1max", "p_auroc", "p_ap", "p_f1max", "aupro"];
