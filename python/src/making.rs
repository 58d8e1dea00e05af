//! Photos → a model folder, and its detector.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Result;
use dinomaly::system::allocator::keep_freed_memory;
use dinomaly::system::interrupt::Interrupt;
use dinomaly::{cli, publish, training};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::beside::{self, check_process};
use crate::detector::{Detector, place};
use crate::options::{refused, words};

/// Trains a model on photos of good parts, and writes it to the folder `out`.
///
/// `photos` is a data set or a folder of photos. `progress` is called with a `Progress` after every step. Ctrl-C, or an exception of
/// `progress`, stops after a step; the same call goes on from there. `options` are those of `dinomaly train`, with underscores:
/// `iterations=2000`, `backbone="dinov2-reg-base"`, `restart=True`. Returns the detector, on the same device.
#[pyfunction]
#[pyo3(signature = (photos, out, *, device = "cpu", progress = None, **options))]
pub fn train(
    py: Python<'_>,
    photos: PathBuf,
    out: PathBuf,
    device: &str,
    progress: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Detector> {
    let place = place(device, false)?;
    let plan = cli::training_plan(&words(command(&photos, &out, device), options)?).map_err(refused)?;
    keep_freed_memory();
    make(py, progress, move |interrupt| {
        if let Some(trained) = training::train(&plan, interrupt)? {
            publish::publish(trained)?;
        }
        Ok(())
    })?;
    Detector::open(py, out, place)
}

/// Makes a model of a few photos of good parts, without training, and writes it to the folder `out`.
///
/// `photos` is a data set, a folder of photos, or a list of what `Detector.detect` takes. `options` are those of `dinomaly fewshot`, with
/// underscores: `memory="bank"`, `size=448`. Returns the detector, on the same device.
#[pyfunction]
#[pyo3(signature = (photos, out, *, device = "cpu", progress = None, **options))]
pub fn few_shot(
    py: Python<'_>,
    photos: &Bound<'_, PyAny>,
    out: PathBuf,
    device: &str,
    progress: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Detector> {
    let place = place(device, false)?;
    // Lives until the model is made.
    let given = Given::of(photos)?;
    let plan = cli::few_shot_plan(&words(command(given.folder(), &out, device), options)?).map_err(refused)?;
    make(py, progress, move |_| {
        for (class, doubt) in publish::few_shot(&plan)?.doubts {
            dinomaly::system::output::print_error(format_args!("threshold of {class}: {doubt}\n"));
        }
        Ok(())
    })?;
    Detector::open(py, out, place)
}

/// The words that every way to a model has.
fn command(photos: &Path, out: &Path, device: &str) -> Vec<String> {
    let word = |path: &Path| path.to_string_lossy().into_owned();
    vec![word(photos), format!("--out={}", word(out)), format!("--device={device}")]
}

/// Makes a model on a thread of its own.
fn make(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Interrupt) -> Result<()> + Send + 'static,
) -> PyResult<()> {
    check_process()?;
    let (worker, caller) = beside::pair();
    thread::Builder::new().name("dinomaly".into()).spawn(move || worker.run(work))?;
    caller.wait(py, progress)
}

/// A folder that somebody named, or one that a list of photos was written to.
enum Given {
    Folder(PathBuf),
    List { folder: PathBuf, _lives: tempfile::TempDir },
}

impl Given {
    fn of(photos: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(folder) = photos.extract::<PathBuf>() {
            return Ok(Self::Folder(folder));
        }
        let lives = tempfile::tempdir()?;
        // A class has the name of its folder.
        let folder = lives.path().join("photos");
        std::fs::create_dir(&folder)?;
        photos.py().import("dinomaly._photos")?.call_method1("write_all", (photos, &folder))?;
        Ok(Self::List { folder, _lives: lives })
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) | Self::List { folder, .. } => folder,
        }
    }
}
