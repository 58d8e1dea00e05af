//! Names and shapes of the published files of every foundation.

use dinomaly_core::model::config::{EncoderConfig, Mlp, Positions, Resampling};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::named::Shapes;

/// Our name and shape → names and shapes in the file.
pub type Rename = fn(&str, &[usize]) -> Vec<(String, Vec<usize>)>;

/// What a foundation has beside the blocks' matrices, and how its file names things.
pub struct Layout {
    pub what: &'static str,
    pub width: usize,
    pub heads: usize,
    pub depth: usize,
    pub patch: usize,
    pub mlp: Mlp,
    pub hidden: usize,
    pub positions: Positions,
    pub grid: usize,
    pub registers: usize,
    pub name: Rename,
    /// In each block, beside what `name` makes.
    pub in_block: &'static [(&'static str, &'static [usize])],
    pub outside: &'static [(&'static str, &'static [usize])],
    pub prefix: &'static str,
}

/// As the original projects name them.
fn original(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    vec![(name.into(), shape.into())]
}

fn dinov3(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    original(&name.replace("register_tokens", "storage_tokens"), shape)
}

fn beit(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    match name.strip_suffix("attn.qkv.bias") {
        Some(block) => ["q", "v"].map(|part| (format!("{block}attn.{part}_bias"), vec![shape[0] / 3])).into(),
        None => original(name, shape),
    }
}

/// BEiT v2 before it is fine-tuned: one table for all blocks.
fn beit_shared(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    match name.ends_with("relative_position_bias_table") {
        true => vec![("rel_pos_bias.relative_position_bias_table".into(), shape.into())],
        false => beit(name, shape),
    }
}

/// `parts` of the rows of qkv under `names`; the bias of keys only with `key_bias`.
fn thirds(block: &str, names: [&str; 3], end: &str, shape: &[usize], key_bias: bool) -> Vec<(String, Vec<usize>)> {
    let mut third = shape.to_vec();
    third[0] /= 3;
    let kept = names.into_iter().enumerate().filter(|(i, _)| *i != 1 || end == "weight" || key_bias);
    kept.map(|(_, name)| (format!("{block}{name}.{end}"), third.clone())).collect()
}

fn hugging_face_dinov3(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    if name == "rope_embed.periods" {
        return Vec::new();
    }
    let name = name.replace("blocks.", "layer.").replace("attn.proj", "attention.o_proj");
    let name = name.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj");
    let name = name.replace("mlp.w3", "mlp.down_proj").replace("patch_embed.proj", "patch_embeddings");
    if let Some((block, end)) = name.split_once("mlp.w12.") {
        let half = [&[shape[0] / 2], &shape[1..]].concat();
        return ["gate", "up"].map(|part| (format!("{block}mlp.{part}_proj.{end}"), half.clone())).into();
    }
    if let Some((block, end)) = name.split_once("attn.qkv.") {
        return thirds(block, ["attention.q_proj", "attention.k_proj", "attention.v_proj"], end, shape, false);
    }
    let outside = if name.starts_with("layer.") { "" } else { "embeddings." };
    vec![(format!("{outside}{name}"), shape.into())]
}

