//! Scores of good photos → the threshold above which a photo is defective; highest values of their maps → that of pixels.

use std::collections::BTreeMap;

use super::{Measured, descriptors, student};
use crate::bundle::{Calibration, ClassCalibration, ScoreStatistics};
use crate::{Error, Result};

/// Scores of photos by class.
pub type Scores = BTreeMap<String, Vec<f32>>;

/// Share of good photos that may be called defective, if none is given.
pub const FALSE_ALARM_RATE: f64 = 0.01;

/// Number of good photos that tell how scores spread.
pub const ENOUGH: usize = 5;

/// Rounding error of cosine distances: smaller scores are raised to this value before the logarithm.
const SMALLEST_SCORE: f64 = 1e-6;

/// Relative difference of scores that is rounding.
const ROUNDING: f64 = 1e-5;

/// Share of good photos that thresholds may call defective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// This one for every class.
    Asked(f64),
    /// [`FALSE_ALARM_RATE`] or, of `n` photos of a class, too few to promise that, `1 / (n + 1)`: that of the highest score as the
    /// threshold, for any distribution.
    Promised,
}

impl Rate {
    /// The rate of a class of so many photos.
    fn of(self, photos: usize) -> f64 {
        match self {
            Self::Asked(rate) => rate,
            Self::Promised => FALSE_ALARM_RATE.max(1.0 / (photos + 1) as f64),
        }
    }
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Self {
        Self::Asked(rate)
    }
}

/// Classes that have too few photos to tell their thresholds, each with the reason as a sentence.
pub fn doubts(by_class: &Scores, rate: impl Into<Rate>) -> BTreeMap<&str, String> {
    let rate = rate.into();
    by_class.iter().filter_map(|(name, scores)| Some((name.as_str(), doubt(scores, rate)?))).collect()
}

/// The thresholds of classes and of their pixels, and what their photos look like as a whole, with the arguments of [`of_scores`].
///
/// # Errors
/// As [`of_scores`].
pub fn of_measured(good: &Measured, rate: impl Into<Rate>, held_out: bool) -> Result<Calibration> {
    let rate = rate.into();
    let mut calibration = of_scores(&good.scores, rate, held_out)?;
    set_pixel_thresholds(&mut calibration, &good.peaks, rate);
    for (name, class) in &mut calibration.classes {
        class.good_descriptors = good.descriptors.get(name).and_then(|photos| descriptors::statistics(photos));
    }
    Ok(calibration)
}

/// Sets the pixel thresholds at a rate of false alarms, from the highest values of good photos' maps.
///
/// A false alarm is a good photo with any region at all, because that is what its viewer sees, and neighbouring pixels are no
/// independent trials. A photo has one if its highest value is above the threshold, so what holds for thresholds of scores holds for
/// these.
pub fn set_pixel_thresholds(calibration: &mut Calibration, peaks: &Scores, rate: impl Into<Rate>) {
    let (rate, usual) = (rate.into(), usual_spread(peaks));
    let of = |peaks: &[f32]| Some(threshold(peaks, rate.of(peaks.len()), usual) as f32);
    for (name, class) in &mut calibration.classes {
        class.pixel_threshold = peaks.get(name).and_then(|peaks| of(peaks));
    }
    calibration.overall.pixel_threshold = of(&peaks.values().flatten().copied().collect::<Vec<_>>());
}

fn usual_spread(by_class: &Scores) -> Option<Spread> {
    Spread::usual(&by_class.values().map(|scores| Spread::of(scores)).collect::<Vec<_>>())
}

