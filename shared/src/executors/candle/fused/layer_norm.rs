//! Layer normalisation.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout, backend::BackendStorage};
use candle_core::{DType, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::{Fused, Op, add_rows, blocks, blocks_mut, gradient, last_dim, sum, values};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, device::compute, layer_norm as kernels};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension of `x` in f32, stored in type `out`; differentiable
/// in all three.
///
/// # Errors
/// If the operands do not fit together.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64, out: DType) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, Op(LayerNorm { eps: eps as f32, out }))
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
    let of_x = x.apply_op3_no_bwd(weight, &of_result, &Op(LayerNormGradX { more, eps }))?;
    let of_rest = x.apply_op2_no_bwd(&of_result, &Op(LayerNormGradWeight { eps }))?;
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

impl Fused<3> for LayerNorm {
    const NAME: &'static str = "layer-norm";

    fn dtype(&self, _first: DType) -> DType {
        self.out
    }

    fn cpu(&self, [x, weight, bias]: [&[f32]; 3], [shape, ..]: [&Shape; 3]) -> Result<(Vec<f32>, Shape)> {
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (mean, scale) = moments(x, self.eps);
                for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    *out = (x - mean) * scale * weight + bias;
                }
            }
        });
        Ok((out, shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
        let (_, layout) = operands[0];
        let (rows, element) = (Rows::of(layout), Element::of(self.out)?);
        let out = compute(operands, [], self.out, layout.shape().elem_count(), |[x, weight, bias], [], out| {
            [kernels::forward(element, [x, weight, bias, out], rows, self.eps)]
        })?;
        Ok((out, layout.shape().clone()))
    }

    fn backward(&self, [x, weight, _]: [&Tensor; 3], result: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let gradients = layer_norm_grad(x, weight, &gradient(grad, result)?, None, self.eps.into())?;
        Ok(gradients.map(Some))
    }
}

struct LayerNormGradX {
    /// Fourth operand, because candle's operations take three.
    more: Option<Tensor>,
    eps: f32,
}

impl Fused<3> for LayerNormGradX {
    const NAME: &'static str = "layer-norm-grad-x";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [x, weight, grad]: [&[f32]; 3], [shape, ..]: [&Shape; 3]) -> Result<(Vec<f32>, Shape)> {
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).zip(blocks(grad, width)).for_each(|((out, x), grad)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
            for ((out, x), grad) in rows {
                let (mean, scale) = moments(x, self.eps);
                let scaled = || grad.iter().zip(weight).map(|(g, w)| g * w);
                let mean_grad = sum(scaled()) / width as f32;
                let along = sum(scaled().zip(x).map(|(g, x)| g * (x - mean) * scale)) / width as f32;
                for (((out, x), grad), weight) in out.iter_mut().zip(x).zip(grad).zip(weight) {
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
        Ok((out, shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
        let [x @ (_, layout), weight, grad] = operands;
        let (rows, element) = (Rows::of(layout), Element::of(grad.0.dtype())?);
        let count = layout.shape().elem_count();
        let out = match &self.more {
            None => compute(operands, [], DType::F32, count, |[x, weight, grad], [], out| {
                [kernels::grad_x(element, [x, weight, grad, out], None, rows, self.eps)]
            })?,
            Some(more) => {
                let (storage, more_layout) = more.storage_and_layout();
                let Storage::Cuda(storage) = &*storage else { bail!("a gradient on another device") };
                compute(
                    [x, weight, grad, (storage, more_layout)],
                    [],
                    DType::F32,
                    count,
                    |[x, weight, grad, more], [], out| {
                        [kernels::grad_x(element, [x, weight, grad, out], Some(more), rows, self.eps)]
                    },
                )?
            }
        };
        Ok((out, layout.shape().clone()))
    }
}

/// Gradients of weight and bias, `[2, width]`.
struct LayerNormGradWeight {
    eps: f32,
}

impl Fused<2> for LayerNormGradWeight {
    const NAME: &'static str = "layer-norm-grad-weight";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [x, grad]: [&[f32]; 2], [shape, _]: [&Shape; 2]) -> Result<(Vec<f32>, Shape)> {
        let width = last_dim(shape);
        let partial: Vec<Vec<f32>> = blocks(x, width)
            .zip(blocks(grad, width))
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
        Ok((add_rows(&partial, 2 * width), Shape::from((2, width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 2]) -> Result<(CudaStorage, Shape)> {
        let [(_, layout), (grad, _)] = operands;
        let (rows, element) = (Rows::of(layout), Element::of(grad.dtype())?);
        let scratch = [2 * rows.count, 2 * rows.chunks() * rows.width];
        let out = compute(operands, scratch, DType::F32, 2 * rows.width, |[x, grad], [moments, chunks], out| {
            kernels::grad_weight(element, [x, grad, moments, chunks, out], rows, self.eps)
        })?;
        Ok((out, Shape::from((2, rows.width))))
    }
}
