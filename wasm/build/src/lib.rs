//! The page's WebAssembly modules, built from this checkout and bound to JavaScript.
//!
//! wasm-bindgen is a library here, of the version that Cargo.lock names: no tool has to be installed, and the two halves
//! are always of one version.

pub mod npm;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

/// One of the page's modules. A visitor's browser fetches the one for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name, and stem of its files: `NAME.js`, `NAME_bg.wasm`.
    pub name: &'static str,
    /// Feature of `dinomaly-wasm`.
    feature: &'static str,
    /// Target features beside those of `.cargo/config.toml`.
    target_features: &'static str,
}

/// The modules for the processor, for the processor with relaxed SIMD, and for the GPU. The first runs in every browser.
pub const MODULES: [Module; 3] = [
    Module { name: "cpu", feature: "cpu", target_features: "" },
    Module { name: "relaxed", feature: "cpu", target_features: "+relaxed-simd" },
    Module { name: "gpu", feature: "gpu", target_features: "" },
];

const TARGET: &str = "wasm32-unknown-unknown";
/// See `[profile.wasm]` in Cargo.toml.
const PROFILE: &str = "wasm";

/// Builds modules into a folder. What is up to date is not built again.
///
/// # Errors
/// If the wasm target is neither there nor can be added, or if a build fails: the compiler has said why then.
pub fn build(modules: &[Module], out: &Path) -> Result<()> {
    let checkout = checkout();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if !has_target(&rustc, &checkout)? {
        add_target("rustup", &checkout)?;
    }
    // A folder of its own: a cargo that runs this program may hold the lock of the usual one.
    let folder = checkout.join("target/wasm-build");
    // So that the folders whose paths are to be replaced are there. Without a network the build says what is missing.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let _ = Command::new(cargo).current_dir(&checkout).args(["fetch", "--quiet", "--target", TARGET]).status();
    for module in modules {
        // One for each module: all builds write the same file, whose name says nothing of features and flags.
        let target_dir = folder.join(module.name);
        compile(*module, &checkout, &target_dir)?;
        let bound = target_dir.join("bound");
        // Held until it is dropped: another run of this program may do the same.
        let lock = File::create(target_dir.join("bound.lock")).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.with_context(|| format!("{} cannot be locked", target_dir.display()))?;
        bind(&target_dir.join(TARGET).join(PROFILE).join("dinomaly_wasm.wasm"), &bound, *module)?;
        copy(&bound, out)?;
    }
    Ok(())
}

/// The folder that [`build`] is given where nobody names another.
pub fn default_folder() -> PathBuf {
    checkout().join("target/wasm-build/page")
}

/// Runs cargo.
fn compile(module: Module, checkout: &Path, target_dir: &Path) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(checkout)
        .args(["build", "--package", "dinomaly-wasm", "--no-default-features", "--features", module.feature])
        .args(["--target", TARGET, "--profile", PROFILE, "--target-dir"])
        .arg(target_dir);
    let mut flags: Vec<String> = remapped(cargo_home().as_deref(), checkout)
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    if !module.target_features.is_empty() {
        flags.extend(["-C".to_owned(), format!("target-feature={}", module.target_features)]);
    }
    // Added to those of .cargo/config.toml. TOML quotes strings as Rust does.
    command.args(["--config", &format!("target.{TARGET}.rustflags = {flags:?}")]);
    // Flags that were meant for this program would replace those that .cargo/config.toml has for the module.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    let status = command.status().context("cargo cannot be started: install Rust from https://rustup.rs")?;
    if !status.success() {
        bail!("the page's module {} was not built ({status}): cargo says why above", module.name);
    }
    Ok(())
}

/// Folders whose paths would else stand in the module, for messages of panics, with what stands there instead: equal sources give equal
/// modules on every machine.
fn remapped(cargo_home: Option<&Path>, checkout: &Path) -> impl Iterator<Item = (PathBuf, &'static str)> {
    let registries = cargo_home.map(|home| home.join("registry/src"));
    let registries = registries.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    registries.map(|registry| (registry.path(), "crates")).chain([(checkout.to_owned(), "dinomaly")])
}

