//! Results on the page: cards, order and filters, the large view, threshold and labels.

use std::path::PathBuf;

use dinomaly::model_dir;
use dinomaly_core::bundle::Model;
use dinomaly_tests::page::chrome::{Chrome, Found, Page};
use dinomaly_tests::page::site::{MODELS, Site, before_worker, detect, detector, model};
use image::{Rgb, RgbImage};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{assert_silent, photos, read, turn};

/// Small photos of differing scores, in the order of their names.
fn many(count: u32) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let photo = |i: u32| {
        let path = folder.path().join(format!("photo {i}.png"));
        let colour = |x: u32, y: u32| [x * (i + 3), y * (i + 5), x * y * i].map(|value| (value % 251) as u8);
        RgbImage::from_fn(120, 100, |x, y| Rgb(colour(x, y))).save(&path).unwrap();
        path
    };
    let photos = (0..count).map(photo).collect();
    (folder, photos)
}

/// The page with these photos, inspected on the processor.
fn inspected(chrome: &Chrome, site: &Site, photos: &[PathBuf]) -> (Page, Vec<Found>) {
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(photos);
    let found = page.results(photos.len());
    (page, found)
}

/// Names on the cards that are shown, in their order.
fn names(page: &Page) -> Vec<String> {
    let names = page.eval(
        "[...document.querySelectorAll('.card:not([hidden])')].map((card) => card.querySelector('.name').textContent)",
    );
    serde_json::from_value(names).unwrap()
}

/// Opens a card's photo by keyboard, and waits for it.
fn open(page: &Page, name: &str) {
    page.eval(&format!(
        "[...document.querySelectorAll('.card')].find((card) => card.textContent.includes({name:?})).querySelector('.stage').focus()"
    ));
    page.press(&["Enter"]);
    wait_for_photo(page, name);
}

fn wait_for_photo(page: &Page, name: &str) {
    page.wait_for(&format!(
        "document.getElementById('viewer').open && document.getElementById('viewer-name').textContent === {name:?}
            && document.getElementById('viewer-note').hidden"
    ));
}

/// Closes the large view by keyboard, and waits until the focus is back on a card.
fn close(page: &Page) {
    page.eval(
        "(() => {
            window.viewerClosed = false;
            document.getElementById('viewer').addEventListener('close', () => (window.viewerClosed = true), { once: true });
        })()",
    );
    page.press(&["Escape"]);
    page.wait_for("viewerClosed");
}

#[test]
fn cards_have_pictures_only_near_the_view() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(60);
    let chrome = Chrome::launch();
    let (page, _) = inspected(&chrome, &site, &photos);
    let pictures = "[...document.querySelectorAll('.card')].map((card) => card.querySelectorAll('img[src]').length)";
    let near = |place: &str| page.wait_for(&format!("{pictures}.{place} === 2"));
    near("at(0)");
    page.wait_for(&format!("{pictures}.at(-1) === 0"));
    page.eval("document.querySelector('.card:last-child').scrollIntoView()");
    near("at(-1)");
    page.wait_for(&format!("{pictures}.at(0) === 0"));
    let with = page.eval(&format!("{pictures}.filter((count) => count > 0).length"));
    assert!(with.as_u64().unwrap() < 40, "{with} of 60 cards have pictures");
    // A picture that comes near has the opacity of the others.
    page.eval("document.getElementById('opacity').focus({ preventScroll: true })");
    page.press(&["ArrowRight"]);
    page.eval("document.querySelector('.card').scrollIntoView()");
    near("at(0)");
    assert_eq!(page.eval("getComputedStyle(document.querySelector('.heat')).opacity"), "0.56");
    assert_silent(&page);
}

