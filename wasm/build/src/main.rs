//! `cargo page`: builds the page's modules; `cargo npm`: the npm package. See `USAGE`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dinomaly_wasm_build::{MODULES, Module, build, checkout, default_folder, npm};

const USAGE: &str = "\
Builds the page's WebAssembly modules from this checkout.

Usage: cargo page [--out DIR] [MODULE...]   build modules (cpu, relaxed, gpu; all if omitted)
       cargo page --package                 fill native/page, which `cargo package` puts into the crate
       cargo page --check                   check that native/page is what the sources give
       cargo npm                            build the npm package in target/npm, with all modules";

/// What `cargo package` takes the page from.
const PACKAGED: &str = "native/page";

/// Files of the page that are not served.
const NOT_SERVED: [&str; 2] = ["README.md", "screenshot.png"];

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let is_npm = arguments.iter().any(|argument| argument == "--npm");
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo {}: {error:#}", if is_npm { "npm" } else { "page" });
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
            "--check" => return check(&checkout()),
            "--npm" => return npm::package(),
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
    let page = checkout.join(PACKAGED);
    let files = files(checkout)?;
    if page.exists() {
        fs::remove_dir_all(&page).with_context(|| format!("{} cannot be removed", page.display()))?;
    }
    files.iter().try_for_each(|(name, from)| copy(from, &page.join(name)))?;
    // Cargo calls every file uncommitted that it packages and git does not hold.
    println!("{} is filled: package with `cargo package --allow-dirty -p dinomaly-core -p dinomaly`", page.display());
    Ok(())
}

/// Checks that `native/page` holds what [`package`] would put there, and nothing else.
fn check(checkout: &Path) -> Result<()> {
    let page = checkout.join(PACKAGED);
    let mut files = files(checkout)?;
    for folder in [page.clone(), page.join("wasm")] {
        for entry in fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                continue;
            }
            let name = path.strip_prefix(&page)?.to_string_lossy().replace('\\', "/");
            let expected = files.remove(&name).map(fs::read).transpose()?;
            if expected.as_ref() != Some(&fs::read(&path)?) {
                bail!("{} is not what the sources give: run `cargo page --package`", path.display());
            }
        }
    }
    if let Some(name) = files.into_keys().next() {
        bail!("{} is missing: run `cargo page --package`", page.join(name).display());
    }
    println!("{} is what the sources give", page.display());
    Ok(())
}

/// The page's files and all modules, freshly built: name in the package and path here.
fn files(checkout: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let built = default_folder();
    build(&MODULES, &built)?;
    let modules = MODULES.iter().flat_map(|module| [format!("{}.js", module.name), format!("{}_bg.wasm", module.name)]);
    let mut files: BTreeMap<_, _> = modules.map(|name| (format!("wasm/{name}"), built.join(name))).collect();
    let web = checkout.join("web");
    for entry in fs::read_dir(&web).with_context(|| format!("{} cannot be read", web.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !NOT_SERVED.contains(&name.as_str()) {
            files.insert(name.clone(), web.join(name));
        }
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    Ok(())
}
