//! Checkpoints of a run: all state that a resumed run needs to end with the same bits as an uninterrupted one.
//!
//! One safetensors file with the tensors `parameter/NAME`, `mean/NAME`, `square/NAME` and `largest/NAME`, and the run's own state as
//! JSON in the metadata.

mod interval;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::interval::Interval;
use crate::system::atomic::write_file;
use crate::training::optimizer::StableAdamW;

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

/// A copy of parameters and moments in memory, so that the run goes on while it is written.
pub struct Snapshot {
    tensors: Vec<(String, Tensor)>,
    /// Updates of each tensor.
    steps: Vec<usize>,
}

impl Snapshot {
    /// A copy of an optimiser's state; waits for the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(optimizer: &StableAdamW) -> Result<Self> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for (name, var, moments) in &optimizer.parameters {
            let (mean, square, largest) = (&moments.mean, &moments.square, &moments.largest);
            for (part, tensor) in
                [("parameter", var.as_tensor()), ("mean", mean), ("square", square), ("largest", largest)]
            {
                let tensor = tensor.detach();
                // On the processor, moving a tensor there leaves it where it is.
                let copy = if tensor.device().is_cpu() { tensor.copy()? } else { tensor.to_device(&Device::Cpu)? };
                tensors.push((format!("{part}/{name}"), copy.contiguous()?));
            }
        }
        let steps = optimizer.parameters.iter().map(|(_, _, moments)| moments.steps).collect();
        Ok(Self { tensors, steps })
    }

    /// Writes the checkpoint of a run. A crash leaves the previous one intact.
    ///
    /// # Errors
    /// If the file cannot be written; the error names it.
    pub fn write(self, path: &Path, run: &impl Serialize) -> Result<()> {
        let header = Header { format_version: FORMAT_VERSION, steps: self.steps, run };
        let metadata = HashMap::from([("progress".to_owned(), serde_json::to_string(&header)?)]);
        let refs = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        write_file(path, &safetensors::serialize(refs, Some(metadata))?)
    }
}

/// Writes the state of a run, and waits until it is written.
///
/// # Errors
/// As [`Snapshot::of`] and [`Snapshot::write`].
pub fn save(path: &Path, optimizer: &StableAdamW, run: &impl Serialize) -> Result<()> {
    Snapshot::of(optimizer)?.write(path, run)
}

/// The run's own state in a checkpoint; `None` if there is no such file.
///
/// # Errors
/// If the file is damaged or of another version; the error names it.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(if path.exists() { Some(header::<T>(path)?.run) } else { None })
}

fn header<T: DeserializeOwned>(path: &Path) -> Result<Header<T>> {
    let damaged = || format!("checkpoint {} is damaged: start over with --restart", path.display());
    let bytes = fs::read(path).with_context(damaged)?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).with_context(damaged)?;
    let json = metadata.metadata().as_ref().and_then(|m| m.get("progress")).with_context(damaged)?;
    let value: serde_json::Value = serde_json::from_str(json).with_context(damaged)?;
    let version = &value["format_version"];
    if version != FORMAT_VERSION {
        bail!(
            "checkpoint {} has format version {version}, this program reads {FORMAT_VERSION}: finish it with the program that wrote it, or start over with --restart",
            path.display(),
        );
    }
    serde_json::from_value(value).with_context(damaged)
}

