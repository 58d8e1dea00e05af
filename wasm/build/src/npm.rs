//! `cargo npm`: the npm package of the detector.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{MODULES, build, checkout, default_folder};

/// Oldest version of Node that works.
const OLDEST: u32 = 20;

/// Where the package is built: `package` with its files, and the archive that npm installs.
pub fn folder() -> PathBuf {
    checkout().join("target/npm")
}

/// Builds all modules and assembles the package from them, with its types. Node and npm do the latter; the first time npm installs
/// TypeScript below [`folder`].
///
/// # Errors
/// If a module cannot be built, Node is missing or too old, npm installs nothing, or the JavaScript's types are wrong.
pub fn package() -> Result<()> {
    demand_node("node")?;
    let modules = default_folder();
    build(&MODULES, &modules)?;
    let script = checkout().join("wasm/npm/build.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(&modules).arg(env!("CARGO_PKG_VERSION")).arg(folder());
    let status = command.status().context("node cannot be started")?;
    if !status.success() {
        bail!("the npm package was not built ({status}): the reason stands above");
    }
    Ok(())
}

fn demand_node(node: impl AsRef<Path>) -> Result<()> {
    let by_hand = format!("install Node {OLDEST} or newer with npm (https://nodejs.org)");
    let output = Command::new(node.as_ref()).arg("--version").output();
    let output = output.with_context(|| format!("node cannot be started: {by_hand}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|number| number.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        bail!("node {version} is too old: {by_hand}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_old_node_gets_a_sentence() {
        let error = demand_node("no-such-node").unwrap_err().to_string();
        assert!(error.contains("install Node 20 or newer"), "{error}");
        // `echo` stands for a program that is no Node.
        #[cfg(unix)]
        assert!(demand_node("echo").unwrap_err().to_string().contains("is too old"));
    }
}
