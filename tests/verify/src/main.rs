//! `cargo verify`: everything that must hold before a change is good, on a fresh machine with rustup and a C compiler.
//!
//! Installs what the browser and GPU tests need where it may, or says exactly what to install; then formatting, clippy and
//! documentation with warnings as errors, all tests with the examples in the documentation, and those of the Python package.
//! `cargo verify NAME…` passes names on to the tests.

mod python;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

const WASM: &str = "wasm32-unknown-unknown";

/// Debian's names of a Vulkan driver that needs no GPU, and of the browsers.
const DRIVER: [&str; 2] = ["libvulkan1", "mesa-vulkan-drivers"];
const CHROMIUM: &str = "chromium";
const FIREFOX: &str = "firefox-esr";
const WEBKIT: [&str; 2] = ["webkit2gtk-driver", "xvfb"];
const PYTHON: &str = "python3-venv";

/// Oldest Node that runs the npm package and its tools. Debian 12 has an older one, so apt is not asked for it.
const NODE: u32 = 20;

/// Where apt calls them otherwise, or has none.
const BY_HAND: &str = "install Chromium or Chrome (or name it in CHROME), Firefox (or name it in FIREFOX), on Linux WebKitGTK's WebDriver with Xvfb, Mesa's Vulkan drivers, and Python 3.11 or newer by hand";

