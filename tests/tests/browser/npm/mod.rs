//! The npm package: built as `cargo npm` does, then used as its users use it.

mod element; // <dinomaly-viewer>
mod errors; // what goes wrong is one sentence
mod examples; // plain page, Vite and Node
mod inputs; // everything that has pixels
mod renewed; // a model that is replaced in its folder
mod types; // what tsc says of users' code, and of the page

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use dinomaly_tests::page::site::{MODELS, copy, model, modules};
use tempfile::TempDir;

/// Folder of the package in the checkout.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm/npm")
}

/// Where `cargo npm` builds: the package, built once.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Else both commands might write the modules at a time.
        modules();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let said = run(Command::new(cargo).current_dir(&checkout).arg("npm"));
        println!("{said}");
        checkout.join("target/npm")
    })
}

/// A folder in which packages of the tools are found, as in one's own project, with the package installed from its archive.
fn project() -> TempDir {
    let projects = built().join("tools/projects");
    std::fs::create_dir_all(&projects).unwrap();
    let project = tempfile::tempdir_in(projects).unwrap();
    std::fs::write(project.path().join("package.json"), r#"{"private": true, "type": "module"}"#).unwrap();
    let archive = built().join(format!("dinomaly-{}.tgz", env!("CARGO_PKG_VERSION")));
    let install = ["install", "--offline", "--no-save", "--no-audit", "--no-fund", "--no-package-lock"];
    run(Command::new("npm").current_dir(project.path()).args(install).arg(archive));
    project
}

/// A program of the tools, as npm installs it.
fn tool(path: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.current_dir(folder).arg(built().join("tools/node_modules").join(path)).args(arguments);
    command
}

const TSC: &str = "typescript/bin/tsc";
const VITE: &str = "vite/bin/vite.js";

/// What a program says.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(status.success(), "{command:?} ended with {status}: {stdout}{stderr}");
    stdout
}

/// Folder of a plain page: an example with the package beside it, and a model.
fn plain(example: &str) -> TempDir {
    let folder = bare();
    copy(&sources().join("examples").join(example), folder.path());
    folder
}

/// The same with a page that does nothing.
fn bare() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "<!doctype html><main></main>").unwrap();
    copy(&built().join("package"), &folder.path().join("dinomaly"));
    write_model(&folder.path().join("model"));
    folder
}

fn write_model(folder: &Path) {
    dinomaly::model_dir::write(folder, &model(MODELS[0])).unwrap();
}
