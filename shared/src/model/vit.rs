//! The transformer block that encoder and decoder share.

use crate::Result;
use crate::model::config::{Mixer, Mlp};
use crate::ops::{Linear, Neighbours, Norm, Ops, Then};

/// Source of a model's tensors, by name and expected shape: a file, or initial values. `T` is what a tensor becomes, such as
/// one on an executor or a trainable variable.
pub type Load<'a, T> = dyn FnMut(&str, &[usize]) -> Result<T> + 'a;

/// Transformer block: `x + mix(norm1(x))`, then `x + mlp(norm2(x))`. LayerScale is folded into `proj` and `fc2` or `w3` on
/// import.
#[derive(Clone, Debug)]
pub struct Block<T> {
    norm1: Norm<T>,
    mix: Mix<T>,
    norm2: Norm<T>,
    first: Linear<T>,
    mlp: Mlp,
    last: Linear<T>,
}

/// Mixing of tokens.
#[derive(Clone, Debug)]
enum Mix<T> {
    Attention {
        qkv: Linear<T>,
        proj: Linear<T>,
        heads: usize,
        /// Epsilon of linear attention; `None` for softmax attention.
        linear: Option<f64>,
        hidden: Option<Neighbours>,
        rotation: Option<T>,
        bias: Option<T>,
    },
    /// Inverted bottleneck (MobileNetV2; official `SepConv`): expansion with GELU, depthwise convolution, contraction.
    Convolution { expand: Linear<T>, kernels: T, contract: Linear<T> },
}

/// Configuration of a block, in which encoder and decoder differ.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Number of channels of a token.
    pub width: usize,
    /// Number of channels inside the MLP.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Attention or convolution.
    pub mixer: Mixer,
    /// Epsilon in the normaliser of linear attention.
    pub attention_eps: f64,
    /// Keys hidden from patches.
    pub hidden_neighbours: Option<Neighbours>,
    /// Kind of MLP.
    pub mlp: Mlp,
    /// Number of entries of a head's relative position bias, if attention has one.
    pub bias_entries: Option<usize>,
    /// Epsilon of both layer norms.
    pub eps: f64,
}

impl<T> Block<T> {
    /// Builds a block from `{prefix}.norm1.weight`, `{prefix}.attn.qkv.weight`, …, named as in DINO, DINOv2 and timm. A
    /// convolution is `{prefix}.conv.…` in place of `attn`, as in the official code; SwiGLU is `mlp.w12` and `mlp.w3`, as in
    /// DINOv2; a position bias is `attn.relative_position_bias_table`, as in BEiT, but `[heads, entries]`.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load(prefix: &str, shape: BlockShape, load: &mut Load<'_, T>) -> Result<Self> {
        let BlockShape { width, hidden, heads, mixer, attention_eps, hidden_neighbours, mlp, bias_entries, eps } =
            shape;
        let (first, last, widened) = match mlp {
            Mlp::Gelu => ("fc1", "fc2", hidden),
            Mlp::SwiGlu => ("w12", "w3", 2 * hidden),
        };
        Ok(Self {
            norm1: load_norm(&format!("{prefix}.norm1"), width, eps, load)?,
            mix: match mixer {
                Mixer::Softmax | Mixer::Linear => Mix::Attention {
                    qkv: load_linear(&format!("{prefix}.attn.qkv"), width, 3 * width, load)?,
                    proj: load_linear(&format!("{prefix}.attn.proj"), width, width, load)?,
                    heads,
                    linear: (mixer == Mixer::Linear).then_some(attention_eps),
                    hidden: hidden_neighbours,
                    rotation: None,
                    bias: bias_entries
                        .map(|n| load(&format!("{prefix}.attn.relative_position_bias_table"), &[heads, n]))
                        .transpose()?,
                },
                Mixer::Convolution { kernel } => {
                    let mut product = |name: &str, inputs, outputs| -> Result<Linear<T>> {
                        Ok(Linear {
                            weight: load(&format!("{prefix}.conv.{name}.weight"), &[outputs, inputs])?,
                            bias: None,
                        })
                    };
                    Mix::Convolution {
                        expand: product("pwconv1", width, 2 * width)?,
                        contract: product("pwconv2", 2 * width, width)?,
                        kernels: load(&format!("{prefix}.conv.dwconv.weight"), &[2 * width, 1, kernel, kernel])?,
                    }
                }
            },
            norm2: load_norm(&format!("{prefix}.norm2"), width, eps, load)?,
            first: load_linear(&format!("{prefix}.mlp.{first}"), width, widened, load)?,
            mlp,
            last: load_linear(&format!("{prefix}.mlp.{last}"), hidden, width, load)?,
        })
    }

    /// The same block with rotary positions (see [`Ops::rotate`]).
    #[must_use]
    pub fn rotated(mut self, by: T) -> Self {
        if let Mix::Attention { rotation, .. } = &mut self.mix {
            *rotation = Some(by);
        }
        self
    }

    /// `[batch, tokens, width]` → the same shape.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn forward<O: Ops<Tensor = T>>(&self, ops: &O, x: &T) -> Result<T> {
        let normed = ops.layer_norm(x, &self.norm1)?;
        let x = match &self.mix {
            Mix::Attention { qkv, proj, heads, linear, hidden, rotation, bias } => {
                let mut qkv = ops.linear(&normed, qkv, Then::Store)?;
                drop(normed);
                if let Some(rotation) = rotation {
                    qkv = ops.rotate(&qkv, *heads, rotation)?;
                }
                let mixed = match *linear {
                    Some(eps) => ops.linear_attention(&qkv, *heads, *hidden, eps)?,
                    None => ops.attention(&qkv, *heads, *hidden, bias.as_ref())?,
                };
                drop(qkv);
                ops.linear(&mixed, proj, Then::Add(x))?
            }
            Mix::Convolution { expand, kernels, contract } => {
                let wide = ops.linear(&normed, expand, Then::Gelu)?;
                drop(normed);
                ops.linear(&ops.depthwise_conv(&wide, kernels)?, contract, Then::Add(x))?
            }
        };
        let normed = ops.layer_norm(&x, &self.norm2)?;
        let hidden = match self.mlp {
            Mlp::Gelu => ops.linear(&normed, &self.first, Then::Gelu)?,
            Mlp::SwiGlu => ops.swiglu(&ops.linear(&normed, &self.first, Then::Store)?)?,
        };
        ops.linear(&hidden, &self.last, Then::Add(&x))
    }
}

/// Loads `{name}.weight [outputs, inputs]` and `{name}.bias [outputs]`.
pub(crate) fn load_linear<T>(name: &str, inputs: usize, outputs: usize, load: &mut Load<'_, T>) -> Result<Linear<T>> {
    Ok(Linear {
        weight: load(&format!("{name}.weight"), &[outputs, inputs])?,
        bias: Some(load(&format!("{name}.bias"), &[outputs])?),
    })
}

/// Loads `{name}.weight [width]` and `{name}.bias [width]`.
pub(crate) fn load_norm<T>(name: &str, width: usize, eps: f64, load: &mut Load<'_, T>) -> Result<Norm<T>> {
    Ok(Norm { weight: load(&format!("{name}.weight"), &[width])?, bias: load(&format!("{name}.bias"), &[width])?, eps })
}
