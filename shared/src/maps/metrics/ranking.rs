//! Sorted scores: all metrics that depend on order only, in one pass over the anomalous scores.

use crate::{Error, Result};

/// Addition to the denominator of F1 in the official code.
const F1_EPSILON: f64 = 1e-7;

/// Sorted scores of normal and of anomalous items (photos or pixels).
///
/// Scores are stored as 4-byte integers of the same order, which sort faster than floats.
#[derive(Clone, Debug)]
pub struct Ranking {
    normal: Vec<u32>,
    anomalous: Vec<u32>,
}

/// Best F1 and its threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct F1Max {
    /// The highest F1, 0..1.
    pub value: f64,
    /// Lowest score that counts as anomalous (`>=`); the lowest threshold if several are equally good.
    pub threshold: f32,
}

/// Counts at one distinct score of anomalous items.
struct Step {
    threshold: f32,
    /// Number of anomalous items of this score.
    anomalous: usize,
    /// Number of anomalous items of this or a higher score.
    true_positives: usize,
    /// Number of normal items of this or a higher score.
    false_positives: usize,
    /// Number of normal items of this score.
    tied: usize,
}

impl Ranking {
    /// Sorts scores that are given in parts (one for all photos, or one map per photo). A part's labels are true for anomalous
    /// scores; a part without labels is normal. `what` names the scores in errors.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there are no scores or one is not finite, [`Error::Shape`] if labels do not fit their scores.
    pub fn new(what: &str, parts: &[(&[f32], Option<&[bool]>)]) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Tensor { name: what.into(), reason });
        let mut anomalous = 0;
        for (i, (scores, labels)) in parts.iter().enumerate() {
            if let Some(labels) = labels {
                if labels.len() != scores.len() {
                    let name = format!("labels of part {i} of the {what}");
                    return Err(Error::Shape { name, expected: vec![scores.len()], found: vec![labels.len()] });
                }
                anomalous += labels.iter().filter(|&&l| l).count();
            }
            if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
                return refuse(format!("value {at} of part {i} is {}, expected a finite number", scores[at]));
            }
        }
        let total: usize = parts.iter().map(|(scores, _)| scores.len()).sum();
        if total == 0 {
            return refuse("there are no values to rank".into());
        }
        let mut ranking =
            Self { normal: Vec::with_capacity(total - anomalous), anomalous: Vec::with_capacity(anomalous) };
        for (scores, labels) in parts {
            match labels {
                None => ranking.normal.extend(scores.iter().map(|&s| key(s))),
                Some(labels) => {
                    for (&score, &label) in scores.iter().zip(*labels) {
                        if label { &mut ranking.anomalous } else { &mut ranking.normal }.push(key(score));
                    }
                }
            }
        }
        ranking.normal.sort_unstable();
        ranking.anomalous.sort_unstable();
        Ok(ranking)
    }

    /// Number of normal scores.
    pub fn normal(&self) -> usize {
        self.normal.len()
    }

    /// Number of anomalous scores.
    pub fn anomalous(&self) -> usize {
        self.anomalous.len()
    }

    /// Lowest and highest score.
    pub fn range(&self) -> (f32, f32) {
        let ends = |keys: &[u32]| keys.first().copied().zip(keys.last().copied());
        let both = [ends(&self.normal), ends(&self.anomalous)];
        let (lows, highs): (Vec<_>, Vec<_>) = both.into_iter().flatten().unzip();
        let end = |key: Option<&u32>| score(*key.expect("a ranking holds at least one score"));
        (end(lows.iter().min()), end(highs.iter().max()))
    }

    /// Number of normal scores strictly above a threshold.
    pub fn normal_above(&self, threshold: f32) -> usize {
        self.normal.len() - self.normal.partition_point(|&k| k <= key(threshold))
    }

    /// Area under the receiver operating characteristic: the probability that an anomalous score is above a normal one, where
    /// ties count half. Exact except for the last division.
    ///
    /// # Errors
    /// [`Error::Metric`] if there are no normal or no anomalous scores.
    pub fn auroc(&self) -> Result<f64> {
        let (normal, anomalous) = (self.normal.len(), self.anomalous.len());
        if normal == 0 || anomalous == 0 {
            let reason = format!("it compares anomalous with normal, found {anomalous} anomalous and {normal} normal");
            return Err(Error::Metric { metric: "AUROC", reason });
        }
        let half_wins = |s: Step| s.anomalous as u128 * (2 * (normal - s.false_positives) + s.tied) as u128;
        let wins: u128 = self.steps().map(half_wins).sum();
        Ok(wins as f64 / (2.0 * normal as f64 * anomalous as f64))
    }

    /// Average precision `Σ (R_n - R_(n-1)) P_n`, as in scikit-learn. If there are no anomalous scores, recall is undefined and
    /// the result is 0, as there.
    pub fn average_precision(&self) -> f64 {
        let precisions: f64 = self.steps().map(|s| s.anomalous as f64 * s.precision()).sum();
        precisions / self.anomalous.len().max(1) as f64
    }

    /// Highest `2PR / (P + R + 1e-7)` over all thresholds, as in the official code. If there are no anomalous scores, 0 at the
    /// lowest score, as there.
    pub fn f1_max(&self) -> F1Max {
        let all = self.anomalous.len() as f64;
        // Between two anomalous scores recall is constant and precision falls with the threshold: the maximum is at one of them.
        let mut best = F1Max { value: 0.0, threshold: self.range().0 };
        for step in self.steps() {
            let (precision, recall) = (step.precision(), step.true_positives as f64 / all);
            let value = 2.0 * precision * recall / (precision + recall + F1_EPSILON);
            if value >= best.value {
                best = F1Max { value, threshold: step.threshold };
            }
        }
        best
    }

    /// Receiver operating characteristic from (0, 0) to (1, 1): shares of normal and of anomalous scores at or above falling
    /// thresholds, joined by straight lines. Its area is [`Ranking::auroc`]. NaN if there are no normal or no anomalous scores.
    pub fn roc(&self) -> impl Iterator<Item = (f64, f64)> {
        let (normal, anomalous) = (self.normal.len() as f64, self.anomalous.len() as f64);
        let corners = self.steps().flat_map(|s| {
            [(s.false_positives - s.tied, s.true_positives - s.anomalous), (s.false_positives, s.true_positives)]
        });
        let all = (self.normal.len(), self.anomalous.len());
        let corners = std::iter::once((0, 0)).chain(corners).chain([all]);
        corners.map(move |(false_positives, true_positives)| {
            (false_positives as f64 / normal, true_positives as f64 / anomalous)
        })
    }

    /// Recall and precision at each distinct anomalous score, highest first. The curve is a step function: each precision holds
    /// from the previous recall on. Its area is [`Ranking::average_precision`].
    pub fn precision_recall(&self) -> impl Iterator<Item = (f64, f64)> {
        let anomalous = self.anomalous.len() as f64;
        self.steps().map(move |s| (s.true_positives as f64 / anomalous, s.precision()))
    }

    /// Distinct anomalous scores, highest first.
    fn steps(&self) -> impl Iterator<Item = Step> {
        let (mut true_positives, mut below) = (0, self.normal.len());
        self.anomalous.chunk_by(|a, b| a == b).rev().map(move |ties| {
            let key = ties[0];
            while below > 0 && self.normal[below - 1] > key {
                below -= 1;
            }
            let not_above = below;
            while below > 0 && self.normal[below - 1] == key {
                below -= 1;
            }
            true_positives += ties.len();
            Step {
                threshold: score(key),
                anomalous: ties.len(),
                true_positives,
                false_positives: self.normal.len() - below,
                tied: not_above - below,
            }
        })
    }
}

