//! Addition of a bias, and GELU after it.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType};
use rayon::prelude::*;

use super::{add_rows, blocks, blocks_mut, gradient, last_dim, stored, values};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, bias as kernels, device::compute};
use crate::executors::erf::erf;

/// `x + bias` over the last dimension, stored like `x`; differentiable in both.
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, AddBias)
}

/// Exact GELU of `x + bias`, stored like `x`; differentiable in both.
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, AddBiasGelu)
}

/// Gradient of `x` in [`add_bias_gelu`], stored like `x`. That of the bias is its [`column_sum`].
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias_gelu_grad(x: &Tensor, bias: &Tensor, gradient_of_result: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3_no_bwd(bias, &gradient(gradient_of_result, x)?, &AddBiasGeluGrad)
}

/// Cumulative distribution function of the standard normal distribution.
fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        map_with_bias(x, x_layout, bias, bias_layout, |x, bias| x + bias)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(x.dtype())?);
        let inputs = [(x, x_layout), (bias, bias_layout)];
        let out = compute(inputs, [], x.dtype(), x_layout.shape().elem_count(), |[x, bias], [], out| {
            [kernels::add_bias(element, [x, bias, out], rows)]
        })?;
        Ok((out, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(column_sum(grad)?)))
    }
}

struct AddBiasGelu;

impl CustomOp2 for AddBiasGelu {
    fn name(&self) -> &'static str {
        "add-bias-gelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        map_with_bias(x, x_layout, bias, bias_layout, |x, bias| {
            let x = x + bias;
            x * normal_cdf(x)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(x.dtype())?);
        let inputs = [(x, x_layout), (bias, bias_layout)];
        let out = compute(inputs, [], x.dtype(), x_layout.shape().elem_count(), |[x, bias], [], out| {
            [kernels::add_bias_gelu(element, [x, bias, out], rows)]
        })?;
        Ok((out, x_layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, bias: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = add_bias_gelu_grad(x, bias, grad)?;
        let of_bias = column_sum(&grad)?;
        Ok((Some(grad), Some(of_bias)))
    }
}

struct AddBiasGeluGrad;

impl CustomOp3 for AddBiasGeluGrad {
    fn name(&self) -> &'static str {
        "add-bias-gelu-grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
        let dtype = x.dtype();
        let (x, bias, grad) = (values(x, x_layout)?, values(bias, bias_layout)?, values(grad, grad_layout)?);
        let width = bias.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(&x, width)).zip(blocks(&grad, width)).for_each(|((out, x), grad)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
            for ((out, x), grad) in rows {
                for (((out, x), grad), bias) in out.iter_mut().zip(x).zip(grad).zip(bias.iter()) {
                    let x = x + bias;
                    *out = grad * (normal_cdf(x) + x * INVERSE_SQRT_TAU * (-0.5 * x * x).exp());
                }
            }
        });
        Ok((stored(out, dtype)?, x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(x.dtype())?);
        let inputs = [(x, x_layout), (bias, bias_layout), (grad, grad_layout)];
        let out = compute(inputs, [], x.dtype(), x_layout.shape().elem_count(), |[x, bias, grad], [], out| {
            [kernels::add_bias_gelu_grad(element, [x, bias, grad, out], rows)]
        })?;
        Ok((out, x_layout.shape().clone()))
    }
}

/// Computes `out[r, c] = f(x[r, c], bias[c])`.
fn map_with_bias(
    x: &CpuStorage,
    x_layout: &Layout,
    bias: &CpuStorage,
    bias_layout: &Layout,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<(CpuStorage, Shape)> {
    let dtype = x.dtype();
    let (x, bias) = (values(x, x_layout)?, values(bias, bias_layout)?);
    let width = bias.len();
    let mut out = vec![0f32; x.len()];
    blocks_mut(&mut out, width).zip(blocks(&x, width)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for ((out, &x), &bias) in out.iter_mut().zip(x).zip(bias.iter()) {
                *out = f(x, bias);
            }
        }
    });
    Ok((stored(out, dtype)?, x_layout.shape().clone()))
}

/// Sum over all dimensions but the last, in f32.
///
/// # Errors
/// If the device fails.
pub fn column_sum(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&ColumnSum)
}

struct ColumnSum;

impl CustomOp1 for ColumnSum {
    fn name(&self) -> &'static str {
        "column-sum"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, width) = (values(x, layout)?, last_dim(layout));
        let sums = |x: &[f32]| {
            let mut sums = vec![0f32; width];
            for row in x.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sums
        };
        let partial: Vec<Vec<f32>> = blocks(&x, width).map(sums).collect();
        Ok((CpuStorage::F32(add_rows(&partial, width)), Shape::from(width)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
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