/// Where cargo unpacks crates.
fn cargo_home() -> Option<PathBuf> {
    let home = || Some(env::home_dir()?.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// The checkout that this program was built from.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/")).to_owned()
}

/// Writes JavaScript's half and the module, without what only the binding needs, into a folder. One that is newer than the compiled module and
/// this program is left alone.
fn bind(compiled: &Path, folder: &Path, module: Module) -> Result<()> {
    if is_newer(folder, &[compiled, &env::current_exe()?]) {
        return Ok(());
    }
    let unfinished = folder.with_extension("part");
    let _ = fs::remove_dir_all(&unfinished);
    let mut bindgen = Bindgen::new();
    bindgen.web(true)?;
    // Without a default, `init()` could not find the module that lies beside it.
    bindgen.omit_default_module_path(false);
    bindgen
        .input_path(compiled)
        .out_name(module.name)
        .typescript(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(&unfinished)
        .with_context(|| format!("{} cannot be bound to JavaScript", compiled.display()))?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(&unfinished, folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// Whether something was last changed after all of these.
fn is_newer(path: &Path, than: &[&Path]) -> bool {
    let changed = |path: &Path| fs::metadata(path)?.modified();
    let Ok(at) = changed(path) else { return false };
    than.iter().all(|path| changed(path).is_ok_and(|other| other < at))
}

/// Copies the files of a folder that are not there yet as they are: others may be reading them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> io::Result<()> {
        fs::create_dir_all(to)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            let (content, target) = (fs::read(file.path())?, to.join(file.file_name()));
            if fs::read(&target).ok().as_ref() != Some(&content) {
                fs::write(target, content)?;
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))
}

/// Whether the compiler has the target's standard library.
fn has_target(rustc: &OsString, checkout: &Path) -> Result<bool> {
    let output = Command::new(rustc)
        .current_dir(checkout)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::inherit())
        .output()
        .context("rustc cannot be started: install Rust from https://rustup.rs")?;
    Ok(output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

fn add_target(rustup: &str, checkout: &Path) -> Result<()> {
    let added = Command::new(rustup).current_dir(checkout).args(["target", "add", TARGET]).status();
    let by_hand = format!("add the target {TARGET} to your Rust toolchain");
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("rustup target add {TARGET} failed ({status}): {by_hand}, then try again"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            bail!(
                "this Rust toolchain cannot compile for the browser and rustup is not installed: {by_hand}, or install Rust from https://rustup.rs"
            )
        }
        Err(e) => Err(e).context(format!("rustup cannot be started: {by_hand}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_without_rustup_gets_a_sentence() {
        let error = add_target("no-such-rustup", Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("rustup is not installed") && error.contains(TARGET), "{error}");
        // `false` stands for a rustup that cannot reach its server.
        #[cfg(unix)]
        assert!(add_target("false", Path::new(".")).unwrap_err().to_string().contains("failed"));
    }

    #[test]
    fn paths_of_the_machine_are_replaced() {
        let home = tempfile::tempdir().unwrap();
        let unpacked = home.path().join("registry/src/index");
        fs::create_dir_all(&unpacked).unwrap();
        let found: Vec<_> = remapped(Some(home.path()), Path::new("/checkout")).collect();
        assert_eq!(found, [(unpacked, "crates"), ("/checkout".into(), "dinomaly")]);
        assert_eq!(remapped(None, Path::new("/checkout")).count(), 1);
    }

    #[test]
    fn what_is_newer_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (older, newer) = (folder.path().join("older"), folder.path().join("newer"));
        fs::write(&older, "").unwrap();
        assert!(!is_newer(&newer, &[&older]), "it is missing");
        fs::write(&newer, "").unwrap();
        let hour = |hours: u64| std::time::UNIX_EPOCH + std::time::Duration::from_secs(3600 * hours);
        File::open(&older).unwrap().set_modified(hour(1)).unwrap();
        File::open(&newer).unwrap().set_modified(hour(2)).unwrap();
        assert!(is_newer(&newer, &[&older]));
        assert!(!is_newer(&newer, &[&older, &newer]), "one is as new");

        let to = folder.path().join("to");
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("a.js"), "1").unwrap();
        copy(&from, &to).unwrap();
        File::open(to.join("a.js")).unwrap().set_modified(hour(1)).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::metadata(to.join("a.js")).unwrap().modified().unwrap(), hour(1), "an equal file is not written");
        fs::write(from.join("a.js"), "2").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("a.js")).unwrap(), b"2");
    }

    #[test]
    fn missing_targets_are_noticed() {
        // `false` stands for a compiler that does not know the target.
        #[cfg(unix)]
        assert!(!has_target(&"false".into(), Path::new(".")).unwrap());
        let error = has_target(&"no-such-rustc".into(), Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("install Rust"), "{error}");
    }
}
