//! What goes in and out: folders, archives, formats that the browser decodes; models as zips; exports; results over a reload.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly::model_dir;
use dinomaly::publish::{FewShotPlan, few_shot};
use dinomaly::synth::Class;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::site::{MODELS, Site};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Write;

use crate::{ROUNDED, assert_silent, turn};

/// A zip archive of files, deflated as most programs do it.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        // Version, flags (UTF-8), method, time, date.
        let mut about: Vec<u8> = [20_u16, 0x800, 8, 0, 0x21].iter().flat_map(|value| value.to_le_bytes()).collect();
        let sizes = [crc.sum(), packed.len() as u32, content.len() as u32];
        about.extend(sizes.iter().flat_map(|value| value.to_le_bytes()));
        about.extend((name.len() as u16).to_le_bytes());
        let start = zip.len() as u32;
        zip.extend([&b"PK\x03\x04"[..], &about, &[0; 2], name.as_bytes(), &packed].concat());
        let rest = [&[0; 12][..], &start.to_le_bytes(), name.as_bytes()].concat();
        directory.extend([&b"PK\x01\x02\x14\x00"[..], &about, &rest].concat());
    }
    let (start, count) = (zip.len() as u32, files.len() as u16);
    let size = directory.len() as u32;
    let end =
        [&[0; 4][..], &count.to_le_bytes(), &count.to_le_bytes(), &size.to_le_bytes(), &start.to_le_bytes(), &[0; 2]];
    [zip, directory, b"PK\x05\x06".to_vec(), end.concat()].concat()
}

/// A GIF of grey values below 128, in codes that never grow.
fn gif(width: u16, height: u16, grey: impl Fn(u16, u16) -> u8) -> Vec<u8> {
    let mut gif = [&b"GIF89a"[..], &width.to_le_bytes(), &height.to_le_bytes(), &[0xe6, 0, 0]].concat();
    gif.extend((0..128).flat_map(|value| [value; 3]));
    gif.extend([&b",\0\0\0\0"[..], &width.to_le_bytes(), &height.to_le_bytes(), &[0, 7]].concat());
    let values: Vec<u8> = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| grey(x, y)).collect();
    for piece in values.chunks(100) {
        gif.extend([&[piece.len() as u8 + 1, 0x80], piece].concat());
    }
    gif.extend([1, 0x81, 0, b';']);
    gif
}

/// Files of a folder by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model")
}

fn gear(folder: &Path, name: &str, i: u64) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    Class::Gear.good(3, "in and out", i, 128).save(&path).unwrap();
    path
}

fn chosen_model(page: &Page) -> String {
    page.text("#model option:checked")
}

/// Number of things that the page keeps in a store.
fn kept(page: &Page, store: &str) -> Value {
    page.eval(&format!("import(new URL('store.js', document.baseURI).href).then(({{ all }}) => all({store:?})).then((kept) => kept.length)"))
}

fn wait_until_kept(page: &Page, store: &str, count: usize) {
    page.wait_for(&format!(
        "import(new URL('store.js', document.baseURI).href).then(({{ all }}) => all({store:?})).then((kept) => kept.length === {count})"
    ));
}

/// Opens the export menu.
fn open_exports(page: &Page) {
    page.eval("document.getElementById('export').open = true");
    page.wait_for("!document.getElementById('export-csv').disabled");
}

/// Name and content of the file that a click offers as a download.
pub fn download(page: &Page, click: &str) -> (String, Vec<u8>) {
    let file = page.eval(&format!(
        "new Promise((resolve) => {{
            window.blobs ??= new Map();
            window.create ??= URL.createObjectURL;
            URL.createObjectURL = (blob) => {{ const url = create(blob); blobs.set(url, blob); return url; }};
            HTMLAnchorElement.prototype.click = async function () {{
                const reader = new FileReader();
                reader.onload = () => resolve([this.download, reader.result.split(',')[1]]);
                reader.readAsDataURL(blobs.get(this.href));
            }};
            document.getElementById({click:?}).click();
        }})"
    ));
    (file[0].as_str().unwrap().to_owned(), BASE64_STANDARD.decode(file[1].as_str().unwrap()).unwrap())
}

