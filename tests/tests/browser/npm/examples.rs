//! The examples find what the native detector finds: in a plain page, in a project of Vite, in Node.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dinomaly_tests::fixtures;
use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::engine::Engine;
use dinomaly_tests::page::firefox::Firefox;
use dinomaly_tests::page::host::{Habit, Host};
use dinomaly_tests::page::site::{MODELS, copy, detect, detector};
use serde_json::Value;
use tempfile::TempDir;

use super::{TSC, VITE, bare, plain, project, run, sources, tool, write_model};
use crate::{TOLERANCE, read, turn};

/// The examples show four digits.
const SHOWN: f32 = 5e-5 + TOLERANCE;

fn photo() -> PathBuf {
    fixtures("photos/444.jpg")
}

/// A visitor chooses a photo on an example's page.
fn shows_the_score(engine: &impl Engine, url: &str, what: &str) {
    engine.open(url);
    engine.wait_for("document.querySelector('output')?.value.startsWith('Choose a photo') === true");
    assert_eq!(engine.eval("document.querySelector('output').value"), "Choose a photo (computed on the cpu)", "{what}");
    engine.choose_files("input", &[photo()]);
    engine.wait_for("/score/.test(document.querySelector('output').value)");
    let said = engine.eval("document.querySelector('output').value").as_str().unwrap().to_owned();
    let score: f32 = said.split("score ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    let native = read(&photo());
    let expected = detect(&detector(MODELS[0]), &native).score;
    assert!((score - expected).abs() <= SHOWN, "{what}: {said}, expected {expected}");
    // The heatmap covers the part that is inspected: there the canvas differs from the photo.
    let changed = "(async () => {
        const canvas = document.querySelector('canvas');
        const picture = await createImageBitmap(document.querySelector('input').files[0]);
        const bare = new OffscreenCanvas(picture.width, picture.height);
        bare.getContext('2d').drawImage(picture, 0, 0);
        const [x, y] = [canvas.width >> 1, canvas.height >> 1];
        const at = (drawn) => [...drawn.getContext('2d').getImageData(x, y, 1, 1).data].join();
        return [canvas.width, canvas.height, at(canvas) !== at(bare)];
    })()";
    assert_eq!(engine.eval(changed), serde_json::json!([native.width, native.height, true]), "{what}");
    println!("{what}: {said}");
}

#[test]
fn a_plain_page_shows_the_native_detectors_score_in_chromium_and_firefox() {
    let _turn = turn();
    let folder = plain("plain");
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open("about:blank");
    shows_the_score(&page, &format!("{}/index.html", host.url), "plain page, Chromium");
    page.screenshot("npm-plain");
    shows_the_score(&Firefox::launch(), &format!("{}/index.html", host.url), "plain page, Firefox");
}

/// A fresh project with the example, the package and a model, its types checked.
fn vite_project() -> TempDir {
    let project = project();
    copy(&sources().join("examples/vite"), project.path());
    write_model(&project.path().join("public/model"));
    run(&mut tool(TSC, project.path(), &[]));
    project
}

/// Vite's development server, which ends with this.
struct Development(Child);

impl Development {
    fn start(project: &Path) -> (Self, String) {
        let mut command = tool(VITE, project, &["--port", "5199"]);
        let mut child = command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url = said.find_map(|line| Some(line.split_once("Local:")?.1.trim().to_owned())).expect("Vite starts");
        std::thread::spawn(move || said.for_each(drop));
        (Self(child), url)
    }
}

impl Drop for Development {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_project_of_vite_shows_it_developed_and_built_in_chromium_and_firefox() {
    let _turn = turn();
    let project = vite_project();
    let chrome = Chrome::launch();
    let page = chrome.open("about:blank");
    {
        let (_server, url) = Development::start(project.path());
        shows_the_score(&page, &url, "Vite's development server, Chromium");
    }
    run(&mut tool(VITE, project.path(), &["build", "--base", "./"]));
    let host = Host::serve(&project.path().join("dist"));
    shows_the_score(&page, &format!("{}/index.html", host.url), "built by Vite, Chromium");
    shows_the_score(&Firefox::launch(), &format!("{}/index.html", host.url), "built by Vite, Firefox");
}

/// As from a CDN: browsers start no worker of another origin, so the package imports it into one.
#[test]
fn the_package_may_come_from_another_origin() {
    let _turn = turn();
    let [here, there] = [bare(), bare()];
    std::fs::copy(photo(), there.path().join("photo.jpg")).unwrap();
    let [host, cdn] = [&here, &there].map(|folder| Host::serve(folder.path()));
    cdn.take_up("", Habit::Header("access-control-allow-origin", "*"));
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    let score = page.eval(&format!(
        "(async (cdn) => {{
            const {{ Detector }} = await import(`${{cdn}}/dinomaly/dinomaly.js`);
            const detector = await Detector.load(`${{cdn}}/model/`, {{ device: 'cpu' }});
            return (await detector.detect(await (await fetch(`${{cdn}}/photo.jpg`)).blob())).score;
        }})('{}')",
        cdn.url
    ));
    let expected = detect(&detector(MODELS[0]), &read(&photo())).score;
    let difference = (score.as_f64().unwrap() as f32 - expected).abs();
    assert!(difference <= TOLERANCE, "{score}, expected {expected}");
}

#[test]
fn node_shows_it_from_a_folder_and_from_a_server() {
    let project = project();
    let model = project.path().join("model");
    write_model(&model);
    copy(&sources().join("examples/node"), project.path());
    let host = Host::serve(project.path());
    let photos = [photo(), fixtures("photos/rgb.png")];
    let native = detector(MODELS[0]);
    let expected: Vec<f32> = photos.iter().map(|photo| detect(&native, &read(photo)).score).collect();
    let file_url = format!("file://{}", model.display());
    for place in [model.to_str().unwrap(), &file_url, &format!("{}/model", host.url)] {
        let mut node = Command::new("node");
        let said = run(node.current_dir(project.path()).arg("detect.mjs").arg(place).args(&photos));
        let scores: Vec<f32> = said
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["score"].as_f64().unwrap() as f32)
            .collect();
        assert_eq!(scores.len(), photos.len(), "{said}");
        let difference = dinomaly_tests::max_difference(&scores, &expected);
        assert!(difference <= TOLERANCE, "{place}: {scores:?}, expected {expected:?}");
        println!("Node, {place}: scores differ by at most {difference:e}");
    }
    // A refusal is one line, and nothing else is said of it.
    let mut node = Command::new("node");
    let output = node.current_dir(project.path()).args(["detect.mjs", "nowhere"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.lines().count() == 1 && said.starts_with("no model is at file:///"),
        "{said}"
    );
    let mut node = Command::new("node");
    let output = node.current_dir(project.path()).arg("detect.mjs").arg(&model).arg("detect.mjs").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("photo detect.mjs: not a PNG, JPEG, BMP, TIFF or WebP picture\n"), "{said}");
}
