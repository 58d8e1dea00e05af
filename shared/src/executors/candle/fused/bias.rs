//! Addition of a bias, and GELU after it.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout, backend::BackendStorage};
use candle_core::{DType, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Fused, Op, add_rows, blocks, blocks_mut, gradient, last_dim};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, bias as kernels, device::compute};
use crate::executors::erf::erf;

/// `x + bias` over the last dimension, stored like `x`; differentiable in both.
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, Op(AddBias))
}

/// Exact GELU of `x + bias`, stored like `x`; differentiable in both.
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, Op(AddBiasGelu))
}

/// Gradient of `x` in [`add_bias_gelu`], stored like `x`. That of the bias is its [`column_sum`].
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias_gelu_grad(x: &Tensor, bias: &Tensor, gradient_of_result: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3_no_bwd(bias, &gradient(gradient_of_result, x)?, &Op(AddBiasGeluGrad))
}

/// Cumulative distribution function of the standard normal distribution.
fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

struct AddBias;

impl Fused<2> for AddBias {
    const NAME: &'static str = "add-bias";

    fn cpu(&self, [x, bias]: [&[f32]; 2], [shape, _]: [&Shape; 2]) -> Result<(Vec<f32>, Shape)> {
        map_with_bias(x, bias, shape, |x, bias| x + bias)
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 2]) -> Result<(CudaStorage, Shape)> {
        let (x, layout) = operands[0];
        let (rows, element) = (Rows::of(layout), Element::of(x.dtype())?);
        let out = compute(operands, [], x.dtype(), layout.shape().elem_count(), |[x, bias], [], out| {
            [kernels::add_bias(element, [x, bias, out], rows)]
        })?;
        Ok((out, layout.shape().clone()))
    }

    fn backward(&self, _operands: [&Tensor; 2], _result: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        Ok([Some(grad.clone()), Some(column_sum(grad)?)])
    }
}

struct AddBiasGelu;

impl Fused<2> for AddBiasGelu {
    const NAME: &'static str = "add-bias-gelu";

    fn cpu(&self, [x, bias]: [&[f32]; 2], [shape, _]: [&Shape; 2]) -> Result<(Vec<f32>, Shape)> {
        map_with_bias(x, bias, shape, |x, bias| {
            let x = x + bias;
            x * normal_cdf(x)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 2]) -> Result<(CudaStorage, Shape)> {
        let (x, layout) = operands[0];
        let (rows, element) = (Rows::of(layout), Element::of(x.dtype())?);
        let out = compute(operands, [], x.dtype(), layout.shape().elem_count(), |[x, bias], [], out| {
            [kernels::add_bias_gelu(element, [x, bias, out], rows)]
        })?;
        Ok((out, layout.shape().clone()))
    }

    fn backward(&self, [x, bias]: [&Tensor; 2], _result: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let grad = add_bias_gelu_grad(x, bias, grad)?;
        let of_bias = column_sum(&grad)?;
        Ok([Some(grad), Some(of_bias)])
    }
}

struct AddBiasGeluGrad;

impl Fused<3> for AddBiasGeluGrad {
    const NAME: &'static str = "add-bias-gelu-grad";

    fn cpu(&self, [x, bias, grad]: [&[f32]; 3], [shape, ..]: [&Shape; 3]) -> Result<(Vec<f32>, Shape)> {
        const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
        let width = bias.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).zip(blocks(grad, width)).for_each(|((out, x), grad)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
            for ((out, x), grad) in rows {
                for (((out, x), grad), bias) in out.iter_mut().zip(x).zip(grad).zip(bias) {
                    let x = x + bias;
                    *out = grad * (normal_cdf(x) + x * INVERSE_SQRT_TAU * (-0.5 * x * x).exp());
                }
            }
        });
        Ok((out, shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
        let (x, layout) = operands[0];
        let (rows, element) = (Rows::of(layout), Element::of(x.dtype())?);
        let out = compute(operands, [], x.dtype(), layout.shape().elem_count(), |[x, bias, grad], [], out| {
            [kernels::add_bias_gelu_grad(element, [x, bias, grad, out], rows)]
        })?;
        Ok((out, layout.shape().clone()))
    }
}

/// Computes `out[r, c] = f(x[r, c], bias[c])`.
fn map_with_bias(
    x: &[f32],
    bias: &[f32],
    shape: &Shape,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<(Vec<f32>, Shape)> {
    let width = bias.len();
    let mut out = vec![0f32; x.len()];
    blocks_mut(&mut out, width).zip(blocks(x, width)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for ((out, &x), &bias) in out.iter_mut().zip(x).zip(bias) {
                *out = f(x, bias);
            }
        }
    });
    Ok((out, shape.clone()))
}

/// Sum over all dimensions but the last, in f32.
///
/// # Errors
/// If the device fails.
pub fn column_sum(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Op(ColumnSum))
}

/// Sum of rows.
pub(super) fn sums_of_columns(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0f32; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

struct ColumnSum;

impl Fused<1> for ColumnSum {
    const NAME: &'static str = "column-sum";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [x]: [&[f32]; 1], [shape]: [&Shape; 1]) -> Result<(Vec<f32>, Shape)> {
        let width = last_dim(shape);
        let partial: Vec<Vec<f32>> = blocks(x, width).map(|rows| sums_of_columns(rows, width)).collect();
        Ok((add_rows(&partial, width), Shape::from(width)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [(x, layout)]: [(&CudaStorage, &Layout); 1]) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(layout), Element::of(x.dtype())?);
        let scratch = [rows.chunks() * rows.width];
        let out = compute([(x, layout)], scratch, DType::F32, rows.width, |[x], [chunks], out| {
            kernels::column_sum(element, [x, chunks, out], rows)
        })?;
        Ok((out, Shape::from(rows.width)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_exact_to_float_rounding() {
        let worst = (-50_000..50_000)
            .map(|i| i as f32 * 1e-4)
            .map(|x| (f64::from(erf(x)) - libm::erf(f64::from(x))).abs())
            .fold(0.0, f64::max);
        assert!(worst < 5e-7, "{worst:e}");
    }
}
