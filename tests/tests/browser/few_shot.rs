//! A detector that the page's modules make of good photos: the native one, but for rounding, and a model like any other.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly_core::bundle::{Arriving, Manifest, Model};
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::fewshot::{FeatureEncoder, GoodPhotos, MemoryChoice, PreparedPhoto, Recipe, make};
use dinomaly_core::photo::decode::Photo;
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::site::Site;
use pollster::block_on;
use serde_json::Value;

use crate::in_out::download;
use crate::{ROUNDED, TOLERANCE, assert_silent, turn};

/// Good photos of two products.
const PHOTOS: [(&str, Class); 5] = [
    ("gear", Class::Gear),
    ("gear", Class::Gear),
    ("gear", Class::Gear),
    ("fabric", Class::Fabric),
    ("fabric", Class::Fabric),
];

/// Makes a model of the site's samples in the page, with the module of a device: base64 by file name.
fn made_in_page(page: &Page, device: &str, memory: &str) -> Value {
    page.eval(&format!(
        "(async () => {{
            const at = (path) => new URL(path, document.baseURI).href;
            const bytes = async (path) => new Uint8Array(await (await fetch(at(path))).arrayBuffer());
            const index = await (await fetch(at('models.json'))).json();
            const {{ glue, wasm }} = index.modules[{device:?}];
            const module = await import(at(glue));
            const packed = new Blob([await bytes(wasm)]).stream();
            const unpacked = new Response(packed.pipeThrough(new DecompressionStream('gzip')));
            await module.default({{ module_or_path: await unpacked.arrayBuffer() }});
            const [model] = index.models;
            const maker = new module.FewShot(await bytes(model.manifest));
            maker.useDevice(await module.openDevice(undefined));
            for (const {{ name }} of maker.files()) {{
                const content = await bytes(model.files[name]);
                maker.verify(name, content);
                maker.add(name, content);
            }}
            maker.start({{ memory: {memory:?} }});
            for (const {{ name, class: product, path }} of index.samples) {{
                await maker.addPhoto(name, await bytes(path), product);
            }}
            // What is taken out leaves nothing behind.
            const extra = await maker.addPhoto('twice', await bytes(index.samples[0].path), 'other');
            if (!maker.removePhoto(extra) || maker.removePhoto(extra)) throw new Error('a photo was not removed once');
            const {{ files, doubts }} = await maker.make('made');
            const base64 = ({{ name, content }}) =>
                [name, btoa(Array.from(content, (byte) => String.fromCharCode(byte)).join(''))];
            return {{ files: Object.fromEntries(files.map(base64)), doubts }};
        }})()"
    ))
}

/// The same on this machine's processor.
fn made_natively(source: &Path, samples: &Path, memory: MemoryChoice) -> Model {
    let files = model_dir::read(source).unwrap().to_files().unwrap();
    let mut arriving = Arriving::new(Manifest::parse(&files.last().unwrap().1).unwrap());
    let processor = Processor::new(ProcessorPrecision::F32);
    for (name, content) in &files[..files.len() - 1] {
        match name.ends_with(".safetensors") {
            true => arriving.place(&processor, name, content).unwrap(),
            false => arriving.describe(name, content.clone()).unwrap(),
        }
    }
    let recipe = Recipe { memory, ..Recipe::default() };
    let encoder = FeatureEncoder::of_arrived(processor, &arriving, &recipe, None).unwrap();
    let features: Vec<_> = (0..PHOTOS.len())
        .map(|i| sample(samples, i))
        .map(|path| PreparedPhoto::new(encoder.preprocessor(), photo(&path), &fs::read(&path).unwrap()))
        .map(|prepared| block_on(encoder.features(vec![prepared])).unwrap().remove(0))
        .collect();
    let mut classes = GoodPhotos::new();
    for ((class, _), features) in PHOTOS.iter().zip(&features) {
        classes.entry((*class).to_owned()).or_default().push(features);
    }
    let made = block_on(make(&encoder, &classes, &recipe, || ())).unwrap();
    let mut weights = model_dir::read(source).unwrap().weights;
    weights.0.retain(|name, _| name.starts_with("encoder."));
    weights.0.extend(made.weights.0.clone());
    Model {
        name: "made".into(),
        card: made.card("made", encoder.preprocessor()),
        config: made.config.into(),
        preprocessor: encoder.preprocessor().clone(),
        calibration: made.calibration,
        weights,
        self_test: Some(made.self_test),
    }
}

