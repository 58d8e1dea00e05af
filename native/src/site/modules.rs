//! Where the page's WebAssembly modules come from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packed::{PACKED, unpack};
use super::page::{MODULE_NAMES, MODULES, halves};

/// The page's modules.
#[derive(Clone, Debug)]
pub enum Modules {
    /// In the program: it was built from a packaged crate.
    Embedded,
    /// In a folder.
    Folder(PathBuf),
}

/// The checkout that this program was built from, if it is still there.
pub fn checkout() -> Option<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|root| root.join("wasm/build/Cargo.toml").is_file())
}

impl Modules {
    /// The modules of a folder that somebody named, else the embedded ones, else all of them built from the checkout.
    ///
    /// # Errors
    /// If the checkout that this program was built from is gone, or cargo fails.
    pub fn find(folder: Option<&Path>) -> Result<Self> {
        match folder {
            Some(folder) => Ok(Self::Folder(folder.to_owned())),
            None if !MODULES.is_empty() => Ok(Self::Embedded),
            None => Self::build(&MODULE_NAMES),
        }
    }

    /// Has cargo build some of [`MODULE_NAMES`] from the checkout. What is up to date is not built again.
    ///
    /// # Errors
    /// As [`Modules::find`].
    pub fn build(names: &[&str]) -> Result<Self> {
        let Some(checkout) = checkout() else {
            bail!(
                "the checkout that this program was built from is gone: give page modules that were built before with --wasm, \
                 such as the folder wasm of another site"
            );
        };
        let folder = checkout.join("target/wasm-build/page");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(checkout).args(["page", "--out"]).arg(&folder).args(names);
        // Its only output is the folder. What cargo and the compiler say goes to standard error.
        command.stdout(std::process::Stdio::null());
        // Flags for this program are not meant for the modules.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
            command.env_remove(variable);
        }
        let status = command.status().context("cargo cannot be started: install Rust from https://rustup.rs")?;
        if !status.success() {
            bail!("the page's modules were not built ({status}): cargo says why above");
        }
        Ok(Self::Folder(folder))
    }

    /// Names of the modules that are there.
    pub fn names(&self) -> Vec<&'static str> {
        let is_there = |name: &&str| match self {
            Self::Embedded => true,
            Self::Folder(folder) => halves(name)
                .iter()
                .all(|half| folder.join(half).is_file() || folder.join(format!("{half}{PACKED}")).is_file()),
        };
        MODULE_NAMES.into_iter().filter(is_there).collect()
    }

    /// Content of one of a module's files.
    ///
    /// # Errors
    /// Naming the file, if it is missing or cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Embedded => {
                let file = MODULES.iter().find(|(other, _)| *other == name);
                Ok(file.with_context(|| format!("the program holds no {name}"))?.1.to_vec())
            }
            Self::Folder(folder) => {
                // As in the folder of another site.
                let packed = folder.join(format!("{name}{PACKED}"));
                if packed.is_file() {
                    let unpacked = fs::read(&packed).map_err(anyhow::Error::new).and_then(|bytes| unpack(&bytes));
                    return unpacked.with_context(|| format!("{} cannot be read", packed.display()));
                }
                let path = folder.join(name);
                let cannot =
                    || format!("{} cannot be read: --wasm needs a folder of the page's modules", path.display());
                fs::read(&path).with_context(cannot)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::packed::pack;

    #[test]
    fn a_folder_offers_the_modules_that_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let modules = Modules::find(Some(folder.path())).unwrap();
        assert!(modules.names().is_empty());
        for name in ["cpu.js", "cpu_bg.wasm", "gpu.js"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        assert_eq!(modules.names(), ["cpu"]);
        assert_eq!(modules.read("cpu.js").unwrap(), b"cpu.js");
        let error = format!("{:#}", modules.read("relaxed.js").unwrap_err());
        assert!(error.contains("relaxed.js cannot be read: --wasm needs"), "{error}");

        // The folder of another site.
        for name in ["relaxed.js", "relaxed_bg.wasm.gz"] {
            fs::write(folder.path().join(name), pack(b"packed").unwrap()).unwrap();
        }
        assert_eq!(modules.names(), ["cpu", "relaxed"]);
        assert_eq!(modules.read("relaxed_bg.wasm").unwrap(), b"packed");
    }
}
