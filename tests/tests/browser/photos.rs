//! Photos dropped on the page, of every kind, and of the embedded model: maps, scores and verdicts.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::Parser;
use dinomaly::cli::Cli;
use dinomaly::dataset::photos as photos_in;
use dinomaly::inference::photo_detector::PhotoDetector;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::{Detection, Detector};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::photo::tiles::Tiles;
use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::site::{MODELS, Site, detect, detector, model};
use dinomaly_tests::{demo_model, max_difference, random};
use image::RgbImage;
use pollster::block_on;

use crate::{ROUNDED, TOLERANCE, assert_silent, path_of, photos, read, turn};

#[test]
fn photos_of_every_kind_get_the_map_of_the_native_detector() {
    let _turn = turn();
    let site = Site::unaltered();
    let photos = photos();
    for device in ["wasm", "webgpu"] {
        let chrome = Chrome::launch();
        let page = chrome.open(&format!("{}?profile&device={device}", site.url));
        page.wait_for_model();
        page.drop_files(&photos);
        for (i, name) in MODELS.iter().enumerate() {
            if i > 0 {
                // Photos stay, and are looked at again with the other model.
                page.choose("model", name);
            }
            let results = page.results(photos.len());
            assert_eq!(results.len(), photos.len(), "{device}, {name}: {}", page.text("main"));
            let native = detector(name);
            let allowed = allowed(device, name);
            let threshold = model(name).calibration.overall.threshold;
            let mut largest = 0.0_f32;
            for found in &results {
                let photo = read(path_of(&photos, found));
                let expected = detect(&native, &photo);
                let difference = max_difference(&found.map().values, &expected.map.values);
                assert!(difference <= allowed, "{device}, {name}, {}: map differs by {difference:e}", found.file);
                assert!((found.score - expected.score).abs() <= allowed, "{device}, {name}, {}", found.file);
                let region = [expected.region.x0, expected.region.y0, expected.region.x1, expected.region.y1];
                assert_eq!((found.width, found.height, found.region), (photo.width, photo.height, region));
                assert_eq!(found.device, device);
                assert_eq!(found.threshold, threshold);
                largest = largest.max(difference);
            }
            println!("{device}, {name}: {} photos, maps differ by at most {largest:e}", results.len());
        }
        assert_silent(&page);
        if device == "webgpu" {
            page.screenshot("page-webgpu");
            let profile = page.text("#profile");
            let timed = profile.contains("layer_norm × ") || profile.contains("offers no timestamps");
            assert!(profile.contains("first heatmap") && timed, "{profile}");
            let tuning = page.eval("localStorage.getItem('dinomaly-gpu')");
            assert!(tuning.as_str().is_some_and(|text| text.ends_with(": registers")), "{tuning}");
        }
    }
}

/// The map of a model of tiles has the photo's shape, on every device and in the canvas.
#[test]
fn large_photos_get_one_map_of_their_tiles() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let Model { config, weights, .. } = model(MODELS[0]);
    let whole = Preprocessor::imagenet(Geometry { resize: 98, crop: 98 });
    let tiled =
        random::model("tiles", config, Preprocessor { tiles: Some(Tiles::new(100)), ..whole }, weights).unwrap();
    let (path, photo) = (folder.path().join("tiles"), folder.path().join("long.png"));
    model_dir::write(&path, &tiled).unwrap();
    let colour = |x: u32, y: u32| [x * y % 251, x, 3 * y].map(|value| value as u8);
    RgbImage::from_fn(430, 160, |x, y| image::Rgb(colour(x, y))).save(&photo).unwrap();
    let expected = detect(&Detector::new(Candle::infer(Device::Cpu), &tiled).unwrap(), &read(&photo));
    // 430 · 7 / 100 = 30.1 and 160 · 7 / 100 = 11.2 patches, each 256 / 7 pixels of the map.
    assert_eq!((expected.map.width, expected.map.height), (1097, 402));
    let site = Site::of(&[path], None);
    for device in ["wasm", "webgpu"] {
        let chrome = Chrome::launch();
        let page = chrome.open(&format!("{}?device={device}", site.url));
        page.wait_for_model();
        page.drop_files(std::slice::from_ref(&photo));
        let found = page.results(1).remove(0);
        assert_eq!(found.region, [0.0, 0.0, 430.0, 160.0]);
        let map = found.map();
        assert_eq!((map.width, map.height), (expected.map.width, expected.map.height), "{device}");
        assert_same(&format!("{device}, tiles"), TOLERANCE, [((&map.values[..], found.score), &expected)].into_iter());
        assert_silent(&page);
    }
}

