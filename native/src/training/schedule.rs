//! Learning rate and hard-mining rate over the iterations of a run, as in the official scripts.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::training::loss::HardMining;

/// All values that change with the iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Iterations of the whole run.
    pub iterations: usize,
    /// Iterations of linear warm-up. The first runs at rate 0: parameters do not move, moments do.
    pub warmup: usize,
    /// Peak learning rate.
    pub peak: f64,
    /// Learning rate at the end of the cosine.
    pub last: f64,
    /// Largest share of easy points.
    pub mining_rate: f64,
    /// Iterations of the linear rise to that share; 0 for none.
    pub mining_warmup: usize,
    /// Factor on the gradient of easy points.
    pub mining_factor: f64,
}

impl Schedule {
    /// The official multi-class schedule, for a run of `iterations`.
    pub fn official(iterations: usize) -> Self {
        Self {
            iterations,
            warmup: 100,
            peak: 2e-3,
            last: 2e-4,
            mining_rate: 0.9,
            mining_warmup: 1000,
            mining_factor: 0.1,
        }
    }

    /// Learning rate at an iteration, counted from 0: `linspace(0, peak, warmup)`, then a cosine from
    /// `peak` to `last`, then `last`.
    pub fn learning_rate(&self, iteration: usize) -> f64 {
        if iteration < self.warmup {
            return self.peak * iteration as f64 / (self.warmup.max(2) - 1) as f64;
        }
        if iteration >= self.iterations {
            return self.last;
        }
        let progress = (iteration - self.warmup) as f64 / (self.iterations - self.warmup) as f64;
        self.last + 0.5 * (self.peak - self.last) * (1.0 + (PI * progress).cos())
    }

    /// Hard mining at an iteration: `min(rate * iteration / mining_warmup, rate)`.
    pub fn mining(&self, iteration: usize) -> HardMining {
        let rate = if self.mining_warmup == 0 {
            self.mining_rate
        } else {
            (self.mining_rate * iteration as f64 / self.mining_warmup as f64).min(self.mining_rate)
        };
        HardMining { rate, factor: self.mining_factor }
    }
}
