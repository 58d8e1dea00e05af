//! A small model is written, read, and damaged in every way.

use std::collections::HashMap;

use super::shards::write_below;
use super::*;
use crate::model::config::{EncoderConfig, ModelConfig};
use crate::photo::preprocess::Geometry;
use crate::quant::{Format, InputMoments, quantize, quantize_to, round_tensor};
use crate::tensor::{Data, HostTensor, StorageType};

type Files = HashMap<String, Vec<u8>>;

pub(crate) fn model() -> Model {
    let encoder = EncoderConfig { num_register_tokens: 1, ..EncoderConfig::tiny() };
    let width = encoder.hidden_size;
    let config = ModelConfig::published(encoder).unwrap().into();
    let tensor = |(i, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = (0..shape.iter().product()).map(|j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.4).collect();
        (name, HostTensor::f32(shape, values).unwrap())
    };
    let weights = Weights(model_shapes(&config).unwrap().into_iter().enumerate().map(tensor).collect());
    // Nuts have all that a class can have, screws what it had at first.
    let rows: Vec<f32> = (0..3 * width).map(|i| ((i * 29) % 83) as f32 / 83.0 - 0.5).collect();
    let class = |threshold| ClassCalibration {
        threshold,
        pixel_threshold: (threshold > 0.22).then_some(2.0 * threshold),
        good_scores: ScoreStatistics::of(&[0.1, 0.123_456_79, 0.2, 0.05]).unwrap(),
        good_descriptors: (threshold == 0.3).then(|| DescriptorStatistics::new(&rows[..width], &rows[width..], 0.0123)),
    };
    let map: Vec<f32> = (0..256 * 256).map(|i| (i % 251) as f32 / 1e3).collect();
    Model {
        name: "screws and nuts".into(),
        config,
        preprocessor: Preprocessor::imagenet(Geometry { resize: 8, crop: 6 }),
        calibration: Calibration {
            classes: [("screw".to_owned(), class(0.2)), ("nut".to_owned(), class(0.3))].into(),
            overall: class(0.25),
            held_out: true,
            false_alarm_rate: 0.01,
        },
        weights,
        self_test: Some(SelfTest::new(3, 0.1, &map, 1e-3).unwrap()),
        card: "# Screws and nuts – a card".into(),
    }
}

fn files(model: &Model) -> Files {
    model.to_files().unwrap().into_iter().collect()
}

fn parse(files: &Files) -> Result<Model> {
    Model::parse(&mut |name| {
        let missing = || Error::Model { file: name.into(), reason: "no such file".into() };
        files.get(name).cloned().ok_or_else(missing)
    })
}

fn refusal(files: &Files) -> String {
    parse(files).expect_err("was read").to_string()
}

/// Replaces text in a JSON file.
fn edit(files: &mut Files, name: &str, from: &str, to: &str) {
    let text = String::from_utf8(files[name].clone()).unwrap();
    assert!(text.contains(from), "{name} has no {from}");
    files.insert(name.into(), text.replacen(from, to, 1).into_bytes());
}

/// Changes the manifest as a value.
fn edit_manifest(files: &mut Files, change: impl FnOnce(&mut serde_json::Value)) {
    let mut manifest = serde_json::from_slice(&files[MANIFEST]).unwrap();
    change(&mut manifest);
    files.insert(MANIFEST.into(), serde_json::to_vec(&manifest).unwrap());
}

/// Replaces a file's content, with matching size, hash and shard name: an intact model with wrong content.
fn republish(files: &mut Files, old: &str, bytes: Vec<u8>) -> String {
    let mut name = old.to_owned();
    if old.ends_with(".safetensors") {
        let hash = manifest::sha256(&bytes);
        let begin = old.find('-').unwrap() + 1;
        name.replace_range(begin..begin + 16, &hash[..16]);
    }
    edit_manifest(files, |manifest| {
        let listed = manifest["files"].as_array_mut().unwrap();
        let entry = listed.iter_mut().find(|entry| entry["name"] == old).unwrap();
        entry["name"] = name.clone().into();
        entry["bytes"] = bytes.len().into();
        entry["sha256"] = manifest::sha256(&bytes).into();
    });
    files.remove(old);
    files.insert(name.clone(), bytes);
    name
}

fn shard(files: &Files, kind: &str) -> String {
    files.keys().find(|name| name.starts_with(kind)).unwrap().clone()
}

/// Changes the tensors of the only shard of a kind.
fn change_tensors(files: &mut Files, kind: &str, change: impl FnOnce(&mut BTreeMap<String, HostTensor>)) -> String {
    let name = shard(files, kind);
    let mut weights = crate::tensor::safetensors_io::read(&name, &files[&name]).unwrap();
    change(&mut weights.0);
    let bytes = crate::tensor::safetensors_io::write(&weights, None).unwrap();
    republish(files, &name, bytes)
}

