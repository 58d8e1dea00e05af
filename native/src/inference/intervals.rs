//! Confidence intervals of metrics by the bootstrap: the photos of each class are drawn again, with replacement, as many good ones and as
//! many defective ones as there are. An interval reaches from the 2.5th to the 97.5th percentile of the metric over the resamples.

use dinomaly_core::maps::metrics::{Resampled, Sample, Thresholds};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::system::progress::Progress;

/// Ends of the intervals, as shares of the resamples.
const ENDS: [f64; 2] = [0.025, 0.975];

/// How intervals are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalPlan {
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of their photos.
    pub seed: u64,
}

impl IntervalPlan {
    /// Number of resamples if none is given.
    pub const USUAL: &str = "1000";
}

/// The lower and upper end of a metric's 95 % interval, as shares of 1; `None` if the metric is undefined in a resample.
pub type Interval = Option<[f64; 2]>;

/// Intervals of a class's metrics, or of the means over classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Number of resamples.
    pub resamples: usize,
    /// Their seed.
    pub seed: u64,
    /// Image AUROC.
    pub i_auroc: Interval,
    /// Image average precision.
    pub i_ap: Interval,
    /// Image F1-max.
    pub i_f1max: Interval,
    /// Pixel AUROC.
    pub p_auroc: Interval,
    /// Pixel average precision.
    pub p_ap: Interval,
    /// Pixel F1-max.
    pub p_f1max: Interval,
    /// AUPRO, at the thresholds of all photos.
    pub aupro: Interval,
    /// AUPIMO.
    pub aupimo: Interval,
    /// F1 of photos at the model's threshold.
    pub i_f1: Interval,
    /// F1 of pixels at the model's pixel threshold.
    pub seg_f1: Interval,
}

