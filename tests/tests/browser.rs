//! The page in a real Chromium: on its software WebGPU and on the processor, against the native detector.
//!
//! `CHROME` names another browser. Faults that a page cannot be asked for (a GPU that computes wrongly or gets lost) are
//! brought about by lines put before the worker's own, in a copy of the site.

#[allow(dead_code, reason = "only the GPU is taken from it")]
mod executors;
mod page;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::Device;
use clap::Parser;
use dinomaly::cli::Cli;
use dinomaly::dataset::photos as photos_in;
use dinomaly::detect::PhotoDetector;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly_core::detector::{Detection, Detector};
use dinomaly_core::executors::webgpu::kernel_sources;
use dinomaly_core::photo::Photo;
use dinomaly_tests::max_difference;
use image::{Rgb, RgbImage};
use pollster::block_on;
use tempfile::TempDir;

use page::chrome::{Chrome, Found, Page};
use page::site::{MODELS, Site, before_worker, detect, detector, shards};

/// Largest difference of a map's value between the page and the native detector. Cosine distances of these models are
/// about 1.
const TOLERANCE: f32 = 2e-5;

/// One browser at a time: each emulates a GPU on all cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Photos of every kind that is read, most of them tiny, and a large one.
fn photos() -> Vec<PathBuf> {
    static LARGE: OnceLock<TempDir> = OnceLock::new();
    let large = LARGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let photo = RgbImage::from_fn(3000, 2000, |x, y| Rgb([(x / 12) as u8, (y / 8) as u8, (x * y % 251) as u8]));
        photo.save(folder.path().join("large.jpg")).unwrap();
        folder
    });
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos");
    let folders = [fixtures.as_path(), large.path()].map(|folder| fs::read_dir(folder).unwrap());
    let mut photos: Vec<PathBuf> = folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    photos.retain(|path| [".rgb.png", ".py", ".md"].iter().all(|end| !path.to_str().unwrap().ends_with(end)));
    photos.sort();
    photos
}

fn read(path: &Path) -> Photo {
    Photo::decode("photo", &fs::read(path).unwrap()).unwrap()
}

fn path_of<'a>(photos: &'a [PathBuf], found: &Found) -> &'a Path {
    photos.iter().find(|path| path.ends_with(&found.file)).unwrap()
}

