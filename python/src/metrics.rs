//! Arrays → the seven metrics.

use dinomaly_core::maps::metrics::{Metrics, Sample};
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

type Maps<'py> = Vec<PyReadonlyArray2<'py, f32>>;
type Masks<'py> = Vec<Option<PyReadonlyArray2<'py, bool>>>;

/// The metrics of photos, whose arrays `_metrics.py` has checked. Without maps those of images only.
#[pyfunction]
pub fn metrics<'py>(
    py: Python<'py>,
    maps: Option<Maps<'py>>,
    masks: Option<Masks<'py>>,
    labels: Vec<bool>,
    scores: Vec<f32>,
) -> PyResult<Bound<'py, PyDict>> {
    let computed = match (&maps, &masks) {
        (Some(maps), Some(masks)) => {
            let sample = |i: usize| -> PyResult<Sample<'_>> {
                let map = &maps[i];
                let mask = masks[i].as_ref().map(|mask| mask.as_slice()).transpose()?;
                Ok(Sample { map: map.as_slice()?, width: map.shape()[1], mask, anomalous: labels[i], score: scores[i] })
            };
            let samples = (0..maps.len()).map(sample).collect::<PyResult<Vec<_>>>()?;
            py.detach(|| Metrics::of(&samples))
        }
        _ => py.detach(|| Metrics::of_scores(&scores, &labels, "photos")),
    };
    let computed = computed.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let named = PyDict::new(py);
    for (name, value) in KEYS.into_iter().zip(computed.values()) {
        named.set_item(name, value)?;
    }
    named.set_item("undefined", computed.undefined)?;
    Ok(named)
}

/// Names in the order of [`Metrics::values`], as in the JSON of `dinomaly evaluate`.
const KEYS: [&str; 7] = ["i_auroc", "i_ap", "i_f1max", "p_auroc", "p_ap", "p_f1max", "aupro"];
