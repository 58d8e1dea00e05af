//! A line's recent scores beside those of its calibration: the population stability index.
//!
//! The index is Σ (a - e) ln(a / e) over classes of scores, with the expected share e of each and the share a that was found. By
//! chance it is about χ² of one degree of freedom less than classes, times 1/found + 1/calibrated (Yurdakul, "Statistical properties of
//! population stability index", 2018).

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Model, ScoreStatistics};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::dataset::counted;
use crate::system::atomic::{check_file, write_file};
use crate::system::lock::Lock;

/// Index from which a line is said to have moved away; usual where it is used. Higher where chance alone may reach it.
const ALARM: f64 = 0.25;

/// Least number of photos that say something.
const LEAST: usize = 100;

/// Number of the last photos that are compared.
const WINDOW: usize = 500;

/// Least number of good photos in a calibration to compare with.
const LEAST_CALIBRATED: usize = 20;

/// Probability that chance alone stays below the alarm.
const SURE: f64 = 0.999;

/// Quantiles of the good scores between which scores are counted.
const LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// What a file of drift says about the photos so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// Number of photos that are compared, the last ones.
    pub photos: usize,
    /// Population stability index; `None` below 100 photos.
    pub index: Option<f64>,
    /// Index from which the line has drifted: 0.25, or what so few photos reach by chance once in a thousand times.
    pub alarm: f64,
    /// Whether the line has drifted.
    pub drifted: bool,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { photos, index, alarm, drifted } = self;
        let Some(index) = index else {
            return write!(f, "drift: {} so far, {LEAST} say something", counted(*photos, "photo", "photos"));
        };
        write!(f, "drift: population stability index {index:.2} over the last {photos} photos, alarm at {alarm:.2}")?;
        if *drifted {
            f.write_str(
                ": the line has moved away from its calibration; look at camera, light and parts, then calibrate with new good photos",
            )?;
        }
        Ok(())
    }
}

/// Classes of scores with the share of good photos in each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// Number of good photos.
    photos: usize,
    /// Highest score of each class but the last.
    edges: Vec<f64>,
    /// Share of good photos in each class.
    shares: Vec<f64>,
}

impl Reference {
    fn of(good: &ScoreStatistics) -> Self {
        let n = good.count as f64;
        let mut edges: Vec<f64> = Vec::new();
        // Shares up to each edge.
        let mut below: Vec<f64> = Vec::new();
        for quantile in good.quantiles.iter().filter(|quantile| LEVELS.contains(&quantile.level)) {
            // Of n + 1 exchangeable scores the next one is below the k-th of the others with probability k / (n + 1).
            let share = (quantile.level * (n - 1.0) + 1.0) / (n + 1.0);
            if edges.last() == Some(&quantile.score) {
                below.pop();
            } else {
                edges.push(quantile.score);
            }
            below.push(share);
        }
        let shares = below.iter().copied().chain([1.0]).zip([0.0].into_iter().chain(below.iter().copied()));
        Self { photos: good.count, shares: shares.map(|(end, start)| end - start).collect(), edges }
    }

