//! What the page's detector says of the product that a photo shows, against the native one.

use std::fs;
use std::path::Path;

use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;
use dinomaly_core::bundle::SelfTest;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::processor::Processor;
use dinomaly_tests::demo_model;
use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::site::{MODELS, Site};
use serde_json::{Value, json};

use crate::{assert_silent, read, turn};

/// What the detector of a site's first model answers to photos that lie in the site's folder, from a worker of its own.
const ASK: &str = "(async () => {
    const [{ Detector }, { readIndex }, { HOST }] =
        await Promise.all(['./detector.js', './site.js', './host.js'].map(file => import(file)));
    const index = readIndex(await (await fetch('models.json')).text(), location.href);
    const detector = new Detector(index, index.models[0], DEVICE, () => {}, HOST);
    await detector.open();
    const answers = [];
    for (const name of NAMES) {
        const file = new File([await (await fetch(name)).blob()], name);
        const { nearest, unknown } = await detector.detect(file, null, () => {});
        answers.push({ nearest, unknown });
    }
    return answers;
})()";

fn ask(chrome: &Chrome, site: &Site, device: &str, names: &[String]) -> Value {
    let page = chrome.open(&format!("{}?device={device}", site.url));
    page.wait_for_model();
    let answers =
        page.eval(&ASK.replace("DEVICE", &json!(device).to_string()).replace("NAMES", &json!(names).to_string()));
    assert_silent(&page);
    answers
}

#[test]
fn photos_have_the_product_that_they_have_natively_and_others_are_unknown() {
    let _turn = turn();
    let site = Site::of(&[demo_model()], None);
    let photos = tempfile::tempdir().unwrap();
    let plan = GenerationPlan { classes: Class::ALL.to_vec(), size: 256, seed: 57, train: 0, good: 1, defective: 1 };
    plan.write(photos.path(), || Ok(())).unwrap();
    let mut names = Vec::new();
    let mut put = |from: &Path, name: String| {
        fs::copy(from, site.folder().join(&name)).unwrap();
        names.push(name);
    };
    for class in Class::ALL {
        let test = photos.path().join(class.name()).join("test");
        for kind in fs::read_dir(&test).unwrap().map(|kind| kind.unwrap().file_name().into_string().unwrap()) {
            let photo = fs::read_dir(test.join(&kind)).unwrap().next().unwrap().unwrap().path();
            put(&photo, format!("{}-{kind}.png", class.name()));
        }
    }
    let shapes = SelfTest::picture_of(9);
    let shapes = image::RgbImage::from_raw(shapes.width, shapes.height, shapes.rgb).unwrap();
    shapes.save(photos.path().join("shapes.png")).unwrap();
    put(&photos.path().join("shapes.png"), "shapes.png".into());

    let model = model_dir::read(&demo_model()).unwrap();
    let native = Detector::new(Processor::default(), &model).unwrap();
    let expected = names.iter().map(|name| {
        let found = native.detect_now(&read(&site.folder().join(name))).unwrap();
        let product = model.calibration.recognise(&found.descriptor).unwrap().unwrap();
        json!({ "nearest": product.nearest, "unknown": product.unknown })
    });
    let expected: Vec<Value> = expected.collect();
    let unknown: Vec<&String> =
        names.iter().zip(&expected).filter(|(_, answer)| answer["unknown"] == true).map(|(name, _)| name).collect();
    assert_eq!(unknown, ["shapes.png"], "{expected:?}");
    let chrome = Chrome::launch();
    for device in ["wasm", "webgpu"] {
        assert_eq!(ask(&chrome, &site, device, &names), Value::Array(expected.clone()), "{device}: {names:?}");
    }
}

#[test]
fn a_model_of_an_earlier_version_tells_no_products() {
    let _turn = turn();
    let site = Site::with(MODELS[0]);
    let shapes = SelfTest::picture_of(9);
    let shapes = image::RgbImage::from_raw(shapes.width, shapes.height, shapes.rgb).unwrap();
    shapes.save(site.folder().join("shapes.png")).unwrap();
    let chrome = Chrome::launch();
    let answers = ask(&chrome, &site, "wasm", &["shapes.png".to_owned()]);
    assert_eq!(answers, json!([{ "nearest": null, "unknown": false }]));
}
