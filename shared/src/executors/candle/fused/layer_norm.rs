//! Layer normalisation.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "cuda")]
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::{add_rows, blocks, blocks_mut, gradient, last_dim, stored, sum, values};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, device::compute, layer_norm as kernels};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension of `x` in f32, stored in type `out`; differentiable
/// in all three.
///
/// # Errors
/// If the operands do not fit together.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64, out: DType) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps: eps as f32, out })
}

/// Gradients of `x`, weight and bias in [`layer_norm`], in f32. `more` is added to the gradient of `x`.
///
/// # Errors
/// If the operands do not fit together.
pub fn layer_norm_grad(
    x: &Tensor,
    weight: &Tensor,
    of_result: &Tensor,
    more: Option<&Tensor>,
    eps: f64,
) -> Result<[Tensor; 3]> {
    let (x, of_result, eps) = (x.contiguous()?, of_result.contiguous()?, eps as f32);
    let more = more.map(|more| more.to_dtype(DType::F32)?.contiguous()).transpose()?;
    let of_x = x.apply_op3_no_bwd(weight, &of_result, &LayerNormGradX { more, eps })?;
    let of_rest = x.apply_op2_no_bwd(&of_result, &LayerNormGradWeight { eps })?;
    Ok([of_x, of_rest.get(0)?, of_rest.get(1)?])
}

/// Mean and `1 / sqrt(variance + eps)` of a row.
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum(row.iter().copied()) / row.len() as f32;
    let variance = sum(row.iter().map(|v| (v - mean) * (v - mean))) / row.len() as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}

struct LayerNorm {
    eps: f32,
    out: DType,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (values(x, x_layout)?, values(weight, weight_layout)?, values(bias, bias_layout)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(&x, width)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (mean, scale) = moments(x, self.eps);
                for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight.iter()).zip(bias.iter()) {
                    *out = (x - mean) * scale * weight + bias;
                }
            }
        });
        Ok((stored(out, self.out)?, x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(self.out)?);
        let inputs = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        let out = compute(inputs, [], self.out, x_layout.shape().elem_count(), |[x, weight, bias], [], out| {
            [kernels::forward(element, [x, weight, bias, out], rows, self.eps)]
        })?;
        Ok((out, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [of_x, of_weight, of_bias] = layer_norm_grad(x, weight, &gradient(grad, res)?, None, self.eps.into())?;
        Ok((Some(of_x), Some(of_weight), Some(of_bias)))
    }
}

struct LayerNormGradX {
    /// Fourth operand, because candle's operations take three.
    more: Option<Tensor>,
    eps: f32,
}

impl CustomOp3 for LayerNormGradX {
    fn name(&self) -> &'static str {
        "layer-norm-grad-x"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, grad) = (values(x, x_layout)?, values(weight, weight_layout)?, values(grad, grad_layout)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(&x, width)).zip(blocks(&grad, width)).for_each(|((out, x), grad)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
            for ((out, x), grad) in rows {
                let (mean, scale) = moments(x, self.eps);
                let scaled = || grad.iter().zip(weight.iter()).map(|(g, w)| g * w);
                let mean_grad = sum(scaled()) / width as f32;
                let along = sum(scaled().zip(x).map(|(g, x)| g * (x - mean) * scale)) / width as f32;
                for (((out, x), grad), weight) in out.iter_mut().zip(x).zip(grad).zip(weight.iter()) {
                    *out = scale * (grad * weight - mean_grad - (x - mean) * scale * along);
                }
            }
        });
        if let Some(more) = &self.more {
            let (storage, layout) = more.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else { bail!("a gradient on another device") };
            let more = values(storage, layout)?;
            blocks_mut(&mut out, width).zip(blocks(&more, width)).for_each(|(out, more)| {
                out.iter_mut().zip(more).for_each(|(out, more)| *out += more);
            });
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(grad.dtype())?);
        let inputs = [(x, x_layout), (weight, weight_layout), (grad, grad_layout)];
        let count = x_layout.shape().elem_count();
        let out = match &self.more {
            None => compute(inputs, [], DType::F32, count, |[x, weight, grad], [], out| {
                [kernels::grad_x(element, [x, weight, grad, out], None, rows, self.eps)]
            })?,
            Some(more) => {
                let (storage, layout) = more.storage_and_layout();
                let Storage::Cuda(storage) = &*storage else { bail!("a gradient on another device") };
                let [x, weight, grad] = inputs;
                compute(
                    [x, weight, grad, (storage, layout)],
                    [],
                    DType::F32,
                    count,
                    |[x, weight, grad, more], [], out| {
                        [kernels::grad_x(element, [x, weight, grad, out], Some(more), rows, self.eps)]
                    },
                )?
            }
        };
        Ok((out, x_layout.shape().clone()))
    }
}

/// Gradients of weight and bias, `[2, width]`.
struct LayerNormGradWeight {
    eps: f32,
}

impl CustomOp2 for LayerNormGradWeight {
    fn name(&self) -> &'static str {
        "layer-norm-grad-weight"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (values(x, x_layout)?, values(grad, grad_layout)?);
        let width = last_dim(x_layout);
        let partial: Vec<Vec<f32>> = blocks(&x, width)
            .zip(blocks(&grad, width))
            .map(|(x, grad)| {
                let mut sums = vec![0f32; 2 * width];
                let (of_weight, of_bias) = sums.split_at_mut(width);
                for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
                    let (mean, scale) = moments(x, self.eps);
                    for (((weight, bias), x), grad) in of_weight.iter_mut().zip(&mut *of_bias).zip(x).zip(grad) {
                        *weight += grad * (x - mean) * scale;
                        *bias += grad;
                    }
                }
                sums
            })
            .collect();
        Ok((CpuStorage::F32(add_rows(&partial, 2 * width)), Shape::from((2, width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(x_layout), Element::of(grad.dtype())?);
        let scratch = [2 * rows.count, 2 * rows.chunks() * rows.width];
        let inputs = [(x, x_layout), (grad, grad_layout)];
        let out = compute(inputs, scratch, DType::F32, 2 * rows.width, |[x, grad], [moments, chunks], out| {
            kernels::grad_weight(element, [x, grad, moments, chunks, out], rows, self.eps)
        })?;
        Ok((out, Shape::from((2, rows.width))))
    }
}
