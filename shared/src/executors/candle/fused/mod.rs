//! Fused layer norm, bias, GELU and linear attention, with gradients: loops on the processor, CUDA kernels of this crate on a GPU.
//!
//! Composed of candle's own operations they take about ten passes over memory, most of them over broadcast operands, which its CPU
//! backend walks element by element. Parameters and their gradients are f32; activations may be stored in bf16, computation is f32.

mod bias;
mod elements;
mod gelu;
mod layer_norm;
mod linear;
mod linear_attention;
mod memory;
mod op;
mod outer;
mod residual;
mod softmax;

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

pub use bias::{add_bias, add_bias_gelu, add_bias_gelu_grad, column_sum};
pub use elements::{add, mean, multiply};
pub use layer_norm::{layer_norm, layer_norm_grad};
pub use linear::{Layer, LayerGrad, linear, linear_grad};
pub use linear_attention::{Mixed, heads_of, linear_attention, linear_attention_grad};
pub use memory::{edit, in_blocks, read};
pub(super) use op::{Fused, Op};
pub use residual::add_bias_residual;
pub use softmax::softmax;

/// Number of rows of a task: enough to hide its overhead, few enough to share among cores. Column sums are added within these
/// blocks first, which keeps their rounding low.
const ROWS: usize = 64;

/// Sum of a function of the values of slices, of which the first is the shortest. Eight lanes are vectorised, and round less than a
/// sequential sum.
pub fn sum<const N: usize>(slices: [&[f32]; N], of: impl Fn([f32; N]) -> f32) -> f32 {
    let (mut lanes, parts) = ([0f32; 8], slices.map(|slice| slice[..slices[0].len()].as_chunks::<8>()));
    for i in 0..parts[0].0.len() {
        let values = parts.map(|(whole, _)| whole[i]);
        lanes.iter_mut().enumerate().for_each(|(j, lane)| *lane += of(values.map(|values| values[j])));
    }
    for (j, lane) in lanes.iter_mut().enumerate().take(parts[0].1.len()) {
        *lane += of(parts.map(|(_, rest)| rest[j]));
    }
    lanes.iter().sum()
}

pub(super) fn add_rows(rows: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0f32; width];
    for row in rows {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
    }
    total
}

fn blocks(values: &[f32], width: usize) -> rayon::slice::Chunks<'_, f32> {
    values.par_chunks(ROWS * width)
}

fn blocks_mut(values: &mut [f32], width: usize) -> rayon::slice::ChunksMut<'_, f32> {
    values.par_chunks_mut(ROWS * width)
}

pub(super) fn last_dim(shape: &Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1)
}

/// Values of a contiguous operand of f32 or bf16.
///
/// # Errors
/// If the operand is not contiguous, or of another type.
pub fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused operation takes contiguous operands") };
    Ok(match storage {
        CpuStorage::F32(values) => Cow::Borrowed(&values[start..end]),
        CpuStorage::BF16(values) => values[start..end].iter().map(|v| v.to_f32()).collect(),
        _ => bail!("a fused operation takes f32 or bf16 operands"),
    })
}

/// Stores f32 values in a type.
///
/// # Errors
/// If the type is neither f32 nor bf16.
pub fn stored(values: Vec<f32>, dtype: DType) -> Result<CpuStorage> {
    Ok(match dtype {
        DType::F32 => CpuStorage::F32(values),
        DType::BF16 => CpuStorage::BF16(values.into_iter().map(bf16::from_f32).collect()),
        other => bail!("a fused operation gives f32 or bf16, not {other:?}"),
    })
}

