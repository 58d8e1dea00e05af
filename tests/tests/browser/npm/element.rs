//! `<dinomaly-viewer>`: a photo dropped or chosen, verdict and heatmap, for keyboards and screen readers too.

use dinomaly_tests::fixtures;
use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::host::Host;
use dinomaly_tests::page::site::{MODELS, detect, detector};

use super::{bare, plain};
use crate::{TOLERANCE, read, turn};

/// The element's parts, and what it told.
const SETUP: &str = "(() => {
    window.viewer = document.querySelector('dinomaly-viewer');
    viewer.id = 'viewer';
    window.part = (selector) => viewer.shadowRoot.querySelector(selector);
    window.told = { result: [], error: [], progress: [] };
    for (const kind of Object.keys(told)) viewer.addEventListener(kind, ({ detail }) => told[kind].push(detail));
})()";

/// Parts of another element and what is seen of them, step by step.
const SHOWN: &str = "(async () => {
    const photo = await (await fetch('photo.png')).blob();
    const open = new Set();
    const decode = createImageBitmap;
    window.createImageBitmap = async (...given) => {
        const bitmap = await decode(...given);
        const close = bitmap.close.bind(bitmap);
        bitmap.close = () => (open.delete(bitmap), close());
        return open.add(bitmap), bitmap;
    };
    // Set before the element is defined.
    const viewer = Object.assign(document.createElement('dinomaly-viewer'), { model: 'model/', device: 'cpu', opacity: 0.5 });
    document.body.append(viewer);
    await import('./dinomaly/viewer.js');
    const part = (selector) => viewer.shadowRoot.querySelector(selector);
    const said = [];
    new MutationObserver(() => said.push(part('[role=status]').textContent.split(':')[0])).observe(part('[role=status]'), { childList: true });
    const seen = () => [!part('canvas').hidden, !part('label.opacity').hidden, part('canvas').hasAttribute('aria-label'), !part('progress').hidden, open.size];
    const steps = {};
    await viewer.inspect(photo);
    steps.inspected = seen();
    // The same address again changes nothing; of many photos the last one counts.
    viewer.model = 'model/';
    await Promise.all([photo, photo, photo].map((photo) => viewer.inspect(photo)));
    steps.again = seen();
    await viewer.inspect(new Blob(['text'])).catch(() => {});
    steps.failed = seen();
    await viewer.inspect(photo);
    viewer.model = 'other/';
    steps.changed = seen();
    viewer.removeAttribute('model');
    steps.without = seen();
    const loads = performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/model/manifest.json')).length;
    return { loads, said: said.slice(0, 2), attributes: viewer.getAttributeNames(), steps };
})()";

#[test]
fn the_element_shows_nothing_of_an_earlier_photo_or_model() {
    let _turn = turn();
    let folder = bare();
    std::fs::copy(fixtures("photos/rgb.png"), folder.path().join("photo.png")).unwrap();
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    let said = page.eval(SHOWN);
    // It is never ready for a photo while it inspects one.
    let verdict = said["said"][1].as_str().unwrap();
    assert_eq!(said["said"][0], "Inspecting the photo …");
    assert!(["Good", "Defective", "Unlike"].iter().any(|known| verdict.starts_with(known)), "{verdict}");
    assert_eq!(said["attributes"], serde_json::json!(["device", "opacity"]));
    // Picture, opacity, label, progress bar, bitmaps that are open.
    let [full, empty] =
        [serde_json::json!([true, true, true, false, 1]), serde_json::json!([false, false, false, false, 0])];
    assert_eq!((&said["steps"]["inspected"], &said["steps"]["again"]), (&full, &full));
    assert_eq!((&said["steps"]["failed"], &said["steps"]["without"]), (&empty, &empty));
    assert_eq!(said["steps"]["changed"], serde_json::json!([false, false, false, true, 0]), "another model is loaded");
    assert_eq!(said["loads"], 1);
}

#[test]
fn the_element_shows_a_dropped_photo_to_eyes_ears_and_keys() {
    let _turn = turn();
    let folder = plain("viewer");
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/index.html", host.url));
    page.eval(SETUP);
    page.wait_for("part('[role=status]').textContent === 'Ready for a photo.'");
    assert_eq!(page.eval("[part('progress').hidden, part('canvas').hidden]"), serde_json::json!([true, true]));
    let photo = fixtures("photos/444.jpg");
    page.drop_files_on("viewer", std::slice::from_ref(&photo));
    page.wait_for("told.result.length === 1");
    let expected = detect(&detector(MODELS[0]), &read(&photo));
    let score = page.eval("told.result[0].score").as_f64().unwrap() as f32;
    assert!((score - expected.score).abs() <= TOLERANCE, "{score}, expected {}", expected.score);
    let said = page.eval("part('[role=status]').textContent");
    let said = said.as_str().unwrap();
    assert!(said.contains("score ") && said.contains("threshold "), "{said}");
    // A screen reader has the verdict by the status, and at the picture.
    let label = page.eval("part('canvas').getAttribute('aria-label')");
    assert_eq!(label, format!("The photo with its heatmap. {said}"));
    assert_eq!(
        page.eval("[part('canvas').hidden, part('canvas').getAttribute('role')]"),
        serde_json::json!([false, "img"])
    );
    page.screenshot("npm-element");

    // By keys alone: the first stop is the choice of a photo, the next the opacity.
    page.press(&["Tab"]);
    assert_eq!(page.eval("viewer.shadowRoot.activeElement.type"), "file");
    let before = page.eval("part('canvas').toDataURL()");
    page.press(&["Tab"]);
    assert_eq!(page.eval("viewer.shadowRoot.activeElement.type"), "range");
    page.press(&["ArrowLeft", "ArrowLeft"]);
    assert_eq!(page.eval("viewer.getAttribute('opacity')"), "0.5");
    assert_ne!(page.eval("part('canvas').toDataURL()"), before, "less of the heatmap");

    // What is no photo, and an address without a model, are said as alerts.
    page.eval("viewer.inspect(new File(['text'], 'diary.txt')).catch(() => {})");
    let alert = page.eval("part('[role=alert]').textContent");
    assert!(alert.as_str().unwrap().starts_with("photo diary.txt is no photo: "), "{alert}");
    page.eval("(() => { viewer.model = 'nothing/'; })()");
    page.wait_for("told.error.length === 2");
    let alert = page.eval("part('[role=alert]').textContent");
    assert!(alert.as_str().unwrap().contains("has neither manifest.json nor models.json"), "{alert}");
    page.eval("(() => { viewer.model = 'model/'; })()");
    page.wait_for("part('[role=status]').textContent === 'Ready for a photo.'");
    assert!(page.eval("told.progress.length").as_u64().unwrap() > 0);
    // Out of the page it frees its worker; in another place of it it works again.
    page.eval("(() => { viewer.remove(); document.body.append(viewer); })()");
    page.wait_for("part('[role=status]').textContent === 'Ready for a photo.'");
}
