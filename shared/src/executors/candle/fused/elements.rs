//! Sums, products and means of tensors of the same shape, on all cores and without gradients. candle's own are on one core as the program
//! sets it up, since the threads of its pool wait by spinning.

use candle_core::{DType, Error, Result, Tensor, bail};

use super::memory::{in_blocks, read, read_all};

/// Number of values of a task.
const BLOCK: usize = 1 << 14;

/// Sum of two tensors.
///
/// # Errors
/// If shapes or types differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if there(&[a, b]) { combine([a, b], |[a, b]| a + b) } else { a + b }
}

/// Product of two tensors, value by value.
///
/// # Errors
/// If shapes or types differ.
pub fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if there(&[a, b]) { combine([a, b], |[a, b]| a * b) } else { a * b }
}

/// Mean of tensors, in f32.
///
/// # Errors
/// If shapes differ.
pub fn mean(xs: &[Tensor]) -> Result<Tensor> {
    let Some((first, rest)) = xs.split_first() else { bail!("no tensors to average") };
    let factor = 1.0 / xs.len() as f64;
    let xs: Vec<&Tensor> = xs.iter().collect();
    if !there(&xs) {
        let sum = rest.iter().try_fold(first.to_dtype(DType::F32)?, |sum, x| sum + x.to_dtype(DType::F32)?)?;
        return sum * factor;
    }
    let ([out], _) = read_all(&xs, |values| {
        in_blocks(first.elem_count(), BLOCK, [1], |i, [out]| {
            for values in values {
                out.iter_mut().zip(&values[i * BLOCK..]).for_each(|(out, value)| *out += value);
            }
            out.iter_mut().for_each(|out| *out *= factor as f32);
            Ok::<_, Error>(())
        })
    })?;
    Tensor::from_vec(out, first.shape(), first.device())
}

/// Whether all are f32 on the processor, of one shape.
fn there(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32 && t.dims() == tensors[0].dims())
}

fn combine<const N: usize>(tensors: [&Tensor; N], of: impl Fn([f32; N]) -> f32 + Sync) -> Result<Tensor> {
    let ([out], _) = read(tensors, |values| {
        in_blocks(values[0].len(), BLOCK, [1], |i, [out]| {
            let values = values.map(|values| &values[i * BLOCK..][..out.len()]);
            for (j, out) in out.iter_mut().enumerate() {
                *out = of(values.map(|values| values[j]));
            }
            Ok::<_, Error>(())
        })
    })?;
    Tensor::from_vec(out, tensors[0].shape(), tensors[0].device())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn they_are_candles() {
        // More values than a task takes, not a multiple, and one tensor that is not contiguous.
        let random = |shape: (usize, usize)| Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
        let (a, b, c) = (random((3, 9001)), random((9001, 3)).t().unwrap(), random((3, 9001)));
        let same = |found: Tensor, expected: Tensor| {
            assert_eq!(found.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
        };
        same(add(&a, &b).unwrap(), (&a + &b).unwrap());
        same(multiply(&a, &b).unwrap(), (&a * &b).unwrap());
        let all = [a, b, c];
        same(mean(&all[..1]).unwrap(), all[0].clone());
        let sum = ((&all[0] + &all[1]).unwrap() + &all[2]).unwrap();
        same(mean(&all).unwrap(), (sum / 3.0).unwrap());
        assert!(add(&all[0], &all[1].t().unwrap()).is_err() && mean(&[]).is_err());
    }
}