#[test]
fn photos_are_sorted_and_filtered_and_the_layout_is_remembered() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(12);
    let chrome = Chrome::launch();
    let (page, mut found) = inspected(&chrome, &site, &photos);
    let of = |found: &[Found]| found.iter().map(|found| found.file.clone()).collect::<Vec<_>>();
    assert_eq!(names(&page), of(&found), "photos that came together keep their order");
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    page.choose("sort", "highest score");
    assert_eq!(names(&page), of(&found));
    page.choose("sort", "name");
    let by_number: Vec<String> = (0..12).map(|i| format!("photo {i}.png")).collect();
    assert_eq!(names(&page), by_number);

    page.choose("sort", "highest score");
    let defective: Vec<Found> = found.into_iter().filter(|found| found.score > found.threshold).collect();
    assert!(!defective.is_empty() && defective.len() < 12, "{} of 12 are defective", defective.len());
    page.choose("verdicts", "defective");
    assert_eq!(names(&page), of(&defective));
    page.choose("verdicts", "unknown");
    assert!(page.text("#none-shown").contains("No photo is like this"));
    page.eval("document.getElementById('show-all').click()");
    assert_eq!(names(&page).len(), 12);

    page.eval("document.getElementById('as-list').click()");
    page.reload();
    page.wait_for_model();
    assert_eq!(page.eval("document.getElementById('cards').className"), "cards list");
    assert_silent(&page);
}

/// The product is a filter: it hides photos, and judges none.
#[test]
fn the_product_filter_leaves_verdicts_alone() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(4);
    let chrome = Chrome::launch();
    let (page, _) = inspected(&chrome, &site, &photos);
    page.eval(
        "(() => { document.querySelector('button.product').click();
            const list = document.activeElement;
            list.value = 'strict';
            list.dispatchEvent(new Event('change')); })()",
    );
    let verdicts = "[...document.querySelectorAll('.card')].map(({ dataset }) => [dataset.verdict, dataset.threshold])";
    let before = page.eval(verdicts);
    page.choose("class", "strict");
    assert_eq!(names(&page), ["photo 0.png"]);
    assert_eq!(page.eval(verdicts), before);
    assert_silent(&page);
}

#[test]
fn the_large_view_tells_values_and_steps_by_keys() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(3);
    let chrome = Chrome::launch();
    let (page, found) = inspected(&chrome, &site, &photos);
    open(&page, "photo 1.png");
    assert_eq!(page.text("#viewer-place"), "2 of 3");
    page.screenshot("viewer");

    // As large as it goes, around the middle.
    page.press(&["+"; 30]);
    let value = page.text("#viewer-value");
    let (place, value) = value.split_once(": ").unwrap();
    assert_eq!(place, "60, 50");
    let found = found.iter().find(|found| found.file == "photo 1.png").unwrap();
    let map = found.map();
    let [x0, y0, x1, y1] = found.region;
    let column = ((60.0 - x0) / (x1 - x0) * map.width as f64) as usize;
    let row = ((50.0 - y0) / (y1 - y0) * map.height as f64) as usize;
    let expected = map.values[row * map.width + column];
    let value: f32 = value.parse().unwrap();
    assert!((value - expected).abs() <= 6e-3 * expected.abs(), "{value}, expected {expected}");

    page.press(&["ArrowRight"]);
    wait_for_photo(&page, "photo 2.png");
    page.press(&["?"]);
    assert_eq!(page.eval("document.getElementById('viewer-keys').hidden"), false);
    page.press(&["Escape"]);
    assert_eq!(
        page.eval("[document.getElementById('viewer-keys').hidden, document.getElementById('viewer').open]"),
        json!([true, true])
    );
    close(&page);
    let focused = page.eval("document.activeElement.closest('.card')?.querySelector('.name').textContent");
    assert_eq!(focused, "photo 2.png", "the focus goes to the photo that was seen last");

    // The event of closing comes when the next photo is open already.
    open(&page, "photo 1.png");
    page.eval("[document.getElementById('viewer-close').click(), document.querySelector('.card .stage').click()]");
    wait_for_photo(&page, "photo 0.png");
    assert_silent(&page);
}

