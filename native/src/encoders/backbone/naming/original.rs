//! Names of the original projects: those of timm's first vision transformer, with additions: BEiT's separate biases, SwiGLU in one or
//! two matrices, other names for register tokens.

use super::part::{Part, Ways, layers, split};

pub(super) fn block(ours: &str) -> Ways {
    let same = vec![Part::Block(ours.into())];
    let named = |name: &str| Part::Block(name.into());
    match split(ours) {
        // BEiT has no bias of keys, timm's DINOv3 none of the three.
        ("attn.qkv", "bias") => {
            vec![same, vec![named("attn.q_bias"), Part::Zero, named("attn.v_bias")], vec![Part::Zero]]
        }
        // In BEiT's first pretraining all blocks share one table.
        ("attn", "relative_position_bias_table") => {
            vec![same, vec![Part::Outer("rel_pos_bias.relative_position_bias_table".into())]]
        }
        // In DINOv2, DINOv3, timm's DINOv3, timm's DINOv2.
        ("mlp.w12", end) => {
            layers(&[&["mlp.w12"], &["mlp.w1", "mlp.w2"], &["mlp.fc1_g", "mlp.fc1_x"], &["mlp.fc1"]], end)
        }
        ("mlp.w3", end) => layers(&[&["mlp.w3"], &["mlp.fc2"]], end),
        _ => vec![same],
    }
}

pub(super) fn outer(ours: &str) -> Ways {
    let names: &[&str] = match ours {
        "register_tokens" => &["register_tokens", "reg_token", "storage_tokens"],
        _ => &[ours],
    };
    names.iter().map(|&name| vec![Part::Outer(name.into())]).collect()
}
