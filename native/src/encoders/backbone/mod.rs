//! Encoders of other projects, and our own, under our names.
//!
//! Read are: the original files of DINO, DINOv2, DINOv3, iBOT, MoCo v3, MAE, DeiT, BEiT v2 and D-iGPT (`.pth`, encoder alone
//! or whole training state), Hugging Face's and timm's of the same, the encoder inside an official Dinomaly checkpoint, and
//! what [`write`] wrote. The format is told from the content, the naming from the tensors. `.pth` files are pickled
//! programs: they are parsed, never run.

mod naming;
mod pth;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::EncoderConfig;
use dinomaly_core::model::positions::rotary;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::{Shapes, Weights, check_finite};
use dinomaly_core::tensor::safetensors_io::{self, Reader};
use serde::{Deserialize, Serialize};

pub use naming::{Fold, ImportPlan, Source, Step, plan};

use crate::system::atomic;

/// Key of the safetensors `__metadata__` under which our own encoder files describe themselves.
const METADATA: &str = "dinomaly_encoder";

/// How the checkpoints begin that PyTorch wrote before its zip format.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9";

/// Mean of ImageNet's colours, which DINO, DINOv2 and DeiT were trained with.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's colours.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A frozen encoder before it becomes part of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Backbone {
    /// Its shape.
    pub config: EncoderConfig,
    /// Tensors `encoder.…`, of every block that the file holds.
    pub weights: Weights,
    /// Mean colour that its photos are normalised with: ImageNet's, unless the file says otherwise.
    pub mean: [f32; 3],
    /// Standard deviation, likewise.
    pub std: [f32; 3],
}

/// What our own encoder files say about themselves.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    config: EncoderConfig,
    mean: [f32; 3],
    std: [f32; 3],
}

/// A file of named tensors.
pub(crate) trait Checkpoint {
    fn shapes(&self) -> Shapes;
    fn tensor(&mut self, name: &str) -> Result<HostTensor>;
}

impl Checkpoint for Reader<'_> {
    fn shapes(&self) -> Shapes {
        Reader::shapes(self)
    }

    fn tensor(&mut self, name: &str) -> Result<HostTensor> {
        Ok(Reader::tensor(self, name)?)
    }
}

/// Reads an encoder. `heads` is needed where it is not width / 64 and the file does not say it.
///
/// # Errors
/// Naming the file, and the tensor that is missing, misshapen, not understood or not a number.
pub fn read(path: &Path, heads: Option<usize>) -> Result<Backbone> {
    read_any(path, heads).with_context(|| format!("backbone {} cannot be used", path.display()))
}

/// Reads an encoder from the bytes of a safetensors file of this name.
///
/// # Errors
/// Naming the tensor that is missing, misshapen, not understood or not a number.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Backbone> {
    with_bytes(file, bytes, |checkpoint, name, description| import(checkpoint, name, None, description))
}

/// Writes an encoder as one safetensors file that describes itself; equal encoders give equal bytes.
///
/// # Errors
/// Naming the file if it cannot be written, or the tensor that is not a number.
pub fn write(path: &Path, backbone: &Backbone) -> Result<()> {
    let Backbone { config, weights, mean, std } = backbone;
    let description = Description { config: config.clone(), mean: *mean, std: *std };
    let bytes = safetensors_io::write(weights, Some((METADATA, &serde_json::to_string(&description)?)))?;
    atomic::write_file(path, &bytes)
}

fn read_any(path: &Path, heads: Option<usize>) -> Result<Backbone> {
    with_checkpoint(path, |checkpoint, name, description| import(checkpoint, name, heads, description))
}

/// Opens a file of tensors in any format that is read; `then` gets it with its name and what it says about itself.
pub(crate) fn with_checkpoint<T>(
    path: &Path,
    then: impl FnOnce(&mut dyn Checkpoint, &str, Option<Description>) -> Result<T>,
) -> Result<T> {
    if pth::is_archive(path)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        return then(&mut pth::Pth::open(path)?, &name, None);
    }
    with_bytes(&path.file_name().unwrap_or_default().to_string_lossy(), &fs::read(path)?, then)
}

