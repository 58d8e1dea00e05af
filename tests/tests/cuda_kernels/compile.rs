//! Whether NVIDIA's compiler takes the kernels, for each architecture that is spoken of, where it is at hand.

use std::path::PathBuf;
use std::process::Command;

use crate::machine::files;

#[test]
fn nvcc_takes_every_kernel() {
    let home = std::env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc = home.unwrap_or_else(|| "nvcc".into());
    let architectures = ["sm_80", "sm_90"];
    if Command::new(&nvcc).arg("--version").output().is_err() {
        return println!("SKIPPED: nothing was compiled for {architectures:?} (there is no nvcc; set CUDA_HOME)");
    }
    let folder = tempfile::tempdir().unwrap();
    for architecture in architectures {
        for file in files() {
            let output = Command::new(&nvcc)
                // To machine code: what is wrong with registers and shared memory is found only there.
                .args(["-cubin", "-O3", "-std=c++17", "-Werror", "all-warnings", "-arch", architecture, "-o"])
                .args([&folder.path().join("out.cubin"), &file])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} for {architecture}: {text}", file.display());
        }
    }
    println!("{} files of kernels compile for {architectures:?}", files().len());
}
