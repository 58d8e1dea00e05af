//! The page in Firefox and WebKitGTK: the native detector's results, visits without a server, a detector of good photos.

use std::path::Path;

use dinomaly_tests::max_difference;
use dinomaly_tests::page::engine::Engine;
use dinomaly_tests::page::firefox::Firefox;
use dinomaly_tests::page::site::{MODELS, Site, detect, detector};
#[cfg(target_os = "linux")]
use dinomaly_tests::page::webkit::WebKit;

use crate::few_shot::visitors_photos;
use crate::{TOLERANCE, path_of, photos, read, turn};

/// Looks at photos, with the maps that the native detector has for them.
fn assert_detects(engine: &impl Engine, count: usize) {
    let photos = &photos()[..count];
    engine.choose_files("#files", photos);
    let results = engine.results(count);
    assert_eq!(results.len(), count, "{}", engine.text("main"));
    let native = detector(MODELS[0]);
    for found in &results {
        let expected = detect(&native, &read(path_of(photos, found)));
        let difference = max_difference(&found.map().values, &expected.map.values);
        println!("{}: map differs by {difference:e}", found.file);
        assert!(difference <= TOLERANCE, "{}: map differs by {difference:e}", found.file);
    }
}

/// What is found is what the native detector finds, with the server and then without it.
fn finds_and_works_without_a_server(engine: &impl Engine, count: usize) {
    let mut site = Site::unaltered();
    engine.open(&site.url);
    engine.wait_for_model();
    assert_detects(engine, count);
    engine.wait_until_kept();
    site.stop();
    engine.reload();
    engine.wait_for_model();
    assert_detects(engine, 1);
}

/// Good photos become a detector, which tells their product from another.
fn makes_a_detector(engine: &impl Engine) {
    let folder = tempfile::tempdir().unwrap();
    let (good, other) = visitors_photos(folder.path());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model");
    let site = Site::of(std::slice::from_ref(&source), None);
    engine.open(&site.url);
    engine.wait_for_model();
    engine.eval("(() => { document.querySelector('#own').open = true; })()");
    engine.wait_for("document.querySelector('.own-choose input') !== null");
    engine.choose_files(".own-choose input", &good);
    engine.wait_for("!document.getElementById('own-make').disabled");
    engine.eval("document.getElementById('own-make').click()");
    engine.wait_for("document.getElementById('own-status').textContent.startsWith('Ready')");
    engine.wait_for_model();
    engine.choose_files("#files", &[good[0].clone(), other]);
    let found = engine.results(2);
    assert!(found[0].score < found[0].threshold, "{} of {}", found[0].score, found[0].threshold);
    assert!(found[1].score > found[1].threshold, "cloth is no gear");
}

#[test]
fn firefox_finds_what_the_native_detector_finds_and_works_without_a_server() {
    let _turn = turn();
    finds_and_works_without_a_server(&Firefox::launch(), photos().len());
}

#[test]
#[cfg(target_os = "linux")]
fn webkit_finds_what_the_native_detector_finds_and_works_without_a_server() {
    let _turn = turn();
    finds_and_works_without_a_server(&WebKit::launch(), photos().len());
}

#[test]
fn a_visitor_makes_a_detector_in_firefox() {
    let _turn = turn();
    makes_a_detector(&Firefox::launch());
}

#[test]
#[cfg(target_os = "linux")]
fn a_visitor_makes_a_detector_in_webkit() {
    let _turn = turn();
    makes_a_detector(&WebKit::launch());
}
