//! Checkpoints of other projects become our encoders: by layout (names and shapes of the published models), by value
//! (small files in every naming, PyTorch's own pickles, real weights), and refused by name where something is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dinomaly::encoders::backbone::{self, Backbone, Source, plan};
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::{encoder_shapes, head_shapes};
use dinomaly_core::quant::quantize;
use dinomaly_core::tensor::named::{Shapes, Weights};
use dinomaly_core::tensor::safetensors_io;
use dinomaly_core::tensor::{Data, HostTensor};
use dinomaly_tests::{fixtures, golden, read_golden, read_json};
use half::f16;

/// A way to write the tensors of a DINO or DINOv2 encoder: original name and shape → name and shape in the file.
type Rename = fn(&str, &[usize]) -> Vec<(String, Vec<usize>)>;

/// Every naming that is read, with the original one first.
const NAMINGS: [(&str, Rename); 7] = [
    ("original", |name, shape| vec![(name.into(), shape.into())]),
    ("DINO training state", |name, shape| vec![(format!("module.backbone.{name}"), shape.into())]),
    ("DINOv2 training state in chunks", |name, shape| {
        let chunk = |block: &str| block.parse::<usize>().unwrap() / 3;
        let name = match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((block, rest)) => format!("blocks.{}.{block}.{rest}", chunk(block)),
            None => name.into(),
        };
        vec![(format!("backbone.{name}"), shape.into())]
    }),
    ("official Dinomaly state dict", |name, shape| vec![(format!("encoder.{name}"), shape.into())]),
    ("timm", |name, shape| vec![(name.replace("register_tokens", "reg_token"), shape.into())]),
    ("Hugging Face", hugging_face),
    ("Hugging Face classifier", |name, shape| {
        let inner = hugging_face(name, shape).into_iter();
        inner.map(|(name, shape)| (format!("dinov2_with_registers.{name}"), shape)).collect()
    }),
];

/// As `Dinov2Model` and `Dinov2WithRegistersModel` name them.
fn hugging_face(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
    let mut name = name.to_owned();
    for (original, theirs) in [
        ("blocks.", "encoder.layer."),
        ("attn.proj", "attention.output.dense"),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("cls_token", "embeddings.cls_token"),
        ("mask_token", "embeddings.mask_token"),
        ("register_tokens", "embeddings.register_tokens"),
    ] {
        name = name.replace(original, theirs);
    }
    if name.starts_with("norm.") {
        name = name.replace("norm.", "layernorm.");
    }
    let Some((layer, end)) = name.split_once("attn.qkv.") else {
        return vec![(name, shape.into())];
    };
    let mut third = shape.to_vec();
    third[0] /= 3;
    ["query", "key", "value"].map(|part| (format!("{layer}attention.attention.{part}.{end}"), third.clone())).into()
}

fn rename(shapes: &Shapes, naming: Rename) -> Shapes {
    shapes.iter().flat_map(|(name, shape)| naming(name, shape)).collect()
}

fn encoder_keys(layout: &serde_json::Value) -> Shapes {
    serde_json::from_value(layout["encoder_file_keys"].clone()).unwrap()
}

fn layouts() -> Vec<(PathBuf, serde_json::Value)> {
    let Ok(folder) = golden().join("layouts").read_dir() else {
        println!("{} holds no layouts", golden().display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), read_json(&path))).collect()
}

/// What our encoder must be made of: the file's tensors but those that are folded in or not used.
fn ours(file: &Shapes) -> Shapes {
    let unused = |name: &str| name == "mask_token" || name.ends_with(".gamma");
    let used = file.iter().filter(|(name, _)| !unused(name));
    used.map(|(name, shape)| (format!("encoder.{name}"), shape.clone())).collect()
}

/// An encoder's tensors with its final norm, from all blocks' shapes.
fn with_final_norm(config: &EncoderConfig) -> Shapes {
    let norm = ["weight", "bias"].map(|end| (format!("encoder.norm.{end}"), vec![config.hidden_size]));
    encoder_shapes(config, config.num_hidden_layers).unwrap().into_iter().chain(norm).collect()
}

