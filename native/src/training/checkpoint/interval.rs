//! The interval between checkpoints.

use std::time::Duration;

/// Interval between two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// A number of iterations.
    Iterations(usize),
    /// At least this time. A checkpoint takes the same time however fast the steps are.
    Time(Duration),
}

impl Default for Interval {
    /// A minute. A crash loses no more than that, and copying the state of a large model takes a hundredth of it.
    fn default() -> Self {
        Self::Time(Duration::from_secs(60))
    }
}

impl Interval {
    /// Whether a checkpoint is due, after `iterations` of the run and `time` since the last checkpoint.
    pub fn is_over(self, iterations: usize, time: Duration) -> bool {
        match self {
            Self::Iterations(every) => iterations.is_multiple_of(every),
            Self::Time(least) => time >= least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_or_the_clock_decide() {
        let over = |interval: Interval| {
            [(3, 59), (4, 59), (5, 60), (6, 500)].map(|(i, s)| interval.is_over(i, Duration::from_secs(s)))
        };
        assert_eq!(over(Interval::Iterations(2)), [false, true, false, true]);
        assert_eq!(over(Interval::default()), [false, false, true, true]);
    }
}
