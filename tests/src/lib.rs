//! What tests and benchmarks share: where their data is, how safetensors files are read, how closely numbers agree.

pub mod executors; // one operation on any executor
pub mod mutation; // valid files with changed numbers, names and bytes
pub mod page; // a site with small models, and a browser that looks at it
pub mod random; // models with random weights
pub mod s3; // a server of buckets

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_core::Device;
use dinomaly::system::device::{DeviceChoice, open_cuda};
use safetensors::{Dtype, SafeTensors};

/// The folder of golden cases: `DINOMALY_GOLDEN`, by default the committed subset.
pub fn golden() -> PathBuf {
    std::env::var_os("DINOMALY_GOLDEN").map_or_else(|| fixtures("golden"), PathBuf::from)
}

/// A file or folder of `tests/fixtures`.
pub fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The folder of the embedded model.
pub fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model")
}

/// The folder of real photos (`DINOMALY_DATA`), or `None` after saying why the test is skipped.
///
/// # Panics
/// If the folder is missing and `DINOMALY_REQUIRE_DATA` is set: there a skip is a failure.
pub fn data() -> Option<PathBuf> {
    optional_folder("DINOMALY_DATA", "real photos")
}

/// The folder of real encoder weights (`DINOMALY_WEIGHTS`); as [`data`].
///
/// # Panics
/// As [`data`].
pub fn weights() -> Option<PathBuf> {
    optional_folder("DINOMALY_WEIGHTS", "real encoder weights")
}

fn optional_folder(variable: &str, what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_dir());
    if folder.is_none() {
        let reason = format!("{variable} names no folder of {what}");
        assert!(std::env::var_os("DINOMALY_REQUIRE_DATA").is_none(), "{reason}, and DINOMALY_REQUIRE_DATA is set");
        println!("SKIPPED: {reason}");
    }
    folder
}

/// Where golden training runs: `DINOMALY_DEVICE` (`cuda` or `cuda:NUMBER`, in a build for it), without it the processor. The
/// same handle every time, as tensors of two do not mix.
///
/// # Panics
/// If it cannot be opened.
pub fn device() -> Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        let name = std::env::var("DINOMALY_DEVICE").unwrap_or_else(|_| "cpu".into());
        match name.parse::<DeviceChoice>() {
            Ok(DeviceChoice::Cpu) => Device::Cpu,
            Ok(DeviceChoice::Cuda(number)) => open_cuda(number).unwrap_or_else(|e| panic!("DINOMALY_DEVICE: {e}")),
            _ => panic!("DINOMALY_DEVICE is cpu, cuda or cuda:NUMBER, not {name}"),
        }
    });
    DEVICE.clone()
}

/// A tensor of a golden file, widened to f32 (masks too).
#[derive(Clone, Debug)]
pub struct Golden {
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Reads every tensor of a safetensors file of f32, f64, u8 or i64 values.
///
/// # Panics
/// If the file cannot be read: a golden file that is present must be good.
pub fn read_golden(path: &Path) -> BTreeMap<String, Golden> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()) as f32).collect(),
                Dtype::I64 => data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect(),
                Dtype::U8 | Dtype::BOOL => data.iter().map(|&b| f32::from(b)).collect(),
                other => panic!("{}: {name} has type {other:?}", path.display()),
            };
            (name, Golden { shape: view.shape().to_vec(), values })
        })
        .collect()
}

/// Reads a JSON file.
///
/// # Panics
/// If the file cannot be read or parsed.
pub fn read_json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The largest absolute difference; infinite if a value is NaN on one side only or the lengths differ.
pub fn max_difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    found
        .iter()
        .zip(expected)
        .map(|(f, e)| if f.is_nan() || e.is_nan() { f32::INFINITY } else { (f - e).abs() })
        .fold(0.0, f32::max)
}

/// Checks that two tensors agree within an absolute tolerance.
///
/// # Panics
/// Naming the tensor and the largest difference, if they do not.
pub fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}: {} values, expected {}", found.len(), expected.len());
    let difference = max_difference(found, expected);
    assert!(difference <= tolerance, "{name}: largest difference {difference:e}, tolerance {tolerance:e}");
}
