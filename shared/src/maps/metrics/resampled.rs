//! Metrics of resampled photos, which say how sure a metric is. Photos are ranked once; a resample only says how often each counts.

use super::pimo::{GoodPhoto, SharedRates, defects, most_above};
use super::pro::{ProCurve, thresholds};
use super::ranking::{Counted, key};
use super::regions::Regions;
use super::{Metrics, Ranking, Sample};
use crate::Result;

/// Thresholds that were set without looking at the test photos.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Score above which a photo is defective.
    pub image: Option<f32>,
    /// Value of the map above which a pixel is defective.
    pub pixel: Option<f32>,
}

/// Photos whose metrics are computed again and again, with other numbers of each. Takes 12 bytes of memory per pixel at the start and 4
/// afterwards.
#[derive(Clone, Debug)]
pub struct Resampled {
    images: Weighted,
    pixels: Option<Weighted>,
    pro: Option<Pro>,
    pimo: Option<Pimo>,
    /// Numbers of each photo at its threshold: hits, all above, all anomalous.
    image_f1: Option<Vec<[u64; 3]>>,
    seg_f1: Option<Vec<[u64; 3]>>,
}

impl Resampled {
    /// Names of the metrics, in the order of [`Resampled::metrics`]: the seven, AUPIMO, F1 of photos and of pixels at the thresholds.
    pub const NAMES: [&'static str; 10] =
        ["I-AUROC", "I-AP", "I-F1max", "P-AUROC", "P-AP", "P-F1max", "AUPRO", "AUPIMO", "I-F1", "SegF1"];

    /// Ranks photos. If a defective one has no mask, their pixel metrics are left out.
    ///
    /// # Errors
    /// As [`Metrics::of`].
    pub fn new(samples: &[Sample<'_>], at: Thresholds) -> Result<Self> {
        // Refuses what does not fit.
        Metrics::of_scores(
            &samples.iter().map(|s| s.score).collect::<Vec<_>>(),
            &samples.iter().map(|s| s.anomalous).collect::<Vec<_>>(),
            "photos",
        )?;
        let masked = samples.iter().all(|s| s.mask.is_some() || !s.anomalous);
        let image = samples.iter().map(|s| (s.score, s.anomalous)).enumerate();
        let counts = |label: &dyn Fn(&Sample<'_>) -> [u64; 3]| samples.iter().map(label).collect::<Vec<_>>();
        let flags = |above: bool, anomalous: bool| [above && anomalous, above, anomalous].map(u64::from);
        let mut found = Self {
            images: Weighted::new(image.map(|(photo, (score, label))| (photo, score, label)), samples.len()),
            pixels: None,
            pro: None,
            pimo: None,
            image_f1: at.image.map(|threshold| counts(&|s| flags(s.score > threshold, s.anomalous))),
            seg_f1: None,
        };
        if masked {
            let labelled = samples.iter().enumerate().flat_map(|(photo, sample)| {
                let label = move |i: usize| sample.mask.is_some_and(|mask| mask[i]);
                sample.map.iter().enumerate().map(move |(i, &score)| (photo, score, label(i)))
            });
            found.pixels = Some(Weighted::new(labelled, samples.len()));
            found.pro = Pro::new(samples).ok();
            found.pimo = Pimo::new(samples).ok();
            found.seg_f1 = at.pixel.map(|threshold| {
                counts(&|s| {
                    let label = |i: usize| s.mask.is_some_and(|mask| mask[i]);
                    let pixels = s.map.iter().enumerate().map(|(i, &value)| flags(value > threshold, label(i)));
                    pixels.fold([0; 3], |all, one| std::array::from_fn(|i| all[i] + one[i]))
                })
            });
        }
        Ok(found)
    }

    /// Metrics where photo `i` counts `times[i]` times, in the order of [`Resampled::NAMES`]; `None` for an undefined one. The thresholds
    /// of AUPRO are those of all photos. AUPIMO needs as many good photos as there are.
    pub fn metrics(&self, times: &[u32]) -> [Option<f64>; 10] {
        let [i_auroc, i_ap, i_f1max] = self.images.metrics(times);
        let [p_auroc, p_ap, p_f1max] = self.pixels.as_ref().map_or([None; 3], |pixels| pixels.metrics(times));
        let aupro = self.pro.as_ref().and_then(|pro| pro.area(times));
        let aupimo = self.pimo.as_ref().and_then(|pimo| pimo.mean(times));
        let [i_f1, seg_f1] = [&self.image_f1, &self.seg_f1].map(|counts| f1(counts.as_ref()?, times));
        [i_auroc, i_ap, i_f1max, p_auroc, p_ap, p_f1max, aupro, aupimo, i_f1, seg_f1]
    }
}

fn f1(counts: &[[u64; 3]], times: &[u32]) -> Option<f64> {
    let sum = |i: usize| counts.iter().zip(times).map(|(counts, &times)| counts[i] * u64::from(times)).sum::<u64>();
    let [hits, above, anomalous] = [0, 1, 2].map(sum);
    (anomalous > 0).then(|| 2.0 * hits as f64 / (above + anomalous) as f64)
}

/// Scores of photos or pixels, highest first.
#[derive(Clone, Debug)]
struct Weighted {
    /// Of each score twice its photo's number, one more if it is anomalous, and [`LAST`] if the next score is lower.
    entries: Vec<u32>,
    /// Numbers of normal and of anomalous scores of each photo.
    counts: Vec<[u64; 2]>,
}

const LAST: u32 = 1 << 31;

impl Weighted {
    fn new(scores: impl Iterator<Item = (usize, f32, bool)>, photos: usize) -> Self {
        let mut counts = vec![[0, 0]; photos];
        let mut ranked: Vec<u64> = scores
            .map(|(photo, score, label)| {
                counts[photo][usize::from(label)] += 1;
                u64::from(key(score)) << 32 | (photo as u64) << 1 | u64::from(label)
            })
            .collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let is_last = |i: usize| ranked.get(i + 1).is_none_or(|next| next >> 32 != ranked[i] >> 32);
        let entries = (0..ranked.len()).map(|i| ranked[i] as u32 | if is_last(i) { LAST } else { 0 }).collect();
        Self { entries, counts }
    }

    /// AUROC, average precision and F1-max.
    fn metrics(&self, times: &[u32]) -> [Option<f64>; 3] {
        let all = |label: usize| {
            self.counts.iter().zip(times).map(|(counts, &times)| counts[label] * u64::from(times)).sum::<u64>()
        };
        let mut counted = Counted::new(all(0), all(1));
        let mut ties = [0, 0];
        for &entry in &self.entries {
            ties[(entry & 1) as usize] += u64::from(times[((entry & !LAST) >> 1) as usize]);
            if entry & LAST != 0 {
                counted.add(ties[0], ties[1]);
                ties = [0, 0];
            }
        }
        counted.metrics()
    }
}

/// What the curve of AUPRO is made of, photo by photo.
#[derive(Clone, Debug)]
struct Pro {
    thresholds: Vec<f64>,
    photos: Vec<ProPhoto>,
}

#[derive(Clone, Debug)]
struct ProPhoto {
    /// Number of normal pixels, and of those above each threshold.
    normal: u64,
    above: Vec<u32>,
    /// Number of regions, and the sum of their shares above each threshold.
    regions: usize,
    overlaps: Vec<f64>,
}

impl Pro {
    fn new(samples: &[Sample<'_>]) -> Result<Self> {
        let parts: Vec<_> = samples.iter().map(|s| (s.map, s.mask)).collect();
        let (low, high) = Ranking::new("anomaly maps", &parts)?.range();
        let thresholds = thresholds(low, high)?;
        let compared: Vec<f32> = thresholds.iter().map(|&t| t as f32).collect();
        let photos = samples.iter().map(|sample| ProPhoto::of(sample, &compared)).collect();
        Ok(Self { thresholds, photos })
    }

    fn area(&self, times: &[u32]) -> Option<f64> {
        let counted = || self.photos.iter().zip(times).filter(|(_, times)| **times > 0);
        let normal: u64 = counted().map(|(photo, &times)| photo.normal * u64::from(times)).sum();
        let regions: usize = counted().map(|(photo, &times)| photo.regions * times as usize).sum();
        let (mut above, mut overlaps) = (vec![0_u64; self.thresholds.len()], vec![0.0; self.thresholds.len()]);
        for (photo, &times) in counted() {
            above.iter_mut().zip(&photo.above).for_each(|(sum, &one)| *sum += u64::from(one) * u64::from(times));
            overlaps.iter_mut().zip(&photo.overlaps).for_each(|(sum, one)| *sum += one * f64::from(times));
        }
        let fprs = above.into_iter().map(|above| above as f64 / normal as f64).collect();
        let pros = overlaps.into_iter().map(|sum| sum / regions as f64).collect();
        ProCurve { thresholds: self.thresholds.clone(), fprs, pros, regions }.area().ok()
    }
}

impl ProPhoto {
    fn of(sample: &Sample<'_>, compared: &[f32]) -> Self {
        let regions = sample.mask.map_or(Regions { labels: vec![0; sample.map.len()], areas: Vec::new() }, |mask| {
            Regions::new(mask, sample.width)
        });
        // Numbers of pixels above exactly the first 0, 1, 2, … thresholds: weighted by their regions' areas, or normal ones.
        let (mut normal, mut above) = (0, vec![0_u32; compared.len() + 1]);
        let mut overlaps = vec![0.0; compared.len() + 1];
        for (&score, &label) in sample.map.iter().zip(&regions.labels) {
            let exceeded = compared.partition_point(|&t| t < score);
            match label {
                0 => {
                    normal += 1;
                    above[exceeded] += 1;
                }
                label => overlaps[exceeded] += 1.0 / regions.areas[label as usize - 1] as f64,
            }
        }
        for i in (0..compared.len()).rev() {
            above[i] += above[i + 1];
            overlaps[i] += overlaps[i + 1];
        }
        Self { normal, above: above.split_off(1), regions: regions.areas.len(), overlaps: overlaps.split_off(1) }
    }
}

/// What AUPIMO is made of, photo by photo.
#[derive(Clone, Debug)]
struct Pimo {
    /// Of each good photo the scores that may lie above a threshold that counts, and its number of pixels.
    good: Vec<Option<(Vec<f32>, usize)>>,
    /// Scores of each photo's defect, highest first.
    defects: Vec<Vec<f32>>,
}

impl Pimo {
    fn new(samples: &[Sample<'_>]) -> Result<Self> {
        let defects = defects(samples)?;
        let photos = samples.iter().filter(|sample| !sample.anomalous).count();
        let highest = |sample: &Sample<'_>| {
            (!sample.anomalous).then(|| {
                let (mut scores, most) = (sample.map.to_vec(), most_above(photos, sample.map.len()));
                if scores.len() > most {
                    scores.select_nth_unstable_by(most - 1, |a, b| b.total_cmp(a));
                    scores.truncate(most);
                }
                (scores, sample.map.len())
            })
        };
        Ok(Self { good: samples.iter().map(highest).collect(), defects })
    }

    fn mean(&self, times: &[u32]) -> Option<f64> {
        let good = self.good.iter().zip(times).filter_map(|(photo, &times)| {
            let (scores, pixels) = photo.as_ref()?;
            Some(GoodPhoto { scores, pixels: *pixels, times: times as usize })
        });
        let rates = SharedRates::new(good).ok()?;
        let (mut sum, mut count) = (0.0, 0.0);
        for (defect, &times) in
            self.defects.iter().zip(times).filter(|(defect, times)| !defect.is_empty() && **times > 0)
        {
            sum += rates.area(defect) * f64::from(times);
            count += f64::from(times);
        }
        (count > 0.0).then(|| sum / count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{aupimo, image_f1, seg_f1};
    use super::*;

    /// Pseudo-random numbers, 0..1.
    fn random(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        }
    }

    #[test]
    fn counting_photos_is_listing_them() {
        let mut next = random(5);
        let side = 260_usize;
        // Equal values, but of the highest, which AUPIMO looks at.
        let mut value = || match next() {
            high if high > 0.999 => high,
            value => (value * 5000.0).round() / 5000.0,
        };
        let maps: Vec<Vec<f32>> = (0..5).map(|_| (0..side * side).map(|_| value()).collect()).collect();
        let mask: Vec<bool> = (0..side * side).map(|i| (i / side).is_multiple_of(7) && i % side < 9).collect();
        let maps: Vec<Vec<f32>> = maps
            .into_iter()
            .enumerate()
            .map(|(i, map)| match i < 3 {
                true => map,
                false => map.iter().zip(&mask).map(|(v, m)| if *m { v + 0.3 } else { *v }).collect(),
            })
            .collect();
        let scores = [0.1, 0.4, 0.5, 0.5, 0.9];
        let samples: Vec<Sample> = (0..5)
            .map(|i| Sample {
                map: &maps[i],
                width: side,
                mask: (i >= 3).then_some(&mask[..]),
                anomalous: i >= 3,
                score: scores[i],
            })
            .collect();
        let at = Thresholds { image: Some(0.45), pixel: Some(1.1) };
        let resampled = Resampled::new(&samples, at).unwrap();
        for times in [[1, 1, 1, 1, 1], [2, 0, 1, 0, 2], [0, 2, 1, 2, 1]] {
            let listed: Vec<Sample> =
                samples.iter().zip(times).flat_map(|(s, n)| std::iter::repeat_n(*s, n as usize)).collect();
            let seven = Metrics::of(&listed).unwrap().values();
            let (scores, labels): (Vec<f32>, Vec<bool>) = listed.iter().map(|s| (s.score, s.anomalous)).unzip();
            let rest = [aupimo(&listed).ok(), image_f1(&scores, &labels, 0.45), seg_f1(&listed, 1.1)];
            let found = resampled.metrics(&times);
            for (i, (found, expected)) in found.iter().zip(seven.iter().chain(&rest)).enumerate() {
                let (found, expected) = (found.unwrap(), expected.unwrap());
                // AUPRO has the thresholds of all photos.
                let most = if Resampled::NAMES[i] == "AUPRO" { 2e-3 } else { 1e-12 };
                assert!((found - expected).abs() <= most, "{}: {found} {expected}", Resampled::NAMES[i]);
            }
            assert_eq!(found[..6], seven[..6], "to the last digit");
        }
        assert!(resampled.metrics(&[0, 0, 0, 1, 1])[0].is_none(), "no good photo");
    }

    #[test]
    fn without_masks_the_metrics_of_photos_are_left() {
        let map = [0.1, 0.2];
        let photo = |anomalous, score| Sample { map: &map, width: 2, mask: None, anomalous, score };
        let photos = [photo(false, 0.1), photo(true, 0.9)];
        let found =
            Resampled::new(&photos, Thresholds { image: Some(0.5), pixel: Some(0.1) }).unwrap().metrics(&[1, 1]);
        assert_eq!(
            found.map(|value| value.is_some()),
            [true, true, true, false, false, false, false, false, true, false]
        );
    }
}