/// What the browser does not read, or reads otherwise, is shown from the detector's copy; nothing lies under the wrong heatmap.
#[test]
fn photos_of_every_kind_open_in_the_large_view() {
    let _turn = turn();
    let site = Site::unaltered();
    let photos = photos();
    let chrome = Chrome::launch();
    let (page, found) = inspected(&chrome, &site, &photos);
    page.choose("sort", "name");
    let first = names(&page).remove(0);
    open(&page, &first);
    for i in 0..found.len() {
        if i > 0 {
            page.press(&["ArrowRight"]);
        }
        page.wait_for(&format!(
            "document.getElementById('viewer-place').textContent === '{} of {}'",
            i + 1,
            found.len()
        ));
        page.wait_for("document.getElementById('viewer-note').textContent !== 'Loading…'");
        let (name, note) = (page.text("#viewer-name"), page.text("#viewer-note"));
        assert_eq!(note, "", "{name}");
        assert_eq!(
            page.eval(&format!("document.getElementById('viewer-numbers').innerText.includes({:?})", {
                let found = found.iter().find(|found| found.file == name).unwrap();
                format!("{} × {} pixels", found.width, found.height)
            })),
            true,
            "{name}"
        );
    }
    assert_silent(&page);
}

/// A region as the page tells it.
#[derive(Deserialize)]
struct Region {
    r#box: [f64; 4],
    area: f64,
    peak: f32,
    mean: f32,
    outline: Vec<[f64; 2]>,
}

#[test]
fn regions_are_those_of_the_program() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let mut calibrated: Model = model(MODELS[0]);
    let photo = read(&photos()[0]);
    let expected = detect(&detector(MODELS[0]), &photo);
    let mut values = expected.map.values.clone();
    values.sort_by(f32::total_cmp);
    // A tenth of the map lies above it.
    let threshold = values[values.len() * 9 / 10];
    calibrated.calibration.overall.pixel_threshold = Some(threshold);
    let path = folder.path().join("calibrated");
    model_dir::write(&path, &calibrated).unwrap();
    let site = Site::of(&[path], None);
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.eval("(() => { window.regions = []; addEventListener('dinomaly:result', ({ detail }) => regions.push(detail.regions)); })()");
    page.wait_for_model();
    page.drop_files(&photos()[..1]);
    let found = page.results(1).remove(0);
    // Of the page's own map, whose last bits differ.
    let mut own = expected.clone();
    own.map = found.map();
    let defects = own.defects(threshold, 0.0);
    assert!(!defects.is_empty());
    let regions: Vec<Region> = serde_json::from_value(page.eval("regions[0]")).unwrap();
    assert_eq!(regions.len(), defects.len());
    for (region, defect) in regions.iter().zip(&defects) {
        let bounds = defect.bounds;
        assert_eq!(region.r#box, [bounds.x0, bounds.y0, bounds.x1, bounds.y1]);
        assert_eq!((region.area, region.peak, region.mean), (defect.area, defect.peak, defect.mean));
        assert!(region.outline == defect.outline, "the outline around {bounds:?} differs");
    }
    open(&page, &found.file);
    let listed = page.eval("document.querySelectorAll('#viewer-regions tbody tr').length");
    assert_eq!(listed.as_u64().unwrap() as usize, defects.len().min(20));
    page.press(&["v"]);
    assert_eq!(page.eval("document.querySelector('input[name=mode]:checked').value"), "outline");
    page.screenshot("viewer-outline");
    assert_silent(&page);
}

#[test]
fn a_threshold_of_one_s_own_is_said_everywhere() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(12);
    let chrome = Chrome::launch();
    let (page, found) = inspected(&chrome, &site, &photos);
    let model = found[0].threshold;
    page.eval("document.querySelector('#tuning summary').click()");
    page.wait_for("document.querySelectorAll('#histogram rect').length > 0");
    // To the end, as the keyboard does: then every photo is good.
    let accused = found.iter().filter(|found| found.score > model).count();
    page.eval("document.getElementById('threshold').focus()");
    page.press(&["End"]);
    page.wait_for("document.querySelectorAll('.card[data-verdict=good]').length === 12");
    assert_eq!(page.text("#flips"), format!("Changed: {accused} photos ({accused} to good)."));
    page.wait_for("/threshold .*model’s: /.test(document.getElementById('tuning-now').textContent)");
    assert!(page.text(".card").contains("model’s: "), "{}", page.text(".card"));
    page.eval("document.getElementById('threshold-reset').click()");
    page.wait_for(&format!("document.querySelectorAll('.card[data-verdict=defective]').length === {accused}"));
    page.wait_for("document.getElementById('tuning-now').textContent === ''");
    let thresholds =
        page.eval("[...document.querySelectorAll('.card')].map(({ dataset }) => Number(dataset.threshold))");
    let thresholds: Vec<f64> = serde_json::from_value(thresholds).unwrap();
    assert!(thresholds.iter().all(|&threshold| threshold as f32 == model));
    assert_silent(&page);
}