impl Intervals {
    /// Names of the metrics, in the order of [`Intervals::values`].
    pub const NAMES: [&'static str; 10] = Resampled::NAMES;

    /// The intervals, in the order of [`Intervals::NAMES`].
    pub fn values(&self) -> [Interval; 10] {
        [
            self.i_auroc,
            self.i_ap,
            self.i_f1max,
            self.p_auroc,
            self.p_ap,
            self.p_f1max,
            self.aupro,
            self.aupimo,
            self.i_f1,
            self.seg_f1,
        ]
    }

    /// Intervals of the means over classes: in each resample the mean over the classes that have the metric. If one of them has it in some
    /// resamples only, there is no interval: one of the other classes is none of the mean.
    pub(super) fn of_mean(plan: IntervalPlan, classes: &[&Replicates]) -> Self {
        let mean = |resample: usize| {
            std::array::from_fn(|metric| {
                let having = classes.iter().filter(|class| class.0.iter().any(|values| values[metric].is_some()));
                let values = having.map(|class| class.0[resample][metric]).collect::<Option<Vec<f64>>>()?;
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            })
        };
        Replicates((0..plan.resamples).map(mean).collect()).intervals(plan)
    }

    /// What the intervals are, as a heading.
    pub fn about(&self) -> String {
        format!(
            "Intervals of 95 % in percent: photos of each class drawn {} times, good and defective ones apart (seed {})",
            self.resamples, self.seed
        )
    }
}

/// Intervals of one product's photos, of any detector.
///
/// # Errors
/// If a score is not finite or a mask does not fit its map.
pub fn intervals(plan: IntervalPlan, samples: &[Sample<'_>], at: Thresholds) -> dinomaly_core::Result<Intervals> {
    let anomalous: Vec<bool> = samples.iter().map(|sample| sample.anomalous).collect();
    Ok(Replicates::new(plan, 0, &anomalous, &Resampled::new(samples, at)?).intervals(plan))
}

/// The metrics of each resample.
#[derive(Clone, Debug)]
pub(super) struct Replicates(Vec<[Option<f64>; 10]>);

impl Replicates {
    /// Of the class at a place in the data set, whose photos have these labels.
    pub fn new(plan: IntervalPlan, place: usize, anomalous: &[bool], photos: &Resampled) -> Self {
        let progress = Progress::new("resampling", plan.resamples, "times");
        let replicate = |i: usize| {
            let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
            random.set_stream((place as u64) << 32 | i as u64);
            let metrics = photos.metrics(&drawn(anomalous, &mut random));
            progress.advance(1, String::new);
            metrics
        };
        let replicates = (0..plan.resamples).into_par_iter().map(replicate).collect();
        progress.finish();
        Self(replicates)
    }

    /// The intervals of each metric.
    pub fn intervals(&self, plan: IntervalPlan) -> Intervals {
        let interval = |metric: usize| {
            let mut values = self.0.iter().map(|replicate| replicate[metric]).collect::<Option<Vec<f64>>>()?;
            values.sort_unstable_by(f64::total_cmp);
            (!values.is_empty()).then(|| ENDS.map(|share| quantile(&values, share)))
        };
        let [i_auroc, i_ap, i_f1max, p_auroc, p_ap, p_f1max, aupro, aupimo, i_f1, seg_f1] =
            std::array::from_fn(interval);
        let IntervalPlan { resamples, seed } = plan;
        Intervals { resamples, seed, i_auroc, i_ap, i_f1max, p_auroc, p_ap, p_f1max, aupro, aupimo, i_f1, seg_f1 }
    }
}

/// How often each photo is drawn.
fn drawn(anomalous: &[bool], random: &mut ChaCha8Rng) -> Vec<u32> {
    let mut times = vec![0; anomalous.len()];
    for label in [false, true] {
        let photos: Vec<usize> = (0..anomalous.len()).filter(|&i| anomalous[i] == label).collect();
        for _ in 0..photos.len() {
            times[photos[random.random_range(0..photos.len())]] += 1;
        }
    }
    times
}

/// The value at a share of ascending values, interpolated as numpy does it.
fn quantile(values: &[f64], share: f64) -> f64 {
    let at = share * (values.len() - 1) as f64;
    let (below, part) = (at as usize, at.fract());
    let above = (below + 1).min(values.len() - 1);
    values[below] + (values[above] - values[below]) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicates(seed: u64, scores: &[f32], anomalous: &[bool]) -> Replicates {
        let sample =
            |(&score, &anomalous): (&f32, &bool)| Sample { map: &[0.0], width: 1, mask: None, anomalous, score };
        let samples: Vec<Sample> = scores.iter().zip(anomalous).map(sample).collect();
        let photos = Resampled::new(&samples, Thresholds { image: Some(0.5), pixel: None }).unwrap();
        Replicates::new(IntervalPlan { resamples: 400, seed }, 0, anomalous, &photos)
    }

    #[test]
    fn both_labels_keep_their_numbers() {
        let anomalous = [false, true, false, false, true];
        for seed in 0..20 {
            let times = drawn(&anomalous, &mut ChaCha8Rng::seed_from_u64(seed));
            let sum = |label| times.iter().zip(anomalous).filter(|(_, is)| *is == label).map(|(t, _)| *t).sum::<u32>();
            assert_eq!((sum(false), sum(true)), (3, 2), "{times:?}");
        }
    }

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0], share)), [1.0, 1.5, 2.0, 4.0]);
        assert_eq!(quantile(&[3.0], 0.975), 3.0);
    }

    #[test]
    fn intervals_repeat_and_hold_the_metric() {
        let scores: Vec<f32> =
            (0..60).map(|i| (i * 37 % 60) as f32 / 60.0 + if i % 3 == 0 { 0.3 } else { 0.0 }).collect();
        let anomalous: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
        let plan = |seed| IntervalPlan { resamples: 400, seed };
        let of = |seed| replicates(seed, &scores, &anomalous).intervals(plan(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1).i_auroc, of(2).i_auroc);
        let [low, high] = of(1).i_auroc.unwrap();
        assert!(low < 0.82 && 0.82 < high && high - low < 0.3, "{low} {high}");
        assert_eq!((of(1).p_auroc, of(1).seg_f1), (None, None));
        let perfect = replicates(1, &[0.1, 0.2, 0.9, 0.8], &[false, false, true, true]).intervals(plan(1));
        assert_eq!((perfect.i_auroc, perfect.i_f1), (Some([1.0, 1.0]), Some([1.0, 1.0])));
    }

    /// SciPy 1.17.1's bootstrap of two samples, percentile method, seeds 0 and 1 of 10,000 resamples: tests/peers/pimo.py prints it.
    #[test]
    fn the_ends_are_those_of_scipy() {
        let mut state = 12_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let anomalous: Vec<bool> = (0..40).map(|i| i >= 30).collect();
        let scores: Vec<f32> = anomalous.iter().map(|&is| next() + if is { 0.3 } else { 0.0 }).collect();
        let sample =
            |(&score, &anomalous): (&f32, &bool)| Sample { map: &[0.0], width: 1, mask: None, anomalous, score };
        let samples: Vec<Sample> = scores.iter().zip(&anomalous).map(sample).collect();
        let plan = IntervalPlan { resamples: 10_000, seed: 0 };
        let found = intervals(plan, &samples, Thresholds { image: Some(0.75), pixel: None }).unwrap();
        // Seeds of SciPy differ by up to a step of F1, which is 0.014 here.
        for (ends, scipy) in
            [(found.i_auroc, [0.7633, 0.99]), (found.i_ap, [0.6605, 0.9769]), (found.i_f1, [0.4346, 0.8571])]
        {
            let ends = ends.unwrap();
            assert!((0..2).all(|i| (ends[i] - scipy[i]).abs() < 0.02), "{ends:?} {scipy:?}");
        }
    }

    #[test]
    fn the_mean_is_over_the_classes_that_have_the_metric() {
        let plan = IntervalPlan { resamples: 2, seed: 0 };
        let class = |values: [Option<f64>; 2]| {
            Replicates(values.map(|value| [value, None, None, None, None, None, None, None, None, None]).to_vec())
        };
        let (a, b, without) = (class([Some(0.2), Some(0.4)]), class([Some(0.6), Some(0.8)]), class([None, None]));
        let found = Intervals::of_mean(plan, &[&a, &b, &without]);
        let [low, high] = found.i_auroc.unwrap();
        assert!((low - 0.405).abs() < 1e-12 && (high - 0.595).abs() < 1e-12, "{low} {high}");
        assert_eq!(found.i_ap, None);
        // The mean counts a class that has the metric in some resamples only, and these means would not.
        let gap = class([Some(0.0), None]);
        assert_eq!(Intervals::of_mean(plan, &[&a, &b, &gap]).i_auroc, None);
    }
}
