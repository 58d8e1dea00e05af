//! Parameters and multiply-accumulates of a model, by part.

use dinomaly_core::Result;
use dinomaly_core::model::config::{Architecture, Comparison, MemoryKind, Mixer, Mlp};
use dinomaly_core::model::weights::{encoder_shapes, model_shapes};

/// A part of a model, with its parameters and its multiply-accumulates per photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `embedding`, `encoder`, `bottleneck`, `decoder` or `memory`.
    pub name: &'static str,
    /// Number of parameters.
    pub parameters: usize,
    /// Multiply-accumulates of linear layers and convolutions, as in the paper's tables (ptflops leaves out products inside
    /// attention, and adds a thousandth for norms and activations).
    pub linear: u64,
    /// Multiply-accumulates of the products between tokens inside attention.
    pub attention: u64,
}

/// Multiply-accumulates of transformer blocks, by their width.
struct Blocks {
    width: u64,
    tokens: u64,
}

impl Blocks {
    /// Those of a block's linear layers and convolutions; `gated`: SwiGLU.
    fn linear(&self, hidden: usize, gated: bool, mixer: Mixer) -> u64 {
        let Self { width, tokens } = *self;
        let mlp = if gated { 3 } else { 2 } * tokens * width * hidden as u64;
        mlp + match mixer {
            Mixer::Softmax | Mixer::Linear => 4 * tokens * width * width,
            Mixer::Convolution { kernel } => tokens * 2 * width * (2 * width + (kernel * kernel) as u64),
        }
    }

    /// Those of the products between a block's tokens.
    fn attention(&self, heads: usize, mixer: Mixer) -> u64 {
        let Self { width, tokens } = *self;
        match mixer {
            Mixer::Softmax => 2 * tokens * tokens * width,
            Mixer::Linear => 2 * tokens * width * (width / heads as u64),
            Mixer::Convolution { .. } => 0,
        }
    }
}

/// The parts of a model for photos of `grid × grid` patches. Blocks after the last target layer are not counted, because they
/// never run.
///
/// # Errors
/// If the config contradicts itself.
pub fn parts(config: &Architecture, grid: usize) -> Result<Vec<Part>> {
    let (e, run) = (config.encoder(), config.taps().blocks_run() as u64);
    let patches = (grid * grid) as u64;
    let (tokens, kept) = (patches + e.prefix_tokens() as u64, patches + config.kept_prefix_tokens() as u64);
    let width = e.hidden_size as u64;
    let shapes = model_shapes(config)?;
    let part = |name, prefix: &str, but: &str, linear, attention| {
        let own =
            shapes.iter().filter(|(name, _)| name.starts_with(prefix) && (but.is_empty() || !name.starts_with(but)));
        Part { name, parameters: own.map(|(_, shape)| shape.iter().product::<usize>()).sum(), linear, attention }
    };
    let encoder = Blocks { width, tokens };
    let mut parts = vec![
        part("embedding", "encoder.", "encoder.blocks.", patches * 3 * (e.patch_size * e.patch_size) as u64 * width, 0),
        part(
            "encoder",
            "encoder.blocks.",
            "",
            run * encoder.linear(e.intermediate_size, e.mlp == Mlp::SwiGlu, Mixer::Softmax),
            run * encoder.attention(e.num_attention_heads, Mixer::Softmax),
        ),
    ];
    match config {
        Architecture::Dinomaly(config) => {
            let (d, decoder) = (&config.decoder, Blocks { width, tokens: kept });
            let blocks = d.num_hidden_layers as u64;
            let last = match config.comparison {
                Comparison::Mean => 0,
                Comparison::Concatenated => kept * width * width * config.groups[0].len() as u64,
            };
            let narrowed = config.bottleneck_width.map_or(width, |narrowed| narrowed as u64);
            let narrow = if config.bottleneck_width.is_some() { width * narrowed } else { 0 };
            let bottleneck = kept * (narrow + (narrowed + width) * d.intermediate_size as u64);
            parts.push(part("bottleneck", "bottleneck.", "", bottleneck, 0));
            parts.push(part(
                "decoder",
                "decoder.",
                "",
                blocks * decoder.linear(d.intermediate_size, false, d.mixer) + last,
                blocks * decoder.attention(d.num_attention_heads, d.mixer),
            ));
        }
        Architecture::Memory(config) => {
            // Rows that a token is compared with.
            let rows = match config.memory {
                MemoryKind::Bank { rows } => rows as u64,
                MemoryKind::Places { photos, grid, nearest, reach } => {
                    (nearest.min(photos) * (2 * reach + 1).min(grid).pow(2)) as u64
                }
                MemoryKind::Subspace { subspaces } => subspaces as u64 * width,
            };
            parts.push(part("memory", "memory.", "", config.groups.len() as u64 * tokens * width * rows, 0));
        }
    }
    Ok(parts)
}

