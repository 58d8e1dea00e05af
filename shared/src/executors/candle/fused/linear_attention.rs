//! Linear attention with its gradient, head by head.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout, backend::BackendStorage};
use candle_core::{DType, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Fused, Op};
use crate::executors::candle::kernels::linear_attention::{Heads, SIDE};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, device::compute, linear_attention as kernels};

/// Result of linear attention, and the sums that its gradient needs.
pub struct Mixed {
    /// Result `[batch, tokens, channels]`, stored like `qkv`.
    pub tokens: Tensor,
    /// Sums of `φ(k) vᵀ` over the tokens of each head, then those of `φ(k)`, in f32. On a GPU there is one sum per chunk of a head's
    /// tokens.
    pub sums: Tensor,
}

/// Extents of `qkv [batch, tokens, 3·channels]`; `None` if heads are too large for the kernels of a GPU.
///
/// # Errors
/// If `qkv` does not have three dimensions.
pub fn heads_of(qkv: &Tensor, heads: usize) -> Result<Option<Heads>> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let heads = Heads { batch, tokens, heads, size: packed / 3 / heads };
    Ok((qkv.device().is_cpu() || heads.size <= SIDE).then_some(heads))
}

/// Linear attention of packed `qkv [batch, tokens, 3·channels]`; see [`crate::ops::Ops::linear_attention`].
///
/// # Errors
/// If the device fails.
pub fn linear_attention(qkv: &Tensor, heads: Heads, eps: f32) -> Result<Mixed> {
    let qkv = qkv.contiguous()?;
    let sums = qkv.apply_op1_no_bwd(&Op(Sums { heads }))?;
    Ok(Mixed { tokens: qkv.apply_op2_no_bwd(&sums, &Op(Attend { heads, eps }))?, sums })
}

/// Gradient of `qkv`, stored like it, from the gradient of [`Mixed::tokens`].
///
/// # Errors
/// If the device fails.
pub fn linear_attention_grad(
    qkv: &Tensor,
    sums: &Tensor,
    of_tokens: &Tensor,
    heads: Heads,
    eps: f32,
) -> Result<Tensor> {
    let of_tokens = of_tokens.to_dtype(qkv.dtype())?.contiguous()?;
    qkv.contiguous()?.apply_op3_no_bwd(sums, &of_tokens, &Op(Grad { heads, eps }))
}

/// `ELU + 1`, and its derivative.
fn feature(x: f32) -> (f32, f32) {
    if x > 0.0 { (x + 1.0, 1.0) } else { (x.exp(), x.exp()) }
}

/// One head's part of the operands.
struct Head<'a> {
    heads: Heads,
    batch: usize,
    head: usize,
    qkv: &'a [f32],
}

impl<'a> Head<'a> {
    /// All heads, in the order of the sums.
    fn all(heads: Heads, qkv: &'a [f32]) -> impl IndexedParallelIterator<Item = Self> {
        let of = move |i| Self { heads, batch: i / heads.heads, head: i % heads.heads, qkv };
        (0..heads.batch * heads.heads).into_par_iter().map(of)
    }

    /// Query (0), key (1) or value (2) of a token.
    fn row(&self, token: usize, part: usize) -> &'a [f32] {
        let Heads { tokens, heads, size, .. } = self.heads;
        let begin = (((self.batch * tokens + token) * 3 + part) * heads + self.head) * size;
        &self.qkv[begin..begin + size]
    }

    /// Row of a token in `[batch, tokens, heads, size]`.
    fn mixed<'b>(&self, values: &'b [f32], token: usize) -> &'b [f32] {
        let Heads { tokens, heads, size, .. } = self.heads;
        let begin = ((self.batch * tokens + token) * heads + self.head) * size;
        &values[begin..begin + size]
    }

    /// Matrix and vector of this head's sums.
    fn sums<'b>(&self, sums: &'b [f32]) -> (&'b [f32], &'b [f32]) {
        let Heads { batch, heads, size, .. } = self.heads;
        let (matrices, vectors) = sums.split_at(batch * heads * size * size);
        let i = self.batch * heads + self.head;
        (&matrices[i * size * size..][..size * size], &vectors[i * size..][..size])
    }
}

/// `to += factor · from`.
fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

/// Transpose of a square matrix.
fn transposed(matrix: &[f32], side: usize) -> Vec<f32> {
    (0..side * side).map(|i| matrix[i % side * side + i / side]).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    super::sum(a.iter().zip(b).map(|(a, b)| a * b))
}

/// Reorders rows by head `[batch·heads, tokens, parts, size]` to rows by token `[batch, tokens, parts, heads, size]`.
fn by_token(of_heads: &[Vec<f32>], heads: Heads, parts: usize) -> Vec<f32> {
    let Heads { tokens, heads, size, .. } = heads;
    let mut out = vec![0f32; of_heads.len() * tokens * parts * size];
    out.par_chunks_mut(parts * heads * size).enumerate().for_each(|(row, out)| {
        let (batch, token) = (row / tokens, row % tokens);
        for (i, out) in out.chunks_exact_mut(size).enumerate() {
            let (part, head) = (i / heads, i % heads);
            out.copy_from_slice(&of_heads[batch * heads + head][(token * parts + part) * size..][..size]);
        }
    });
    out
}

