//! Weights that go to an executor one by one, before all of them are there.

use std::collections::BTreeMap;

use super::derived::is_derived;
use super::load::place;
use crate::Result;
use crate::model::config::ModelConfig;
use crate::model::dinomaly::Dinomaly;
use crate::ops::Ops;
use crate::tensor::HostTensor;
use crate::tensor::named::Weights;

/// Tensors of a model on an executor, by name, and the few that the host still needs.
#[derive(Clone, Debug)]
pub struct Uploaded<T> {
    tensors: BTreeMap<String, T>,
    /// What the encoder takes in another form than it is stored in: small tensors.
    kept: Weights,
}

impl<T> Default for Uploaded<T> {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), kept: Weights::default() }
    }
}

impl<T: Clone> Uploaded<T> {
    /// Takes a tensor of a model to the executor, under the name that it is stored by.
    ///
    /// # Errors
    /// If the executor has no room for it.
    pub fn put<O: Ops<Tensor = T>>(&mut self, ops: &O, name: String, tensor: HostTensor) -> Result<()> {
        if is_derived(&name) {
            self.kept.0.insert(name, tensor);
        } else {
            let placed = place(ops, &name, &tensor)?;
            self.tensors.insert(name, placed);
        }
        Ok(())
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.kept.0.contains_key(name)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len() + self.kept.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Builds the whole detector for an input of `grid × grid` patches; `ops` is the executor that the tensors are on.
    ///
    /// # Errors
    /// A missing tensor, by name, or the executor's refusal.
    pub fn dinomaly<O: Ops<Tensor = T>>(&self, ops: &O, config: &ModelConfig, grid: usize) -> Result<Dinomaly<T>> {
        let derived = self.kept.derive(config, grid)?;
        Dinomaly::load(config, grid, &mut |name, shape| match self.tensors.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => self.kept.upload(ops, &derived, name, shape),
        })
    }
}
