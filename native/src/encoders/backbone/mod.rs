//! Reads encoders of other projects and our own, and gives their tensors our names.
//!
//! Supported files: the original files of DINO, DINOv2, DINOv3, iBOT, MoCo v3, MAE, DeiT, BEiT v2 and D-iGPT (`.pth`, encoder or
//! training state), the same encoders from Hugging Face and timm, the encoder inside an official Dinomaly checkpoint, and files of
//! [`write()`]; also folders of Hugging Face, and checkpoints in shards. The content tells the format, and the tensors tell the naming. `.pth` files are pickled programs: they are parsed,
//! never run.

mod beside;
mod folder;
mod naming;
mod pth;
mod timm;
mod told;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::EncoderConfig;
use dinomaly_core::model::positions::rotary;
use dinomaly_core::tensor::named::{Shapes, Weights, check_finite};
use dinomaly_core::tensor::safetensors_io::{self, Reader};
use dinomaly_core::tensor::{Data, HostTensor};
use half::f16;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub(crate) use folder::files;
pub use naming::{Fold, Source, Step, TensorPlan, plan};
pub use told::{Origin, Told};

use beside::Beside;

use crate::system::atomic;

/// Key in the safetensors `__metadata__` of our own encoder files for their description.
const METADATA: &str = "dinomaly_encoder";

/// Per-channel mean of ImageNet, for DINO, DINOv2 and DeiT.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Per-channel standard deviation of ImageNet.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A frozen encoder before it becomes part of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Backbone {
    /// Config of the encoder.
    pub config: EncoderConfig,
    /// Tensors `encoder.…`, of all blocks in the file.
    pub weights: Weights,
    /// Per-channel mean for normalisation: ImageNet's, unless the file has another.
    pub mean: [f32; 3],
    /// Per-channel standard deviation for normalisation, likewise.
    pub std: [f32; 3],
}

/// Description in our own encoder files.
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

    /// Plain data that was saved beside the tensors under this key.
    fn settings(&self, _key: &str) -> Option<&Json> {
        None
    }
}

impl Checkpoint for Reader<'_> {
    fn shapes(&self) -> Shapes {
        Reader::shapes(self)
    }

    fn tensor(&mut self, name: &str) -> Result<HostTensor> {
        Ok(Reader::tensor(self, name)?)
    }
}

/// Reads an encoder. What is not `told` is taken from the file, those beside it, or what is known of published encoders of its name or
/// shape.
///
/// # Errors
/// If a tensor is missing, unknown, of another shape or not finite; if the encoder computes what is not supported, or nothing tells its
/// number of heads. The error names file and tensor.
pub fn read(path: &Path, told: impl Into<Told>) -> Result<Backbone> {
    read_any(path, told.into()).with_context(|| format!("backbone {} cannot be used", path.display()))
}

/// Reads an encoder from the bytes of a safetensors file of this name.
///
/// # Errors
/// If a tensor is missing, unknown, of another shape or not finite; the error names it.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Backbone> {
    with_bytes(file, bytes, |checkpoint, name, description| import(checkpoint, name, Told::default(), description))
}

/// Writes an encoder as one safetensors file with its description. Equal encoders give equal bytes.
///
/// # Errors
/// If the file cannot be written, or a tensor is not finite; the error names file or tensor.
pub fn write(path: &Path, backbone: &Backbone) -> Result<()> {
    let Backbone { config, weights, mean, std } = backbone;
    let description = Description { config: config.clone(), mean: *mean, std: *std };
    let bytes = safetensors_io::write(weights, Some((METADATA, &serde_json::to_string(&description)?)))?;
    atomic::write_file(path, &bytes)
}

/// Number of heads of timm's model of this name, where its width does not tell it.
///
/// # Errors
/// If timm's model computes what is not supported.
pub(crate) fn heads_by_name(name: &str) -> Result<Option<usize>> {
    timm::refuse_unsupported(name)?;
    Ok(timm::find(name).and_then(|known| known.heads))
}

