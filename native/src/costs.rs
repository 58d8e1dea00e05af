//! How much work a model is.

use dinomaly_core::config::{Comparison, Mixer, ModelConfig};

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
    let (tokens, kept) =
        (patches + config.encoder.prefix_tokens() as u64, patches + config.kept_prefix_tokens() as u64);
    let width = e.hidden_size as u64;
    let block = |tokens: u64, hidden: usize, heads: usize, mixer: Mixer| {
        let mlp = 2 * tokens * width * hidden as u64;
        let size = width / heads as u64;
        mlp + match mixer {
            Mixer::Softmax => tokens * width * (4 * width + 2 * tokens),
            Mixer::Linear => tokens * width * (4 * width + 2 * size),
            Mixer::Convolution { kernel } => tokens * 2 * width * (2 * width + (kernel * kernel) as u64),
        }
    };
    let last = match config.comparison {
        Comparison::Mean => 0,
        Comparison::Concatenated => kept * width * width * config.groups[0].len() as u64,
    };
    let patch = 3 * (e.patch_size * e.patch_size) as u64;
    Macs {
        encoder: patches * patch * width
            + config.encoder_blocks_run() as u64
                * block(tokens, e.intermediate_size, e.num_attention_heads, Mixer::Softmax),
        head: kept * 2 * width * d.intermediate_size as u64
            + d.num_hidden_layers as u64 * block(kept, d.intermediate_size, d.num_attention_heads, d.mixer)
            + last,
    }
}
