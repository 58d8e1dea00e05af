//! Adapter of fused operations to candle, which has a trait for each number of operands.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Error, Layout, Result, Shape, Tensor, bail};

use super::{stored, values};

/// Fused operation of N tensors.
pub trait Fused<const N: usize>: Send + Sync {
    /// Name in candle's errors.
    const NAME: &'static str;

    /// Storage type of the result on the processor, given that of the first operand.
    fn dtype(&self, first: DType) -> DType {
        first
    }

    /// Values and shape of the result on the processor, from values and shapes of the operands.
    fn cpu(&self, _operands: [&[f32]; N], _shapes: [&Shape; N]) -> Result<(Vec<f32>, Shape)> {
        bail!("{} has no form on the processor", Self::NAME)
    }

    /// Result on a GPU, and its shape.
    #[cfg(feature = "cuda")]
    fn cuda(&self, _operands: [(&CudaStorage, &Layout); N]) -> Result<(CudaStorage, Shape)> {
        bail!("{} has no kernel", Self::NAME)
    }

    /// Gradients of the operands from that of the result.
    fn backward(&self, _operands: [&Tensor; N], _result: &Tensor, _gradient: &Tensor) -> Result<[Option<Tensor>; N]> {
        Err(Error::BackwardNotSupported { op: Self::NAME })
    }
}

/// A fused operation as one of candle's custom operations.
pub struct Op<F>(pub F);

macro_rules! custom_op {
    ($custom:ident, $count:literal, $gradients:ty, $($operand:ident $layout:ident),+) => {
        impl<F: Fused<$count>> $custom for Op<F> {
            fn name(&self) -> &'static str {
                F::NAME
            }

            fn cpu_fwd(&self, $($operand: &CpuStorage, $layout: &Layout),+) -> Result<(CpuStorage, Shape)> {
                on_cpu(&self.0, [$(($operand, $layout)),+])
            }

            #[cfg(feature = "cuda")]
            fn cuda_fwd(&self, $($operand: &CudaStorage, $layout: &Layout),+) -> Result<(CudaStorage, Shape)> {
                self.0.cuda([$(($operand, $layout)),+])
            }

            fn bwd(&self, $($operand: &Tensor,)+ result: &Tensor, gradient: &Tensor) -> Result<$gradients> {
                let [$($operand),+] = self.0.backward([$($operand),+], result, gradient)?;
                Ok(($($operand),+))
            }
        }
    };
}

custom_op!(CustomOp1, 1, Option<Tensor>, a a_layout);
custom_op!(CustomOp2, 2, (Option<Tensor>, Option<Tensor>), a a_layout, b b_layout);
custom_op!(CustomOp3, 3, (Option<Tensor>, Option<Tensor>, Option<Tensor>), a a_layout, b b_layout, c c_layout);

fn on_cpu<const N: usize>(op: &impl Fused<N>, operands: [(&CpuStorage, &Layout); N]) -> Result<(CpuStorage, Shape)> {
    let read = operands.iter().map(|(storage, layout)| values(storage, layout)).collect::<Result<Vec<_>>>()?;
    let shapes = operands.map(|(_, layout)| layout.shape());
    let (result, shape) = op.cpu(std::array::from_fn(|i| &*read[i]), shapes)?;
    Ok((stored(result, op.dtype(operands[0].0.dtype()))?, shape))
}
