//! What tensors do not tell of an encoder, and who may tell it: the user, files beside the weights, the encoder's name, or what is known
//! of published encoders of its shape.

use std::str::FromStr;

use anyhow::{Result, bail};
use dinomaly_core::model::config::{EncoderConfig, Mlp, Positions, Resampling};
use serde::{Deserialize, Serialize};

/// What the user says of an encoder; it wins over all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Number of attention heads.
    pub heads: Option<usize>,
    /// The library whose encoder it is.
    pub origin: Option<Origin>,
}

impl From<Option<usize>> for Told {
    fn from(heads: Option<usize>) -> Self {
        Self { heads, origin: None }
    }
}

/// A library that computes an encoder. All of them make the position table for another grid in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The code that an encoder was published with, and the official Dinomaly.
    Original,
    /// timm.
    Timm,
    /// transformers of Hugging Face.
    Transformers,
    /// anomalib since 2.5.1: timm's encoder without antialiasing.
    Anomalib,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 4] = [Self::Original, Self::Timm, Self::Transformers, Self::Anomalib];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Timm => "timm",
            Self::Transformers => "transformers",
            Self::Anomalib => "anomalib",
        }
    }

    /// How it makes the position table for another grid. In transformers 5.24 models with registers differ from those without
    /// (`interpolate_pos_encoding` of `Dinov2WithRegistersEmbeddings`, `Dinov2Embeddings`, `ViTEmbeddings`); timm 1.0.31 has
    /// `resample_abs_pos_embed`, from which anomalib 2.7.0 takes the antialiasing away.
    pub(super) fn resampling(self, registers: usize) -> Resampling {
        match self {
            Self::Original => Resampling::Offset,
            Self::Timm => Resampling::Antialiased,
            Self::Transformers if registers > 0 => Resampling::Antialiased,
            Self::Transformers | Self::Anomalib => Resampling::Exact,
        }
    }
}

impl FromStr for Origin {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|origin| origin.name() == text) {
            Some(origin) => Ok(origin),
            None => bail!("{text} is not original, timm, transformers or anomalib"),
        }
    }
}

/// Widest encoder whose heads all have 64 channels, as far as encoders are published.
const USUAL_WIDTH: usize = 1024;

/// Width, patch, MLP, kind of positions and heads of wider ones: ViT-H/14, ViT-g/14 and ViT-G/14 of timm and transformers; DINOv2
/// giant; DINOv3 H+ and 7B.
const WIDE: [(usize, usize, Mlp, Positions, usize); 6] = [
    (1280, 14, Mlp::Gelu, Positions::Table, 16),
    (1408, 14, Mlp::Gelu, Positions::Table, 16),
    (1664, 14, Mlp::Gelu, Positions::Table, 16),
    (1536, 14, Mlp::SwiGlu, Positions::Table, 24),
    (1280, 16, Mlp::SwiGlu, Positions::Rotary, 20),
    (4096, 16, Mlp::SwiGlu, Positions::Rotary, 32),
];

/// Number of heads of published encoders of this shape.
///
/// # Errors
/// If there are several kinds or none.
pub(super) fn usual_heads(config: &EncoderConfig, is_moco: bool) -> Result<usize> {
    let EncoderConfig { hidden_size: width, patch_size, mlp, positions, .. } = *config;
    let wide = WIDE.iter().find(|(w, patch, m, p, _)| (*w, *patch, *m, *p) == (width, patch_size, mlp, positions));
    match (wide, width) {
        // MoCo v3's ViT-S has twelve heads, unlike every other.
        _ if is_moco && width == 384 => Ok(12),
        (Some((.., heads)), _) => Ok(*heads),
        (None, width) if width <= USUAL_WIDTH && width.is_multiple_of(64) => Ok(width / 64),
        (None, width) if width <= USUAL_WIDTH => {
            bail!(
                "its width {width} is not a multiple of 64, so nothing tells its number of heads: give it with --heads"
            )
        }
        (None, width) => bail!(
            "heads of encoders of width {width} have 64 channels or more, and nothing tells how many: give the number of heads with --heads, \
             or its config.json beside it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_names() {
        for origin in Origin::ALL {
            assert_eq!(origin.name().parse::<Origin>().unwrap(), origin);
        }
        assert!("keras".parse::<Origin>().unwrap_err().to_string().contains("keras is not original, timm"));
    }

    #[test]
    fn heads_are_known_of_published_shapes_or_asked_for() {
        let heads = |width: usize, patch: usize, mlp: Mlp, positions: Positions| {
            let config = EncoderConfig { mlp, positions, ..EncoderConfig::vit(width, 1, patch, 14) };
            usual_heads(&config, false).map_err(|error| error.to_string())
        };
        for (width, expected) in [(192, 3), (384, 6), (768, 12), (1024, 16)] {
            assert_eq!(heads(width, 16, Mlp::Gelu, Positions::Table), Ok(expected));
        }
        assert_eq!(heads(1280, 14, Mlp::Gelu, Positions::Table), Ok(16));
        assert_eq!(heads(1280, 16, Mlp::SwiGlu, Positions::Rotary), Ok(20));
        assert_eq!(heads(1536, 14, Mlp::SwiGlu, Positions::Table), Ok(24));
        assert!(heads(1280, 16, Mlp::Gelu, Positions::Table).unwrap_err().contains("width 1280"));
        assert!(heads(100, 16, Mlp::Gelu, Positions::Table).unwrap_err().contains("not a multiple of 64"));
        assert_eq!(usual_heads(&EncoderConfig::vit(384, 1, 16, 14), true).unwrap(), 12);
    }
}
