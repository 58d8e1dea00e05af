//! `fewshot`: a model of good photos without training, in every command that takes models.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use dinomaly::encoders::backbone;
use dinomaly::model_dir;
use dinomaly_core::bundle::Manifest;
use dinomaly_core::model::config::{Architecture, MemoryKind};
use dinomaly_core::tensor::HostTensor;

use crate::workshop::{Workshop, names};

const SMALL: &str = "--backbone @encoder.safetensors --size 64 --layers 2,5,8";

fn score(text: &str) -> f64 {
    text.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_model_without_training_goes_where_a_trained_one_goes() {
    let shop = Workshop::new();
    let class = names(&shop.path("data")).remove(0);
    let places = MemoryKind::Places { photos: 2 * 10, grid: 4, nearest: 6, reach: 2 };
    for (memory, options, kind) in [
        ("subspace", "", MemoryKind::Subspace { subspaces: 2 }),
        ("bank", "", MemoryKind::Bank { rows: 2 * 10 * 16 }),
        ("rad", "--nearest 6 --reach 2", places),
    ] {
        shop.succeed(shop.command(&format!("fewshot @data --out @{memory} --memory {memory} {options} {SMALL}")));
        let model = model_dir::read(&shop.path(memory)).unwrap();
        let Architecture::Memory(config) = &model.config else { panic!("{:?}", model.config) };
        assert_eq!((config.memory, config.target_layers.as_slice()), (kind, &[2, 5, 8][..]));
        assert!(!config.final_norm, "the encoder has none");
        assert_eq!(model.calibration.classes.len(), 2);
        assert!(model.calibration.held_out);
        assert_eq!(model.calibration.classes[&class].good_scores.count, 10);
        let manifest = fs::read(shop.path(memory).join("manifest.json")).unwrap();
        assert_eq!(Manifest::parse(&manifest).unwrap().format_version, 2, "an older program refuses it by name");

        // A photo of the memory is nearer to it than a photo that was left out can be.
        let photo = |model: &str, photo: &str| {
            score(&shop.succeed(shop.command(&format!("detect @{model} @data/{class}/{photo} --class {class}"))))
        };
        let own = photo(memory, "train/good/000.png");
        assert!(own < model.calibration.classes[&class].good_scores.quantiles[0].score, "{memory}: {own}");
        let before = photo(memory, "test/good/000.png");
        for format in ["f16", "int8", "int4"] {
            shop.succeed(shop.command(&format!("quantize @{memory} --to {format} --out @{memory}-{format}")));
            let after = photo(&format!("{memory}-{format}"), "test/good/000.png");
            // Random weights of 64 channels round worse than trained ones.
            let tolerance = [("f16", 0.01), ("int8", 0.1), ("int4", 0.5)].iter().find(|(name, _)| *name == format);
            assert!((before - after).abs() < tolerance.unwrap().1 * before, "{memory} {format}: {before} and {after}");
        }
        let text = shop.succeed(shop.command(&format!("inspect @{memory}")));
        assert!(text.contains("without training") && text.contains("memory"), "{text}");
        let text = shop.succeed(shop.command(&format!("evaluate @{memory} @data --report @{memory}.html")));
        assert!(text.contains("I-AUROC"), "{text}");
        shop.succeed(shop.command(&format!("calibrate @{memory} @data --out @{memory}-calibrated")));
        let error = shop.refuse(shop.command(&format!("attention @{memory} @data/{class}/test/good/000.png --out @a")));
        assert!(error.contains("needs a trained decoder"), "{error}");
    }
}

#[test]
fn one_photo_makes_a_model_and_no_promise() {
    let shop = Workshop::new();
    let class = names(&shop.path("data")).remove(0);
    fs::create_dir(shop.path("one")).unwrap();
    fs::copy(shop.path(&format!("data/{class}/train/good/000.png")), shop.path("one/photo.png")).unwrap();
    for memory in ["bank", "rad", "subspace"] {
        let mut command = shop.command(&format!("fewshot @one --out @{memory} --memory {memory} {SMALL}"));
        let Output { status, stderr, .. } = command.output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert!(status.success() && text.contains("one photo does not tell how good parts differ"), "{text}");
        assert!(!text.contains("4 good photos"), "copies are no photos: {text}");
        let model = model_dir::read(&shop.path(memory)).unwrap();
        assert!(!model.calibration.held_out);
        assert!(model.calibration.overall.threshold > 0.0);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let shop = Workshop::new();
    for (options, reason) in [
        ("--size 65", "--size 65 is no multiple of the encoder's patches of 16 pixels"),
        ("--layers 3,12", "layer 12 is not there: the encoder has blocks 0 to 11"),
        ("--memory bank --bank-size 1KiB", "has room for 1 patch of each layer, and one photo has 16"),
        ("--memory bank --variance 0.5", "--variance is for --memory subspace"),
        ("--memory rad --bank-size 1KiB", "a bank of this size has room for 0 patches at each place"),
        ("--bank-size 1MiB", "--bank-size is for --memory bank or rad"),
        ("--memory bank --nearest 3", "--nearest is for --memory rad"),
        ("--reach 3", "--reach is for --memory rad"),
        ("--memory rad --turns", "--turns is for --memory subspace or bank"),
        ("--memory rad --tile-size 32", "--tile-size is for --memory subspace or bank"),
    ] {
        let error = shop.refuse(shop.command(&format!(
            "fewshot @data --out @model --backbone @encoder.safetensors {}",
            if options.contains("--size") { options.to_owned() } else { format!("--size 64 {options}") }
        )));
        assert!(error.contains(reason), "{options}: {error}");
        assert!(!shop.path("model").exists());
    }
    let error = shop.refuse(shop.command(&format!("fewshot @nothing --out @model {SMALL}")));
    assert!(error.contains("nothing does not exist"), "{error}");
}

/// Files of a folder by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn photos_added_later_give_the_model_of_all_at_once() {
    let shop = Workshop::new();
    let classes = names(&shop.path("data"));
    let photos = |class: &str, range: std::ops::Range<usize>, to: &str| {
        let folder = shop.path(to);
        fs::create_dir_all(&folder).unwrap();
        for i in range {
            // Another name, and so another place in the list.
            let to = folder.join(format!("{}.png", 90 - i));
            fs::copy(shop.path(&format!("data/{class}/train/good/{i:03}.png")), to).unwrap();
        }
    };
    photos(&classes[0], 0..3, "first");
    photos(&classes[0], 3..5, "more");
    photos(&classes[0], 0..5, "all/first");
    // One of them twice.
    fs::copy(shop.path("all/first/90.png"), shop.path("all/first/again.png")).unwrap();
    photos(&classes[1], 0..2, "other");

    for memory in ["subspace", "bank", "rad"] {
        shop.succeed(shop.command(&format!("fewshot @all/first --out @at-once/{memory} --memory {memory} {SMALL}")));
        shop.succeed(shop.command(&format!("fewshot @first --out @begun/{memory} --memory {memory} {SMALL}")));
        let text = shop.succeed(shop.command(&format!("fewshot @more --add @begun/{memory} --out @added/{memory}")));
        assert!(text.contains("2 photos to class first") && text.contains("of 5 photos"), "{text}");
        let [mut added, mut expected] = ["added", "at-once"].map(|name| files(&shop.path(&format!("{name}/{memory}"))));
        for files in [&mut added, &mut expected] {
            files.remove("few-shot.json").unwrap();
        }
        assert!(added == expected, "{memory}: {:?} and {:?}", added.keys(), expected.keys());
    }

    // In place, and a second class.
    let text = shop.succeed(shop.command("fewshot @other --add @begun/bank --class other"));
    assert!(text.contains("2 photos to new class other") && text.contains("of 5 photos"), "{text}");
    assert_eq!(model_dir::read(&shop.path("begun/bank")).unwrap().calibration.classes.len(), 2);

    let before = files(&shop.path("begun/bank"));
    let Output { stderr, .. } = shop.command("fewshot @more --add @begun/bank --memory subspace").output().unwrap();
    assert!(String::from_utf8(stderr).unwrap().contains("'--add <MODEL>' cannot be used with '--memory"));
    for (command, reason) in [
        ("fewshot @data --add @begun/subspace", "the model is of first alone, and these photos are of"),
        ("fewshot @data --add @begun/subspace --class first", "--class names the class of one folder of photos"),
    ] {
        let error = shop.refuse(shop.command(command));
        assert!(error.contains(reason), "{error}");
    }
    fs::write(shop.path("first/90.png"), "another").unwrap();
    let error = shop.refuse(shop.command("fewshot @more --add @begun/bank"));
    assert!(error.contains("90.png, which the model was made of, was changed: make the model again"), "{error}");
    fs::remove_file(shop.path("first/90.png")).unwrap();
    let error = shop.refuse(shop.command("fewshot @more --add @begun/bank"));
    assert!(error.contains("is gone"), "{error}");
    fs::remove_file(shop.path("at-once/bank/few-shot.json")).unwrap();
    let error = shop.refuse(shop.command("fewshot @more --add @at-once/bank"));
    assert!(error.contains("holds no few-shot.json"), "{error}");
    assert!(files(&shop.path("begun/bank")) == before, "a refusal changes nothing");
}

#[test]
fn rad_applies_the_final_norm_of_the_encoder_and_says_if_there_is_none() {
    let shop = Workshop::new();
    let make = |backbone: &str, out: &str| {
        let mut command = shop.command(&format!(
            "fewshot @data --out @{out} --memory rad --bank-size 20KiB --backbone @{backbone} --size 64 --layers 2,8"
        ));
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{text}");
        let model = model_dir::read(&shop.path(out)).unwrap();
        let Architecture::Memory(config) = &model.config else { panic!("{:?}", model.config) };
        assert_eq!(model.weights.has_final_norm(), config.final_norm);
        // Room for five patches of 64 channels at each of 16 places in two layers; three of them of the first class.
        assert!(matches!(config.memory, MemoryKind::Places { photos: 5, nearest: 3, .. }), "{}", config.memory);
        assert!(text.contains("thinned: those left out are at a mean distance of"), "{text}");
        (config.final_norm, text)
    };
    let (applied, text) = make("encoder.safetensors", "without");
    assert!(!applied && text.contains("has no final norm, which this memory is to apply"), "{text}");

    let mut backbone = backbone::read(&shop.path("encoder.safetensors"), None).unwrap();
    for (end, value) in [("weight", 1.5), ("bias", 0.1)] {
        let tensor = HostTensor::f32([64], vec![value; 64]).unwrap();
        backbone.weights.0.insert(format!("encoder.norm.{end}"), tensor);
    }
    backbone::write(&shop.path("normed.safetensors"), &backbone).unwrap();
    let (applied, text) = make("normed.safetensors", "with");
    assert!(applied && !text.contains("has no final norm"), "{text}");
    // A memory that does not apply it publishes none.
    shop.succeed(shop.command("fewshot @data --out @subspace --backbone @normed.safetensors --size 64 --layers 2,8"));
    assert!(!model_dir::read(&shop.path("subspace")).unwrap().weights.has_final_norm());
}