#[test]
fn labels_tell_precision_and_recall() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(12);
    let chrome = Chrome::launch();
    let (page, mut found) = inspected(&chrome, &site, &photos);
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    page.choose("sort", "highest score");
    // The highest is bad, as found; the next good, a false alarm; the lowest bad, missed.
    open(&page, &found[0].file);
    page.press(&["b", "ArrowRight"]);
    wait_for_photo(&page, &found[1].file);
    page.press(&["g"]);
    close(&page);
    open(&page, &found[11].file);
    page.press(&["b"]);
    assert_eq!(page.text("#viewer-hint"), "Missed: this part is bad");
    close(&page);
    page.eval("document.querySelector('#tuning summary').click()");
    page.wait_for("document.querySelector('#tally table') !== null");
    let tally = page.text("#tally");
    assert!(tally.contains("Precision 50 %: 1 of 2 ") && tally.contains("Recall 50 %: 1 of 2 "), "{tally}");
    let cells =
        page.eval("[...document.querySelectorAll('#tally tbody td')].map(({ textContent }) => textContent).join()");
    assert_eq!(cells, "1,1,0,1,0,0");
    // The same key again takes it back.
    open(&page, &found[0].file);
    page.press(&["b", "Escape"]);
    page.wait_for("document.getElementById('tally').innerText.includes('Precision 0 %: 0 of 1 ')");
    assert_silent(&page);
}

/// A photo unlike anything that the model knows is not called good, not even with a low score.
#[test]
fn an_unknown_product_is_never_good() {
    let _turn = turn();
    let site = Site::altered(|folder| {
        before_worker(
            folder,
            "const post = self.postMessage.bind(self);
             self.postMessage = (message, ...rest) => {
                 if (message.value?.timings && message.value.map) Object.assign(message.value, { unknown: true, nearest: 'usual', score: 0 });
                 post(message, ...rest);
             };",
        );
    });
    let (_folder, photos) = many(2);
    let chrome = Chrome::launch();
    let (page, _) = inspected(&chrome, &site, &photos);
    assert_eq!(page.text("#summary"), "2 unknown");
    let card = page.text(".card");
    assert!(card.contains("Unknown product") && card.contains("(usual)"), "{card}");
    page.choose("verdicts", "good");
    assert_eq!(names(&page), Vec::<String>::new());
    page.choose("verdicts", "unknown");
    page.eval("document.querySelector('.make-own').click()");
    assert_eq!(
        page.eval("[document.getElementById('own').open, document.activeElement.tagName]"),
        json!([true, "SUMMARY"])
    );
    assert_silent(&page);
}

/// Removing leaves the focus on a neighbour, and can be undone.
#[test]
fn a_removed_photo_comes_back() {
    let _turn = turn();
    let site = Site::unaltered();
    let (_folder, photos) = many(3);
    let chrome = Chrome::launch();
    let (page, _) = inspected(&chrome, &site, &photos);
    page.eval("addEventListener('dinomaly:removed', ({ detail }) => (window.removed = detail))");
    let before = names(&page);
    page.eval("document.querySelectorAll('.card .close')[1].focus()");
    page.press(&["Enter"]);
    assert_eq!(names(&page), [before[0].clone(), before[2].clone()]);
    assert_eq!(
        page.eval("document.activeElement.closest('.card')?.querySelector('.name').textContent"),
        json!(before[2])
    );
    page.eval("removed.undo()");
    assert_eq!(names(&page), before);
    page.eval("document.getElementById('clear').click()");
    assert_eq!(page.eval("removed.count"), 3);
    assert_eq!(page.eval("document.activeElement.id"), "files");
    page.eval("removed.undo()");
    assert_eq!(names(&page), before);
    page.wait_for("document.querySelectorAll('.card img[src]').length === 6");
    assert_silent(&page);
}
