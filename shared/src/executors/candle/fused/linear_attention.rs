//! Linear attention with its gradient, head by head; on the processor a task has a photo.

#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, Layout, backend::BackendStorage};
use candle_core::{DType, Error, Result, Shape, Tensor};
use rayon::prelude::*;
use rten_simd::SimdUnaryOp;

use super::bias::sums_of_columns;
use super::memory::in_blocks;
use super::{Fused, Op};
use crate::executors::candle::kernels::linear_attention::{Heads, SIDE};
#[cfg(feature = "cuda")]
use crate::executors::candle::kernels::{Element, device::compute, linear_attention as kernels};
use crate::executors::processor::attention::EluPlusOne;
use crate::executors::processor::gemm::{Kernels, Matrix, View};

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

/// Query, key or value.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

/// One head of one photo.
#[derive(Clone, Copy)]
struct Head<'a> {
    heads: Heads,
    photo: usize,
    head: usize,
    qkv: &'a [f32],
}

impl<'a> Head<'a> {
    /// The heads of a photo.
    fn of_photo(heads: Heads, photo: usize, qkv: &'a [f32]) -> impl Iterator<Item = Self> {
        (0..heads.heads).map(move |head| Self { heads, photo, head, qkv })
    }

    /// `[tokens, size]`.
    fn part(self, part: Part) -> View<'a> {
        let Heads { tokens, heads, size, .. } = self.heads;
        let begin = (self.photo * tokens * 3 + part as usize) * heads * size + self.head * size;
        View::with_pitch(&self.qkv[begin..], [tokens, size], 3 * heads * size)
    }

    /// `φ(x) = elu(x) + 1` of queries or keys, `[tokens, size]` and contiguous.
    fn features(self, part: Part) -> Vec<f32> {
        let mut values = self.part(part).to_vec();
        EluPlusOne.map_mut(&mut values);
        values
    }

    /// Sums of `φ(k) vᵀ`, `[size, size]`, and of `φ(k)`.
    fn sums<'b>(self, sums: &'b [f32]) -> (View<'b>, &'b [f32]) {
        let Heads { batch, heads, size, .. } = self.heads;
        let (matrices, vectors) = sums.split_at(batch * heads * size * size);
        let i = self.photo * heads + self.head;
        (View::new(&matrices[i * size * size..][..size * size], [size, size]), &vectors[i * size..][..size])
    }

    /// This head's part of the rows `[tokens, parts, heads, size]` of a photo.
    fn rows(self, values: &[f32], parts: usize, part: usize) -> impl Iterator<Item = &[f32]> {
        let Heads { heads, size, .. } = self.heads;
        values.chunks_exact(parts * heads * size).map(move |row| &row[(part * heads + self.head) * size..][..size])
    }

    /// [`Head::rows`] to be written.
    fn rows_mut(self, values: &mut [f32], parts: usize, part: usize) -> impl Iterator<Item = &mut [f32]> {
        let Heads { heads, size, .. } = self.heads;
        let begin = (part * heads + self.head) * size;
        values.chunks_exact_mut(parts * heads * size).map(move |row| &mut row[begin..][..size])
    }
}

/// Derivative of φ where it has this value: `exp(x)`, which is φ, up to 0 and 1 from there on.
fn slope(feature: f32) -> f32 {
    feature.min(1.0)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    super::sum([a, b], |[a, b]| a * b)
}

