//! Nothing waits without an end: where a server, a policy or a device does not answer, the next way is taken, or a sentence says
//! what to do, with a button that does it.

use std::fs;
use std::path::Path;

use dinomaly_tests::max_difference;
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::host::{Habit, Host};
use dinomaly_tests::page::site::{MODELS, Site, before_worker, detect, detector};

use crate::faults::DISGUISE;
use crate::{TOLERANCE, photos, read, turn};

/// Shortens the page's limits, so that none of these tests waits for a minute.
fn hurry(folder: &Path) {
    let path = folder.join("limits.js");
    let usual = fs::read_to_string(&path).unwrap();
    let mut hurried = usual.clone();
    for (limit, from, to) in [
        ("server", "20_000", "4_000"),
        ("adapter", "5_000", "2_000"),
        ("device", "60_000", "6_000"),
        ("patience", "30_000", "3_000"),
    ] {
        let line = format!("  {limit}: {from},");
        assert!(hurried.contains(&line), "limits.js has no line {line}");
        hurried = hurried.replace(&line, &format!("  {limit}: {to},"));
    }
    fs::write(path, hurried).unwrap();
}

/// A hurried site, on a host whose habits can be chosen.
fn hosted(alter: impl FnOnce(&Path)) -> (Site, Host) {
    let site = Site::altered(|folder| {
        hurry(folder);
        alter(folder);
    });
    let host = Host::serve(&site.folder());
    (site, host)
}

fn state(page: &Page) -> String {
    page.eval("document.documentElement.dataset.state").as_str().unwrap().to_owned()
}

/// Waits until the page has given up; what it says then.
fn refusal(page: &Page) -> String {
    page.wait_for_model();
    let said = page.text("#status-more");
    assert_eq!(state(page), "failed", "{said}");
    said
}

/// Presses one of the buttons below the status.
fn press(page: &Page, label: &str) {
    page.wait_for(&format!(
        "[...document.querySelectorAll('#ways button')].some(({{ textContent }}) => textContent === {label:?})"
    ));
    page.eval(&format!(
        "[...document.querySelectorAll('#ways button')].find(({{ textContent }}) => textContent === {label:?}).click()"
    ));
}

/// The page works: a photo's map is that of the native detector.
fn assert_works(page: &Page) {
    page.wait_for("document.documentElement.dataset.state === 'ready'");
    assert_eq!(page.eval("document.getElementById('ways').hidden"), true);
    page.drop_files(&photos()[..1]);
    let found = page.results(1);
    assert_eq!(found.len(), 1, "{}", page.text("main"));
    let expected = detect(&detector(MODELS[0]), &read(&photos()[0]));
    assert!(max_difference(&found[0].map().values, &expected.map.values) <= TOLERANCE);
}

#[test]
fn a_page_whose_scripts_are_not_loaded_says_what_to_do() {
    // Without a turn: it waits for time limits of the page, not for a core.
    let (site, host) = hosted(|_| ());
    let plain = Host::serve(&site.folder());
    plain.take_up(".js", Habit::Header("content-type", "text/plain"));
    plain.take_up(".js", Habit::Header("x-content-type-options", "nosniff"));
    let silent = Host::serve(&site.folder());
    silent.take_up("gallery.js", Habit::Silent);
    let chrome = Chrome::launch();
    let disk = format!("file://{}", site.folder().join("index.html").display()).replace(' ', "%20");
    let cases = [
        (disk, "file:? Browsers run this page only from a web server, such as dinomaly serve FOLDER"),
        (format!("{}/", plain.url), "does not send those that end in .js as text/javascript"),
        (host.url.clone(), "Add a slash"),
        (format!("{}/", silent.url), "load the page again"),
    ];
    for (url, expected) in cases {
        let page = chrome.open_without_waiting(&url);
        // Before the style has arrived, it is visible already, for a moment.
        page.wait_for(&format!(
            "(() => {{ const text = document.getElementById('unstarted');
                return text !== null && getComputedStyle(text).visibility === 'visible' && text.clientHeight > 20
                    && text.innerText.includes({expected:?}); }})()"
        ));
        assert_eq!(state(&page), "starting");
    }
    let page = chrome.open(&format!("{}/", host.url));
    page.wait_for_model();
    assert_eq!(page.eval("document.getElementById('unstarted')"), serde_json::Value::Null);
}

#[test]
fn policies_of_hosts_and_frames_are_kept_to_or_named() {
    let _turn = turn();
    let (_site, host) = hosted(|_| ());
    let chrome = Chrome::launch();
    let page_under = |policy| {
        host.mend();
        host.take_up("", Habit::Header("content-security-policy", policy));
        // The scripts of a page without an origin are asked for as those of another.
        host.take_up("", Habit::Header("access-control-allow-origin", "*"));
        chrome.open(&format!("{}/?device=wasm", host.url))
    };
    let said = refusal(&page_under("default-src 'self'"));
    assert!(
        said.contains("its header Content-Security-Policy has to allow \"script-src 'self' 'wasm-unsafe-eval'\""),
        "{said}"
    );
    let said = refusal(&page_under("default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'none'"));
    assert!(said.contains("its header Content-Security-Policy has to allow \"worker-src 'self' blob:\""), "{said}");
    let said = refusal(&page_under("sandbox allow-scripts"));
    assert!(said.contains("open the page in a window of its own"), "{said}");
    let page = page_under("default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:");
    assert_works(&page);
}

