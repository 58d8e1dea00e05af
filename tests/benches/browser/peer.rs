//! A photo here and in onnxruntime-web.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use dinomaly::model_dir;
use dinomaly_core::maps::score::anomaly_map;
use dinomaly_core::photo::decode::Photo;
use dinomaly_tests::max_difference;
use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::site::Site;
use dinomaly_tests::random::Shape;
use serde::Deserialize;

use crate::{median, write_model};

/// Something to compare.
struct Case {
    /// Of both: a name of ours for the page's device, and of onnxruntime's execution provider.
    device: &'static str,
    shape: Shape,
    int8: bool,
    rounds: usize,
    /// The share of the peer's time that is the goal.
    goal: f64,
}

impl Case {
    fn label(&self) -> String {
        format!("{}, {:?}, {}", self.device, self.shape, if self.int8 { "int8" } else { "f32" })
    }
}

const CASES: [Case; 5] = [
    Case { device: "webgpu", shape: Shape::VitTi16, int8: false, rounds: 7, goal: 0.35 },
    Case { device: "wasm", shape: Shape::VitTi16, int8: false, rounds: 15, goal: 1.0 },
    Case { device: "wasm", shape: Shape::VitTi16, int8: true, rounds: 15, goal: 0.8 },
    Case { device: "wasm", shape: Shape::VitS14, int8: false, rounds: 7, goal: 1.0 },
    Case { device: "wasm", shape: Shape::VitS14, int8: true, rounds: 7, goal: 0.8 },
];

/// What the page found in the last round: our map and our module's memory, the peer's distances of each group.
#[derive(Deserialize)]
struct Found {
    memory: f64,
    map: Vec<f32>,
    distances: Vec<Vec<f32>>,
}

pub fn run(folder: &Path, photo: &Path, wanted: &str) -> Result<()> {
    if let Some(missing) = [dist(), python()].into_iter().find(|path| !path.exists()) {
        println!("onnxruntime-web left out: {} is missing, main.rs says how to get it", missing.display());
        return Ok(());
    }
    for case in CASES.iter().filter(|case| case.label().contains(wanted)) {
        compare(folder, photo, case)?;
    }
    Ok(())
}

fn compare(folder: &Path, photo: &Path, case: &Case) -> Result<()> {
    let &Case { device, shape, int8, rounds, goal } = case;
    let ours = write_model(folder, shape, int8)?;
    let site = Site::of(&[ours], None);
    let place = |name: &str| site.folder().join(name);
    let f32_model = write_model(folder, shape, false)?;
    export(&f32_model, int8, &place("peer.onnx"))?;
    install_peer(&place("ort"))?;
    fs::write(place("bench.js"), include_str!("bench.js"))?;
    fs::write(place("bench.html"), "<!doctype html><script type=module src=bench.js></script>")?;
    fs::copy(photo, place("photo.jpg"))?;

    let model = model_dir::read(&f32_model)?;
    let patch = model.config.encoder().patch_size;
    let patches = model.preprocessor.patches(&Photo::decode("photo.jpg", &fs::read(photo)?)?, patch);
    fs::write(place("patches.f32"), patches.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;

    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}bench.html", site.url));
    let shape_of_patches = [1, model.grid() * model.grid(), 3 * patch * patch];
    page.eval(&format!("start({device:?}, {shape_of_patches:?})"));
    page.eval("round()");
    let times: Vec<(f64, f64)> =
        (0..rounds).map(|_| serde_json::from_value(page.eval("round()"))).collect::<Result<_, _>>()?;
    let found: Found = serde_json::from_value(page.eval("found()"))?;

    let distances: Vec<&[f32]> = found.distances.iter().map(Vec::as_slice).collect();
    let crop = model.preprocessor.geometry.crop;
    let peers = anomaly_map(&distances, model.grid(), crop, model.config.map_border())?;
    println!(
        "{}: {:.0} ms, onnxruntime-web {:.0} ms; ratio {:.2} (goal {goal}); maps differ by {:.1e}; our module has {:.0} MB",
        case.label(),
        median(times.iter().map(|(ours, _)| *ours)),
        median(times.iter().map(|(_, peer)| *peer)),
        median(times.iter().map(|(ours, peer)| ours / peer)),
        max_difference(&found.map, &peers.values),
        found.memory / 1e6,
    );
    Ok(())
}

/// Writes the model for the peer.
fn export(model: &Path, int8: bool, to: &Path) -> Result<()> {
    let mut command = Command::new(python());
    command.arg(root().join("tests/peers/export_onnx.py")).arg(model).arg(to);
    if int8 {
        command.arg("--int8");
    }
    let ran = command.output().context("the peer's Python cannot be started")?;
    if !ran.status.success() {
        bail!("export_onnx.py failed: {}", String::from_utf8_lossy(&ran.stderr));
    }
    Ok(())
}

/// Puts what the page needs of onnxruntime-web into a folder.
fn install_peer(to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(dist())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let known = name.to_string_lossy();
        if known.starts_with("ort-wasm") || known.ends_with(".bundle.min.mjs") {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

fn dist() -> PathBuf {
    root().join("tests/peers/node_modules/onnxruntime-web/dist")
}

fn python() -> PathBuf {
    root().join("target/peers/bin/python")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
