//! Configuration of the encoder.

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::{Error, Result};

/// Configuration of a plain vision transformer, with the options in which published encoders differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// Name for people ("dinov2-reg-small", "deit-tiny", …).
    pub name: String,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Number of blocks of the whole encoder. A published model holds only those up to the last target layer.
    pub num_hidden_layers: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Number of register tokens after the class token.
    pub num_register_tokens: usize,
    /// Side of the stored position table's grid in patches; 0 with rotary positions, which have no table.
    pub position_grid: usize,
    /// Epsilon of the encoder's layer norms: 1e-6 in DINO, DINOv2 and timm, 1e-5 in DINOv3.
    pub layer_norm_eps: f64,
    /// Kind of MLP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp: Mlp,
    /// Kind of position encoding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub positions: Positions,
    /// How a position table is made for another grid.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resampling: Resampling,
}

/// MLP of an encoder block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mlp {
    /// `fc2(gelu(fc1(x)))`.
    #[default]
    Gelu,
    /// `w3(silu(a) · b)`, where a and b are the halves of `w12(x)` (Shazeer 2020): DINOv2 giant, some of DINOv3.
    SwiGlu,
}

/// Position encoding of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Table added to the class token and the patches.
    #[default]
    Table,
    /// Rotation of the patches' queries and keys by angles of their row and column (DINOv3).
    Rotary,
    /// Table in each block added to attention's logits, by head and offset from query to key (BEiT).
    RelativeBias,
}

/// Bicubic resampling of a position table to another grid. Projects differ in it, and a model's scores depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// At coordinates scaled by `grid / (target + 0.1)`, kernel with a = -0.75: DINO and DINOv2 as published by their authors, the
    /// official Dinomaly.
    #[default]
    Offset,
    /// At coordinates scaled by `grid / target`, kernel with a = -0.75: `Dinov2Model` and `ViTModel` of transformers, anomalib.
    Exact,
    /// As `Exact`, but antialiased, kernel with a = -0.5: timm, `Dinov2WithRegistersModel` of transformers.
    Antialiased,
}

impl EncoderConfig {
    /// A plain vision transformer: twelve blocks, MLPs four times as wide as a token, no registers, a position table of
    /// `grid` × `grid` patches. Fields in which an encoder differs are set around it:
    /// `EncoderConfig { num_register_tokens: 4, ..EncoderConfig::vit(384, 6, 14, 37) }`.
    pub fn vit(width: usize, heads: usize, patch: usize, grid: usize) -> Self {
        Self {
            name: "vit".into(),
            hidden_size: width,
            num_attention_heads: heads,
            num_hidden_layers: 12,
            intermediate_size: 4 * width,
            patch_size: patch,
            num_register_tokens: 0,
            position_grid: grid,
            layer_norm_eps: 1e-6,
            mlp: Mlp::Gelu,
            positions: Positions::Table,
            resampling: Resampling::Offset,
        }
    }

    /// The smallest shape that has all parts, for tests.
    #[doc(hidden)]
    pub fn tiny() -> Self {
        Self { name: "tiny".into(), intermediate_size: 8, ..Self::vit(4, 2, 2, 3) }
    }

    /// Number of tokens before the first patch: the class token and the registers.
    pub fn prefix_tokens(&self) -> usize {
        1 + self.num_register_tokens
    }

    /// Number of channels of one attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Checks that the numbers are possible and fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field that does not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config(reason));
        for (name, value, least, most) in [
            ("encoder.hidden_size", self.hidden_size, 1, 1 << 16),
            ("encoder.intermediate_size", self.intermediate_size, 1, 1 << 18),
            ("encoder.patch_size", self.patch_size, 1, 1 << 10),
            ("encoder.num_hidden_layers", self.num_hidden_layers, 1, 1 << 10),
            ("encoder.num_register_tokens", self.num_register_tokens, 0, 1 << 10),
            ("encoder.position_grid", self.position_grid, 0, 1 << 12),
        ] {
            check_limits(name, value, least, most)?;
        }
        check_eps("encoder.layer_norm_eps", self.layer_norm_eps)?;
        self.check_heads("encoder.num_attention_heads", self.num_attention_heads)?;
        if self.positions != Positions::Rotary && self.position_grid == 0 {
            return refuse("encoder.position_grid must be at least 1".into());
        }
        if self.positions != Positions::Table && self.resampling != Resampling::Offset {
            return refuse("encoder.resampling is of a position table, and the encoder has none".into());
        }
        if self.positions == Positions::Rotary && !self.head_size().is_multiple_of(4) {
            return refuse(format!(
                "rotary positions need a head size that is a multiple of 4, found {}",
                self.head_size()
            ));
        }
        if self.positions == Positions::RelativeBias && self.num_register_tokens > 0 {
            return refuse("a relative position bias does not support register tokens".into());
        }
        Ok(())
    }

    /// Checks that a number of heads divides the width.
    pub(super) fn check_heads(&self, name: &str, heads: usize) -> Result<()> {
        if heads == 0 || !self.hidden_size.is_multiple_of(heads) {
            let reason = format!("{name} = {heads} does not divide hidden_size = {}", self.hidden_size);
            return Err(Error::Config(reason));
        }
        Ok(())
    }

    /// Checks that the target layers are blocks of this encoder, in order.
    pub(super) fn check_layers(&self, layers: &[usize]) -> Result<()> {
        if layers.is_empty() || !layers.is_sorted_by(|a, b| a < b) {
            return Err(Error::config(format!("target_layers {layers:?} must be ascending and not empty")));
        }
        match layers.iter().find(|&&layer| layer >= self.num_hidden_layers) {
            None => Ok(()),
            Some(layer) => Err(Error::config(format!(
                "target layer {layer} does not exist: the encoder has {} blocks",
                self.num_hidden_layers
            ))),
        }
    }
}

/// What a head takes from an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Taps<'a> {
    /// The encoder.
    pub encoder: &'a EncoderConfig,
    /// Blocks whose outputs are taken, 0-based, ascending. Later blocks are never run.
    pub layers: &'a [usize],
    /// Whether each output passes the encoder's final norm.
    pub final_norm: bool,
}

impl Taps<'_> {
    /// Number of encoder blocks that are run: up to the last one that is taken.
    pub fn blocks_run(&self) -> usize {
        self.layers.last().map_or(0, |last| last + 1)
    }
}

/// Checks a number against limits far beyond every published model: a damaged file must not ask for memory that no machine has.
pub(super) fn check_limits(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::config(format!("{name} = {value} must be from {least} to {most}")))
}

/// Checks a layer norm's epsilon.
pub(super) fn check_eps(name: &str, eps: f64) -> Result<()> {
    if (0.0..1.0).contains(&eps) {
        return Ok(());
    }
    Err(Error::config(format!("{name} = {eps} is outside 0..1")))
}
