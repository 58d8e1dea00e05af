//! Heights of good photos' maps and their descriptors by class, which a calibration is made of.

use std::collections::BTreeMap;

use super::descriptors::Copies;
use super::thresholds::Scores;
use crate::maps::score::Heights;

/// What was measured on each class's photos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Scores.
    pub scores: Scores,
    /// Highest values.
    pub peaks: Scores,
    /// What the photos look like as a whole, by class.
    pub descriptors: BTreeMap<String, Vec<Copies>>,
}

impl Measured {
    /// Adds photos of a class.
    pub fn extend(&mut self, class: &str, photos: impl IntoIterator<Item = Heights>) {
        let (scores, peaks): (Vec<f32>, Vec<f32>) =
            photos.into_iter().map(|Heights { score, peak }| (score, peak)).unzip();
        self.scores.entry(class.into()).or_default().extend(scores);
        self.peaks.entry(class.into()).or_default().extend(peaks);
    }

    /// Adds descriptors of photos of a class.
    pub fn describe(&mut self, class: &str, photos: impl IntoIterator<Item = Copies>) {
        self.descriptors.entry(class.into()).or_default().extend(photos);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::thresholds;
    use super::*;
    use crate::maps::defects::defects;
    use crate::maps::score::AnomalyMap;
    use crate::photo::preprocess::Region;

    /// Sums of twelve uniform numbers are nearly normal.
    fn log_normal(random: &mut ChaCha8Rng) -> f32 {
        let normal: f32 = (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
        (0.3 * normal - 4.0).exp()
    }

    /// From good photos of two classes that peak at different heights, and through the regions that a viewer gets.
    #[test]
    fn so_many_of_the_next_good_photos_show_a_region() {
        let mut random = ChaCha8Rng::seed_from_u64(19);
        let (rate, runs) = (0.05, 3000);
        let heights = [("nut", 1.0), ("screw", 3.0)];
        let mut alarms = [0; 2];
        for _ in 0..runs {
            let mut peaks = |height: f32| (0..40).map(|_| height * log_normal(&mut random)).collect::<Vec<f32>>();
            let mut good = Measured::default();
            for (name, height) in heights {
                good.extend(name, peaks(height).into_iter().map(|peak| Heights { score: peak / 2.0, peak }));
            }
            let calibration = thresholds::of_measured(&good, rate, true).unwrap();
            for ((name, height), alarms) in heights.iter().zip(&mut alarms) {
                let mut values = vec![0.0; 9];
                values[random.random_range(0..9)] = height * log_normal(&mut random);
                let (map, region) = (AnomalyMap::square(3, values), Region { x0: 0.0, y0: 0.0, x1: 3.0, y1: 3.0 });
                let threshold = calibration.classes[*name].pixel_threshold.unwrap();
                *alarms += usize::from(!defects(&map, region, threshold, 0.0).is_empty());
            }
        }
        // 2 of 41 exchangeable photos are above.
        let expected = 2.0 / 41.0 * f64::from(runs);
        for alarms in alarms {
            let noise = (expected * (1.0 - 2.0 / 41.0)).sqrt();
            assert!((alarms as f64 - expected).abs() < 4.0 * noise, "{alarms} instead of {expected}");
        }
    }
}
