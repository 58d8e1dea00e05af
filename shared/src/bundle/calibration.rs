//! `calibration.json`: thresholds, and statistics of the scores of good photos.

use serde::{Deserialize, Serialize};

use super::{BTreeMap, DescriptorStatistics};
use crate::{Error, Result};

/// Thresholds and score statistics by class and over all classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Calibration by class name; at least one.
    pub classes: BTreeMap<String, ClassCalibration>,
    /// Calibration for photos of an unknown class.
    pub overall: ClassCalibration,
    /// Whether the photos were held out from training. If not (training on every photo), new good photos score higher than
    /// these, and more of them are called defective than intended.
    pub held_out: bool,
    /// Intended share of good photos called defective, and of good photos with a region, between 0 and 1.
    pub false_alarm_rate: f64,
}

/// Calibration of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCalibration {
    /// Score above which a photo is called defective.
    pub threshold: f32,
    /// Value above which a pixel of the anomaly map belongs to a region. At most `false_alarm_rate` of good photos have such a
    /// pixel. `None` in models of earlier versions, which tell no regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_threshold: Option<f32>,
    /// Statistics of the scores of good photos.
    pub good_scores: ScoreStatistics,
    /// What good photos look like as a whole. `None` over all classes, and in models of earlier versions, which do not tell photos of other
    /// products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_descriptors: Option<DescriptorStatistics>,
}

/// Distribution of scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreStatistics {
    /// Number of photos.
    pub count: usize,
    /// Mean score.
    pub mean: f64,
    /// Population standard deviation (divided by `count`).
    pub std: f64,
    /// Quantiles at ascending levels from 0 (smallest score) to 1 (largest).
    pub quantiles: Vec<Quantile>,
}

/// Score below which a share of the photos lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// The share, 0..=1.
    pub level: f64,
    /// The score.
    pub score: f64,
}

/// Rounding error of cosine distances: smaller differences between scores mean nothing.
const SMALLEST_UNIT: f64 = 1e-6;

/// Assumed distance from median to threshold, as a share of the median, if one photo or equal scores do not tell it. Classes of
/// several photos have a larger one.
const USUAL_SPREAD: f64 = 0.05;

/// Levels of the stored quantiles.
const LEVELS: [f64; 9] = [0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0];

impl ScoreStatistics {
    /// Statistics of scores. Quantiles interpolate linearly between the sorted scores, as in numpy.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no scores, or one is not finite.
    pub fn of(scores: &[f32]) -> Result<Self> {
        if scores.is_empty() {
            return Err(Error::config("no scores of good photos to calibrate with"));
        }
        if let Some(i) = scores.iter().position(|s| !s.is_finite()) {
            return Err(Error::config(format!("score {i} is {}, not a finite number", scores[i])));
        }
        let mut sorted: Vec<f64> = scores.iter().map(|&s| s.into()).collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let mean = sorted.iter().sum::<f64>() / count as f64;
        let variance = sorted.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / count as f64;
        let quantile = |level: f64| {
            let at = level * (count - 1) as f64;
            let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
            Quantile { level, score: below + (above - below) * at.fract() }
        };
        Ok(Self { count, mean, std: variance.sqrt(), quantiles: LEVELS.map(quantile).into() })
    }

    /// Median score; the mean if that quantile is not stored.
    pub fn median(&self) -> f64 {
        self.quantiles.iter().find(|q| q.level == 0.5).map_or(self.mean, |q| q.score)
    }
}

impl ClassCalibration {
    /// Score on a scale shared by classes and models: 0 at the median of good photos, 1 at the threshold.
    pub fn normalised(&self, score: f32) -> f32 {
        let usual = self.good_scores.median();
        let above = f64::from(self.threshold) - usual;
        let unit = if above > SMALLEST_UNIT { above } else { SMALLEST_UNIT.max(USUAL_SPREAD * usual) };
        ((f64::from(score) - usual) / unit) as f32
    }
}