#[test]
fn a_zip_of_a_model_opens_by_drop_and_stays_until_it_is_forgotten() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    (0..3).for_each(|i| drop(gear(&good, &format!("{i}.png"), i)));
    let out = folder.path().join("mine");
    few_shot(&FewShotPlan::new(&good, &out)).unwrap();
    let model = model_dir::read(&out).unwrap();
    let test = gear(folder.path(), "test.png", 9);
    let detector = Detector::new(Processor::new(ProcessorPrecision::F32), &model).unwrap();
    let native = detector.detect_now(&crate::read(&test)).unwrap().score;

    let write = |name: &str, files: &[(String, Vec<u8>)]| {
        let path = folder.path().join(name);
        fs::write(&path, archive(files)).unwrap();
        path
    };
    let whole: Vec<_> = files(&out).into_iter().map(|(name, content)| (format!("some/mine/{name}"), content)).collect();
    let zip = write("mine.zip", &whole);
    let mut altered = whole.clone();
    altered.iter_mut().find(|(name, _)| name.contains("/head-")).unwrap().1[2000] ^= 1;
    let without = |part: &str| whole.iter().filter(|(name, _)| !name.contains(part)).cloned().collect::<Vec<_>>();
    let other = ["manifest.json", "config.json"].map(|name| (name.to_owned(), b"{\"name\": 3}".to_vec()));
    let bad = [
        (write("altered.zip", &altered), "altered.zip is no model: head-"),
        (write("part.zip", &without("/head-")), "part.zip is no model: head-"),
        (write("texts.zip", &without("/manifest.json")), "texts.zip holds neither photos nor a model"),
        (write("other.zip", &other), "other.zip is no model: its manifest.json is of another kind"),
        (folder.path().join("broken.zip"), "broken.zip: is damaged, or no zip archive"),
    ];
    fs::write(&bad[4].0, b"PK\x03\x04 and nothing else").unwrap();

    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&bad.each_ref().map(|(path, _)| path.clone()));
    page.wait_for("document.querySelectorAll('#refused-names li').length === 5");
    let refused = page.text("#refused");
    assert!(refused.starts_with("5 files were not taken:"), "{refused}");
    for (_, sentence) in &bad {
        assert!(refused.contains(sentence), "{sentence} is not in {refused}");
    }
    assert_eq!(chosen_model(&page), MODELS[0]);
    assert_eq!(page.eval("document.querySelectorAll('.card').length"), 0);

    page.drop_files(&[zip]);
    page.wait_for("document.querySelector('#model option:checked').textContent === 'mine (from a zip)'");
    page.wait_for_model();
    page.drop_files(std::slice::from_ref(&test));
    let score = page.results(1)[0].score;
    assert!((score - native).abs() < ROUNDED, "{score} and {native}");
    wait_until_kept(&page, "models", 1);
    page.reload();
    page.wait_for_model();
    assert_eq!(chosen_model(&page), "mine (from a zip)");
    page.drop_files(&[test]);
    assert_eq!(page.results(1)[0].score, score);
    // Else the page asks before it is left: these photos would wait for the next model.
    page.eval("document.getElementById('clear').click()");

    page.eval("document.getElementById('forget').click()");
    page.wait_for("document.getElementById('undo').innerText.startsWith('The model mine was forgotten.')");
    assert_eq!(chosen_model(&page), MODELS[0]);
    assert_eq!([kept(&page, "models"), kept(&page, "shards")], [0, 0]);
    page.eval("document.querySelector('#undo button').click()");
    page.wait_for("document.querySelector('#model option:checked').textContent === 'mine (from a zip)'");
    wait_until_kept(&page, "models", 1);
    page.eval("document.getElementById('forget').click()");
    wait_until_kept(&page, "models", 0);
    page.reload();
    page.wait_for_model();
    assert!(!page.text("#model").contains("mine"), "{}", page.text("#model"));
    assert_silent(&page);
}

