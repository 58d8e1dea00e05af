//! Reading and writing of shards, small enough for static hosts and browser caches as far as single tensors are.

use super::manifest::{FileEntry, Kind, sha256, shard_name};
use crate::tensor::named::is_linear_weight;
use crate::tensor::named::{Shapes, Weights, check_finite, unexpected};
use crate::tensor::safetensors_io;
use crate::tensor::{Data, HostTensor, StorageType};
use crate::{Error, Result};

/// Upper limit of a shard's size in bytes, if it holds more than one tensor: a larger tensor is a shard of its own.
pub const SHARD_LIMIT: usize = 24 << 20;

/// Upper bound of a tensor's bytes in a safetensors header, name excluded: type, shape, offsets, punctuation.
const HEADER_ENTRY: usize = 160;

/// Writes the tensors of a kind in the order of their names, filling one shard after the other.
pub(super) fn write(kind: Kind, weights: &Weights) -> Result<Vec<(FileEntry, Vec<u8>)>> {
    write_below(SHARD_LIMIT, kind, weights)
}

/// [`write`] with another limit.
pub(super) fn write_below(limit: usize, kind: Kind, weights: &Weights) -> Result<Vec<(FileEntry, Vec<u8>)>> {
    let mut shards: Vec<Weights> = Vec::new();
    // Length field and padding of the header.
    let (mut room, overhead) = (0, 16);
    for (name, tensor) in weights.0.iter().filter(|(name, _)| Kind::of_tensor(name) == kind) {
        let size = stored_size(name, tensor);
        if size > room {
            shards.push(Weights::default());
            room = limit - 1 - overhead;
        }
        // After a tensor that no shard has room for there is none left, so it is a shard of its own.
        room = room.saturating_sub(size);
        if let Some(shard) = shards.last_mut() {
            shard.0.insert(name.clone(), tensor.clone());
        }
    }
    let n = shards.len();
    let shards = shards.iter().enumerate().map(|(i, shard)| {
        let bytes = safetensors_io::write(shard, None)?;
        let name = shard_name(kind, &sha256(&bytes), i + 1, n);
        Ok((FileEntry::of(name, kind, Some(StorageType::of(shard.0.values())), &bytes), bytes))
    });
    shards.collect()
}

/// Upper bound of a tensor's size in a shard: values, scales, header.
fn stored_size(name: &str, tensor: &HostTensor) -> usize {
    let entry = name.len() + HEADER_ENTRY;
    match &tensor.data {
        Data::F32(values) => 4 * values.len() + entry,
        Data::F16(values) => 2 * values.len() + entry,
        Data::Int8 { values, scales } => values.len() + 4 * scales.len() + 2 * entry,
        Data::Int4 { values, scales, .. } => values.len() + 2 * scales.len() + 8 * (1 + tensor.shape.len()) + 3 * entry,
    }
}

/// Reads a shard's tensors. Each must be expected, in a shard of the right kind, of the right shape, finite, and not in an earlier
/// shard, which `is_there` tells by name.
pub(super) fn read(
    entry: &FileEntry,
    bytes: &[u8],
    expected: &Shapes,
    is_there: impl Fn(&str) -> bool,
) -> Result<Weights> {
    let shard = safetensors_io::read(&entry.name, bytes)?;
    let refuse = |error: Error| error.in_file(&entry.name);
    if entry.dtype != Some(StorageType::of(shard.0.values())) {
        let reason =
            format!("holds {:?} values, but the manifest says {:?}", StorageType::of(shard.0.values()), entry.dtype);
        return Err(Error::Model { file: entry.name.clone(), reason });
    }
    for (name, tensor) in &shard.0 {
        let misplaced = |reason: &str| refuse(Error::Tensor { name: name.clone(), reason: reason.into() });
        let shape = expected.get(name).ok_or_else(|| refuse(unexpected(name)))?;
        tensor.expect_shape(name, shape).map_err(refuse)?;
        if Kind::of_tensor(name) != entry.kind {
            return Err(misplaced("is in a shard of the wrong kind"));
        }
        if matches!(tensor.data, Data::Int8 { .. } | Data::Int4 { .. }) && !is_linear_weight(name, shape) {
            return Err(misplaced("is int8 or int4, which only weights of linear layers may be"));
        }
        if is_there(name) {
            return Err(misplaced("is in an earlier shard too"));
        }
        check_finite(name, tensor).map_err(refuse)?;
    }
    Ok(shard)
}
