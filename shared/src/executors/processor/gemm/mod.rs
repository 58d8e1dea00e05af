//! Matrix products whose right-hand side is packed once for many left-hand sides.

mod lanes;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod rounded;
mod tiles;

use std::borrow::Cow;

use self::rounded::Rounded;
use crate::{Error, Result};

/// Implementation of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// rten-gemm.
    #[cfg(not(target_arch = "wasm32"))]
    #[default]
    Native,
    /// The kernels of the browser, `tiles.rs`.
    #[cfg_attr(target_arch = "wasm32", default)]
    Tiles,
}

/// View of a matrix.
#[derive(Clone, Copy)]
pub struct View<'a> {
    values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    /// Distance between rows, and between columns, in values.
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// View of contiguous rows.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        Self::with_pitch(values, [rows, columns], columns)
    }

    /// View of rows at a distance of `pitch` values.
    pub fn with_pitch(values: &'a [f32], [rows, columns]: [usize; 2], pitch: usize) -> Self {
        Self { values, rows, columns, strides: [pitch, 1] }
    }

    /// Transposed view.
    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, strides: [down, right] } = self;
        Self { values, rows: columns, columns: rows, strides: [right, down] }
    }

    /// View of `rows` rows from `first` on.
    pub fn part(self, first: usize, rows: usize) -> Self {
        Self { values: &self.values[first * self.strides[0]..], rows, ..self }
    }

    /// Value at a position.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.strides[0] + column * self.strides[1]]
    }

    /// Values of a row.
    pub fn row(&self, row: usize) -> Cow<'a, [f32]> {
        let values = &self.values[row * self.strides[0]..];
        match self.strides[1] {
            1 => Cow::Borrowed(&values[..self.columns]),
            stride => values.iter().step_by(stride).take(self.columns).copied().collect(),
        }
    }

    /// All values, row after row.
    pub fn to_vec(self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.rows * self.columns);
        (0..self.rows).for_each(|row| values.extend_from_slice(&self.row(row)));
        values
    }
}

/// Packed right-hand side in f32.
pub enum Matrix {
    #[cfg(not(target_arch = "wasm32"))]
    Native(native::Matrix),
    Tiles(tiles::Matrix),
    Rounded(Rounded),
}

impl Matrix {
    /// Packs a matrix `[depth, columns]`.
    ///
    /// # Errors
    /// If its extents contradict each other.
    pub fn new(kernels: Kernels, right: View<'_>) -> Result<Self> {
        match kernels {
            #[cfg(not(target_arch = "wasm32"))]
            Kernels::Native => native::Matrix::new(right).map(Self::Native),
            Kernels::Tiles => Ok(Self::Tiles(tiles::Matrix::new(right))),
        }
    }

    /// Packs a matrix as rounded integers if that saves time, with an error of about a thousandth of the largest values.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn rounded(kernels: Kernels, right: View<'_>) -> Result<Self> {
        match kernels {
            #[cfg(not(target_arch = "wasm32"))]
            Kernels::Native => Self::new(kernels, right),
            Kernels::Tiles => Ok(Self::Rounded(Rounded::new(right))),
        }
    }

    /// The same with more bits, for left-hand sides of weights whose rows sum to at most one.
    ///
    /// # Errors
    /// As [`Matrix::new`].
    pub fn mixed(kernels: Kernels, right: View<'_>) -> Result<Self> {
        match kernels {
            #[cfg(not(target_arch = "wasm32"))]
            Kernels::Native => Self::new(kernels, right),
            Kernels::Tiles => Ok(Self::Rounded(Rounded::mixed(right))),
        }
    }

    /// Depth and columns.
    pub fn extents(&self) -> [usize; 2] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Native(matrix) => matrix.extents(),
            Self::Tiles(matrix) => matrix.extents(),
            Self::Rounded(matrix) => matrix.extents(),
        }
    }

    /// Writes `alpha · left · self + bias` to `out [rows, columns]`.
    ///
    /// # Errors
    /// If the extents do not fit together.
    pub fn product(&self, left: View<'_>, alpha: f32, bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        let [depth, columns] = self.extents();
        if left.columns != depth || out.len() != left.rows * columns {
            return Err(refused(format!(
                "[{}, {}] times [{depth}, {columns}] into {} values",
                left.rows,
                left.columns,
                out.len()
            )));
        }
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Native(matrix) => matrix.product(left, alpha, bias, out),
            Self::Tiles(matrix) => {
                matrix.product(left, alpha, bias, out);
                Ok(())
            }
            Self::Rounded(matrix) => {
                matrix.product(left, alpha, bias, out);
                Ok(())
            }
        }
    }
}

/// Packed int8 weight.
pub enum Int8 {
    #[cfg(not(target_arch = "wasm32"))]
    Native(native::Int8),
    Tiles(Rounded),
}

impl Int8 {
    /// Packs `values [outputs, inputs]` with a scale per output.
    ///
    /// # Errors
    /// If the extents contradict each other.
    pub fn new(kernels: Kernels, values: &[i8], scales: &[f32], [outputs, inputs]: [usize; 2]) -> Result<Self> {
        if values.len() != outputs * inputs || scales.len() != outputs {
            return Err(refused(format!(
                "an int8 weight [{outputs}, {inputs}] has {} values and {} scales",
                values.len(),
                scales.len()
            )));
        }
        Ok(match kernels {
            #[cfg(not(target_arch = "wasm32"))]
            Kernels::Native => Self::Native(native::Int8::new(values, scales, [outputs, inputs])),
            Kernels::Tiles => Self::Tiles(Rounded::int8(values, scales, [outputs, inputs])),
        })
    }

    /// Inputs and outputs.
    pub fn extents(&self) -> [usize; 2] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Native(weight) => weight.extents(),
            Self::Tiles(weight) => weight.extents(),
        }
    }

    /// Writes `x · weightᵀ + bias` to `out [rows, outputs]`, with `x [rows, inputs]` rounded to integers with a scale per row.
    ///
    /// # Errors
    /// If the extents do not fit together.
    pub fn product(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Native(weight) => weight.product(x, bias, out),
            Self::Tiles(weight) => {
                let depth = weight.extents()[0];
                weight.product(View::new(x, [x.len() / depth, depth]), 1.0, bias, out);
                Ok(())
            }
        }
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Device { executor: "processor", reason: format!("matrix product failed: {error}") }
}
