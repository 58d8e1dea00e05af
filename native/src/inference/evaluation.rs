//! The seven metrics of a model on labelled photos, class by class, with the maps of one class in memory at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::detector::Detection;
use dinomaly_core::maps::metrics::{Metrics, Sample};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Region;
use serde::{Deserialize, Serialize};

use super::intervals::Intervals;
use crate::dataset::{Class, Dataset, TestPhoto};
use crate::inference::photo_detector::PhotoDetector;
use crate::system::progress::Progress;
use crate::system::table::align;

/// Metrics by class and their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Metrics of each class, in the data set's order.
    pub classes: Vec<ClassMetrics>,
    /// Mean over classes.
    pub mean: Metrics,
    /// Mean over classes of the metrics by part, if classes have several views of each part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_of_samples: Option<Metrics>,
    /// Confidence intervals of the mean over classes, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
}

/// Metrics of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Name of the class.
    pub class: String,
    /// Number of good photos.
    pub good: usize,
    /// Number of defective photos.
    pub defective: usize,
    /// The seven metrics, or only the three image metrics if there are no masks.
    pub metrics: Metrics,
    /// F1 of pixels at the model's pixel threshold, if it has one and there are masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seg_f1: Option<f64>,
    /// Area under the per-image overlap curves, if there are masks and enough good photos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aupimo: Option<f64>,
    /// Why there is none although there are masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aupimo_undefined: Option<String>,
    /// F1 of the verdicts on photos at the model's threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i_f1: Option<f64>,
    /// Confidence intervals, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// Metrics by part, if there are several views of each part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<SampleMetrics>,
    /// Labelled defects outside of the part of the photos that the model looks at; `None` without such defects, or without masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Unseen>,
}

/// Labelled defects that a model cannot see, because it looks at the centre of photos only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unseen {
    /// Share of the defects' pixels that lie outside.
    pub pixels: f64,
    /// Number of defective photos whose defect lies wholly outside.
    pub photos: usize,
}

impl Unseen {
    /// Of each defective photo's numbers of the defect's pixels inside and outside.
    fn of(photos: &[[usize; 2]]) -> Option<Self> {
        let [inside, outside] = [0, 1].map(|i| photos.iter().map(|counts| counts[i]).sum::<usize>());
        (outside > 0).then(|| Self {
            pixels: outside as f64 / (inside + outside) as f64,
            photos: photos.iter().filter(|[inside, outside]| *inside == 0 && *outside > 0).count(),
        })
    }
}

/// Numbers of a mask's defective pixels inside and outside of a region.
fn split_by(region: &Region, mask: &Photo) -> [usize; 2] {
    let mut counts = [0, 0];
    let within = |at: usize, start: f64, end: f64| (start..end).contains(&(at as f64 + 0.5));
    let width = mask.width.max(1) as usize;
    for (i, _) in mask.rgb.chunks_exact(3).enumerate().filter(|(_, pixel)| pixel.iter().any(|&value| value != 0)) {
        let inside = within(i % width, region.x0, region.x1) && within(i / width, region.y0, region.y1);
        counts[usize::from(!inside)] += 1;
    }
    counts
}

/// Metrics by part, for parts with several photos. A part's score is the highest of its photos, and it is defective if any of its
/// photos shows a defect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleMetrics {
    /// Number of good parts.
    pub good: usize,
    /// Number of defective parts.
    pub defective: usize,
    /// The three image metrics.
    pub metrics: Metrics,
}

/// The detection on a test photo, with its ground truth.
#[derive(Clone, Debug)]
pub struct Found {
    /// Score and map.
    pub detection: Detection,
    /// Mask of a defective photo, in the map's shape.
    pub mask: Option<Vec<bool>>,
}

/// Observes the detections on a class's test photos, in order, before they are dropped.
pub type Look<'a> = dyn FnMut(&Class, &[Found]) -> Result<()> + 'a;

/// Evaluates every class of a data set.
///
/// # Errors
/// As [`evaluate_observed`].
pub fn evaluate<O: Read>(detector: &PhotoDetector<O>, dataset: &Dataset) -> Result<Evaluation> {
    evaluate_observed(detector, dataset, &mut |_, _| Ok(()))
}

