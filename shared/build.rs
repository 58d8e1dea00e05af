//! Compiles the CUDA kernels of `src/executors/candle/kernels` to PTX, with the feature `cuda`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "src/executors/candle/kernels";

/// Target of the PTX: the driver compiles it for any GPU of compute capability 8.0 (A100) or later, such as 9.0 (H100, H200).
const ARCHITECTURE: &str = "compute_80";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed={KERNELS}");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    println!("cargo::rerun-if-env-changed=PATH");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let nvcc = match env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => "nvcc".into(),
    };
    let files = std::fs::read_dir(KERNELS)
        .expect("the kernels are part of the package")
        .map(|entry| entry.expect("a readable folder").path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "cu")) {
        compile(&nvcc, &file, &out);
    }
}

/// Compiles one file; on failure panics with a sentence that cargo shows.
fn compile(nvcc: &Path, file: &Path, out: &Path) {
    let ptx = out.join(file.file_stem().expect("a file's name")).with_extension("ptx");
    let output = Command::new(nvcc)
        .args(["-ptx", "-O3", "-std=c++17", "-arch", ARCHITECTURE, "-o"])
        .args([&ptx, file])
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{} cannot be run ({error}): set CUDA_HOME to the folder of the CUDA toolkit, build with \
                 native/cuda/build-without-toolkit.sh, or leave out the feature cuda",
                nvcc.display()
            )
        });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile:\n{text}", file.display());
}