/// One photo, four executors: a real encoder, trained for a moment on real photos, in f32 and in int8; real photos through
/// the command line's detector (candle), the WGSL kernels natively, and dropped on the page without and with WebGPU.
#[test]
fn real_photos_get_one_map_from_four_executors() {
    let (Some(data), Some(weights)) = (dinomaly_tests::data(), dinomaly_tests::weights()) else { return };
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let models = NAMES.map(|name| folder.path().join(name));
    let data = if data.join("few").is_dir() { data.join("few") } else { data };
    let backbone = files_like(&weights, "safetensors").remove(0);
    let [data_arg, backbone_arg, f32_arg, int8_arg] =
        [&data, &backbone, &models[0], &models[1]].map(|path| path.to_str().unwrap());
    let settings = ["--resize", "256", "--crop", "224", "--iterations", "12", "--batch", "4", "--holdout", "0.25"];
    let train = ["train", data_arg, "--backbone", backbone_arg, "--out", f32_arg];
    let run = |arguments: &[&str]| Cli::parse_from([&["dinomaly"], arguments].concat()).run().unwrap();
    run(&[&train[..], &settings].concat());
    run(&["quantize", f32_arg, "--out", int8_arg]);

    let photos = defective(&data, folder.path());
    let expected = models.each_ref().map(|model| {
        let detector = PhotoDetector::new(&model_dir::read(model).unwrap()).unwrap();
        let mut expected = Vec::new();
        detector
            .detect(&photos, |_, result| {
                expected.push(result?.1);
                Ok(())
            })
            .unwrap();
        expected
    });
    let rounded = expected[0].iter().zip(&expected[1]).map(|(a, b)| max_difference(&a.map.values, &b.map.values));
    println!("int8 itself moves a map's values by up to {:e}", rounded.fold(0.0, f32::max));

    for (model, (name, expected)) in models.iter().zip(NAMES.iter().zip(&expected)) {
        let Some(gpu) = dinomaly_tests::executors::webgpu() else { break };
        let detector = Detector::new(gpu, &model_dir::read(model).unwrap()).unwrap();
        let look = |path: &PathBuf| block_on(detector.detect(&[read(path)])).unwrap().remove(0);
        let found: Vec<Detection> = photos[..EMULATED].iter().map(look).collect();
        let pairs = found.iter().map(|found| (&found.map.values[..], found.score)).zip(expected);
        assert_same(&format!("native WebGPU, {name}"), TOLERANCE, pairs);
    }
    let site = Site::of(&models, None);
    for (device, count) in [("wasm", photos.len()), ("webgpu", EMULATED)] {
        let photos = &photos[..count];
        let chrome = Chrome::launch();
        let page = chrome.open(&format!("{}?device={device}", site.url));
        page.resize(1280, 1900);
        page.wait_for_model();
        page.drop_files(photos);
        for (i, (name, expected)) in NAMES.iter().zip(&expected).enumerate() {
            if i > 0 {
                page.choose("model", name);
            }
            let results = page.results(count);
            assert_eq!(results.len(), count, "{device}: {}", page.text("main"));
            let maps: Vec<Vec<f32>> = results.iter().map(|found| found.map().values).collect();
            let pairs = results.iter().zip(&maps).map(|(found, map)| {
                let photo = photos.iter().position(|path| path.ends_with(&found.file)).unwrap();
                ((&map[..], found.score), &expected[photo])
            });
            assert_same(&format!("page on {device}, {name}"), allowed(device, name), pairs);
        }
        assert_silent(&page);
        page.screenshot(&format!("page-real-{device}"));
        page.prefer("dark");
        page.resize(420, 1900);
        page.screenshot(&format!("page-real-{device}-dark-narrow"));
    }
}