/// Restores parameters and moments from a checkpoint of a run after `iterations`.
///
/// # Errors
/// If a tensor is missing, unknown, of another shape or not finite; the error names file and tensor.
pub fn restore(path: &Path, optimizer: &mut StableAdamW, iterations: usize) -> Result<()> {
    let steps = header::<serde::de::IgnoredAny>(path)?.steps;
    if steps.len() != optimizer.parameters.len() || steps.iter().any(|&steps| steps > iterations) {
        bail!("checkpoint {} contradicts itself: start over with --restart", path.display());
    }
    let device = optimizer.parameters.first().map_or(Device::Cpu, |(_, var, _)| var.device().clone());
    // Checked on the processor, because a GPU would sum a tensor with only a thousand threads.
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu)
        .with_context(|| format!("checkpoint {} cannot be read", path.display()))?;
    let mut take = |name: String, shape: &[usize]| {
        let tensor =
            tensors.remove(&name).with_context(|| format!("checkpoint {}: {name} is missing", path.display()))?;
        if tensor.dims() != shape {
            bail!("checkpoint {}: {name} has shape {:?}, expected {shape:?}", path.display(), tensor.dims());
        }
        if !tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite()) {
            bail!("checkpoint {}: {name} has a value that is not finite: start over with --restart", path.display());
        }
        Ok(tensor.to_device(&device)?)
    };
    for ((name, var, moments), steps) in optimizer.parameters.iter_mut().zip(steps) {
        let shape = var.dims().to_vec();
        var.set(&take(format!("parameter/{name}"), &shape)?)?;
        moments.mean = take(format!("mean/{name}"), &shape)?;
        moments.square = take(format!("square/{name}"), &shape)?;
        moments.largest = take(format!("largest/{name}"), &shape)?;
        moments.steps = steps;
    }
    if let Some(name) = tensors.keys().min() {
        bail!("checkpoint {}: {name} is not a tensor of this run: start over with --restart", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::training::optimizer::OptimizerSettings;

    fn optimizer(names: &[&str], length: usize, value: f32) -> StableAdamW {
        let var = |name: &&str| ((*name).to_owned(), Var::from_vec(vec![value; length], length, &Device::Cpu).unwrap());
        StableAdamW::new(names.iter().map(var).collect(), OptimizerSettings::default()).unwrap()
    }

    #[test]
    fn later_steps_do_not_change_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let optimizer_then = optimizer(&["a"], 2, 1.0);
        let snapshot = Snapshot::of(&optimizer_then).unwrap();
        optimizer_then.parameters[0].1.set(&Tensor::new(&[5f32, 5.0], &Device::Cpu).unwrap()).unwrap();
        snapshot.write(&path, &()).unwrap();
        let mut restored = optimizer(&["a"], 2, 9.0);
        restore(&path, &mut restored, 0).unwrap();
        assert_eq!(restored.parameters[0].1.to_vec1::<f32>().unwrap(), [1.0; 2]);
    }

    #[test]
    fn what_does_not_fit_the_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let refused = |saved: &StableAdamW, present: &mut StableAdamW| {
            save(&path, saved, &()).unwrap();
            restore(&path, present, 0).unwrap_err().to_string()
        };
        let mut present = optimizer(&["a", "b"], 3, 1.0);
        save(&path, &optimizer(&["a", "b"], 3, 2.0), &()).unwrap();
        restore(&path, &mut present, 0).unwrap();
        assert_eq!(present.parameters[1].1.to_vec1::<f32>().unwrap(), [2.0; 3]);
        let error = refused(&optimizer(&["a", "c"], 3, 1.0), &mut present);
        assert!(error.contains("parameter/b is missing"), "{error}");
        let error = refused(&optimizer(&["a", "b"], 4, 1.0), &mut present);
        assert!(error.contains("parameter/a has shape [4], expected [3]"), "{error}");
        let error = refused(&optimizer(&["a", "b"], 3, f32::NAN), &mut present);
        assert!(error.contains("parameter/a has a value that is not finite"), "{error}");
        let error = refused(&optimizer(&["a"], 3, 1.0), &mut present);
        assert!(error.contains("contradicts itself"), "{error}");
        let mut later = optimizer(&["a", "b"], 3, 1.0);
        later.parameters[0].2.steps = 9;
        let error = refused(&later, &mut present);
        assert!(error.contains("contradicts itself"), "{error}");

        save(&path, &present, &()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for (damage, found) in [(&bytes[..40], "is damaged"), (&b"no checkpoint at all"[..], "is damaged")] {
            fs::write(&path, damage).unwrap();
            let error = read::<()>(&path).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("format_version\\\":1"));
        let other = bytes.windows(18).position(|w| w == b"format_version\\\":1").unwrap();
        let mut newer = bytes.clone();
        newer[other + 17] = b'7';
        fs::write(&path, newer).unwrap();
        let error = read::<()>(&path).unwrap_err().to_string();
        assert!(error.contains("format version 7"), "{error}");
    }
}
