//! Stored tensors → a model on an executor, and the shapes that it needs.

use std::collections::BTreeMap;

use super::derived::{Derived, record_encoder};
use crate::Result;
use crate::model::config::{Architecture, EncoderConfig, ModelConfig, Taps};
use crate::model::dinomaly::{Dinomaly, Head};
use crate::model::encoder::Encoder;
use crate::model::memory::{Memory, is_placed_rows};
use crate::model::network::Network;
use crate::ops::Ops;
use crate::tensor::HostTensor;
use crate::tensor::named::{Shapes, Weights, is_linear_weight};

/// Beginning of the names of the encoder's final norm.
const FINAL_NORM: &str = "encoder.norm.";

/// Shapes of the stored tensors of an encoder's first `blocks` blocks, by name.
///
/// # Errors
/// None at present. The shapes come from [`Encoder::load`] itself, so that names cannot drift.
pub fn encoder_shapes(encoder: &EncoderConfig, blocks: usize) -> Result<Shapes> {
    let layers: Vec<usize> = (0..blocks).collect();
    tapped_shapes(Taps { encoder, layers: &layers, final_norm: false })
}

/// Shapes of the stored tensors of an encoder up to the last layer that a head takes, by name.
fn tapped_shapes(taps: Taps<'_>) -> Result<Shapes> {
    let mut shapes = Shapes::new();
    Encoder::<()>::load(taps, 1, &mut |name, shape| {
        record_encoder(&mut shapes, taps.encoder, name, shape);
        Ok(())
    })?;
    Ok(shapes)
}

/// Shapes of the tensors of bottleneck and decoder, by name.
///
/// # Errors
/// As [`encoder_shapes`].
pub fn head_shapes(config: &ModelConfig) -> Result<Shapes> {
    let mut shapes = Shapes::new();
    Head::<()>::load(config, &mut |name, shape| {
        shapes.insert(name.into(), shape.into());
        Ok(())
    })?;
    Ok(shapes)
}

/// Shapes of a published model's tensors, by name: the encoder as far as its head needs it, and the head.
///
/// # Errors
/// As [`encoder_shapes`].
pub fn model_shapes(architecture: &Architecture) -> Result<Shapes> {
    let mut shapes = tapped_shapes(architecture.taps())?;
    match architecture {
        Architecture::Dinomaly(config) => shapes.extend(head_shapes(config)?),
        Architecture::Memory(config) => {
            Memory::<()>::load(config, &mut |name, shape| {
                shapes.insert(name.into(), shape.into());
                Ok(())
            })?;
        }
    }
    Ok(shapes)
}

impl Weights {
    /// Removes what a head does not need of the encoder, which is never run and never published: blocks after the last target
    /// layer, and the final norm.
    pub fn prune(&mut self, taps: Taps<'_>) {
        let run = taps.blocks_run();
        self.0.retain(|name, _| match encoder_block(name) {
            Some(block) => block < run,
            None => taps.final_norm || !name.starts_with(FINAL_NORM),
        });
    }

    /// Whether the encoder's final norm is there.
    pub fn has_final_norm(&self) -> bool {
        self.0.keys().any(|name| name.starts_with(FINAL_NORM))
    }

    /// Builds the encoder for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// [`crate::Error::MissingTensor`] or [`crate::Error::Shape`]; as [`Ops`].
    pub fn encoder<O: Ops>(&self, ops: &O, taps: Taps<'_>, grid: usize) -> Result<Encoder<O::Tensor>> {
        let derived = self.derive(taps, grid)?;
        Encoder::load(taps, grid, &mut |name, shape| self.upload(ops, &derived, name, shape))
    }

    /// Tensors of [`Encoder::load`] for an input of `grid × grid` patches, by its names: initial values for training an encoder.
    ///
    /// # Errors
    /// [`crate::Error::MissingTensor`] or [`crate::Error::Shape`].
    pub fn encoder_values(&self, taps: Taps<'_>, grid: usize) -> Result<BTreeMap<String, HostTensor>> {
        let derived = self.derive(taps, grid)?;
        let mut values = BTreeMap::new();
        Encoder::<()>::load(taps, grid, &mut |name, shape| {
            values.insert(name.to_owned(), self.or_derived(&derived, name, shape)?.clone());
            Ok(())
        })?;
        Ok(values)
    }

