//! Visits after the first: without a request, without a server, and never with a page that is outdated.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use dinomaly_tests::max_difference;
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::site::{MODELS, Site, before, before_worker, detect, detector, write};

use crate::{TOLERANCE, assert_silent, photos, read, turn};

/// Opens a page and waits until the next visit is prepared.
fn first_visit(chrome: &Chrome, url: &str) -> Page {
    let page = chrome.open(&format!("{url}?device=wasm"));
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready", "{}", page.text(".panel"));
    page.wait_until_kept();
    page
}

/// Waits until the page offers this model alone and it is ready.
fn wait_for_site_of(page: &Page, name: &str) {
    page.wait_for(&format!(
        "document.getElementById('model')?.textContent === {name:?} && document.documentElement.dataset.state === 'ready'"
    ));
}

/// Looks at a photo, with the map that the native detector has for it.
fn assert_detects(page: &Page, name: &str) {
    page.drop_files(&photos()[..1]);
    let found = page.results(1);
    assert_eq!(found.len(), 1, "{}", page.text("main"));
    let expected = detect(&detector(name), &read(&photos()[0]));
    assert!(max_difference(&found[0].map().values, &expected.map.values) <= TOLERANCE);
}

/// Caches of pages.
fn kept(page: &Page) -> Vec<String> {
    let names = page.eval("caches.keys()");
    let names = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("dinomaly-page ")).collect()
}

fn is_newer_offered(page: &Page) -> bool {
    page.eval("!document.getElementById('newer').hidden") == true
}

#[test]
fn a_second_visit_asks_only_for_a_newer_service_worker() {
    let _turn = turn();
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    for address in ["", "?device=wasm", "index.html?profile&device=wasm#top"] {
        let before = chrome.requested_by_now(&page).len();
        let again = chrome.open(&format!("{}{address}", site.url));
        again.wait_for_model();
        assert_eq!(again.eval("document.documentElement.dataset.state"), "ready", "{}", again.text(".panel"));
        let by_then = chrome.requested_by_now(&again).split_off(before).len();
        // The browser lets the page open first.
        let begun = Instant::now();
        let mut asked = Vec::new();
        while asked.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody asked for a newer page");
            thread::sleep(Duration::from_millis(100));
            asked = chrome.requested_by_now(&again).split_off(before);
        }
        println!("{address:?}: {asked:?}, {by_then} of them before the model was ready");
        assert!(asked.iter().all(|url| *url == format!("{}offline.js", site.url)), "{asked:?}");
        assert_silent(&again);
    }
}

#[test]
fn a_file_that_is_missing_in_the_cache_comes_from_the_site() {
    let _turn = turn();
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    let cache = &kept(&page)[0];
    for file in ["card.js", "index.html"] {
        let deleted = page.eval(&format!("caches.open({cache:?}).then((cache) => cache.delete({file:?}))"));
        assert_eq!(deleted, true);
    }
    let before = chrome.requested_by_now(&page).len();
    page.reload();
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "ready", "{}", page.text(".panel"));
    let asked = chrome.requested_by_now(&page).split_off(before);
    let fetched = |end: &str| asked.iter().any(|url| url.ends_with(end));
    assert!(fetched("/card.js") && fetched("/?device=wasm") && !fetched("/app.js"), "{asked:?}");
}

#[test]
fn without_a_server_the_page_opens_and_looks_at_photos() {
    let _turn = turn();
    let mut site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    site.stop();
    page.reload();
    page.wait_for_model();
    assert_detects(&page, MODELS[0]);
    let other = chrome.open(&format!("{}index.html?device=wasm", site.url));
    other.wait_for_model();
    assert_detects(&other, MODELS[0]);
    // Nobody answers whether there is a newer one: that is no reason to say so, or to give the page up.
    assert!(!is_newer_offered(&page));
    page.wait_until_kept();
}

#[test]
fn a_newer_site_is_taken_up_by_itself() {
    let _turn = turn();
    let mut site = Site::with(MODELS[0]);
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    let older = kept(&page);
    site.change(MODELS[1]);
    // Newer is what the server has now, though it may have been written earlier.
    let script = fs::File::options().append(true).open(site.folder().join("offline.js")).unwrap();
    script.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    page.reload();
    wait_for_site_of(&page, MODELS[1]);
    page.wait_for(
        "caches.keys().then((names) => names.filter((name) => name.startsWith('dinomaly-page')).length === 1)",
    );
    assert_ne!(kept(&page), older);
    site.stop();
    page.reload();
    wait_for_site_of(&page, MODELS[1]);
    assert_detects(&page, MODELS[1]);
}