/// Evaluates every class of a data set, and calls `look` for each.
///
/// # Errors
/// If `look` fails, a class has no test photos, a photo or mask is missing (checked before the work) or unreadable, or a mask has
/// another size than its photo.
pub fn evaluate_observed<O: Read>(
    detector: &PhotoDetector<O>,
    dataset: &Dataset,
    look: &mut Look<'_>,
) -> Result<Evaluation> {
    check_labelled(dataset)?;
    let total = dataset.classes.iter().map(|class| class.test.len()).sum();
    let progress = Progress::new("evaluating", total, "photos");
    let classes = dataset
        .classes
        .iter()
        .map(|class| evaluate_class(detector, class, look, &progress))
        .collect::<Result<Vec<_>>>()?;
    progress.finish();
    Ok(Evaluation::of(classes))
}

/// Checks that a data set has everything that evaluation needs.
///
/// # Errors
/// If a class has no test photos, or a photo or mask is missing; the error names it.
pub fn check_labelled(dataset: &Dataset) -> Result<()> {
    if let Some(class) = dataset.classes.iter().find(|class| class.test.is_empty()) {
        bail!(
            "class {} has no test photos: expected labelled photos, such as {0}/test/good and {0}/test/DEFECT",
            class.name
        );
    }
    dataset.classes.iter().try_for_each(check_files)
}

fn evaluate_class<O: Read>(
    detector: &PhotoDetector<O>,
    class: &Class,
    look: &mut Look<'_>,
    progress: &Progress,
) -> Result<ClassMetrics> {
    let paths: Vec<PathBuf> = class.test.iter().map(|photo| photo.path.clone()).collect();
    let mut found = Vec::with_capacity(paths.len());
    let preparation = detector.detector().preparation();
    let mask = |i: usize, photo: &Photo| {
        let mask = class.test[i].ground_truth((photo.width, photo.height))?;
        Ok(mask.map(|mask| (preparation.mask(&mask), split_by(&preparation.region(photo), &mask))))
    };
    let mut of_defects = Vec::new();
    detector.detect_beside(&paths, mask, |_, result| {
        let (_, detection, mask) = result?;
        let mask = mask.map(|(mask, counts)| {
            of_defects.push(counts);
            mask
        });
        found.push(Found { detection, mask });
        progress.advance(1, String::new);
        Ok(())
    })?;
    let labels: Vec<bool> = class.test.iter().map(|photo| photo.defect.is_some()).collect();
    let scores: Vec<f32> = found.iter().map(|found| found.detection.score).collect();
    let defective = labels.iter().filter(|&&label| label).count();
    let metrics = if defective == 0 || has_masks(class) {
        Metrics::of(&samples_of(class, &found))
    } else {
        Metrics::of_scores(&scores, &labels, "photos").map(|mut metrics| {
            metrics.undefined.push("pixel metrics are left out: there are no masks".into());
            metrics
        })
    };
    let metrics = metrics.with_context(|| format!("class {} cannot be evaluated", class.name))?;
    look(class, &found)?;
    let samples = by_sample(&class.test, &scores)?;
    let (good, unseen) = (labels.len() - defective, Unseen::of(&of_defects));
    Ok(ClassMetrics {
        class: class.name.clone(),
        good,
        defective,
        metrics,
        seg_f1: None,
        aupimo: None,
        aupimo_undefined: None,
        i_f1: None,
        intervals: None,
        samples,
        unseen,
    })
}

/// What metrics take of a class's photos.
pub(super) fn samples_of<'a>(class: &Class, found: &'a [Found]) -> Vec<Sample<'a>> {
    let sample = |(photo, found): (&TestPhoto, &'a Found)| Sample {
        map: &found.detection.map.values,
        width: found.detection.map.width,
        mask: found.mask.as_deref(),
        anomalous: photo.defect.is_some(),
        score: found.detection.score,
    };
    class.test.iter().zip(found).map(sample).collect()
}

