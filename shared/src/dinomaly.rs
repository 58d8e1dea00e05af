//! Dinomaly (CVPR 2025): patches → encoder → two group means, reconstructed by bottleneck and decoder → distance maps.

use crate::Result;
use crate::config::{Mixer, ModelConfig};
use crate::ops::{Linear, Ops, Then};
use crate::vit::{Block, BlockShape, Load, load_linear};

/// A step of the forward pass, for those who look inside (tests, feature export).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Patch embeddings, before positions: `[batch, patches, width]`.
    PatchEmbed,
    /// Input of the first block: `[batch, tokens, width]`.
    Tokens,
    /// Output of an encoder block.
    EncoderBlock(usize),
    /// Mean of the collected layers, the bottleneck's input.
    Fused,
    /// The bottleneck's output.
    Bottleneck,
    /// Output of a decoder block.
    DecoderBlock(usize),
    /// Mean of the target layers of a group.
    EncodedGroup(usize),
    /// Mean of the decoder's outputs of a group.
    DecodedGroup(usize),
}

/// Sees every intermediate tensor of a forward pass.
pub type Observe<'a, T> = dyn FnMut(Stage, &T) + 'a;

/// The frozen vision transformer, up to the last layer that is collected.
#[derive(Clone, Debug)]
pub struct Encoder<T> {
    patch_embed: Linear<T>,
    prefix: T,
    positions: T,
    blocks: Vec<Block<T>>,
    target_layers: Vec<usize>,
}

impl<T: Clone> Encoder<T> {
    /// Takes `encoder.patch_embed.proj.weight [width, 3·patch²]`, `encoder.prefix [1 + registers, width]` (class token
    /// with its position added, then registers), `encoder.positions [grid², width]` (already interpolated to `grid`)
    /// and `encoder.blocks.i.…`.
    ///
    /// # Errors
    /// Whatever `load` refuses.
    pub fn load(config: &ModelConfig, grid: usize, load: &mut Load<'_, T>) -> Result<Self> {
        let e = &config.encoder;
        let shape = BlockShape {
            width: e.hidden_size,
            hidden: e.intermediate_size,
            heads: e.num_attention_heads,
            mixer: Mixer::Softmax,
            eps: e.layer_norm_eps,
        };
        Ok(Self {
            patch_embed: load_linear("encoder.patch_embed.proj", 3 * e.patch_size * e.patch_size, e.hidden_size, load)?,
            prefix: load("encoder.prefix", &[config.prefix_tokens(), e.hidden_size])?,
            positions: load("encoder.positions", &[grid * grid, e.hidden_size])?,
            blocks: (0..config.encoder_blocks_run())
                .map(|i| Block::load(&format!("encoder.blocks.{i}"), shape, load))
                .collect::<Result<_>>()?,
            target_layers: config.target_layers.clone(),
        })
    }

    /// `patches [batch, grid², 3·patch²]` → the first block's input `[batch, tokens, width]`.
    ///
    /// # Errors
    /// Whatever the executor refuses.
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
    /// Whatever the executor refuses.
    pub fn forward<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T, observe: &mut Observe<'_, T>) -> Result<Vec<T>> {
        let mut x = self.embed(ops, patches, observe)?;
        let mut collected = Vec::with_capacity(self.target_layers.len());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(ops, &x)?;
            observe(Stage::EncoderBlock(i), &x);
            if self.target_layers.contains(&i) {
                collected.push(x.clone());
            }
        }
        Ok(collected)
    }
}

/// What is trained: the noisy MLP bottleneck and the decoder.
#[derive(Clone, Debug)]
pub struct Head<T> {
    fc1: Linear<T>,
    fc2: Linear<T>,
    blocks: Vec<Block<T>>,
}