/// AUROC, average precision and F1-max of scores that are given in order, where each may count several times. The same sums as those of
/// [`Ranking`].
#[derive(Clone, Debug)]
pub(super) struct Counted {
    normal: u64,
    anomalous: u64,
    false_positives: u64,
    true_positives: u64,
    half_wins: u128,
    precisions: f64,
    f1_max: f64,
}

impl Counted {
    /// Of so many scores.
    pub fn new(normal: u64, anomalous: u64) -> Self {
        let (half_wins, precisions, f1_max) = (0, 0.0, 0.0);
        Self { normal, anomalous, false_positives: 0, true_positives: 0, half_wins, precisions, f1_max }
    }

    /// Adds equal scores, which are lower than those before.
    pub fn add(&mut self, normal: u64, anomalous: u64) {
        self.false_positives += normal;
        if anomalous == 0 {
            return;
        }
        self.true_positives += anomalous;
        self.half_wins += u128::from(anomalous) * u128::from(2 * (self.normal - self.false_positives) + normal);
        let precision = self.true_positives as f64 / (self.true_positives + self.false_positives) as f64;
        self.precisions += anomalous as f64 * precision;
        let recall = self.true_positives as f64 / self.anomalous as f64;
        self.f1_max = self.f1_max.max(2.0 * precision * recall / (precision + recall + F1_EPSILON));
    }

    /// The three metrics of all scores; `None` for an undefined one.
    pub fn metrics(&self) -> [Option<f64>; 3] {
        let (normal, anomalous) = (self.normal as f64, self.anomalous as f64);
        let wins = self.half_wins as f64 / (2.0 * normal * anomalous);
        let defined = |is: bool, value: f64| is.then_some(value);
        [
            defined(self.normal > 0 && self.anomalous > 0, wins),
            defined(self.anomalous > 0, self.precisions / anomalous),
            defined(self.anomalous > 0, self.f1_max),
        ]
    }
}