/// Metrics by part; `None` if the parts of the photos are unknown.
fn by_sample(photos: &[TestPhoto], scores: &[f32]) -> Result<Option<SampleMetrics>> {
    let mut parts: BTreeMap<&str, (f32, bool)> = BTreeMap::new();
    for (photo, &score) in photos.iter().zip(scores) {
        let Some(sample) = &photo.sample else { continue };
        let part = parts.entry(sample).or_insert((score, false));
        *part = (part.0.max(score), part.1 || photo.defect.is_some());
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let (scores, labels): (Vec<f32>, Vec<bool>) = parts.into_values().unzip();
    let defective = labels.iter().filter(|&&label| label).count();
    let metrics = Metrics::of_scores(&scores, &labels, "parts")?;
    Ok(Some(SampleMetrics { good: labels.len() - defective, defective, metrics }))
}

fn has_masks(class: &Class) -> bool {
    class.test.iter().any(|photo| !photo.masks.is_empty())
}

/// Finds missing files before hours of work.
fn check_files(class: &Class) -> Result<()> {
    for photo in &class.test {
        if !photo.path.is_file() {
            bail!("photo {} is missing", photo.path.display());
        }
        if let Some(mask) = photo.masks.iter().find(|mask| !mask.is_file()) {
            bail!("mask {} of photo {} is missing", mask.display(), photo.path.display());
        }
        if photo.defect.is_some() && photo.masks.is_empty() && has_masks(class) {
            bail!(
                "photo {} shows a defect but has no mask, unlike others of class {}",
                photo.path.display(),
                class.name
            );
        }
    }
    Ok(())
}

impl ClassMetrics {
    /// A sentence on defects that the model cannot see, if there are any.
    pub fn unseen(&self) -> Option<String> {
        let Unseen { pixels, photos } = self.unseen?;
        Some(format!(
            "{:.1} % of the defects' pixels lie outside of the part of the photos that the model looks at, and {photos} of {} defective \
             photos show no defect in it: a model of whole photos sees them",
            100.0 * pixels,
            self.defective
        ))
    }
}

impl Evaluation {
    /// The evaluation of these classes, by one or several models.
    pub fn of(classes: Vec<ClassMetrics>) -> Self {
        let mean = Metrics::mean(&classes.iter().map(|class| class.metrics.clone()).collect::<Vec<_>>());
        let samples: Vec<Metrics> =
            classes.iter().filter_map(|class| Some(class.samples.as_ref()?.metrics.clone())).collect();
        let mean_of_samples =
            (!samples.is_empty()).then(|| Metrics { undefined: Vec::new(), ..Metrics::mean(&samples) });
        Self { classes, mean, mean_of_samples, intervals: None }
    }

    /// Of each metric beside the seven its name, and its values by class; without those that no class has.
    fn beside(&self) -> Vec<(&'static str, Vec<Option<f64>>)> {
        let values = |class: &ClassMetrics| [class.aupimo, class.i_f1, class.seg_f1];
        let of = |metric: usize| self.classes.iter().map(|class| values(class)[metric]).collect::<Vec<_>>();
        let found = ["AUPIMO", "I-F1", "SegF1"].into_iter().enumerate().map(|(i, name)| (name, of(i)));
        found.filter(|(_, values)| values.iter().any(Option::is_some)).collect()
    }

    /// Column heads and rows, for the terminal and CSV: class, good, defective, and the seven metrics in percent; AUPIMO, I-F1 and SegF1,
    /// if a class has them. A class with several views of each part has a second row by part.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let beside = self.beside();
        let head = ["class", "good", "defective"].map(str::to_owned).into_iter();
        let names = Metrics::NAMES.into_iter().chain(beside.iter().map(|(name, _)| *name));
        let mut rows = vec![head.chain(names.map(str::to_owned)).collect::<Vec<_>>()];
        let mut row = |name: &str, good: usize, defective: usize, metrics: &Metrics, beside: Vec<Option<f64>>| {
            let values = metrics.values().into_iter().chain(beside);
            let percent = values.map(|value| value.map_or("–".into(), |v| format!("{:.2}", 100.0 * v)));
            rows.push([name.to_owned(), good.to_string(), defective.to_string()].into_iter().chain(percent).collect());
        };
        let none = vec![None; beside.len()];
        for (i, class) in self.classes.iter().enumerate() {
            let values = beside.iter().map(|(_, values)| values[i]).collect();
            row(&class.class, class.good, class.defective, &class.metrics, values);
            if let Some(parts) = &class.samples {
                row(&format!("{} by part", class.class), parts.good, parts.defective, &parts.metrics, none.clone());
            }
        }
        let sum = |count: fn(&ClassMetrics) -> usize| self.classes.iter().map(count).sum::<usize>();
        let mean = |(_, values): &(_, Vec<Option<f64>>)| {
            let values: Vec<f64> = values.iter().flatten().copied().collect();
            Some(values.iter().sum::<f64>() / values.len() as f64)
        };
        let means = beside.iter().map(mean).collect();
        row("mean", sum(|class| class.good), sum(|class| class.defective), &self.mean, means);
        if let Some(mean) = &self.mean_of_samples {
            let sum =
                |count: fn(&SampleMetrics) -> usize| self.classes.iter().flat_map(|c| &c.samples).map(count).sum();
            row("mean by part", sum(|parts| parts.good), sum(|parts| parts.defective), mean, none);
        }
        rows
    }

    /// Column heads and rows of the confidence intervals in percent, each as `low–high`; empty if there are none. The last is that of the mean.
    pub fn interval_rows(&self) -> Vec<Vec<String>> {
        let Some(of_mean) = &self.intervals else { return Vec::new() };
        let named = self.classes.iter().filter_map(|class| Some((class.class.as_str(), class.intervals.as_ref()?)));
        let all: Vec<(&str, &Intervals)> = named.chain([("mean", of_mean)]).collect();
        let shown: Vec<usize> =
            (0..Intervals::NAMES.len()).filter(|&i| all.iter().any(|(_, found)| found.values()[i].is_some())).collect();
        let head =
            std::iter::once("class").chain(shown.iter().map(|&i| Intervals::NAMES[i])).map(str::to_owned).collect();
        let row = |(name, found): &(&str, &Intervals)| {
            let cell = |&i: &usize| {
                found.values()[i]
                    .map_or("–".to_owned(), |[low, high]| format!("{:.2}–{:.2}", 100.0 * low, 100.0 * high))
            };
            std::iter::once((*name).to_owned()).chain(shown.iter().map(cell)).collect()
        };
        std::iter::once(head).chain(all.iter().map(row)).collect()
    }

    /// [`Evaluation::rows`], and of each metric with confidence intervals two columns with their ends; a row by part has none.
    pub fn csv_rows(&self) -> Vec<Vec<String>> {
        let mut rows = self.rows();
        let intervals = self.interval_rows();
        let Some((head, found)) = intervals.split_first() else { return rows };
        rows[0].extend(head[1..].iter().flat_map(|name| [format!("{name} low"), format!("{name} high")]));
        for row in &mut rows[1..] {
            let own = found.iter().find(|own| own[0] == row[0]);
            let cells = (1..head.len()).flat_map(|i| {
                let ends = own.and_then(|own| own[i].split_once('–'));
                let (low, high) = ends.filter(|(low, _)| !low.is_empty()).unwrap_or(("–", "–"));
                [low.to_owned(), high.to_owned()]
            });
            row.extend(cells);
        }
        rows
    }

    /// The rows as an aligned table, followed by the reasons of undefined metrics, defects that the model cannot see, and the means over fewer classes.
    pub fn table(&self) -> String {
        let mut text = align(&self.rows());
        if let Some(intervals) = &self.intervals {
            text += &format!("\n{}\n{}", intervals.about(), align(&self.interval_rows()));
        }
        for class in &self.classes {
            let parts = class.samples.iter().flat_map(|parts| &parts.metrics.undefined);
            let reasons = class.metrics.undefined.iter().chain(&class.aupimo_undefined).chain(parts);
            for reason in reasons.chain(&class.unseen()) {
                text += &format!("{}: {reason}\n", class.class);
            }
        }
        if self.classes.len() > 1 {
            self.mean.undefined.iter().for_each(|reason| text += &format!("mean: {reason}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_as_bad_as_its_worst_view() {
        let photo = |sample: &str, defect: Option<&str>| TestPhoto {
            sample: Some(sample.into()),
            defect: defect.map(Into::into),
            ..TestPhoto::default()
        };
        // By photo, the good view of b scores above the defective one.
        let photos = [photo("a", None), photo("a", None), photo("b", None), photo("b", Some("cut"))];
        let found = by_sample(&photos, &[0.1, 0.3, 0.9, 0.2]).unwrap().unwrap();
        assert_eq!((found.good, found.defective, found.metrics.i_auroc), (1, 1, Some(1.0)));
        let found = by_sample(&photos, &[0.1, 0.3, 0.2, 0.25]).unwrap().unwrap();
        assert_eq!(found.metrics.i_auroc, Some(0.0));
        assert!(by_sample(&[TestPhoto::default()], &[0.1]).unwrap().is_none());
    }

    #[test]
    fn defects_beyond_the_border_are_counted() {
        let mut mask = Photo { width: 10, height: 4, rgb: vec![0; 120] };
        for x in [0, 1, 2, 9] {
            mask.rgb[3 * (2 * 10 + x) + 1] = 7;
        }
        let region = |x0| Region { x0, y0: 0.0, x1: 9.2, y1: 4.0 };
        // Of the third pixel, 2..3, the centre is inside.
        assert_eq!([split_by(&region(2.4), &mask), split_by(&region(0.0), &mask)], [[1, 3], [3, 1]]);
        assert_eq!(Unseen::of(&[[1, 3], [0, 5], [11, 0], [0, 0]]), Some(Unseen { pixels: 0.4, photos: 1 }));
        assert_eq!(Unseen::of(&[[7, 0]]), None);
        let metrics = ClassMetrics {
            class: "nut".into(),
            good: 1,
            defective: 4,
            metrics: Metrics::default(),
            aupimo: None,
            aupimo_undefined: None,
            i_f1: None,
            intervals: None,
            seg_f1: None,
            samples: None,
            unseen: Some(Unseen { pixels: 0.4, photos: 1 }),
        };
        let table = Evaluation::of(vec![metrics]).table();
        assert!(
            table.contains("nut: 40.0 % of the defects' pixels lie outside") && table.contains("1 of 4"),
            "{table}"
        );
    }

    #[test]
    fn parts_have_rows_and_a_mean_over_fewer_classes_says_so() {
        let metrics = |aupro| Metrics { i_auroc: Some(0.5), aupro, ..Metrics::default() };
        let class = |name: &str, aupro, samples| ClassMetrics {
            class: name.into(),
            good: 2,
            defective: 3,
            metrics: metrics(aupro),
            aupimo: None,
            aupimo_undefined: None,
            i_f1: None,
            intervals: None,
            seg_f1: None,
            samples,
            unseen: None,
        };
        let parts =
            SampleMetrics { good: 1, defective: 1, metrics: Metrics { i_auroc: Some(0.75), ..Metrics::default() } };
        let mut classes = vec![class("nut", Some(0.25), Some(parts)), class("bolt", None, None)];
        let mean = Metrics::mean(&classes.iter().map(|class| class.metrics.clone()).collect::<Vec<_>>());
        let mean_of_samples = Some(metrics(None));
        let table = Evaluation { classes: classes.clone(), mean, mean_of_samples, intervals: None }.table();
        assert!(!table.contains("SegF1"), "{table}");
        let line = |start: &str| {
            let line = table.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {table}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("nut  "), "nut 2 3 50.00 – – – – – 25.00");
        assert_eq!(line("nut by part"), "nut by part 1 1 75.00 – – – – – –");
        assert_eq!(line("mean  "), "mean 4 6 50.00 – – – – – 25.00");
        assert_eq!(line("mean by part"), "mean by part 1 1 50.00 – – – – – –");
        assert!(table.contains("mean: AUPRO is defined in 1 of 2 classes\n"), "{table}");

        classes[1].seg_f1 = Some(0.5);
        let last: Vec<_> = Evaluation::of(classes).rows().into_iter().map(|mut row| row.pop().unwrap()).collect();
        assert_eq!(last, ["SegF1", "–", "–", "50.00", "50.00", "–"]);
    }
}