    /// Builds the bottleneck and decoder.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn head<O: Ops>(&self, ops: &O, config: &ModelConfig) -> Result<Head<O::Tensor>> {
        Head::load(config, &mut |name, shape| self.upload(ops, &Derived::new(), name, shape))
    }

    /// Builds a detector of any kind for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn network<O: Ops>(&self, ops: &O, architecture: &Architecture, grid: usize) -> Result<Network<O::Tensor>> {
        let derived = self.derive(architecture.taps(), grid)?;
        Network::load(architecture, grid, &mut |name, shape| self.upload(ops, &derived, name, shape))
    }

    /// Builds a Dinomaly detector for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn dinomaly<O: Ops>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Dinomaly<O::Tensor>> {
        let derived = self.derive(config.taps(), grid)?;
        Dinomaly::load(config, grid, &mut |name, shape| self.upload(ops, &derived, name, shape))
    }

    /// Uploads a tensor of encoder or head.
    pub(crate) fn upload<O: Ops>(&self, ops: &O, derived: &Derived, name: &str, shape: &[usize]) -> Result<O::Tensor> {
        place(ops, name, self.or_derived(derived, name, shape)?)
    }

    /// A stored or derived tensor.
    fn or_derived<'a>(&'a self, derived: &'a Derived, name: &str, shape: &[usize]) -> Result<&'a HostTensor> {
        match derived.get(name) {
            Some(tensor) => tensor.expect_shape(name, shape).map(|()| tensor),
            None => self.get(name, shape),
        }
    }
}

/// Uploads a tensor, the weight of a linear layer by [`Ops::upload_weight`], rows at their places by [`Ops::upload_rows`].
pub(crate) fn place<O: Ops>(ops: &O, name: &str, tensor: &HostTensor) -> Result<O::Tensor> {
    if is_placed_rows(name) {
        return ops.upload_rows(tensor);
    }
    let shape = &tensor.shape;
    if shape.len() == 2 && is_linear_weight(name, shape) { ops.upload_weight(tensor) } else { ops.upload(tensor) }
}

/// Index of the encoder block that a tensor belongs to.
fn encoder_block(name: &str) -> Option<usize> {
    name.strip_prefix("encoder.blocks.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::executors::reference::Reference;

    /// A model small enough to be written out, with weights of 0.1 everywhere.
    fn tiny(registers: usize) -> (ModelConfig, Weights) {
        let encoder = EncoderConfig { num_register_tokens: registers, ..EncoderConfig::tiny() };
        let config = ModelConfig::published(encoder).unwrap();
        let weights = model_shapes(&config.clone().into())
            .unwrap()
            .into_iter()
            .map(|(name, shape)| {
                let values = vec![0.1; shape.iter().product()];
                (name, HostTensor::f32(shape, values).unwrap())
            })
            .collect();
        (config, Weights(weights))
    }

    #[test]
    fn the_listed_tensors_are_what_a_model_is_built_from() {
        for registers in [0, 2] {
            let (config, weights) = tiny(registers);
            weights.dinomaly(&Reference, &config, 2).unwrap();
            for name in weights.0.keys() {
                let mut fewer = weights.clone();
                fewer.0.remove(name);
                let error = fewer.dinomaly(&Reference, &config, 2).map(|_| ()).unwrap_err().to_string();
                assert!(error.contains(name.as_str()), "without {name}: {error}");
            }
        }
    }

    #[test]
    fn each_way_of_not_fitting_names_the_tensor() {
        let (config, weights) = tiny(2);
        let expected = model_shapes(&config.clone().into()).unwrap();
        weights.check(&expected).unwrap();
        let name = "decoder.3.mlp.fc1.bias";

        let mut changed = weights.clone();
        changed.0.remove(name);
        assert!(matches!(changed.check(&expected), Err(Error::MissingTensor { name: n, .. }) if n == name));
        changed.0.insert(name.into(), HostTensor::f32([7], vec![0.0; 7]).unwrap());
        assert!(matches!(changed.check(&expected), Err(Error::Shape { name: n, .. }) if n == name));
        let mut changed = weights;
        changed.0.insert("encoder.blocks.11.ls1.gamma".into(), HostTensor::f32([4], vec![0.0; 4]).unwrap());
        let error = changed.check(&expected).unwrap_err().to_string();
        assert!(error.contains("encoder.blocks.11.ls1.gamma"), "{error}");
    }

    #[test]
    fn pruning_leaves_what_the_model_runs() {
        let (config, mut weights) = tiny(0);
        let whole = encoder_shapes(&config.encoder, 12).unwrap();
        let published = weights.clone();
        for (name, shape) in whole {
            weights.0.entry(name).or_insert_with(|| {
                let values = vec![0.0; shape.iter().product()];
                HostTensor::f32(shape, values).unwrap()
            });
        }
        assert_eq!(weights.0.len(), published.0.len() + 2 * 12);
        weights.prune(config.taps());
        assert_eq!(weights, published);
    }
}
