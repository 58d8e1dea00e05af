//! Types that weights are stored in.

use serde::{Deserialize, Serialize};

use crate::tensor::{Data, HostTensor};

/// Storage type of values, the most compact last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// Single precision.
    Float32,
    /// Half precision.
    Float16,
    /// One byte per value, a scale per output channel.
    Int8,
    /// Half a byte per value, a scale per group of 32 or 64.
    Int4,
}

impl StorageType {
    /// All types.
    pub const ALL: [Self; 4] = [Self::Float32, Self::Float16, Self::Int8, Self::Int4];

    /// Most compact storage type among tensors.
    pub(crate) fn of<'a>(tensors: impl IntoIterator<Item = &'a HostTensor>) -> Self {
        let storage = |tensor: &HostTensor| match tensor.data {
            Data::F32(_) => Self::Float32,
            Data::F16(_) => Self::Float16,
            Data::Int8 { .. } => Self::Int8,
            Data::Int4 { .. } => Self::Int4,
        };
        tensors.into_iter().map(storage).max().unwrap_or(Self::Float32)
    }
}