struct Sums {
    heads: Heads,
}

impl Fused<1> for Sums {
    const NAME: &'static str = "linear-attention-sums";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [qkv]: [&[f32]; 1], _shapes: [&Shape; 1]) -> Result<(Vec<f32>, Shape)> {
        let Heads { tokens, size, .. } = self.heads;
        let of_head = |head: Head<'_>| {
            let (mut matrix, mut vector) = (vec![0f32; size * size], vec![0f32; size]);
            for token in 0..tokens {
                let rows = matrix.chunks_exact_mut(size).zip(&mut vector).zip(head.row(token, 1));
                for ((row, total), &key) in rows {
                    let (key, _) = feature(key);
                    *total += key;
                    add_scaled(row, key, head.row(token, 2));
                }
            }
            (matrix, vector)
        };
        let (matrices, vectors): (Vec<_>, Vec<_>) = Head::all(self.heads, qkv).map(of_head).unzip();
        let sums = [matrices.concat(), vectors.concat()].concat();
        let count = sums.len();
        Ok((sums, Shape::from(count)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, [(qkv, layout)]: [(&CudaStorage, &Layout); 1]) -> Result<(CudaStorage, Shape)> {
        let (heads, element) = (self.heads, Element::of(qkv.dtype())?);
        let count = heads.sums() + heads.totals();
        let out = compute([(qkv, layout)], [], DType::F32, count, |[qkv], [], sums| {
            [kernels::key_value_sums(element, [qkv, sums, totals(sums, heads)], heads)]
        })?;
        Ok((out, Shape::from(count)))
    }
}

/// Address of the totals, after the sums.
#[cfg(feature = "cuda")]
fn totals(sums: u64, heads: Heads) -> u64 {
    sums + 4 * heads.sums() as u64
}

struct Attend {
    heads: Heads,
    eps: f32,
}

impl Fused<2> for Attend {
    const NAME: &'static str = "linear-attention";

    fn cpu(&self, [qkv, sums]: [&[f32]; 2], _shapes: [&Shape; 2]) -> Result<(Vec<f32>, Shape)> {
        let Heads { tokens, size, .. } = self.heads;
        let of_head = |head: Head<'_>| {
            let (matrix, vector) = head.sums(sums);
            let mut out = vec![0f32; tokens * size];
            for (token, out) in out.chunks_exact_mut(size).enumerate() {
                let query: Vec<f32> = head.row(token, 0).iter().map(|&x| feature(x).0).collect();
                let below = dot(&query, vector) + self.eps;
                for (&query, row) in query.iter().zip(matrix.chunks_exact(size)) {
                    add_scaled(out, query / below, row);
                }
            }
            out
        };
        let of_heads: Vec<Vec<f32>> = Head::all(self.heads, qkv).map(of_head).collect();
        Ok((by_token(&of_heads, self.heads, 1), mixed_shape(self.heads)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 2]) -> Result<(CudaStorage, Shape)> {
        let (qkv, _) = operands[0];
        let (heads, element, shape) = (self.heads, Element::of(qkv.dtype())?, mixed_shape(self.heads));
        let out = compute(operands, [], qkv.dtype(), shape.elem_count(), |[qkv, sums], [], out| {
            [kernels::attend(element, [qkv, sums, totals(sums, heads), out], heads, self.eps)]
        })?;
        Ok((out, shape))
    }
}

fn mixed_shape(heads: Heads) -> Shape {
    Shape::from((heads.batch, heads.tokens, heads.heads * heads.size))
}

struct Grad {
    heads: Heads,
    eps: f32,
}

impl Fused<3> for Grad {
    const NAME: &'static str = "linear-attention-grad";

