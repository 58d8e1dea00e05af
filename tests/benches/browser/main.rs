//! The page in headless Chromium: how long it takes to start, and a photo against onnxruntime-web on the same weights.
//!
//! ```bash
//! npm --prefix tests/peers install --no-package-lock
//! python3 -m venv target/peers && target/peers/bin/pip install numpy safetensors onnx onnxruntime
//! cargo bench -p dinomaly-tests --bench browser [-- start|webgpu|wasm|'wasm, VitTi16, int8']
//! ```
//!
//! Both run in one page, warmed up, in turn; the ratio of each pair counts, because machines are shared. Chromium's GPU is
//! SwiftShader, and onnxruntime has one thread, as on pages that are not isolated.

mod peer;
mod start;

use std::path::{Path, PathBuf};

use anyhow::Result;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly_core::quant::quantize;
use dinomaly_tests::random::{self, Shape};

fn main() -> Result<()> {
    // Cargo passes --bench.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let photo = folder.path().join("photo.jpg");
    Class::Gear.good(1, "bench", 0, 1024).save(&photo)?;
    if "start".contains(&wanted) {
        start::run(folder.path(), &photo)?;
    }
    peer::run(folder.path(), &photo, &wanted)
}

/// A model with random weights in a folder below `folder`.
fn write_model(folder: &Path, shape: Shape, int8: bool) -> Result<PathBuf> {
    let path = folder.join(format!("{shape:?} {}", if int8 { "int8" } else { "f32" }));
    if !path.exists() {
        let (config, preprocessor) = shape.config()?;
        let mut weights = random::weights(&config, 7, 7)?;
        if int8 {
            weights = quantize(&weights)?.0;
        }
        model_dir::write(&path, &random::model(&format!("{shape:?}"), config, preprocessor, weights)?)?;
    }
    Ok(path)
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
