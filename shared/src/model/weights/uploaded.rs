//! Weights that are uploaded one by one, before all of them are loaded.

use std::collections::BTreeMap;

use super::derived::{Derived, is_derived};
use super::load::place;
use crate::Result;
use crate::model::config::{Architecture, Taps};
use crate::model::encoder::Encoder;
use crate::model::network::Network;
use crate::ops::Ops;
use crate::tensor::HostTensor;
use crate::tensor::named::Weights;

/// Uploaded tensors of a model by name, and the few that the host still needs.
#[derive(Clone, Debug)]
pub struct Uploaded<T> {
    tensors: BTreeMap<String, T>,
    /// Small tensors that the encoder needs in another form than stored.
    kept: Weights,
}

impl<T> Default for Uploaded<T> {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), kept: Weights::default() }
    }
}

impl<T: Clone> Uploaded<T> {
    /// Uploads a tensor under its stored name.
    ///
    /// # Errors
    /// As [`Ops`].
    pub fn put<O: Ops<Tensor = T>>(&mut self, ops: &O, name: String, tensor: HostTensor) -> Result<()> {
        if is_derived(&name) {
            self.kept.0.insert(name, tensor);
        } else {
            let placed = place(ops, &name, &tensor)?;
            self.tensors.insert(name, placed);
        }
        Ok(())
    }

    /// Whether a tensor of this name was added.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.kept.0.contains_key(name)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len() + self.kept.0.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Builds the encoder alone for an input of `grid × grid` patches.
    ///
    /// # Errors
    /// As [`Uploaded::network`].
    pub fn encoder<O: Ops<Tensor = T>>(&self, ops: &O, taps: Taps<'_>, grid: usize) -> Result<Encoder<T>> {
        let derived = self.kept.derive(taps, grid)?;
        Encoder::load(taps, grid, &mut |name, shape| self.tensor(ops, &derived, name, shape))
    }

    /// Builds encoder and head for an input of `grid × grid` patches; `ops` is the executor that holds the tensors.
    ///
    /// # Errors
    /// [`crate::Error::MissingTensor`]; as [`Ops`].
    pub fn network<O: Ops<Tensor = T>>(&self, ops: &O, architecture: &Architecture, grid: usize) -> Result<Network<T>> {
        let derived = self.kept.derive(architecture.taps(), grid)?;
        Network::load(architecture, grid, &mut |name, shape| self.tensor(ops, &derived, name, shape))
    }

    fn tensor<O: Ops<Tensor = T>>(&self, ops: &O, derived: &Derived, name: &str, shape: &[usize]) -> Result<T> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.kept.upload(ops, derived, name, shape),
        }
    }
}
