//! The frozen encoder: patches → the outputs of the layers that a head takes.

use crate::Result;
use crate::model::config::{Mixer, Positions, Taps};
use crate::model::vit::{Block, BlockShape, Load, load_linear, load_norm};
use crate::ops::{Linear, Norm, Ops, RelativeBias, Then};

/// Step of the forward pass, for tests and feature export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Patch embeddings, before positions: `[batch, patches, width]`.
    PatchEmbed,
    /// Input of the first block: `[batch, tokens, width]`.
    Tokens,
    /// Output of an encoder block.
    EncoderBlock(usize),
    /// The bottleneck's input: the mean of the collected layers, or the last of them.
    Fused,
    /// The bottleneck's output.
    Bottleneck,
    /// Output of a decoder block.
    DecoderBlock(usize),
    /// A group of target layers as it is compared: their mean, or their concatenation.
    EncodedGroup(usize),
    /// The decoder's reconstruction of it.
    DecodedGroup(usize),
}

/// Callback that is given every intermediate tensor of a forward pass.
pub type Observe<'a, T> = dyn FnMut(Stage, &T) + 'a;

/// The frozen vision transformer, up to the last target layer.
#[derive(Clone, Debug)]
pub struct Encoder<T> {
    patch_embed: Linear<T>,
    prefix: T,
    positions: T,
    blocks: Vec<Block<T>>,
    target_layers: Vec<usize>,
    final_norm: Option<Norm<T>>,
}

impl<T: Clone> Encoder<T> {
    /// Builds the encoder from `encoder.patch_embed.proj.weight [width, 3·patch²]`, `encoder.prefix [1 + registers, width]`
    /// (class token plus its position, then registers), `encoder.positions [grid², width]` (already interpolated to `grid`;
    /// zeros if the encoder has no position table), `encoder.rotation [grid², head size]` (rotary positions only),
    /// `encoder.blocks.i.…` and `encoder.norm.weight|bias [width]` (if the head takes normed outputs).
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(taps: Taps<'_>, grid: usize, load: &mut Load<'_, T>) -> Result<Self> {
        let e = taps.encoder;
        let shape = BlockShape {
            width: e.hidden_size,
            hidden: e.intermediate_size,
            heads: e.num_attention_heads,
            mixer: Mixer::Softmax,
            attention_eps: 0.0,
            hidden_neighbours: None,
            mlp: e.mlp,
            bias_entries: (e.positions == Positions::RelativeBias).then(|| RelativeBias::entries(grid)),
            eps: e.layer_norm_eps,
        };
        let rotation = match e.positions {
            Positions::Rotary => Some(load("encoder.rotation", &[grid * grid, e.head_size()])?),
            Positions::Table | Positions::RelativeBias => None,
        };
        let block = |i: usize, load: &mut Load<'_, T>| -> Result<Block<T>> {
            let block = Block::load(&format!("encoder.blocks.{i}"), shape, load)?;
            Ok(match &rotation {
                Some(rotation) => block.rotated(rotation.clone()),
                None => block,
            })
        };
        Ok(Self {
            patch_embed: load_linear("encoder.patch_embed.proj", 3 * e.patch_size * e.patch_size, e.hidden_size, load)?,
            prefix: load("encoder.prefix", &[e.prefix_tokens(), e.hidden_size])?,
            positions: load("encoder.positions", &[grid * grid, e.hidden_size])?,
            blocks: (0..taps.blocks_run()).map(|i| block(i, load)).collect::<Result<_>>()?,
            target_layers: taps.layers.to_vec(),
            final_norm: if taps.final_norm {
                Some(load_norm("encoder.norm", e.hidden_size, e.layer_norm_eps, load)?)
            } else {
                None
            },
        })
    }

    /// `patches [batch, grid², 3·patch²]` → the first block's input `[batch, tokens, width]`.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn embed<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T, observe: &mut Observe<'_, T>) -> Result<T> {
        let embedded = ops.linear(patches, &self.patch_embed, Then::Store)?;
        observe(Stage::PatchEmbed, &embedded);
        let tokens = ops.embed(&embedded, &self.prefix, &self.positions)?;
        observe(Stage::Tokens, &tokens);
        Ok(tokens)
    }

    /// The blocks up to the last target layer.
    pub fn blocks(&self) -> &[Block<T>] {
        &self.blocks
    }

    /// `patches [batch, grid², 3·patch²]` → the target layers' outputs, each `[batch, tokens, width]`, shallow first.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn forward<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T, observe: &mut Observe<'_, T>) -> Result<Vec<T>> {
        let mut x = self.embed(ops, patches, observe)?;
        let mut collected = Vec::with_capacity(self.target_layers.len());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(ops, &x)?;
            observe(Stage::EncoderBlock(i), &x);
            if self.target_layers.contains(&i) {
                collected.push(match &self.final_norm {
                    Some(norm) => ops.layer_norm(&x, norm)?,
                    None => x.clone(),
                });
            }
        }
        Ok(collected)
    }
}
