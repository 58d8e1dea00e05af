//! Memory of results, used again by the next result of the same size: fresh pages would have to be zeroed and mapped for every
//! operation.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Values that no tensor holds at the moment, by their number. A net has few sizes, each used in every block.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<HashMap<usize, Vec<Vec<f32>>>>);

/// Values on loan; dropping them gives them back.
#[derive(Debug)]
pub(super) struct Lease {
    values: Vec<f32>,
    pool: Arc<Pool>,
}

impl Pool {
    /// So many values, whatever they are.
    pub fn take(self: &Arc<Self>, count: usize) -> Lease {
        let idle = self.idle().get_mut(&count).and_then(Vec::pop);
        Lease { values: idle.unwrap_or_else(|| vec![0.0; count]), pool: self.clone() }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<Vec<f32>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.pool.idle().entry(values.len()).or_default().push(values);
    }
}

impl Deref for Lease {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}
