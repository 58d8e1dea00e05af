//! Pool of result buffers, reused by later results of the same size. Fresh memory pages would have to be mapped and zeroed for
//! every operation.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Free buffers by number of values. A net has few sizes, each used in every block.
#[derive(Debug, Default)]
pub(super) struct Pool(RefCell<HashMap<usize, Vec<Vec<f32>>>>);

/// Buffer in use; returns to its pool on drop.
#[derive(Debug)]
pub(super) struct Lease {
    values: Vec<f32>,
    pool: Rc<Pool>,
}

impl Pool {
    /// Buffer of `count` unspecified values.
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
