//! Kernels of [`crate::ops::Ops::linear`], by storage of the operands and tile of a workgroup.

use std::fmt::Write;

use super::GpuPrecision;
use crate::tensor::StorageType;

/// Storage of a linear layer's operands. Sums are f32, or exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operands {
    /// Both f32.
    F32,
    /// f16 weights, widened in registers.
    F16,
    /// int8 weights, widened in registers.
    Int8,
    /// int4 weights in groups, widened in registers.
    Int4,
    /// int8 weights and activations; activations have a scale per row.
    Int8Both,
}

/// Tile that a workgroup of a linear layer computes. The fastest one depends on the GPU; results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 32 rows × 32 outputs, operands read directly from the caches: for emulated GPUs.
    Registers,
    /// 32 rows × 32 outputs in shared memory: for small GPUs and few rows.
    Small,
    /// 64 rows × 64 outputs in shared memory.
    Medium,
    /// 128 rows × 64 outputs in shared memory: for large GPUs.
    Large,
}

const COMMON: &str = include_str!("kernels/linear.wgsl");
const OPERANDS_F32: &str = include_str!("kernels/operands_f32.wgsl");
const OPERANDS_INT8: &str = include_str!("kernels/operands_int8.wgsl");
const WEIGHT_F32: &str = include_str!("kernels/weight_f32.wgsl");
const WEIGHT_F16: &str = include_str!("kernels/weight_f16.wgsl");
const WEIGHT_INT4: &str = include_str!("kernels/weight_int4.wgsl");
const WEIGHT_INT8: &str = include_str!("kernels/weight_int8.wgsl");
const TILE_REGISTERS: &str = include_str!("kernels/tile_registers.wgsl");
const TILE_SHARED: &str = include_str!("kernels/tile_shared.wgsl");

impl Operands {
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Int8, Self::Int4, Self::Int8Both];

    /// Operands of a layer whose weight is stored in this type.
    pub fn of(weight: StorageType, precision: GpuPrecision, integer_dot: bool) -> Self {
        match weight {
            StorageType::Float32 if precision > GpuPrecision::F32 => Self::F16,
            StorageType::Float32 => Self::F32,
            StorageType::Float16 => Self::F16,
            StorageType::Int8 if precision == GpuPrecision::Int8 && integer_dot => Self::Int8Both,
            StorageType::Int8 => Self::Int8,
            StorageType::Int4 => Self::Int4,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Int8Both => "int8_both",
        }
    }

    fn source(self) -> [&'static str; 2] {
        match self {
            Self::Int8Both => [OPERANDS_INT8, ""],
            _ => [OPERANDS_F32, self.weight()],
        }
    }

    /// How the weight is read; of [`Operands::Int8Both`] there is no reading of it alone.
    pub fn weight(self) -> &'static str {
        match self {
            Self::F32 => WEIGHT_F32,
            Self::F16 => WEIGHT_F16,
            Self::Int8 | Self::Int8Both => WEIGHT_INT8,
            Self::Int4 => WEIGHT_INT4,
        }
    }
}

impl Tile {
    /// All tiles, the one that compiles fastest first.
    pub const ALL: [Self; 4] = [Self::Registers, Self::Small, Self::Medium, Self::Large];

    /// Name in [`super::WebGpu::tuning`] and in names of kernels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// Number of workgroups along outputs and rows.
    pub(super) fn groups(self, outputs: usize, rows: usize) -> [usize; 3] {
        let [width, height, each] = self.extents();
        [outputs.div_ceil(4 * width), rows.div_ceil(height * each), 1]
    }

    /// Number of invocations along outputs and rows, and rows per invocation, which computes four outputs of each. Every adapter
    /// supports 256 invocations and 16 KiB of shared memory, so these are the limits.
    fn extents(self) -> [usize; 3] {
        match self {
            Self::Registers | Self::Small => [8, 8, 4],
            Self::Medium => [16, 16, 4],
            Self::Large => [16, 16, 8],
        }
    }
}

/// Complete WGSL source of a kernel.
pub(super) fn source(operands: Operands, tile: Tile) -> String {
    let [width, height, rows] = tile.extents();
    let body = if tile == Tile::Registers { TILE_REGISTERS } else { TILE_SHARED };
    let extents = format!("\nconst WIDTH = {width}u;\nconst HEIGHT = {height}u;\nconst ROWS = {rows}u;\n");
    let [operands, weight] = operands.source();
    [COMMON, operands, weight, &extents, &for_each_row(body, rows)].concat()
}

/// Repeats each line that has a `#` for every row, with the row's number in its place. Emulated GPUs keep variables in registers,
/// but arrays indexed by a loop in memory.
fn for_each_row(text: &str, rows: usize) -> String {
    let mut all = String::new();
    for line in text.lines() {
        for row in 0..if line.contains('#') { rows } else { 1 } {
            writeln!(all, "{}", line.replace('#', &row.to_string())).expect("a string takes any text");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_row_are_repeated() {
        assert_eq!(for_each_row("a\nlet r# = f + #;\nb", 2), "a\nlet r0 = f + 0;\nlet r1 = f + 1;\nb\n");
    }

    #[test]
    fn every_tile_keeps_to_what_every_adapter_has() {
        for tile in Tile::ALL {
            let [width, height, rows] = tile.extents();
            let pitch = 5;
            assert!(width * height <= 256, "{tile:?}");
            assert!(16 * pitch * (4 * width + height * rows) <= 16384, "{tile:?}");
        }
    }
}