#[test]
fn published_layouts_become_our_names_in_every_naming() {
    let mut compared = 0;
    for (path, layout) in layouts() {
        let original = encoder_keys(&layout);
        let expected = ours(&original);
        for (naming, rule) in NAMINGS {
            let what = format!("{} as {naming}", path.display());
            let plan = plan(&rename(&original, rule), "name", None, None).unwrap_or_else(|e| panic!("{what}: {e:#}"));
            assert_eq!(with_final_norm(&plan.config), expected, "{what}");
            assert!(plan.steps.iter().map(|step| &step.name).eq(expected.keys()), "{what}");
            assert_eq!(plan.config.num_attention_heads * 64, expected["encoder.cls_token"][2], "{what}");
            compared += expected.len();
        }
        // timm's DINOv2: no row for the class token in the position table.
        let mut timm = rename(&original, NAMINGS[4].1);
        timm.get_mut("pos_embed").unwrap()[1] -= 1;
        let plan = plan(&timm, "name", None, None).unwrap();
        assert_eq!(with_final_norm(&plan.config), expected);
        compared += expected.len();
    }
    println!("{compared} tensors compared");
}

#[test]
fn official_state_dicts_hold_our_model_and_nothing_else() {
    for (path, layout) in layouts() {
        // A list of names and shapes, in the order of the official class.
        let official: Vec<(String, Vec<usize>)> =
            serde_json::from_value(layout["dinomaly_state_dict_keys"].clone()).unwrap();
        let official = Shapes::from_iter(official);
        let plan = plan(&official, "name", None, None).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
        let head = head_shapes(&ModelConfig::published(plan.config).unwrap()).unwrap();
        let theirs = official.into_iter().filter(|(name, _)| !name.starts_with("encoder.")).collect::<Shapes>();
        assert_eq!(head, theirs, "{}", path.display());
        let parameters: usize = head.values().map(|shape| shape.iter().product::<usize>()).sum();
        assert_eq!(parameters, layout["n_trainable"], "{}", path.display());
        println!("{}: {} tensors compared", path.display(), head.len());
    }
}

/// Whether a change makes another valid encoder, which nobody can tell from a damaged one.
fn is_another_encoder(name: &str, dimension: Option<usize>) -> bool {
    let registers = ["register_tokens", "reg_token"].iter().any(|token| name.ends_with(token));
    registers && matches!(dimension, None | Some(1))
}

#[test]
fn a_missing_misshapen_or_extra_tensor_is_named() {
    let mut damaged = 0;
    let mut check = |shapes: &Shapes, culprit: &str, found: &str| {
        let error = format!("{:#}", plan(shapes, "name", None, None).expect_err(culprit));
        assert!(error.contains(&format!("tensor {culprit}")) && error.contains(found), "{culprit}: {error}");
        damaged += 1;
    };
    for (_, layout) in layouts() {
        let original = encoder_keys(&layout);
        for (naming, rule) in [NAMINGS[0], NAMINGS[1], NAMINGS[4], NAMINGS[5]] {
            let whole = rename(&original, rule);
            let is_final_norm = |name: &str| {
                let inner = name.trim_start_matches("module.backbone.");
                inner.starts_with("norm.") || inner.starts_with("layernorm.")
            };
            for (name, shape) in whole.iter().filter(|(name, _)| !name.ends_with("mask_token")) {
                // Without its final norm it is an encoder for most heads.
                if !is_another_encoder(name, None) && !is_final_norm(name) {
                    let mut fewer = whole.clone();
                    fewer.remove(name);
                    // Without a class token nothing tells where the encoder is.
                    let culprit = if name.ends_with("cls_token") { "cls_token" } else { name };
                    check(&fewer, culprit, "is missing");
                }
                for dimension in (0..shape.len()).filter(|&d| !is_another_encoder(name, Some(d))) {
                    let mut changed = whole.clone();
                    changed.get_mut(name).unwrap()[dimension] += 1;
                    check(&changed, name, "");
                }
                let mut changed = whole.clone();
                changed.get_mut(name).unwrap().push(1);
                check(&changed, name, "");
            }
            let prefix = if naming == "DINO training state" { "module.backbone." } else { "" };
            for extra in ["dist_token", "blocks.99.attn.relative_position", "blocks.0.attn.q_norm.weight"] {
                let mut more = whole.clone();
                let extra = format!("{prefix}{extra}");
                more.insert(extra.clone(), vec![64]);
                check(&more, &extra, "the model has no such tensor");
            }
        }
    }
    println!("{damaged} damaged checkpoints refused");
}

