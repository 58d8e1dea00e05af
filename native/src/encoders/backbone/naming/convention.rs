//! Naming conventions of encoder tensors.

use super::part::{Part, Ways};
use super::{dinov3, hugging_face, original};

/// A naming convention, recognised by the names of class token and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// DINO, DINOv2, DINOv3, iBOT, MoCo v3, MAE, DeiT, BEiT, D-iGPT, timm, and this project.
    Original,
    /// `Dinov2Model`, `Dinov2WithRegistersModel`, `ViTModel`, `ViTMAEModel`, `BeitModel`.
    HuggingFace,
    /// `DINOv3ViTModel`.
    Dinov3,
}

impl Naming {
    /// Prefix of a block's number.
    pub(super) fn stem(self) -> &'static str {
        match self {
            Naming::Original => "blocks.",
            Naming::HuggingFace => "encoder.layer.",
            Naming::Dinov3 => "layer.",
        }
    }

    /// Source of one of our tensors, given by its name without `encoder.` and without its block.
    pub(super) fn ways(self, ours: &str, in_block: bool) -> Ways {
        match (self, in_block) {
            (Naming::Original, true) => original::block(ours),
            (Naming::Original, false) => original::outer(ours),
            (Naming::HuggingFace, true) => hugging_face::block(ours),
            (Naming::HuggingFace, false) => hugging_face::outer(ours),
            (Naming::Dinov3, true) => dinov3::block(ours),
            (Naming::Dinov3, false) => dinov3::outer(ours),
        }
    }

    /// Name of the LayerScale vector of a block's first or second half.
    pub(super) fn layer_scale(self, half: usize) -> Ways {
        let names: &[String] = match self {
            Naming::Original => &[format!("ls{half}.gamma"), format!("gamma_{half}")],
            Naming::HuggingFace => &[format!("layer_scale{half}.lambda1"), format!("lambda_{half}")],
            Naming::Dinov3 => &[format!("layer_scale{half}.lambda1")],
        };
        names.iter().map(|name| vec![Part::Block(name.clone())]).collect()
    }

    /// Whether a file's tensor belongs to an encoder but is not used: mask tokens, half of a final norm, classifiers, heads for
    /// training, and tables that only repeat the architecture.
    pub(super) fn is_unused(self, name: &str) -> bool {
        const EXACT: [&str; 5] =
            ["mask_token", "embeddings.mask_token", "masked_embed", "rel_pos_bias.relative_position_index", "mask"];
        const WITHIN: [&str; 10] = [
            "norm.",
            "layernorm.",
            "head.",
            "fc_norm.",
            "pooler.",
            "lm_head.",
            "cls_pt_layers.",
            "decoder_embed.",
            "decoder_blocks.",
            "local_cls_norm.",
        ];
        // Decoders for the training of MAE and D-iGPT.
        const BESIDE: [&str; 7] =
            ["decoder_pos_embed", "decoder_norm.", "decoder_pred.", "ar_", "kd_", "enc2dec.", "enc_norm."];
        const ENDING: [&str; 2] = [".relative_position_index", ".attn.qkv.bias_mask"];
        EXACT.contains(&name)
            || WITHIN.iter().any(|within| name.starts_with(within))
            || (name.starts_with(self.stem()) && ENDING.iter().any(|ending| name.ends_with(ending)))
            || BESIDE.iter().any(|start| name.starts_with(start))
    }
}
