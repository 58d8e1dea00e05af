//! Checkpoints of a run: everything that a resumed run needs to end in the same bits as an unbroken one.
//!
//! One safetensors file: `parameter/NAME`, `mean/NAME`, `square/NAME`, `largest/NAME`, and the rest as JSON in its metadata.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use dinomaly_core::config::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::train::{Settings, Trainer};

const FORMAT_VERSION: u32 = 1;

/// What a run is, and how far it came. A run is resumed only by the same command on the same photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    format_version: u32,
    /// Shape of the model.
    pub config: ModelConfig,
    /// Rates, batch and seed.
    pub settings: Settings,
    /// Hash of the names and features' origin: photos, encoder and geometry.
    pub data: String,
    /// Iterations done.
    pub iteration: usize,
    /// Updates of each tensor.
    steps: Vec<usize>,
    /// Loss of every iteration so far.
    pub losses: Vec<f64>,
}

/// Writes the state of a run: to a temporary file, then renamed, so that a crash leaves the last good checkpoint.
///
/// # Errors
/// One sentence naming the file, if it cannot be written.
pub fn save(path: &Path, trainer: &Trainer, data: &str, losses: &[f64]) -> Result<()> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    let mut steps = Vec::new();
    for (name, var, moments) in &trainer.optimizer.parameters {
        steps.push(moments.steps);
        let parts =
            [("parameter", var.as_tensor()), ("mean", &moments.mean), ("square", &moments.square), ("largest", &moments.largest)];
        for (part, tensor) in parts {
            tensors.push((format!("{part}/{name}"), tensor.to_device(&Device::Cpu)?.contiguous()?));
        }
    }
    let progress = Progress {
        format_version: FORMAT_VERSION,
        config: trainer.config.clone(),
        settings: trainer.settings.clone(),
        data: data.to_owned(),
        iteration: trainer.iteration,
        steps,
        losses: losses.to_vec(),
    };
    let metadata = HashMap::from([("progress".to_owned(), serde_json::to_string(&progress)?)]);
    let refs = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let bytes = safetensors::serialize(refs, Some(metadata))?;
    write_atomically(path, &bytes)
}

/// The progress recorded in a checkpoint, or `None` if there is no such file.
///
/// # Errors
/// One sentence naming the file, if it is damaged or of another version.
pub fn progress(path: &Path) -> Result<Option<Progress>> {
    if !path.exists() {
        return Ok(None);
    }
    let damaged = || format!("checkpoint {} is damaged: delete it or train with --restart", path.display());
    let bytes = fs::read(path).with_context(damaged)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).with_context(damaged)?;
    let json = header.metadata().as_ref().and_then(|m| m.get("progress")).with_context(damaged)?;
    let version: serde_json::Value = serde_json::from_str(json).with_context(damaged)?;
    if version["format_version"] != FORMAT_VERSION {
        bail!(
            "checkpoint {} has format version {}, this program reads {FORMAT_VERSION}: finish it with the version that began it, or train with --restart",
            path.display(),
            version["format_version"]
        );
    }
    Ok(Some(serde_json::from_str(json).with_context(damaged)?))
}

/// Brings a fresh trainer to the state of a checkpoint; gives back the losses so far.
///
/// # Errors
/// One sentence naming the file or tensor.
pub fn restore(path: &Path, trainer: &mut Trainer) -> Result<Vec<f64>> {
    let progress = progress(path)?.with_context(|| format!("checkpoint {} is missing", path.display()))?;
    let device = trainer.head.variables.first().map_or(Device::Cpu, |(_, var)| var.device().clone());
    let mut tensors = candle_core::safetensors::load(path, &device)
        .with_context(|| format!("checkpoint {} cannot be read", path.display()))?;
    let mut take = |name: String, shape: &[usize]| {
        let tensor = tensors.remove(&name).with_context(|| format!("checkpoint {}: {name} is missing", path.display()))?;
        if tensor.dims() != shape {
            bail!("checkpoint {}: {name} has shape {:?}, expected {shape:?}", path.display(), tensor.dims());
        }
        Ok(tensor)
    };
    if progress.steps.len() != trainer.optimizer.parameters.len() {
        bail!("checkpoint {} is of another model: train with --restart", path.display());
    }
    for ((name, var, moments), steps) in trainer.optimizer.parameters.iter_mut().zip(progress.steps) {
        let shape = var.dims().to_vec();
        var.set(&take(format!("parameter/{name}"), &shape)?)?;
        moments.mean = take(format!("mean/{name}"), &shape)?;
        moments.square = take(format!("square/{name}"), &shape)?;
        moments.largest = take(format!("largest/{name}"), &shape)?;
        moments.steps = steps;
    }
    trainer.iteration = progress.iteration;
    Ok(progress.losses)
}

/// Writes a file so that a reader sees the old or the new one, never half of it.
///
/// # Errors
/// One sentence naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The rename itself must survive a power cut; on platforms where folders cannot be opened there is nothing to do.
        File::open(folder).and_then(|f| f.sync_all()).ok();
        Ok(())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}
