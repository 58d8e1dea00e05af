//! Checkpoints that timm, transformers and anomalib wrote themselves, against what they compute with them (`peers/checkpoints.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use dinomaly::dataset::read_photo;
use dinomaly::encoders::backbone::{self, Backbone, Origin, Told};
use dinomaly::publish::{self, ImportPlan};
use dinomaly::training::Variant;
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::maps::score::{anomaly_map, image_score, mean, upsample_align_corners};
use dinomaly_core::model::config::{Architecture, Mlp, Positions, Recentring, Resampling};
use dinomaly_core::ops::{Ops, Read};
use dinomaly_core::photo::preprocess::{Geometry, Resized};
use dinomaly_core::tensor::named::Shapes;
use dinomaly_tests::{Golden, fixtures, max_difference, read_golden};
use serde_json::{Value, json};

use crate::foundations::{differences, patches};

/// Largest relative difference allowed of a map, an encoder's block or a score: a few dozen roundings of f32.
const TOLERANCE: f32 = 5e-6;

fn fixture(name: &str) -> PathBuf {
    fixtures("libraries").join(name)
}

fn read(folder: &str, told: Told) -> Backbone {
    backbone::read(&fixture(folder), told).unwrap_or_else(|error| panic!("{folder}: {error:#}"))
}

/// Largest relative difference over the blocks of an encoder.
fn difference(folder: &str, backbone: &Backbone) -> f32 {
    let expected = read_golden(&fixture(folder).join("expected.safetensors")).into_iter().collect::<Vec<_>>();
    differences(&Candle::infer(Device::Cpu), backbone, &expected, "").into_iter().fold(0.0, f32::max)
}

/// Folder and how its position table is resampled.
const ENCODERS: [(&str, Resampling); 7] = [
    ("timm-vit", Resampling::Antialiased),
    ("timm-dinov2-registers", Resampling::Antialiased),
    ("timm-dinov3", Resampling::Offset),
    ("transformers-dinov2", Resampling::Exact),
    ("transformers-dinov2-registers", Resampling::Antialiased),
    ("transformers-vit", Resampling::Exact),
    ("transformers-dinov3", Resampling::Offset),
];

#[test]
fn encoders_compute_what_their_library_computes_on_another_grid() {
    for (folder, resampling) in ENCODERS {
        let backbone = read(folder, Told::default());
        assert_eq!(backbone.config.resampling, resampling, "{folder}");
        assert_eq!(backbone.config.num_attention_heads, 2, "{folder}: heads stand in the file beside it");
        assert_eq!((backbone.mean, backbone.std), ([0.5, 0.4, 0.3], [0.2, 0.25, 0.5]), "{folder}");
        let found = difference(folder, &backbone);
        println!("{folder}: {found:.1e}");
        assert!(found <= TOLERANCE, "{folder}: {found:e}");
    }
    let eps = |folder: &str| read(folder, Told::default()).config.layer_norm_eps;
    assert_eq!((eps("transformers-vit"), eps("transformers-dinov2")), (1e-12, 1e-6));
}

#[test]
fn each_way_to_resample_is_another_encoder() {
    for folder in ["timm-vit", "transformers-dinov2", "transformers-dinov2-registers"] {
        let right = read(folder, Told::default()).config.resampling;
        for origin in Origin::ALL {
            let backbone = read(folder, Told { heads: None, origin: Some(origin) });
            let found = difference(folder, &backbone);
            println!("{folder} as of {}: {found:.1e}", origin.name());
            assert_eq!(found <= TOLERANCE, backbone.config.resampling == right, "{folder}, {origin:?}: {found:e}");
        }
    }
}

/// A model of anomalib's checkpoint; thresholds are of three grey photos.
fn import(name: &str, change: impl FnOnce(&mut ImportPlan)) -> anyhow::Result<Model> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("photos");
    std::fs::create_dir(&data)?;
    for grey in [60, 120, 180] {
        image::RgbImage::from_pixel(40, 40, image::Rgb([grey; 3])).save(data.join(format!("{grey}.png")))?;
    }
    let mut plan = ImportPlan {
        checkpoint: fixture(&format!("anomalib/{name}.ckpt")),
        data,
        out: folder.path().join("model"),
        classes: Vec::new(),
        photos: 3,
        held_out: true,
        geometry: None,
        heads: Some(2),
        origin: None,
        layout: None,
        false_alarm_rate: 0.01,
        variant: Variant::default(),
    };
    change(&mut plan);
    publish::import(&plan)
}

