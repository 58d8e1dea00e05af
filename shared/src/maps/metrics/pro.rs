//! Area under the per-region-overlap curve (AUPRO), exactly as in the official `compute_pro`.

use super::Ranking;
use super::regions::Regions;
use crate::{Error, Result};

/// Number of thresholds between the lowest and the highest score.
const THRESHOLDS: f64 = 200.0;

/// Upper limit of the false positive rate on the part of the curve that counts.
const FPR_LIMIT: f64 = 0.3;

/// Per-region overlap against false positive rate, over all thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct ProCurve {
    /// Thresholds, ascending, 200 or 201 of them. Scores strictly above count as anomalous.
    pub thresholds: Vec<f64>,
    /// Share of the normal pixels above each threshold; NaN if there are none.
    pub fprs: Vec<f64>,
    /// Mean over all regions of the share of their pixels above each threshold; NaN if there are no regions.
    pub pros: Vec<f64>,
    /// Number of 8-connected regions in all masks.
    pub regions: usize,
}

impl ProCurve {
    /// Curve of maps and masks, each of whole rows of its one of `widths` in pixels; `pixels` is the ranking of the same maps' pixels. Photos
    /// without a mask have no defect. Takes one binary search per anomalous pixel and per threshold.
    ///
    /// # Errors
    /// [`Error::Metric`] if all scores are equal, so that there is no threshold between them.
    pub fn new(pixels: &Ranking, parts: &[(&[f32], Option<&[bool]>)], widths: &[usize]) -> Result<Self> {
        let (low, high) = pixels.range();
        let thresholds = thresholds(low, high)?;
        // numpy compares an array of f32 with a scalar of f64 in f32.
        let compared: Vec<f32> = thresholds.iter().map(|&t| t as f32).collect();
        let normal = pixels.normal() as f64;
        let fprs = compared.iter().map(|&t| pixels.normal_above(t) as f64 / normal).collect();

        let mut overlaps = vec![0.0; compared.len()];
        let mut regions = 0;
        for ((map, mask), &width) in parts.iter().zip(widths) {
            let Some(mask) = mask else { continue };
            let found = Regions::new(mask, width);
            regions += found.areas.len();
            // For each region, the number of pixels above exactly the first 0, 1, 2, … thresholds.
            let mut exceeding = vec![0_usize; found.areas.len() * (compared.len() + 1)];
            for (&score, &label) in map.iter().zip(&found.labels).filter(|(_, label)| **label > 0) {
                let exceeded = compared.partition_point(|&t| t < score);
                exceeding[(label as usize - 1) * (compared.len() + 1) + exceeded] += 1;
            }
            for (counts, &area) in exceeding.chunks_exact(compared.len() + 1).zip(&found.areas) {
                let mut covered = 0;
                for (overlap, count) in overlaps.iter_mut().zip(&counts[1..]).rev() {
                    covered += count;
                    *overlap += covered as f64 / area as f64;
                }
            }
        }
        let pros = overlaps.into_iter().map(|sum| sum / regions as f64).collect();
        Ok(Self { thresholds, fprs, pros, regions })
    }

    /// Points with a false positive rate below 0.3, which are those that count.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.fprs.iter().copied().zip(self.pros.iter().copied()).filter(|(fpr, _)| *fpr < FPR_LIMIT)
    }

    /// Area under the points with a false positive rate below 0.3, by trapezoids between these points only: no point at (0, 0),
    /// no point interpolated at 0.3, and rates divided by the LARGEST one below 0.3, not by 0.3. A map of a few extreme values,
    /// whose thresholds all have the same rate, thus has the area 0.
    ///
    /// # Errors
    /// [`Error::Metric`] if the official code fails or returns NaN: no anomalous or no normal pixels in the masks, fewer than two
    /// points, or no false positive at any of them.
    pub fn area(&self) -> Result<f64> {
        if self.regions == 0 {
            return undefined("the masks hold no anomalous pixel");
        }
        if self.fprs.iter().any(|fpr| fpr.is_nan()) {
            return undefined("the masks hold no normal pixel");
        }
        let points: Vec<(f64, f64)> = self.points().collect();
        if points.len() < 2 {
            return undefined(&format!(
                "{} of {} thresholds have a false positive rate below {FPR_LIMIT}, a curve needs two",
                points.len(),
                self.fprs.len()
            ));
        }
        let largest = points.iter().map(|p| p.0).fold(0.0, f64::max);
        if largest == 0.0 {
            return undefined(&format!("no threshold has a false positive rate between 0 and {FPR_LIMIT}"));
        }
        let trapezoid = |pair: &[(f64, f64)]| (pair[0].0 - pair[1].0) / largest * (pair[0].1 + pair[1].1) / 2.0;
        Ok(points.windows(2).map(trapezoid).sum())
    }
}

fn undefined<T>(reason: &str) -> Result<T> {
    Err(Error::Metric { metric: "AUPRO", reason: reason.into() })
}

