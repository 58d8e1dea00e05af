//! Linear attention on CUDA by our own kernels, with its gradient.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::kernels::Element;
use super::kernels::device::compute;
use super::kernels::linear_attention::{Grad, Heads, SIDE, forward, grad};

/// Attention of packed `qkv [batch, tokens, 3·channels]`, stored as it is, or `None` where heads are too large for the kernels.
pub fn linear_attention(qkv: &Tensor, heads: usize) -> Result<Option<Tensor>> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let heads = Heads { batch, tokens, heads, size: packed / 3 / heads };
    if heads.size > SIDE {
        return Ok(None);
    }
    qkv.contiguous()?.apply_op1(LinearAttention { heads }).map(Some)
}

struct LinearAttention {
    heads: Heads,
}

impl CustomOp1 for LinearAttention {
    fn name(&self) -> &'static str {
        "linear-attention"
    }

    fn cpu_fwd(&self, _qkv: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("the processor's linear attention is made of products")
    }

    fn cuda_fwd(&self, qkv: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (heads, element) = (self.heads, Element::of(qkv.dtype())?);
        let shape = Shape::from((heads.batch, heads.tokens, heads.heads * heads.size));
        let scratch = [heads.sums(), heads.totals()];
        let count = shape.elem_count();
        let out = compute([(qkv, layout)], scratch, qkv.dtype(), count, |[qkv], [sums, totals], out| {
            forward(element, [qkv, sums, totals, out], heads)
        })?;
        Ok((out, shape))
    }

    fn bwd(&self, qkv: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.to_dtype(res.dtype())?.contiguous()?;
        qkv.contiguous()?.apply_op2_no_bwd(&grad, &LinearAttentionGrad { heads: self.heads }).map(Some)
    }
}

struct LinearAttentionGrad {
    heads: Heads,
}

impl CustomOp2 for LinearAttentionGrad {
    fn name(&self) -> &'static str {
        "linear-attention-grad"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("the processor's linear attention is made of products")
    }

    fn cuda_fwd(
        &self,
        qkv: &CudaStorage,
        layout: &Layout,
        of_result: &CudaStorage,
        of_result_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (heads, element) = (self.heads, Element::of(qkv.dtype())?);
        let rows = heads.batch * heads.tokens;
        let scratch = [heads.sums(), heads.totals(), rows * heads.heads * heads.size, rows * heads.heads];
        let count = layout.shape().elem_count();
        let inputs = [(qkv, layout), (of_result, of_result_layout)];
        let out =
            compute(inputs, scratch, qkv.dtype(), count, |[qkv, of_result], [sums, totals, divided, slopes], out| {
                let buffers = Grad { qkv, grad: of_result, sums, totals, divided, of_normaliser: slopes, out };
                grad(element, &buffers, heads)
            })?;
        Ok((out, layout.shape().clone()))
    }
}
