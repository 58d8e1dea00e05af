//! Addition of bias and residual to a product.

#[cfg(feature = "cuda")]
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType};
use rayon::prelude::*;

use super::{blocks, blocks_mut, column_sum, values};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, device::compute, residual as kernels};

/// `x + bias + residual` in f32, `bias` over the last dimension; differentiable in all three.
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias_residual(x: &Tensor, bias: &Tensor, residual: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(bias, &residual.contiguous()?, AddBiasResidual)
}

struct AddBiasResidual;

impl CustomOp3 for AddBiasResidual {
    fn name(&self) -> &'static str {
        "add-bias-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias, residual) =
            (values(x, x_layout)?, values(bias, bias_layout)?, values(residual, residual_layout)?);
        let width = bias.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(&x, width)).zip(blocks(&residual, width)).for_each(
            |((out, x), residual)| {
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(residual.chunks_exact(width));
                for ((out, x), residual) in rows {
                    for (((out, x), residual), bias) in out.iter_mut().zip(x).zip(residual).zip(bias.iter()) {
                        *out = x + bias + residual;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(x.dtype())?);
        let inputs = [(x, x_layout), (bias, bias_layout), (residual, residual_layout)];
        let out = compute(inputs, [], DType::F32, x_layout.shape().elem_count(), |[x, bias, residual], [], out| {
            [kernels::add_bias_residual(element, [x, bias, residual, out], rows)]
        })?;
        Ok((out, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        _bias: &Tensor,
        _residual: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.to_dtype(x.dtype())?), Some(column_sum(grad)?), Some(grad.clone())))
    }
}
