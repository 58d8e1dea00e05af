//! What a visitor does with the page, and what it asks the network for.

use std::fs;
use std::net::TcpListener;

use dinomaly_tests::max_difference;
use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::site::{MODELS, Site, before_worker, detect, detector, shards};

use crate::{TOLERANCE, assert_silent, photos, read, turn};

#[test]
fn models_share_their_encoder() {
    let site = Site::unaltered();
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
fn verdicts_follow_the_threshold_of_the_photo_s_class() {
    let _turn = turn();
    let site = Site::unaltered();
    let photos = photos();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    page.drop_files(&photos);
    let results = page.results(photos.len());
    let mut thresholds = Vec::new();
    for class in ["", "strict", "usual"] {
        // At first no class is chosen.
        if !class.is_empty() {
            page.eval(&format!(
                "(() => {{ for (const button of document.querySelectorAll('button.product')) {{
                    button.click();
                    const list = document.activeElement;
                    list.value = {class:?};
                    list.dispatchEvent(new Event('change'));
                }} }})()"
            ));
        }
        page.wait_for(&format!(
            "[...document.querySelectorAll('.card')].every((card) => card.textContent.includes({class:?} && `({class})`))"
        ));
        let cards = page.eval(
            "[...document.querySelectorAll('.card')].map(({ dataset, textContent }) => [dataset.verdict, dataset.threshold, textContent])",
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
    let calibration = dinomaly_tests::page::site::model(MODELS[0]).calibration;
    assert_eq!(of(""), calibration.overall.threshold);
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
    let site = Site::unaltered();
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
    let time = card.lines().find(|line| line.ends_with(" on the CPU")).unwrap_or_else(|| panic!("{card}"));
    let (amount, unit) = time.trim_end_matches(" on the CPU").split_once(' ').unwrap();
    assert!(amount.parse::<f64>().unwrap() > 0.0 && ["ms", "s"].contains(&unit), "{card}");

    // Every heatmap lies over its photo in a layer of its own.
    page.wait_for("[...document.querySelectorAll('.card img')].every(({ complete, naturalWidth }) => complete && naturalWidth > 0)");
    for opacity in [0, 50, 100] {
        page.eval(&format!(
            "(() => {{ const slider = document.getElementById('opacity');
                slider.value = '{opacity}';
                slider.dispatchEvent(new Event('input')); }})()"
        ));
        let shown =
            page.eval("[...document.querySelectorAll('.heat')].map((heat) => 100 * getComputedStyle(heat).opacity)");
        assert_eq!(shown, serde_json::json!([opacity, opacity, opacity]));
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
        dinomaly_tests::page::site::copy(folder, &other);
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
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    page.drop_files(&photos());
    page.results(photos().len());
    page.choose("model", MODELS[1]);
    page.results(photos().len());
    // What the service worker fetches is no exception.
    page.wait_until_kept();
    let (all, own) = (chrome.requested_by_now(&page), page.requested());
    // What the worker fetches is in the browser's log, else that would not be the whole of it.
    for needed in ["index.html", "models.json", "worker.js", "relaxed_bg.wasm", ".safetensors", "offline.js"] {
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
            "const attempts = new BroadcastChannel('attempts');
             fetch('http://{address}/secret').then(() => 'sent', () => 'refused').then((outcome) => attempts.postMessage(outcome));"
        );
        before_worker(folder, &lines);
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.eval(
        "(() => { window.told = []; new BroadcastChannel('attempts').onmessage = ({ data }) => told.push(data); })()",
    );
    page.wait_for_model();
    // The worker of the first visit may have spoken before anybody listened.
    page.choose("device", "CPU");
    page.wait_for("told.length > 0");
    assert_eq!(page.eval("told[0]"), "refused");
    assert!(elsewhere.accept().is_err(), "somebody connected");
}

#[test]
fn a_second_visit_needs_no_download_and_mends_a_damaged_cache() {
    let _turn = turn();
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready");
    let kept = page.eval("caches.open('dinomaly-files').then((cache) => cache.keys()).then((keys) => keys.length)");
    let files = dinomaly_tests::page::site::model(MODELS[0]).to_files().unwrap().len();
    assert_eq!(kept, files + 1, "the model's files and the module");

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
    fs::remove_dir_all(site.folder().join("files")).unwrap();
    fs::remove_file(site.folder().join("wasm/relaxed_bg.wasm.gz")).unwrap();
    let before = chrome.requested_by_now(&page).len();
    page.reload();
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready", "{}", page.text(".panel"));
    let asked = chrome.requested_by_now(&page).split_off(before);
    let large: Vec<&String> = asked.iter().filter(|url| url.contains("/files/") || url.contains(".wasm")).collect();
    assert!(large.is_empty(), "{asked:?}");
    page.drop_files(&photos()[..1]);
    assert_eq!(page.results(1).len(), 1);
    assert_silent(&page);
}