/// The thresholds of classes, from the scores of their good photos; without those of pixels. `held_out`: whether the model was not made
/// of these photos. The calibration states the highest rate of its classes.
///
/// # Errors
/// [`Error::Config`] if there are no scores, or a score is not finite.
pub fn of_scores(by_class: &Scores, rate: impl Into<Rate>, held_out: bool) -> Result<Calibration> {
    let (rate, usual) = (rate.into(), usual_spread(by_class));
    let class = |scores: &[f32]| -> Result<ClassCalibration> {
        let good_scores = ScoreStatistics::of(scores)?;
        let threshold = threshold(scores, rate.of(scores.len()), usual) as f32;
        Ok(ClassCalibration { threshold, pixel_threshold: None, good_scores, good_descriptors: None })
    };
    if by_class.is_empty() {
        return Err(Error::config("no good photos to set thresholds with"));
    }
    let classes = by_class.iter().map(|(name, scores)| Ok((name.clone(), class(scores)?))).collect::<Result<_>>()?;
    let all: Vec<f32> = by_class.values().flatten().copied().collect();
    let false_alarm_rate = by_class.values().map(|scores| rate.of(scores.len())).fold(0.0, f64::max);
    Ok(Calibration { classes, overall: class(&all)?, held_out, false_alarm_rate })
}

/// What these scores cannot tell about a threshold; `None` with enough of them.
fn doubt(scores: &[f32], rate: impl Into<Rate>) -> Option<String> {
    let promised = rate.into();
    let rate = promised.of(scores.len());
    let found = format!("{} good photo{}", scores.len(), if scores.len() == 1 { "" } else { "s" });
    let (enough, percent) = ((1.0 / rate).ceil() - 1.0, 100.0 * rate);
    if scores.len() > 1 && Spread::of(scores).std < ROUNDING {
        return Some(format!(
            "the scores of {found} are equal: are they one photo, several times? Its threshold is their score"
        ));
    }
    if promised == Rate::Promised && rate > FALSE_ALARM_RATE {
        let (one_in, enough) = (scores.len() + 1, (1.0 / FALSE_ALARM_RATE).round() - 1.0);
        return Some(format!(
            "it is the highest score of {found}: 1 in {one_in} good parts may exceed it; {enough} or more photos promise 1 in 100"
        ));
    }
    if exceeding(scores.len(), rate) > 0 {
        return None;
    }
    if scores.len() < ENOUGH {
        let some = if enough > ENOUGH as f64 { format!("{ENOUGH} or more, ") } else { String::new() };
        return Some(format!(
            "{found} cannot tell how scores spread, let alone what {percent} % of good parts exceed: check its verdicts, and calibrate \
             with {some}{enough} for a promise"
        ));
    }
    (f64::from(largest(scores)) * FARTHEST < unbounded(scores, rate, None)).then(|| {
        format!("the scores of {found} spread so widely that {percent} % is a guess: calibrate with {enough} or more")
    })
}

/// Of so many good photos and one more, how many are called defective at this rate.
fn exceeding(photos: usize, rate: f64) -> usize {
    // 1 / 49 · 49 is rounded to less than 1.
    (rate * (photos + 1) as f64 + 1e-9).floor() as usize
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(0.0, f32::max)
}

/// Largest score: distances of a map lie in 0..=2.
const HIGHEST: f64 = 2.0;

/// A threshold this many times as high as the largest good score is no knowledge but the tail of an assumed distribution.
const FARTHEST: f64 = 3.0;

/// [`unbounded`], but where defective photos can reach it: at most half way, in logarithms, between the largest good score and the
/// highest that there is.
fn threshold(scores: &[f32], rate: f64, usual: Option<Spread>) -> f64 {
    let largest = f64::from(largest(scores)).clamp(SMALLEST_SCORE, HIGHEST);
    unbounded(scores, rate, usual).min((largest * HIGHEST).sqrt())
}

/// The score that the next good photo exceeds with this probability.
///
/// With enough scores it is one of them, for any distribution: the split-conformal quantile (of n + 1 exchangeable scores, the
/// next one is among the k highest with probability k / (n + 1)). Fewer scores tell nothing about so rare an event: then it is
/// the bound of a prediction interval (Student's t) on their logarithms, which are closer to normal than scores with their long
/// upper tail. A class of very few photos gets at least the usual spread of all classes. But it is no lower than the largest
/// score, which the next one exceeds with probability 1 / (n + 1) already: else a rarer alarm could have a lower threshold.
fn unbounded(scores: &[f32], rate: f64, usual: Option<Spread>) -> f64 {
    let n = scores.len();
    let above = exceeding(n, rate);
    if above >= 1 {
        let mut sorted = scores.to_vec();
        sorted.sort_by(f32::total_cmp);
        return sorted[n - above].into();
    }
    let own = Spread::of(scores);
    let spread = match usual {
        Some(usual) if n < ENOUGH && usual.std >= own.std => usual,
        _ => own,
    };
    let largest = f64::from(largest(scores)).max(SMALLEST_SCORE);
    if spread.freedom == 0 {
        return largest;
    }
    let t = student::exceeded_with(rate, spread.freedom);
    (own.mean + t * spread.std * (1.0 + 1.0 / n as f64).sqrt()).exp().max(largest)
}