/// What `tests/fixtures/backbones/make.py` puts into every tensor.
fn value(name: &str, i: usize) -> f32 {
    let seed: usize = name.bytes().map(usize::from).sum();
    ((seed * 31 + i * 17) % 97) as f32 / 64.0 - 0.75
}

fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i| value(name, i)).collect()
}

/// Checks an encoder against the formula, LayerScale multiplied in where the original has it.
fn check_values(found: &Backbone, original: &Shapes) {
    let expected = ours(original);
    assert!(found.weights.0.keys().eq(expected.keys()), "{:?}", found.weights.0.keys());
    for (name, shape) in expected {
        let inner = name.trim_start_matches("encoder.");
        let mut values = values(inner, &shape);
        let scale = match inner.split('.').collect::<Vec<_>>().as_slice() {
            ["blocks", i, "attn", "proj", _] => format!("blocks.{i}.ls1.gamma"),
            ["blocks", i, "mlp", "fc2", _] => format!("blocks.{i}.ls2.gamma"),
            _ => String::new(),
        };
        if original.contains_key(&scale) {
            let row = values.len() / shape[0];
            values.iter_mut().enumerate().for_each(|(i, v)| *v *= value(&scale, i / row));
        }
        let tensor = &found.weights.0[&name];
        assert_eq!((&tensor.shape, tensor.to_f32().as_ref()), (&shape, values.as_slice()), "{name}");
    }
}

/// The original names and shapes of a small encoder.
fn small(width: usize, hidden: usize, depth: usize, grid: usize, registers: usize, layer_scale: bool) -> Shapes {
    let config = EncoderConfig {
        num_hidden_layers: depth,
        intermediate_size: hidden,
        num_register_tokens: registers,
        ..EncoderConfig::vit(width, 2, 2, grid)
    };
    let shapes = encoder_shapes(&config, depth).unwrap().into_iter();
    let mut shapes: Shapes = shapes.map(|(name, shape)| (name["encoder.".len()..].to_owned(), shape)).collect();
    shapes.extend(["norm.weight", "norm.bias"].map(|name| (name.into(), vec![width])));
    if layer_scale {
        shapes.insert("mask_token".into(), vec![1, width]);
        shapes.extend((0..depth).flat_map(|i| [1, 2].map(|k| (format!("blocks.{i}.ls{k}.gamma"), vec![width]))));
    }
    shapes
}

/// Writes the small encoder's values under the names of a naming.
fn write_small(path: &Path, original: &Shapes, naming: Rename) {
    let mut tensors = BTreeMap::new();
    for (name, shape) in original {
        let mut rest = values(name, shape);
        for (name, shape) in naming(name, shape) {
            let after = rest.split_off(shape.iter().product());
            tensors.insert(name, HostTensor::f32(shape, rest).unwrap());
            rest = after;
        }
    }
    std::fs::write(path, safetensors_io::write(&Weights(tensors), None).unwrap()).unwrap();
}

fn fixture(name: &str) -> PathBuf {
    fixtures("backbones").join(name)
}

#[test]
fn values_arrive_where_they_belong_in_every_naming() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    for (registers, layer_scale) in [(0, false), (2, true)] {
        let original = small(4, 8, 2, 3, registers, layer_scale);
        for (naming, rule) in NAMINGS {
            write_small(&path, &original, rule);
            let read = backbone::read(&path, Some(2)).unwrap_or_else(|e| panic!("{naming}: {e:#}"));
            check_values(&read, &original);
            assert_eq!((read.config.name.as_str(), read.config.num_attention_heads), ("small", 2));
        }
    }
}

#[test]
fn timm_without_a_class_position_gets_a_zero_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timm.safetensors");
    let mut original = small(4, 8, 1, 3, 2, true);
    original.insert("pos_embed".into(), vec![1, 9, 4]);
    write_small(&path, &original, NAMINGS[4].1);
    let read = backbone::read(&path, Some(2)).unwrap();
    let table = read.weights.0["encoder.pos_embed"].clone();
    assert_eq!(table.shape, [1, 10, 4]);
    assert_eq!(table.to_f32()[..4], [0.0; 4]);
    assert_eq!(table.to_f32()[4..], values("pos_embed", &[9, 4]));
}

