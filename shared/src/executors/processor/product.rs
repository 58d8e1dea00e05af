//! Linear layers: `x · weightᵀ`, followed by bias, GELU or residual while the product is in the cache.

use rayon::prelude::*;
use rten_simd::SimdUnaryOp;

use super::ProcessorPrecision;
use super::gelu::Gelu;
use super::gemm::{Int8, Kernels, Matrix, View};
use crate::quant::{Format, round_tensor};
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Last step of a linear layer, before its result is stored.
#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    Store,
    Gelu,
    Add(&'a [f32]),
}

/// Packed weight `[out, in]`.
pub(super) enum Packed {
    F32(Matrix),
    Int8(Int8),
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if matches!(self, Self::F32(_)) { "f32" } else { "int8" };
        write!(f, "{kind} [in, out] {:?}", self.extents())
    }
}

impl Packed {
    /// Packs a matrix, after quantization if the precision is int8 and the matrix is not.
    ///
    /// # Errors
    /// If the tensor is not a matrix, or cannot be quantized.
    pub fn new(tensor: &HostTensor, precision: ProcessorPrecision, kernels: Kernels) -> Result<Self> {
        let &[outputs, inputs] = tensor.shape.as_slice() else {
            let reason = format!("expected [out, in], found shape {:?}", tensor.shape);
            return Err(Error::Tensor { name: "linear weight".into(), reason });
        };
        if precision == ProcessorPrecision::F32 {
            let values = tensor.to_f32();
            return Matrix::new(kernels, View::new(&values, [outputs, inputs]).transposed()).map(Self::F32);
        }
        let quantized = match &tensor.data {
            Data::Int8 { .. } => tensor,
            _ => &round_tensor("linear weight", tensor, Format::Int8)?,
        };
        let Data::Int8 { values, scales } = &quantized.data else {
            return Err(Error::config("a quantized weight is not int8"));
        };
        Int8::new(kernels, values, scales, [outputs, inputs]).map(Self::Int8)
    }

    /// Inputs and outputs.
    fn extents(&self) -> [usize; 2] {
        match self {
            Self::F32(weight) => weight.extents(),
            Self::Int8(weight) => weight.extents(),
        }
    }
}

/// Writes `then(x · weightᵀ + bias)` to `out [rows, out]`, for `x [rows, in]`. Blocks of rows are shared among cores.
///
/// # Errors
/// If the extents do not fit together.
pub(super) fn multiply(
    x: &[f32],
    weight: &Packed,
    bias: Option<&[f32]>,
    then: Then<'_>,
    out: &mut [f32],
) -> Result<()> {
    let [inputs, outputs] = weight.extents();
    let rows = rows_at_once(x.len() / inputs);
    let blocks = out.par_chunks_mut(rows * outputs).zip(x.par_chunks(rows * inputs)).enumerate();
    blocks.try_for_each(|(i, (out, x))| {
        match weight {
            Packed::F32(weight) => {
                weight.product(View::new(x, [x.len() / inputs, inputs]), 1.0, bias, out)?;
            }
            Packed::Int8(weight) => weight.product(x, bias, out)?,
        }
        match then {
            Then::Store => {}
            Then::Gelu => Gelu.map_mut(out),
            Then::Add(residual) => {
                let residual = &residual[i * rows * outputs..][..out.len()];
                out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
            }
        }
        Ok(())
    })
}

/// Number of rows of a block: a few blocks per core, but enough rows that the weight is not read too often; a multiple of the
/// kernels' tiles of 4, 6 or 8 rows.
fn rows_at_once(rows: usize) -> usize {
    rows.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(24).min(504)
}

#[cfg(test)]
mod tests {
    use rten_gemm::GemmExecutor;

    use super::*;

    /// Integers that round to themselves: any difference is an error.
    #[test]
    fn int8_products_of_whole_numbers_are_exact() {
        // Rows are rounded to as many steps from their smallest value to their largest one.
        let (levels, shifts) = match GemmExecutor::<u8, i8, i32>::new().may_saturate() {
            true => (127, 70),
            false => (255, 200),
        };
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (17, 64, 33), (70, 192, 130), (9, 771, 65)] {
            // Rows range from -k to levels - k, so that their scale is one and their zero point k; weights reach 127 in every row.
            let x: Vec<f32> = (0..rows * inputs)
                .map(|i| (i, i % inputs, i / inputs * 13 % shifts))
                .map(|(i, column, k)| match column {
                    0 => -(k as f32),
                    1 => (levels - k) as f32,
                    _ => (i * 31 % 50) as f32 - (column % 2 * k.min(40)) as f32,
                })
                .collect();
            let values: Vec<i8> = (0..outputs * inputs).map(|i| (i * 67 % 255) as i8).collect();
            let scales: Vec<f32> = (0..outputs).map(|o| 0.5 + o as f32).collect();
            let data = Data::Int8 { values: values.clone(), scales: scales.clone() };
            let weight = HostTensor { shape: vec![outputs, inputs], data };
            let packed = Packed::new(&weight, ProcessorPrecision::Int8, Kernels::Native).unwrap();
            let mut out = vec![f32::NAN; rows * outputs];
            multiply(&x, &packed, None, Then::Store, &mut out).unwrap();
            for (i, &found) in out.iter().enumerate() {
                let (row, o) = (i / outputs, i % outputs);
                let products = x[row * inputs..][..inputs].iter().zip(&values[o * inputs..][..inputs]);
                let expected = scales[o] * products.map(|(x, &w)| x * f32::from(w)).sum::<f32>();
                assert!(
                    inputs == 1 || (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                    "{rows} {inputs} {outputs} at {i}: {found} {expected}"
                );
            }
        }
    }
}