/// The same of the bytes of a safetensors file.
fn with_bytes<T>(
    file: &str,
    bytes: &[u8],
    then: impl FnOnce(&mut dyn Checkpoint, &str, Option<Description>) -> Result<T>,
) -> Result<T> {
    if bytes.starts_with(b"version https://git-lfs") {
        bail!("it is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`");
    }
    if bytes.starts_with(LEGACY) {
        bail!("it was saved by PyTorch before 1.6: load and save it once with a newer PyTorch");
    }
    let mut reader = Reader::new(file, bytes)?;
    let description = reader.metadata(METADATA).map(serde_json::from_str::<Description>).transpose();
    let description = description.with_context(|| format!("its {METADATA} metadata is not understood"))?;
    if let Some(std) = description.iter().flat_map(|d| d.std).find(|std| !(*std > 0.0 && std.is_finite())) {
        bail!("its {METADATA} metadata asks to divide by {std}");
    }
    let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    then(&mut reader, &name, description)
}

/// Makes an encoder of a checkpoint's tensors; `heads` and `description` as for [`read`].
pub(crate) fn import(
    checkpoint: &mut dyn Checkpoint,
    name: &str,
    heads: Option<usize>,
    description: Option<Description>,
) -> Result<Backbone> {
    let plan = plan(&checkpoint.shapes(), name, heads, description.as_ref().map(|d| &d.config))?;
    let mut weights = BTreeMap::new();
    for step in plan.steps {
        let tensor = assemble(checkpoint, &step)?;
        weights.insert(step.name, tensor);
    }
    let (mean, std) = description.map_or((IMAGENET_MEAN, IMAGENET_STD), |d| (d.mean, d.std));
    Ok(Backbone { config: plan.config, weights: Weights(weights), mean, std })
}

/// Makes one of our tensors from the file's.
fn assemble(checkpoint: &mut dyn Checkpoint, step: &Step) -> Result<HostTensor> {
    let mut load = |name: &str| -> Result<HostTensor> {
        let tensor = checkpoint.tensor(name)?;
        check_finite(name, &tensor)?;
        Ok(tensor)
    };
    let mut part = |source: &Source| match source {
        Source::Tensor(name) => load(name),
        Source::Zeros(shape) => Ok(HostTensor::f32(shape.clone(), vec![0.0; shape.iter().product()])?),
        Source::Periods(count) => Ok(HostTensor::f32([*count], rotary::periods(*count))?),
    };
    let mut parts = step.sources.iter().map(&mut part).collect::<Result<Vec<_>>>()?;
    let mut tensor = match parts.len() {
        1 => parts.remove(0),
        _ => stack(&parts)?,
    };
    match &step.fold {
        Fold::Nothing => {}
        Fold::LayerScale(gamma) => {
            let gamma = load(gamma)?;
            let mut values = tensor.to_f32().into_owned();
            let row = values.len() / gamma.len();
            for (row, gamma) in values.chunks_exact_mut(row).zip(gamma.to_f32().iter()) {
                row.iter_mut().for_each(|value| *value *= gamma);
            }
            tensor = HostTensor::f32(tensor.shape, values)?;
        }
        Fold::NoKeyBias => {
            let mut values = tensor.to_f32().into_owned();
            let third = values.len() / 3;
            values[third..2 * third].fill(0.0);
            tensor = HostTensor::f32(tensor.shape, values)?;
        }
        Fold::NoClassPosition => {
            let (rows, width) = (tensor.shape[1], tensor.shape[2]);
            let values = [&vec![0.0; width], tensor.to_f32().as_ref()].concat();
            tensor = HostTensor::f32([1, rows + 1, width], values)?;
        }
    }
    Ok(tensor)
}

/// Joins tensors along their first dimension.
fn stack(parts: &[HostTensor]) -> Result<HostTensor> {
    let mut shape = parts[0].shape.clone();
    shape[0] = parts.iter().map(|part| part.shape[0]).sum();
    Ok(HostTensor::f32(shape, parts.iter().flat_map(|part| part.to_f32().into_owned()).collect())?)
}