#[test]
fn what_was_written_is_read_and_written_again() {
    let mut quantized = model();
    quantized.weights = quantize(&quantized.weights).unwrap().0;
    let mut half = model();
    for tensor in half.weights.0.values_mut() {
        tensor.data = Data::F16(tensor.to_f32().iter().map(|&v| half::f16::from_f32(v)).collect());
    }
    half.self_test = None;
    for model in [model(), quantized, half] {
        let read = parse(&files(&model)).unwrap();
        assert_eq!(read, model);
        assert_eq!(read.to_files().unwrap(), model.to_files().unwrap());
        assert_eq!(model.to_files().unwrap().last().unwrap().0, MANIFEST);
    }
}

#[test]
fn the_manifest_describes_every_file() {
    let files = files(&model());
    let manifest = Manifest::parse(&files[MANIFEST]).unwrap();
    assert_eq!(manifest.files.len() + 1, files.len());
    assert_eq!(manifest.classes, ["nut", "screw"]);
    assert_eq!(manifest.total_bytes(), manifest.files.iter().map(|f| files[&f.name].len() as u64).sum::<u64>());
    for entry in &manifest.files {
        entry.verify(&files[&entry.name]).unwrap();
        assert_eq!(entry.dtype.is_some(), entry.name.ends_with(".safetensors"), "{}", entry.name);
    }
}

#[test]
fn models_with_the_same_encoder_share_its_file_and_no_other() {
    let first = model();
    let mut second = model();
    second.weights.0.get_mut("decoder.0.norm1.bias").unwrap().data = Data::F32(vec![1.0; 4]);
    let (first, second) = (files(&first), files(&second));
    assert_eq!(shard(&first, "encoder"), shard(&second, "encoder"));
    assert_ne!(shard(&first, "head"), shard(&second, "head"));
}

#[test]
fn shards_stay_below_their_limit_and_hold_everything() {
    let mut weights = model().weights;
    weights.0.retain(|name, _| Kind::of_tensor(name) == Kind::Head);
    weights = quantize(&weights).unwrap().0;
    for limit in [900, 2000, 5000, 100_000] {
        let shards = write_below(limit, Kind::Head, &weights).unwrap();
        let mut read = BTreeMap::new();
        for (i, (entry, bytes)) in shards.iter().enumerate() {
            assert!(bytes.len() < limit, "{} of {limit}", bytes.len());
            assert!(entry.name.ends_with(&format!("-{:05}-of-{:05}.safetensors", i + 1, shards.len())));
            read.extend(crate::tensor::safetensors_io::read(&entry.name, bytes).unwrap().0);
        }
        assert_eq!(Weights(read), weights, "limit {limit}");
        assert_eq!(shards.len() > 1, limit < 100_000, "limit {limit}: {} shards", shards.len());
    }
}

/// Encoders of width 1280 and more have such tensors.
#[test]
fn a_tensor_larger_than_a_shard_is_one_of_its_own() {
    let mut weights = model().weights;
    weights.0.retain(|name, _| Kind::of_tensor(name) == Kind::Head);
    for name in ["decoder.0.large.weight", "decoder.9.large.weight"] {
        weights.0.insert(name.into(), HostTensor::f32([300], vec![0.5; 300]).unwrap());
    }
    let limit = 900;
    let shards = write_below(limit, Kind::Head, &weights).unwrap();
    let mut read = BTreeMap::new();
    for (entry, bytes) in &shards {
        let shard = crate::tensor::safetensors_io::read(&entry.name, bytes).unwrap();
        assert!(bytes.len() < limit || shard.0.len() == 1, "{} tensors in {} bytes", shard.0.len(), bytes.len());
        read.extend(shard.0);
    }
    assert_eq!(shards.iter().filter(|(_, bytes)| bytes.len() > limit).count(), 2);
    assert_eq!(Weights(read), weights);
}

#[test]
fn altered_truncated_and_missing_files_are_named() {
    let whole = files(&model());
    for name in whole.keys().filter(|&name| name != MANIFEST) {
        let mut damaged = whole.clone();
        damaged.remove(name);
        assert_eq!(refusal(&damaged), format!("model file {name}: no such file"));
        if name == "README.md" {
            continue;
        }

        let mut damaged = whole.clone();
        damaged.get_mut(name).unwrap()[3] ^= 1;
        let error = refusal(&damaged);
        assert!(error.starts_with(&format!("model file {name}: has sha256")), "{error}");

        let mut damaged = whole.clone();
        damaged.get_mut(name).unwrap().pop();
        let error = refusal(&damaged);
        assert!(error.starts_with(&format!("model file {name}: has ")) && error.contains("truncated"), "{error}");
    }
}

