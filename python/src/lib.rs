//! Dinomaly for Python: arguments of Python → one call of the library each.
//!
//! | file | |
//! |---|---|
//! | `detector.rs` | a model on a thread of its own, and photos for it |
//! | `input.rs` | what Python calls a photo → the photo |
//! | `result.rs` | what a model says about a photo |
//! | `making.rs` | photos → a model: training, and without training |
//! | `options.rs` | keyword arguments → options of the program |
//! | `metrics.rs` | arrays → the seven metrics |
//! | `beside.rs` | work beside Python, which hears it and looks for Ctrl-C meanwhile |
//! | `error.rs` | errors of the library → exceptions |

use pyo3::prelude::*;

mod beside;
mod detector;
mod error;
mod input;
mod making;
mod metrics;
mod options;
mod result;

/// What the package `dinomaly` is made of.
#[pymodule]
mod _dinomaly {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    use super::beside::Progress;
    #[pymodule_export]
    use super::detector::Detector;
    #[pymodule_export]
    use super::error::Error;
    #[pymodule_export]
    use super::making::{few_shot, train};
    #[pymodule_export]
    use super::metrics::metrics;
    #[pymodule_export]
    use super::result::{Found, Region};

    /// Runs the program with the words of a command line, and returns its exit status.
    #[pyfunction]
    fn run_program(py: Python<'_>, words: Vec<OsString>) -> u8 {
        py.detach(|| dinomaly::cli::run_program(words))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