/// Thresholds `numpy.arange(low, high, (high - low) / 200)` for two f32 scalars, as in numpy 1: the difference in f32, all else
/// in f64. Rounding decides whether there are 200 or 201 values.
///
/// # Errors
/// [`Error::Metric`] if `low` is not below `high`, or their difference exceeds f32.
pub fn thresholds(low: f32, high: f32) -> Result<Vec<f64>> {
    let range = f64::from(high - low);
    if !(range > 0.0 && range.is_finite()) {
        return undefined(&format!("there are no thresholds between scores from {low} to {high}"));
    }
    let (start, step) = (f64::from(low), range / THRESHOLDS);
    let count = (range / step).ceil() as usize;
    // numpy computes the step from its first two values.
    let step = (start + step) - start;
    Ok((0..count).map(|i| start + i as f64 * step).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = [(&'a [f32], Option<&'a [bool]>)];

    /// The definition, straight from the official code: every pixel against every threshold.
    fn slow(parts: &Parts<'_>, width: usize) -> (Vec<f64>, Vec<f64>) {
        let values = || parts.iter().flat_map(|(map, _)| map.iter().copied());
        let (low, high) = values().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let mut curve = (vec![], vec![]);
        for threshold in thresholds(low, high).unwrap().into_iter().map(|t| t as f32) {
            let (mut normal, mut false_positives, mut overlaps) = (0_usize, 0_usize, vec![]);
            for (map, mask) in parts {
                let mask = mask.map_or_else(|| vec![false; map.len()], <[bool]>::to_vec);
                let outside = || map.iter().zip(&mask).filter(|(_, m)| !**m).map(|(v, _)| *v);
                normal += outside().count();
                false_positives += outside().filter(|v| *v > threshold).count();
                let regions = Regions::new(&mask, width);
                for (label, area) in (1..).zip(&regions.areas) {
                    let inside = map.iter().zip(&regions.labels).filter(|(v, l)| **l == label && **v > threshold);
                    overlaps.push(inside.count() as f64 / *area as f64);
                }
            }
            curve.0.push(false_positives as f64 / normal as f64);
            curve.1.push(overlaps.iter().sum::<f64>() / overlaps.len() as f64);
        }
        curve
    }

    #[test]
    fn each_map_has_rows_of_its_own_width() {
        let map = [0.1, 0.2, 0.9, 0.8, 0.3, 0.4];
        // In rows of three the two pixels do not touch.
        let mask = [false, false, true, true, false, false];
        let parts: [(&[f32], Option<&[bool]>); 2] = [(&map, Some(&mask)), (&map, Some(&mask))];
        let curve = ProCurve::new(&Ranking::new("maps", &parts).unwrap(), &parts, &[3, 6]).unwrap();
        assert_eq!(curve.regions, 3);
    }

    #[test]
    fn the_curve_is_that_of_the_plain_definition() {
        let mut state = 7_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let masks: Vec<Vec<bool>> = (0..3).map(|_| (0..12 * 9).map(|_| random() > 0.7).collect()).collect();
        // Coarse values, so that many equal a threshold or each other.
        let maps: Vec<Vec<f32>> =
            (0..4).map(|_| (0..12 * 9).map(|_| (random() * 40.0).round() / 40.0).collect()).collect();
        let mut parts: Vec<(&[f32], Option<&[bool]>)> =
            maps.iter().zip(&masks).map(|(map, mask)| (map.as_slice(), Some(mask.as_slice()))).collect();
        parts.push((&maps[3], None));
        let curve = ProCurve::new(&Ranking::new("maps", &parts).unwrap(), &parts, &[12; 4]).unwrap();
        let (fprs, pros) = slow(&parts, 12);
        assert_eq!(curve.fprs, fprs);
        let difference = curve.pros.iter().zip(&pros).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(difference < 1e-14, "{difference:e}");
        assert!(curve.area().unwrap() > 0.0);
    }

    fn curve(fprs: &[f64], pros: &[f64]) -> ProCurve {
        ProCurve { thresholds: vec![0.0; fprs.len()], fprs: fprs.to_vec(), pros: pros.to_vec(), regions: 1 }
    }

    #[test]
    fn the_area_is_stretched_to_the_largest_rate_below_the_limit() {
        let area = curve(&[1.0, 0.3, 0.2, 0.1, 0.0], &[1.0, 1.0, 0.8, 0.6, 0.0]).area().unwrap();
        assert!((area - (0.5 * 0.7 + 0.5 * 0.3)).abs() < 1e-15);
    }

    #[test]
    fn a_curve_without_area_says_why() {
        let message = |curve: ProCurve| curve.area().unwrap_err().to_string();
        assert!(message(ProCurve { regions: 0, ..curve(&[0.1], &[0.5]) }).contains("no anomalous pixel"));
        assert!(message(curve(&[f64::NAN], &[0.5])).contains("no normal pixel"));
        assert!(message(curve(&[0.9, 0.5, 0.1], &[1.0; 3])).contains("1 of 3 thresholds"));
        assert!(message(curve(&[0.9, 0.0, 0.0], &[1.0; 3])).contains("between 0 and 0.3"));
    }

    #[test]
    fn equal_scores_have_no_thresholds() {
        let message = thresholds(0.25, 0.25).unwrap_err().to_string();
        assert!(message.contains("AUPRO is undefined: there are no thresholds between scores from 0.25"), "{message}");
        assert!(thresholds(f32::MIN, f32::MAX).is_err());
        assert_eq!(thresholds(0.0, 200.0).unwrap()[..3], [0.0, 1.0, 2.0]);
    }
}