#[test]
fn pytorch_pickles_are_read() {
    let read = backbone::read(&fixture("dino_training_state.pth"), Some(2)).unwrap();
    check_values(&read, &small(8, 16, 2, 2, 0, false));
    let read = backbone::read(&fixture("dinov2_registers.pth"), Some(2)).unwrap();
    check_values(&read, &small(4, 8, 1, 3, 2, true));
    assert!(matches!(read.weights.0["encoder.cls_token"].data, Data::F16(_)));
    for name in ["other_key.pth", "legacy.pth", "no_checksums.pth", "several_dicts.pth"] {
        let read = backbone::read(&fixture(name), Some(2)).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        check_values(&read, &small(4, 8, 1, 2, 0, false));
    }
}

/// Fractions of three and two bits: off by a sixteenth or an eighth of a value, or by half of the smallest one.
#[test]
fn floats_of_eight_bits_are_widened() {
    let read = backbone::read(&fixture("float8.pth"), Some(2)).unwrap();
    for (name, tensor) in &read.weights.0 {
        assert!(matches!(tensor.data, Data::F16(_)), "{name}");
        let (bits, smallest) = if name == "encoder.cls_token" { (2, 8e-6) } else { (3, 1e-3) };
        let expected = values(name.trim_start_matches("encoder."), &tensor.shape);
        for (found, expected) in tensor.to_f32().iter().zip(expected) {
            let most = expected.abs() * 0.5f32.powi(bits + 1) + smallest;
            assert!((found - expected).abs() <= most, "{name}: {found} for {expected}");
        }
    }
    let bytes: Vec<u8> = (0..=0x7E).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F8_E4M3, vec![127], &bytes).unwrap();
    let file = safetensors::serialize([("t", view)], None).unwrap();
    let read = safetensors_io::read("x", &file).unwrap();
    let values = read.0["t"].to_f32();
    assert_eq!((values[0], values[0x38], values[0x7E]), (0.0, 1.0, 448.0));
    assert!(values.is_sorted_by(|a, b| a < b));
}

#[test]
fn damaged_and_foreign_files_are_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pth");
    let check = |bytes: &[u8], expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", backbone::read(&path, Some(2)).expect_err(expected));
        assert!(error.contains("file.pth") && error.contains(expected) && !error.contains('\n'), "{error}");
    };
    for name in ["dino_training_state.pth", "dinov2_registers.pth"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for length in (4..whole.len()).step_by(whole.len() / 40) {
            check(&whole[..length], "truncated");
        }
        let mut altered = whole.clone();
        let at = whole.windows(8).position(|w| w == b"norm1.we").unwrap();
        altered[at] ^= 1;
        check(&altered, "data.pkl cannot be read");
    }
    check(b"", "not a complete safetensors file");
    check(b"<!DOCTYPE html><html>Not found</html>", "not a complete safetensors file");
    check(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "Git LFS");
    check(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20j\xa8P\x19.\x80\x02M\xe9\x03.", "pickle cannot be read");
    let legacy = std::fs::read(fixture("legacy.pth")).unwrap();
    for length in (9..legacy.len()).step_by(legacy.len() / 40) {
        let expected = if length < legacy_pickles(&legacy) { "pickle cannot be read" } else { "is truncated" };
        check(&legacy[..length], expected);
    }
    let missing = format!("{:#}", backbone::read(Path::new("no/such.pth"), None).unwrap_err());
    assert!(missing.contains("no/such.pth"), "{missing}");
}

/// Number of bytes before the first storage: its number of values, then that of its bytes.
fn legacy_pickles(bytes: &[u8]) -> usize {
    // The list of storages is the last pickle and ends with `e.`.
    let is_end = |&at: &usize| &bytes[at..at + 2] == b"e." && bytes[at + 3..at + 10] == [0; 7];
    (0..bytes.len() - 10).rev().find(is_end).expect("a list of storages") + 2
}

#[test]
fn values_that_are_no_numbers_are_named_as_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.safetensors");
    for culprit in ["encoder.layer.1.layer_scale2.lambda1", "encoder.layer.0.attention.attention.key.weight"] {
        write_small(&path, &small(4, 8, 2, 3, 0, true), hugging_face);
        let mut bytes = std::fs::read(&path).unwrap();
        let header: usize = u64::from_le_bytes(bytes[..8].try_into().unwrap()).try_into().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let start = json[culprit]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[8 + header + start + 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", backbone::read(&path, Some(2)).unwrap_err());
        assert!(error.contains(&format!("tensor {culprit}: the value at [")) && error.contains("is NaN"), "{error}");
    }
}

