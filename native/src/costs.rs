//! How much work a model is.

use dinomaly_core::config::{Mixer, ModelConfig};

/// Multiply-accumulates of a photo, by part.
#[derive(Clone, Copy, Debug)]
pub struct Macs {
    /// Up to the last target layer.
    pub encoder: u64,
    /// Bottleneck and decoder.
    pub head: u64,
}

/// What a photo of `grid × grid` patches costs. Counts matrix products, attention's included; everything else is small
/// beside them.
pub fn macs(config: &ModelConfig, grid: usize) -> Macs {
    let (e, d) = (&config.encoder, &config.decoder);
    let patches = (grid * grid) as u64;
    let tokens = patches + config.prefix_tokens() as u64;
    let width = e.hidden_size as u64;
    let block = |hidden: usize, heads: usize, mixer: Mixer| {
        let linear = tokens * width * (4 * width + 2 * hidden as u64);
        let size = width / heads as u64;
        linear
            + match mixer {
                Mixer::Softmax => 2 * tokens * tokens * width,
                Mixer::Linear => 2 * tokens * size * width,
            }
    };
    let patch = 3 * (e.patch_size * e.patch_size) as u64;
    Macs {
        encoder: patches * patch * width
            + config.encoder_blocks_run() as u64 * block(e.intermediate_size, e.num_attention_heads, Mixer::Softmax),
        head: tokens * 2 * width * d.intermediate_size as u64
            + d.num_hidden_layers as u64 * block(d.intermediate_size, d.num_attention_heads, d.mixer),
    }
}