/// Spread of the logarithms of scores.
#[derive(Clone, Copy)]
struct Spread {
    mean: f64,
    /// Square root of the unbiased variance; 0 if there is no degree of freedom.
    std: f64,
    freedom: usize,
}

impl Spread {
    fn of(scores: &[f32]) -> Self {
        let logarithms: Vec<f64> = scores.iter().map(|&s| f64::from(s).max(SMALLEST_SCORE).ln()).collect();
        // From the first one on: rounding is no spread of equal scores.
        let mean = logarithms[0] + logarithms.iter().map(|l| l - logarithms[0]).sum::<f64>() / logarithms.len() as f64;
        let squares = logarithms.iter().map(|l| (l - mean).powi(2)).sum::<f64>();
        let freedom = logarithms.len() - 1;
        Self { mean, std: (squares / freedom.max(1) as f64).sqrt(), freedom }
    }

    /// The variance within classes, pooled.
    fn usual(classes: &[Self]) -> Option<Self> {
        let freedom: usize = classes.iter().map(|class| class.freedom).sum();
        let squares: f64 = classes.iter().map(|class| class.std.powi(2) * class.freedom as f64).sum();
        (freedom > 0).then(|| Self { mean: 0.0, std: (squares / freedom as f64).sqrt(), freedom })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Sums of twelve uniform numbers are nearly normal.
    fn log_normal(random: &mut ChaCha8Rng) -> f32 {
        let normal: f32 = (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
        (0.3 * normal - 4.0).exp()
    }

    #[test]
    fn so_many_of_the_next_good_photos_are_called_defective() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for (photos, rate) in [(15, 0.01), (15, 0.05), (40, 0.1), (200, 0.01)] {
            let runs = 4000;
            let alarms = (0..runs)
                .filter(|_| {
                    let scores: Vec<f32> = (0..photos).map(|_| log_normal(&mut random)).collect();
                    f64::from(log_normal(&mut random)) > threshold(&scores, rate, None)
                })
                .count();
            let (expected, found) = (rate, alarms as f64 / f64::from(runs));
            let noise = (rate / f64::from(runs)).sqrt();
            assert!((found - expected).abs() < 4.0 * noise, "{photos} photos: {found} instead of {expected}");
        }
    }

    #[test]
    fn fewer_photos_give_no_more_than_one_alarm_in_one_more_than_them() {
        let mut random = ChaCha8Rng::seed_from_u64(13);
        // A tenth of the good parts is unlike the others.
        let mut score = || if random.random::<f32>() < 0.1 { 0.05 } else { 0.02 } + 0.005 * random.random::<f32>();
        let (photos, runs) = (50, 2000);
        let alarms = (0..runs)
            .filter(|_| {
                let scores: Vec<f32> = (0..photos).map(|_| score()).collect();
                f64::from(score()) > threshold(&scores, 0.01, None)
            })
            .count();
        let (most, found) = (1.0 / f64::from(photos + 1), alarms as f64 / f64::from(runs));
        assert!(found < most + 4.0 * (most / f64::from(runs)).sqrt(), "{found} instead of {most}");
    }

    /// Prints a table of docs/reliability.md: how many of the next good photos are called defective, in percent.
    #[test]
    #[ignore = "prints a table"]
    fn false_alarms_by_number_of_photos() {
        /// A score from three uniform numbers.
        type Draw = fn([f64; 3]) -> f64;
        /// A normal number (Box and Muller).
        fn normal(u: [f64; 3]) -> f64 {
            (-2.0 * u[0].ln()).sqrt() * (std::f64::consts::TAU * u[1]).cos()
        }
        let distributions: [(&str, Draw); 5] = [
            ("log-normal", |u| (0.3 * normal(u) - 4.0).exp()),
            ("normal", |u| 0.02 + 0.002 * normal(u)),
            ("uniform", |u| 0.01 + 0.02 * u[0]),
            ("exponential", |u| 0.01 - 0.005 * u[0].ln()),
            ("two groups", |u| if u[2] < 0.1 { 0.05 + 0.005 * u[0] } else { 0.02 + 0.002 * u[1] }),
        ];
        let names: Vec<&str> = distributions.iter().map(|(name, _)| *name).collect();
        println!("| photos | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
        let mut random = ChaCha8Rng::seed_from_u64(11);
        for photos in [1, 2, 3, 5, 10, 20, 50, 98, 99, 200, 1000] {
            let rates = distributions.iter().map(|(_, draw)| {
                let mut score = || draw(std::array::from_fn(|_| random.random::<f64>().max(1e-12))) as f32;
                let (runs, next) = (2000, 10);
                let mut alarms = 0;
                for _ in 0..runs {
                    let scores: Vec<f32> = (0..photos).map(|_| score()).collect();
                    let limit = threshold(&scores, 0.01, None);
                    alarms += (0..next).filter(|_| f64::from(score()) > limit).count();
                }
                format!("{:.1}", 100.0 * alarms as f64 / f64::from(runs * next))
            });
            println!("| {photos} | {} |", rates.collect::<Vec<_>>().join(" | "));
        }
    }

    #[test]
    fn a_class_with_few_photos_has_a_threshold_above_them() {
        let large: Vec<f32> = (0..40).map(|i| 0.1 + 0.01 * (i % 5) as f32).collect();
        let spread = Spread::of(&large).std;
        let by_class =
            BTreeMap::from([("few".into(), vec![0.3, 0.3001]), ("large".into(), large), ("one".into(), vec![0.2])]);
        let found = of_scores(&by_class, 0.01, true).unwrap();
        let of = |name: &str| f64::from(found.classes[name].threshold);
        // Student's 99 % point for about 40 degrees of freedom is 2.42. One photo tells its class's mean no better than one score.
        for (name, score, photos) in [("few", 0.30005, 2.0), ("one", 0.2, 1.0)] {
            let expected = score * (2.42 * spread * (1.0 + 1.0f64 / photos).sqrt()).exp();
            assert!((of(name) / expected - 1.0).abs() < 0.02, "{name}: {} instead of {expected}", of(name));
        }
        assert!(of("large") > 0.14, "{}", of("large"));
    }

    #[test]
    fn a_threshold_can_be_exceeded_whatever_the_scores() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for photos in 1..40 {
            for spread in [0.0, 0.1, 1.0, 5.0] {
                let scores: Vec<f32> =
                    (0..photos).map(|_| (0.02 * (spread * (random.random::<f32>() - 0.5)).exp()).min(1.9)).collect();
                let found = threshold(&scores, 0.01, None);
                assert!(
                    found < HIGHEST && found.is_finite() && found > 0.0,
                    "{photos} photos, spread {spread}: {found}"
                );
                let rounded = f64::from(largest(&scores)) * (1.0 - 1e-6);
                assert!(found >= rounded, "{photos} photos, spread {spread}: {found}");
            }
        }
        assert!(doubt(&[0.1, 0.2], 0.01).unwrap().contains("99 for a promise"));
        assert!(doubt(&[0.01, 0.5, 0.02, 0.9, 0.04], 0.01).unwrap().contains("spread so widely"));
        assert!(doubt(&[0.1; 5], 0.01).unwrap().contains("the scores of 5 good photos are equal"));
        assert_eq!(doubt(&[0.1, 0.11, 0.1, 0.12, 0.1], 0.01), None);
    }

    #[test]
    fn the_fewer_false_alarms_are_wanted_the_higher_the_threshold() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for photos in [1, 2, 3, 4, 5, 8, 20, 50, 98, 99, 130] {
            for spread in [0.0, 0.1, 1.0, 5.0] {
                let score = |_| (0.02 * (spread * (random.random::<f32>() - 0.5)).exp()).min(1.9);
                let mut scores: Vec<f32> = (0..photos).map(score).collect();
                // A good part that is unlike the others, or a defective one that nobody saw.
                scores[0] *= [1.0, 4.0][photos % 2];
                let usual = [None, Some(Spread { mean: 0.0, std: 0.3, freedom: 500 })][photos % 3 % 2];
                let rates = (1..150).map(|step| 0.99 * 0.8_f64.powi(step - 1));
                let found: Vec<f64> = rates.map(|rate| threshold(&scores, rate, usual)).collect();
                assert!(found.is_sorted(), "{photos} photos, spread {spread}: {found:?}");
                assert!(found.iter().all(|&one| one < HIGHEST), "{photos} photos, spread {spread}: {found:?}");
            }
        }
    }

