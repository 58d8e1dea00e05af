//! Keyword arguments → options of the program, which explains and checks them.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};

/// The words of a command line: `first`, then `--name=value` for each argument. True is a switch; False and None are left out; the values
/// of lists stand with commas between them.
pub fn words(first: Vec<String>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<String>> {
    let mut words = first;
    for (name, value) in options.into_iter().flatten() {
        let option = format!("--{}", name.extract::<String>()?.replace('_', "-"));
        if value.is_none() {
            continue;
        }
        if let Ok(switch) = value.cast::<PyBool>() {
            words.extend(switch.is_true().then_some(option));
            continue;
        }
        words.push(format!("{option}={}", text(&value)?));
    }
    Ok(words)
}

fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let items = value.try_iter()?.map(|item| Ok(item?.str()?.to_string()));
        return Ok(items.collect::<PyResult<Vec<_>>>()?.join(","));
    }
    Ok(value.str()?.to_string())
}

/// An option or value that does not exist, as Python says it.
pub fn refused(error: anyhow::Error) -> PyErr {
    PyTypeError::new_err(format!("{error:#}"))
}