    /// For `y = φ(q) S / (φ(q) · t + eps)`, where S and t are the sums: the gradient g of y gives `φ(q)ᵀ (g / normaliser)` for S and
    /// `-(g · y) / normaliser` for the normaliser; S and t pass theirs on to every key and value.
    fn cpu(&self, [qkv, sums, of_result]: [&[f32]; 3], [shape, ..]: [&Shape; 3]) -> Result<(Vec<f32>, Shape)> {
        let Heads { tokens, size, .. } = self.heads;
        let of_head = |head: Head<'_>| {
            let (matrix, vector) = head.sums(sums);
            let (turned, mut of_vector) = (transposed(matrix, size), vec![0f32; size]);
            // Transposed as well.
            let mut of_matrix = vec![0f32; size * size];
            let mut out = vec![0f32; tokens * 3 * size];
            let mut query = vec![(0f32, 0f32); size];
            for (token, out) in out.chunks_exact_mut(3 * size).enumerate() {
                query.iter_mut().zip(head.row(token, 0)).for_each(|(query, &x)| *query = feature(x));
                let below = super::sum(query.iter().zip(vector).map(|((query, _), total)| query * total)) + self.eps;
                let (of_query, divided) = out.split_at_mut(size);
                let divided = &mut divided[..size];
                divided.iter_mut().zip(head.mixed(of_result, token)).for_each(|(divided, g)| *divided = g / below);
                for (&divided, row) in divided.iter().zip(turned.chunks_exact(size)) {
                    add_scaled(of_query, divided, row);
                }
                // g · y, from the gradient of φ(q).
                let along = super::sum(query.iter().zip(&*of_query).map(|((query, _), of_query)| query * of_query));
                let of_below = -along / below;
                for (((of_query, total), of_total), (query, slope)) in
                    of_query.iter_mut().zip(vector).zip(&mut of_vector).zip(&mut query)
                {
                    *of_query = (*of_query + total * of_below) * *slope;
                    *of_total += *query * of_below;
                }
                for (&divided, row) in divided.iter().zip(of_matrix.chunks_exact_mut(size)) {
                    row.iter_mut().zip(&query).for_each(|(sum, (query, _))| *sum += query * divided);
                }
            }
            let turned = transposed(&of_matrix, size);
            for (token, out) in out.chunks_exact_mut(3 * size).enumerate() {
                let (of_key, of_value) = out[size..].split_at_mut(size);
                of_key.copy_from_slice(&of_vector);
                of_value.fill(0.0);
                for (&value, row) in head.row(token, 2).iter().zip(of_matrix.chunks_exact(size)) {
                    add_scaled(of_key, value, row);
                }
                for ((of_key, &key), row) in of_key.iter_mut().zip(head.row(token, 1)).zip(turned.chunks_exact(size)) {
                    let (key, slope) = feature(key);
                    *of_key *= slope;
                    add_scaled(of_value, key, row);
                }
            }
            out
        };
        let of_heads: Vec<Vec<f32>> = Head::all(self.heads, qkv).map(of_head).collect();
        Ok((by_token(&of_heads, self.heads, 3), shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, operands: [(&CudaStorage, &Layout); 3]) -> Result<(CudaStorage, Shape)> {
        let (qkv, layout) = operands[0];
        let (heads, element) = (self.heads, Element::of(qkv.dtype())?);
        let scratch = [heads.rows(), heads.rows(), heads.sums(), heads.totals()];
        let count = layout.shape().elem_count();
        let out = compute(operands, scratch, qkv.dtype(), count, |[qkv, sums, grad], scratch, out| {
            let ([inverses, slopes, of_sums, of_totals], totals) = (scratch, totals(sums, heads));
            let buffers = kernels::Grad { qkv, grad, sums, totals, inverses, slopes, of_sums, of_totals, out };
            kernels::grad(element, &buffers, heads, self.eps)
        })?;
        Ok((out, layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::executors::candle::{Candle, no_noise};
    use crate::ops::Ops;

    /// Measured differences are 1e-7 to 7e-7 of the largest value, for sums of up to 300 terms.
    #[test]
    fn the_fused_form_and_its_gradient_equal_the_composed_one() {
        let sizes = [(1, 1, 1, 1), (2, 67, 3, 20), (1, 300, 2, 64), (2, 33, 1, 96)];
        // As in Dinomaly, and an epsilon that shows.
        for ((batch, tokens, heads, size), eps) in sizes.into_iter().flat_map(|sizes| [(sizes, 0.0), (sizes, 20.0)]) {
            let qkv = Var::randn(0f32, 1f32, (batch, tokens, 3 * heads * size), &Device::Cpu).unwrap();
            let weights = Tensor::randn(0f32, 1f32, (batch, tokens, heads * size), &Device::Cpu).unwrap();
            let composed = Candle::train(Device::Cpu, &no_noise).linear_attention(&qkv, heads, None, eps).unwrap();
            let gradients = (&composed * &weights).unwrap().sum_all().unwrap().backward().unwrap();

            let extents = heads_of(&qkv, heads).unwrap().unwrap();
            let Mixed { tokens: found, sums } = linear_attention(&qkv.detach(), extents, eps as f32).unwrap();
            let of_qkv = linear_attention_grad(&qkv.detach(), &sums, &weights, extents, eps as f32).unwrap();
            for (found, expected) in [(&found, &composed), (&of_qkv, gradients.get(&qkv).unwrap())] {
                assert_eq!(found.dims(), expected.dims());
                let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                let number = |t: Tensor| t.to_scalar::<f32>().unwrap();
                let difference = number(largest(&(found - expected).unwrap()));
                let largest = number(largest(expected));
                assert!(difference <= 3e-6 * largest.max(1.0), "{extents:?}: {difference:e} of {largest:e}");
            }
            assert_eq!(found.dtype(), DType::F32);
        }
    }
}
