//! Per-image overlap (Bertoldo et al., AUPIMO, BMVC 2024, arXiv:2401.01984): recall of a photo's defect at thresholds that few pixels of
//! good photos exceed.

use super::Sample;
use crate::{Error, Result};

/// Least and largest false positive rate of the part of the curves that counts.
const RATES: [f64; 2] = [1e-5, 1e-4];

/// A step of the shared false positive rate, at a score of good photos: its thresholds lie just above and at the score.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    score: f32,
    /// Its share of the part that counts, 0..1: of the logarithms of the rates.
    width: f64,
}

/// The thresholds that count, from the pixels of good photos.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedRates {
    /// Highest score first.
    steps: Vec<Step>,
}

/// Scores of a good photo.
#[derive(Clone, Copy, Debug)]
pub struct GoodPhoto<'a> {
    /// Its scores, or at least the highest of them.
    pub scores: &'a [f32],
    /// Number of all its pixels.
    pub pixels: usize,
    /// How often it counts.
    pub times: usize,
}

impl SharedRates {
    /// The thresholds of good photos, whose false positive rate is the mean over photos. Keeps about a 5,000th of the pixels.
    ///
    /// # Errors
    /// [`Error::Metric`] if there is no good photo, or so few pixels that no threshold has a rate of 0.00001.
    pub fn new<'a>(good: impl Iterator<Item = GoodPhoto<'a>> + Clone) -> Result<Self> {
        let photos: usize = good.clone().map(|photo| photo.times).sum();
        let largest = good.clone().map(|photo| photo.pixels).max().unwrap_or_default();
        if photos == 0 || largest == 0 {
            return undefined("there are no good photos".into());
        }
        let most = most_above(photos, largest);
        let mut top: Vec<(f32, f64)> = Vec::with_capacity(2 * most);
        for photo in good.filter(|photo| photo.times > 0) {
            let weight = photo.times as f64 / (photos as f64 * photo.pixels as f64);
            for &score in photo.scores {
                if top.len() == 2 * most {
                    keep(&mut top, most);
                }
                top.push((score, weight));
            }
        }
        keep(&mut top, most);
        top.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps = Vec::new();
        let (mut before, mut rate) = (0.0_f64, 0.0);
        for ties in top.chunk_by(|a, b| a.0 == b.0) {
            rate += ties.iter().map(|(_, weight)| weight).sum::<f64>();
            let [from, to] = [before, rate].map(|rate| rate.clamp(RATES[0], RATES[1]).ln());
            if before == 0.0 && rate > RATES[0] * (1.0 + 1e-9) {
                return undefined(format!(
                    "the lowest false positive rate above 0 is {rate:.1e}, and it starts at {:.0e}: more good photos are needed",
                    RATES[0]
                ));
            }
            if to > from {
                steps.push(Step { score: ties[0].0, width: (to - from) / (RATES[1] / RATES[0]).ln() });
            }
            before = rate;
        }
        Ok(Self { steps })
    }

    /// Area under the curve of a defective photo whose defect has these scores, highest first: the mean, over the logarithm of the false
    /// positive rate, of the share of the defect above the threshold. Where its scores equal those of good photos, they count half.
    pub fn area(&self, defect: &[f32]) -> f64 {
        let (mut above, mut at_least) = (0, 0);
        let overlap = |step: &Step| {
            while defect.get(above).is_some_and(|&score| score > step.score) {
                above += 1;
            }
            at_least = at_least.max(above);
            while defect.get(at_least).is_some_and(|&score| score >= step.score) {
                at_least += 1;
            }
            step.width * (above + at_least) as f64 / 2.0
        };
        self.steps.iter().map(overlap).sum::<f64>() / defect.len() as f64
    }
}

/// Scores of a photo's defect, highest first.
pub(super) fn defect_scores(map: &[f32], mask: &[bool]) -> Vec<f32> {
    let mut scores: Vec<f32> = map.iter().zip(mask).filter(|(_, mask)| **mask).map(|(score, _)| *score).collect();
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    scores
}

/// Largest number of pixels of so many good photos at or above a threshold that counts.
pub(super) fn most_above(photos: usize, pixels: usize) -> usize {
    (RATES[1] * (photos * pixels) as f64) as usize + 1
}