/// Nothing in the console, no exception, nothing that the policy had to forbid.
fn assert_silent(page: &Page) {
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn photos_of_every_kind_get_the_map_of_the_native_detector() {
    let _turn = turn();
    let site = Site::new();
    let photos = photos();
    for device in ["wasm", "webgpu"] {
        let chrome = Chrome::launch();
        let page = chrome.open(&format!("{}?device={device}", site.url));
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
            let threshold = page::site::model(name).calibration.overall.threshold;
            let mut largest = 0.0_f32;
            for found in &results {
                let photo = read(path_of(&photos, found));
                let expected = detect(&native, &photo);
                let difference = max_difference(&found.map().values, &expected.map.values);
                assert!(difference <= TOLERANCE, "{device}, {name}, {}: map differs by {difference:e}", found.file);
                assert!((found.score - expected.score).abs() <= TOLERANCE, "{device}, {name}, {}", found.file);
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
        }
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
        let detector = PhotoDetector::new(&model_dir::read(model).unwrap(), Device::Cpu).unwrap();
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
        let Some(gpu) = executors::webgpu() else { break };
        let detector = Detector::new(gpu, &model_dir::read(model).unwrap()).unwrap();
        let look = |path: &PathBuf| block_on(detector.detect(&[read(path)])).unwrap().remove(0);
        let found: Vec<Detection> = photos[..EMULATED].iter().map(look).collect();
        let pairs = found.iter().map(|found| (&found.map.values[..], found.score)).zip(expected);
        assert_same(&format!("native WebGPU, {name}"), pairs);
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
            assert_same(&format!("page on {device}, {name}"), pairs);
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

/// Compares maps and scores with the native detector's.
fn assert_same<'a>(what: &str, pairs: impl Iterator<Item = ((&'a [f32], f32), &'a Detection)>) {
    let (mut largest, mut count) = (0.0_f32, 0);
    for ((map, score), expected) in pairs {
        let difference = max_difference(map, &expected.map.values);
        assert!(difference <= TOLERANCE, "{what}: a map differs by {difference:e}");
        assert!((score - expected.score).abs() <= TOLERANCE, "{what}: score {score}, expected {}", expected.score);
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
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model");
    let folder = tempfile::tempdir().unwrap();
    for class in Class::ALL {
        fs::create_dir(folder.path().join(class.name())).unwrap();
        let save = |photo: RgbImage, kind: &str| {
            photo.save(folder.path().join(class.name()).join(format!("{} {kind}.png", class.name()))).unwrap();
        };
        save(class.good(3, "page", 0, 256), "good");
        save(class.defective(3, class.defects()[0], 0, 256).photo, class.defects()[0]);
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
    let native = PhotoDetector::new(&model, Device::Cpu).unwrap();
    assert_eq!(results.len(), 2 * Class::ALL.len());
    for found in &results {
        let class = found.file.split(' ').next().unwrap();
        let photo = read(&folder.path().join(class).join(format!("{}.png", found.file)));
        let expected = detect(native.detector(), &photo);
        let difference = max_difference(&found.map().values, &expected.map.values);
        assert!(difference <= TOLERANCE, "{}: map differs by {difference:e}", found.file);
        assert_eq!(found.threshold, model.calibration.classes[class].threshold, "{}", found.file);
        println!("{}: score {:.4}, threshold {:.4}", found.file, found.score, found.threshold);
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

#[test]
fn models_share_their_encoder() {
    let site = Site::new();
    let index = dinomaly_tests::read_json(&site.folder().join("models.json"));
    let encoder = |i: usize| {
        let files = index["models"][i]["files"].as_object().unwrap();
        files.iter().find(|(name, _)| name.starts_with("encoder")).unwrap().1.clone()
    };
    assert_eq!(encoder(0), encoder(1));
    assert_ne!(encoder(0), encoder(2));
    assert_eq!(shards(&site.folder()).len(), 5, "two encoders and three heads");
}

#[test]
fn verdicts_follow_the_threshold_of_the_chosen_class() {
    let _turn = turn();
    let site = Site::new();
    let photos = photos();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&photos);
    let results = page.results(photos.len());
    let mut thresholds = Vec::new();
    for class in ["Any", "strict", "usual"] {
        page.choose("class", class);
        page.wait_for(&format!(
            "[...document.querySelectorAll('.card')].every((card) => {class:?} === 'Any' || card.innerText.includes({class:?}))"
        ));
        let cards = page.eval(
            "[...document.querySelectorAll('.card')].map(({ dataset, innerText }) => [dataset.verdict, dataset.threshold, innerText])",
        );
        let mut verdicts = [0, 0];
        for card in cards.as_array().unwrap() {
            let threshold: f32 = card[1].as_str().unwrap().parse().unwrap();
            let text = card[2].as_str().unwrap();
            let found = results.iter().find(|found| text.contains(&found.file)).unwrap();
            let defective = found.score > threshold;
            assert_eq!(card[0], if defective { "defective" } else { "good" }, "{text}");
            assert_eq!(text.contains("Defective"), defective, "{text}");
            verdicts[usize::from(defective)] += 1;
            thresholds.push((class, threshold));
        }
        println!("{class}: {} good, {} defective", verdicts[0], verdicts[1]);
    }
    let of = |class| thresholds.iter().find(|(name, _)| *name == class).unwrap().1;
    let calibration = page::site::model(MODELS[0]).calibration;
    assert_eq!(of("Any"), calibration.overall.threshold);
    assert_eq!(of("strict"), calibration.classes["strict"].threshold);
    assert_eq!(of("usual"), calibration.classes["usual"].threshold);
    let verdict = |class| results.iter().filter(|found| found.score > of(class)).count();
    assert!(verdict("strict") > verdict("usual"), "the classes must matter for these photos");
    assert_silent(&page);
}

/// Dropping is what the other tests do.
#[test]
fn photos_are_chosen_and_pasted_and_their_heatmaps_fade() {
    let _turn = turn();
    let site = Site::new();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    // What is said while another model is fetched.
    page.eval(
        "(() => { window.said = []; new MutationObserver(() => said.push([
            document.getElementById('status-text').textContent, document.getElementById('progress').value,
        ])).observe(document.getElementById('status'), { subtree: true, childList: true, characterData: true }); })()",
    );
    page.choose("model", MODELS[1]);
    page.wait_for("said.length > 0");
    page.wait_for_model();
    let said = page.eval("said");
    let loading = said.as_array().unwrap().iter().filter(|entry| {
        let (text, share) = (entry[0].as_str().unwrap(), entry[1].as_f64().unwrap());
        text.starts_with("Loading the detector: ") && text.ends_with(" MB") && (0.0..=1.0).contains(&share)
    });
    assert!(loading.count() > 0, "{said}");

    let photos = photos();
    let find = |end: &str| photos.iter().find(|path| path.ends_with(end)).unwrap().clone();
    let (chosen, pasted) = (find("rgb.png"), find("444.jpg"));
    page.choose_files(&[chosen.clone(), pasted.clone()]);
    let results = page.results(2);
    assert_eq!(results.len(), 2, "{}", page.text("main"));
    page.paste_file("from the clipboard.jpg", &fs::read(&pasted).unwrap());
    let found = &page.results(1)[0];
    assert_eq!(found.file, "from the clipboard.jpg");
    let expected = detect(&detector(MODELS[1]), &read(&pasted));
    assert!(max_difference(&found.map().values, &expected.map.values) <= TOLERANCE);
    let card = page.text(".card");
    let time = card.lines().find(|line| line.ends_with(" on the processor")).unwrap_or_else(|| panic!("{card}"));
    let (amount, unit) = time.trim_end_matches(" on the processor").split_once(' ').unwrap();
    assert!(amount.parse::<f64>().unwrap() > 0.0 && ["ms", "s"].contains(&unit), "{card}");

    // At nothing the photo is bare, at all the map hides it.
    let centre = |opacity: u32| {
        page.eval(&format!(
            "(() => {{
                const slider = document.getElementById('opacity');
                slider.value = '{opacity}';
                slider.dispatchEvent(new Event('input'));
                const canvas = document.querySelector('.card canvas');
                // Read from a copy: Chrome warns of canvases that are read again and again.
                const copy = new OffscreenCanvas(1, 1).getContext('2d');
                copy.drawImage(canvas, -canvas.width / 2, -canvas.height / 2);
                return [...copy.getImageData(0, 0, 1, 1).data];
            }})()"
        ))
    };
    let (bare, half, hidden) = (centre(0), centre(50), centre(100));
    let channel = |colour: &serde_json::Value, i: usize| colour[i].as_i64().unwrap();
    assert_ne!(bare, hidden);
    for i in 0..3 {
        let between = (channel(&bare, i) + channel(&hidden, i)) / 2;
        assert!((channel(&half, i) - between).abs() <= 2, "{bare}, {half}, {hidden}");
    }
    page.eval("document.querySelector('.card .close').click()");
    assert_eq!(page.eval("document.querySelectorAll('.card').length"), 2);
    page.eval("document.getElementById('clear').click()");
    assert_eq!(page.eval("document.querySelectorAll('.card').length"), 0);
    assert_silent(&page);
}