fn main() -> ExitCode {
    match verify(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verify(names: &[String]) -> Result<()> {
    let begun = Instant::now();
    step("toolchain", rust_parts)?;
    step("browser, Vulkan driver, Python and Node", system_packages)?;
    step("formatting", || run("cargo", &["fmt", "--all", "--check"]))?;
    step("clippy", || {
        let natively = ["clippy", "--profile", "verify", "--workspace", "--exclude", "dinomaly-wasm", "--all-targets"];
        run("cargo", &[&natively[..], &["--", "-D", "warnings"]].concat())?;
        // The program of `cargo demo`.
        let demo = ["clippy", "--profile", "verify", "-p", "dinomaly", "--no-default-features", "--", "-D", "warnings"];
        run("cargo", &demo)?;
        // The page's modules. Relaxed SIMD is for our own crates only, so that others are checked once.
        let relaxed = ["-C", "target-feature=+relaxed-simd"];
        [("gpu", &[][..]), ("cpu", &[]), ("cpu", &relaxed)].iter().try_for_each(|(module, flags)| {
            let one =
                ["clippy", "--profile", "verify", "--target", WASM, "-p", "dinomaly-wasm", "--no-default-features"];
            run("cargo", &[&one[..], &["--features", module, "--", "-D", "warnings"], flags].concat())
        })
    })?;
    step("documentation", || {
        let all = ["doc", "--profile", "verify", "--no-deps", "--workspace", "--exclude", "dinomaly-wasm"];
        run_with(&[("RUSTDOCFLAGS", "-D warnings")], "cargo", &all)
    })?;
    step("tests", || {
        // The builder of the page's modules has no work that is worth optimising.
        run("cargo", &["test", "--profile", "quick", "-p", "dinomaly-wasm-build"])?;
        // dinomaly-python has no tests of Rust. It is named so that the crates that it shares are compiled with its features, once.
        let libraries = ["--profile", "verify", "-p", "dinomaly-core", "-p", "dinomaly", "-p", "dinomaly-python"];
        let features =
            ["--features", "dinomaly-core/candle,dinomaly-core/fewshot,dinomaly-core/processor,dinomaly-core/webgpu"];
        // One list of packages and features for all of it: with another one cargo would compile what they share again.
        let all = [&["test"], &libraries[..], &["-p", "dinomaly-tests"], &features].concat();
        let tests = [&all[..], &["--tests"]].concat();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            // Linking a module of the page keeps one core busy: the tests are compiled beside it.
            let page = start(&[], "cargo", &["page"])?;
            let built = run("cargo", &[&tests[..], &["--no-run"]].concat());
            wait(page, "cargo page")?;
            built?;
        }
        // What was compared and what was skipped is worth seeing when all is well, too.
        run("cargo", &[&tests[..], &["--", "--show-output"], &names].concat())?;
        run("cargo", &[&all[..], &["--doc", "--"], &names].concat())
    })?;
    step("Python package", || python::verify(names))?;
    println!("verify: all of it holds ({:.0} s)", begun.elapsed().as_secs_f64());
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("verify: {name}");
    let begun = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    println!("verify: {name} done ({:.0} s)", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The page's target, formatter and linter, through rustup. `rustup` does nothing for what is there.
fn rust_parts() -> Result<()> {
    run("rustup", &["target", "add", WASM]).context("rustup is needed (https://rustup.rs)")?;
    run("rustup", &["component", "add", "rustfmt", "clippy"])
}

/// Chromium, Firefox and WebKitGTK for the page's tests, Mesa's lavapipe for the WGSL kernels' where there is no GPU, and Python.
fn system_packages() -> Result<()> {
    let mut missing = Vec::new();
    if !has_vulkan() {
        missing.extend(DRIVER);
    }
    if !has_chromium() {
        missing.push(CHROMIUM);
    }
    if !has_firefox() {
        missing.push(FIREFOX);
    }
    if cfg!(target_os = "linux") && !works("sh", &["-c", "command -v WebKitWebDriver && command -v Xvfb"]) {
        missing.extend(WEBKIT);
    }
    if !python::is_there() {
        missing.push(PYTHON);
    }
    if !has_node() {
        bail!("Node {NODE} or newer with npm is missing: install it from https://nodejs.org");
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !works("apt-get", &["--version"]) {
        bail!("{} are missing, and there is no apt-get to install them: {BY_HAND}", missing.join(", "));
    }
    let install = [&["install", "--yes"], missing.as_slice()].concat();
    if works("sh", &["-c", "test $(id -u) = 0"]) {
        run("apt-get", &["update"])?;
        run("apt-get", &install).context(BY_HAND)
    } else if works("sudo", &["--non-interactive", "true"]) {
        run("sudo", &["apt-get", "update"])?;
        run("sudo", &[&["apt-get"], install.as_slice()].concat()).context(BY_HAND)
    } else {
        bail!("{0} are missing: run `sudo apt-get install {0}` and repeat this command", missing.join(" "));
    }
}

fn has_chromium() -> bool {
    is_named_in("CHROME")
        || Path::new("/Applications/Google Chrome.app").is_dir()
        || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| works(name, &["--version"]))
}

fn has_firefox() -> bool {
    is_named_in("FIREFOX") || [FIREFOX, "firefox"].iter().any(|name| works(name, &["--version"]))
}

/// Whether a variable holds the path of a program.
fn is_named_in(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|path| Path::new(&path).is_file())
}

fn has_node() -> bool {
    let new_enough = format!("process.exit(parseInt(process.versions.node) >= {NODE} ? 0 : 1)");
    works("node", &["--eval", &new_enough]) && works("npm", &["--version"])
}

fn has_vulkan() -> bool {
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    std::env::var_os("VK_ICD_FILENAMES").is_some()
        || cfg!(not(target_os = "linux"))
        || drivers.iter().any(|folder| std::fs::read_dir(folder).is_ok_and(|mut list| list.next().is_some()))
}

/// Whether a command exists and succeeds.
fn works(program: &str, arguments: &[&str]) -> bool {
    let quiet =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(&[], program, arguments)
}

/// Runs a command with these variables set.
fn run_with(variables: &[(&str, &str)], program: &str, arguments: &[&str]) -> Result<()> {
    wait(start(variables, program, arguments)?, &command(program, arguments))
}

fn command(program: &str, arguments: &[&str]) -> String {
    format!("{program} {}", arguments.join(" "))
}

fn start(variables: &[(&str, &str)], program: &str, arguments: &[&str]) -> Result<Child> {
    let child = Command::new(program).args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).spawn();
    child.with_context(|| format!("`{}` cannot be started", command(program, arguments)))
}

fn wait(mut child: Child, command: &str) -> Result<()> {
    let status = child.wait()?;
    if !status.success() {
        bail!("`{command}` ended with {status}");
    }
    Ok(())
}
