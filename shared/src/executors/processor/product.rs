//! Activations times weights: `x · weightᵀ`, and what follows on it while it is still in the cache.

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, GemmUninitOptions, PackedBMatrix};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;
use rten_vecmath::{Gelu, MinMax};

use super::Precision;
use crate::quant::{Format, round_tensor};
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// What is done with a product before it is stored.
#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    Store,
    Gelu,
    Add(&'a [f32]),
}

/// A weight `[out, in]` in the order in which a product reads it.
pub(super) enum Packed {
    F32 { executor: GemmExecutor, weight: PackedBMatrix<f32> },
    Int8(Int8),
}

/// An int8 weight.
pub(super) struct Int8 {
    executor: GemmExecutor<u8, i8, i32>,
    weight: PackedBMatrix<i8>,
    /// Of each output.
    scales: Vec<f32>,
    /// Of each output the sum of its weights: what an activation of zero, which is not stored as zero, adds.
    totals: Vec<i32>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, inputs, outputs) = match self {
            Self::F32 { weight, .. } => ("f32", weight.rows(), weight.cols()),
            Self::Int8(Int8 { weight, .. }) => ("int8", weight.rows(), weight.cols()),
        };
        write!(f, "{kind} [{outputs}, {inputs}]")
    }
}

impl Packed {
    /// Packs a matrix; in int8 one that is not int8 yet is quantized.
    ///
    /// # Errors
    /// If it is no matrix, or cannot be quantized.
    pub fn new(tensor: &HostTensor, precision: Precision) -> Result<Self> {
        let &[outputs, inputs] = tensor.shape.as_slice() else {
            let reason = format!("expected [out, in], found shape {:?}", tensor.shape);
            return Err(Error::Tensor { name: "linear weight".into(), reason });
        };
        if precision == Precision::F32 {
            let values = tensor.to_f32();
            let executor = GemmExecutor::new();
            let weight = executor.prepack_b(NdTensorView::from_data([outputs, inputs], &*values).transposed());
            return Ok(Self::F32 { executor, weight });
        }
        let quantized = match &tensor.data {
            Data::Int8 { .. } => tensor,
            _ => &round_tensor("linear weight", tensor, Format::Int8, None)?,
        };
        let Data::Int8 { values, scales } = &quantized.data else {
            return Err(Error::config("a quantized weight is not int8"));
        };
        let executor = GemmExecutor::new();
        let weight = executor.prepack_b(NdTensorView::from_data([outputs, inputs], values.as_slice()).transposed());
        let totals = values.chunks_exact(inputs).map(|row| row.iter().map(|&v| i32::from(v)).sum()).collect();
        Ok(Self::Int8(Int8 { executor, weight, scales: scales.clone(), totals }))
    }
}

/// `x [rows, in]` times the weight, plus `bias [out]`, and what then: into `out [rows, out]`. Blocks of rows are shared among cores.
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
    let (inputs, outputs) = match weight {
        Packed::F32 { weight, .. } => (weight.rows(), weight.cols()),
        Packed::Int8(Int8 { weight, .. }) => (weight.rows(), weight.cols()),
    };
    let rows = rows_at_once(x.len() / inputs);
    let blocks = out.par_chunks_mut(rows * outputs).zip(x.par_chunks(rows * inputs)).enumerate();
    blocks.try_for_each(|(i, (out, x))| {
        match weight {
            Packed::F32 { executor, weight } => {
                let x = NdTensorView::from_data([x.len() / inputs, inputs], x);
                let (a, b) = (GemmInputA::Unpacked(x.view()), GemmInputB::Packed(weight));
                let options = GemmOptions { bias: bias.map(BiasVector::Row), ..GemmOptions::default() };
                executor.gemm(out, a, b, options).map_err(refused)?;
            }
            Packed::Int8(weight) => weight.multiply(x, bias, out)?,
        }
        match then {
            Then::Store => {}
            Then::Gelu => Gelu {}.map_mut(out),
            Then::Add(residual) => {
                let residual = &residual[i * rows * outputs..][..out.len()];
                out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
            }
        }
        Ok(())
    })
}

