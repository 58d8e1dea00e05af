//! How much work a model is.

use dinomaly_core::config::{Comparison, Mixer, Mlp, ModelConfig};

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
    let block = |tokens: u64, hidden: usize, gated: bool, heads: usize, mixer: Mixer| {
        let mlp = if gated { 3 } else { 2 } * tokens * width * hidden as u64;
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
                * block(tokens, e.intermediate_size, e.mlp == Mlp::SwiGlu, e.num_attention_heads, Mixer::Softmax),
        head: kept * 2 * width * d.intermediate_size as u64
            + d.num_hidden_layers as u64 * block(kept, d.intermediate_size, false, d.num_attention_heads, d.mixer)
            + last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_paper_names() {
        let encoder = serde_json::from_value(serde_json::json!({
            "name": "ViT-B/14", "hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "intermediate_size": 3072,
            "patch_size": 14, "num_register_tokens": 4, "position_grid": 37, "layer_norm_eps": 1e-6
        }))
        .unwrap();
        let config = ModelConfig::published(encoder).unwrap();
        let Macs { encoder, head } = macs(&config, 28);
        // 789 tokens: ten blocks of 12·768² and 2·789·768 a token, and 784 patches of 588 values.
        assert_eq!(encoder, 10 * 789 * (12 * 768 * 768 + 2 * 789 * 768) + 784 * 588 * 768);
        assert_eq!(head, 789 * (8 * (12 * 768 * 768 + 2 * 64 * 768) + 8 * 768 * 768));
        let mut conv = config.clone();
        (conv.remove_class_token, conv.decoder.mixer) = (true, Mixer::Convolution { kernel: 3 });
        let blocks = 8 * (8 * 768 * 768 + 4 * 768 * 768 + 9 * 2 * 768);
        assert_eq!(macs(&conv, 28).head, 784 * (blocks + 8 * 768 * 768));
    }
}
