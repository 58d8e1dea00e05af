//! What tensors are on the processor: values, or a weight that was packed for products.

use std::sync::{Arc, OnceLock};

use super::Precision;
use super::pool::{Lease, Pool};
use super::product::Packed;
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// A tensor of [`super::Processor`]. Clones share the values.
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    /// The result of an operation.
    Result(Arc<Lease>),
    /// What was uploaded, and what became of it when a product first needed it.
    Uploaded(Arc<HostTensor>, Arc<OnceLock<Arc<Packed>>>),
}

impl Tensor {
    /// A result to be written.
    pub(super) fn of_pool(pool: &Arc<Pool>, shape: Vec<usize>) -> Self {
        let count = shape.iter().product();
        Self { shape, storage: Storage::Result(Arc::new(pool.take(count))) }
    }

    /// Copies a host tensor. Int8 matrices are packed at once, everything else becomes f32.
    pub(super) fn upload(tensor: &HostTensor, precision: Precision) -> Result<Self> {
        let shape = tensor.shape.clone();
        let packed = OnceLock::new();
        let matrix = matches!(&tensor.data, Data::Int8 { scales, .. } if shape.len() == 2 && scales.len() == shape[0]);
        let kept = if matrix {
            let _ = packed.set(Arc::new(Packed::new(tensor, precision)?));
            HostTensor { shape: vec![0], data: Data::F32(Vec::new()) }
        } else {
            HostTensor { shape: shape.clone(), data: Data::F32(tensor.to_f32().into_owned()) }
        };
        Ok(Self { shape, storage: Storage::Uploaded(Arc::new(kept), Arc::new(packed)) })
    }

    /// Row-major shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, where they are not packed.
    pub(super) fn values(&self) -> Result<&[f32]> {
        match &self.storage {
            Storage::Result(lease) => Ok(lease),
            Storage::Uploaded(host, _) => match &host.data {
                Data::F32(values) if host.shape == self.shape => Ok(values),
                _ => Err(Error::Tensor {
                    name: "(operand)".into(),
                    reason: "expected values, found a weight that was packed for products".into(),
                }),
            },
        }
    }

    /// The values of a result that nobody else holds yet.
    pub(super) fn values_mut(&mut self) -> Result<&mut [f32]> {
        match &mut self.storage {
            Storage::Result(lease) => Arc::get_mut(lease).map(|lease| &mut **lease),
            Storage::Uploaded(..) => None,
        }
        .ok_or_else(|| Error::config("a tensor that others hold cannot be written"))
    }

    /// The weight as products take it.
    pub(super) fn packed(&self, precision: Precision) -> Result<Arc<Packed>> {
        let Storage::Uploaded(host, packed) = &self.storage else {
            return Err(Error::config("a result of an operation cannot be a weight"));
        };
        if let Some(packed) = packed.get() {
            return Ok(packed.clone());
        }
        let made = Arc::new(Packed::new(host, precision)?);
        Ok(packed.get_or_init(|| made).clone())
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