#[test]
fn heads_are_asked_for_where_they_cannot_be_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    write_small(&path, &small(4, 8, 1, 3, 0, false), NAMINGS[0].1);
    for (heads, expected) in [(None, "width 4 is not a multiple of 64"), (Some(3), "3 heads"), (Some(0), "0 heads")] {
        let error = format!("{:#}", backbone::read(&path, heads).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn of_two_encoders_the_teacher_or_the_weights_themselves_are_taken() {
    let one = small(64, 256, 1, 3, 0, false);
    let both = |names: [&str; 2]| -> Shapes {
        let prefixed =
            |prefix: &str| one.iter().map(move |(n, s)| (format!("{prefix}.{n}"), s.clone())).collect::<Shapes>();
        names.into_iter().flat_map(prefixed).collect()
    };
    for (names, expected) in [
        (["student.backbone", "teacher.backbone"], "teacher.backbone.cls_token"),
        (["model", "model_ema"], "model.cls_token"),
        (["student", "model"], "model.cls_token"),
    ] {
        let plan = plan(&both(names), "name", None, None).unwrap();
        let source = plan.steps.iter().find(|step| step.name == "encoder.cls_token").unwrap();
        assert_eq!(source.sources, [Source::Tensor(expected.into())], "{names:?}");
    }
    let error = format!("{:#}", plan(&both(["first", "second"]), "name", None, None).unwrap_err());
    assert!(error.contains("several encoders: first., second.; keep one of them"), "{error}");
}

#[test]
fn wrappers_of_training_tools_are_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrapped.safetensors");
    let original = small(4, 8, 2, 3, 2, true);
    const WRAPPED: [(&str, Rename); 4] = [
        ("torch.compile", |name, shape| vec![(wrap(name, "_orig_mod"), shape.into())]),
        ("FSDP", |name, shape| vec![(wrap(name, "_fsdp_wrapped_module"), shape.into())]),
        ("activation checkpointing", |name, shape| vec![(wrap(name, "_checkpoint_wrapped_module"), shape.into())]),
        ("PEFT", |name, shape| {
            let name = name.replace("attn.qkv.", "attn.qkv.base_layer.");
            vec![(format!("base_model.model.{name}"), shape.into())]
        }),
    ];
    for (tool, rule) in WRAPPED {
        write_small(&path, &original, rule);
        check_values(&backbone::read(&path, Some(2)).unwrap_or_else(|e| panic!("{tool}: {e:#}")), &original);
    }
    // Adapters that were not trained change nothing; others have to be merged.
    for (value, merged) in [(0.0, true), (0.5, false)] {
        write_small(&path, &original, WRAPPED[3].1);
        let mut weights = safetensors_io::read("wrapped", &std::fs::read(&path).unwrap()).unwrap();
        for (end, shape) in [("lora_A", [2, 4]), ("lora_B", [12, 2])] {
            let name = format!("base_model.model.blocks.1.attn.qkv.{end}.default.weight");
            weights.0.insert(name, HostTensor::f32(shape, vec![value; shape.iter().product()]).unwrap());
        }
        std::fs::write(&path, safetensors_io::write(&weights, None).unwrap()).unwrap();
        match backbone::read(&path, Some(2)) {
            Ok(read) if merged => check_values(&read, &original),
            Ok(_) => panic!("adapters are ignored"),
            Err(error) => assert!(!merged && format!("{error:#}").contains("merge_and_unload()"), "{error:#}"),
        }
    }
}

/// `blocks.0.norm1.weight` → `blocks.0.WRAPPER.norm1.weight`.
fn wrap(name: &str, wrapper: &str) -> String {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["blocks", block, ref rest @ ..] => format!("blocks.{block}.{wrapper}.{}", rest.join(".")),
        _ => name.into(),
    }
}