    #[test]
    fn identical_photos_are_not_called_defective() {
        for photos in [1, 2, 4, 5, 50, 99, 1000] {
            for score in [0.0, 1e-7, 0.0123, 0.1, 1.9] {
                for rate in [1e-300, 1e-20, 0.01, 0.3] {
                    let found = threshold(&vec![score; photos], rate, None) as f32;
                    let lowest = score.max(SMALLEST_SCORE as f32);
                    assert!(found >= score && found <= lowest, "{photos} photos of {score}, rate {rate}: {found}");
                }
            }
        }
    }

    #[test]
    fn so_few_photos_promise_no_less_than_their_highest_score() {
        for photos in 1..99 {
            let scores: Vec<f32> = (0..photos).map(|i| 0.1 + 0.001 * ((i * 7) % 13) as f32).collect();
            let rate = Rate::Promised.of(photos);
            assert!(rate < 1.0 && exceeding(photos, rate) == 1, "{photos}: {rate}");
            assert_eq!(threshold(&scores, rate, None) as f32, largest(&scores), "{photos}");
        }
        assert_eq!(Rate::Promised.of(100), FALSE_ALARM_RATE);
    }

    #[test]
    fn a_class_of_few_photos_leaves_the_promise_of_others_alone() {
        let scores = |photos: usize| (0..photos).map(|i| 0.1 + 0.001 * i as f32).collect::<Vec<f32>>();
        let both = Scores::from([("few".into(), scores(4)), ("many".into(), scores(199))]);
        let found = of_scores(&both, Rate::Promised, true).unwrap();
        assert_eq!(found.false_alarm_rate, 0.2, "a number that can be asked for again");
        assert_eq!(found.classes["few"].threshold, scores(4)[3]);
        assert_eq!(found.classes["many"].threshold, scores(199)[197]);
        let said = doubts(&both, Rate::Promised);
        assert_eq!(said.len(), 1);
        assert!(said["few"].starts_with("it is the highest score of 4 good photos: 1 in 5 good parts"), "{said:?}");
    }

    #[test]
    fn no_more_is_said_to_be_known_than_so_many_photos_tell() {
        for photos in 1..200 {
            let scores: Vec<f32> = (0..photos).map(|i| 0.1 + 0.001 * (i % 7) as f32).collect();
            for (rate, enough) in [(0.01, 99), (0.05, 19), (0.1, 9), (0.25, 3), (0.5, 1)] {
                let doubt = doubt(&scores, rate);
                assert_eq!(doubt.is_some(), photos < ENOUGH && photos < enough, "{photos}, {rate}: {doubt:?}");
            }
        }
        assert!(doubt(&[0.1], 0.25).unwrap().ends_with(": check its verdicts, and calibrate with 3 for a promise"));
    }

    #[test]
    fn nothing_to_learn_from_is_refused_or_taken_as_it_is() {
        assert!(of_scores(&BTreeMap::new(), 0.01, true).unwrap_err().to_string().contains("no good photos"));
        let one = of_scores(&BTreeMap::from([("one".into(), vec![0.2])]), 0.01, true).unwrap();
        assert!((one.classes["one"].threshold - 0.2).abs() < 1e-6);
    }
}