#[test]
fn a_server_that_falls_silent_is_given_up_and_tried_again() {
    // Without a turn: it waits for time limits of the page, not for a core.
    let (_site, host) = hosted(|_| ());
    let chrome = Chrome::launch();
    let url = format!("{}/?device=wasm", host.url);
    for (end, habit, expected) in [
        (
            "models.json",
            Habit::Silent,
            "models.json could not be downloaded: the server does not answer: check the connection",
        ),
        ("worker.js", Habit::Silent, "the detector's script did not arrive in time: check the connection"),
        (
            ".wasm.gz",
            Habit::Halved,
            "the detector could not be downloaded: the server stopped in the middle: check the connection",
        ),
        (
            ".safetensors",
            Habit::Halved,
            ".safetensors could not be downloaded: the server stopped in the middle: check the connection",
        ),
    ] {
        host.mend();
        host.take_up(end, habit);
        let page = chrome.open(&url);
        // Before it is given up there are ways on, too.
        page.wait_for("!document.getElementById('ways').hidden");
        let said = refusal(&page);
        assert!(said.contains(expected), "{end}: {said}");
        page.screenshot(&format!("page-silent-{}", end.trim_start_matches('.')));
        host.mend();
        press(&page, "Try again");
        assert_works(&page);
        // What was kept would hide the next fault.
        page.eval("caches.delete('dinomaly-files')");
        page.eval(
            "navigator.serviceWorker.getRegistrations().then((all) => Promise.all(all.map((one) => one.unregister())))",
        );
    }
}

#[test]
fn a_download_goes_on_by_itself_once_there_is_a_connection() {
    // Without a turn: it waits for time limits of the page, not for a core.
    let (_site, host) = hosted(|_| ());
    let chrome = Chrome::launch();
    host.take_up(".safetensors", Habit::Silent);
    let page = chrome.open(&format!("{}/?device=wasm", host.url));
    refusal(&page);
    host.mend();
    page.eval("dispatchEvent(new Event('online'))");
    assert_works(&page);
    // Once it is ready, the event does nothing.
    page.eval("dispatchEvent(new Event('online'))");
    assert_eq!(state(&page), "ready");
}

#[test]
fn a_gpu_that_never_answers_gives_way_to_the_processor() {
    // Without a turn: it waits for time limits of the page, not for a core.
    let never = "= () => new Promise(() => {});";
    for (lines, reason) in [
        (format!("GPU.prototype.requestAdapter {never}"), "the browser did not say in time which GPU there is"),
        (format!("{DISGUISE} GPUAdapter.prototype.requestDevice {never}"), "the GPU did not answer in time"),
        (format!("{DISGUISE} GPUBuffer.prototype.mapAsync {never}"), "the GPU did not answer in time"),
    ] {
        let (_site, host) = hosted(|folder| before_worker(folder, &lines));
        let chrome = Chrome::launch();
        let page = chrome.open(&format!("{}/", host.url));
        assert_works(&page);
        let said = page.text(".panel");
        assert!(said.contains("Ready on the CPU") && said.contains(&format!("Not on the GPU: {reason}.")), "{said}");

        // Asked for by name, it is not replaced silently.
        let page = chrome.open(&format!("{}/?device=webgpu", host.url));
        let said = refusal(&page);
        assert!(said.contains("the GPU did not answer in time"), "{said}");
        press(&page, "Go on with the processor");
        assert_works(&page);
        assert_eq!(page.eval("document.getElementById('device').value"), "wasm");
    }
}

#[test]
fn where_relaxed_simd_fails_the_plain_module_computes() {
    let _turn = turn();
    let (_site, host) = hosted(|folder| fs::write(folder.join("wasm/relaxed_bg.wasm.gz"), b"\0asm\x01\0\0\0").unwrap());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/?device=wasm", host.url));
    assert_works(&page);
    assert!(chrome.requested().iter().any(|url| url.contains("/cpu_bg.wasm")));
}

#[test]
fn messages_of_the_engine_are_not_shown() {
    let _turn = turn();
    let engine = "throw new RangeError('words of the engine');";
    let (_site, host) = hosted(|folder| {
        before_worker(folder, &format!("WebAssembly.instantiate = () => {{ {engine} }};"));
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/?device=wasm", host.url));
    let said = refusal(&page);
    assert!(said.contains("the memory is not enough") && !page.text("main").contains("words of the engine"), "{said}");
}

#[test]
fn the_detector_is_downloaded_again_on_request() {
    let _turn = turn();
    // A hurried page is not the one that its service worker lists.
    let site = Site::unaltered();
    let host = Host::serve(&site.folder());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/?device=wasm", host.url));
    page.wait_for_model();
    page.wait_until_kept();
    // Another site of the origin keeps its own.
    page.eval("caches.open('dinomaly-files').then((cache) => cache.put('/other/files/a.json', new Response('a')))");
    host.take_up("models.json", Habit::Header("content-type", "text/plain"));
    page.eval("caches.keys().then(async (names) => { for (const name of names.filter((name) => name.startsWith('dinomaly-page'))) await (await caches.open(name)).put('models.json', new Response('{}')); })");
    page.reload();
    let said = refusal(&page);
    assert!(said.contains("models.json has no version"), "{said}");
    page.eval("(() => { window.before = true; })()");
    press(&page, "Download the detector again");
    page.wait_for("window.before === undefined");
    assert_works(&page);
    let other =
        page.eval("caches.open('dinomaly-files').then((cache) => cache.match('/other/files/a.json')).then(Boolean)");
    assert_eq!(other, true);
}
