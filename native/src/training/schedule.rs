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
    /// Rate of the last of them.
    #[serde(default, skip_serializing_if = "WarmupEnd::is_default")]
    pub warmup_end: WarmupEnd,
    /// Peak learning rate.
    pub peak: f64,
    /// Peak learning rate of the bottleneck's first layer, whose rate then is in the same proportion throughout; if absent, that of
    /// all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_layer_peak: Option<f64>,
    /// Learning rate at the end of the cosine; the peak for a constant rate after the warm-up.
    pub last: f64,
    /// Largest share of easy points.
    pub mining_rate: f64,
    /// Iterations of the linear rise to that share; 0 for none.
    pub mining_warmup: usize,
    /// Factor on the gradient of easy points.
    pub mining_factor: f64,
}

/// Learning rate of the last iteration of warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmupEnd {
    /// The peak: `linspace(0, peak, warmup)`, as in Dinomaly.
    #[default]
    AtPeak,
    /// One step below the peak: `peak · iteration / warmup`, as in Dinomaly2.
    BelowPeak,
}

impl WarmupEnd {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::AtPeak, Self::BelowPeak];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtPeak => "at-peak",
            Self::BelowPeak => "below-peak",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Schedule {
    /// The official multi-class schedule, for a run of `iterations`.
    pub fn official(iterations: usize) -> Self {
        Self {
            iterations,
            warmup: 100,
            warmup_end: WarmupEnd::AtPeak,
            peak: 2e-3,
            first_layer_peak: None,
            last: 2e-4,
            mining_rate: 0.9,
            mining_warmup: 1000,
            mining_factor: 0.1,
        }
    }

    /// Learning rate at an iteration, counted from 0: warm-up, then a cosine from `peak` to `last`, then `last`.
    pub fn learning_rate(&self, iteration: usize) -> f64 {
        self.between(iteration, self.peak, self.last)
    }

    /// Learning rate of the bottleneck's first layer.
    pub fn first_layer_rate(&self, iteration: usize) -> f64 {
        match self.first_layer_peak {
            Some(peak) => self.between(iteration, peak, peak * (self.last / self.peak)),
            None => self.learning_rate(iteration),
        }
    }

    fn between(&self, iteration: usize, peak: f64, last: f64) -> f64 {
        if iteration < self.warmup {
            return match self.warmup_end {
                WarmupEnd::AtPeak => peak * iteration as f64 / (self.warmup.max(2) - 1) as f64,
                WarmupEnd::BelowPeak => peak * (iteration as f64 / self.warmup as f64),
            };
        }
        if iteration >= self.iterations {
            return last;
        }
        let progress = (iteration - self.warmup) as f64 / (self.iterations - self.warmup) as f64;
        last + 0.5 * (peak - last) * (1.0 + (PI * progress).cos())
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
