//! From a model's tensors to a model.
//!
//! Names are those of the official state dict: `encoder.cls_token [1, 1, width]`, `encoder.register_tokens [1, r, width]`
//! (absent if r is 0), `encoder.pos_embed [1, grid² + 1, width]`, `encoder.patch_embed.proj.weight
//! [width, 3, patch, patch]`, `encoder.blocks.i.…` with LayerScale folded in, `bottleneck.0.…`, `decoder.i.…`. In place of the
//! position table: `encoder.rope_embed.periods [head size / 4]` as DINOv3 names it, or in each block
//! `attn.relative_position_bias_table [(2·grid - 1)² + 3, heads]` as BEiT does.

mod derived;
mod load;
mod uploaded;

pub use load::{encoder_shapes, head_shapes, model_shapes};
pub use uploaded::Uploaded;