/// Parameters of the encoder's blocks that never run and are not published, but which the paper's tables count.
///
/// # Errors
/// If the config contradicts itself.
pub fn parameters_left_out(config: &Architecture) -> Result<usize> {
    let encoder = config.encoder();
    let count = |blocks: usize| -> Result<usize> {
        Ok(encoder_shapes(encoder, blocks)?.values().map(|shape| shape.iter().product::<usize>()).sum())
    };
    Ok(count(encoder.num_hidden_layers)? - count(config.taps().blocks_run())?)
}

#[cfg(test)]
mod tests {
    use dinomaly_core::model::config::{EncoderConfig, ModelConfig};

    use super::*;

    fn published(width: usize, blocks: usize) -> ModelConfig {
        let encoder = EncoderConfig {
            num_hidden_layers: blocks,
            num_register_tokens: 4,
            ..EncoderConfig::vit(width, width / 64, 14, 37)
        };
        ModelConfig::published(encoder).unwrap()
    }

    /// The paper's table of encoder sizes (Table 4 of the published version): parameters in millions, GMACs at 392².
    #[test]
    fn counts_what_the_paper_prints() {
        for (width, blocks, millions, giga) in
            [(384, 12, 37.4, 26.3), (768, 12, 148.0, 104.7), (1024, 24, 413.5, 275.3)]
        {
            let config = published(width, blocks).into();
            let parts = parts(&config, 28).unwrap();
            let parameters =
                parts.iter().map(|part| part.parameters).sum::<usize>() + parameters_left_out(&config).unwrap();
            let macs = parts.iter().map(|part| part.linear).sum::<u64>() as f64 / 1e9;
            assert!(
                (parameters as f64 / 1e6 - millions).abs() < 0.006 * millions,
                "{parameters} parameters, not {millions} M"
            );
            assert!((macs - giga).abs() < 0.005 * giga, "{macs} GMACs, not {giga}");
        }
    }

    #[test]
    fn attention_is_counted_apart() {
        let config = published(768, 12);
        let of = |config: &ModelConfig, name| {
            parts(&config.clone().into(), 28).unwrap().into_iter().find(|part| part.name == name).unwrap()
        };
        // 784 patches, a class token and four registers.
        assert_eq!(of(&config, "encoder").attention, 10 * 2 * 789 * 789 * 768);
        assert_eq!(of(&config, "decoder").attention, 8 * 2 * 789 * 768 * 64);
        assert_eq!(of(&config, "bottleneck").linear, 789 * 8 * 768 * 768);
        let narrowed = ModelConfig { bottleneck_width: Some(256), ..config.clone() };
        assert_eq!(of(&narrowed, "bottleneck").linear, 789 * (768 * 256 + 256 * 3072 + 3072 * 768));
        let mut conv = config.clone();
        (conv.remove_class_token, conv.decoder.mixer) = (true, Mixer::Convolution { kernel: 3 });
        let decoder = of(&conv, "decoder");
        assert_eq!((decoder.linear, decoder.attention), (784 * 8 * (12 * 768 * 768 + 9 * 2 * 768), 0));
    }
}
