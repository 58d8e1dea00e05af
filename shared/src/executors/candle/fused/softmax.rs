//! Softmax of scaled rows.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout, backend::BackendStorage};
use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Fused, Op, blocks, blocks_mut, last_dim, sum};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, Rows, device::compute, softmax as kernels};

/// Softmax of `x` times a positive `scale` over the last dimension, stored like `x`; not differentiable.
///
/// # Errors
/// If the device fails.
pub fn softmax(x: &Tensor, scale: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Op(Softmax { scale: scale as f32 }))
}

struct Softmax {
    scale: f32,
}

impl Fused<1> for Softmax {
    const NAME: &'static str = "softmax";

    fn cpu(&self, [x]: [&[f32]; 1], [shape]: [&Shape; 1]) -> Result<(Vec<f32>, Shape)> {
        let width = last_dim(shape);
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let most = x.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
                out.iter_mut().zip(x).for_each(|(out, x)| *out = (self.scale * (x - most)).exp());
                let factor = 1.0 / sum([&*out], |[value]| value);
                out.iter_mut().for_each(|out| *out *= factor);
            }
        });
        Ok((out, shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [(x, layout)]: [(&CudaStorage, &Layout); 1]) -> Result<(CudaStorage, Shape)> {
        let (rows, element) = (Rows::of(layout), Element::of(x.dtype())?);
        let out = compute([(x, layout)], [], x.dtype(), layout.shape().elem_count(), |[x], [], out| {
            [kernels::softmax(element, [x, out], rows, self.scale)]
        })?;
        Ok((out, layout.shape().clone()))
    }
}
