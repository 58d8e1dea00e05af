//! Names of Hugging Face's `DINOv3ViTModel`. It has no bias of keys, and stores no periods.

use super::part::{Part, Ways, layers, split};

pub(super) fn block(ours: &str) -> Ways {
    match split(ours) {
        ("attn.qkv", end) => {
            let part = |name: &str| Part::Block(format!("attention.{name}_proj.{end}"));
            match end {
                "bias" => vec![vec![part("q"), Part::Zero, part("v")], vec![Part::Zero]],
                _ => vec![vec![part("q"), part("k"), part("v")]],
            }
        }
        ("attn.proj", end) => layers(&[&["attention.o_proj"]], end),
        ("mlp.fc1", end) => layers(&[&["mlp.up_proj"]], end),
        ("mlp.fc2" | "mlp.w3", end) => layers(&[&["mlp.down_proj"]], end),
        ("mlp.w12", end) => layers(&[&["mlp.gate_proj", "mlp.up_proj"]], end),
        _ => vec![vec![Part::Block(ours.into())]],
    }
}

pub(super) fn outer(ours: &str) -> Ways {
    let name = match ours.rsplit_once('.') {
        Some(("patch_embed.proj", end)) => format!("embeddings.patch_embeddings.{end}"),
        Some(("norm", _)) => ours.into(),
        _ => format!("embeddings.{ours}"),
    };
    vec![vec![Part::Outer(name)]]
}