impl<T: Clone> Head<T> {
    /// Takes `bottleneck.0.fc1|fc2.…` and `decoder.i.…`, the names of the official state dict.
    ///
    /// # Errors
    /// Whatever `load` refuses.
    pub fn load(config: &ModelConfig, load: &mut Load<'_, T>) -> Result<Self> {
        let (width, d) = (config.encoder.hidden_size, &config.decoder);
        let shape = BlockShape {
            width,
            hidden: d.intermediate_size,
            heads: d.num_attention_heads,
            mixer: d.mixer,
            eps: d.layer_norm_eps,
        };
        Ok(Self {
            fc1: load_linear("bottleneck.0.fc1", width, d.intermediate_size, load)?,
            fc2: load_linear("bottleneck.0.fc2", d.intermediate_size, width, load)?,
            blocks: (0..d.num_hidden_layers)
                .map(|i| Block::load(&format!("decoder.{i}"), shape, load))
                .collect::<Result<_>>()?,
        })
    }

    /// `fused [batch, tokens, width]` → the decoder blocks' outputs, LAST block first: index 0 faces the shallowest
    /// target layer (the official code reverses the list before it groups).
    ///
    /// # Errors
    /// Whatever the executor refuses.
    pub fn forward<O: Ops<Tensor = T>>(&self, ops: &O, fused: &T, observe: &mut Observe<'_, T>) -> Result<Vec<T>> {
        // One dropout module used three times in the official code: input, hidden, output.
        let x = ops.bottleneck_noise(fused)?;
        let hidden = ops.bottleneck_noise(&ops.linear(&x, &self.fc1, Then::Gelu)?)?;
        let mut x = ops.bottleneck_noise(&ops.linear(&hidden, &self.fc2, Then::Store)?)?;
        drop(hidden);
        observe(Stage::Bottleneck, &x);
        let mut outputs = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(ops, &x)?;
            observe(Stage::DecoderBlock(i), &x);
            outputs.push(x.clone());
        }
        outputs.reverse();
        Ok(outputs)
    }
}

/// The means of the layers in each group: what the loss and the anomaly map compare.
///
/// # Errors
/// Whatever the executor refuses.
pub fn group_means<O: Ops>(ops: &O, layers: &[O::Tensor], groups: &[Vec<usize>]) -> Result<Vec<O::Tensor>> {
    groups.iter().map(|group| ops.mean(&group.iter().map(|&i| layers[i].clone()).collect::<Vec<_>>())).collect()
}

/// A whole detector on one executor.
#[derive(Clone, Debug)]
pub struct Dinomaly<T> {
    encoder: Encoder<T>,
    head: Head<T>,
    groups: Vec<Vec<usize>>,
}

impl<T: Clone> Dinomaly<T> {
    /// Builds both parts; see [`Encoder::load`] and [`Head::load`] for the names.
    ///
    /// # Errors
    /// Whatever `load` refuses.
    pub fn load(config: &ModelConfig, grid: usize, load: &mut Load<'_, T>) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::load(config, grid, load)?,
            head: Head::load(config, load)?,
            groups: config.groups.clone(),
        })
    }

    /// `patches [batch, grid², 3·patch²]` → for each group the cosine distance `[batch, tokens]` of every token, class
    /// and register tokens first ([`ModelConfig::prefix_tokens`] of them; whoever reads the map drops them).
    ///
    /// # Errors
    /// Whatever the executor refuses.
    pub fn distances<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T) -> Result<Vec<T>> {
        self.distances_observed(ops, patches, &mut |_, _| {})
    }

    /// [`Dinomaly::distances`], showing every intermediate tensor to `observe`.
    ///
    /// # Errors
    /// Whatever the executor refuses.
    pub fn distances_observed<O: Ops<Tensor = T>>(
        &self,
        ops: &O,
        patches: &T,
        observe: &mut Observe<'_, T>,
    ) -> Result<Vec<T>> {
        let layers = self.encoder.forward(ops, patches, observe)?;
        let encoded = group_means(ops, &layers, &self.groups)?;
        encoded.iter().enumerate().for_each(|(j, group)| observe(Stage::EncodedGroup(j), group));
        let fused = ops.mean(&layers)?;
        drop(layers);
        observe(Stage::Fused, &fused);
        let decoded = group_means(ops, &self.head.forward(ops, &fused, observe)?, &self.groups)?;
        decoded.iter().enumerate().for_each(|(j, group)| observe(Stage::DecodedGroup(j), group));
        encoded.iter().zip(&decoded).map(|(e, d)| ops.cosine_distance(e, d)).collect()
    }
}