#[test]
fn a_card_that_was_edited_is_read_as_it_is() {
    let mut edited = files(&model());
    edited.insert("README.md".into(), b"# Screws, with a better text".to_vec());
    let read = parse(&edited).unwrap();
    assert_eq!(read, Model { card: "# Screws, with a better text".into(), ..model() });
}

#[test]
fn unknown_versions_types_and_fields_are_named() {
    let whole = files(&model());
    let edits = [
        ("\"format_version\": 1", "\"format_version\": 3, \"surprise\": []", "format version 3 is not known"),
        ("\"format_version\": 1", "\"format_version\": \"new\"", "invalid type: string \"new\""),
        ("\"format_version\": 1,", "", "missing field `format_version`"),
        ("\"dtype\": \"float32\"", "\"dtype\": \"int3\"", "unknown variant `int3`"),
        ("\"kind\": \"head\"", "\"kind\": \"tail\"", "unknown variant `tail`"),
        ("\"classes\"", "\"surprise\": 1, \"classes\"", "unknown field `surprise`"),
        ("\"name\": \"screws and nuts\"", "\"name\": \" \"", "has no name"),
        ("\"nut\"", "\"bolt\"", "lists the classes [\"nut\", \"screw\"]"),
        ("\"tolerance\": 0.001", "\"tolerance\": -1", "self-test: tolerance = -1"),
    ];
    for (from, to, expected) in edits {
        let mut changed = whole.clone();
        edit(&mut changed, MANIFEST, from, to);
        let error = refusal(&changed);
        assert!(error.contains(expected), "{error}, expected {expected}");
        assert!(error.starts_with("model file manifest.json: ") || error.contains("calibration.json"), "{error}");
    }
    let mut lies = whole;
    edit(&mut lies, MANIFEST, "\"dtype\": \"float32\"", "\"dtype\": \"int8\"");
    assert!(refusal(&lies).contains("holds Float32 values"), "{}", refusal(&lies));
}

#[test]
fn a_manifest_cannot_point_outside_or_list_too_little_or_twice() {
    let whole = files(&model());
    let check = |expected: &str, change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut changed = whole.clone();
        edit_manifest(&mut changed, |manifest| change(manifest["files"].as_array_mut().unwrap()));
        let error = refusal(&changed);
        assert!(error.starts_with("model file manifest.json: ") && error.contains(expected), "{error}");
    };
    let position = |files: &[serde_json::Value], kind: &str| files.iter().position(|f| f["kind"] == kind).unwrap();
    for kind in ["config", "preprocessor", "calibration", "card", "encoder", "head"] {
        check("lists no ", &|files| drop(files.remove(position(files, kind))));
        check("../elsewhere", &|files| {
            let at = position(files, kind);
            files[at]["name"] = "../elsewhere".into();
        });
        let twice = if ["encoder", "head"].contains(&kind) { "-00001-of-00001" } else { "more than one" };
        check(twice, &|files| files.push(files[position(files, kind)].clone()));
    }
    check("no sha256", &|files| {
        let at = position(files, "head");
        files[at]["sha256"] = "é".repeat(32).into();
    });
    check("has no dtype", &|files| files[0]["dtype"] = "int8".into());
    check("needs a dtype", &|files| {
        let at = position(files, "head");
        files[at].as_object_mut().unwrap().remove("dtype");
    });
}

#[test]
fn each_wrong_tensor_is_named_with_its_file() {
    let whole = files(&model());
    let norm = "decoder.2.norm1.weight";
    let check = |kind: &str, expected: &str, change: &dyn Fn(&mut BTreeMap<String, HostTensor>)| {
        let mut changed = whole.clone();
        let name = change_tensors(&mut changed, kind, change);
        let error = refusal(&changed);
        assert!(error.contains(expected), "{error}, expected {expected}");
        assert!(
            error.starts_with(&format!("model file {name}: ")) || error.contains("(encoder and head shards)"),
            "{error}"
        );
    };
    check("head", "tensor decoder.2.norm1.weight is missing", &|t| drop(t.remove(norm)));
    check("encoder", "tensor encoder.pos_embed is missing", &|t| drop(t.remove("encoder.pos_embed")));
    check("head", "tensor decoder.2.norm1.weight: expected shape [4], found [2, 2]", &|t| {
        t.get_mut(norm).unwrap().shape = vec![2, 2];
    });
    check("encoder", "tensor encoder.blocks.11.norm1.weight: the model has no such tensor", &|t| {
        t.insert("encoder.blocks.11.norm1.weight".into(), t["encoder.blocks.0.norm1.weight"].clone());
    });
    check("encoder", "tensor decoder.2.norm1.weight: is in a shard of the wrong kind", &|t| {
        t.insert(norm.into(), t["encoder.blocks.0.norm1.weight"].clone());
    });

    let mut nan = whole.clone();
    let name = shard(&nan, "head");
    let mut bytes = nan[&name].clone();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let name = republish(&mut nan, &name, bytes);
    let error = refusal(&nan);
    assert!(
        error.starts_with(&format!("model file {name}: tensor decoder.7.norm2.weight: the value at [3] is NaN")),
        "{error}"
    );
}