fn sample(samples: &Path, i: usize) -> std::path::PathBuf {
    samples.join(PHOTOS[i].0).join(format!("{i}.png"))
}

fn photo(path: &Path) -> Photo {
    Photo::decode("photo", &fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_made_in_the_page_is_the_native_one_and_opens_everywhere() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let samples = folder.path().join("samples");
    for (i, (name, class)) in PHOTOS.iter().enumerate() {
        fs::create_dir_all(samples.join(name)).unwrap();
        class.good(3, "few-shot", i as u64, 256).save(sample(&samples, i)).unwrap();
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model");
    let site = Site::of(std::slice::from_ref(&source), Some(&samples));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    let defective = Class::Gear.defective(3, Class::Gear.defects()[0], 9, 256);
    let test = folder.path().join("defective.png");
    defective.photo.save(&test).unwrap();

    for (device, memory) in [
        ("cpu", MemoryChoice::Subspace),
        ("cpu", MemoryChoice::Bank),
        ("cpu", MemoryChoice::Places),
        ("gpu", MemoryChoice::Subspace),
        ("gpu", MemoryChoice::Bank),
        ("gpu", MemoryChoice::Places),
    ] {
        let made = made_in_page(&page, device, memory.name());
        let doubts = made["doubts"].as_array().unwrap();
        assert_eq!(doubts.len(), 2, "{device}, {memory:?}: {doubts:?}");
        assert!(
            doubts[0]["doubt"].as_str().unwrap().contains("highest score of 2 good photos: 1 in 3 good parts"),
            "{doubts:?}"
        );

        let out = folder.path().join(format!("{device} {}", memory.name()));
        fs::create_dir(&out).unwrap();
        for entry in fs::read_dir(&source).unwrap().map(Result::unwrap) {
            if entry.file_name().to_str().unwrap().starts_with("encoder-") {
                fs::copy(entry.path(), out.join(entry.file_name())).unwrap();
            }
        }
        for (name, content) in made["files"].as_object().unwrap() {
            fs::write(out.join(name), BASE64_STANDARD.decode(content.as_str().unwrap()).unwrap()).unwrap();
        }
        let found = model_dir::read(&out).unwrap();
        let expected = made_natively(&source, &samples, memory);
        assert_eq!((&found.config, &found.card), (&expected.config, &expected.card));

        let look = |model: &Model, path: &Path| {
            let detector = Detector::new(Processor::new(ProcessorPrecision::F32), model).unwrap();
            block_on(detector.verify("processor", model.self_test.as_ref().unwrap(), 0.0)).unwrap();
            detector.detect_now(&photo(path)).unwrap()
        };
        let (found_map, expected_map) = (look(&found, &test), look(&expected, &test));
        let difference =
            found_map.map.values.iter().zip(&expected_map.map.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{device}, {memory:?}: {difference:e} of {}", expected_map.score);
        assert!(difference < TOLERANCE, "{device}, {memory:?}: {difference:e}");
        for (class, expected) in &expected.calibration.classes {
            let found = found.calibration.classes[class].threshold;
            assert!((found / expected.threshold - 1.0).abs() < 1e-3, "{device}, {memory:?}, {class}: {found}");
        }
        let known = look(&found, &sample(&samples, 0)).score;
        assert!(known < 0.9 * found_map.score, "{known} of a photo of the memory, {} of another", found_map.score);
    }
    assert_silent(&page);

    let made = folder.path().join("cpu subspace");
    let site = Site::of(&[made], None);
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&[test]);
    assert_eq!(page.results(1).len(), 1);
    assert_silent(&page);
}

/// Four good photos of a product, and one of another.
pub(crate) fn visitors_photos(folder: &Path) -> (Vec<PathBuf>, PathBuf) {
    let photo = |name: &str, photo: image::RgbImage| {
        let path = folder.join(name);
        photo.save(&path).unwrap();
        path
    };
    let good = (0..4).map(|i| photo(&format!("good-{i}.png"), Class::Gear.good(3, "visitor", i, 256))).collect();
    (good, photo("next.png", Class::Fabric.good(3, "visitor", 9, 256)))
}

/// What a visitor does: drops good photos, names the product, inspects photos, saves the model.
#[test]
fn a_visitor_makes_a_detector_of_dropped_photos() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (good, next) = visitors_photos(folder.path());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model");
    let site = Site::of(std::slice::from_ref(&source), None);
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();

    page.eval("document.querySelector('#own').open = true");
    let listed = |count: usize| format!("document.querySelectorAll('.own-photos li').length === {count}");
    page.drop_files_on("own", &good[..3]);
    page.wait_for(&listed(3));
    assert_eq!(page.eval("document.querySelectorAll('.card').length"), Value::from(0), "they are not inspected");
    page.eval("document.querySelector('.own-photos button').click()");
    page.wait_for(&listed(2));
    page.drop_files_on("own", &good[2..4]);
    page.wait_for(&listed(3));
    assert_eq!(page.text("#own-status"), "1 of these photos was there already.");
    page.eval("document.querySelector('.own-name').value = 'gears'");
    page.eval("document.getElementById('own-make').click()");
    page.wait_for("document.getElementById('own-status').textContent.startsWith('Ready')");
    page.wait_for_model();
    let said = page.text("#own-status");
    assert!(
        said.contains("subspace of 3 good photos")
            && said.contains("highest score of 3 good photos: 1 in 4 good parts"),
        "{said}"
    );
    assert_eq!(
        page.eval("document.querySelector('#model option:checked').textContent"),
        Value::from("gears (made here)")
    );

    page.drop_files(&[good[0].clone(), next.clone()]);
    let found = page.results(2);
    assert!(found[0].score < found[1].score, "{} and {}", found[0].score, found[1].score);
    assert!(found[1].score > found[1].threshold, "cloth is no gear");

    // No gear either, says the page. The visitor says that it is good from now on.
    page.eval("document.querySelector('.card[data-verdict=unknown] .forgive').click()");
    page.wait_for("document.getElementById('own-status').textContent.includes('of 4 good photos')");
    page.wait_for_model();
    let again = page.results(2);
    let (before, now) = (&found[1], &again[1]);
    assert!(
        now.score < before.score && now.score <= now.threshold,
        "{}, {} of {}",
        before.score,
        now.score,
        now.threshold
    );

    // The zip holds a model that the program reads, with the scores of the page.
    let (name, bytes) = download(&page, "own-save");
    assert_eq!(name, "gears.zip");
    let saved = folder.path().join(&name);
    fs::write(&saved, &bytes).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    archive.extract(folder.path()).unwrap();
    let model = model_dir::read(&folder.path().join("gears")).unwrap();
    let detector = Detector::new(Processor::new(ProcessorPrecision::F32), &model).unwrap();
    let native = detector.detect_now(&crate::read(&next)).unwrap().score;
    // The page multiplies int8 weights with activations of thirteen bits.
    assert!((native - again[1].score).abs() < ROUNDED, "{native} and {}", again[1].score);
    assert_silent(&page);

    // Another browser opens it by drop, on a page with another model.
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let other = chrome.open(&format!("{}?device=wasm", site.url));
    other.wait_for_model();
    other.drop_files(&[saved]);
    other.wait_for("document.querySelector('#model option:checked').textContent === 'gears (from a zip)'");
    other.wait_for_model();
    other.drop_files(&[next]);
    assert_eq!(other.results(1)[0].score, again[1].score);
    assert_silent(&other);
}