impl Calibration {
    /// Calibration of a class; the overall one if the class is unknown or `None`.
    pub fn of_class(&self, class: Option<&str>) -> &ClassCalibration {
        class.and_then(|class| self.classes.get(class)).unwrap_or(&self.overall)
    }

    /// Beginning of the row on thresholds in a model card's table.
    pub const CARD_ROW: &str = "| thresholds |";

    /// The row on thresholds in a model card's table.
    pub fn card_row(&self) -> String {
        let photos = self.classes.values().map(|class| class.good_scores.count).sum::<usize>();
        format!(
            "{} exceeded by {} % of good parts, estimated from {photos} {} photos |",
            Self::CARD_ROW,
            percent(self.false_alarm_rate),
            if self.held_out { "held-out good" } else { "training" },
        )
    }

    /// Checks that there is a class and that all numbers are finite and consistent.
    ///
    /// # Errors
    /// [`Error::Config`] naming the class.
    pub fn validate(&self) -> Result<()> {
        if self.classes.is_empty() {
            return Err(Error::config("no classes, expected at least one"));
        }
        if !(self.false_alarm_rate > 0.0 && self.false_alarm_rate < 1.0) {
            return Err(Error::config(format!("false_alarm_rate = {} is outside 0..1", self.false_alarm_rate)));
        }
        let classes = self.classes.iter().map(|(class, calibration)| (class.as_str(), calibration));
        for (class, calibration) in classes.chain([("(overall)", &self.overall)]) {
            let ClassCalibration { threshold, pixel_threshold, good_scores, good_descriptors } = calibration;
            let refuse = |reason: String| Err(Error::config(format!("class {class}: {reason}")));
            if class.trim().is_empty() {
                return Err(Error::config("a class has no name"));
            }
            if !threshold.is_finite() {
                return refuse(format!("threshold = {threshold} is not finite"));
            }
            if let Some(pixel) = pixel_threshold.filter(|pixel| !(pixel.is_finite() && *pixel > 0.0)) {
                return refuse(format!("pixel_threshold = {pixel} is no positive number"));
            }
            if good_scores.count == 0 {
                return refuse("its statistics are of no photos".into());
            }
            if ![good_scores.mean, good_scores.std].iter().all(|v| v.is_finite()) || good_scores.std < 0.0 {
                return refuse(format!("mean {} or std {} is not valid", good_scores.mean, good_scores.std));
            }
            let quantiles = &good_scores.quantiles;
            let proper = |q: &Quantile| (0.0..=1.0).contains(&q.level) && q.score.is_finite();
            let ascending = quantiles.is_sorted_by(|a, b| a.level < b.level && a.score <= b.score);
            if !quantiles.iter().all(proper) || !ascending {
                return refuse(format!("quantiles do not ascend: {quantiles:?}"));
            }
            if let Some(Err(error)) = good_descriptors.as_ref().map(DescriptorStatistics::validate) {
                return refuse(error.to_string());
            }
        }
        Ok(())
    }
}

