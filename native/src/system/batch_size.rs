//! Number of photos that go through a model at once.

use anyhow::{Result, bail};
use candle_core::Device;
use dinomaly_core::model::config::Architecture;
use dinomaly_core::photo::preprocess::Geometry;

/// Usual batch size.
pub const BATCH: usize = 8;

/// Attention weights in a call must be fewer than this: some of candle's CUDA kernels count in signed 32 bits.
const TOO_MANY: u64 = 1 << 31;

/// Batch size for a model that candle runs on this device.
///
/// # Errors
/// If one photo is too large for a GPU.
pub fn of_candle(device: &Device, config: &Architecture, geometry: Geometry) -> Result<usize> {
    if device.is_cuda() { countable(config, geometry) } else { Ok(BATCH) }
}

fn countable(config: &Architecture, geometry: Geometry) -> Result<usize> {
    let encoder = config.encoder();
    let tokens = geometry.grid(encoder.patch_size).pow(2) + encoder.prefix_tokens();
    let heads = match config {
        Architecture::Dinomaly(config) => encoder.num_attention_heads.max(config.decoder.num_attention_heads),
        Architecture::Memory(_) => encoder.num_attention_heads,
    };
    let of_photo = heads as u64 * (tokens as u64).pow(2);
    let mut batch = BATCH;
    while batch as u64 * of_photo >= TOO_MANY {
        batch /= 2;
    }
    if batch == 0 {
        bail!(
            "a photo of --crop {} has {of_photo} attention weights per block of {}, and CUDA's kernels are limited to {TOO_MANY}: use a smaller --crop, or --device cpu",
            geometry.crop,
            encoder.name
        );
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use dinomaly_core::model::config::{EncoderConfig, ModelConfig};

    use super::*;

    #[test]
    fn the_weights_of_a_batch_can_be_counted() {
        let batch = |heads: usize, crop: usize| {
            let encoder = EncoderConfig { num_register_tokens: 4, ..EncoderConfig::vit(64 * heads, heads, 14, 2) };
            let config = ModelConfig::published(encoder).unwrap();
            countable(&config.into(), Geometry { resize: crop, crop })
        };
        // 64² + 5 tokens and 16 heads: 8 photos have 2,152,729,728 weights, 2³¹ are 2,147,483,648.
        let found = [(12, 392), (16, 882), (16, 896), (12, 952), (12, 966), (12, 1148), (16, 1400)]
            .map(|(heads, crop)| batch(heads, crop).unwrap());
        assert_eq!(found, [8, 8, 4, 8, 4, 2, 1]);
        let error = batch(16, 1512).unwrap_err().to_string();
        assert!(error.contains("--crop 1512 has 2178648976 attention weights per block of vit"), "{error}");
    }
}
