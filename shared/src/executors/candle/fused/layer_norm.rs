//! Layer normalisation.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout};
use candle_core::{DType, Error, Result, Shape, Tensor};

use super::memory::{in_blocks, read, read_if};
use super::{Fused, Op, ROWS, add_rows, gradient, sum};
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
    let (eps, more) = (eps as f32, more.map(|more| more.to_dtype(DType::F32)).transpose()?);
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::layer_norm_grad(x, weight, of_result, more, eps);
    }
    let ([of_x], sums) = read([x, weight, &of_result.to_dtype(DType::F32)?], |[x, weight, gradient]| {
        read_if(more.as_ref(), |more| {
            let width = weight.len();
            in_blocks(x.len() / width, ROWS, [width], |i, [of_x]| {
                let begin = i * ROWS * width;
                let (x, gradient) = (&x[begin..], &gradient[begin..]);
                let mut sums = vec![0f32; 2 * width];
                let rows = of_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(gradient.chunks_exact(width));
                rows.for_each(|((of_x, x), gradient)| row_grad(x, weight, gradient, eps, of_x, &mut sums));
                if let Some(more) = more {
                    of_x.iter_mut().zip(&more[begin..]).for_each(|(of_x, more)| *of_x += more);
                }
                Ok::<_, Error>(sums)
            })
        })
    })?;
    let (device, width) = (x.device(), weight.dim(0)?);
    let sums = add_rows(&sums, 2 * width);
    let (of_weight, of_bias) = sums.split_at(width);
    let of_x = Tensor::from_vec(of_x, x.shape(), device)?;
    Ok([of_x, Tensor::from_slice(of_weight, width, device)?, Tensor::from_slice(of_bias, width, device)?])
}

/// Writes the gradient of a row, and adds its share to those of weight and bias.
fn row_grad(x: &[f32], weight: &[f32], gradient: &[f32], eps: f32, of_x: &mut [f32], sums: &mut [f32]) {
    let (mean, scale) = moments(x, eps);
    let width = x.len();
    let mean_grad = sum([gradient, weight], |[g, w]| g * w) / width as f32;
    let along = sum([gradient, weight, x], |[g, w, x]| g * w * (x - mean) * scale) / width as f32;
    let (of_weight, of_bias) = sums.split_at_mut(width);
    let of_parameters = of_weight.iter_mut().zip(of_bias);
    for ((((of_x, x), g), w), (of_weight, of_bias)) in
        of_x.iter_mut().zip(x).zip(gradient).zip(weight).zip(of_parameters)
    {
        let normal = (x - mean) * scale;
        *of_x = scale * (g * w - mean_grad - normal * along);
        *of_weight += g * normal;
        *of_bias += g;
    }
}

/// Mean and `1 / sqrt(variance + eps)` of a row.
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum([row], |[v]| v) / row.len() as f32;
    let variance = sum([row], |[v]| (v - mean) * (v - mean)) / row.len() as f32;
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
        let ([out], _) = in_blocks(x.len() / width, ROWS, [width], |i, [out]| {
            for (out, x) in out.chunks_exact_mut(width).zip(x[i * ROWS * width..].chunks_exact(width)) {
                let (mean, scale) = moments(x, self.eps);
                for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    *out = (x - mean) * scale * weight + bias;
                }
            }
            Ok::<_, Error>(())
        })?;
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

/// Gradients on an NVIDIA GPU, in two launches.
#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::backend::BackendStorage;
    use candle_core::{CudaStorage, DType, Layout, Result, Shape, Storage, Tensor, bail};

    use super::super::{Fused, Op};
    use crate::executors::candle::kernels::{Element, Rows, device::compute, layer_norm as kernels};

    /// See [`super::layer_norm_grad`].
    pub fn layer_norm_grad(
        x: &Tensor,
        weight: &Tensor,
        of_result: &Tensor,
        more: Option<Tensor>,
        eps: f32,
    ) -> Result<[Tensor; 3]> {
        let (x, of_result) = (x.contiguous()?, of_result.contiguous()?);
        let more = more.map(|more| more.contiguous()).transpose()?;
        let of_x = x.apply_op3_no_bwd(weight, &of_result, &Op(GradX { more, eps }))?;
        let of_rest = x.apply_op2_no_bwd(&of_result, &Op(GradWeight { eps }))?;
        Ok([of_x, of_rest.get(0)?, of_rest.get(1)?])
    }

    struct GradX {
        /// Fourth operand, because candle's operations take three.
        more: Option<Tensor>,
        eps: f32,
    }

    impl Fused<3> for GradX {
        const NAME: &'static str = "layer-norm-grad-x";

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
    struct GradWeight {
        eps: f32,
    }

    impl Fused<2> for GradWeight {
        const NAME: &'static str = "layer-norm-grad-weight";

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
}