    /// The index of these scores, and the alarm for so many.
    fn compare(&self, scores: &[f32]) -> (f64, f64) {
        let mut counts = vec![0_usize; self.shares.len()];
        for &score in scores {
            counts[self.edges.partition_point(|&edge| edge < f64::from(score))] += 1;
        }
        // Half a photo more in each class: none is empty.
        let all = scores.len() as f64 + 0.5 * counts.len() as f64;
        let term = |(&count, &expected): (&usize, &f64)| {
            let found = (count as f64 + 0.5) / all;
            (found - expected) * (found / expected).ln()
        };
        let index = counts.iter().zip(&self.shares).map(term).sum();
        let freedom = (counts.len() - 1) as f64;
        let chance = ChiSquared::new(freedom).expect("two classes or more").inverse_cdf(SURE);
        let chance = chance * (1.0 / scores.len() as f64 + 1.0 / self.photos as f64);
        (index, ALARM.max(chance))
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Says that this is such a file.
    drift_format: u32,
    /// Name of the model that gave the first scores.
    model: String,
    /// Class whose calibration is compared with; `None` for all together.
    class: Option<String>,
    good: Reference,
    /// Number of photos since the file was begun.
    photos: u64,
    /// Scores of the last [`WINDOW`] photos, the oldest first.
    recent: Vec<f32>,
}

const FORMAT: u32 = 1;

/// The last scores of a line, kept in a file over many runs.
#[derive(Debug)]
pub struct DriftFile {
    path: PathBuf,
    record: Record,
    /// Held until the scores are written.
    _lock: Lock,
}

impl DriftFile {
    /// Opens or begins a file for the scores of a model with a class's calibration.
    ///
    /// # Errors
    /// If the calibration has too few good photos, another run uses the file, or the file cannot be used or is of another
    /// calibration.
    pub fn open(path: &Path, model: &Model, class: Option<&str>) -> Result<Self> {
        let calibration = model.calibration.of_class(class);
        let good = Reference::of(&calibration.good_scores);
        if good.photos < LEAST_CALIBRATED || good.edges.is_empty() {
            bail!(
                "model {} is calibrated with {}, which cannot tell drift: calibrate it with {LEAST_CALIBRATED} or more",
                model.name,
                counted(good.photos, "good photo", "good photos")
            );
        }
        check_file(path)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let Some(lock) = Lock::take(Path::new(&lock), &format!("adds to {}", path.display()))? else {
            bail!("another run adds to {}: wait for it, or name another --drift", path.display());
        };
        if !model.calibration.held_out {
            eprintln!("dinomaly: drift from scores of training photos: new good photos score higher without any drift");
        }
        let class = class.map(str::to_owned);
        let record = if path.exists() {
            let record = read(path)?;
            if record.good != good || record.class != class {
                bail!(
                    "{} holds scores of model {}{}, or of an earlier calibration: name another --drift for this one",
                    path.display(),
                    record.model,
                    record.class.map(|class| format!(", class {class}")).unwrap_or_default()
                );
            }
            record
        } else {
            let (model, recent) = (model.name.clone(), Vec::new());
            Record { drift_format: FORMAT, model, class, good, photos: 0, recent }
        };
        Ok(Self { path: path.to_owned(), record, _lock: lock })
    }

    /// Adds a photo's score.
    pub fn add(&mut self, score: f32) -> Drift {
        let recent = &mut self.record.recent;
        if recent.len() >= WINDOW {
            recent.drain(..=recent.len() - WINDOW);
        }
        recent.push(score);
        self.record.photos += 1;
        self.drift()
    }

    fn drift(&self) -> Drift {
        let scores = &self.record.recent;
        let (index, alarm) = self.record.good.compare(scores);
        let enough = scores.len() >= LEAST;
        Drift { photos: scores.len(), index: enough.then_some(index), alarm, drifted: enough && index >= alarm }
    }

    /// Writes the scores, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(self) -> Result<()> {
        write_file(&self.path, &serde_json::to_vec(&self.record)?)
    }
}