/// A share in percent, to a thousandth.
pub fn percent(share: f64) -> f64 {
    (1e5 * share).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(threshold: f32, good_scores: &[f32]) -> ClassCalibration {
        let good_scores = ScoreStatistics::of(good_scores).unwrap();
        ClassCalibration { threshold, pixel_threshold: None, good_scores, good_descriptors: None }
    }

    #[test]
    fn statistics_agree_with_numpy() {
        // numpy.quantile([3, 1, 4, 1, 5], …), .mean(), .std()
        let statistics = ScoreStatistics::of(&[3.0, 1.0, 4.0, 1.0, 5.0]).unwrap();
        assert_eq!(statistics.count, 5);
        assert!((statistics.mean - 2.8).abs() < 1e-12 && (statistics.std - 1.6).abs() < 1e-12, "{statistics:?}");
        let expected = [1.0, 1.0, 1.0, 1.0, 3.0, 4.0, 4.8, 4.96, 5.0];
        for (quantile, expected) in statistics.quantiles.iter().zip(expected) {
            assert!((quantile.score - expected).abs() < 1e-12, "{quantile:?}, expected {expected}");
        }
        assert_eq!(ScoreStatistics::of(&[2.0]).unwrap().quantiles[4], Quantile { level: 0.5, score: 2.0 });
    }

    #[test]
    fn scores_that_are_none_are_refused() {
        assert!(ScoreStatistics::of(&[]).unwrap_err().to_string().contains("no scores"));
        assert!(ScoreStatistics::of(&[1.0, f32::NAN]).unwrap_err().to_string().contains("score 1 is NaN"));
    }

    #[test]
    fn an_unknown_class_gets_the_overall_threshold() {
        let class = |threshold| of(threshold, &[0.1]);
        let calibration = Calibration {
            classes: [("screw".to_owned(), class(0.2))].into(),
            overall: class(0.3),
            held_out: true,
            false_alarm_rate: 0.01,
        };
        for (name, expected) in [(Some("screw"), 0.2), (Some("nut"), 0.3), (None, 0.3)] {
            assert_eq!(calibration.of_class(name).threshold, expected, "{name:?}");
        }
    }

    #[test]
    fn models_without_pixel_thresholds_stay_as_they_are() {
        let earlier = of(0.5, &[0.1, 0.3]);
        let json = serde_json::to_string(&earlier).unwrap();
        assert!(!json.contains("pixel") && !json.contains("descriptors"), "{json}");
        assert_eq!(serde_json::from_str::<ClassCalibration>(&json).unwrap(), earlier);
        let with = ClassCalibration { pixel_threshold: Some(0.25), ..earlier };
        let json = serde_json::to_string(&with).unwrap();
        assert!(json.contains(r#""pixel_threshold":0.25"#), "{json}");
        assert_eq!(serde_json::from_str::<ClassCalibration>(&json).unwrap(), with);
    }

    #[test]
    fn a_usual_good_photo_is_0_and_the_threshold_1() {
        let class = of(0.6, &[0.1, 0.2, 0.4]);
        for (score, expected) in [(0.2, 0.0), (0.6, 1.0), (0.0, -0.5), (1.0, 2.0)] {
            assert!((class.normalised(score) - expected).abs() < 1e-6, "{score}: {}", class.normalised(score));
        }
        let same = of(0.2, &[0.2]);
        assert!((same.normalised(0.3) - 10.0).abs() < 1e-3, "{}", same.normalised(0.3));
        let zero = of(0.0, &[0.0]);
        assert!(zero.normalised(0.3).is_finite());
    }

    #[test]
    fn each_bad_number_is_refused_by_class() {
        let good = of(0.2, &[0.1, 0.3]);
        let calibration = |class: ClassCalibration| Calibration {
            classes: [("screw".to_owned(), class)].into(),
            overall: good.clone(),
            held_out: true,
            false_alarm_rate: 0.01,
        };
        calibration(good.clone()).validate().unwrap();
        type Change = fn(&mut ClassCalibration);
        let changes: [(&str, Change); 9] = [
            ("threshold = NaN", |c| c.threshold = f32::NAN),
            ("pixel_threshold = NaN", |c| c.pixel_threshold = Some(f32::NAN)),
            ("pixel_threshold = 0", |c| c.pixel_threshold = Some(0.0)),
            ("pixel_threshold = inf", |c| c.pixel_threshold = Some(f32::INFINITY)),
            ("no photo", |c| c.good_scores.count = 0),
            ("mean inf", |c| c.good_scores.mean = f64::INFINITY),
            ("std -1", |c| c.good_scores.std = -1.0),
            ("do not ascend", |c| c.good_scores.quantiles[3].score = 9.0),
            ("do not ascend", |c| c.good_scores.quantiles[8].level = 2.0),
        ];
        for (expected, change) in changes {
            let mut class = good.clone();
            change(&mut class);
            let error = calibration(class).validate().unwrap_err().to_string();
            assert!(error.contains("class screw") && error.contains(expected), "{error}");
        }
        let none = Calibration { classes: BTreeMap::new(), overall: good, held_out: true, false_alarm_rate: 0.01 };
        assert!(none.validate().unwrap_err().to_string().contains("no classes"));
    }
}
