//! The Python package: built, installed in an environment of its own below `target/`, and tested there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{run, works};

/// Everything of this step.
const FOLDER: &str = "target/python";

/// pytest's exit status if no test has one of the given names.
const NO_TESTS: i32 = 5;

/// Whether there is a Python that makes environments.
pub fn is_there() -> bool {
    works("python3", &["-c", "import ensurepip, venv"])
}

/// Builds, installs and tests the package. `names` choose tests.
pub fn verify(names: &[String]) -> Result<()> {
    if !is_there() {
        bail!(
            "python3 with its modules venv and ensurepip is missing: install Python 3.11 or newer (Debian: python3-venv)"
        );
    }
    let folder = Path::new(FOLDER);
    let environment = folder.join("environment");
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let program = |name: &str| programs.join(name).display().to_string();
    let python = program("python");
    if !works(&python, &["-m", "pip", "--version"]) {
        run("python3", &["-m", "venv", "--clear", &environment.display().to_string()])?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(&python, &[&install[..], &["--requirement", "python/tests/requirements.txt"]].concat())?;

    let wheels = folder.join("wheels");
    let _ = fs::remove_dir_all(&wheels);
    // The profile, folder and features of the other tests: of other people's crates only PyO3's are compiled in addition.
    let build = ["build", "--profile", "verify", "--target-dir", "target", "--manifest-path", "python/Cargo.toml"];
    let system: &[&str] = if cfg!(target_os = "linux") { &["--compatibility", "linux"] } else { &[] };
    run(&program("maturin"), &[&build[..], system, &["--out", &wheels.display().to_string()]].concat())?;
    let wheel = wheel(&wheels)?.display().to_string();
    run(&python, &[&install[..], &["--force-reinstall", "--no-deps", &wheel]].concat())?;

    let mut pytest = Command::new(program("pytest"));
    pytest.args(["--quiet", "-p", "no:cacheprovider", "-rs", "python/tests"]).stdin(Stdio::null());
    if !names.is_empty() {
        // pytest knows no paths of modules.
        let last: Vec<&str> = names.iter().filter_map(|name| name.rsplit("::").next()).collect();
        pytest.args(["-k", &last.join(" or ")]);
    }
    let status = pytest.status().context("pytest cannot be started")?;
    let none_of_the_names = !names.is_empty() && status.code() == Some(NO_TESTS);
    if !status.success() && !none_of_the_names {
        bail!("pytest ended with {status}");
    }
    Ok(())
}

/// The one wheel of a folder.
fn wheel(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.extension().is_some_and(|end| end == "whl")).context("maturin wrote no wheel")
}