#[test]
fn an_encoder_alone_makes_detectors_of_several_products_that_outlive_the_page() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let photo = |class: Class, i: u64| {
        let path = folder.path().join(format!("{}-{i}.png", class.name()));
        class.good(3, "encoder alone", i, 128).save(&path).unwrap();
        path
    };
    let photos = |class: Class| (0..3).map(|i| photo(class, i)).collect::<Vec<_>>();
    let site = Site::of_encoder(Path::new("embedded"));
    let index = dinomaly_tests::read_json(&site.folder().join("models.json"));
    let shards = index["encoders"][0]["files"].as_object().unwrap();
    assert!(
        shards.keys().any(|name| name.starts_with("encoder-")) && !shards.keys().any(|name| name.starts_with("head-"))
    );
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for("document.documentElement.dataset.state === 'empty'");
    assert!(page.text("#status").starts_with("No detector yet: make one below"), "{}", page.text("#status"));
    assert_eq!(page.eval("document.getElementById('own').open"), true);
    // A photo that is given too early waits.
    let waiting = photo(Class::Fabric, 9);
    page.drop_files(&[waiting]);
    // The page scrolls to it.
    page.wait_for("document.querySelectorAll('.card[data-state=waiting]').length === 1");
    page.drop_files_on("own", &photos(Class::Gear));
    page.wait_for("document.querySelectorAll('.own-photos li').length === 3");
    page.eval("document.querySelector('.own-name').value = 'gear'");
    page.eval("document.getElementById('own-another').click()");
    page.eval("document.querySelector('.own-product:last-child').id = 'last'");
    page.drop_files_on("last", &photos(Class::Fabric));
    page.wait_for("document.querySelectorAll('#last li').length === 3");
    page.eval("document.querySelector('#last .own-name').value = 'gear'");
    page.eval("document.getElementById('own-make').click()");
    assert_eq!(page.text("#own-status"), "Two products are called gear: give one another name.");
    page.eval("document.querySelector('#last .own-name').value = 'fabric'");
    page.eval("document.getElementById('own-consent').click()");
    page.eval("document.getElementById('own-make').click()");
    page.wait_for("document.getElementById('own-status').textContent.startsWith('Ready')");
    page.wait_for_model();
    assert!(page.text("#own-status").contains("of 6 good photos"), "{}", page.text("#own-status"));
    assert_eq!(chosen_model(&page), "gear, fabric (made here)");
    let score = page.results(1)[0].score;
    wait_until_kept(&page, "good", 1);

    // The model is whole without the site's encoder, and has its photos.
    let published = fs::read_dir(site.folder().join("files")).unwrap();
    published.for_each(|file| fs::remove_file(file.unwrap().path()).unwrap());
    page.eval("caches.keys().then((names) => Promise.all(names.map((name) => caches.delete(name))))");
    page.reload();
    page.wait_for_model();
    assert_eq!(chosen_model(&page), "gear, fabric (made here)");
    page.wait_for("document.querySelectorAll('.own-photos li').length === 6");
    let names = page.eval("[...document.querySelectorAll('.own-name')].map(({ value }) => value)");
    assert_eq!(names, serde_json::json!(["gear", "fabric"]));
    page.drop_files(&[photo(Class::Fabric, 9)]);
    assert_eq!(page.results(1)[0].score, score);
    // Without consent they are gone at once.
    page.eval("document.getElementById('own-consent').click()");
    wait_until_kept(&page, "good", 0);
    assert_silent(&page);
}

