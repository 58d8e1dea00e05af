//! Products by rten-gemm, which has kernels for native processors.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, GemmUninitOptions, PackedBMatrix};
use rten_simd::SimdOp;
use rten_tensor::NdTensorView;
use rten_vecmath::MinMax;

use super::{View, refused};
use crate::Result;

/// Right-hand side in f32, packed for this processor.
pub struct Matrix(PackedBMatrix<f32>);

impl Matrix {
    /// Packs a matrix `[depth, columns]`.
    ///
    /// # Errors
    /// If its extents contradict each other.
    pub fn new(right: View<'_>) -> Result<Self> {
        Ok(Self(GemmExecutor::<f32>::new().prepack_b(tensor(right)?)))
    }

    /// Depth and columns.
    pub fn extents(&self) -> [usize; 2] {
        [self.0.rows(), self.0.cols()]
    }

    /// Writes `alpha · left · self + bias` to `out [rows, columns]`.
    ///
    /// # Errors
    /// If the extents do not fit together.
    pub fn product(&self, left: View<'_>, alpha: f32, bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        let (a, b) = (GemmInputA::Unpacked(tensor(left)?), GemmInputB::Packed(&self.0));
        let options = GemmOptions { alpha, bias: bias.map(BiasVector::Row), ..GemmOptions::default() };
        GemmExecutor::<f32>::new().gemm(out, a, b, options).map_err(refused)
    }
}

/// Packed int8 weight.
pub struct Int8 {
    executor: GemmExecutor<u8, i8, i32>,
    weight: PackedBMatrix<i8>,
    /// Scale of each output.
    scales: Vec<f32>,
    /// Sum of each output's weights, which corrects for activations whose zero is not stored as zero.
    totals: Vec<i32>,
}

impl Int8 {
    /// Packs `values [outputs, inputs]` with a scale per output.
    pub fn new(values: &[i8], scales: &[f32], [outputs, inputs]: [usize; 2]) -> Self {
        let executor = GemmExecutor::new();
        let weight = executor.prepack_b(NdTensorView::from_data([outputs, inputs], values).transposed());
        let totals = values.chunks_exact(inputs).map(|row| row.iter().map(|&v| i32::from(v)).sum()).collect();
        Self { executor, weight, scales: scales.to_vec(), totals }
    }

    /// Inputs and outputs.
    pub fn extents(&self) -> [usize; 2] {
        [self.weight.rows(), self.weight.cols()]
    }

    /// Writes `x · weightᵀ + bias` to `out`, for `x [rows, in]`.
    ///
    /// # Errors
    /// If the extents do not fit together.
    pub fn product(&self, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        let [inputs, outputs] = self.extents();
        let rows = x.len() / inputs;
        // Some processors add two products in 16 bits, where the sum is exact only for activations of seven bits.
        let levels = if self.executor.may_saturate() { 127.0 } else { 255.0 };
        let (mut rounded, mut steps) = (Vec::with_capacity(x.len()), Vec::with_capacity(rows));
        for x in x.chunks_exact(inputs) {
            steps.push(round_row(x, levels, &mut rounded));
        }
        let a = NdTensorView::from_data([rows, inputs], rounded.as_slice());
        // Zero points are corrected below: with one per row, rten-gemm 0.27 is wrong from the ninth row of a tile on.
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

/// Appends a row as integers from 0 to `levels`, over the range of its values and zero. Returns scale and zero point.
fn round_row(x: &[f32], levels: f32, rounded: &mut Vec<u8>) -> (f32, i32) {
    let (low, high) = MinMax::new(x).dispatch();
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = (high - low) / levels;
    if !(scale.is_finite() && scale > f32::MIN_POSITIVE) {
        // All zero. NaN stays NaN, and is found in the maps.
        rounded.resize(rounded.len() + x.len(), 1);
        return (if scale.is_finite() { 0.0 } else { f32::NAN }, 0);
    }
    let zero = (-low / scale).round().min(levels);
    let factor = 1.0 / scale;
    // A sum with 1.5 · 2²³ has the rounded value in its last bits, which compilers vectorise, unlike a conversion.
    let round = |x: &f32| ((x * factor + zero).clamp(0.0, 255.0) + 12_582_912.0).to_bits() as u8;
    rounded.extend(x.iter().map(round));
    (scale, zero as i32)
}

fn tensor(view: View<'_>) -> Result<NdTensorView<'_, f32, 2>> {
    let View { values, rows, columns, strides } = view;
    NdTensorView::from_slice_with_strides([rows, columns], values, strides).map_err(refused)
}
