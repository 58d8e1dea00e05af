//! Names of Hugging Face's models with an `encoder`, in two generations, of which `Dinov2Model` is the younger. Query, key and value
//! are separate tensors.

use super::part::{Part, Ways, layers, split};

pub(super) fn block(ours: &str) -> Ways {
    let attention = |part: &str| format!("attention.attention.{part}");
    match split(ours) {
        ("attn.qkv", end) => {
            let part = |name: &str| Part::Block(format!("{}.{end}", attention(name)));
            let all = vec![part("query"), part("key"), part("value")];
            match end {
                "bias" => vec![all, vec![part("query"), Part::Zero, part("value")], vec![Part::Zero]],
                _ => vec![all],
            }
        }
        ("attn", table) => {
            let inside = format!("relative_position_bias.{table}");
            vec![vec![Part::Block(attention(&inside))], vec![Part::Outer(format!("encoder.{inside}"))]]
        }
        ("attn.proj", end) => layers(&[&["attention.output.dense"]], end),
        ("norm1", end) => layers(&[&["norm1"], &["layernorm_before"]], end),
        ("norm2", end) => layers(&[&["norm2"], &["layernorm_after"]], end),
        ("mlp.fc1", end) => layers(&[&["mlp.fc1"], &["intermediate.dense"]], end),
        ("mlp.fc2", end) => layers(&[&["mlp.fc2"], &["output.dense"]], end),
        ("mlp.w12", end) => layers(&[&["mlp.weights_in"]], end),
        ("mlp.w3", end) => layers(&[&["mlp.weights_out"]], end),
        _ => vec![vec![Part::Block(ours.into())]],
    }
}

pub(super) fn outer(ours: &str) -> Ways {
    let name = match split(ours) {
        ("pos_embed", _) => "embeddings.position_embeddings".into(),
        ("norm", end) => format!("layernorm.{end}"),
        _ => format!("embeddings.{}", ours.replace("patch_embed.proj", "patch_embeddings.projection")),
    };
    vec![vec![Part::Outer(name)]]
}
