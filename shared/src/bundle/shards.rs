//! A model's tensors ↔ shards small enough for static hosts and browser caches.

use super::manifest::{FileEntry, Kind, Storage, sha256, shard_name};
use crate::tensor::named::is_linear_weight;
use crate::tensor::named::{Shapes, Weights, check_finite, unexpected};
use crate::tensor::safetensors_io;
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Every shard is smaller than this, in bytes.
pub const SHARD_LIMIT: usize = 24 << 20;

/// An upper bound of what a tensor adds to a safetensors header besides its name: type, shape, offsets, punctuation.
const HEADER_ENTRY: usize = 160;

/// Writes the tensors of a kind, in the order of their names, each shard filled as far as it goes.
pub(super) fn write(kind: Kind, weights: &Weights) -> Result<Vec<(FileEntry, Vec<u8>)>> {
    write_below(SHARD_LIMIT, kind, weights)
}

/// [`write`] with another limit.
pub(super) fn write_below(limit: usize, kind: Kind, weights: &Weights) -> Result<Vec<(FileEntry, Vec<u8>)>> {
    let mut shards: Vec<Weights> = Vec::new();
    // The header's length and its padding.
    let (mut room, overhead) = (0, 16);
    for (name, tensor) in weights.0.iter().filter(|(name, _)| Kind::of_tensor(name) == kind) {
        let size = stored_size(name, tensor);
        if size > room {
            shards.push(Weights::default());
            room = limit - 1 - overhead;
        }
        room = room.checked_sub(size).ok_or_else(|| Error::Tensor {
            name: name.clone(),
            reason: format!("needs {size} bytes, more than a shard's limit of {limit}: store it in a smaller type"),
        })?;
        if let Some(shard) = shards.last_mut() {
            shard.0.insert(name.clone(), tensor.clone());
        }
    }
    let n = shards.len();
    let shards = shards.iter().enumerate().map(|(i, shard)| {
        let bytes = safetensors_io::write(shard, None)?;
        let name = shard_name(kind, &sha256(&bytes), i + 1, n);
        Ok((FileEntry::of(name, kind, Some(Storage::of(shard.0.values())), &bytes), bytes))
    });
    shards.collect()
}

/// What a tensor takes in a shard, at most: values, scales, header.
fn stored_size(name: &str, tensor: &HostTensor) -> usize {
    let entry = name.len() + HEADER_ENTRY;
    match &tensor.data {
        Data::F32(values) => 4 * values.len() + entry,
        Data::F16(values) => 2 * values.len() + entry,
        Data::Int8 { values, scales } => values.len() + 4 * scales.len() + 2 * entry,
        Data::Int4 { values, scales, .. } => values.len() + 2 * scales.len() + 8 * (1 + tensor.shape.len()) + 3 * entry,
    }
}

/// A shard's tensors, each of them expected, where it belongs, of its shape, made of numbers, and not there yet, which `is_there` says
/// of a name.
pub(super) fn read(
    entry: &FileEntry,
    bytes: &[u8],
    expected: &Shapes,
    is_there: impl Fn(&str) -> bool,
) -> Result<Weights> {
    let shard = safetensors_io::read(&entry.name, bytes)?;
    let refuse = |error: Error| error.in_file(&entry.name);
    if entry.dtype != Some(Storage::of(shard.0.values())) {
        let reason = format!("holds {:?} values, the manifest says {:?}", Storage::of(shard.0.values()), entry.dtype);
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
