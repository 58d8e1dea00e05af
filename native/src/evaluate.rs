//! The seven metrics of a model on labelled photos, class by class: never more than one class's maps in memory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::detector::Detection;
use dinomaly_core::metrics::{Metrics, Sample};
use dinomaly_core::preprocess::Geometry;
use serde::{Deserialize, Serialize};

use crate::dataset::{Class, Dataset, TestPhoto, read_photo};
use crate::detect::PhotoDetector;
use crate::progress::Progress;

/// Metrics by class and their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// In the data set's order.
    pub classes: Vec<ClassMetrics>,
    /// Mean over classes.
    pub mean: Metrics,
}

/// Metrics of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Name of the class.
    pub class: String,
    /// Good photos evaluated.
    pub good: usize,
    /// Defective photos evaluated.
    pub defective: usize,
    /// The seven metrics.
    pub metrics: Metrics,
}

/// What was found on a test photo.
#[derive(Clone, Debug)]
pub struct Found {
    /// Score and map.
    pub detection: Detection,
    /// The mask of a defective photo, of the map's shape.
    pub mask: Option<Vec<bool>>,
}

/// Sees what was found on a class's test photos, in their order, before it is dropped.
pub type Look<'a> = dyn FnMut(&Class, &[Found]) -> Result<()> + 'a;

/// Evaluates every class of a data set.
///
/// # Errors
/// As [`evaluate_observed`].
pub fn evaluate(detector: &PhotoDetector, geometry: Geometry, dataset: &Dataset) -> Result<Evaluation> {
    evaluate_observed(detector, geometry, dataset, &mut |_, _| Ok(()))
}

/// Evaluates every class of a data set, showing each to `look`.
///
/// # Errors
/// Whatever `look` refuses; a class without test photos, a photo or mask that is missing or unreadable, a mask of another size than its photo.
pub fn evaluate_observed(
    detector: &PhotoDetector,
    geometry: Geometry,
    dataset: &Dataset,
    look: &mut Look<'_>,
) -> Result<Evaluation> {
    if let Some(class) = dataset.classes.iter().find(|class| class.test.is_empty()) {
        bail!("class {} has no test photos: expected {0}/test/good and {0}/test/DEFECT", class.name);
    }
    let total = dataset.classes.iter().map(|class| class.test.len()).sum();
    let progress = Progress::new("evaluating", total, "photos");
    let classes = dataset
        .classes
        .iter()
        .map(|class| evaluate_class(detector, geometry, class, look, &progress))
        .collect::<Result<Vec<_>>>()?;
    progress.finish();
    let mean = Metrics::mean(&classes.iter().map(|class| class.metrics.clone()).collect::<Vec<_>>());
    Ok(Evaluation { classes, mean })
}

fn evaluate_class(
    detector: &PhotoDetector,
    geometry: Geometry,
    class: &Class,
    look: &mut Look<'_>,
    progress: &Progress,
) -> Result<ClassMetrics> {
    let paths: Vec<PathBuf> = class.test.iter().map(|photo| photo.path.clone()).collect();
    let mut found = Vec::with_capacity(paths.len());
    detector.detect(&paths, |i, result| {
        let (photo, detection) = result?;
        let mask = mask(&class.test[i], geometry, (photo.width, photo.height), detection.map.side)?;
        found.push(Found { detection, mask });
        progress.advance(1, String::new);
        Ok(())
    })?;
    let samples: Vec<Sample<'_>> = found
        .iter()
        .zip(&class.test)
        .map(|(found, photo)| Sample {
            map: &found.detection.map.values,
            mask: found.mask.as_deref(),
            anomalous: photo.defect.is_some(),
            score: found.detection.score,
        })
        .collect();
    let side = found[0].detection.map.side;
    let metrics = Metrics::of(&samples, side).with_context(|| format!("class {} cannot be evaluated", class.name))?;
    look(class, &found)?;
    let defective = class.test.iter().filter(|photo| photo.defect.is_some()).count();
    Ok(ClassMetrics { class: class.name.clone(), good: class.test.len() - defective, defective, metrics })
}

/// The mask of a defective photo as the metrics see it; `None` for a good one, or where the whole class has no masks.
fn mask(photo: &TestPhoto, geometry: Geometry, size: (u32, u32), side: usize) -> Result<Option<Vec<bool>>> {
    let Some(path) = &photo.mask else { return Ok(None) };
    if !path.is_file() {
        let ground_truth = path.parent().and_then(Path::parent);
        if ground_truth.is_some_and(|folder| !folder.exists()) {
            return Ok(None);
        }
        bail!("mask {} of photo {} is missing", path.display(), photo.path.display());
    }
    let mask = read_photo(path).with_context(|| format!("mask of photo {}", photo.path.display()))?;
    if (mask.width, mask.height) != size {
        bail!("mask {} is {} × {} pixels, its photo {} × {}", path.display(), mask.width, mask.height, size.0, size.1);
    }
    Ok(Some(geometry.mask(&mask, side)))
}

impl Evaluation {
    /// Column heads and rows for people and CSV: class, good, defective, then the seven metrics in percent.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let head = ["class", "good", "defective"].map(str::to_owned).into_iter();
        let mut rows = vec![head.chain(Metrics::NAMES.map(str::to_owned)).collect::<Vec<_>>()];
        let percent = |metrics: &Metrics| {
            metrics.values().map(|value| value.map_or_else(|| "-".to_owned(), |v| format!("{:.2}", 100.0 * v)))
        };
        for class in &self.classes {
            let row = vec![class.class.clone(), class.good.to_string(), class.defective.to_string()];
            rows.push(row.into_iter().chain(percent(&class.metrics)).collect());
        }
        let sum = |count: fn(&ClassMetrics) -> usize| self.classes.iter().map(count).sum::<usize>().to_string();
        let row = vec!["mean".to_owned(), sum(|class| class.good), sum(|class| class.defective)];
        rows.push(row.into_iter().chain(percent(&self.mean)).collect());
        rows
    }

    /// The rows as an aligned table, followed by why a metric is undefined.
    pub fn table(&self) -> String {
        let mut text = align(&self.rows());
        for class in &self.classes {
            for reason in &class.metrics.undefined {
                text += &format!("{}: {reason}\n", class.class);
            }
        }
        text
    }
}

/// Rows of cells as lines, the first column to the left, the others to the right.
pub fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<0$}", widths[column]),
            _ => format!("{cell:>0$}", widths[column]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
