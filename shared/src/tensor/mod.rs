//! Host tensors, which carry weights between files and executors.

pub mod float8;
pub mod int4;
pub mod named;
pub mod safetensors_io;
mod storage_type;

use std::borrow::Cow;

use half::f16;

pub use storage_type::StorageType;

use crate::{Error, Result};

/// A row-major tensor in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Extent of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// The values.
    pub data: Data,
}

/// Values of a [`HostTensor`], in their storage type.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Single precision.
    F32(Vec<f32>),
    /// Half precision, widened before use.
    F16(Vec<f16>),
    /// `value[o, i] * scale[o]`: a scale per output channel (first dimension).
    Int8 {
        /// Rounded values in -127..=127.
        values: Vec<i8>,
        /// One positive scale per row.
        scales: Vec<f32>,
    },
    /// `value[o, i] * scale[o, i / group]`, each row of `[out, in…]` flattened: [`HostTensor::int4`].
    Int4 {
        /// `ceil(in / 2)` bytes per row, low nibble first; a nibble is a two's complement number in -8..=7.
        values: Vec<u8>,
        /// `ceil(in / group)` positive scales per row.
        scales: Vec<f16>,
        /// Number of values that share a scale, 32 or 64.
        group: usize,
    },
}

impl HostTensor {
    /// A tensor of single-precision values.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the number of values is not the product of `shape`.
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        let expected: usize = shape.iter().product();
        if values.len() != expected {
            return Err(Error::Tensor {
                name: "(host)".into(),
                reason: format!("shape {shape:?} needs {expected} values, found {}", values.len()),
            });
        }
        Ok(Self { shape, data: Data::F32(values) })
    }

    /// A weight `[out, in…]` of signed four-bit values. `values` holds `ceil(in / 2)` bytes per row, low nibble first, `scales`
    /// holds `ceil(in / group)` per row. `name` is used in error messages only.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there are no rows, `group` is not one of [`int4::GROUPS`], the number of bytes or scales is wrong, or
    /// the unused nibble of an odd row is not zero.
    pub fn int4(name: &str, shape: &[usize], values: Vec<u8>, scales: Vec<f16>, group: usize) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Tensor { name: name.into(), reason });
        let len: usize = shape.iter().product();
        if shape.len() < 2 || len == 0 {
            return refuse(format!("shape {shape:?} has no rows, int4 weights are [out, in…]"));
        }
        if !int4::GROUPS.contains(&group) {
            return refuse(format!("groups of {group} values share a scale, expected 32 or 64"));
        }
        let (rows, row) = (shape[0], len / shape[0]);
        for (what, expected, found) in
            [("bytes", row.div_ceil(2), values.len()), ("scales", row.div_ceil(group), scales.len())]
        {
            if rows * expected != found {
                return refuse(format!("shape {shape:?} needs {} {what} of int4, found {found}", rows * expected));
            }
        }
        if row % 2 == 1 {
            let mut last = values.iter().skip(row / 2).step_by(row.div_ceil(2));
            if let Some(i) = last.position(|byte| byte >> 4 != 0) {
                return refuse(format!("row {i} ends with an unused nibble that is not zero"));
            }
        }
        Ok(Self { shape: shape.to_vec(), data: Data::Int4 { values, scales, group } })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values in single precision, borrowed if they are stored so.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match &self.data {
            Data::F32(values) => Cow::Borrowed(values),
            Data::F16(values) => Cow::Owned(values.iter().map(|v| v.to_f32()).collect()),
            Data::Int8 { values, scales } => {
                let row = values.len() / scales.len().max(1);
                Cow::Owned(values.iter().enumerate().map(|(i, &v)| f32::from(v) * scales[i / row]).collect())
            }
            Data::Int4 { values, scales, group } => {
                Cow::Owned(int4::widen(self.len() / self.shape[0], values, scales, *group))
            }
        }
    }

    /// Checks the shape, naming the tensor in the error.
    ///
    /// # Errors
    /// [`Error::Shape`] if it differs from `expected`.
    pub fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(Error::Shape { name: name.into(), expected: expected.to_vec(), found: self.shape.clone() })
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::int4::pack;
    use super::*;

    #[test]
    fn each_group_of_a_row_has_its_scale() {
        // Rows of 5 · 7 values: 18 bytes, a group of 32 and one of 3.
        let values: Vec<i8> = (0..70).map(|i| (i % 16) - 8).collect();
        let packed = values.chunks(35).flat_map(pack).collect();
        let scales = [1.0, 0.5, 2.0, 0.25].map(f16::from_f32).to_vec();
        let tensor = HostTensor::int4("w", &[2, 5, 7], packed, scales, 32).unwrap();
        let scale = |i: usize| [[1.0, 0.5], [2.0, 0.25]][i / 35][i % 35 / 32];
        let expected: Vec<f32> = (0..70).map(|i| f32::from(values[i]) * scale(i)).collect();
        assert_eq!(*tensor.to_f32(), expected);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let one = f16::ONE;
        for (shape, bytes, scales, group, expected) in [
            (&[4][..], 2, 1, 32, "tensor w: shape [4] has no rows"),
            (&[0, 4], 0, 0, 32, "tensor w: shape [0, 4] has no rows"),
            (&[2, 40], 40, 4, 48, "tensor w: groups of 48"),
            (&[2, 5], 5, 2, 32, "tensor w: shape [2, 5] needs 6 bytes of int4, found 5"),
            (&[2, 40], 40, 2, 32, "tensor w: shape [2, 40] needs 4 scales of int4, found 2"),
            (&[2, 40], 40, 4, 64, "tensor w: shape [2, 40] needs 2 scales of int4, found 4"),
        ] {
            let error = HostTensor::int4("w", shape, vec![0; bytes], vec![one; scales], group).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = HostTensor::int4("w", &[2, 3], vec![0x11, 0x01, 0x11, 0x11], vec![one; 2], 32).unwrap_err();
        assert!(error.to_string().contains("tensor w: row 1 ends with an unused nibble"), "{error}");
    }
}
