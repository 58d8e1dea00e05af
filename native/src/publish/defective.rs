//! Scores of known defective photos → how many of them thresholds find, and thresholds that tell them from good ones best.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use dinomaly_core::bundle::Calibration;
use dinomaly_core::fewshot::thresholds::Scores;
use statrs::distribution::{Beta, ContinuousCDF};

use crate::dataset::{counted, few, photos_below};

/// Lists the photos below a folder with their classes: those of the subfolders they lie in, or the only class that there is.
///
/// # Errors
/// If there are no photos, or one belongs to none of the classes; the error names it.
pub(super) fn list(folder: &Path, classes: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let photos = photos_below(folder)?;
    if photos.is_empty() {
        bail!("{} holds no photos: --defective is a folder of photos of defective parts", folder.display());
    }
    let class = |photo: &PathBuf| -> Result<String> {
        let below = photo.strip_prefix(folder)?.components().next();
        let subfolder = below.map(|name| name.as_os_str().to_string_lossy().into_owned());
        if let Some(class) = classes.iter().find(|class| Some(*class) == subfolder.as_ref()) {
            return Ok(class.clone());
        }
        let [only] = classes else {
            bail!(
                "{} is in no folder of a class: expected {}/CLASS/…, with {} as CLASS",
                photo.display(),
                folder.display(),
                few(classes)
            );
        };
        Ok(only.clone())
    };
    photos.iter().map(|photo| Ok((class(photo)?, photo.clone()))).collect()
}

/// What thresholds do with good and known defective photos, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct Recall(pub Vec<ClassRecall>);

/// What a class's threshold does with good and known defective photos.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRecall {
    /// Name of the class.
    pub class: String,
    /// The threshold.
    pub threshold: f32,
    /// Number of defective photos.
    pub defective: usize,
    /// Number of defective photos above the threshold.
    pub found: usize,
    /// Number of good photos.
    pub good: usize,
    /// Number of good photos above the threshold.
    pub false_alarms: usize,
}

impl Recall {
    pub(super) fn of(calibration: &Calibration, good: &Scores, defective: &Scores) -> Self {
        let class = |(class, scores): (&String, &Vec<f32>)| {
            let threshold = calibration.of_class(Some(class)).threshold;
            let above = |scores: &[f32]| scores.iter().filter(|&&score| score > threshold).count();
            let good = good.get(class).map(Vec::as_slice).unwrap_or_default();
            ClassRecall {
                class: class.clone(),
                threshold,
                defective: scores.len(),
                found: above(scores),
                good: good.len(),
                false_alarms: above(good),
            }
        };
        Self(defective.iter().map(class).collect())
    }
}

impl fmt::Display for Recall {
    /// A line for each class.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for class in &self.0 {
            let [low, high] = interval(class.found, class.defective).map(|share| 100.0 * share);
            let ClassRecall { class: name, threshold, defective, found, good, false_alarms } = class;
            writeln!(
                f,
                "{name}: threshold {threshold:.4} finds {found} of {} (recall {:.1} %, 95 % interval {low:.0} to {high:.0} %) and \
                 calls {false_alarms} of {} defective",
                counted(*defective, "defective photo", "defective photos"),
                100.0 * *found as f64 / *defective as f64,
                counted(*good, "good photo", "good photos"),
            )?;
        }
        Ok(())
    }
}

/// The probabilities that are not refuted, at 95 %, by so many successes (Clopper and Pearson's interval).
fn interval(successes: usize, trials: usize) -> [f64; 2] {
    let [k, n] = [successes, trials].map(|count| count as f64);
    let quantile = |a: f64, b: f64, level: f64| Beta::new(a, b).expect("both are positive").inverse_cdf(level);
    let low = if successes == 0 { 0.0 } else { quantile(k, n - k + 1.0, 0.025) };
    let high = if successes == trials { 1.0 } else { quantile(k + 1.0, n - k, 0.975) };
    [low, high]
}

/// Puts each class's threshold where F1 is highest on these photos, and that for all classes together likewise. Classes without
/// defective photos keep theirs. The share of false alarms becomes the one that the good photos show.
pub(super) fn choose(calibration: &mut Calibration, good: &Scores, defective: &Scores) {
    for (name, class) in &mut calibration.classes {
        if let (Some(good), Some(defective)) = (good.get(name), defective.get(name)) {
            class.threshold = best(good, defective);
        }
    }
    let all = |scores: &Scores| scores.values().flatten().copied().collect::<Vec<f32>>();
    let (all_good, all_defective) = (all(good), all(defective));
    calibration.overall.threshold = best(&all_good, &all_defective);
    let alarms = |(class, scores): (&String, &Vec<f32>)| {
        let threshold = calibration.of_class(Some(class)).threshold;
        scores.iter().filter(|&&score| score > threshold).count()
    };
    let alarms: usize = good.iter().map(alarms).sum();
    // Neither never nor always, whatever so many photos show.
    calibration.false_alarm_rate = (alarms as f64 + 0.5) / (all_good.len() as f64 + 1.0);
}

