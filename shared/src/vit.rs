//! The transformer block that encoder and decoder share.

use crate::Result;
use crate::config::Mixer;
use crate::ops::{Linear, Norm, Ops, Then};

/// Hands out a model's tensors by name, checking the shape; whoever builds a model decides where they come from
/// (a file, fresh initial values) and what they become (plain tensors, trainable variables).
pub type Load<'a, T> = dyn FnMut(&str, &[usize]) -> Result<T> + 'a;

/// `x + attention(norm1(x))`, then `x + mlp(norm2(x))`. LayerScale is folded into `proj` and `fc2` on import.
#[derive(Clone, Debug)]
pub struct Block<T> {
    norm1: Norm<T>,
    qkv: Linear<T>,
    proj: Linear<T>,
    norm2: Norm<T>,
    fc1: Linear<T>,
    fc2: Linear<T>,
    heads: usize,
    mixer: Mixer,
}

/// What distinguishes the encoder's blocks from the decoder's.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Channels of a token.
    pub width: usize,
    /// Channels inside the MLP.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Kind of attention.
    pub mixer: Mixer,
    /// Epsilon of both layer norms.
    pub eps: f64,
}

impl<T> Block<T> {
    /// Takes the tensors `{prefix}.norm1.weight`, `{prefix}.attn.qkv.weight`, … named as in DINO, DINOv2 and timm.
    ///
    /// # Errors
    /// Whatever `load` refuses.
    pub fn load(prefix: &str, shape: BlockShape, load: &mut Load<'_, T>) -> Result<Self> {
        let BlockShape { width, hidden, heads, mixer, eps } = shape;
        Ok(Self {
            norm1: load_norm(&format!("{prefix}.norm1"), width, eps, load)?,
            qkv: load_linear(&format!("{prefix}.attn.qkv"), width, 3 * width, load)?,
            proj: load_linear(&format!("{prefix}.attn.proj"), width, width, load)?,
            norm2: load_norm(&format!("{prefix}.norm2"), width, eps, load)?,
            fc1: load_linear(&format!("{prefix}.mlp.fc1"), width, hidden, load)?,
            fc2: load_linear(&format!("{prefix}.mlp.fc2"), hidden, width, load)?,
            heads,
            mixer,
        })
    }

    /// `[batch, tokens, width]` → the same shape.
    ///
    /// # Errors
    /// Whatever the executor refuses.
    pub fn forward<O: Ops<Tensor = T>>(&self, ops: &O, x: &T) -> Result<T> {
        let qkv = ops.linear(&ops.layer_norm(x, &self.norm1)?, &self.qkv, Then::Store)?;
        let mixed = match self.mixer {
            Mixer::Softmax => ops.attention(&qkv, self.heads)?,
            Mixer::Linear => ops.linear_attention(&qkv, self.heads)?,
        };
        drop(qkv);
        let x = ops.linear(&mixed, &self.proj, Then::Add(x))?;
        drop(mixed);
        let hidden = ops.linear(&ops.layer_norm(&x, &self.norm2)?, &self.fc1, Then::Gelu)?;
        ops.linear(&hidden, &self.fc2, Then::Add(&x))
    }
}

/// Takes `{name}.weight [outputs, inputs]` and `{name}.bias [outputs]`.
pub(crate) fn load_linear<T>(name: &str, inputs: usize, outputs: usize, load: &mut Load<'_, T>) -> Result<Linear<T>> {
    Ok(Linear {
        weight: load(&format!("{name}.weight"), &[outputs, inputs])?,
        bias: load(&format!("{name}.bias"), &[outputs])?,
    })
}

/// Takes `{name}.weight [width]` and `{name}.bias [width]`.
fn load_norm<T>(name: &str, width: usize, eps: f64, load: &mut Load<'_, T>) -> Result<Norm<T>> {
    Ok(Norm { weight: load(&format!("{name}.weight"), &[width])?, bias: load(&format!("{name}.bias"), &[width])?, eps })
}
