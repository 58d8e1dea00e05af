//! Checkpoints of a run: everything that a resumed run needs to end in the same bits as an unbroken one.
//!
//! One safetensors file: `parameter/NAME`, `mean/NAME`, `square/NAME`, `largest/NAME`, and what the run says of itself as
//! JSON in the metadata.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic::write_file;
use crate::optimizer::StableAdamW;

const FORMAT_VERSION: u32 = 1;

/// Metadata of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Header<T> {
    format_version: u32,
    /// Updates of each tensor.
    steps: Vec<usize>,
    /// What the run says of itself.
    run: T,
}

/// Writes the state of a run, so that a crash leaves the last good checkpoint.
///
/// # Errors
/// One sentence naming the file, if it cannot be written.
pub fn save(path: &Path, optimizer: &StableAdamW, run: &impl Serialize) -> Result<()> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, var, moments) in &optimizer.parameters {
        let (mean, square, largest) = (&moments.mean, &moments.square, &moments.largest);
        for (part, tensor) in [("parameter", var.as_tensor()), ("mean", mean), ("square", square), ("largest", largest)]
        {
            tensors.push((format!("{part}/{name}"), tensor.to_device(&Device::Cpu)?.contiguous()?));
        }
    }
    let steps = optimizer.parameters.iter().map(|(_, _, moments)| moments.steps).collect();
    let header = Header { format_version: FORMAT_VERSION, steps, run };
    let metadata = HashMap::from([("progress".to_owned(), serde_json::to_string(&header)?)]);
    let refs = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_file(path, &safetensors::serialize(refs, Some(metadata))?)
}

/// What the run of a checkpoint says of itself, or `None` if there is no such file.
///
/// # Errors
/// One sentence naming the file, if it is damaged or of another version.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(if path.exists() { Some(header::<T>(path)?.run) } else { None })
}

fn header<T: DeserializeOwned>(path: &Path) -> Result<Header<T>> {
    let damaged = || format!("checkpoint {} is damaged: delete it or begin anew with --restart", path.display());
    let bytes = fs::read(path).with_context(damaged)?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).with_context(damaged)?;
    let json = metadata.metadata().as_ref().and_then(|m| m.get("progress")).with_context(damaged)?;
    let value: serde_json::Value = serde_json::from_str(json).with_context(damaged)?;
    let version = &value["format_version"];
    if version != FORMAT_VERSION {
        bail!(
            "checkpoint {} has format version {version}, this program reads {FORMAT_VERSION}: finish it with the version that began it, or begin anew with --restart",
            path.display(),
        );
    }
    serde_json::from_value(value).with_context(damaged)
}

/// Gives parameters and moments the values of a checkpoint.
///
/// # Errors
/// One sentence naming the file and the tensor.
pub fn restore(path: &Path, optimizer: &mut StableAdamW) -> Result<()> {
    let steps = header::<serde::de::IgnoredAny>(path)?.steps;
    if steps.len() != optimizer.parameters.len() {
        bail!("checkpoint {} is of another model: begin anew with --restart", path.display());
    }
    let device = optimizer.parameters.first().map_or(Device::Cpu, |(_, var, _)| var.device().clone());
    let mut tensors = candle_core::safetensors::load(path, &device)
        .with_context(|| format!("checkpoint {} cannot be read", path.display()))?;
    let mut take = |name: String, shape: &[usize]| {
        let tensor =
            tensors.remove(&name).with_context(|| format!("checkpoint {}: {name} is missing", path.display()))?;
        if tensor.dims() != shape {
            bail!("checkpoint {}: {name} has shape {:?}, expected {shape:?}", path.display(), tensor.dims());
        }
        Ok(tensor)
    };
    for ((name, var, moments), steps) in optimizer.parameters.iter_mut().zip(steps) {
        let shape = var.dims().to_vec();
        var.set(&take(format!("parameter/{name}"), &shape)?)?;
        moments.mean = take(format!("mean/{name}"), &shape)?;
        moments.square = take(format!("square/{name}"), &shape)?;
        moments.largest = take(format!("largest/{name}"), &shape)?;
        moments.steps = steps;
    }
    Ok(())
}