/// Two sites of one origin, as on hosts that give each project a folder.
#[test]
fn sites_of_one_origin_leave_each_other_s_files_alone() {
    let _turn = turn();
    let site = Site::altered(|folder| {
        let other = folder.parent().unwrap().join("other");
        page::site::copy(folder, &other);
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    let kept = "caches.open('dinomaly-files').then((cache) => cache.keys()).then((keys) => keys.length)";
    let first = page.eval(kept).as_u64().unwrap();
    let other = chrome.open(&format!("{}?device=wasm", site.url.replace("sub%20path", "other")));
    other.wait_for_model();
    assert_eq!(other.eval("document.documentElement.dataset.state"), "ready", "{}", other.text(".panel"));
    assert_eq!(other.eval(kept), 2 * first);
}

#[test]
fn no_request_leaves_the_site() {
    let _turn = turn();
    let site = Site::new();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    page.drop_files(&photos());
    page.results(photos().len());
    page.choose("model", MODELS[1]);
    page.results(photos().len());
    let (all, own) = (chrome.requested(), page.requested());
    // What the worker fetches is in the browser's log, else that would not be the whole of it.
    for needed in ["index.html", "models.json", "worker.js", "dinomaly_bg.wasm", ".safetensors"] {
        let needed = if needed == "index.html" { "" } else { needed };
        assert!(all.iter().any(|url| url.contains(needed)), "{needed} is missing in {all:?}");
    }
    let foreign: Vec<&String> = all
        .iter()
        .chain(&own)
        .filter(|url| !url.starts_with(&site.url) && !url.starts_with("blob:") && !url.starts_with("data:"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    println!("{} requests of page and worker, all below {}", all.len(), site.url);
    assert_silent(&page);
}

/// On a static host the worker is fetched without any header: it must be bound by the page's own policy.
#[test]
fn the_policy_binds_the_worker_too() {
    let _turn = turn();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let site = Site::altered(|folder| {
        let address = elsewhere.local_addr().unwrap();
        let lines = format!(
            "const told = new BroadcastChannel('told');
             fetch('http://{address}/secret').then(() => 'sent', () => 'refused').then((outcome) => told.postMessage(outcome));"
        );
        before_worker(folder, &lines);
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.eval(
        "(() => { window.told = []; new BroadcastChannel('told').onmessage = ({ data }) => told.push(data); })()",
    );
    page.wait_for_model();
    // The worker of the first visit may have spoken before anybody listened.
    page.choose("device", "Processor");
    page.wait_for("told.length > 0");
    assert_eq!(page.eval("told[0]"), "refused");
    assert!(elsewhere.accept().is_err(), "somebody connected");
}

#[test]
fn bad_photos_get_their_sentence() {
    let _turn = turn();
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos/444.jpg")).unwrap();
    let mut huge = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos/rgb.png")).unwrap();
    huge[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let mut hasher = flate2::Crc::new();
    hasher.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&hasher.sum().to_be_bytes());
    let bad: [(&str, &[u8]); 4] = [
        ("diary.txt", b"Dear diary, today I photographed a screw."),
        ("cut off.jpg", &good[..good.len() / 2]),
        ("huge.png", &huge),
        ("empty.png", b""),
    ];
    for (name, bytes) in bad {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::write(folder.path().join("good.jpg"), &good).unwrap();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    page.drop_files(&bad.map(|(name, _)| folder.path().join(name)));
    page.results(bad.len());
    for (name, bytes) in bad {
        let expected = Photo::decode(name, bytes).unwrap_err().to_string();
        let cards =
            page.eval("[...document.querySelectorAll('.card[data-state=failed]')].map((card) => card.innerText)");
        let shown = cards.as_array().unwrap().iter().any(|text| text.as_str().unwrap().contains(&expected));
        assert!(shown, "{expected} is not among {cards}");
    }
    // The next one is fine.
    page.drop_files(&[folder.path().join("good.jpg")]);
    assert_eq!(page.results(bad.len() + 1)[0].file, "good.jpg");
    page.screenshot("page-bad-photos");
    assert_silent(&page);
}

#[test]
fn an_altered_model_is_refused() {
    let _turn = turn();
    type Alter = fn(&Path);
    let cases: [(&str, Alter); 3] = [
        ("it is altered or damaged, fetch it again", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("it is truncated or altered, fetch it again", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
        }),
        ("could not be fetched: the server answered 404", |path| fs::remove_file(path).unwrap()),
    ];
    for (expected, alter) in cases {
        let site = Site::altered(|folder| shards(folder).iter().for_each(|shard| alter(shard)));
        let chrome = Chrome::launch();
        let page = chrome.open(&site.url);
        page.wait_for_model();
        assert_eq!(page.eval("document.documentElement.dataset.state"), "failed");
        let text = page.text(".panel");
        assert!(text.contains(expected) && text.contains(".safetensors"), "{text}");
        println!("{}", text.replace('\n', " | "));
    }
}

#[test]
fn a_second_visit_needs_no_download_and_mends_a_damaged_cache() {
    let _turn = turn();
    let site = Site::new();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready");
    let kept = page.eval("caches.open('dinomaly-files').then((cache) => cache.keys()).then((keys) => keys.length)");
    assert_eq!(kept, page::site::model(MODELS[0]).to_files().unwrap().len() - 1, "all but the manifest");

    // Damaged in the cache: fetched again.
    page.eval(
        "caches.open('dinomaly-files').then(async (cache) => {
            const keys = await cache.keys();
            await Promise.all(keys.map((key) => cache.put(key, new Response('damaged'))));
        })",
    );
    page.reload();
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready", "{}", page.text(".panel"));

    // Gone from the server: the cache is enough.
    shards(&site.folder()).iter().for_each(|shard| fs::remove_file(shard).unwrap());
    page.reload();
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready", "{}", page.text(".panel"));
    page.drop_files(&photos()[..1]);
    assert_eq!(page.results(1).len(), 1);
    assert_silent(&page);
}

/// Makes the emulated GPU look like a real one.
const DISGUISE: &str = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });";

#[test]
fn an_emulated_gpu_is_not_taken_and_the_page_says_why() {
    let _turn = turn();
    let site = Site::new();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "wasm");
    let text = page.text(".panel");
    assert!(text.contains("Ready on the processor") && text.contains("the browser only emulates a GPU"), "{text}");

    // The same with a GPU that does not admit it: only then do the tests below test anything.
    let site = Site::altered(|folder| before_worker(folder, DISGUISE));
    let page = chrome.open(&site.url);
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "webgpu", "{}", page.text(".panel"));
}

#[test]
fn a_browser_without_webgpu_computes_on_the_processor_and_the_page_says_why() {
    let _turn = turn();
    let site = Site::altered(|folder| before_worker(folder, "delete WorkerNavigator.prototype.gpu;"));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "wasm");
    let text = page.text(".panel");
    assert!(text.contains("no GPU was found"), "{text}");
    println!("{}", text.replace('\n', " | "));
    page.choose("device", "Graphics processor");
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "failed");
    let text = page.text(".panel");
    assert!(text.contains("The detector cannot be used") && text.contains("no GPU was found"), "{text}");
}

