//! Memory of results, and values of operands, on the processor.

use std::cell::Cell;
use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Error, InplaceOp1, Layout, Storage, Tensor, bail};
use rayon::prelude::*;

/// `rows` rows of each width, made on all cores: `work` gets the number of a block of rows with the block's zeros in each result, and
/// fills them in. Returned with the results is what `work` returns, in the order of the blocks, whichever core was first.
///
/// A block is zeroed where it is about to be used. `vec![0.0; n]` would write all of it on one core and through all caches, which is half
/// the traffic of most operations.
///
/// # Errors
/// If `work` fails.
pub fn in_blocks<const N: usize, R: Send, E: Send>(
    rows: usize,
    block: usize,
    widths: [usize; N],
    work: impl Fn(usize, [&mut [f32]; N]) -> Result<R, E> + Sync,
) -> Result<([Vec<f32>; N], Vec<R>), E> {
    let mut results = widths.map(|width| Vec::<f32>::with_capacity(rows * width));
    let mut memory = results.each_mut().map(Vec::spare_capacity_mut);
    let blocks: Vec<[&mut [MaybeUninit<f32>]; N]> = (0..rows.div_ceil(block))
        .map(|i| {
            let count = block.min(rows - i * block);
            let mut widths = widths.iter();
            memory.each_mut().map(|memory| {
                let (part, rest) = std::mem::take(memory).split_at_mut(count * widths.next().unwrap_or(&0));
                *memory = rest;
                part
            })
        })
        .collect();
    let of_blocks = blocks.into_par_iter().enumerate().map(|(i, parts)| work(i, parts.map(zeroed)));
    let of_blocks = of_blocks.collect::<Result<_, E>>()?;
    for (result, width) in results.iter_mut().zip(widths) {
        // SAFETY: the blocks cover these values, and each of them was zeroed.
        #[allow(unsafe_code)]
        unsafe {
            result.set_len(rows * width);
        }
    }
    Ok((results, of_blocks))
}

fn zeroed(memory: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    for value in memory.iter_mut() {
        value.write(0.0);
    }
    // SAFETY: every value was written.
    #[allow(unsafe_code)]
    unsafe {
        memory.assume_init_mut()
    }
}

/// Gives `work` the values of f32 tensors on the processor.
///
/// # Errors
/// If a tensor is on another device or of another type, or `work` fails.
pub fn read<const N: usize, R, E: From<Error>>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&[f32]; N]) -> Result<R, E>,
) -> Result<R, E> {
    read_all(&tensors, |values| work(std::array::from_fn(|i| values[i])))
}

/// [`read`] for any number of tensors.
///
/// # Errors
/// As [`read`].
pub fn read_all<R, E: From<Error>>(tensors: &[&Tensor], work: impl FnOnce(&[&[f32]]) -> Result<R, E>) -> Result<R, E> {
    let contiguous = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>, _>>()?;
    let guards: Vec<_> = contiguous.iter().map(Tensor::storage_and_layout).collect();
    let mut values = Vec::with_capacity(guards.len());
    for (storage, layout) in &guards {
        let (Storage::Cpu(CpuStorage::F32(all)), Some((start, end))) = (&**storage, layout.contiguous_offsets()) else {
            return Err(Error::msg("an operation of the processor takes f32 tensors there").into());
        };
        values.push(&all[start..end]);
    }
    work(&values)
}

/// [`read`] for a tensor that may be missing.
///
/// # Errors
/// As [`read`].
pub fn read_if<R, E: From<Error>>(
    tensor: Option<&Tensor>,
    work: impl FnOnce(Option<&[f32]>) -> Result<R, E>,
) -> Result<R, E> {
    match tensor {
        Some(tensor) => read([tensor], |[values]| work(Some(values))),
        None => work(None),
    }
}

/// Lets `work` change the values of a contiguous f32 tensor on the processor, and of every tensor that shares its storage.
///
/// # Errors
/// As [`read`], or if the tensor is not contiguous.
pub fn edit<R>(tensor: &Tensor, work: impl FnOnce(&mut [f32]) -> candle_core::Result<R>) -> candle_core::Result<R> {
    let (work, result) = (Cell::new(Some(work)), Cell::new(None));
    let of_values = |values: &mut [f32]| {
        if let Some(work) = work.take() {
            result.set(Some(work(values)?));
        }
        Ok(())
    };
    tensor.inplace_op1(&Edit(of_values))?;
    match result.take() {
        Some(result) => Ok(result),
        None => bail!("a tensor was not changed"),
    }
}

struct Edit<F>(F);

impl<F: Fn(&mut [f32]) -> candle_core::Result<()>> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(all), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("an operation of the processor changes contiguous f32 tensors");
        };
        (self.0)(&mut all[start..end])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result};

    use super::*;

    #[test]
    fn blocks_cover_every_row_of_every_result_once() {
        for (rows, block) in [(0, 4), (1, 4), (8, 4), (11, 4)] {
            let ([narrow, wide], of_blocks) = in_blocks(rows, block, [1, 3], |i, [narrow, wide]| {
                assert!(narrow.iter().chain(&*wide).all(|&value| value == 0.0));
                narrow.iter_mut().enumerate().for_each(|(row, value)| *value = (i * block + row) as f32);
                wide.iter_mut().enumerate().for_each(|(place, value)| *value = (i * block * 3 + place) as f32);
                Ok::<_, Error>(i)
            })
            .unwrap();
            let numbers = |count: usize| (0..count).map(|i| i as f32).collect::<Vec<f32>>();
            assert_eq!((narrow, wide), (numbers(rows), numbers(3 * rows)));
            assert_eq!(of_blocks, (0..rows.div_ceil(block)).collect::<Vec<_>>());
        }
        let failed: Result<([Vec<f32>; 1], Vec<()>)> = in_blocks(9, 2, [5], |i, _| match i {
            3 => Err(Error::msg("the fourth")),
            _ => Ok(()),
        });
        assert!(failed.unwrap_err().to_string().contains("the fourth"));
    }

    #[test]
    fn tensors_are_read_and_changed_where_they_are() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let read_flat = |x: &Tensor| read([x], |[values]| Ok::<_, Error>(values.to_vec())).unwrap();
        assert_eq!(read_flat(&x.t().unwrap()), [1.0, 3.0, 2.0, 4.0]);
        let row = x.get(1).unwrap();
        let sum = edit(&row, |values| {
            values[0] = 7.0;
            Ok(values.iter().sum::<f32>())
        });
        assert_eq!(sum.unwrap(), 11.0);
        assert_eq!(read_flat(&x), [1.0, 2.0, 7.0, 4.0]);
        assert!(edit(&x.t().unwrap(), |_| Ok(())).is_err());
        let whole = Tensor::new(&[1u32], &Device::Cpu).unwrap();
        assert!(read([&whole], |_| Ok::<_, Error>(())).is_err() && edit(&whole, |_| Ok(())).is_err());
    }
}