/// Names of the models of real photos.
const NAMES: [&str; 2] = ["real", "real in int8"];

/// Photos that an emulated GPU, which needs seconds for each, is given.
const EMULATED: usize = 2;

/// How far a map's value may be from the native detector's.
fn allowed(device: &str, model: &str) -> f32 {
    if device == "wasm" && model.ends_with("int8") { ROUNDED } else { TOLERANCE }
}

/// Compares maps and scores with the native detector's.
fn assert_same<'a>(what: &str, allowed: f32, pairs: impl Iterator<Item = ((&'a [f32], f32), &'a Detection)>) {
    let (mut largest, mut count) = (0.0_f32, 0);
    for ((map, score), expected) in pairs {
        let difference = max_difference(map, &expected.map.values);
        assert!(difference <= allowed, "{what}: a map differs by {difference:e}");
        assert!((score - expected.score).abs() <= allowed, "{what}: score {score}, expected {}", expected.score);
        largest = largest.max(difference);
        count += 1;
    }
    assert!(count > 0, "{what}: no photo");
    println!("{what}: {count} real photos, maps differ from candle's by at most {largest:e}");
}

/// What `cargo demo` shows: the embedded model, and photos to click.
#[test]
fn samples_of_the_embedded_model_are_judged_by_their_class() {
    let _turn = turn();
    let model = demo_model();
    let folder = tempfile::tempdir().unwrap();
    for class in Class::ALL {
        fs::create_dir(folder.path().join(class.name())).unwrap();
        let save = |photo: RgbImage, kind: &str| {
            photo.save(folder.path().join(class.name()).join(format!("{} {kind}.png", class.name()))).unwrap();
        };
        save(class.good(2025, "demo", 0, 256), "good");
        save(class.defective(2025, class.defects()[0], 0, 256).photo, class.defects()[0]);
    }
    let site = Site::of(std::slice::from_ref(&model), Some(folder.path()));
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.resize(1280, 1900);
    page.wait_for_model();
    let samples = page.eval("document.querySelectorAll('#samples button').length");
    assert_eq!(samples, 2 * Class::ALL.len());
    page.eval("document.querySelectorAll('#samples button').forEach((button) => button.click())");
    let results = page.results(2 * Class::ALL.len());
    let model = model_dir::read(&model).unwrap();
    let native = PhotoDetector::new(&model).unwrap();
    assert_eq!(results.len(), 2 * Class::ALL.len());
    for found in &results {
        let class = found.file.split(' ').next().unwrap();
        let photo = read(&folder.path().join(class).join(format!("{}.png", found.file)));
        let expected = detect(native.detector(), &photo);
        let difference = max_difference(&found.map().values, &expected.map.values);
        assert!(difference <= ROUNDED, "{}: map differs by {difference:e}", found.file);
        assert_eq!(found.threshold, model.calibration.classes[class].threshold, "{}", found.file);
        println!("{}: score {:.4}, threshold {:.4}", found.file, found.score, found.threshold);
        assert_eq!(found.score > found.threshold, !found.file.ends_with(" good"), "{} is judged wrongly", found.file);
    }
    assert_silent(&page);
    page.screenshot("page-demo");
}

/// A defective photo of each kind of each class, copied to a folder under a name of its own.
fn defective(data: &Path, to: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let classes = folders(data).into_iter().map(|class| class.join("test")).collect::<Vec<_>>();
    let kinds = classes.iter().flat_map(|class| folders(class)).filter(|kind| !kind.ends_with("good"));
    let first = kinds.filter_map(|kind| photos_in(&kind).unwrap().into_iter().next());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    first
        .map(|photo| {
            let kind = photo.parent().unwrap();
            let class = kind.parent().unwrap().parent().unwrap();
            let copy = to.join(format!("{} {} {}", name(class), name(kind), name(&photo)));
            fs::copy(&photo, &copy).unwrap();
            copy
        })
        .collect()
}

/// Files of a folder with this extension.
fn files_like(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}
