//! A model on a thread of its own, and photos for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use dinomaly::inference::{DetectorDevice, Judged, Judging, LoadedModel};
use dinomaly::system::allocator::keep_freed_memory;
use dinomaly::system::device::DeviceChoice;
use dinomaly::system::interrupt::{Interrupt, Stopped};
use dinomaly_core::photo::window::Window;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::beside::{self, check_process};
use crate::input::{Input, inputs};
use crate::making;
use crate::result::{Found, Looked, printed};

type Job = Box<dyn FnOnce(&LoadedModel) + Send>;

/// A model, loaded once, that looks at photos.
///
/// It may be used from several threads, which take turns; each photo is computed on all cores. It does not survive a fork.
#[pyclass(frozen, module = "dinomaly")]
pub struct Detector {
    /// Where the model waits for work; it stays on its thread.
    jobs: Sender<Job>,
    facts: Facts,
}

/// What is known of a model without asking it.
struct Facts {
    name: String,
    thresholds: BTreeMap<String, f32>,
    window: Option<Window>,
}

impl Detector {
    /// Reads a model, of a folder or of the hub, and puts it on a device.
    pub fn open(py: Python<'_>, folder: PathBuf, place: DetectorDevice) -> PyResult<Self> {
        check_process()?;
        keep_freed_memory();
        let (worker, caller) = beside::pair();
        let (jobs, waiting) = channel::<Job>();
        let home = move || {
            let mut loaded = None;
            worker.run(|_| {
                let model = loaded.insert(LoadedModel::open(&folder, place)?);
                let of_class = |(name, class): (&String, &dinomaly_core::bundle::ClassCalibration)| {
                    (name.clone(), class.threshold)
                };
                Ok(Facts {
                    name: model.name().to_owned(),
                    thresholds: model.calibration().classes.iter().map(of_class).collect(),
                    window: model.window(),
                })
            });
            if let Some(model) = loaded {
                waiting.into_iter().for_each(|job| job(&model));
            }
        };
        thread::Builder::new().name("dinomaly".into()).spawn(home)?;
        // Maps need it, and it takes a tenth of a second that the model takes anyway.
        py.import("numpy")?;
        Ok(Self { jobs, facts: caller.wait(py, None)? })
    }

    fn look(
        &self,
        py: Python<'_>,
        photos: Arc<Vec<Arc<Input>>>,
        judging: Judging,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Looked>> {
        check_process()?;
        let (worker, caller) = beside::pair();
        let window = self.facts.window;
        let job = Box::new(move |model: &LoadedModel| {
            worker.run(|interrupt| look(model, &photos, window, &judging, interrupt));
        });
        self.jobs
            .send(job)
            .map_err(|_| PyRuntimeError::new_err("the model's thread has ended by a fault of its own"))?;
        caller.wait(py, progress)
    }
}

fn look(
    model: &LoadedModel,
    photos: &[Arc<Input>],
    window: Option<Window>,
    judging: &Judging,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Looked>> {
    let mut found = Vec::with_capacity(photos.len());
    let keep = |_: usize, judged: anyhow::Result<Judged>| {
        found.push(Looked::from(judged?));
        if interrupt.asked() { Err(Stopped("stopped before the last photo".into()).into()) } else { Ok(()) }
    };
    model.detect(photos, |_, photo| photo.read(window), judging, keep)?;
    Ok(found)
}

/// The device and precision that arguments say.
pub fn place(device: &str, int8: bool) -> PyResult<DetectorDevice> {
    let device: DeviceChoice =
        device.parse().map_err(|error| PyValueError::new_err(format!("device '{device}': {error}")))?;
    Ok(DetectorDevice { device, int8 })
}

#[pymethods]
impl Detector {
    /// Loads a model: a folder, or `hf:OWNER/NAME` on the hub, with `@REVISION` if it is not the branch main.
    ///
    /// A model of the hub is kept in the hub's cache, and found there without a network. The variables HF_ENDPOINT, HF_HOME, HF_HUB_CACHE,
    /// HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub.
    ///
    /// `device` is cpu, cuda, cuda:NUMBER, auto (the first NVIDIA GPU, else the cpu) or gpu (any vendor's, through WebGPU). `int8` computes
    /// matrix products in int8 on the cpu: about twice as fast, scores differ in the third digit.
    #[staticmethod]
    #[pyo3(signature = (path, *, device = "cpu", int8 = false))]
    fn load(py: Python<'_>, path: PathBuf, device: &str, int8: bool) -> PyResult<Self> {
        Self::open(py, path, place(device, int8)?)
    }

    /// Makes a detector of a few photos of good parts, without training, and keeps it in memory only.
    ///
    /// `photos` is a folder, or a list of what `detect` takes. `options` are those of `dinomaly fewshot`, with underscores: see
    /// `few_shot`, which keeps the model.
    #[staticmethod]
    #[pyo3(signature = (photos, *, device = "cpu", progress = None, **options))]
    fn few_shot(
        py: Python<'_>,
        photos: &Bound<'_, PyAny>,
        device: &str,
        progress: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let folder = tempfile::tempdir()?;
        making::few_shot(py, photos, folder.path().join("model"), device, progress, options)
    }

    /// Looks at a photo, or at a list of them.
    ///
    /// A photo is a path, the bytes of a photo file, a PIL.Image, or an array or tensor: uint8 of height x width x 3 (RGB) or
    /// height x width, or uint16 of height x width (16-bit grey). `class_name` is the product whose threshold applies; by default the
    /// one that each photo is nearest to. A list is decoded on all cores, a batch ahead of the device; its first unusable photo raises.
    #[pyo3(signature = (photos, *, class_name = None))]
    fn detect<'py>(
        &self,
        py: Python<'py>,
        photos: &Bound<'py, PyAny>,
        class_name: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (photos, is_list) = inputs(photos)?;
        let photos: Arc<Vec<Arc<Input>>> = Arc::new(photos.into_iter().map(Arc::new).collect());
        let looked = self.look(py, photos.clone(), Judging { class: class_name, regions: None }, None)?;
        let window = self.facts.window;
        let mut found =
            looked.into_iter().zip(photos.iter()).map(|(looked, photo)| Found::new(py, looked, photo.clone(), window));
        match (is_list, found.next()) {
            (false, Some(one)) => one?.into_bound_py_any(py),
            (_, first) => {
                let all = first.into_iter().chain(found).collect::<PyResult<Vec<_>>>()?;
                Ok(PyList::new(py, all.into_iter().map(|one| Py::new(py, one)).collect::<PyResult<Vec<_>>>()?)?
                    .into_any())
            }
        }
    }

    /// The model's name.
    #[getter]
    fn name(&self) -> &str {
        &self.facts.name
    }

    /// The products that the model knows.
    #[getter]
    fn classes(&self) -> Vec<&str> {
        self.facts.thresholds.keys().map(String::as_str).collect()
    }

    /// Score above which a photo of each product is defective.
    #[getter]
    fn thresholds(&self) -> BTreeMap<&str, f64> {
        self.facts.thresholds.iter().map(|(class, &threshold)| (class.as_str(), printed(threshold))).collect()
    }

    fn __repr__(&self) -> String {
        format!("<Detector: {} of {}>", self.facts.name, self.classes().join(", "))
    }
}
