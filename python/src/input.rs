//! What Python calls a photo → the photo.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly::dataset::read_photo;
use dinomaly_core::photo::decode::{Photo, Pixels};
use dinomaly_core::photo::window::Window;
use numpy::{PyReadonlyArray2, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple};

/// A photo that is still to be read.
pub struct Input {
    /// Its place in a list.
    place: Option<usize>,
    kind: Kind,
}

enum Kind {
    File(PathBuf),
    Encoded(PyBackedBytes),
    /// A picture, array or tensor.
    Held(Py<PyAny>),
}

/// The photos of an argument, and whether it is a list of them.
pub fn inputs(photos: &Bound<'_, PyAny>) -> PyResult<(Vec<Input>, bool)> {
    if photos.is_instance_of::<PyList>() || photos.is_instance_of::<PyTuple>() {
        let photos = photos.try_iter()?.enumerate().map(|(i, photo)| Input::of(&photo?, Some(i)));
        return Ok((photos.collect::<PyResult<_>>()?, true));
    }
    Ok((vec![Input::of(photos, None)?], false))
}

impl Input {
    fn of(photo: &Bound<'_, PyAny>, place: Option<usize>) -> PyResult<Self> {
        let kind = if photo.is_instance_of::<PyBytes>() || photo.is_instance_of::<PyByteArray>() {
            Kind::Encoded(photo.extract()?)
        } else if let Ok(path) = photo.extract::<PathBuf>() {
            Kind::File(path)
        } else {
            Kind::Held(photo.clone().unbind())
        };
        Ok(Self { place, kind })
    }

    /// Reads the photo. Files are decoded as the program does, without Python's lock.
    pub fn read(&self, window: Option<Window>) -> Result<Photo> {
        // What stands after "photo" in errors of the library.
        let name = self.place.map_or("in memory".into(), |place| place.to_string());
        match &self.kind {
            Kind::File(path) => read_photo(path, window),
            Kind::Encoded(bytes) => Ok(Photo::decode_in(&name, bytes, window)?),
            Kind::Held(photo) => Ok(Python::attach(|py| pixels(photo.bind(py), &name, window))?),
        }
    }
}

/// The pixels of a picture, array or tensor.
fn pixels(photo: &Bound<'_, PyAny>, name: &str, window: Option<Window>) -> PyResult<Photo> {
    let py = photo.py();
    let array = py.import("dinomaly._photos")?.call_method1("pixels", (photo, format!("photo {name}")))?;
    let of = |shape: &[usize], pixels: Pixels<'_>| {
        let side = |axis: usize| u32::try_from(shape[axis]).unwrap_or(u32::MAX);
        Photo::of_pixels(name, [side(1), side(0)], pixels, window)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    };
    if let Ok(rgb) = array.extract::<PyReadonlyArray3<'_, u8>>() {
        of(rgb.shape(), Pixels::Rgb(rgb.as_slice()?))
    } else if let Ok(grey) = array.extract::<PyReadonlyArray2<'_, u8>>() {
        of(grey.shape(), Pixels::Grey(grey.as_slice()?))
    } else {
        let grey = array.extract::<PyReadonlyArray2<'_, u16>>()?;
        of(grey.shape(), Pixels::Grey16(grey.as_slice()?))
    }
}
