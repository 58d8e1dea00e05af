//! Tensors on the GPU: each row is padded with zeros to whole vec4s, so that every kernel reads four values at a time.

use std::borrow::Cow;
use std::rc::Rc;

use half::f16;

use super::pool::{Lease, Pool};
use super::precision::GpuPrecision;
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Tensor of [`super::WebGpu`]: a shape, and a buffer that returns to its pool when the last clone is dropped.
#[derive(Clone)]
pub struct GpuTensor(Rc<Inner>);

struct Inner {
    shape: Vec<usize>,
    storage: Storage,
}

pub(super) enum Storage {
    F32(Lease),
    /// Weight of a linear layer, two values per word.
    F16(Lease),
    /// Weight of a linear layer, four values per word, and a scale per row; after all scales the sum of each row's values.
    Int8 {
        values: Lease,
        scales: Lease,
    },
    /// Weight of a linear layer, eight values per word, and a scale per `group4` vec4s of a row.
    Int4 {
        values: Lease,
        scales: Lease,
        group4: usize,
    },
}

impl GpuTensor {
    /// Tensor for a kernel's result. The kernel also writes the padding.
    pub(super) fn result(pool: &Rc<Pool>, shape: Vec<usize>) -> Result<Self> {
        let bytes = 4 * rows(&shape) * pitch(&shape);
        Ok(Self(Rc::new(Inner { storage: Storage::F32(pool.result(bytes as u64)?), shape })))
    }

    /// Copies a host tensor as f32.
    pub(super) fn upload(pool: &Rc<Pool>, tensor: &HostTensor) -> Result<Self> {
        let storage = Storage::F32(pool.upload(bytemuck::cast_slice(&padded(&tensor.to_f32(), last(&tensor.shape))))?);
        Ok(Self(Rc::new(Inner { shape: tensor.shape.clone(), storage })))
    }

    /// Copies the weight of a linear layer as stored, or f32 as f16 if the precision allows it.
    pub(super) fn upload_weight(pool: &Rc<Pool>, weight: &HostTensor, precision: GpuPrecision) -> Result<Self> {
        let &[outputs, inputs] = weight.shape.as_slice() else { return Self::upload(pool, weight) };
        let half = |values: &mut dyn Iterator<Item = f16>| {
            let bits: Vec<u16> = values.map(f16::to_bits).collect();
            pool.upload(bytemuck::cast_slice(&padded(&bits, inputs)))
        };
        let storage = match &weight.data {
            Data::Int8 { values, scales } if scales.len() == outputs => Storage::Int8 {
                values: pool.upload(bytemuck::cast_slice(&padded(values, inputs)))?,
                scales: {
                    let sum = |row: &[i8]| row.iter().map(|&value| i32::from(value)).sum::<i32>() as f32;
                    let sums: Vec<f32> = values.chunks_exact(inputs).map(sum).collect();
                    pool.upload(bytemuck::cast_slice(&[padded(scales, outputs), padded(&sums, outputs)].concat()))?
                },
            },
            Data::Int4 { values, scales, group } => {
                let bits: Vec<u16> = scales.iter().map(|scale| scale.to_bits()).collect();
                Storage::Int4 {
                    values: pool.upload(bytemuck::cast_slice(&padded(values, inputs.div_ceil(2))))?,
                    scales: pool.upload(bytemuck::cast_slice(&padded(&bits, bits.len())))?,
                    group4: group / 4,
                }
            }
            Data::F16(values) => Storage::F16(half(&mut values.iter().copied())?),
            Data::F32(values) if precision > GpuPrecision::F32 && fit_f16(values) => {
                Storage::F16(half(&mut values.iter().map(|&value| f16::from_f32(value)))?)
            }
            _ => return Self::upload(pool, weight),
        };
        Ok(Self(Rc::new(Inner { shape: weight.shape.clone(), storage })))
    }

    /// Row-major shape.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Buffer of a tensor that must be f32.
    pub(super) fn buffer(&self, name: &str) -> Result<&wgpu::Buffer> {
        match &self.0.storage {
            Storage::F32(lease) => Ok(&lease.buffer),
            Storage::F16(_) | Storage::Int8 { .. } | Storage::Int4 { .. } => Err(Error::Tensor {
                name: name.into(),
                reason: "expected f32 values, found a smaller type, which only the weight of a linear layer may have"
                    .into(),
            }),
        }
    }

    /// Checks the shape, naming the operand in the error.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        if self.0.shape == shape {
            return Ok(());
        }
        Err(Error::Shape { name: name.into(), expected: shape.to_vec(), found: self.0.shape.clone() })
    }

    /// `[batch, tokens, channels]` of an activation.
    pub(super) fn activation(&self, name: &str) -> Result<[usize; 3]> {
        <[usize; 3]>::try_from(self.shape()).map_err(|_| Error::Tensor {
            name: name.into(),
            reason: format!("expected [batch, tokens, channels], found shape {:?}", self.shape()),
        })
    }

    /// `[rows, columns]` of a matrix.
    pub(super) fn matrix(&self, name: &str) -> Result<[usize; 2]> {
        <[usize; 2]>::try_from(self.shape()).map_err(|_| Error::Tensor {
            name: name.into(),
            reason: format!("expected [rows, columns], found shape {:?}", self.shape()),
        })
    }

    /// Number of floats on the GPU, padding included.
    pub(super) fn padded_len(&self) -> usize {
        rows(self.shape()) * pitch(self.shape())
    }

    /// Removes the padding from [`GpuTensor::padded_len`] values.
    pub(super) fn strip(&self, padded: &[f32]) -> Vec<f32> {
        let (row, pitch) = (last(self.shape()), pitch(self.shape()));
        if row == pitch {
            return padded.to_vec();
        }
        padded.chunks_exact(pitch).flat_map(|chunk| &chunk[..row]).copied().collect()
    }
}

/// Number of values of a padded row.
pub(super) fn padded_row(channels: usize) -> usize {
    channels.next_multiple_of(4)
}

fn last(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

fn pitch(shape: &[usize]) -> usize {
    padded_row(last(shape))
}

fn rows(shape: &[usize]) -> usize {
    shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
}

/// Whether no value is too large for f16.
fn fit_f16(values: &[f32]) -> bool {
    values.iter().all(|value| value.abs() <= f16::MAX.to_f32())
}

/// Pads rows of `row` values with zeros to a multiple of four.
fn padded<T: Copy + Default>(values: &[T], row: usize) -> Cow<'_, [T]> {
    if row.is_multiple_of(4) {
        return Cow::Borrowed(values);
    }
    let mut all = Vec::with_capacity(values.len() / row * padded_row(row));
    for chunk in values.chunks_exact(row) {
        all.extend_from_slice(chunk);
        all.resize(all.len().next_multiple_of(4), T::default());
    }
    Cow::Owned(all)
}

#[cfg(test)]
mod tests {
    use super::padded;

    #[test]
    fn rows_are_padded_with_zeros() {
        assert_eq!(*padded(&[1, 2, 3, 4, 5, 6], 3), [1, 2, 3, 0, 4, 5, 6, 0]);
        assert_eq!(*padded(&[1, 2, 3, 4, 5, 6, 7, 8], 4), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(*padded(&[1, 2], 1), [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(*padded::<i8>(&[], 3), [0i8; 0]);
    }
}
