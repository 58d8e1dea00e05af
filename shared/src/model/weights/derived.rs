//! Tensors that the encoder needs in another form than stored: the token embedding, and all that depends on the grid of patches.

use std::collections::BTreeMap;

use crate::Result;
use crate::model::config::{EncoderConfig, Positions, Taps};
use crate::model::positions;
use crate::ops::RelativeBias;
use crate::tensor::HostTensor;
use crate::tensor::named::{Shapes, Weights};

/// End of the names of position biases.
const POSITION_BIAS: &str = ".attn.relative_position_bias_table";

/// Adds to `shapes` the stored tensors that a tensor of the encoder is made from: the inverse of [`Weights::derive`].
pub(crate) fn record_encoder(shapes: &mut Shapes, encoder: &EncoderConfig, name: &str, shape: &[usize]) {
    let (width, patch, grid) = (encoder.hidden_size, encoder.patch_size, encoder.position_grid);
    match name {
        "encoder.prefix" => {
            shapes.insert("encoder.cls_token".into(), vec![1, 1, width]);
            if encoder.num_register_tokens > 0 {
                shapes.insert("encoder.register_tokens".into(), vec![1, encoder.num_register_tokens, width]);
            }
        }
        "encoder.positions" if encoder.positions != Positions::Table => {}
        "encoder.rotation" => {
            shapes.insert("encoder.rope_embed.periods".into(), vec![encoder.head_size() / 4]);
        }
        _ if name.ends_with(POSITION_BIAS) => {
            shapes.insert(name.into(), vec![RelativeBias::entries(grid), encoder.num_attention_heads]);
        }
        "encoder.positions" => {
            shapes.insert("encoder.pos_embed".into(), vec![1, grid * grid + 1, width]);
        }
        "encoder.patch_embed.proj.weight" => {
            shapes.insert(name.into(), vec![width, 3, patch, patch]);
        }
        _ => {
            shapes.insert(name.into(), shape.into());
        }
    }
}

/// Derived tensors, by the names of [`crate::model::encoder::Encoder::load`].
pub(crate) type Derived = BTreeMap<String, HostTensor>;

/// Whether the encoder needs a stored tensor only in another form.
pub(crate) fn is_derived(name: &str) -> bool {
    const WHOLE: [&str; 5] = [
        "encoder.cls_token",
        "encoder.register_tokens",
        "encoder.pos_embed",
        "encoder.rope_embed.periods",
        "encoder.patch_embed.proj.weight",
    ];
    WHOLE.contains(&name) || name.ends_with(POSITION_BIAS)
}

impl Weights {
    /// Derives tensors for an encoder of `grid × grid` patches, from those for which [`is_derived`] is true.
    pub(crate) fn derive(&self, taps: Taps<'_>, grid: usize) -> Result<Derived> {
        let e = taps.encoder;
        let (width, side) = (e.hidden_size, e.position_grid);
        let mut derived = Derived::new();
        let mut prefix = self.get("encoder.cls_token", &[1, 1, width])?.to_f32().into_owned();
        let mut positions = vec![0.0; grid * grid * width];
        match e.positions {
            Positions::Table => {
                let table = self.get("encoder.pos_embed", &[1, side * side + 1, width])?.to_f32();
                let (class_position, patch_positions) = table.split_at(width);
                prefix.iter_mut().zip(class_position).for_each(|(token, position)| *token += position);
                positions = positions::interpolate(patch_positions, side, grid, width, e.resampling);
            }
            Positions::Rotary => {
                let periods = self.get("encoder.rope_embed.periods", &[e.head_size() / 4])?.to_f32();
                let rotation = positions::rotary::rotation(&periods, grid);
                derived.insert("encoder.rotation".into(), HostTensor::f32([grid * grid, e.head_size()], rotation)?);
            }
            Positions::RelativeBias => {
                let heads = e.num_attention_heads;
                for block in 0..taps.blocks_run() {
                    let name = format!("encoder.blocks.{block}{POSITION_BIAS}");
                    let table = self.get(&name, &[RelativeBias::entries(side), heads])?.to_f32();
                    let table = positions::relative::interpolate(&table, side, grid, heads)?;
                    derived.insert(name, HostTensor::f32([heads, RelativeBias::entries(grid)], table)?);
                }
            }
        }
        if e.num_register_tokens > 0 {
            let registers = self.get("encoder.register_tokens", &[1, e.num_register_tokens, width])?;
            prefix.extend_from_slice(&registers.to_f32());
        }
        derived.insert("encoder.prefix".into(), HostTensor::f32([e.prefix_tokens(), width], prefix)?);
        derived.insert("encoder.positions".into(), HostTensor::f32([grid * grid, width], positions)?);
        let name = "encoder.patch_embed.proj.weight";
        let mut projection = self.get(name, &[width, 3, e.patch_size, e.patch_size])?.clone();
        projection.shape = vec![width, 3 * e.patch_size * e.patch_size];
        derived.insert(name.into(), projection);
        Ok(derived)
    }
}
