//! Activations times weights: `x · weightᵀ`, and what follows on it while it is still in the cache.

use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, GemmUninitOptions, PackedBMatrix, QuantParams};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::NdTensorView;
use rten_vecmath::{ExtendInit, Gelu, MinMax, Quantize};

use super::Precision;
use crate::quant::quantize_tensor;
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
    Int8 { executor: GemmExecutor<u8, i8, i32>, weight: PackedBMatrix<i8>, scales: Vec<f32> },
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, inputs, outputs) = match self {
            Self::F32 { weight, .. } => ("f32", weight.rows(), weight.cols()),
            Self::Int8 { weight, .. } => ("int8", weight.rows(), weight.cols()),
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
            _ => &quantize_tensor("linear weight", tensor)?,
        };
        let Data::Int8 { values, scales } = &quantized.data else {
            return Err(Error::config("a quantized weight is not int8"));
        };
        let executor = GemmExecutor::new();
        let weight = executor.prepack_b(NdTensorView::from_data([outputs, inputs], values.as_slice()).transposed());
        Ok(Self::Int8 { executor, weight, scales: scales.clone() })
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
        Packed::Int8 { weight, .. } => (weight.rows(), weight.cols()),
    };
    let rows = rows_at_once(x.len() / inputs);
    let blocks = out.par_chunks_mut(rows * outputs).zip(x.par_chunks(rows * inputs)).enumerate();
    blocks.try_for_each(|(i, (out, x))| {
        match weight {
            Packed::F32 { executor, weight } => {
                let x = NdTensorView::from_data([x.len() / inputs, inputs], x);
                let (a, b) = (GemmInputA::Unpacked(x.view()), GemmInputB::Packed(weight));
                executor.gemm(out, a, b, GemmOptions::default()).map_err(refused)?;
                if let Some(bias) = bias {
                    for out in out.chunks_exact_mut(outputs) {
                        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                    }
                }
            }
            Packed::Int8 { executor, weight, scales } => multiply_int8(x, executor, weight, scales, bias, out)?,
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

fn multiply_int8(
    x: &[f32],
    executor: &GemmExecutor<u8, i8, i32>,
    weight: &PackedBMatrix<i8>,
    weight_scales: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) -> Result<()> {
    let (inputs, outputs) = (weight.rows(), weight.cols());
    let rows = x.len() / inputs;
    // Some processors add two products in 16 bits: seven bits of the activations then keep the sum exact.
    let levels = if executor.may_saturate() { 127.0 } else { 255.0 };
    let (mut rounded, mut scales, mut zeros) =
        (Vec::with_capacity(x.len()), Vec::with_capacity(rows), Vec::with_capacity(rows));
    for x in x.chunks_exact(inputs) {
        let (scale, zero) = round_row(x, levels, &mut rounded);
        scales.push(scale);
        zeros.push(zero);
    }
    let a = NdTensorView::from_data([rows, inputs], rounded.as_slice());
    let quantized = QuantParams { zero_point: &zeros };
    let options = GemmUninitOptions { alpha: 1.0, bias: None, a_quant: Some(quantized), b_quant: None };
    let mut sums = Vec::with_capacity(rows * outputs);
    let spare = &mut sums.spare_capacity_mut()[..rows * outputs];
    let sums = executor
        .gemm_uninit(spare, GemmInputA::Unpacked(a.view()), GemmInputB::Packed(weight), options)
        .map_err(refused)?;
    for ((sums, out), scale) in sums.chunks_exact(outputs).zip(out.chunks_exact_mut(outputs)).zip(scales) {
        let products = out.iter_mut().zip(sums).zip(weight_scales);
        match bias {
            Some(bias) => products.zip(bias).for_each(|(((out, &sum), weight), bias)| {
                *out = sum as f32 * (scale * weight) + bias;
            }),
            None => products.for_each(|((out, &sum), weight)| *out = sum as f32 * (scale * weight)),
        }
    }
    Ok(())
}

/// Appends a row as whole numbers from 0 to `levels`, over the range of its values and zero; gives their distance and what stands
/// for zero.
fn round_row(x: &[f32], levels: f32, rounded: &mut Vec<u8>) -> (f32, u8) {
    let (low, high) = MinMax::new(x).dispatch();
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = (high - low) / levels;
    if !(scale.is_finite() && scale > f32::MIN_POSITIVE) {
        // All zero. What is no number stays none, and is found in the maps.
        rounded.resize(rounded.len() + x.len(), 1);
        return (if scale.is_finite() { 0.0 } else { f32::NAN }, 0);
    }
    let zero = (-low / scale).round().min(levels) as u8;
    rounded.extend_init(|spare| Quantize::new(x, &mut spare[..x.len()], 1.0 / scale, zero).dispatch());
    (scale, zero)
}

/// Rows of a block: a few blocks for each core, but not so few rows that the weight is read too often.
fn rows_at_once(rows: usize) -> usize {
    rows.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(8).clamp(16, 512)
}

pub(super) fn refused(error: impl std::fmt::Display) -> Error {
    Error::Device { executor: "processor", reason: format!("a product was refused: {error}") }
}
