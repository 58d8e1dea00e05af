//! When a run writes a checkpoint before its end.

use std::time::Duration;

/// What lies between two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// So many iterations.
    Iterations(usize),
    /// At least so much time: a checkpoint costs what it costs, however fast the steps are.
    Time(Duration),
}

impl Default for Interval {
    /// A minute: so much is lost by a crash, and copying the state of a large model takes a hundredth of it.
    fn default() -> Self {
        Self::Time(Duration::from_secs(60))
    }
}

impl Interval {
    /// Whether it is over after so many iterations of the run and so much time since the last checkpoint.
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