/// The gradient, contiguous and in the result's type.
fn gradient(grad: &Tensor, result: &Tensor) -> Result<Tensor> {
    grad.to_dtype(result.dtype())?.contiguous()
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{Device, Var};
    use candle_nn::ops::layer_norm_slow;

    use super::*;

    fn largest(t: &Tensor) -> f32 {
        t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
    }

    /// Value and all gradients of a linear function of the result with random weights.
    fn with_gradients(y: &Tensor, weights: &Tensor, inputs: &[Var]) -> Vec<Tensor> {
        let y = y.to_dtype(DType::F32).unwrap();
        let gradients = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let of_input = |v: &Var| gradients.get(v).unwrap().to_dtype(DType::F32).unwrap();
        std::iter::once(y).chain(inputs.iter().map(of_input)).collect()
    }

    /// Runs both forms on random input and compares value and all gradients of a random linear function of the result, relative to
    /// their largest values.
    fn compare_within(
        tolerance: f32,
        fused: impl Fn(&[Var]) -> Result<Tensor>,
        composed: impl Fn(&[Var]) -> Result<Tensor>,
        shapes: &[&[usize]],
    ) {
        let device = Device::Cpu;
        let inputs: Vec<Var> = shapes.iter().map(|&shape| Var::randn(0f32, 1f32, shape, &device).unwrap()).collect();
        let (a, b) = (fused(&inputs).unwrap(), composed(&inputs).unwrap());
        let weights = Tensor::randn(0f32, 1f32, a.dims(), &device).unwrap();
        let pairs = with_gradients(&a, &weights, &inputs).into_iter().zip(with_gradients(&b, &weights, &inputs));
        for (i, (a, b)) in pairs.enumerate() {
            let difference = largest(&(&a - &b).unwrap());
            assert!(difference <= tolerance * largest(&b).max(1.0), "output {i}: {difference:e} of {:e}", largest(&b));
        }
    }

    /// The same in f32, for sums of up to 200 terms of size 1: measured relative differences are 2e-7 to 1e-6.
    pub(in super::super) fn compare(
        fused: impl Fn(&[Var]) -> Result<Tensor>,
        composed: impl Fn(&[Var]) -> Result<Tensor>,
        shapes: &[&[usize]],
    ) {
        compare_within(5e-6, fused, composed, shapes);
    }

    const SHAPES: [&[usize]; 3] = [&[2, 67, 13], &[13], &[13]];

    #[test]
    fn fused_forms_and_their_gradients_equal_the_composed_ones() {
        let norm = |v: &[Var]| layer_norm(&v[0], &v[1], &v[2], 1e-8, DType::F32);
        compare(norm, |v| layer_norm_slow(&v[0], &v[1], &v[2], 1e-8), &SHAPES);
        compare(|v| add_bias(&v[0], &v[1]), |v| v[0].broadcast_add(&v[1]), &SHAPES[..2]);
        compare(|v| add_bias_gelu(&v[0], &v[1]), |v| v[0].broadcast_add(&v[1])?.gelu_erf(), &SHAPES[..2]);
        let x = Tensor::randn(0f32, 3f32, (2, 67, 13), &Device::Cpu).unwrap();
        let expected = candle_nn::ops::softmax(&(&x * 0.7).unwrap(), 2).unwrap();
        assert!(largest(&(softmax(&x, 0.7).unwrap() - expected).unwrap()) <= 5e-7);
        let shapes = [SHAPES[0], SHAPES[1], SHAPES[0]];
        compare(|v| add_bias_residual(&v[0], &v[1], &v[2]), |v| v[0].broadcast_add(&v[1])? + &*v[2], &shapes);
    }

    #[test]
    fn bf16_rounds_what_is_stored_and_nothing_else() {
        // Half a unit in the last of eight bits, twice for two successive roundings.
        let rounding = 2.0 / 256.0;
        let bf16 = |v: &Var| v.to_dtype(DType::BF16);
        let norm = |v: &[Var]| layer_norm(&v[0], &v[1], &v[2], 1e-8, DType::BF16);
        compare_within(rounding, norm, |v| layer_norm_slow(&v[0], &v[1], &v[2], 1e-8), &SHAPES);
        compare_within(rounding, |v| add_bias(&bf16(&v[0])?, &v[1]), |v| v[0].broadcast_add(&v[1]), &SHAPES[..2]);
        let gelu = |v: &[Var]| add_bias_gelu(&bf16(&v[0])?, &v[1]);
        compare_within(rounding, gelu, |v| v[0].broadcast_add(&v[1])?.gelu_erf(), &SHAPES[..2]);
        let x = Var::ones((300, 2), DType::F32, &Device::Cpu).unwrap();
        let bias = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let sum = add_bias(&bf16(&x).unwrap(), &bias).unwrap().to_dtype(DType::F32).unwrap().sum_all().unwrap();
        let of_bias = sum.backward().unwrap().get(&bias).unwrap().to_vec1::<f32>().unwrap();
        // A sum in bf16 would stop at 256.
        assert_eq!(of_bias, [300.0, 300.0]);
    }
}
