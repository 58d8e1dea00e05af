//! Named host tensors: how weights travel between files and executors.

use std::borrow::Cow;

use half::f16;

use crate::Error;
use crate::Result;
use crate::tensor::int4;

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
    /// `value[o, i] * scale[o]`: one scale for each output channel (first dimension).
    Int8 {
        /// Rounded values in -127..=127.
        values: Vec<i8>,
        /// One positive scale for each row.
        scales: Vec<f32>,
    },
    /// `value[o, i] * scale[o, i / group]`, each row of `[out, in…]` flattened: [`HostTensor::int4`].
    Int4 {
        /// `ceil(in / 2)` bytes a row, low nibble first; a nibble is a two's complement number in -8..=7.
        values: Vec<u8>,
        /// `ceil(in / group)` positive scales a row.
        scales: Vec<f16>,
        /// How many values of a row share a scale, 32 or 64.
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

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in single precision, borrowed where they already are.
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
