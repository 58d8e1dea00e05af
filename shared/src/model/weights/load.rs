//! Stored tensors → a model on an executor, and the shapes that it needs.

use std::collections::BTreeMap;

use super::derived::{Derived, record_encoder};
use crate::Result;
use crate::model::config::{DecoderConfig, EncoderConfig, ModelConfig};
use crate::model::dinomaly::{Dinomaly, Encoder, Head};
use crate::ops::Ops;
use crate::tensor::HostTensor;
use crate::tensor::named::{Shapes, Weights, is_linear_weight};

/// Shapes of the stored tensors of an encoder's first `blocks` blocks, by name.
///
/// # Errors
/// None at present. The shapes come from [`Encoder::load`] itself, so that names cannot drift.
pub fn encoder_shapes(encoder: &EncoderConfig, blocks: usize) -> Result<Shapes> {
    let decoder = DecoderConfig::published(encoder, 0);
    let config =
        ModelConfig { target_layers: (0..blocks).collect(), ..ModelConfig::with_decoder(encoder.clone(), decoder) };
    let mut shapes = Shapes::new();
    Encoder::<()>::load(&config, 1, &mut |name, shape| {
        record_encoder(&mut shapes, encoder, name, shape);
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

/// Shapes of a published model's tensors, by name: the encoder up to the last target layer, and the head.
///
/// # Errors
/// As [`encoder_shapes`].
pub fn model_shapes(config: &ModelConfig) -> Result<Shapes> {
    let mut shapes = encoder_shapes(&config.encoder, config.encoder_blocks_run())?;
    shapes.extend(head_shapes(config)?);
    Ok(shapes)
}

impl Weights {
    /// Removes the encoder blocks after the last target layer, which are never run and never published.
    pub fn prune(&mut self, config: &ModelConfig) {
        let run = config.encoder_blocks_run();
        self.0.retain(|name, _| encoder_block(name).is_none_or(|block| block < run));
    }

    /// Builds the encoder for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// [`crate::Error::MissingTensor`] or [`crate::Error::Shape`]; as [`Ops`].
    pub fn encoder<O: Ops>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Encoder<O::Tensor>> {
        let derived = self.derive(config, grid)?;
        Encoder::load(config, grid, &mut |name, shape| self.upload(ops, &derived, name, shape))
    }

    /// Tensors of [`Encoder::load`] for an input of `grid × grid` patches, by its names: initial values for training an encoder.
    ///
    /// # Errors
    /// [`crate::Error::MissingTensor`] or [`crate::Error::Shape`].
    pub fn encoder_values(&self, config: &ModelConfig, grid: usize) -> Result<BTreeMap<String, HostTensor>> {
        let derived = self.derive(config, grid)?;
        let mut values = BTreeMap::new();
        Encoder::<()>::load(config, grid, &mut |name, shape| {
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

    /// Builds the whole detector for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn dinomaly<O: Ops>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Dinomaly<O::Tensor>> {
        let derived = self.derive(config, grid)?;
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

/// Uploads a tensor, the weight of a linear layer by [`Ops::upload_weight`].
pub(crate) fn place<O: Ops>(ops: &O, name: &str, tensor: &HostTensor) -> Result<O::Tensor> {
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
        let weights = model_shapes(&config)
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
        let expected = model_shapes(&config).unwrap();
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
        weights.prune(&config);
        assert_eq!(weights, published);
    }
}