/// AUPIMO of a class: the mean over its defective photos of the area under the curve between false positive rates of 0.00001 and 0.0001,
/// in maps' pixels as the other pixel metrics here. Every score of good photos is a threshold, where anomalib takes 300,000 evenly spaced
/// ones, and the area ends at these rates, where anomalib takes the nearest. Photos whose mask is empty at the map's size do not count.
///
/// # Errors
/// [`Error::Metric`] if there is no mask with a defect, no good photo, or so few pixels that no threshold has a rate of 0.00001.
pub fn aupimo(samples: &[Sample<'_>]) -> Result<f64> {
    let defects = defects(samples)?;
    let good = samples.iter().filter(|sample| !sample.anomalous);
    let good = good.map(|Sample { map, .. }| GoodPhoto { scores: map, pixels: map.len(), times: 1 });
    let rates = SharedRates::new(good)?;
    let areas: Vec<f64> = defects.iter().filter(|defect| !defect.is_empty()).map(|defect| rates.area(defect)).collect();
    Ok(areas.iter().sum::<f64>() / areas.len() as f64)
}

/// The scores of each photo's defect; empty of a good one.
///
/// # Errors
/// [`Error::Metric`] if a defective photo has no mask, or none has a defect in it.
pub(super) fn defects(samples: &[Sample<'_>]) -> Result<Vec<Vec<f32>>> {
    if samples.iter().any(|sample| sample.anomalous && sample.mask.is_none()) {
        return undefined("an anomalous photo has no mask".into());
    }
    let of = |sample: &Sample<'_>| match sample.mask.filter(|_| sample.anomalous) {
        Some(mask) => defect_scores(sample.map, mask),
        None => Vec::new(),
    };
    let defects: Vec<Vec<f32>> = samples.iter().map(of).collect();
    if defects.iter().all(Vec::is_empty) {
        return undefined("the masks hold no anomalous pixel".into());
    }
    Ok(defects)
}

/// Keeps the highest scores.
fn keep(top: &mut Vec<(f32, f64)>, most: usize) {
    if top.len() > most {
        top.select_nth_unstable_by(most - 1, |a, b| b.0.total_cmp(&a.0));
        top.truncate(most);
    }
}

fn undefined<T>(reason: String) -> Result<T> {
    Err(Error::Metric { metric: "AUPIMO", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random scores, 0..1.
    fn noise(seed: u32, pixels: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..pixels).map(|_| next()).collect()
    }

    fn good(map: &[f32]) -> Sample<'_> {
        Sample { map, width: map.len(), mask: None, anomalous: false, score: 0.0 }
    }

    fn bad<'a>(map: &'a [f32], mask: &'a [bool]) -> Sample<'a> {
        Sample { map, width: map.len(), mask: Some(mask), anomalous: true, score: 1.0 }
    }

    /// The definition: the curve at every threshold between scores, and its area by trapezoids over the logarithm of the rate.
    fn slow(normal: &[&[f32]], map: &[f32], mask: &[bool]) -> f64 {
        let share = |scores: &mut dyn Iterator<Item = f32>, threshold: f32| {
            let (mut above, mut all) = (0_u32, 0_u32);
            scores.for_each(|score| {
                above += u32::from(score > threshold);
                all += 1;
            });
            f64::from(above) / f64::from(all)
        };
        let mut thresholds: Vec<f32> = normal.iter().flat_map(|map| map.iter().copied()).collect();
        thresholds.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut area = 0.0;
        let point = |threshold: f32| {
            let rate =
                normal.iter().map(|map| share(&mut map.iter().copied(), threshold)).sum::<f64>() / normal.len() as f64;
            let defect = map.iter().zip(mask).filter(|(_, m)| **m).map(|(s, _)| *s);
            (rate, share(&mut defect.clone(), threshold))
        };
        let mut last = point(f32::INFINITY);
        for threshold in thresholds {
            let next = point(threshold.next_down());
            // Recall rises before the rate does: scores of good photos and of this defect differ here.
            let [from, to] = [last.0, next.0].map(|rate: f64| rate.clamp(1e-5, 1e-4).ln());
            area += (to - from) * next.1;
            last = next;
            if last.0 > 1e-4 {
                break;
            }
        }
        area / 10_f64.ln()
    }

    #[test]
    fn the_area_is_that_of_the_definition() {
        let normal = [noise(1, 120_000), noise(2, 60_000), noise(3, 120_000)];
        let maps = [noise(4, 4_000), noise(5, 4_000)];
        // Defects whose scores lie among the highest of good photos.
        let lifted: Vec<Vec<f32>> = maps.iter().map(|map| map.iter().map(|v| 0.9999 + v * 1.5e-4).collect()).collect();
        let mask: Vec<bool> = (0..4_000).map(|i| i % 3 == 0).collect();
        let samples: Vec<Sample> =
            normal.iter().map(|map| good(map)).chain(lifted.iter().map(|map| bad(map, &mask))).collect();
        let normal: Vec<&[f32]> = normal.iter().map(Vec::as_slice).collect();
        let expected = lifted.iter().map(|map| slow(&normal, map, &mask)).sum::<f64>() / 2.0;
        let found = aupimo(&samples).unwrap();
        assert!(expected > 0.05 && expected < 0.95, "{expected}");
        assert!((found - expected).abs() < 1e-3, "{found} {expected}: they differ where scores are equal");
    }

    /// The maps of tests/peers/pimo.py, which prints what anomalib 2.7.0 finds.
    #[test]
    fn the_value_is_that_of_anomalib() {
        let noise = noise(11, 30 * 50 * 100);
        let mut maps: Vec<Vec<f32>> = noise.chunks_exact(50 * 100).map(<[f32]>::to_vec).collect();
        let mask = |i: usize| -> Vec<bool> {
            (0..50 * 100).map(|at| (20..28).contains(&(at / 100)) && (10 + i..18 + i).contains(&(at % 100))).collect()
        };
        let masks: Vec<Vec<bool>> = (0..10).map(mask).collect();
        for (i, (map, mask)) in maps[20..].iter_mut().zip(&masks).enumerate() {
            map.iter_mut()
                .zip(mask)
                .filter(|(_, mask)| **mask)
                .for_each(|(value, _)| *value += (0.1 * i as f64) as f32);
        }
        let (normal, defective) = maps.split_at(20);
        let samples: Vec<Sample> = normal
            .iter()
            .map(|map| good(map))
            .chain(defective.iter().zip(&masks).map(|(map, mask)| bad(map, mask)))
            .collect();
        let found = aupimo(&samples).unwrap();
        assert!((found - 0.453_125).abs() < 1e-9, "{found}");
    }

    #[test]
    fn perfect_and_blind_detectors_have_one_and_zero() {
        let normal = noise(1, 200_000);
        let (high, low) = (vec![2.0; 10], vec![-1.0; 10]);
        let mask = [true; 10];
        assert!((aupimo(&[good(&normal), bad(&high, &mask)]).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(aupimo(&[good(&normal), bad(&low, &mask)]).unwrap(), 0.0);
        let both = aupimo(&[good(&normal), bad(&high, &mask), bad(&low, &mask), bad(&low, &[false; 10])]).unwrap();
        assert!((both - 0.5).abs() < 1e-9, "an empty mask does not count");
    }

    #[test]
    fn equal_scores_count_half() {
        let mut normal = vec![0.0; 100_000];
        normal[..20].fill(0.5);
        normal[0] = 0.9;
        // Rates 1e-5 and 2e-4: the step at 0.5 is all that counts.
        let map = [0.5, 0.4];
        let found = aupimo(&[good(&normal), bad(&map, &[true, true])]).unwrap();
        assert!((found - 0.25).abs() < 1e-9, "{found}");
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let message = |samples: &[Sample]| aupimo(samples).unwrap_err().to_string();
        let (map, mask) = ([0.5, 0.4], [true, false]);
        assert!(message(&[bad(&map, &mask)]).contains("there are no good photos"));
        let few = noise(1, 1000);
        let error = message(&[good(&few), bad(&map, &mask)]);
        assert!(error.contains("the lowest false positive rate above 0 is 1.0e-3, and it starts at 1e-5"), "{error}");
        let many = noise(1, 100_000);
        assert!(message(&[good(&many), bad(&map, &[false; 2])]).contains("no anomalous pixel"));
        assert!(message(&[good(&many), Sample { mask: None, ..bad(&map, &mask) }]).contains("has no mask"));
    }

    #[test]
    fn counting_a_photo_twice_is_listing_it_twice() {
        let maps = [noise(1, 150_000), noise(2, 150_000)];
        let photo = |i: usize, times| GoodPhoto { scores: &maps[i], pixels: maps[i].len(), times };
        let twice = SharedRates::new([photo(0, 2), photo(1, 1)].into_iter()).unwrap();
        let listed = SharedRates::new([photo(0, 1), photo(1, 1), photo(0, 1)].into_iter()).unwrap();
        let defect =
            defect_scores(&noise(3, 1000).iter().map(|v| 0.9999 + v * 1.5e-4).collect::<Vec<_>>(), &[true; 1000]);
        let [a, b] = [twice, listed].map(|rates| rates.area(&defect));
        assert!((a - b).abs() < 1e-9 && a > 0.0, "{a} {b}");
    }
}
