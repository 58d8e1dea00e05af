//! Named tensors of a model, and how they become a model.
//!
//! Names are those of the official state dict: `encoder.cls_token [1, 1, width]`, `encoder.register_tokens [1, r, width]`
//! (absent without registers), `encoder.pos_embed [1, grid² + 1, width]`, `encoder.patch_embed.proj.weight
//! [width, 3, patch, patch]`, `encoder.blocks.i.…` with LayerScale folded in, `bottleneck.0.…`, `decoder.i.…`.

use std::collections::BTreeMap;

use crate::config::ModelConfig;
use crate::dinomaly::{Dinomaly, Encoder, Head};
use crate::ops::Ops;
use crate::positions;
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Tensors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(pub BTreeMap<String, HostTensor>);

impl Weights {
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
        let embedding = self.embedding(config, grid)?;
        Encoder::load(config, grid, &mut |name, shape| self.upload(ops, &embedding, name, shape))
    }

    /// Builds the bottleneck and decoder.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn head<O: Ops>(&self, ops: &O, config: &ModelConfig) -> Result<Head<O::Tensor>> {
        Head::load(config, &mut |name, shape| ops.upload(self.get(name, shape)?))
    }

    /// Builds the whole detector for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn dinomaly<O: Ops>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Dinomaly<O::Tensor>> {
        let embedding = self.embedding(config, grid)?;
        Dinomaly::load(config, grid, &mut |name, shape| self.upload(ops, &embedding, name, shape))
    }

    fn upload<O: Ops>(&self, ops: &O, embedding: &Embedding, name: &str, shape: &[usize]) -> Result<O::Tensor> {
        match name {
            "encoder.prefix" => ops.upload(&embedding.prefix),
            "encoder.positions" => ops.upload(&embedding.positions),
            "encoder.patch_embed.proj.weight" => ops.upload(&embedding.patch_projection),
            _ => ops.upload(self.get(name, shape)?),
        }
    }

    /// The tensors of the token embedding in the form that the encoder takes.
    fn embedding(&self, config: &ModelConfig, grid: usize) -> Result<Embedding> {
        let e = &config.encoder;
        let (width, side) = (e.hidden_size, e.position_grid);
        let table = self.get("encoder.pos_embed", &[1, side * side + 1, width])?.to_f32();
        let (class_position, patch_positions) = table.split_at(width);
        let class = self.get("encoder.cls_token", &[1, 1, width])?.to_f32();
        let mut prefix: Vec<f32> = class.iter().zip(class_position).map(|(token, position)| token + position).collect();
        if e.num_register_tokens > 0 {
            let registers = self.get("encoder.register_tokens", &[1, e.num_register_tokens, width])?;
            prefix.extend_from_slice(&registers.to_f32());
        }
        let patch = [width, 3, e.patch_size, e.patch_size];
        let mut patch_projection = self.get("encoder.patch_embed.proj.weight", &patch)?.clone();
        patch_projection.shape = vec![width, 3 * e.patch_size * e.patch_size];
        Ok(Embedding {
            prefix: HostTensor::f32([config.prefix_tokens(), width], prefix)?,
            positions: HostTensor::f32(
                [grid * grid, width],
                positions::interpolate(patch_positions, side, grid, width),
            )?,
            patch_projection,
        })
    }
}

struct Embedding {
    prefix: HostTensor,
    positions: HostTensor,
    patch_projection: HostTensor,
}
