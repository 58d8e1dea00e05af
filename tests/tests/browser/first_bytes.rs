//! What is loaded before the first photo, and which device is taken: thumbnails in place of samples, the faster of two devices.

use std::fs;
use std::path::Path;

use dinomaly::synth::Class;
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::site::{Site, before_worker};
use serde_json::json;

use crate::faults::DISGUISE;
use crate::{assert_silent, turn};

/// Samples with their labels, one of them wrong.
fn samples(folder: &Path) {
    let gear = |kind: &str, name: &str, photo: image::RgbImage| {
        let folder = folder.join("gear").join(kind);
        fs::create_dir_all(&folder).unwrap();
        photo.save(folder.join(name)).unwrap();
    };
    let defect = Class::Gear.defects()[0];
    gear("good", "right.png", Class::Gear.good(2025, "demo", 0, 256));
    gear("good", "wrong.png", Class::Gear.defective(2025, defect, 0, 256).photo);
    gear(defect, "right.png", Class::Gear.defective(2025, defect, 0, 256).photo);
    gear(defect, "wrong.png", Class::Gear.good(2025, "demo", 0, 256));
}

fn demo_site(folder: &Path) -> Site {
    samples(folder);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model");
    Site::of(&[source], Some(folder))
}

/// Chooses all samples; what their cards say, by the samples' names.
fn looked_at(page: &Page, count: usize) -> serde_json::Value {
    page.eval("document.querySelectorAll('#samples button').forEach((button) => button.click())");
    assert_eq!(page.results(count).len(), count, "{}", page.text("main"));
    page.eval(
        "Object.fromEntries([...document.querySelectorAll('.card')].map((card) =>
            [card.querySelector('.name').textContent, card.querySelector('.label')?.textContent ?? null]))",
    )
}

#[test]
fn samples_are_fetched_when_they_are_chosen_and_a_wrong_verdict_is_named() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let site = demo_site(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.wait_until_kept();
    let samples = || {
        let requested = chrome.requested_by_now(&page).into_iter().filter(|url| url.contains("/samples/"));
        let mut names: Vec<String> = requested.map(|url| url.rsplit('/').next().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(samples(), ["thumbnails.jpg"]);
    page.screenshot("page-samples");
    let said = looked_at(&page, 4);
    let defect = Class::Gear.defects()[0];
    let expected = json!({
        "good, right": "Labelled good",
        "good, wrong": "False alarm: this part is good",
        (format!("{defect}, right")): "Labelled bad",
        (format!("{defect}, wrong")): "Missed: this part is bad",
    });
    assert_eq!(said, expected);
    assert_eq!(samples().len(), 5);
    page.screenshot("page-mistakes");
    assert_silent(&page);
}

#[test]
fn samples_that_were_chosen_are_there_without_a_server() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let mut site = demo_site(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.wait_until_kept();
    let first = "document.querySelector('#samples button').click()";
    page.eval(first);
    assert_eq!(page.results(1).len(), 1, "{}", page.text("main"));
    site.stop();
    page.reload();
    page.wait_for_model();
    page.eval(first);
    assert_eq!(page.results(1).len(), 1, "{}", page.text("main"));
    page.eval("[...document.querySelectorAll('#samples button')].at(-1).click()");
    page.wait_for("document.getElementById('samples-status').textContent.includes('could not be downloaded')");
}

#[test]
fn a_site_without_thumbnails_and_labels_shows_its_samples() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let site = demo_site(folder.path());
    let path = site.folder().join("models.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index.as_object_mut().unwrap().remove("thumbnails");
    for sample in index["samples"].as_array_mut().unwrap() {
        sample.as_object_mut().unwrap().remove("truth");
    }
    fs::write(path, index.to_string()).unwrap();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.wait_for("[...document.querySelectorAll('#samples img')].filter(({ naturalWidth }) => naturalWidth === 256).length === 4");
    let said = looked_at(&page, 4);
    assert!(said.as_object().unwrap().values().all(serde_json::Value::is_null), "{said}");
}

#[test]
fn the_faster_device_is_taken_and_both_times_are_shown() {
    let _turn = turn();
    let site = Site::altered(|folder| before_worker(folder, DISGUISE));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    let compared = "document.getElementById('status-more').textContent.includes('ms on the processor')";
    let slower = |page: &Page| {
        page.wait_for(compared);
        let said = page.text(".panel");
        assert!(said.contains("Ready on the CPU") && said.contains("Not on the GPU: a photo takes "), "{said}");
    };
    slower(&page);
    let kept = "localStorage.getItem('dinomaly-times')";
    let times = page.eval(kept);
    // The next visit does not time again.
    page.reload();
    page.wait_for_model();
    slower(&page);
    assert_eq!(page.eval(kept), times);

    // A GPU that says that it takes no time at all.
    let lines = format!(
        "{DISGUISE}
         const post = self.postMessage.bind(self);
         self.postMessage = (message, how) => {{
             if (message.value?.timings?.detect) message.value.timings.detect = 0;
             post(message, how);
         }};"
    );
    let site = Site::altered(|folder| before_worker(folder, &lines));
    let page = chrome.open(&site.url);
    page.wait_for(compared);
    let said = page.text(".panel");
    assert!(said.contains("Ready on the GPU") && said.contains("A photo takes 0 ms on the GPU, "), "{said}");
}
