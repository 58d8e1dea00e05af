//! The page's WebAssembly modules, built from this checkout and bound to JavaScript.
//!
//! wasm-bindgen is a library here, of the version that Cargo.lock names, so that there is no tool to install and the two
//! halves cannot drift apart.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use wasm_bindgen_cli_support::Bindgen;

/// One of the page's modules. A visitor fetches the one that his device and browser need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// What the page calls it.
    pub name: &'static str,
    /// The feature of `dinomaly-wasm` that makes it.
    feature: &'static str,
    /// What the compiler may use beside what `.cargo/config.toml` allows.
    target_features: &'static str,
    /// JavaScript's half.
    pub glue: &'static str,
    /// The module itself.
    pub wasm: &'static str,
}

/// The module for the GPU, and those for the processor: with relaxed SIMD, for browsers that have it, and without.
pub const MODULES: [Module; 3] = [
    Module { name: "gpu", feature: "gpu", target_features: "", glue: "gpu.js", wasm: "gpu_bg.wasm" },
    Module { name: "cpu", feature: "cpu", target_features: "", glue: "cpu.js", wasm: "cpu_bg.wasm" },
    Module {
        name: "relaxed",
        feature: "cpu",
        target_features: "+relaxed-simd",
        glue: "relaxed.js",
        wasm: "relaxed_bg.wasm",
    },
];

const TARGET: &str = "wasm32-unknown-unknown";
/// See `[profile.wasm]` in Cargo.toml.
const PROFILE: &str = "wasm";

/// Builds [`MODULES`] and returns the folder that holds their files. What is up to date is not built again.
///
/// # Errors
/// If this program does not lie in its checkout any more, if the wasm target is neither there nor can be added, or if the
/// build fails; the compiler has said why then.
pub fn build() -> Result<PathBuf> {
    let checkout = checkout()?;
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if !has_target(&rustc, &checkout)? {
        add_target("rustup", &checkout)?;
    }
    // Not the folder that this program was built into: whoever holds its lock would have to be waited for.
    let folder = checkout.join("target/wasm-build");
    let out = folder.join("page");
    for module in MODULES {
        // One each: all builds would write the same file, and each time it would be made again.
        let target_dir = folder.join(module.name);
        compile(module, &checkout, &target_dir)?;
        bind(&target_dir.join(TARGET).join(PROFILE).join("dinomaly_wasm.wasm"), &out, module)?;
    }
    Ok(out)
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
    if !module.target_features.is_empty() {
        // Added to those of .cargo/config.toml.
        let flags = format!("['-C', 'target-feature={}']", module.target_features);
        command.args(["--config", &format!("target.{TARGET}.rustflags = {flags}")]);
    }
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

/// The checkout that this program was built from.
///
/// # Errors
/// If it is not there any more.
pub fn checkout() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    if !root.join("wasm/Cargo.toml").is_file() {
        bail!(
            "the checkout {} that this program was built from is gone: give a page module that was built before with --wasm, \
             such as the folder wasm of another site",
            root.display()
        );
    }
    Ok(root.to_owned())
}

/// Sizes of a file as it is and compressed with gzip, as web servers send it, in bytes.
///
/// # Errors
/// If it cannot be read.
pub fn sizes(path: &Path) -> Result<(u64, u64)> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut encoder = GzEncoder::new(Counter(0), Compression::default());
    encoder.write_all(&bytes)?;
    Ok((bytes.len() as u64, encoder.finish()?.0))
}

/// Writes JavaScript's half and the module without what only the binding needs.
fn bind(compiled: &Path, out: &Path, module: Module) -> Result<()> {
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
        .generate(out)
        .with_context(|| format!("{} cannot be bound to JavaScript", compiled.display()))
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

/// Counts what is written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    fn missing_targets_are_noticed() {
        // `false` stands for a compiler that does not know the target.
        #[cfg(unix)]
        assert!(!has_target(&"false".into(), Path::new(".")).unwrap());
        let error = has_target(&"no-such-rustc".into(), Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("install Rust"), "{error}");
    }

    #[test]
    fn both_sizes_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zeros");
        fs::write(&path, vec![0; 100_000]).unwrap();
        let (raw, compressed) = sizes(&path).unwrap();
        assert_eq!(raw, 100_000);
        assert!((20..1000).contains(&compressed), "{compressed}");
    }
}