#[test]
fn folders_archives_and_what_the_browser_decodes_are_taken() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    for (i, name) in ["10.png", "9.png", "inner/1.png", "inner/deeper/1.png"].iter().enumerate() {
        gear(&photos, name, i as u64);
    }
    fs::write(photos.join("notes.txt"), "nothing").unwrap();
    fs::write(photos.join(".hidden.png"), "nothing").unwrap();
    let zip = folder.path().join("photos.zip");
    let packed = ["a/1.png", "b/2.png"].map(|name| (name.to_owned(), fs::read(photos.join("9.png")).unwrap()));
    let more = [("a/read.me".to_owned(), b"x".to_vec()), ("__MACOSX/a/1.png".to_owned(), b"x".to_vec())];
    fs::write(&zip, archive(&[packed, more].concat())).unwrap();
    let grey = |x: u32, y: u32| (x * y % 128) as u8;
    let (animated, same) = (folder.path().join("grey.gif"), folder.path().join("grey.png"));
    fs::write(&animated, gif(90, 70, |x, y| grey(x.into(), y.into()))).unwrap();
    image::RgbImage::from_fn(90, 70, |x, y| image::Rgb([grey(x, y); 3])).save(&same).unwrap();
    let heic = folder.path().join("phone.heic");
    fs::write(&heic, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    let text = folder.path().join("diary.txt");
    fs::write(&text, "Dear diary").unwrap();

    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&[photos]);
    let names: Vec<String> = page.results(4).into_iter().map(|found| found.file).collect();
    assert_eq!(names, ["photos/9.png", "photos/10.png", "photos/inner/1.png", "photos/inner/deeper/1.png"]);
    assert_eq!(page.text("#arrived"), "4 photos taken.");
    assert_eq!(
        page.text("#refused-title"),
        "1 file in folders or archives was left out: no photos, or photos beside a model."
    );
    page.eval("document.getElementById('refused-close').click()");

    page.drop_files(&[zip, animated, same, heic, text]);
    let found = page.results(4);
    let names: Vec<&str> = found.iter().map(|found| found.file.as_str()).collect();
    assert!(["a/1.png", "b/2.png"].iter().all(|name| names.contains(name)), "{names:?}");
    let score = |name: &str| found.iter().find(|found| found.file == name).unwrap().score;
    assert_eq!(score("grey.gif"), score("grey.png"));
    let card = page.eval(
        "[...document.querySelectorAll('.card')].find(({ innerText }) => innerText.includes('grey.gif')).innerText",
    );
    assert!(card.as_str().unwrap().contains("GIF, decoded by the browser"), "{card}");
    let refused = page.text("#refused");
    let expected = [
        "2 files were not taken; 1 file in folders or archives was left out: no photos, or photos beside a model:",
        "phone.heic is HEIC, which this browser does not decode: convert it to JPEG or PNG, or open this page in Safari",
        "diary.txt is no photo: PNG, JPEG, WebP, TIFF and BMP are read",
    ];
    expected.iter().for_each(|sentence| assert!(refused.contains(sentence), "{refused}"));
    page.screenshot("page-refused");

    // A drag that names files by address alone, as WebKitGTK's do, leads nowhere else.
    let before = page.eval("location.href");
    page.drop_address("intake", "file:///tmp/photo.png");
    page.wait_for("document.getElementById('arrived').textContent.startsWith('The browser handed no file over')");
    assert_eq!(page.eval("location.href"), before);
    assert_silent(&page);
}

