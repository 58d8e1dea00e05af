//! Named tensors of a model, and how they become a model.
//!
//! Names are those of the official state dict: `encoder.cls_token [1, 1, width]`, `encoder.register_tokens [1, r, width]`
//! (absent without registers), `encoder.pos_embed [1, grid² + 1, width]`, `encoder.patch_embed.proj.weight
//! [width, 3, patch, patch]`, `encoder.blocks.i.…` with LayerScale folded in, `bottleneck.0.…`, `decoder.i.…`. In place of the
//! position table: `encoder.rope_embed.periods [head size / 4]` as DINOv3 names it, or in each block
//! `attn.relative_position_bias_table [(2·grid - 1)² + 3, heads]` as BEiT does.

use std::collections::BTreeMap;

use crate::Error;
use crate::Result;
use crate::model::config::{DecoderConfig, EncoderConfig, ModelConfig};
use crate::model::dinomaly::{Dinomaly, Encoder, Head};
use crate::model::weights::derived::{Prepared, record_encoder};
use crate::ops::Ops;
use crate::quant::is_linear_weight;
use crate::tensor::{Data, HostTensor};

/// Shapes of tensors by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// What an encoder's first `blocks` blocks are made of, under the names of this module.
///
/// # Errors
/// None at present: it is [`Encoder::load`] that is asked, so that the names cannot drift.
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

/// What the bottleneck and decoder are made of.
///
/// # Errors
/// None at present, as [`encoder_shapes`].
pub fn head_shapes(config: &ModelConfig) -> Result<Shapes> {
    let mut shapes = Shapes::new();
    Head::<()>::load(config, &mut |name, shape| {
        shapes.insert(name.into(), shape.into());
        Ok(())
    })?;
    Ok(shapes)
}

/// What a published model is made of: the encoder up to the last target layer, and the head.
///
/// # Errors
/// None at present, as [`encoder_shapes`].
pub fn model_shapes(config: &ModelConfig) -> Result<Shapes> {
    let mut shapes = encoder_shapes(&config.encoder, config.encoder_blocks_run())?;
    shapes.extend(head_shapes(config)?);
    Ok(shapes)
}

/// Tensors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(pub BTreeMap<String, HostTensor>);

impl Weights {
    /// Number of values, without the scales of quantized tensors.
    pub fn parameters(&self) -> usize {
        self.0.values().map(HostTensor::len).sum()
    }

    /// Drops the encoder blocks after the last target layer: they are never run and never published.
    pub fn prune(&mut self, config: &ModelConfig) {
        let run = config.encoder_blocks_run();
        self.0.retain(|name, _| encoder_block(name).is_none_or(|block| block < run));
    }

    /// Checks that these are exactly the tensors of `expected`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], or [`Error::Tensor`] for one too many, each by name.
    pub fn check(&self, expected: &Shapes) -> Result<()> {
        for (name, shape) in expected {
            self.get(name, shape)?;
        }
        match self.0.keys().find(|&name| !expected.contains_key(name)) {
            Some(name) => Err(unexpected(name)),
            None => Ok(()),
        }
    }

    /// Checks that every value is a finite number, and every scale of a quantized tensor a positive one.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming the tensor and the index of the first that is not.
    pub fn check_finite(&self) -> Result<()> {
        self.0.iter().try_for_each(|(name, tensor)| check_finite(name, tensor))
    }

    /// The tensor of this name and shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], or [`Error::Shape`] if it has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&HostTensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::MissingTensor { name: name.into(), found: self.0.len() })?;
        tensor.expect_shape(name, shape)?;
        Ok(tensor)
    }

    /// Builds the encoder for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name, or the executor's refusal.
    pub fn encoder<O: Ops>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Encoder<O::Tensor>> {
        let prepared = self.prepare(config, grid)?;
        Encoder::load(config, grid, &mut |name, shape| self.upload(ops, &prepared, name, shape))
    }

    /// The tensors that [`Encoder::load`] asks for, by its names, for an input of `grid × grid` patches: what an encoder's
    /// training goes on from.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name.
    pub fn encoder_values(&self, config: &ModelConfig, grid: usize) -> Result<BTreeMap<String, HostTensor>> {
        let prepared = self.prepare(config, grid)?;
        let mut values = BTreeMap::new();
        Encoder::<()>::load(config, grid, &mut |name, shape| {
            values.insert(name.to_owned(), self.or_prepared(&prepared, name, shape)?.clone());
            Ok(())
        })?;
        Ok(values)
    }

    /// Builds the bottleneck and decoder.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn head<O: Ops>(&self, ops: &O, config: &ModelConfig) -> Result<Head<O::Tensor>> {
        Head::load(config, &mut |name, shape| self.upload(ops, &Prepared::new(), name, shape))
    }

    /// Builds the whole detector for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn dinomaly<O: Ops>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Dinomaly<O::Tensor>> {
        let prepared = self.prepare(config, grid)?;
        Dinomaly::load(config, grid, &mut |name, shape| self.upload(ops, &prepared, name, shape))
    }

    /// Takes a tensor that an encoder or head asks for to the executor.
    pub(crate) fn upload<O: Ops>(
        &self,
        ops: &O,
        prepared: &Prepared,
        name: &str,
        shape: &[usize],
    ) -> Result<O::Tensor> {
        place(ops, name, self.or_prepared(prepared, name, shape)?)
    }

    /// A stored tensor, or what was made from stored ones.
    fn or_prepared<'a>(&'a self, prepared: &'a Prepared, name: &str, shape: &[usize]) -> Result<&'a HostTensor> {
        match prepared.get(name) {
            Some(tensor) => tensor.expect_shape(name, shape).map(|()| tensor),
            None => self.get(name, shape),
        }
    }
}