#[test]
fn a_tensor_in_two_shards_is_named_with_the_second() {
    let mut files = files(&model());
    let (first, second) = (shard(&files, "head"), Weights([one_of(&model().weights)].into()));
    let second = crate::tensor::safetensors_io::write(&second, None).unwrap();
    let entry = FileEntry::of(String::new(), Kind::Head, Some(StorageType::Float32), &second);
    let name = manifest::shard_name(Kind::Head, &entry.sha256, 2, 2);
    let renamed = first.replace("of-00001", "of-00002");
    edit_manifest(&mut files, |manifest| {
        let listed = manifest["files"].as_array_mut().unwrap();
        listed.iter_mut().find(|entry| entry["name"] == first).unwrap()["name"] = renamed.clone().into();
        listed.push(serde_json::to_value(FileEntry { name: name.clone(), ..entry }).unwrap());
    });
    let bytes = files.remove(&first).unwrap();
    files.extend([(renamed, bytes), (name.clone(), second)]);
    let expected = format!("model file {name}: tensor decoder.2.norm1.weight: is in an earlier shard too");
    assert_eq!(refusal(&files), expected);
}

fn one_of(weights: &Weights) -> (String, HostTensor) {
    let name = "decoder.2.norm1.weight";
    (name.into(), weights.0[name].clone())
}

#[test]
fn int8_and_int4_are_for_linear_weights_only() {
    for format in [Format::Int8, Format::Int4] {
        let mut quantized = model();
        quantized.weights = quantize_to(&quantized.weights, format, &InputMoments::new()).unwrap().0;
        let mut files = files(&quantized);
        change_tensors(&mut files, "encoder", |t| {
            let table = t.get_mut("encoder.pos_embed").unwrap();
            *table = round_tensor("table", table, format).unwrap();
        });
        assert!(refusal(&files).contains("tensor encoder.pos_embed: is int8 or int4"), "{}", refusal(&files));
    }
}

#[test]
fn files_that_are_intact_but_contradict_each_other_are_named() {
    let whole = files(&model());
    for (file, from, to, expected) in [
        ("config.json", "\"patch_size\": 2", "\"patch_size\": 0", "patch_size = 0 must be from 1"),
        ("config.json", "\"layer_norm_eps\": 1e-6", "\"layer_norm_eps\": -1", "layer_norm_eps = -1 is outside"),
        (
            "config.json",
            "\"position_grid\": 3",
            "\"position_grid\": 4294967296",
            "position_grid = 4294967296 must be from",
        ),
        ("config.json", "{", "", "publish or copy the model again"),
        ("config.json", "\"mixer\": \"linear\"", "\"mixer\": \"spatial\"", "unknown variant `spatial`"),
        ("config.json", "\"patch_size\": 2", "\"patch_size\": 2, \"extra\": 1", "unknown field `extra`"),
        ("preprocessor_config.json", "\"height\": 6", "\"height\": 5", "not square"),
        ("calibration.json", "\"threshold\": 0.2", "\"threshold\": null", "invalid type: null"),
        ("calibration.json", "\"count\": 4", "\"count\": 0", "of no photo"),
    ] {
        let mut changed = whole.clone();
        edit(&mut changed, file, from, to);
        let bytes = changed[file].clone();
        republish(&mut changed, file, bytes);
        let error = refusal(&changed);
        assert!(error.starts_with(&format!("model file {file}: ")) && error.contains(expected), "{error}");
    }
    let mut odd = model();
    odd.preprocessor.geometry.crop = 5;
    let error = odd.to_files().unwrap_err().to_string();
    assert!(error.starts_with("model file preprocessor_config.json: ") && error.contains("patches of 2"), "{error}");
}

#[test]
fn a_model_that_could_not_be_read_is_not_written() {
    let mut nan = model();
    nan.weights.0.insert("decoder.0.norm1.bias".into(), HostTensor::f32([4], vec![f32::NAN; 4]).unwrap());
    assert!(nan.to_files().unwrap_err().to_string().contains("tensor decoder.0.norm1.bias"));
    let mut threshold = model();
    threshold.calibration.overall.threshold = f32::INFINITY;
    assert!(threshold.to_files().unwrap_err().to_string().contains("calibration.json"));
    let mut nameless = model();
    nameless.name.clear();
    assert!(nameless.to_files().unwrap_err().to_string().contains("has no name"));
}
