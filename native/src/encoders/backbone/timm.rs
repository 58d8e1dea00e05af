//! timm's table of names: what it says of its models and their files do not. Only what differs from the usual is listed:
//! `tests/peers/checkpoints.py --names` writes it from timm 1.0.31.

use std::sync::LazyLock;

use anyhow::{Result, bail};
use serde::Deserialize;

/// A model of timm.
#[derive(Debug, Deserialize)]
pub(super) struct Known {
    /// Name of the architecture, and of its weights after a dot.
    name: String,
    /// Number of attention heads, where it is not width / 64.
    pub(super) heads: Option<usize>,
    /// Kind of normalisation, where it is not ImageNet's.
    pixels: Option<Pixels>,
}

/// Normalisations of pixels, by their names in timm.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pixels {
    /// To -1..1: "Inception".
    Half,
    /// CLIP's.
    Clip,
    /// None.
    Raw,
    /// DINOv3's for pictures from satellites.
    Satellite,
}

impl Known {
    /// Per-channel mean and standard deviation, where they are not ImageNet's.
    pub(super) fn pixels(&self) -> Option<([f32; 3], [f32; 3])> {
        Some(match self.pixels? {
            Pixels::Half => ([0.5; 3], [0.5; 3]),
            Pixels::Clip => ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]),
            Pixels::Raw => ([0.0; 3], [1.0; 3]),
            Pixels::Satellite => ([0.430, 0.411, 0.296], [0.213, 0.156, 0.143]),
        })
    }
}

/// What is listed of a model, with or without the name of its weights.
///
/// # Panics
/// If the built-in table is malformed, which a test excludes.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    static ALL: LazyLock<Vec<Known>> = LazyLock::new(|| {
        let mut reader = csv::Reader::from_reader(include_str!("timm.csv").as_bytes());
        reader.deserialize().collect::<Result<_, _>>().expect("the built-in table of timm's names is well-formed")
    });
    ALL.iter().find(|known| known.name == name)
}

/// Refuses models with rotary positions beside a table or without registers, of which their files hold nothing.
///
/// # Errors
/// If it is one of them.
pub(super) fn refuse_unsupported(name: &str) -> Result<()> {
    if name.starts_with("eva02_") || (name.starts_with("vit_") && name.contains("_rope_")) {
        bail!("{name} of timm has rotary positions of a kind that is not supported");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(find("vit_giant_patch14_224").unwrap().heads, Some(16));
        assert_eq!(find("vit_base_patch16_224.augreg_in21k").unwrap().pixels().unwrap().0, [0.5; 3]);
        assert!(find("deit_tiny_patch16_224").is_none());
    }
}