/// The elder generation of Hugging Face's names: ViT, ViTMAE, BEiT.
fn hugging_face(name: &str, shape: &[usize], key_bias: bool) -> Vec<(String, Vec<usize>)> {
    let mut name = name.to_owned();
    for (ours, theirs) in [
        ("blocks.", "encoder.layer."),
        ("attn.proj", "attention.output.dense"),
        ("attn.relative", "attention.attention.relative_position_bias.relative"),
        ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
        ("mlp.w12", "mlp.weights_in"),
        ("mlp.w3", "mlp.weights_out"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("cls_token", "embeddings.cls_token"),
        ("register_tokens", "embeddings.register_tokens"),
    ] {
        name = name.replace(ours, theirs);
    }
    match name.split_once("attn.qkv.") {
        Some((block, end)) => {
            let names = ["query", "key", "value"].map(|part| format!("attention.attention.{part}"));
            thirds(block, names.each_ref().map(String::as_str), end, shape, key_bias)
        }
        None => vec![(name, shape.into())],
    }
}

fn hugging_face_vit(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    hugging_face(name, shape, true)
}

fn hugging_face_beit(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    hugging_face(name, shape, false)
}

/// `Dinov2Model`: the same attention, its own names of norms.
fn hugging_face_dinov2(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    let younger = |name: String| name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2");
    hugging_face(name, shape, true).into_iter().map(|(name, shape)| (younger(name), shape)).collect()
}

/// ViT-B/16 of 224² pixels, from which the others differ.
const BASE: Layout = Layout {
    what: "",
    width: 768,
    heads: 12,
    depth: 12,
    patch: 16,
    mlp: Mlp::Gelu,
    hidden: 3072,
    positions: Positions::Table,
    grid: 14,
    registers: 0,
    name: original,
    in_block: &[],
    outside: &[("norm.weight", &[768]), ("norm.bias", &[768])],
    prefix: "",
};

const GIANT: Layout = Layout {
    width: 1536,
    heads: 24,
    depth: 40,
    patch: 14,
    mlp: Mlp::SwiGlu,
    hidden: 4096,
    grid: 37,
    in_block: &[("ls1.gamma", &[1536]), ("ls2.gamma", &[1536])],
    outside: &[("norm.weight", &[1536]), ("norm.bias", &[1536]), ("mask_token", &[1, 1536])],
    ..BASE
};

const DINOV3: Layout = Layout { positions: Positions::Rotary, grid: 0, registers: 4, ..BASE };
const BEIT: Layout = Layout { positions: Positions::RelativeBias, name: beit, ..BASE };
const GAMMAS: &[(&str, &[usize])] = &[("gamma_1", &[768]), ("gamma_2", &[768])];

/// Published files, by what tells them apart: nested dictionaries are `pth.rs`'s business, see `fixtures/`.
pub fn layouts() -> Vec<Layout> {
    vec![
        Layout { what: "DINOv2 giant", ..GIANT },
        Layout { what: "DINOv2 giant with registers", registers: 4, ..GIANT },
        Layout {
            what: "DINOv2 giant, Hugging Face",
            name: hugging_face_dinov2,
            in_block: &[("layer_scale1.lambda1", &[1536]), ("layer_scale2.lambda1", &[1536])],
            outside: &[
                ("layernorm.weight", &[1536]),
                ("layernorm.bias", &[1536]),
                ("embeddings.mask_token", &[1, 1536]),
            ],
            ..GIANT
        },
        Layout {
            what: "DINOv2 giant, timm",
            name: |name, shape| original(&name.replace("w12", "fc1").replace("w3", "fc2"), shape),
            ..GIANT
        },
        Layout {
            what: "DINOv3",
            name: dinov3,
            in_block: &[("ls1.gamma", &[768]), ("ls2.gamma", &[768]), ("attn.qkv.bias_mask", &[2304])],
            outside: &[("norm.weight", &[768]), ("norm.bias", &[768]), ("mask_token", &[1, 768])],
            ..DINOV3
        },
        Layout {
            what: "DINOv3, Hugging Face",
            name: hugging_face_dinov3,
            in_block: &[("layer_scale1.lambda1", &[768]), ("layer_scale2.lambda1", &[768])],
            outside: &[("norm.weight", &[768]), ("norm.bias", &[768]), ("embeddings.mask_token", &[1, 1, 768])],
            ..DINOV3
        },
        Layout {
            what: "DINOv3 small plus, Hugging Face",
            width: 384,
            heads: 6,
            mlp: Mlp::SwiGlu,
            hidden: 1536,
            name: hugging_face_dinov3,
            in_block: &[("layer_scale1.lambda1", &[384]), ("layer_scale2.lambda1", &[384])],
            outside: &[("norm.weight", &[384]), ("norm.bias", &[384]), ("embeddings.mask_token", &[1, 1, 384])],
            ..DINOV3
        },
        Layout {
            what: "DINOv3, timm",
            name: |name, shape| match name {
                "rope_embed.periods" => Vec::new(),
                _ if name.ends_with("qkv.bias") => Vec::new(),
                _ => original(&name.replace("register_tokens", "reg_token"), shape),
            },
            in_block: GAMMAS,
            ..DINOV3
        },
        Layout {
            what: "BEiT v2",
            in_block: &[("gamma_1", &[768]), ("gamma_2", &[768]), ("attn.relative_position_index", &[197, 197])],
            outside: &[("fc_norm.weight", &[768]), ("fc_norm.bias", &[768]), ("head.weight", &[21841, 768])],
            ..BEIT
        },
        Layout {
            what: "BEiT v2 before fine-tuning",
            name: beit_shared,
            in_block: GAMMAS,
            outside: &[
                ("mask_token", &[1, 1, 768]),
                ("rel_pos_bias.relative_position_index", &[197, 197]),
                ("norm.weight", &[768]),
                ("lm_head.weight", &[8192, 768]),
                ("cls_pt_layers.0.norm1.weight", &[768]),
            ],
            ..BEIT
        },
        Layout {
            what: "BEiT, Hugging Face",
            name: hugging_face_beit,
            in_block: &[("lambda_1", &[768]), ("lambda_2", &[768])],
            outside: &[("pooler.layernorm.weight", &[768]), ("pooler.layernorm.bias", &[768])],
            prefix: "beit.",
            ..BEIT
        },
        Layout {
            what: "DINO and iBOT, Hugging Face ViT",
            name: hugging_face_vit,
            outside: &[("pooler.dense.weight", &[768, 768])],
            ..BASE
        },
        Layout {
            what: "iBOT",
            prefix: "backbone.",
            outside: &[("masked_embed", &[1, 768]), ("norm.weight", &[768])],
            ..BASE
        },
        Layout {
            what: "MoCo v3",
            prefix: "module.base_encoder.",
            outside: &[("norm.weight", &[768]), ("head.0.weight", &[4096, 768])],
            ..BASE
        },
        Layout { what: "MAE", ..BASE },
        Layout {
            what: "MAE with its decoder",
            outside: &[
                ("mask_token", &[1, 1, 512]),
                ("decoder_embed.weight", &[512, 768]),
                ("decoder_pos_embed", &[1, 197, 512]),
                ("decoder_blocks.0.norm1.weight", &[512]),
                ("decoder_norm.weight", &[512]),
                ("decoder_pred.weight", &[768, 512]),
            ],
            ..BASE
        },
        Layout {
            what: "D-iGPT",
            outside: &[
                ("mask", &[3, 147, 147]),
                ("ar_token", &[1, 1, 512]),
                ("kd_token", &[1, 1, 512]),
                ("decoder_pos_embed", &[1, 197, 512]),
                ("enc2dec.0.weight", &[512, 768]),
                ("enc_norm.0.weight", &[768]),
                ("ar_blocks.0.norm1.weight", &[512]),
                ("kd_blocks.0.norm1.weight", &[512]),
                ("ar_norm.weight", &[512]),
                ("kd_pred.weight", &[1024, 512]),
            ],
            ..BASE
        },
        Layout {
            what: "MAE, Hugging Face",
            name: hugging_face_vit,
            outside: &[("layernorm.weight", &[768]), ("layernorm.bias", &[768])],
            prefix: "vit.",
            ..BASE
        },
        Layout {
            what: "DeiT",
            outside: &[("norm.weight", &[768]), ("head.weight", &[1000, 768]), ("head.bias", &[1000])],
            ..BASE
        },
        Layout { what: "DeiT III", in_block: GAMMAS, ..BASE },
    ]
}

impl Layout {
    pub fn config(&self) -> EncoderConfig {
        EncoderConfig {
            name: self.what.into(),
            hidden_size: self.width,
            num_attention_heads: self.heads,
            num_hidden_layers: self.depth,
            intermediate_size: self.hidden,
            patch_size: self.patch,
            num_register_tokens: self.registers,
            position_grid: self.grid,
            layer_norm_eps: if self.positions == Positions::Rotary { 1e-5 } else { 1e-6 },
            mlp: self.mlp,
            positions: self.positions,
            resampling: match self.positions {
                Positions::Table if self.what.contains("Hugging Face") => Resampling::Exact,
                _ => Resampling::Offset,
            },
        }
    }

    /// Names of the final norm, if the file has all of it.
    pub fn final_norm(&self) -> Vec<&str> {
        let norm = |name: &&str| name.starts_with("norm.") || name.starts_with("layernorm.");
        let found: Vec<&str> = self.outside.iter().map(|(name, _)| *name).filter(norm).collect();
        if found.len() == 2 { found } else { Vec::new() }
    }

    /// Names and shapes in the file: first of what is used, then of all.
    pub fn file(&self) -> (Shapes, Shapes) {
        let ours = encoder_shapes(&self.config(), self.depth).unwrap();
        let named = ours.iter().flat_map(|(name, shape)| (self.name)(&name["encoder.".len()..], shape));
        let mut used: Shapes = named.collect();
        let stem = used.keys().find_map(|name| name.split_once("0.").map(|(stem, _)| stem.to_owned())).unwrap();
        let (mut unused, outside) = (Shapes::new(), self.outside.iter());
        for i in 0..self.depth {
            for (name, shape) in self.in_block {
                let into = if name.ends_with("_index") || name.ends_with("_mask") { &mut unused } else { &mut used };
                into.insert(format!("{stem}{i}.{name}"), shape.to_vec());
            }
        }
        unused.extend(outside.map(|(name, shape)| ((*name).to_owned(), shape.to_vec())));
        let prefixed = |shapes: Shapes| -> Shapes {
            shapes.into_iter().map(|(name, shape)| (format!("{}{name}", self.prefix), shape)).collect()
        };
        let used = prefixed(used);
        let mut all = used.clone();
        all.extend(prefixed(unused));
        all.insert("optimizer.of.something.else".into(), vec![1]);
        (
            used,
            if self.prefix.is_empty() { all.into_iter().filter(|(n, _)| !n.starts_with("opt")).collect() } else { all },
        )
    }
}