/// `left · right`.
fn product(left: View<'_>, right: View<'_>) -> Result<Vec<f32>> {
    let mut out = vec![0.0; left.rows * right.columns];
    let right = Matrix::new(Kernels::default(), right).map_err(Error::wrap)?;
    right.product(left, 1.0, None, &mut out).map_err(Error::wrap)?;
    Ok(out)
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
        let Heads { batch, tokens, size, .. } = self.heads;
        let of_head = |head: Head<'_>| {
            let keys = head.features(Part::Key);
            let matrix = product(View::new(&keys, [tokens, size]).transposed(), head.part(Part::Value))?;
            Ok((matrix, sums_of_columns(&keys, size)))
        };
        let of_photo = |photo: usize| Head::of_photo(self.heads, photo, qkv).map(of_head).collect::<Result<Vec<_>>>();
        let of_photos = (0..batch).into_par_iter().map(of_photo).collect::<Result<Vec<_>>>()?;
        let (matrices, vectors): (Vec<_>, Vec<_>) = of_photos.into_iter().flatten().unzip();
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
        let Heads { batch, tokens, heads, size } = self.heads;
        let ([out], _) = in_blocks(batch, 1, [tokens * heads * size], |photo, [out]| {
            for head in Head::of_photo(self.heads, photo, qkv) {
                let (matrix, vector) = head.sums(sums);
                let queries = head.features(Part::Query);
                let above = product(View::new(&queries, [tokens, size]), matrix)?;
                let rows = head.rows_mut(out, 1, 0).zip(above.chunks_exact(size)).zip(queries.chunks_exact(size));
                for ((out, above), query) in rows {
                    let below = dot(query, vector) + self.eps;
                    out.iter_mut().zip(above).for_each(|(out, above)| *out = above / below);
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok((out, mixed_shape(self.heads)))
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
        let Heads { batch, tokens, heads, size } = self.heads;
        let ([out], _) = in_blocks(batch, 1, [tokens * 3 * heads * size], |photo, [out]| {
            let of_result = &of_result[photo * tokens * heads * size..][..tokens * heads * size];
            for head in Head::of_photo(self.heads, photo, qkv) {
                let (matrix, vector) = head.sums(sums);
                let [queries, keys] = [Part::Query, Part::Key].map(|part| head.features(part));
                let belows: Vec<f32> = queries.chunks_exact(size).map(|query| dot(query, vector) + self.eps).collect();
                let mut divided = Vec::with_capacity(tokens * size);
                for (gradient, below) in head.rows(of_result, 1, 0).zip(&belows) {
                    divided.extend(gradient.iter().map(|gradient| gradient / below));
                }
                let divided = View::new(&divided, [tokens, size]);
                let of_queries = product(divided, matrix.transposed())?;
                let mut of_vector = vec![0f32; size];
                let rows = head.rows_mut(out, 3, Part::Query as usize).zip(of_queries.chunks_exact(size));
                for (((out, of_query), query), below) in rows.zip(queries.chunks_exact(size)).zip(&belows) {
                    // g · y, from the gradient of φ(q).
                    let of_below = -dot(query, of_query) / below;
                    for (((out, of_query), query), (total, of_total)) in
                        out.iter_mut().zip(of_query).zip(query).zip(vector.iter().zip(&mut of_vector))
                    {
                        *out = (of_query + total * of_below) * slope(*query);
                        *of_total += query * of_below;
                    }
                }
                let of_matrix = product(View::new(&queries, [tokens, size]).transposed(), divided)?;
                let of_matrix = View::new(&of_matrix, [size, size]);
                let of_keys = product(head.part(Part::Value), of_matrix.transposed())?;
                let rows = head.rows_mut(out, 3, Part::Key as usize).zip(of_keys.chunks_exact(size));
                for ((out, of_key), key) in rows.zip(keys.chunks_exact(size)) {
                    for (((out, of_key), key), of_total) in out.iter_mut().zip(of_key).zip(key).zip(&of_vector) {
                        *out = (of_key + of_total) * slope(*key);
                    }
                }
                let of_values = product(View::new(&keys, [tokens, size]), of_matrix)?;
                let rows = head.rows_mut(out, 3, Part::Value as usize).zip(of_values.chunks_exact(size));
                rows.for_each(|(out, of_value)| out.copy_from_slice(of_value));
            }
            Ok::<_, Error>(())
        })?;
        Ok((out, shape.clone()))
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
