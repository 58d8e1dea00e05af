//! Several photos at a time: in as many workers as there are cores, on the GPU two in flight.

use std::path::PathBuf;
use std::time::Instant;

use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly_tests::page::chrome::{Chrome, Found, Page};
use dinomaly_tests::page::site::{MODELS, Site, before_worker};
use dinomaly_tests::random::{self, Shape};

use crate::{assert_silent, turn};

/// Photos that are looked at.
const PHOTOS: usize = 12;

/// Counts the workers of a page.
const COUNTED: &str = "new BroadcastChannel('workers').postMessage('started');";

#[test]
fn many_photos_at_once_get_the_scores_of_one_by_one_and_in_their_order() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (config, preprocessor) = Shape::VitTi16.config().unwrap();
    let weights = random::weights(&config, 7, 7).unwrap();
    let model = folder.path().join("model");
    model_dir::write(&model, &random::model("ViT-Ti", config, preprocessor, weights).unwrap()).unwrap();
    let photos: Vec<PathBuf> = (0..PHOTOS)
        .map(|i| {
            // The first one takes longest.
            let path = folder.path().join(format!("{}.png", PHOTOS - i));
            Class::Gear.good(1, "pool", i as u64, if i == 0 { 1024 } else { 128 }).save(&path).unwrap();
            path
        })
        .collect();
    let site = Site::of(&[model], None);
    before_worker(&site.folder(), COUNTED);
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();

    let cores = page.eval("navigator.hardwareConcurrency").as_u64().unwrap();
    let mut runs = Vec::new();
    // The second time on one core, as far as the page knows; then again, because a browser first optimises the module.
    for workers in [cores, 1, cores, 1] {
        page.eval(&format!(
            "(() => {{
                Object.defineProperty(navigator, 'hardwareConcurrency', {{ get: () => {workers}, configurable: true }});
                window.workers = 0;
                window.channel ??= new BroadcastChannel('workers');
                channel.onmessage = () => {{ window.workers += 1; }};
            }})()"
        ));
        page.choose("device", "CPU");
        page.wait_for_model();
        // Workers are opened when there is work for them.
        page.drop_files(&photos);
        page.results(PHOTOS);
        let opened = page.eval("workers").as_u64().unwrap();
        assert!(
            if workers == 1 { opened == 1 } else { (2..=workers).contains(&opened) },
            "{opened} workers, {workers} cores"
        );
        page.eval("document.getElementById('clear').click()");
        let begun = Instant::now();
        page.drop_files(&photos);
        let found = page.results(PHOTOS);
        runs.push((begun.elapsed(), found));
        page.eval("document.getElementById('clear').click()");
    }
    let (many, one) = (&runs[2], &runs[3]);
    assert_eq!(many.1.len(), PHOTOS);
    let names = |found: &[Found]| found.iter().map(|found| found.file.clone()).collect::<Vec<_>>();
    let given: Vec<_> = photos.iter().map(|path| path.file_name().unwrap().to_string_lossy()).collect();
    assert_eq!(names(&many.1), given);
    assert_eq!(names(&one.1), given);
    for (a, b) in many.1.iter().zip(&one.1) {
        assert_eq!((a.score, a.map()), (b.score, b.map()), "{}", a.file);
    }
    println!(
        "{PHOTOS} photos in up to {cores} workers: {:.2} of the time in one",
        many.0.as_secs_f64() / one.0.as_secs_f64()
    );
    assert_silent(&page);
}

/// What is no photo is refused as it is alone, wherever it stands between others.
#[test]
fn a_bad_photo_between_others_is_refused_alone() {
    let _turn = turn();
    let site = Site::unaltered();
    let folder = tempfile::tempdir().unwrap();
    let photos: Vec<PathBuf> = (0..5)
        .map(|i| {
            let path = folder.path().join(format!("{i}.png"));
            Class::Gear.good(1, "pool", i, 64).save(&path).unwrap();
            path
        })
        .collect();
    // It begins like a photo.
    let begun = std::fs::read(&photos[2]).unwrap();
    std::fs::write(&photos[2], &begun[..begun.len() / 2]).unwrap();
    for device in ["wasm", "webgpu"] {
        let chrome = Chrome::launch();
        let page: Page = chrome.open(&format!("{}?device={device}", site.url));
        page.wait_for_model();
        page.drop_files(&photos);
        let found = page.results(5);
        let names: Vec<&str> = found.iter().map(|found| found.file.as_str()).collect();
        assert_eq!(names, ["0.png", "1.png", "3.png", "4.png"], "{device}, {}: {}", MODELS[0], page.text("main"));
        assert!(page.text(".card[data-state=failed]").contains("2.png"), "{}", page.text("main"));
        assert_silent(&page);
    }
}