#[test]
fn a_folder_of_hugging_face_is_a_backbone_in_one_file_or_in_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let original = small(4, 8, 2, 3, 0, true);
    write_small(&path, &original, hugging_face);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("config.json", r#"{"model_type": "dinov2", "num_attention_heads": 2, "layer_norm_eps": 1e-5}"#);
    write("preprocessor_config.json", r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}"#);
    let check = |place: &Path| {
        let read = backbone::read(place, None).unwrap_or_else(|e| panic!("{}: {e:#}", place.display()));
        check_values(&read, &original);
        assert_eq!((read.config.num_attention_heads, read.config.layer_norm_eps), (2, 1e-5));
        assert_eq!((read.mean, read.std), ([0.5; 3], [0.25, 0.5, 0.5]));
    };
    check(&path);
    check(folder.path());
    assert_eq!(backbone::read(&path, Some(4)).unwrap().config.num_attention_heads, 4, "what is given wins");

    let whole = safetensors_io::read("model", &std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut places = BTreeMap::new();
    for shard in 0..2 {
        let name = format!("model-0000{}-of-00002.safetensors", shard + 1);
        let part = whole.0.iter().enumerate().filter(|(i, _)| i % 2 == shard).map(|(_, (n, t))| (n.clone(), t.clone()));
        let part = Weights(part.collect());
        places.extend(part.0.keys().map(|tensor| (tensor.clone(), name.clone())));
        write(&name, "");
        std::fs::write(folder.path().join(&name), safetensors_io::write(&part, None).unwrap()).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": places }).to_string()).unwrap();
    check(&index);
    check(folder.path());
    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = format!("{:#}", backbone::read(&index, None).unwrap_err());
    assert!(error.contains("shard model-00002-of-00002.safetensors cannot be read"), "{error}");
}

#[test]
fn doubles_are_narrowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("double.safetensors");
    let original = small(4, 8, 1, 3, 0, false);
    let bytes: Vec<(String, Vec<u8>)> = original
        .iter()
        .map(|(name, shape)| {
            (name.clone(), values(name, shape).iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F64, original[name].clone(), bytes).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    check_values(&backbone::read(&path, Some(2)).unwrap(), &original);
}

#[test]
fn numbers_that_no_file_can_hold_are_refused_at_once() {
    let shapes = small(64, 256, 1, 3, 0, false);
    for block in ["7", "1000000000", &usize::MAX.to_string()] {
        let mut shapes = shapes.clone();
        for norm in ["norm1", "norm2"] {
            shapes.insert(format!("blocks.{block}.{norm}.weight"), vec![64]);
        }
        let error = format!("{:#}", plan(&shapes, "name", None, None).unwrap_err());
        assert!(error.contains(&format!("block {block}")) || error.contains("is missing"), "{error}");
    }
    let mut empty = shapes;
    for (name, shape) in [("fc1.weight", [0, 64]), ("fc2.weight", [64, 0])] {
        empty.insert(format!("blocks.0.mlp.{name}"), shape.into());
    }
    let error = format!("{:#}", plan(&empty, "name", None, None).unwrap_err());
    assert!(error.contains("tensor blocks.0.mlp.fc1.weight has the shape [0, 64]"), "{error}");
}

#[test]
fn our_own_file_describes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("small.safetensors"), folder.path().join("own.safetensors"));
    write_small(&source, &small(4, 8, 12, 3, 2, true), NAMINGS[0].1);
    let mut own = backbone::read(&source, Some(2)).unwrap();
    own.config.name = "distilled".into();
    own.config.layer_norm_eps = 1e-5;
    (own.mean, own.std) = ([0.5; 3], [0.25; 3]);
    own.weights.prune(ModelConfig::published(own.config.clone()).unwrap().taps());
    let quantized = Backbone { weights: quantize(&own.weights).unwrap().0, ..own.clone() };
    // Read as f16: a model made from it can be quantized again.
    let widened = |backbone: &Backbone| {
        let mut backbone = backbone.clone();
        for tensor in backbone.weights.0.values_mut().filter(|tensor| matches!(tensor.data, Data::Int8 { .. })) {
            let values = tensor.to_f32().iter().map(|&value| f16::from_f32(value)).collect();
            tensor.data = Data::F16(values);
        }
        backbone
    };
    for own in [own.clone(), quantized] {
        backbone::write(&path, &own).unwrap();
        assert_eq!(backbone::read(&path, None).unwrap(), widened(&own));
        let first = std::fs::read(&path).unwrap();
        backbone::write(&path, &own).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }
    assert_eq!(backbone::read(&path, Some(4)).unwrap().config.num_attention_heads, 4);

    for (change, expected) in [
        (r#""num_hidden_layers":9"#, "has 9 blocks, but the file has 10"),
        (r#""num_layers":12"#, "metadata is not understood: unknown field `num_layers`"),
    ] {
        let weights = own.weights.clone();
        let text = r#"{"config":{"name":"n","hidden_size":4,"num_attention_heads":2,"num_hidden_layers":12,
            "intermediate_size":8,"patch_size":2,"num_register_tokens":2,"position_grid":3,"layer_norm_eps":1e-6},
            "mean":[0,0,0],"std":[1,1,1]}"#;
        let text = text.replace(r#""num_hidden_layers":12"#, change);
        std::fs::write(&path, safetensors_io::write(&weights, Some(("dinomaly_encoder", &text))).unwrap()).unwrap();
        let error = format!("{:#}", backbone::read(&path, None).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn golden_encoders_are_read_with_their_layer_scale_folded_in() {
    let Ok(folder) = golden().join("models").read_dir() else {
        println!("{} holds no models", golden().display());
        return;
    };
    let mut compared = 0;
    for case in folder.map(|entry| entry.unwrap().path()).filter(|case| case.join("encoder.safetensors").is_file()) {
        let config = read_json(&case.join("meta.json"))["config"].clone();
        let number = |key: &str| config[key].as_u64().unwrap() as usize;
        let read = backbone::read(&case.join("encoder.safetensors"), Some(number("heads"))).unwrap();
        assert_eq!(read.config.hidden_size, number("dim"), "{}", case.display());
        assert_eq!(read.config.num_hidden_layers, number("depth"), "{}", case.display());
        assert_eq!(read.config.patch_size, number("patch"), "{}", case.display());
        assert_eq!(read.config.num_register_tokens, number("registers"), "{}", case.display());
        assert_eq!(read.config.position_grid, number("grid"), "{}", case.display());
        let file = read_golden(&case.join("encoder.safetensors"));
        for (name, tensor) in &read.weights.0 {
            let inner = &name["encoder.".len()..];
            let layer = inner.rsplit_once('.').map_or("", |(layer, _)| layer);
            let gamma = match layer {
                _ if layer.ends_with(".attn.proj") => file.get(&layer.replace("attn.proj", "ls1.gamma")),
                _ if layer.ends_with(".mlp.fc2") => file.get(&layer.replace("mlp.fc2", "ls2.gamma")),
                _ => None,
            };
            let row = tensor.len() / tensor.shape[0];
            let scale = |i: usize| gamma.map_or(1.0, |gamma| gamma.values[i / row]);
            let expected: Vec<f32> = file[inner].values.iter().enumerate().map(|(i, v)| v * scale(i)).collect();
            assert_eq!(tensor.to_f32().as_ref(), expected, "{}: {name}", case.display());
            compared += 1;
        }
    }
    println!("{compared} tensors compared");
}

#[test]
fn deit_tiny_is_read() {
    let Some(folder) = dinomaly_tests::weights() else { return };
    let read = backbone::read(&folder.join("deit_tiny_patch16_224.safetensors"), None).unwrap();
    let expected = EncoderConfig { name: "deit_tiny_patch16_224".into(), ..EncoderConfig::vit(192, 3, 16, 14) };
    assert_eq!(read.config, expected);
    read.weights.check(&with_final_norm(&expected)).unwrap();
    assert_eq!(read.weights.parameters(), 5_717_416 - 1000 * 193);
}

#[test]
fn a_final_norm_is_read_whole_or_not_at_all() {
    for (naming, rule) in NAMINGS {
        let whole = rename(&small(64, 256, 2, 3, 0, true), rule);
        let names = |shapes: &Shapes| -> Vec<String> {
            plan(shapes, "name", None, None).unwrap().steps.into_iter().map(|step| step.name).collect()
        };
        let is_norm = |name: &&String| name.starts_with("encoder.norm.");
        assert_eq!(names(&whole).iter().filter(is_norm).count(), 2, "{naming}");
        let norm = whole.keys().filter(|name| name.ends_with("norm.weight") || name.ends_with("norm.bias"));
        let norm: Vec<String> = norm.cloned().collect();
        assert_eq!(norm.len(), 2, "{naming}: {norm:?}");
        for left_out in [&norm[..1], &norm[1..], &norm] {
            let mut fewer = whole.clone();
            left_out.iter().for_each(|name| drop(fewer.remove(name)));
            assert_eq!(names(&fewer).iter().filter(is_norm).count(), 0, "{naming}, without {left_out:?}");
        }
    }
}
