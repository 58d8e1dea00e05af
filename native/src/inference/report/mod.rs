//! An evaluation as one HTML page, without scripts, requests or other files. [`Report`] collects what the page shows of each class
//! while its maps are in memory, and [`page()`] assembles `chart`s and a `gallery`. [`suspects_page`] shows odd training photos.

mod chart;
mod gallery;
mod page;
mod suspects;

use anyhow::Result;
use dinomaly_core::bundle::{Calibration, Model};
use dinomaly_core::maps::metrics::Ranking;
use dinomaly_core::photo::window::Window;

use crate::dataset::Class;
use crate::inference::evaluation::Found;
use gallery::{Picture, Show};

pub(crate) use page::document;
pub use page::{Facts, page};
pub(super) use suspects::suspects_page;

/// Contents of the page for all classes.
pub struct Report<'a> {
    calibration: &'a Calibration,
    /// The model's window of 16-bit grey.
    window: Option<Window>,
    /// Largest number of photos per class in the gallery.
    gallery: usize,
    classes: Vec<ClassReport>,
}

/// Contents of the page for a class, besides its metrics.
struct ClassReport {
    /// Scores above the threshold are defective.
    threshold: f32,
    /// Whether the model has the class. If not, the threshold is that of all its classes.
    known: bool,
    good: Vec<f32>,
    defective: Vec<f32>,
    image: Option<Curves>,
    pixel: Option<Curves>,
    /// Photos with the largest errors, the largest first.
    pictures: Vec<Picture>,
}

/// Curves of a ranking, thinned to the resolution of a drawing.
struct Curves {
    roc: Vec<(f64, f64)>,
    precision_recall: Vec<(f64, f64)>,
}

impl<'a> Report<'a> {
    /// An empty report, with at most `gallery` photos per class.
    pub fn new(model: &'a Model, gallery: usize) -> Self {
        let window = model.preprocessor.window;
        Self { calibration: &model.calibration, window, gallery, classes: Vec::new() }
    }

    /// Adds a class.
    ///
    /// # Errors
    /// If a photo cannot be read again.
    pub fn add(&mut self, class: &Class, found: &[Found]) -> Result<()> {
        let threshold = self.calibration.of_class(Some(&class.name)).threshold;
        let scores: Vec<f32> = found.iter().map(|found| found.detection.score).collect();
        let anomalous: Vec<bool> = class.test.iter().map(|photo| photo.defect.is_some()).collect();
        let of = |wanted| scores.iter().zip(&anomalous).filter(move |(_, is)| **is == wanted).map(|(score, _)| *score);
        let image = Curves::of(&Ranking::new("image scores", &[(&scores, Some(&anomalous))])?);
        let masked = found.iter().zip(&anomalous).all(|(found, anomalous)| found.mask.is_some() || !anomalous);
        let parts: Vec<_> = found.iter().map(|f| (&f.detection.map.values[..], f.mask.as_deref())).collect();
        let pixel = if masked { Curves::of(&Ranking::new("anomaly maps", &parts)?) } else { None };
        self.classes.push(ClassReport {
            threshold,
            known: self.calibration.classes.contains_key(&class.name),
            good: of(false).collect(),
            defective: of(true).collect(),
            image,
            pixel,
            pictures: gallery::pictures(class, found, &Show { threshold, limit: self.gallery, window: self.window })?,
        });
        Ok(())
    }
}

impl ClassReport {
    fn false_alarms(&self) -> usize {
        self.good.iter().filter(|&&score| score > self.threshold).count()
    }

    fn misses(&self) -> usize {
        self.defective.iter().filter(|&&score| score <= self.threshold).count()
    }
}

impl Curves {
    /// `None` if there are only good or only defective items, for which curves are undefined.
    fn of(ranking: &Ranking) -> Option<Self> {
        (ranking.normal() > 0 && ranking.anomalous() > 0)
            .then(|| Self { roc: thinned(ranking.roc()), precision_recall: thinned(ranking.precision_recall()) })
    }
}

/// Points at least about a pixel from the previous one, and the last point.
fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    const PIXEL: f64 = 1.0 / 400.0;
    let (mut kept, mut last): (Vec<(f64, f64)>, _) = (Vec::new(), None);
    for point in points {
        if kept.last().is_none_or(|(x, y)| (point.0 - x).abs().max((point.1 - y).abs()) >= PIXEL) {
            kept.push(point);
        }
        last = Some(point);
    }
    kept.extend(last.filter(|last| kept.last() != Some(last)));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_shape_and_its_ends() {
        let fine = |n: usize| (0..=n).map(move |i| (i as f64 / n as f64, (i as f64 / n as f64).sqrt()));
        assert_eq!(thinned(fine(9)), fine(9).collect::<Vec<_>>());
        let kept = thinned(fine(1_000_000));
        assert!(kept.len() < 900, "{}", kept.len());
        assert_eq!((kept[0], kept[kept.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        let area = |points: &[(f64, f64)]| -> f64 {
            points.windows(2).map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0).sum()
        };
        assert!((area(&kept) - 2.0 / 3.0).abs() < 1e-4, "{}", area(&kept));
        assert_eq!(thinned(std::iter::empty()), []);
    }
}