/// Takes a tensor to an executor, the weight of a linear layer as such.
pub(crate) fn place<O: Ops>(ops: &O, name: &str, tensor: &HostTensor) -> Result<O::Tensor> {
    let shape = &tensor.shape;
    if shape.len() == 2 && is_linear_weight(name, shape) { ops.upload_weight(tensor) } else { ops.upload(tensor) }
}

/// The refusal of a tensor that a model has no place for.
pub fn unexpected(name: &str) -> Error {
    Error::Tensor { name: name.into(), reason: "the model has no such tensor: it is of another kind or version".into() }
}

/// The number of the encoder block that a tensor belongs to.
fn encoder_block(name: &str) -> Option<usize> {
    name.strip_prefix("encoder.blocks.")?.split('.').next()?.parse().ok()
}

/// [`Weights::check_finite`] for one tensor.
///
/// # Errors
/// [`Error::Tensor`] naming it and the index of the first value that is no finite number.
pub fn check_finite(name: &str, tensor: &HostTensor) -> Result<()> {
    let bad = match &tensor.data {
        Data::F32(values) => values.iter().position(|v| !v.is_finite()).map(|i| (i, values[i])),
        Data::F16(values) => values.iter().position(|v| !v.is_finite()).map(|i| (i, values[i].to_f32())),
        Data::Int8 { scales, .. } => return check_scales(name, scales.iter().copied()),
        Data::Int4 { scales, .. } => return check_scales(name, scales.iter().map(|s| s.to_f32())),
    };
    match bad {
        None => Ok(()),
        Some((flat, value)) => Err(Error::Tensor {
            name: name.into(),
            reason: format!("the value at {:?} is {value}, not a finite number", index(flat, &tensor.shape)),
        }),
    }
}

fn check_scales(name: &str, scales: impl Iterator<Item = f32>) -> Result<()> {
    let Some((i, scale)) = scales.enumerate().find(|(_, scale)| !(scale.is_finite() && *scale > 0.0)) else {
        return Ok(());
    };
    Err(Error::Tensor { name: name.into(), reason: format!("scale {i} is {scale}, it must be positive and finite") })
}

/// Row-major position → index along each dimension.
pub(crate) fn index(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let i = flat % extent;
            flat /= extent;
            i
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::executors::reference::Reference;

    /// A model small enough to be written out, with weights of 0.1 everywhere.
    fn tiny(registers: usize) -> (ModelConfig, Weights) {
        let encoder = EncoderConfig {
            name: "tiny".into(),
            hidden_size: 4,
            num_attention_heads: 2,
            num_hidden_layers: 12,
            intermediate_size: 8,
            patch_size: 2,
            num_register_tokens: registers,
            position_grid: 3,
            layer_norm_eps: 1e-6,
            mlp: Default::default(),
            positions: Default::default(),
        };
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

    #[test]
    fn values_that_are_no_numbers_are_found_where_they_are() {
        let (_, mut weights) = tiny(0);
        weights.check_finite().unwrap();
        let mut values = vec![0.0; 24];
        values[12 + 8 + 3] = f32::NAN;
        weights.0.insert("x".into(), HostTensor::f32([2, 3, 4], values).unwrap());
        let error = weights.check_finite().unwrap_err().to_string();
        assert!(error.contains("tensor x: the value at [1, 2, 3] is NaN"), "{error}");

        let half = HostTensor { shape: vec![2], data: Data::F16(vec![f16::ONE, f16::INFINITY]) };
        let error = check_finite("h", &half).unwrap_err().to_string();
        assert!(error.contains("tensor h: the value at [1] is inf"), "{error}");

        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let data = Data::Int8 { values: vec![1; 4], scales: vec![1.0, scale] };
            let error = check_finite("q", &HostTensor { shape: vec![2, 2], data }).unwrap_err().to_string();
            assert!(error.contains("tensor q: scale 1 is"), "{error}");

            let scales = [1.0, scale].map(f16::from_f32).to_vec();
            let int4 = HostTensor::int4("q", &[2, 2], vec![1; 2], scales, 32).unwrap();
            assert!(check_finite("q", &int4).unwrap_err().to_string().contains("tensor q: scale 1 is"));
        }
    }
}