/// What anomalib computed with a checkpoint.
fn expected(name: &str) -> BTreeMap<String, Golden> {
    read_golden(&fixture(&format!("anomalib/{name}.expected.safetensors")))
}

/// Largest relative differences of maps and scores to anomalib's own on its own input.
fn against_anomalib(name: &str, model: &Model) -> (f32, f32) {
    let input = &expected(name)["input"];
    let inputs = input.values.chunks_exact(input.values.len() / 2).map(<[f32]>::to_vec).collect::<Vec<_>>();
    of_inputs(name, model, &inputs, "")
}

/// The same from the photos that anomalib read, resized and cropped itself.
fn against_anomalib_from_photos(name: &str, model: &Model) -> (f32, f32) {
    let read = |file: &str| read_photo(&fixture(&format!("anomalib/{file}.png")), None).unwrap();
    let inputs = ["wide", "tall"].map(|file| model.preprocessor.pixels(&read(file)));
    of_inputs(name, model, &inputs, "photo.")
}

/// Largest relative differences for two inputs `[3, side, side]`; `kind` is the beginning of the names of what is expected.
fn of_inputs(name: &str, model: &Model, inputs: &[Vec<f32>], kind: &str) -> (f32, f32) {
    let mut expected = expected(name);
    let [map, score] = ["map", "score"].map(|of| expected.remove(&format!("{kind}{of}")).unwrap());
    let Architecture::Dinomaly(config) = &model.config else { panic!("{name} is no Dinomaly") };
    let ops = Candle::infer(Device::Cpu);
    let side = model.preprocessor.geometry.crop;
    let (mut map_difference, mut score_difference) = (0f32, 0f32);
    for (i, pixels) in inputs.iter().enumerate() {
        let input = Golden { shape: vec![1, 3, side, side], values: pixels.clone() };
        let (grid, input) = patches(&input, config.encoder.patch_size);
        let network = model.weights.dinomaly(&ops, config, grid).unwrap();
        let groups = network.distances(&ops, &ops.upload(&input).unwrap()).unwrap();
        let groups = pollster::block_on(ops.read_back(&groups.iter().collect::<Vec<_>>())).unwrap();
        let groups: Vec<&[f32]> = groups.iter().map(|group| &group[config.kept_prefix_tokens()..]).collect();
        let ours = upsample_align_corners(&mean(&groups), grid, side);
        let theirs = &map.values[i * side * side..][..side * side];
        let largest = theirs.iter().fold(0f32, |largest, v| largest.max(v.abs()));
        map_difference = map_difference.max(max_difference(&ours, theirs) / largest);
        let ours = image_score(&anomaly_map(&groups, grid, side, config.map_border).unwrap());
        score_difference = score_difference.max((ours - score.values[i]).abs() / score.values[i]);
    }
    (map_difference, score_difference)
}

#[test]
fn dinomaly_of_anomalib_gives_its_maps_and_scores() {
    for name in ["plain", "recentred", "patches-only", "other-layers"] {
        let model = import(name, |_| {}).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let Architecture::Dinomaly(config) = &model.config else { panic!("{name} is no Dinomaly") };
        assert_eq!(config.encoder.resampling, Resampling::Exact, "{name}");
        assert_eq!(config.encoder.name, "vit_small_test", "{name}");
        assert_eq!(config.recentring == Recentring::Layers, name == "recentred");
        assert_eq!(config.remove_class_token, ["recentred", "patches-only"].contains(&name), "{name}");
        let pixels = &model.preprocessor;
        assert_eq!(pixels.geometry, Geometry { resize: 32, crop: 28 }, "{name}");
        assert_eq!((pixels.mean, pixels.std), ([0.5, 0.4, 0.3], [0.2, 0.25, 0.5]), "{name}");
        let (map, score) = against_anomalib(name, &model);
        println!("{name}: map {map:.1e}, score {score:.1e}");
        assert!(map <= TOLERANCE && score <= TOLERANCE, "{name}: map {map:e}, score {score:e}");
    }
}

