//! Errors of the library → exceptions of Python.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

pyo3::create_exception!(
    dinomaly,
    Error,
    PyRuntimeError,
    "What is wrong, in one sentence that names the file, tensor or option."
);

/// The exception of an error: itself if Python raised it, else an [`Error`] with all causes, outermost first.
pub fn raised(error: anyhow::Error) -> PyErr {
    match error.downcast::<PyErr>() {
        Ok(of_python) => of_python,
        Err(error) => Error::new_err(format!("{error:#}")),
    }
}
