//! Dinomaly checkpoints of other projects → a model: `.pth` state dicts of the official implementation, and anomalib's.
//!
//! anomalib's model differs in two points: its MLPs have no biases (zeros here, which is equivalent), and blurring mirrors its maps
//! at the border.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use dinomaly_core::Error;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::head_shapes;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::{Weights, check_finite, unexpected};

use crate::encoders::anomalib::Saved;
use crate::encoders::backbone::{self, Checkpoint, Told};

/// A tensor that only Dinomaly checkpoints have, and the prefix of their names.
const FIRST: &str = "bottleneck.0.fc1.weight";

/// The same of Dinomaly2.
const FIRST_OF_2: &str = "bottleneck.0.0.weight";

/// A model without thresholds.
#[derive(Debug)]
pub struct Imported {
    /// Config of the model.
    pub config: ModelConfig,
    /// Weights of head and encoder, as far as the head needs it.
    pub weights: Weights,
    /// Per-channel mean for normalisation.
    pub mean: [f32; 3],
    /// Per-channel standard deviation for normalisation.
    pub std: [f32; 3],
    /// What the checkpoint says beside its tensors.
    pub saved: Saved,
}

/// Reads a checkpoint. Its tensors do not tell target layers, groups or the kind of attention: `configure` makes the model's config
/// from the encoder's and from what anomalib says beside them. What is not `told` of the encoder is known as in [`backbone::read`].
///
/// # Errors
/// If a tensor is missing, unknown, of another shape or not finite, or what is said beside them is not supported; the error names file
/// and tensor.
pub fn read(
    path: &Path,
    told: impl Into<Told>,
    configure: impl FnOnce(EncoderConfig, &Saved) -> Result<ModelConfig>,
) -> Result<Imported> {
    let told = told.into();
    backbone::with_checkpoint(path, |checkpoint, name, description| {
        let shapes = checkpoint.shapes();
        let prefix = shapes.keys().find_map(|name| name.strip_suffix(FIRST).or_else(|| name.strip_suffix(FIRST_OF_2)));
        let prefix = prefix
            .with_context(|| format!("it has no {FIRST}: to use an encoder, give it to `dinomaly train --backbone`"))?;
        let has = |name: &str| shapes.contains_key(&format!("{prefix}{name}"));
        let anomalib = has(FIRST) && !has("bottleneck.0.fc1.bias");
        let saved = if anomalib { Saved::of(checkpoint)? } else { Saved::default() };
        let name = saved.encoder_name().unwrap_or(name);
        let known = backbone::heads_by_name(name)?;
        let told = Told { heads: told.heads.or(known), origin: told.origin.or(saved.origin()) };
        let encoder = backbone::import(checkpoint, name, told, description)?;
        let mut config = configure(encoder.config, &saved)?;
        if anomalib {
            config.map_border = MapBorder::Reflect;
        }
        let mut weights = encoder.weights;
        weights.prune(config.taps());
        weights.0.extend(head(checkpoint, prefix, &config, anomalib)?);
        let (mean, std) = saved.pixels.map_or((encoder.mean, encoder.std), |pixels| (pixels.mean, pixels.std));
        Ok(Imported { config, weights, mean, std, saved })
    })
    .with_context(|| format!("checkpoint {} cannot be imported", path.display()))
}

/// Weights of bottleneck and decoder, whose names are ours after the prefix.
fn head(
    checkpoint: &mut dyn Checkpoint,
    prefix: &str,
    config: &ModelConfig,
    without_biases: bool,
) -> Result<BTreeMap<String, HostTensor>> {
    let shapes = checkpoint.shapes();
    let expected = head_shapes(config)?;
    let left_over = |name: &&String| {
        let ours = name.strip_prefix(prefix).filter(|n| n.starts_with("bottleneck.") || n.starts_with("decoder."));
        ours.is_some_and(|ours| !expected.contains_key(ours))
    };
    if let Some(name) = shapes.keys().find(left_over) {
        return Err(unexpected(name)).context("the checkpoint is of another variant: give the options of that variant");
    }
    let mut tensors = BTreeMap::new();
    for (ours, shape) in expected {
        let name = format!("{prefix}{ours}");
        let tensor = match shapes.get(&name) {
            None if without_biases && ours.ends_with(".bias") && ours.contains(".fc") => {
                HostTensor::f32(shape.clone(), vec![0.0; shape.iter().product()])?
            }
            None => return Err(Error::MissingTensor { name, found: shapes.len() }.into()),
            Some(found) if *found != shape => {
                return Err(Error::Shape { name, expected: shape, found: found.clone() }.into());
            }
            Some(_) => checkpoint.tensor(&name)?,
        };
        check_finite(&name, &tensor)?;
        tensors.insert(ours, tensor);
    }
    Ok(tensors)
}
