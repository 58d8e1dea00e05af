//! The encoder that is part of the program: training works on a fresh machine with no network.

use anyhow::Result;
use dinomaly_core::photo::preprocess::Geometry;

use super::backbone::{self, Backbone};
use crate::embedded::ENCODER;

/// All of a photo, at the resolution that it was trained for. The published resolution is not a multiple of its patch size.
pub const GEOMETRY: Geometry = Geometry { resize: 224, crop: 224 };

/// The encoder, and the bytes of its file, which identify it.
///
/// # Errors
/// None, which a test checks.
pub fn read() -> Result<(Backbone, &'static [u8])> {
    Ok((backbone::parse("small-encoder.safetensors", ENCODER)?, ENCODER))
}

/// A line on its size, and on the gain from a better encoder (measured in `tests/BENCHMARKS.md`).
pub fn about(backbone: &Backbone) -> String {
    let parameters: usize = backbone.weights.0.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    format!(
        "backbone: the embedded encoder ({:.0} M parameters, {} blocks); a pretrained one finds more defects (DeiT-Ti: I-AUROC 75 % \
         on real photos, this: 61 %): dinomaly backbone fetch dinov2-reg-small, then --backbone dinov2-reg-small",
        parameters as f64 / 1e6,
        backbone.config.num_hidden_layers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_and_fits_its_geometry() {
        let (backbone, _) = read().unwrap();
        GEOMETRY.validate(backbone.config.patch_size).unwrap();
        assert!(about(&backbone).contains("(3 M parameters, 12 blocks)"), "{}", about(&backbone));
    }
}
