//! `cargo page`: builds the page's modules. See `USAGE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dinomaly_wasm_build::{MODULES, Module, build, checkout, default_folder};

const USAGE: &str = "\
Builds the page's WebAssembly modules from this checkout.

Usage: cargo page [--out DIR] [MODULE...]   build modules (cpu, relaxed, gpu; all if omitted)
       cargo page --package                 fill native/page, which `cargo package` puts into the crate";

/// Files of the page that are not served.
const NOT_SERVED: [&str; 2] = ["README.md", "screenshot.png"];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo page: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let mut names = Vec::new();
    let mut out = default_folder();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--package" => return package(&checkout()),
            "--out" => out = PathBuf::from(arguments.next().context("--out needs a folder")?),
            name => names.push(module(name)?),
        }
    }
    let modules = if names.is_empty() { MODULES.to_vec() } else { names };
    build(&modules, &out)?;
    println!("{}", out.display());
    Ok(())
}

fn module(name: &str) -> Result<Module> {
    let Some(module) = MODULES.into_iter().find(|module| module.name == name) else {
        bail!("there is no module {name}: the modules are cpu, relaxed and gpu");
    };
    Ok(module)
}

/// Fills `native/page` with the page's files and all modules, in the place of what was there.
fn package(checkout: &Path) -> Result<()> {
    let page = checkout.join("native/page");
    let built = default_folder();
    build(&MODULES, &built)?;
    if page.exists() {
        fs::remove_dir_all(&page).with_context(|| format!("{} cannot be removed", page.display()))?;
    }
    let modules = MODULES.iter().flat_map(|module| [format!("{}.js", module.name), format!("{}_bg.wasm", module.name)]);
    for name in modules {
        copy(&built.join(&name), &page.join("wasm").join(&name))?;
    }
    let web = checkout.join("web");
    for entry in fs::read_dir(&web).with_context(|| format!("{} cannot be read", web.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !NOT_SERVED.contains(&name.as_str()) {
            copy(&web.join(&name), &page.join(&name))?;
        }
    }
    println!("{} is filled: package with `cargo package -p dinomaly-core -p dinomaly`", page.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    Ok(())
}