#[test]
fn a_gpu_that_computes_wrongly_is_found_and_the_page_says_so() {
    let _turn = turn();
    // One constant of one kernel; everything compiles and runs.
    let lines = format!(
        "{DISGUISE}
         const create = GPUDevice.prototype.createShaderModule;
         GPUDevice.prototype.createShaderModule = function (descriptor) {{
             return create.call(this, {{ ...descriptor, code: descriptor.code.replaceAll('1.0 -', '1.01 -') }});
         }};"
    );
    let site = Site::altered(|folder| before_worker(folder, &lines));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    let text = page.text(".panel");
    assert_eq!(page.eval("document.documentElement.dataset.device"), "wasm", "{text}");
    assert!(text.contains("fails the model's self-test"), "{text}");
    page.drop_files(&photos()[..1]);
    let found = &page.results(1)[0];
    let expected = detect(&detector(MODELS[0]), &read(&photos()[0]));
    assert!(max_difference(&found.map().values, &expected.map.values) <= TOLERANCE);
    page.screenshot("page-fallback");
    println!("{}", text.replace('\n', " | "));
}

#[test]
fn a_lost_gpu_is_opened_again_and_given_up_when_it_is_lost_for_good() {
    let _turn = turn();
    let lines = format!(
        "{DISGUISE}
         const open = GPUAdapter.prototype.requestDevice;
         GPUAdapter.prototype.requestDevice = async function (...args) {{
             const device = await open.apply(this, args);
             const lose = new BroadcastChannel('lose');
             lose.onmessage = () => device.destroy();
             lose.postMessage('opened');
             return device;
         }};"
    );
    let site = Site::altered(|folder| before_worker(folder, &lines));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.eval("(() => { window.lose = new BroadcastChannel('lose'); window.opened = 0; lose.onmessage = () => { opened += 1; }; })()");
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "webgpu", "{}", page.text(".panel"));
    let native = detector(MODELS[0]);
    let check = |found: &Found, device: &str| {
        let expected = detect(&native, &read(path_of(&photos(), found)));
        assert!(max_difference(&found.map().values, &expected.map.values) <= TOLERANCE);
        assert_eq!(found.device, device);
    };

    // Lost between two photos: opened again, the next photo does not notice.
    page.eval("lose.postMessage('lose')");
    page.drop_files(&photos()[..1]);
    check(&page.results(1)[0], "webgpu");
    page.wait_for("opened > 0");

    // Lost whenever it is opened: the processor takes over and the page says why.
    page.eval("(() => { lose.onmessage = () => setTimeout(() => lose.postMessage('lose'), 0); })()");
    page.eval("lose.postMessage('lose')");
    page.drop_files(&photos()[1..2]);
    check(&page.results(1)[0], "wasm");
    let text = page.text(".panel");
    assert!(text.contains("Not on the graphics processor"), "{text}");
    println!("{}", text.replace('\n', " | "));
}

