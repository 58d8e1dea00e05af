//! A processor that runs the CUDA kernels: their files compiled as C++ with `host.h`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use dinomaly_core::executors::candle::kernels::{Arg, Launch};
use half::bf16;
use tempfile::TempDir;

/// The folder of the kernels.
pub fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/src/executors/candle/kernels")
}

/// The `.cu` files, sorted.
pub fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(kernels()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "cu")).collect();
    files.sort();
    files
}

/// The compiled kernels, made once for all tests. None where there is no C++ compiler.
static PROGRAM: LazyLock<Option<(TempDir, PathBuf)>> = LazyLock::new(|| {
    let compiler = ["c++", "g++", "clang++"].into_iter().find(|name| {
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    })?;
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("main.cpp"), folder.path().join("kernels"));
    std::fs::write(&source, main_file()).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_kernels");
    let mut command = Command::new(compiler);
    // Without contraction to multiply-add, which a GPU has too, but a test should not depend on.
    command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-w", "-I"]).arg(here).arg("-I").arg(kernels());
    // A pack of values at an address that is not aligned ends the program, as it does on a GPU.
    command.args(["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]);
    let status = command.arg("-o").args([&program, &source]).status().unwrap();
    assert!(status.success(), "{compiler} does not compile the kernels");
    Some((folder, program))
});

/// Whether kernels can be run; says why not.
pub fn is_there() -> bool {
    let there = PROGRAM.is_some();
    if !there {
        let reason = "there is no C++ compiler (c++, g++ or clang++) to run the CUDA kernels with";
        assert!(std::env::var_os("DINOMALY_REQUIRE_DATA").is_none(), "{reason}, and DINOMALY_REQUIRE_DATA is set");
        println!("SKIPPED: {reason}");
    }
    there
}

/// Each file in a namespace of its own, and a table of all kernels.
fn main_file() -> String {
    let mut text = "#include \"host.h\"\n#include \"common.cuh\"\n".to_owned();
    let mut table = String::new();
    for file in files() {
        let module = module(&file);
        writeln!(text, "namespace {module}_cu {{\n#include \"{module}.cu\"\n}}").unwrap();
        for kernel in names(&file) {
            writeln!(table, "    {{\"{module}/{kernel}\", kernel({module}_cu::{kernel})}},").unwrap();
        }
    }
    text + "int main() { return serve({\n" + &table + "}); }\n"
}

/// What launches call a file.
pub fn module(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Kernels of a file: `KERNEL name(`, `KERNEL __launch_bounds__(...) name(`, or `KERNEL name_##NAME(` for every type.
pub fn names(file: &Path) -> Vec<String> {
    let source = std::fs::read_to_string(file).unwrap();
    let declared = source.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("KERNEL ")?;
        let name = if name.starts_with("__launch_bounds__(") { name.split_once(") ")?.1 } else { name };
        name.split('(').next()
    });
    declared
        .flat_map(|name| match name.strip_suffix("##NAME") {
            Some(stem) => vec![format!("{stem}f32"), format!("{stem}bf16")],
            None => vec![name.to_owned()],
        })
        .collect()
}

/// Buffers, and what is done with them. A pointer is a buffer's number.
#[derive(Default)]
pub struct Machine {
    /// Bytes from an aligned address to where each buffer begins.
    shift: u64,
    buffers: Vec<(bool, Vec<u8>)>,
    launches: Vec<Launch<usize>>,
}

impl Machine {
    /// One whose buffers begin where packs of values cannot.
    pub fn unaligned() -> Self {
        Self { shift: 4, ..Self::default() }
    }

    fn add(&mut self, table: bool, bytes: Vec<u8>) -> usize {
        self.buffers.push((table, bytes));
        self.buffers.len() - 1
    }

    /// A buffer of a tensor's values.
    pub fn tensor(&mut self, tensor: &Tensor) -> usize {
        let flat = tensor.flatten_all().unwrap();
        let bytes = match tensor.dtype() {
            DType::F32 => flat.to_vec1::<f32>().unwrap().into_iter().flat_map(f32::to_le_bytes).collect(),
            DType::BF16 => flat.to_vec1::<bf16>().unwrap().into_iter().flat_map(bf16::to_le_bytes).collect(),
            DType::U32 => flat.to_vec1::<u32>().unwrap().into_iter().flat_map(u32::to_le_bytes).collect(),
            other => panic!("a buffer of {other:?}"),
        };
        self.add(false, bytes)
    }

    /// A buffer for so many values, of which every bit is set: NaN.
    pub fn room(&mut self, dtype: DType, count: usize) -> usize {
        self.add(false, vec![0xff; count * dtype.size_in_bytes()])
    }

    /// A buffer of words; those from [`Machine::address`] become pointers.
    pub fn table(&mut self, words: &[u64]) -> usize {
        self.add(true, words.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    /// What stands for a buffer's address in a table.
    pub fn address(buffer: usize) -> u64 {
        1 << 63 | buffer as u64
    }

    /// Queues kernels.
    pub fn launch(&mut self, launches: impl IntoIterator<Item = Launch<usize>>) {
        self.launches.extend(launches);
    }

    /// Runs what is queued; the buffers have its results then.
    pub fn run(&mut self) {
        let mut request: Vec<u8> = Vec::new();
        let word = |request: &mut Vec<u8>, word: u64| request.extend(word.to_le_bytes());
        word(&mut request, self.shift);
        word(&mut request, self.buffers.len() as u64);
        for (table, bytes) in &self.buffers {
            word(&mut request, u64::from(*table));
            word(&mut request, bytes.len() as u64);
            request.extend(bytes);
        }
        word(&mut request, self.launches.len() as u64);
        for launch in self.launches.drain(..) {
            let name = format!("{}/{}", launch.module, launch.kernel);
            word(&mut request, name.len() as u64);
            request.extend(name.as_bytes());
            for number in [launch.grid.into(), launch.block.into(), launch.args.len() as u64] {
                word(&mut request, number);
            }
            for arg in launch.args {
                let (pointer, value) = match arg {
                    Arg::Pointer(buffer) => (1, buffer as u64),
                    Arg::U32(number) => (0, number.into()),
                    Arg::U64(number) => (0, number),
                    Arg::F32(number) => (0, number.to_bits().into()),
                };
                word(&mut request, pointer);
                word(&mut request, value);
            }
        }
        let (_, program) = PROGRAM.as_ref().expect("asked for before");
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It reads all before it writes anything.
        child.stdin.take().unwrap().write_all(&request).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "the kernels end with {}", output.status);
        let mut rest = &output.stdout[..];
        for (table, bytes) in &mut self.buffers {
            let (now, later) = rest.split_at(bytes.len());
            // A table holds addresses of a process that is no more.
            if !*table {
                *bytes = now.to_vec();
            }
            rest = later;
        }
    }

    /// A buffer's values as a tensor.
    pub fn read(&self, buffer: usize, dtype: DType, shape: &[usize]) -> Tensor {
        Tensor::from_raw_buffer(&self.buffers[buffer].1, dtype, shape, &Device::Cpu).unwrap()
    }
}