impl Step {
    fn precision(&self) -> f64 {
        self.true_positives as f64 / (self.true_positives + self.false_positives) as f64
    }
}

/// Integer of the same order as the finite float; both zeros are equal.
pub(super) fn key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// Inverse of [`key`].
fn score(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(normal: &[f32], anomalous: &[f32]) -> Ranking {
        let labels = vec![true; anomalous.len()];
        Ranking::new("scores", &[(normal, None), (anomalous, Some(&labels))]).unwrap()
    }

    #[test]
    fn keys_are_in_the_order_of_the_floats() {
        let floats = [f32::MIN, -1.5, -1e-40, 0.0, 1e-40, 0.3, 0.300_000_04, f32::MAX];
        assert!(floats.map(key).is_sorted_by(|a, b| a < b));
        assert_eq!(floats.map(|f| score(key(f))), floats);
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn every_pair_counts_and_ties_count_half() {
        // Pairs won: 0.5 beats 0.1 and ties with 0.5; 0.2 beats 0.1; 0.9 beats all three: 1.5 + 1 + 3 of 9.
        let r = ranking(&[0.1, 0.5, 0.8], &[0.5, 0.2, 0.9]);
        assert!((r.auroc().unwrap() - 5.5 / 9.0).abs() < 1e-15);
    }

    #[test]
    fn precision_is_averaged_at_each_anomalous_score() {
        // 0.9: 1 of 1; 0.5: 2 of 4 (0.8 and the tied 0.5 are normal); 0.2: 3 of 5.
        let r = ranking(&[0.1, 0.5, 0.8], &[0.5, 0.2, 0.9]);
        assert!((r.average_precision() - (1.0 + 0.5 + 0.6) / 3.0).abs() < 1e-15);
        let best = r.f1_max();
        assert_eq!(best.threshold, 0.2);
        assert!((best.value - 2.0 * 0.6 / 1.600_000_1).abs() < 1e-12);
    }

    #[test]
    fn equally_good_thresholds_give_the_lowest() {
        // Precision 1 and recall ½ at 0.9, precision ½ and recall 1 at 0.1.
        let best = ranking(&[0.5, 0.6], &[0.1, 0.9]).f1_max();
        assert_eq!(best.threshold, 0.1);
    }

    #[test]
    fn areas_below_the_curves_are_the_metrics() {
        let r = ranking(&[0.1, 0.5, 0.8, 0.1, 0.3], &[0.5, 0.2, 0.9, 0.9, 0.1]);
        let roc: Vec<_> = r.roc().collect();
        assert_eq!((roc[0], roc[roc.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        let area: f64 = roc.windows(2).map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0).sum();
        assert!((area - r.auroc().unwrap()).abs() < 1e-15, "{area}");
        let mut before = 0.0;
        let area: f64 = r.precision_recall().map(|(x, y)| (x - std::mem::replace(&mut before, x)) * y).sum();
        assert!((area - r.average_precision()).abs() < 1e-15 && before == 1.0, "{area}");
        // Half of the anomalous scores before the first normal one, which is above the others.
        assert_eq!(
            ranking(&[0.5], &[0.4, 0.6]).roc().collect::<Vec<_>>(),
            [(0.0, 0.0), (0.0, 0.0), (0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (1.0, 1.0)]
        );
    }

    #[test]
    fn zeros_of_both_signs_are_ties() {
        assert_eq!(ranking(&[0.0], &[-0.0]).auroc().unwrap(), 0.5);
    }

    #[test]
    fn one_sided_scores_have_no_auroc() {
        let message = ranking(&[0.5, 0.6], &[]).auroc().unwrap_err().to_string();
        assert!(message.contains("found 0 anomalous and 2 normal"), "{message}");
        assert!(ranking(&[], &[0.5]).auroc().is_err());
    }

    #[test]
    fn counts_above_a_threshold_are_strict() {
        let r = ranking(&[-1.0, 0.5, 0.5, 0.7], &[3.0]);
        assert_eq!([-2.0, -1.0, 0.5, 0.7].map(|t| r.normal_above(t)), [4, 3, 1, 0]);
        assert_eq!(r.range(), (-1.0, 3.0));
    }

    #[test]
    fn unusable_scores_are_refused() {
        let message = |parts: &[(&[f32], Option<&[bool]>)]| Ranking::new("maps", parts).unwrap_err().to_string();
        assert!(message(&[(&[0.1], None), (&[0.1, f32::NAN], None)]).contains("maps: value 1 of part 1 is NaN"));
        assert!(message(&[(&[0.1, 0.2], Some(&[true]))]).contains("labels of part 0 of the maps"));
        assert!(message(&[]).contains("no values to rank"));
    }
}