fn read(path: &Path) -> Result<Record> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let record: Option<Record> = serde_json::from_slice(&bytes).ok();
    let finite = |record: &Record| record.recent.iter().all(|score| score.is_finite());
    record.filter(|record| record.drift_format == FORMAT && finite(record)).with_context(|| {
        format!("{} holds no scores that detect --drift wrote: name another file, it stays as it is", path.display())
    })
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Sums of twelve uniform numbers are nearly normal.
    fn normal(random: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
    }

    fn scores(random: &mut ChaCha8Rng, count: usize, shift: f64) -> Vec<f32> {
        (0..count).map(|_| (0.3 * (normal(random) + shift) - 4.0).exp() as f32).collect()
    }

    #[test]
    fn the_index_is_that_of_its_formula() {
        let reference = Reference { photos: 1000, edges: vec![1.0, 2.0], shares: vec![0.25, 0.5, 0.25] };
        // 10, 20 and 70 of 100, each with half a photo more.
        let scores = [[1.0f32].repeat(10), [1.5].repeat(20), [9.0].repeat(70)].concat();
        let found = [10.5, 20.5, 70.5].map(|count: f64| count / 101.5);
        let expected: f64 = found.iter().zip(&reference.shares).map(|(a, e)| (a - e) * (a / e).ln()).sum();
        let (index, alarm) = reference.compare(&scores);
        assert!((index - expected).abs() < 1e-12 && index > 0.7, "{index}");
        // R: qchisq(0.999, 2) is 13.81551.
        assert!((alarm - 0.25_f64.max(13.81551 * (0.01 + 0.001))).abs() < 1e-6, "{alarm}");
        assert!((reference.compare(&scores[..20]).1 - 13.81551 * (0.05 + 0.001)).abs() < 1e-5);
    }

    #[test]
    fn equal_scores_share_a_class() {
        let reference = Reference::of(&ScoreStatistics::of(&[0.5; 30]).unwrap());
        assert_eq!(reference.edges, [0.5]);
        assert_eq!(reference.shares.len(), 2);
        assert!((reference.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(reference.compare(&[0.5; 100]).0.is_finite());
    }

    /// Of 2,000 lines that stay, at most 4 give an alarm; of those that move by one and a half standard deviations, 1,805 to all do.
    #[test]
    fn chance_seldom_alarms_and_a_shift_does() {
        let mut random = ChaCha8Rng::seed_from_u64(23);
        let runs = 300;
        for (calibrated, recent) in [(20, 100), (20, 500), (60, 100), (300, 500)] {
            let mut alarms = [0; 2];
            for _ in 0..runs {
                let reference = Reference::of(&ScoreStatistics::of(&scores(&mut random, calibrated, 0.0)).unwrap());
                for (shift, alarms) in [0.0, 1.5].into_iter().zip(&mut alarms) {
                    let (index, alarm) = reference.compare(&scores(&mut random, recent, shift));
                    *alarms += usize::from(index >= alarm);
                }
            }
            println!("{calibrated} calibrated, {recent} recent: {alarms:?} alarms of {runs}");
            assert!(alarms[0] <= runs / 100, "{calibrated} calibrated, {recent} recent: {} alarms", alarms[0]);
            assert!(alarms[1] * 10 > runs * 8, "{calibrated} calibrated, {recent} recent: only {} alarms", alarms[1]);
        }
    }

    #[test]
    fn only_the_last_photos_count_and_few_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line.json");
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut model =
            crate::model_dir::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model")).unwrap();
        model.calibration.overall.good_scores = ScoreStatistics::of(&scores(&mut random, 200, 0.0)).unwrap();
        let mut file = DriftFile::open(&path, &model, None).unwrap();
        for (i, score) in scores(&mut random, LEAST, 4.0).into_iter().enumerate() {
            let drift = file.add(score);
            assert_eq!((drift.photos, drift.index.is_some(), drift.drifted), (i + 1, i + 1 == LEAST, i + 1 == LEAST));
        }
        let error = DriftFile::open(&path, &model, None).unwrap_err().to_string();
        assert!(error.contains("another run adds to"), "{error}");
        file.write().unwrap();
        let mut file = DriftFile::open(&path, &model, None).unwrap();
        let last = scores(&mut random, WINDOW, 0.0).into_iter().map(|score| file.add(score)).last().unwrap();
        assert_eq!((last.photos, last.drifted), (WINDOW, false), "{last:?}");
        assert_eq!(file.record.photos, (LEAST + WINDOW) as u64);
        file.write().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no lock stays");
        // Scores of another calibration, class or model are not comparable.
        let before = std::fs::read(&path).unwrap();
        let class = model.calibration.classes.keys().next().unwrap().clone();
        model.calibration.classes.get_mut(&class).unwrap().good_scores = model.calibration.overall.good_scores.clone();
        let error = DriftFile::open(&path, &model, Some(&class)).unwrap_err().to_string();
        assert!(error.contains("name another --drift for this one"), "{error}");
        model.calibration.overall.good_scores = ScoreStatistics::of(&scores(&mut random, 200, 0.0)).unwrap();
        assert!(DriftFile::open(&path, &model, None).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "{}").unwrap();
        let error = DriftFile::open(&path, &model, None).unwrap_err().to_string();
        assert!(error.contains("holds no scores that detect --drift wrote"), "{error}");
        model.calibration.overall.good_scores = ScoreStatistics::of(&[0.1, 0.2]).unwrap();
        let error = DriftFile::open(&path, &model, None).unwrap_err().to_string();
        assert!(error.contains("calibrated with 2 good photos, which cannot tell drift"), "{error}");
    }
}
