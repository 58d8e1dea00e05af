//! Puts the page and the demo's model into the program, and in a packaged crate the page's WebAssembly modules, too.
//!
//! In a checkout the page is `../web`, and the program has cargo build the modules. A packaged crate has both in `page/`, which
//! `cargo page --package` filled. With `DINOMALY_EMBED_PAGE` set, a program built in a checkout takes them from there, too: one that leaves the
//! checkout, as in a wheel.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of the checkout's page that are not served.
const NOT_SERVED: [&str; 2] = ["README.md", "screenshot.png"];

/// Has a program that is built in a checkout hold the modules.
const EMBED: &str = "DINOMALY_EMBED_PAGE";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let checkout = package.join("../web");
    println!("cargo::rerun-if-env-changed={EMBED}");
    let in_checkout = checkout.is_dir() && std::env::var_os(EMBED).is_none();
    let (page, modules) = if in_checkout { (checkout, Vec::new()) } else { packaged(&package.join("page")) };
    let files = files(&page).into_iter().filter(|path| !NOT_SERVED.contains(&name(path))).collect::<Vec<_>>();
    let mut code = String::new();
    // But for its encoder, which the program holds once.
    let mut demo = self::files(&package.join("assets/demo-model"));
    demo.retain(|path| !name(path).starts_with("encoder-"));
    for (constant, doc, files) in [
        ("PAGE", "The page's files.", files),
        ("MODULES", "The page's WebAssembly modules.", modules),
        ("DEMO_MODEL", "Files of the demo's model, without its encoder.", demo),
    ] {
        let _ = writeln!(code, "/// {doc}\npub const {constant}: &[(&str, &[u8])] = &[");
        for path in files {
            let _ = writeln!(code, "    ({:?}, include_bytes!({path:?})),", name(&path));
        }
        code += "];\n";
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("page.rs"), code).expect("the build folder can be written to");
}

/// The folder of the page in a packaged crate, and its modules.
fn packaged(page: &Path) -> (PathBuf, Vec<PathBuf>) {
    let modules = page.join("wasm");
    assert!(modules.is_dir(), "{} is missing: run `cargo page --package` first", modules.display());
    (page.to_owned(), files(&modules))
}

/// Files directly in a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{} cannot be read: {error}", folder.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("names of the page's files are plain")
}
