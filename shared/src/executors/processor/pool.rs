//! Memory of results, used again by the next result of the same size: fresh pages would have to be zeroed and mapped for every
//! operation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Values that no tensor holds at the moment, by their number. A net has few sizes, each used in every block.
#[derive(Debug, Default)]
pub(super) struct Pool(RefCell<HashMap<usize, Vec<Vec<f32>>>>);

/// Values on loan; dropping them gives them back.
#[derive(Debug)]
pub(super) struct Lease {
    values: Vec<f32>,
    pool: Rc<Pool>,
}

impl Pool {
    /// So many values, whatever they are.
    pub fn take(self: &Rc<Self>, count: usize) -> Lease {
        let idle = self.0.borrow_mut().get_mut(&count).and_then(Vec::pop);
        Lease { values: idle.unwrap_or_else(|| vec![0.0; count]), pool: self.clone() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.pool.0.borrow_mut().entry(values.len()).or_default().push(values);
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
