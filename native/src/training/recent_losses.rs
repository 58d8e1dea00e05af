//! How far a run is, and the losses of its last iterations. All losses would grow with the run, in memory and in every checkpoint.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Number of losses that are kept and averaged, because single ones are noisy.
const KEPT: usize = 100;

/// Number of finished iterations, and the losses of the last hundred.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct RecentLosses {
    iterations: usize,
    /// Null in JSON if it is not finite.
    last: VecDeque<f64>,
}

/// What checkpoints hold; earlier ones have the losses of all iterations.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Recent { iterations: usize, last: Vec<Option<f64>> },
    All(Vec<Option<f64>>),
}

impl From<Stored> for RecentLosses {
    fn from(stored: Stored) -> Self {
        let (before, losses) = match stored {
            Stored::Recent { iterations, last } => (iterations.saturating_sub(last.len()), last),
            Stored::All(losses) => (0, losses),
        };
        let mut recent = Self { iterations: before, last: VecDeque::new() };
        losses.into_iter().for_each(|loss| recent.push(loss.unwrap_or(f64::NAN)));
        recent
    }
}

impl RecentLosses {
    /// Counts a further iteration.
    pub fn push(&mut self, loss: f64) {
        self.iterations += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(loss);
    }

    /// Number of finished iterations.
    pub fn iterations(&self) -> usize {
        self.iterations
    }

    /// Mean of the finite ones of the last losses.
    pub fn mean(&self) -> f64 {
        let finite = || self.last.iter().filter(|loss| loss.is_finite());
        finite().sum::<f64>() / finite().count().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_kept_and_averaged() {
        let mut losses = RecentLosses::default();
        assert_eq!((losses.iterations(), losses.mean()), (0, 0.0));
        let mut lengths = Vec::new();
        for i in 0..10_000 {
            losses.push(if i % 2 == 0 { 0.5 } else { f64::NAN });
            lengths.push(serde_json::to_string(&losses).unwrap().len());
        }
        assert_eq!((losses.iterations(), losses.mean()), (10_000, 0.5));
        assert!(lengths[9_999] < lengths[200] + 10, "a checkpoint grows: {} and {}", lengths[200], lengths[9_999]);
        (0..100).for_each(|i| losses.push(f64::from(i)));
        assert_eq!((losses.iterations(), losses.mean()), (10_100, 49.5));
    }

    #[test]
    fn checkpoints_are_read_those_with_all_losses_too() {
        let mut losses = RecentLosses::default();
        (0..150).for_each(|i| losses.push(if i == 149 { f64::NAN } else { 1.0 / f64::from(i + 1) }));
        let all: Vec<Option<f64>> = (0..150).map(|i| (i < 149).then(|| 1.0 / f64::from(i + 1))).collect();
        for text in [serde_json::to_string(&losses).unwrap(), serde_json::to_string(&all).unwrap()] {
            let read: RecentLosses = serde_json::from_str(&text).unwrap();
            assert_eq!((read.iterations(), read.mean()), (150, losses.mean()));
        }
    }
}