/// The threshold with the highest F1 of "defective"; in the middle between the two scores that it parts. Of several, the highest.
fn best(good: &[f32], defective: &[f32]) -> f32 {
    let mut scores: Vec<(f32, bool)> = good.iter().map(|&score| (score, false)).collect();
    scores.extend(defective.iter().map(|&score| (score, true)));
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut found, mut best) = (0, (0.0, scores[0].0));
    for (i, &(score, is_defective)) in scores.iter().enumerate() {
        found += usize::from(is_defective);
        let next = scores.get(i + 1).map_or(0.0, |next| next.0);
        let f1 = 2.0 * found as f64 / (i + 1 + defective.len()) as f64;
        // Equal scores cannot be parted.
        if next < score && f1 > best.0 {
            best = (f1, next + (score - next) / 2.0);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dinomaly_core::fewshot::thresholds;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn scores(class: &str, scores: &[f32]) -> Scores {
        BTreeMap::from([(class.to_owned(), scores.to_vec())])
    }

    #[test]
    fn the_interval_is_that_of_tables() {
        // R: binom.test(4, 5)$conf.int, binom.test(0, 5), binom.test(5, 5), binom.test(50, 100).
        for (successes, trials, low, high) in
            [(4, 5, 0.28358, 0.99495), (0, 5, 0.0, 0.52182), (5, 5, 0.47818, 1.0), (50, 100, 0.39832, 0.60168)]
        {
            let found = interval(successes, trials);
            assert!((found[0] - low).abs() < 1e-4 && (found[1] - high).abs() < 1e-4, "{successes}: {found:?}");
        }
    }

    #[test]
    fn the_best_threshold_is_that_of_trying_all() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..300 {
            // Few values, so that some are equal.
            let mut draw = |from: u32, to: u32| -> Vec<f32> {
                (0..random.random_range(1..9)).map(|_| random.random_range(from..to) as f32 / 10.0).collect()
            };
            let (good, defective) = (draw(1, 8), draw(3, 12));
            let f1 = |threshold: f32| {
                let above = |scores: &[f32]| scores.iter().filter(|&&score| score > threshold).count() as f64;
                2.0 * above(&defective) / (above(&defective) + above(&good) + defective.len() as f64)
            };
            let expected = (0..13).map(|step| f1(step as f32 / 10.0 + 0.05)).fold(0.0, f64::max);
            let found = best(&good, &defective);
            assert_eq!(f1(found), expected, "{found} for {good:?} and {defective:?}");
        }
        assert_eq!(best(&[0.1, 0.2], &[0.4, 0.5]), 0.3);
    }

    #[test]
    fn recall_is_counted_and_a_choice_changes_it() {
        let (good, defective) = (scores("nut", &[0.1, 0.11, 0.12]), scores("nut", &[0.125, 0.3]));
        let mut calibration = thresholds::of_scores(&good, 0.01, true).unwrap();
        let count = |calibration: &Calibration| {
            let Recall(classes) = Recall::of(calibration, &good, &defective);
            (classes[0].found, classes[0].defective, classes[0].false_alarms, classes[0].good)
        };
        assert_eq!(count(&calibration), (1, 2, 0, 3));
        choose(&mut calibration, &good, &defective);
        assert_eq!(count(&calibration), (2, 2, 0, 3));
        assert_eq!(
            (calibration.false_alarm_rate, calibration.overall.threshold),
            (0.125, calibration.classes["nut"].threshold)
        );
        calibration.validate().unwrap();
        let said = Recall::of(&calibration, &good, &defective).to_string();
        assert!(said.contains("finds 2 of 2 defective photos (recall 100.0 %, 95 % interval 16 to 100 %)"), "{said}");
        assert!(said.contains("calls 0 of 3 good photos defective"), "{said}");
    }

    #[test]
    fn photos_belong_to_the_folder_of_their_class_or_to_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        for photo in ["nut/a.png", "nut/deep/b.png", "bolt/c.png"] {
            let path = folder.path().join(photo);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let listed = |classes: &[&str]| {
            let classes: Vec<String> = classes.iter().map(|&class| class.into()).collect();
            list(folder.path(), &classes).map(|photos| photos.into_iter().map(|(class, _)| class).collect::<Vec<_>>())
        };
        assert_eq!(listed(&["bolt", "nut"]).unwrap(), ["bolt", "nut", "nut"]);
        assert_eq!(listed(&["pin"]).unwrap(), ["pin", "pin", "pin"]);
        let error = listed(&["nut", "pin"]).unwrap_err().to_string();
        assert!(error.contains("c.png is in no folder of a class: expected ") && error.contains("nut, pin"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(list(empty.path(), &[]).unwrap_err().to_string().contains("holds no photos"));
    }
}
