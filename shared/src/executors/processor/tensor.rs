//! Tensors on the processor: values, or a packed weight.

use std::rc::Rc;

use super::ProcessorPrecision;
use super::gemm::Kernels;
use super::pool::{Lease, Pool};
use super::product::Packed;
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Tensor of [`super::Processor`]. Clones share the values.
#[derive(Clone, Debug)]
pub struct ProcessorTensor {
    shape: Vec<usize>,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    /// Result of an operation.
    Result(Rc<Lease>),
    /// Uploaded values.
    Values(Rc<Vec<f32>>),
    /// Packed weight of a linear layer.
    Weight(Rc<Packed>),
}

impl ProcessorTensor {
    /// Tensor of unspecified values, for a result.
    pub(super) fn of_pool(pool: &Rc<Pool>, shape: Vec<usize>) -> Self {
        let count = shape.iter().product();
        Self { shape, storage: Storage::Result(Rc::new(pool.take(count))) }
    }

    /// Copies a host tensor.
    pub(super) fn upload(tensor: &HostTensor) -> Self {
        let storage = Storage::Values(Rc::new(tensor.to_f32().into_owned()));
        Self { shape: tensor.shape.clone(), storage }
    }

    /// Packs the weight of a linear layer.
    pub(super) fn upload_weight(weight: &HostTensor, precision: ProcessorPrecision, kernels: Kernels) -> Result<Self> {
        let storage = Storage::Weight(Rc::new(Packed::new(weight, precision, kernels)?));
        Ok(Self { shape: weight.shape.clone(), storage })
    }

    /// Row-major shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values of a tensor that is not a packed weight.
    pub(super) fn values(&self) -> Result<&[f32]> {
        match &self.storage {
            Storage::Result(lease) => Ok(lease),
            Storage::Values(values) => Ok(values),
            Storage::Weight(_) => {
                Err(Error::Tensor { name: "(operand)".into(), reason: "expected values, found a packed weight".into() })
            }
        }
    }

    /// Values of a result that has no clones yet.
    pub(super) fn values_mut(&mut self) -> Result<&mut [f32]> {
        match &mut self.storage {
            Storage::Result(lease) => Rc::get_mut(lease).map(|lease| &mut **lease),
            Storage::Values(_) | Storage::Weight(_) => None,
        }
        .ok_or_else(|| Error::config("a shared tensor cannot be written"))
    }

    /// The packed weight.
    pub(super) fn packed(&self) -> Result<&Packed> {
        match &self.storage {
            Storage::Weight(packed) => Ok(packed),
            Storage::Result(_) | Storage::Values(_) => Err(Error::Tensor {
                name: "linear weight".into(),
                reason: "expected a packed weight, found values".into(),
            }),
        }
    }

    /// Checks the shape, naming the operand in the error.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        Err(Error::Shape { name: name.into(), expected: shape.to_vec(), found: self.shape.clone() })
    }

    /// `[batch, tokens, channels]` of an activation.
    pub(super) fn activation(&self, name: &str) -> Result<[usize; 3]> {
        self.extents(name, "[batch, tokens, channels]")
    }

    /// `[rows, columns]` of a matrix.
    pub(super) fn matrix(&self, name: &str) -> Result<[usize; 2]> {
        self.extents(name, "[rows, columns]")
    }

    fn extents<const N: usize>(&self, name: &str, expected: &str) -> Result<[usize; N]> {
        let reason = || format!("expected {expected}, found shape {:?}", self.shape);
        <[usize; N]>::try_from(self.shape()).map_err(|_| Error::Tensor { name: name.into(), reason: reason() })
    }
}