#[test]
fn photos_stay_when_a_newer_site_comes_until_the_visitor_takes_it() {
    let _turn = turn();
    let mut site = Site::with(MODELS[0]);
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    page.reload();
    page.wait_for_model();
    assert_detects(&page, MODELS[0]);
    assert!(!is_newer_offered(&page));

    // As browsers do from time to time.
    site.change(MODELS[1]);
    page.eval("navigator.serviceWorker.getRegistration().then((kept) => kept.update()).then(() => null)");
    page.wait_for("!document.getElementById('newer').hidden");
    assert_eq!(page.text("#newer"), "A newer version of this page is available: reload");
    page.screenshot("page-newer");
    assert_detects(&page, MODELS[0]);
    assert_eq!(page.eval("document.querySelectorAll('.card[data-state=done]').length"), 2);
    page.eval("document.getElementById('reload').click()");
    wait_for_site_of(&page, MODELS[1]);
    assert!(!is_newer_offered(&page));

    // Another page of the site, without photos, takes the next one up.
    assert_detects(&page, MODELS[1]);
    site.change(MODELS[0]);
    let other = chrome.open(&format!("{}?device=wasm", site.url));
    wait_for_site_of(&other, MODELS[0]);
    page.wait_for("!document.getElementById('newer').hidden");
    assert_detects(&page, MODELS[1]);
    // The results of before the reload are kept.
    assert_eq!(page.eval("document.querySelectorAll('.card[data-state=done]').length"), 4);
    page.eval("document.getElementById('reload').click()");
    wait_for_site_of(&page, MODELS[0]);
}

/// A site in the middle of being copied, or on a host that changes files on their way.
#[test]
fn a_site_that_is_not_whole_is_not_kept_and_no_older_one_stays_in_its_place() {
    let _turn = turn();
    let mut site = Site::with(MODELS[0]);
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    site.change(MODELS[1]);
    before_worker(&site.folder(), "// another version");
    page.reload();
    wait_for_site_of(&page, MODELS[1]);
    page.wait_for("navigator.serviceWorker.getRegistrations().then((kept) => kept.every(({ active }) => !active))");
    assert_eq!(page.eval("navigator.serviceWorker.controller"), serde_json::Value::Null);
    assert_detects(&page, MODELS[1]);

    // A site whose files were changed is not replaced.
    fs::remove_dir_all(site.folder()).unwrap();
    write(&site.folder(), MODELS[1]);
    let page = first_visit(&chrome, &site.url);
    site.stop();
    page.reload();
    wait_for_site_of(&page, MODELS[1]);
}

/// Such as another program's on the same port.
#[test]
fn another_page_under_the_same_address_is_not_hidden() {
    let _turn = turn();
    let site = Site::with(MODELS[0]);
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    fs::remove_dir_all(site.folder()).unwrap();
    fs::create_dir(site.folder()).unwrap();
    fs::write(site.folder().join("index.html"), "<title>another program</title>").unwrap();
    page.reload();
    page.wait_for("document.title === 'another program'");
    assert_eq!(page.eval("navigator.serviceWorker.getRegistrations().then(({ length }) => length)"), 0);
    assert_eq!(kept(&page), Vec::<String>::new());
}

/// One below the other, so that the scope of one holds the other.
#[test]
fn sites_of_one_origin_keep_their_pages_apart() {
    let _turn = turn();
    let mut site = Site::with(MODELS[0]);
    let inner = site.folder().join("inner");
    write(&inner, MODELS[0]);
    let chrome = Chrome::launch();
    let page = first_visit(&chrome, &site.url);
    let outer_kept = kept(&page);
    assert_eq!(outer_kept.len(), 1);
    let inner_url = format!("{}inner/", site.url);
    let other = first_visit(&chrome, &inner_url);
    other.wait_for(
        "caches.keys().then((names) => names.filter((name) => name.startsWith('dinomaly-page')).length === 2)",
    );

    write(&inner, MODELS[1]);
    other.reload();
    wait_for_site_of(&other, MODELS[1]);
    let both = kept(&other);
    assert!(both.len() == 2 && both.contains(&outer_kept[0]), "{both:?}, {outer_kept:?}");
    site.stop();
    for (page, name) in [(&page, MODELS[0]), (&other, MODELS[1])] {
        page.reload();
        wait_for_site_of(page, name);
        assert_detects(page, name);
    }
}

/// As without https, and in windows that may keep nothing.
#[test]
fn without_a_service_worker_each_visit_is_a_first_one() {
    let _turn = turn();
    let refused = "ServiceWorkerContainer.prototype.register = () => Promise.reject(new Error('refused'));";
    for lines in ["delete Navigator.prototype.serviceWorker;", refused] {
        let site = Site::altered(|folder| before(&folder.join("dom.js"), lines));
        let chrome = Chrome::launch();
        let page = chrome.open(&format!("{}?device=wasm", site.url));
        page.wait_for_model();
        page.reload();
        page.wait_for_model();
        assert_detects(&page, MODELS[0]);
        assert_eq!(kept(&page), Vec::<String>::new());
        assert_silent(&page);
    }
}