#[test]
fn results_are_exported_with_all_that_identifies_them() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let names = ["=1+1,\"2\".png", "<b>\u{202e}gnp.png"];
    let photos: Vec<_> = names.iter().enumerate().map(|(i, name)| gear(folder.path(), name, i as u64)).collect();
    let site = Site::of(&[demo()], None);
    let index = dinomaly_tests::read_json(&site.folder().join("models.json"));
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&photos);
    let results = page.results(2);
    wait_until_kept(&page, "rows", 2);

    open_exports(&page);
    let (name, json) = download(&page, "export-json");
    assert!(name.starts_with("inspection ") && name.ends_with(".json"), "{name}");
    let json: Value = serde_json::from_slice(&json).unwrap();
    for (i, record) in json["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(record["photo"], names[i]);
        let hash: String =
            Sha256::digest(fs::read(&photos[i]).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(record["photo_sha256"], hash);
        assert_eq!((&record["model"], &record["model_hash"]), (&index["models"][0]["name"], &index["models"][0]["id"]));
        assert_eq!(record["program"], env!("CARGO_PKG_VERSION"));
        let found = results.iter().find(|found| found.file == names[i]).unwrap();
        assert_eq!(record["score"].as_f64().unwrap() as f32, found.score);
        assert_eq!(record["device"], "CPU");
        assert_eq!(record["verdict"], if found.score > found.threshold { "defective" } else { "good" });
    }

    let (_, csv) = download(&page, "export-csv");
    let csv = String::from_utf8(csv).unwrap();
    let rows: Vec<&str> = csv.trim_end().split("\r\n").collect();
    assert!(rows[0].starts_with("\u{feff}photo,photo_sha256,product,verdict,score,threshold,label,model,"), "{csv}");
    assert!(rows[1].starts_with("\"'=1+1,\"\"2\"\".png\","), "no formula: {csv}");
    assert!(rows[2].starts_with("<b>\\u202egnp.png,"), "{csv}");
    assert_eq!(rows.len(), 3);

    let (_, zip) = download(&page, "export-zip");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
    let mut pictures: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    pictures.sort();
    let expected = ["0001 =1+1,_2_.png.png", "0002 _b__u202egnp.png.png"];
    assert_eq!(pictures, ["heatmaps", "overlays"].map(|kind| expected.map(|name| format!("{kind}/{name}"))).concat());
    for picture in &pictures {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut zip.by_name(picture).unwrap(), &mut bytes).unwrap();
        let drawn = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png).unwrap();
        assert_eq!((drawn.width(), drawn.height()), (128, 128));
    }

    let (_, report) = download(&page, "export-html");
    let path = folder.path().join("report.html");
    fs::write(&path, report).unwrap();
    let report = chrome.open(&format!("file://{}", path.display()));
    report.wait_for("[...document.images].length === 2 && [...document.images].every(({ complete, naturalWidth }) => complete && naturalWidth > 100)");
    assert!(report.text("tbody").contains("<b>\\u202egnp.png"), "{}", report.text("tbody"));
    assert_silent(&report);
    assert_silent(&page);
}

#[test]
fn results_outlive_a_reload_and_photos_do_with_consent_until_they_are_cleared() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let photos: Vec<_> = (0..3).map(|i| gear(folder.path(), &format!("{i}.png"), i)).collect();
    let site = Site::of(&[demo()], None);
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&photos);
    page.results(3);
    let cards = "[...document.querySelectorAll('.card')].map(({ dataset: { verdict, score, threshold } }) => [verdict, score, threshold])";
    let before = page.eval(cards);
    wait_until_kept(&page, "rows", 3);
    assert_eq!(kept(&page, "photos"), 0);
    page.reload();
    page.wait_for_model();
    page.wait_for("document.querySelectorAll('.card[data-state=done]').length === 3");
    assert_eq!(page.eval(cards), before);

    // The records are whole without the photos, their pictures are not there.
    open_exports(&page);
    let json: Value = serde_json::from_slice(&download(&page, "export-json").1).unwrap();
    let hash: String = Sha256::digest(fs::read(&photos[2]).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(json["results"][2]["photo_sha256"], hash);
    page.eval("document.getElementById('export-zip').click()");
    page.wait_for("document.getElementById('export-said').textContent.includes('the heatmaps were not kept')");

    page.eval("document.getElementById('clear').click()");
    wait_until_kept(&page, "rows", 0);
    let said = page.text("#undo");
    assert!(said.starts_with("3 photos were removed."), "{said}");
    page.press_with_control("z");
    assert_eq!(page.eval(cards), before);
    wait_until_kept(&page, "rows", 3);
    page.eval("document.getElementById('clear').click()");
    wait_until_kept(&page, "rows", 0);

    page.eval("document.getElementById('keep-photos').click()");
    page.drop_files(&photos[..2]);
    page.results(2);
    wait_until_kept(&page, "photos", 2);
    page.reload();
    page.wait_for_model();
    page.wait_for("document.querySelectorAll('.card[data-state=done]').length === 2");
    page.eval("document.getElementById('keep-photos').click()");
    wait_until_kept(&page, "photos", 0);
    assert_eq!(kept(&page, "rows"), 2);
    page.eval("document.getElementById('clear').click()");
    wait_until_kept(&page, "rows", 0);
    page.reload();
    page.wait_for_model();
    assert_eq!(page.eval("document.querySelectorAll('.card').length"), 0);
    assert_silent(&page);
}
