//! Whole Dinomaly checkpoints of other projects → our model: the official implementation's `.pth` state dicts, and anomalib's.
//!
//! anomalib's model differs: its MLPs have no biases (zeros here, which is the same), and its maps are mirrored at their
//! border when they are blurred.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use dinomaly_core::Error;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::head_shapes;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::{Weights, check_finite, unexpected};

use crate::encoders::backbone::{self, Checkpoint};

/// The tensor that tells a Dinomaly checkpoint from an encoder's, and what stands before its names.
const FIRST: &str = "bottleneck.0.fc1.weight";

/// A model without thresholds.
#[derive(Debug)]
pub struct Imported {
    /// Its shape.
    pub config: ModelConfig,
    /// Encoder and head.
    pub weights: Weights,
    /// Mean colour that its photos are normalised with.
    pub mean: [f32; 3],
    /// Standard deviation, likewise.
    pub std: [f32; 3],
}

/// Reads a checkpoint. Names and shapes do not tell target layers, groups or the kind of attention: `configure` makes the
/// model's shape of the encoder's. `heads` is needed where it is not width / 64.
///
/// # Errors
/// Naming the file, and the tensor that is missing, misshapen, one too many or not a number.
pub fn read(
    path: &Path,
    heads: Option<usize>,
    configure: impl FnOnce(EncoderConfig) -> Result<ModelConfig>,
) -> Result<Imported> {
    backbone::with_checkpoint(path, |checkpoint, name, description| {
        let shapes = checkpoint.shapes();
        let prefix = shapes.keys().find_map(|name| name.strip_suffix(FIRST));
        let prefix = prefix.with_context(|| {
            format!("it holds no {FIRST}: a backbone is used with `dinomaly train --backbone`, not imported")
        })?;
        let encoder = backbone::import(checkpoint, name, heads, description)?;
        let mut config = configure(encoder.config)?;
        let anomalib = !shapes.contains_key(&format!("{prefix}bottleneck.0.fc1.bias"));
        if anomalib {
            config.map_border = MapBorder::Reflect;
        }
        let mut weights = encoder.weights;
        weights.0.extend(head(checkpoint, prefix, &config, anomalib)?);
        Ok(Imported { config, weights, mean: encoder.mean, std: encoder.std })
    })
    .with_context(|| format!("checkpoint {} cannot be imported", path.display()))
}

/// Bottleneck and decoder, whose names are ours behind the prefix.
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
        return Err(unexpected(name)).context("the checkpoint is of another variant: describe it with options");
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