fn read_any(path: &Path, told: Told) -> Result<Backbone> {
    let mut beside = Beside::of(files(path)?.first().map_or(path, PathBuf::as_path))?;
    with_checkpoint(path, |checkpoint, name, description| {
        if description.is_some() {
            return import(checkpoint, name, told, description);
        }
        beside.or_timm(name)?;
        let told = Told { heads: told.heads.or(beside.heads), origin: told.origin.or(beside.origin) };
        let mut backbone = import(checkpoint, name, told, None)?;
        beside.apply(&mut backbone)?;
        Ok(backbone)
    })
}

/// Opens a file of tensors in any supported format. `then` gets it with its name and description.
pub(crate) fn with_checkpoint<T>(
    path: &Path,
    then: impl FnOnce(&mut dyn Checkpoint, &str, Option<Description>) -> Result<T>,
) -> Result<T> {
    let files = files(path)?;
    if let [file] = &files[..] {
        if pth::is_checkpoint(file)? {
            return then(&mut pth::Pth::open(file)?, &stem(path), None);
        }
        return with_bytes(&file.file_name().unwrap_or_default().to_string_lossy(), &fs::read(file)?, then);
    }
    let read = |file: &PathBuf| -> Result<(String, Vec<u8>)> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(file).with_context(|| format!("its shard {name} cannot be read"))?;
        Ok((name, bytes))
    };
    let shards = files.iter().map(read).collect::<Result<Vec<_>>>()?;
    then(&mut folder::Shards::new(&shards)?, &stem(path), None)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// As [`with_checkpoint`], from the bytes of a safetensors file.
fn with_bytes<T>(
    file: &str,
    bytes: &[u8],
    then: impl FnOnce(&mut dyn Checkpoint, &str, Option<Description>) -> Result<T>,
) -> Result<T> {
    if bytes.starts_with(b"version https://git-lfs") {
        bail!("it is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`");
    }
    let mut reader = Reader::new(file, bytes)?;
    let description = reader.metadata(METADATA).map(serde_json::from_str::<Description>).transpose();
    let description = description.with_context(|| format!("its {METADATA} metadata is not understood"))?;
    if let Some(std) = description.iter().flat_map(|d| d.std).find(|std| !(*std > 0.0 && std.is_finite())) {
        bail!("its {METADATA} metadata has the standard deviation {std}, which must be positive");
    }
    let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    then(&mut reader, &name, description)
}

/// Rounded values as f16, so that a model made from them can be rounded again, with the inputs of its own photos.
fn widened(tensor: HostTensor) -> HostTensor {
    if !matches!(tensor.data, Data::Int8 { .. } | Data::Int4 { .. }) {
        return tensor;
    }
    let values = tensor.to_f32().iter().map(|&value| f16::from_f32(value)).collect();
    HostTensor { shape: tensor.shape, data: Data::F16(values) }
}

/// Makes an encoder from a checkpoint's tensors; `told` as for [`read`].
pub(crate) fn import(
    checkpoint: &mut dyn Checkpoint,
    name: &str,
    told: Told,
    description: Option<Description>,
) -> Result<Backbone> {
    let plan = plan(&checkpoint.shapes(), name, told, description.as_ref().map(|d| &d.config))?;
    for adapter in &plan.adapters {
        if checkpoint.tensor(adapter)?.to_f32().iter().any(|&value| value != 0.0) {
            bail!("it has LoRA adapters ({adapter}): merge them first with merge_and_unload()");
        }
    }
    let mut weights = BTreeMap::new();
    for step in plan.steps {
        let tensor = assemble(checkpoint, &step)?;
        weights.insert(step.name, widened(tensor));
    }
    let (mean, std) = description.map_or((IMAGENET_MEAN, IMAGENET_STD), |d| (d.mean, d.std));
    Ok(Backbone { config: plan.config, weights: Weights(weights), mean, std })
}

/// Makes one of our tensors from the file's tensors.
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
