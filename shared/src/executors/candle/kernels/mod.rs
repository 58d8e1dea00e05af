//! CUDA kernels, each `.cu` file beside the module that describes its launches.
//!
//! Launches do not depend on a GPU: tests run the same launches on the processor, with the kernels compiled as C++, and compare them
//! with the loops for the processor. Only `device` needs CUDA. Kernels of training alone (adamw, dropout, mining) are here too,
//! because they share `common.cuh` and the build script.

pub mod adamw;
pub mod bias;
#[cfg(feature = "cuda")]
pub mod device;
pub mod dropout;
pub mod layer_norm;
pub mod linear_attention;
pub mod mining;
pub mod residual;
pub mod softmax;

use candle_core::{DType, Layout, Result, bail};

/// Number of threads per warp.
const WARP: usize = 32;

/// Default number of threads per block.
const BLOCK: usize = 256;

/// Number of rows that one thread adds up: few enough to occupy the whole GPU.
const CHUNK: usize = 64;

/// Launch of a kernel. `P` is the type of a pointer where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch<P> {
    /// Name of the `.cu` file, its extension removed.
    pub module: &'static str,
    /// Name of the kernel in the file.
    pub kernel: String,
    /// Number of blocks.
    pub grid: u32,
    /// Number of threads per block.
    pub block: u32,
    /// Arguments in order.
    pub args: Vec<Arg<P>>,
}

/// Argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg<P> {
    /// Address of values.
    Pointer(P),
    /// `unsigned`.
    U32(u32),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
}

impl<P> Launch<P> {
    fn new(module: &'static str, kernel: impl Into<String>, grid: usize, block: usize) -> Self {
        Self { module, kernel: kernel.into(), grid: number(grid), block: number(block), args: Vec::new() }
    }

    fn pointers<const N: usize>(mut self, pointers: [P; N]) -> Self {
        self.args.extend(pointers.map(Arg::Pointer));
        self
    }

    fn numbers<const N: usize>(mut self, numbers: [usize; N]) -> Self {
        self.args.extend(numbers.map(|n| Arg::U32(number(n))));
        self
    }

    fn floats<const N: usize>(mut self, floats: [f32; N]) -> Self {
        self.args.extend(floats.map(Arg::F32));
        self
    }
}

/// A number of 32 bits, which is enough for any tensor of a batch.
fn number(n: usize) -> u32 {
    u32::try_from(n).expect("a tensor of fewer than 2³² values")
}

/// Storage type of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Element {
    /// Storage type of a tensor.
    ///
    /// # Errors
    /// If the type is neither f32 nor bf16.
    pub fn of(dtype: DType) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => Self::F32,
            DType::BF16 => Self::Bf16,
            other => bail!("a kernel takes f32 or bf16, not {other:?}"),
        })
    }

    /// The type in candle.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Number of values in a pack of 16 bytes.
    fn pack(self) -> usize {
        16 / self.dtype().size_in_bytes()
    }

    fn named(self, kernel: &str) -> String {
        match self {
            Self::F32 => format!("{kernel}_f32"),
            Self::Bf16 => format!("{kernel}_bf16"),
        }
    }
}

/// View of a tensor as rows of its last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Number of rows.
    pub count: usize,
    /// Number of values per row.
    pub width: usize,
}

impl Rows {
    /// Rows of a layout.
    pub fn of(layout: &Layout) -> Self {
        let width = layout.dims().last().copied().unwrap_or(1);
        Self { count: layout.shape().elem_count() / width.max(1), width }
    }

    /// Number of chunks into which sums over rows are divided.
    pub fn chunks(self) -> usize {
        self.count.div_ceil(CHUNK)
    }

    /// Number of blocks of a kernel with a thread per column of a chunk.
    fn column_blocks(self) -> usize {
        self.width.div_ceil(BLOCK) * self.chunks()
    }
}

/// Adds up `count` rows of `width` values, with a block per 32 columns.
fn add_rows<P>([chunks, out]: [P; 2], count: usize, width: usize) -> Launch<P> {
    Launch::new("add_rows", "add_rows", width.div_ceil(32), BLOCK).pointers([chunks, out]).numbers([count, width])
}