/// anomalib resizes floats. Rounded to bytes, as the official code does it, a resized value is off by up to a 500th of white.
#[test]
fn dinomaly_of_anomalib_gives_its_maps_and_scores_of_photos() {
    for name in ["plain", "recentred", "patches-only", "other-layers"] {
        let mut model = import(name, |_| {}).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let (map, score) = against_anomalib_from_photos(name, &model);
        println!("{name}: map {map:.1e}, score {score:.1e}");
        assert!(map <= 2.0 * TOLERANCE && score <= TOLERANCE, "{name}: map {map:e}, score {score:e}");
        model.preprocessor.resized = Resized::Bytes;
        let (map, score) = against_anomalib_from_photos(name, &model);
        println!("{name}, rounded to bytes: map {map:.1e}, score {score:.1e}");
        assert!(map > 20.0 * TOLERANCE, "{name}: map {map:e}, score {score:e}");
    }
}

#[test]
fn what_is_given_wins_over_what_anomalib_saved() {
    let model = import("plain", |plan| {
        plan.geometry = Some(Geometry { resize: 24, crop: 24 });
        plan.origin = Some(Origin::Original);
    })
    .unwrap();
    assert_eq!(model.preprocessor.geometry, Geometry { resize: 24, crop: 24 });
    assert_eq!(model.config.encoder().resampling, Resampling::Offset);
    // As before the origin was told: the table is shifted by a tenth of a patch.
    let (map, score) = against_anomalib("plain", &model);
    assert!(map > 100.0 * TOLERANCE && score > TOLERANCE, "map {map:e}, score {score:e}");
}

#[test]
fn folders_of_libraries_are_read_by_any_of_their_files() {
    let index = Path::new("transformers-dinov2/model.safetensors.index.json");
    let of_index = read(index.to_str().unwrap(), Told::default());
    assert_eq!(of_index.weights, read("transformers-dinov2", Told::default()).weights);
    let of_file = read("transformers-vit/model.safetensors", Told::default());
    assert_eq!(of_file.config.num_attention_heads, 2);
}

/// `peers/checkpoints.py --zoo FILE` writes names and shapes of all vision transformers of timm (18 MB, so no fixture), with what they do
/// not tell; `DINOMALY_ZOO=FILE` names it.
#[test]
#[ignore = "needs the file that peers/checkpoints.py --zoo writes"]
fn every_vision_transformer_of_timm_is_read_rightly_or_refused() {
    let path = std::env::var_os("DINOMALY_ZOO").expect("DINOMALY_ZOO names the file");
    let zoo = dinomaly_tests::read_json(Path::new(&path));
    let (mut read, mut wrong, mut reasons) = (0, Vec::new(), std::collections::BTreeMap::new());
    // `test_vit` is timm's own test model: no other of its width is published.
    for (name, model) in zoo.as_object().unwrap().iter().filter(|(name, _)| *name != "test_vit") {
        let shapes: Shapes = serde_json::from_value(model["shapes"].clone()).unwrap();
        for called in [name.as_str(), "encoder"] {
            let plan = match backbone::plan(&shapes, called, Told::default(), None) {
                Ok(plan) => plan,
                Err(error) => {
                    let reason = error.to_string();
                    let kind: String = reason.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().into();
                    reasons.entry(kind).or_insert_with(Vec::new).push(name);
                    continue;
                }
            };
            read += 1;
            let config = plan.config;
            let activation = if config.mlp == Mlp::Gelu { "GELU" } else { "SiLU" };
            let rope =
                if config.positions == Positions::Rotary { Value::from("RotaryEmbeddingDinoV3") } else { Value::Null };
            let found = json!([config.num_attention_heads, config.layer_norm_eps, activation, rope]);
            let expected = json!([model["heads"], model["eps"], model["activation"], model["rope"]]);
            if found != expected || model["block"].as_str().unwrap().contains("PostNorm") {
                wrong.push(format!("{name} called {called}: {found}, expected {expected}"));
            }
        }
    }
    for (reason, names) in &reasons {
        println!("{}: {reason} ({} …)", names.len(), names[0]);
    }
    println!(
        "{read} of {} read, {} refused",
        2 * zoo.as_object().unwrap().len(),
        reasons.values().map(Vec::len).sum::<usize>()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
