//! Encoder and head of any kind on one executor.

use crate::Result;
use crate::model::config::Architecture;
use crate::model::descriptor::descriptor;
use crate::model::dinomaly::Dinomaly;
use crate::model::encoder::Encoder;
use crate::model::memory::Memory;
use crate::model::vit::Load;
use crate::ops::Ops;

/// What a network says about photos, on its executor.
#[derive(Clone, Debug)]
pub struct Looked<T> {
    /// For each group the distances `[batch, tokens]`.
    pub distances: Vec<T>,
    /// What each photo looks like as a whole, `[batch, 1, width]`.
    pub descriptor: T,
}

/// A detector's encoder and head.
#[derive(Clone, Debug)]
pub enum Network<T> {
    /// With trained bottleneck and decoder.
    Dinomaly(Box<Dinomaly<T>>),
    /// With features of good photos.
    Memory(Encoder<T>, Memory<T>),
}

impl<T: Clone> Network<T> {
    /// Builds both parts for an input of `grid × grid` patches; see [`Encoder::load`] and the head's `load` for the names.
    ///
    /// # Errors
    /// Those of `load`; [`crate::Error::Config`] if the head does not fit the grid.
    pub fn load(architecture: &Architecture, grid: usize, load: &mut Load<'_, T>) -> Result<Self> {
        architecture.check_grid(grid)?;
        Ok(match architecture {
            Architecture::Dinomaly(config) => Self::Dinomaly(Box::new(Dinomaly::load(config, grid, load)?)),
            Architecture::Memory(config) => {
                Self::Memory(Encoder::load(config.taps(), grid, load)?, Memory::load(config, load)?)
            }
        })
    }

    /// `patches [batch, grid², 3·patch²]` → for each group the distances `[batch, tokens]`. The first
    /// [`Architecture::kept_prefix_tokens`] are of class and register tokens, which are not part of the map.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn distances<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T) -> Result<Vec<T>> {
        match self {
            Self::Dinomaly(dinomaly) => dinomaly.distances(ops, patches),
            Self::Memory(encoder, memory) => memory.distances(ops, &encoder.forward(ops, patches, &mut |_, _| {})?),
        }
    }

    /// [`Network::distances`] with the photos' descriptors, from one pass through the encoder, whose `prefix` tokens come before the first
    /// patch.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn look<O: Ops<Tensor = T>>(&self, ops: &O, patches: &T, prefix: usize) -> Result<Looked<T>> {
        match self {
            Self::Dinomaly(dinomaly) => {
                let layers = dinomaly.layers(ops, patches)?;
                let descriptor = descriptor(ops, &layers, prefix)?;
                Ok(Looked { distances: dinomaly.distances_of(ops, layers, &mut |_, _| {})?, descriptor })
            }
            Self::Memory(encoder, memory) => {
                let layers = encoder.forward(ops, patches, &mut |_, _| {})?;
                Ok(Looked { descriptor: descriptor(ops, &layers, prefix)?, distances: memory.distances(ops, &layers)? })
            }
        }
    }
}