/// naga, which compiles natively, lets pass what Chrome refuses.
#[test]
fn kernels_compile_in_a_browser() {
    let _turn = turn();
    let site = Site::new();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    let compile = |source: &str| {
        page.eval(&format!(
            "(async () => {{
                window.gpu ??= await (await navigator.gpu.requestAdapter()).requestDevice();
                gpu.pushErrorScope('validation');
                const module = gpu.createShaderModule({{ code: {} }});
                const {{ messages }} = await module.getCompilationInfo();
                // A pipeline is checked further than its module.
                gpu.createComputePipeline({{ layout: 'auto', compute: {{ module, entryPoint: 'main' }} }});
                const error = await gpu.popErrorScope();
                return [...messages.map(({{ type, lineNum, message }}) => `${{type}} in line ${{lineNum}}: ${{message}}`),
                    ...(error ? [error.message] : [])];
            }})()",
            serde_json::to_string(source).unwrap()
        ))
    };
    let mut compiled = 0;
    for (name, source) in kernel_sources() {
        let messages = compile(source);
        assert_eq!(messages.as_array().map(Vec::len), Some(0), "{name}: {messages}");
        compiled += 1;
    }
    assert!(compiled > 0);
    println!("{compiled} kernels compiled");
    let refused = compile("@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }");
    assert!(!refused.as_array().unwrap().is_empty(), "a kernel that is wrong must be noticed");
}