impl Int8 {
    /// `x [rows, in]` times the weight, plus the bias.
    fn multiply(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        let (inputs, outputs) = (self.weight.rows(), self.weight.cols());
        let rows = x.len() / inputs;
        // Some processors add two products in 16 bits: seven bits of the activations then keep the sum exact.
        let levels = if self.executor.may_saturate() { 127.0 } else { 255.0 };
        let (mut rounded, mut steps) = (Vec::with_capacity(x.len()), Vec::with_capacity(rows));
        for x in x.chunks_exact(inputs) {
            steps.push(round_row(x, levels, &mut rounded));
        }
        let a = NdTensorView::from_data([rows, inputs], rounded.as_slice());
        // Zeros are taken account of below: with a zero for each row, rten-gemm 0.27 is wrong from the ninth row of a tile on.
        let options = GemmUninitOptions { alpha: 1.0, bias: None, a_quant: None, b_quant: None };
        let mut sums = Vec::with_capacity(rows * outputs);
        let spare = &mut sums.spare_capacity_mut()[..rows * outputs];
        let (a, b) = (GemmInputA::Unpacked(a.view()), GemmInputB::Packed(&self.weight));
        let sums = self.executor.gemm_uninit(spare, a, b, options).map_err(refused)?;
        for ((sums, out), (step, zero)) in sums.chunks_exact(outputs).zip(out.chunks_exact_mut(outputs)).zip(steps) {
            let products = out.iter_mut().zip(sums).zip(self.scales.iter().zip(&self.totals));
            let value = |sum: i32, scale: f32, total: i32| (sum - zero * total) as f32 * (step * scale);
            match bias {
                Some(bias) => products.zip(bias).for_each(|(((out, &sum), (&scale, &total)), bias)| {
                    *out = value(sum, scale, total) + bias;
                }),
                None => products.for_each(|((out, &sum), (&scale, &total))| *out = value(sum, scale, total)),
            }
        }
        Ok(())
    }
}

/// Appends a row as whole numbers from 0 to `levels`, over the range of its values and zero; gives their distance and what stands
/// for zero.
fn round_row(x: &[f32], levels: f32, rounded: &mut Vec<u8>) -> (f32, i32) {
    let (low, high) = MinMax::new(x).dispatch();
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = (high - low) / levels;
    if !(scale.is_finite() && scale > f32::MIN_POSITIVE) {
        // All zero. What is no number stays none, and is found in the maps.
        rounded.resize(rounded.len() + x.len(), 1);
        return (if scale.is_finite() { 0.0 } else { f32::NAN }, 0);
    }
    let zero = (-low / scale).round().min(levels);
    let factor = 1.0 / scale;
    // The last bits of a sum with 1.5 · 2²³ are the other summand, rounded: compilers vectorise it, unlike a conversion.
    let round = |x: &f32| ((x * factor + zero).clamp(0.0, 255.0) + 12_582_912.0).to_bits() as u8;
    rounded.extend(x.iter().map(round));
    (scale, zero as i32)
}

/// Rows of a block: a few blocks for each core, but not so few rows that the weight is read too often; whole tiles of the kernels,
/// which have 4, 6 or 8 rows.
fn rows_at_once(rows: usize) -> usize {
    rows.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(24).min(504)
}

pub(super) fn refused(error: impl std::fmt::Display) -> Error {
    Error::Device { executor: "processor", reason: format!("a product was refused: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers that are their own rounding: any difference would be a mistake, not noise.
    #[test]
    fn int8_products_of_whole_numbers_are_exact() {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (17, 64, 33), (70, 192, 130), (9, 771, 65)] {
            // Rows reach from -k to 255 - k, so that their scale is one and their zero k; weights reach 127 in every row.
            let x: Vec<f32> = (0..rows * inputs)
                .map(|i| match i % inputs {
                    0 => -((i / inputs * 13 % 200) as f32),
                    1 => 255.0 - (i / inputs * 13 % 200) as f32,
                    c => (i * 31 % 50) as f32 - (c % 2) as f32 * (i / inputs * 13 % 200).min(40) as f32,
                })
                .collect();
            let values: Vec<i8> = (0..outputs * inputs).map(|i| (i * 67 % 255) as i8).collect();
            let scales: Vec<f32> = (0..outputs).map(|o| 0.5 + o as f32).collect();
            let data = Data::Int8 { values: values.clone(), scales: scales.clone() };
            let weight = HostTensor { shape: vec![outputs, inputs], data };
            let packed = Packed::new(&weight, Precision::Int8).unwrap();
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
