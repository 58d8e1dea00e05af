//! A visit from nothing to the first heatmap, over the loopback, and a second one.

use std::path::Path;

use anyhow::Result;
use dinomaly_tests::demo_model;
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::site::Site;
use dinomaly_tests::random::Shape;
use serde_json::Value;

use crate::write_model;

pub fn run(folder: &Path, photo: &Path) -> Result<()> {
    let small = write_model(folder, Shape::VitS14, true)?;
    // An emulated GPU needs minutes for the larger one.
    let models =
        [("embedded", demo_model(), &["wasm", "webgpu"][..]), ("ViT-S/14 at 392², int8", small, &["wasm"][..])];
    for (name, model, devices) in models {
        let site = Site::of(&[model], None);
        for device in devices {
            let chrome = Chrome::launch();
            let page = chrome.open(&format!("{}?profile&device={device}", site.url));
            println!("start, {name}, {device}, first visit: {}", visit(&page, photo));
            page.wait_until_kept();
            let before = chrome.requested_by_now(&page).len();
            page.reload();
            println!("start, {name}, {device}, second visit: {}", visit(&page, photo));
            let files = chrome.requested_by_now(&page).split_off(before);
            let large = files.iter().filter(|url| url.contains("/files/") || url.contains(".wasm")).count();
            println!("  {} requests, {large} of them for the model or the module", files.len());
        }
    }
    Ok(())
}

/// What the page measured, in milliseconds.
fn visit(page: &Page, photo: &Path) -> String {
    page.wait_for_model();
    page.drop_files(&[photo.to_owned()]);
    page.results(1);
    let measures = page.eval(
        "performance.getEntriesByType('measure').map(({ name, duration }) => `${name.split(':')[1]} ${duration.toFixed(0)} ms`)",
    );
    let measures = measures.as_array().map(Vec::as_slice).unwrap_or_default();
    measures.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
