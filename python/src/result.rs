//! What a model says about a photo.

use std::sync::Arc;

use dinomaly::inference::{Judged, Judgement};
use dinomaly_core::maps::defects::{Defect, defects};
use dinomaly_core::maps::heatmap::{overlay, range_around};
use dinomaly_core::maps::outline;
use dinomaly_core::maps::score::AnomalyMap;
use dinomaly_core::photo::preprocess;
use dinomaly_core::photo::window::Window;
use numpy::{PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raised;
use crate::input::Input;

/// The number that the program prints: the shortest decimal that tells this value from all others of single precision.
pub fn printed(value: f32) -> f64 {
    value.to_string().parse().expect("a printed number is a number")
}

/// What a model says about a photo.
#[pyclass(name = "Result", frozen, module = "dinomaly")]
pub struct Found {
    judgement: Judgement,
    region: preprocess::Region,
    map: Py<PyArray2<f32>>,
    size: (u32, u32),
    photo: Arc<Input>,
    window: Option<Window>,
}

/// A part of a photo whose map lies above the pixel threshold, in pixels of the photo.
#[pyclass(frozen, get_all, module = "dinomaly")]
pub struct Region {
    /// Left border.
    x0: f64,
    /// Upper border.
    y0: f64,
    /// Right border.
    x1: f64,
    /// Lower border.
    y1: f64,
    /// Area, with the holes.
    area: f64,
    /// Highest value of the map.
    peak: f64,
    /// Mean of the map's values above the threshold.
    mean: f64,
    /// Corners of the outer border, clockwise.
    outline: Vec<(f64, f64)>,
}

impl From<Defect> for Region {
    fn from(Defect { bounds, area, peak, mean, outline }: Defect) -> Self {
        let preprocess::Region { x0, y0, x1, y1 } = bounds;
        let outline = outline.into_iter().map(|[x, y]| (x, y)).collect();
        Self { x0, y0, x1, y1, area, peak: printed(peak), mean: printed(mean), outline }
    }
}

#[pymethods]
impl Region {
    fn __repr__(&self) -> String {
        let Self { x0, y0, x1, y1, area, peak, .. } = self;
        format!("<Region: ({x0:.2}, {y0:.2}) to ({x1:.2}, {y1:.2}), area {area:.2}, peak {peak}>")
    }
}

impl Found {
    /// What is kept of a judged photo: not its pixels, which [`Found::heatmap`] reads again.
    pub fn new(py: Python<'_>, judged: Looked, photo: Arc<Input>, window: Option<Window>) -> PyResult<Self> {
        let Looked { judgement, region, map, size } = judged;
        let (height, width) = (map.height, map.width);
        let map = numpy::PyArray1::from_vec(py, map.values).reshape([height, width])?.unbind();
        Ok(Self { judgement, region, map, size, photo, window })
    }

    /// The map as the library has it.
    fn anomaly_map(&self, py: Python<'_>) -> PyResult<AnomalyMap> {
        let map = self.map.bind(py);
        let (height, width) = (map.shape()[0], map.shape()[1]);
        Ok(AnomalyMap { width, height, values: map.to_vec()? })
    }

    fn above(&self, py: Python<'_>, pixel_threshold: f32, min_area: f64) -> PyResult<Vec<Defect>> {
        Ok(defects(&self.anomaly_map(py)?, self.region, pixel_threshold, min_area))
    }
}

/// A judged photo without its pixels.
pub struct Looked {
    judgement: Judgement,
    region: preprocess::Region,
    map: AnomalyMap,
    size: (u32, u32),
}

impl From<Judged> for Looked {
    fn from(Judged { photo, detection, judgement }: Judged) -> Self {
        Self { judgement, region: detection.region, map: detection.map, size: (photo.width, photo.height) }
    }
}

#[pymethods]
impl Found {
    /// How unusual the photo is: the number that the program prints.
    #[getter]
    fn score(&self) -> f64 {
        printed(self.judgement.score)
    }

    /// Score above which a photo is defective.
    #[getter]
    fn threshold(&self) -> f64 {
        printed(self.judgement.threshold)
    }

    /// 0 for a typical good part of the class, 1 at the threshold.
    #[getter]
    fn normalised(&self) -> f64 {
        printed(self.judgement.normalised)
    }

    /// `good`, `defective`, or `unknown` for a photo that is unlike anything that the model knows, so that its score says nothing.
    #[getter]
    fn verdict(&self) -> &'static str {
        self.judgement.word()
    }

    /// Whether the photo is not good: defective or unknown.
    #[getter]
    fn defective(&self) -> bool {
        self.judgement.is_defective() || self.judgement.is_unknown()
    }

    /// Class that the photo is nearest to; None if the model does not tell products.
    #[getter]
    fn nearest(&self) -> Option<&str> {
        self.judgement.product.as_ref().map(|product| product.nearest.as_str())
    }

    /// Value of the map above which a pixel belongs to a region; None if the model has none.
    #[getter]
    fn pixel_threshold(&self) -> Option<f64> {
        self.judgement.pixel_threshold.map(printed)
    }

    /// The anomaly map of `region`: height x width, float32.
    #[getter]
    fn map(&self, py: Python<'_>) -> Py<PyArray2<f32>> {
        self.map.clone_ref(py)
    }

    /// The part of the photo that was looked at, which the map covers: x0, y0, x1, y1 in pixels of the upright photo.
    #[getter]
    fn region(&self) -> (f64, f64, f64, f64) {
        let preprocess::Region { x0, y0, x1, y1 } = self.region;
        (x0, y0, x1, y1)
    }

    /// Width and height of the upright photo.
    #[getter]
    fn size(&self) -> (u32, u32) {
        self.size
    }

    /// The regions above the model's pixel threshold, highest peak first; None if it has none.
    #[getter]
    fn regions(&self, py: Python<'_>) -> PyResult<Option<Vec<Region>>> {
        let of = |threshold| Ok(self.above(py, threshold, 0.0)?.into_iter().map(Region::from).collect());
        self.judgement.pixel_threshold.map(of).transpose()
    }

    /// The regions above a value of the map, highest peak first, of at least `min_area` pixels of the photo.
    #[pyo3(signature = (pixel_threshold, min_area = 0.0))]
    fn regions_above(&self, py: Python<'_>, pixel_threshold: f32, min_area: f64) -> PyResult<Vec<Region>> {
        if !(pixel_threshold.is_finite() && pixel_threshold > 0.0) {
            return Err(PyValueError::new_err(format!(
                "pixel_threshold is {pixel_threshold}: expected a positive number"
            )));
        }
        Ok(self.above(py, pixel_threshold, min_area)?.into_iter().map(Region::from).collect())
    }

    /// The photo with the heatmap over it, as a PIL.Image of the photo's size; with `outlines` also with those of its regions.
    ///
    /// The photo is read again, or taken from the array or picture as it is now.
    #[pyo3(signature = (opacity = 0.5, *, outlines = false))]
    fn heatmap<'py>(&self, py: Python<'py>, opacity: f32, outlines: bool) -> PyResult<Bound<'py, PyAny>> {
        if !(0.0..=1.0).contains(&opacity) {
            return Err(PyValueError::new_err(format!("opacity is {opacity}: expected a number from 0 to 1")));
        }
        let map = self.anomaly_map(py)?;
        let regions = match self.judgement.pixel_threshold.filter(|_| outlines) {
            Some(threshold) => self.above(py, threshold, 0.0)?,
            None => Vec::new(),
        };
        let drawn = py.detach(|| -> anyhow::Result<Option<Vec<u8>>> {
            let photo = self.photo.read(self.window)?;
            if (photo.width, photo.height) != self.size {
                return Ok(None);
            }
            let preprocess::Region { x0, y0, x1, y1 } = self.region;
            let (width, height) = (photo.width as usize, photo.height as usize);
            let range = range_around(self.judgement.threshold);
            let mut rgb = overlay(&photo.rgb, width, height, &map, (x0, y0, x1, y1), range, opacity)?;
            for region in &regions {
                outline::draw(&mut rgb, width, height, &region.outline, outline::COLOUR);
            }
            Ok(Some(rgb))
        });
        let Some(rgb) = drawn.map_err(raised)? else {
            return Err(PyValueError::new_err("the photo has another size than when it was looked at"));
        };
        let pillow = py.import("PIL.Image")?;
        pillow.call_method1("frombytes", ("RGB", self.size, PyBytes::new(py, &rgb)))
    }

    fn __repr__(&self) -> String {
        let nearest = self.nearest().map(|class| format!(", nearest {class}")).unwrap_or_default();
        format!("<Result: {}, score {}, threshold {}{nearest}>", self.verdict(), self.score(), self.threshold())
    }
}
