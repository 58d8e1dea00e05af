//! Addition of bias and residual to a product.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout, backend::BackendStorage};
use candle_core::{DType, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Fused, Op, blocks, blocks_mut, column_sum};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, device::compute, residual as kernels};

/// `x + bias + residual` in f32, `bias` over the last dimension; differentiable in all three.
///
/// # Errors
/// If the operands do not fit together.
pub fn add_bias_residual(x: &Tensor, bias: &Tensor, residual: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(bias, &residual.contiguous()?, Op(AddBiasResidual))
}

struct AddBiasResidual;

impl Fused<3> for AddBiasResidual {
    const NAME: &'static str = "add-bias-residual";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [x, bias, residual]: [&[f32]; 3], [shape, ..]: [&Shape; 3]) -> Result<(Vec<f32>, Shape)> {
        let width = bias.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).zip(blocks(residual, width)).for_each(
            |((out, x), residual)| {
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(residual.chunks_exact(width));
                for ((out, x), residual) in rows {
                    for (((out, x), residual), bias) in out.iter_mut().zip(x).zip(residual).zip(bias) {
                        *out = x + bias + residual;
                    }
                }
            },
        );
        Ok((out, shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
        let (x, layout) = operands[0];
        let (rows, element) = (Rows::of(layout), Element::of(x.dtype())?);
        let out = compute(operands, [], DType::F32, layout.shape().elem_count(), |[x, bias, residual], [], out| {
            [kernels::add_bias_residual(element, [x, bias, residual, out], rows)]
        })?;
        Ok((out, layout.shape().clone()))
    }

    fn backward(&self, [x, ..]: [&Tensor; 3], _result: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        Ok([Some(grad.to_dtype(x.dtype())?), Some(column_sum(grad)?), Some(grad.clone())])
    }
}
