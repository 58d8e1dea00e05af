//! Our own CUDA kernels: beside each `.cu` file, how it is called.
//!
//! What a launch is made of does not depend on a GPU: the tests run the same launches on the processor, with the kernels compiled
//! as C++ and compared with the operations' forms for the processor. Only `device` needs CUDA.

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

/// Threads of a warp.
const WARP: usize = 32;

/// Threads of a block where nothing speaks for another number.
const BLOCK: usize = 256;

/// Rows that one thread adds up: few enough that all of a GPU has work.
const CHUNK: usize = 64;

/// A kernel with all that it is called with. `P` is what a pointer is where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch<P> {
    /// The `.cu` file without its ending.
    pub module: &'static str,
    /// Name of the kernel in it.
    pub kernel: String,
    /// Blocks.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// Arguments in their order.
    pub args: Vec<Arg<P>>,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg<P> {
    /// Where values begin.
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

/// Kernels count in 32 bits, which is enough for any tensor of a batch.
fn number(n: usize) -> u32 {
    u32::try_from(n).expect("a tensor of fewer than 2³² values")
}

/// How activations are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
}

impl Element {
    /// How a tensor is stored.
    ///
    /// # Errors
    /// For any other type than these.
    pub fn of(dtype: DType) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => Self::F32,
            DType::BF16 => Self::Bf16,
            other => bail!("a kernel takes f32 or bf16, not {other:?}"),
        })
    }

    /// candle's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Values of a pack of 16 bytes.
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

/// A tensor seen as rows of its last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// How many there are.
    pub count: usize,
    /// Values of each.
    pub width: usize,
}

impl Rows {
    /// The rows of a layout.
    pub fn of(layout: &Layout) -> Self {
        let width = layout.dims().last().copied().unwrap_or(1);
        Self { count: layout.shape().elem_count() / width.max(1), width }
    }

    /// Into how many chunks sums over rows are cut.
    pub fn chunks(self) -> usize {
        self.count.div_ceil(CHUNK)
    }

    /// Blocks of a kernel in which a thread has a column of a chunk.
    fn column_blocks(self) -> usize {
        self.width.div_ceil(BLOCK) * self.chunks()
    }
}

/// Adds `chunks` rows of `width` values, 32 columns a block.
fn add_rows<P>([chunks, out]: [P; 2], count: usize, width: usize) -> Launch<P> {
    Launch::new("add_rows", "add_rows", width.div_ceil(32), BLOCK).pointers([chunks, out]).numbers([count, width])
}
