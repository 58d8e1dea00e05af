//! The seven usual metrics, computed as in the official evaluation: AUROC, average precision and F1-max of images and of
//! pixels, and AUPRO. Beside them AUPIMO, F1 of photos and of pixels at given thresholds, and all of these of resampled photos.

mod pimo;
mod pro;
mod ranking;
mod regions;
mod resampled;
mod segmentation;

pub use pimo::aupimo;
pub use pro::{ProCurve, thresholds};
pub use ranking::{F1Max, Ranking};
pub use regions::Regions;
pub use resampled::{Resampled, Thresholds};
pub use segmentation::{image_f1, seg_f1};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Prediction and ground truth of a test photo.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Anomaly map, row by row.
    pub map: &'a [f32],
    /// Pixels in a row of the map.
    pub width: usize,
    /// Ground-truth mask of the map's shape, true at anomalous pixels. A good photo needs none; if an anomalous photo has none,
    /// the pixel metrics are undefined.
    pub mask: Option<&'a [bool]>,
    /// Whether the photo is anomalous.
    pub anomalous: bool,
    /// Image score.
    pub score: f32,
}

/// The seven metrics as shares of 1; `None` for an undefined one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Image AUROC.
    pub i_auroc: Option<f64>,
    /// Image average precision.
    pub i_ap: Option<f64>,
    /// Image F1-max.
    pub i_f1max: Option<f64>,
    /// Pixel AUROC.
    pub p_auroc: Option<f64>,
    /// Pixel average precision.
    pub p_ap: Option<f64>,
    /// Pixel F1-max.
    pub p_f1max: Option<f64>,
    /// Area under the per-region-overlap curve up to a false positive rate of 0.3.
    pub aupro: Option<f64>,
    /// A sentence for each metric that is `None`, or that is a mean over fewer classes than were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undefined: Vec<String>,
}

impl Metrics {
    /// Names of the metrics, in the order of [`Metrics::values`].
    pub const NAMES: [&'static str; 7] = ["I-AUROC", "I-AP", "I-F1max", "P-AUROC", "P-AP", "P-F1max", "AUPRO"];

    /// Metrics of one class, whose maps may differ in size.
    ///
    /// Average precision and F1 are `None` if nothing is anomalous. The official functions return 0 then (as do
    /// [`Ranking::average_precision`] and [`Ranking::f1_max`]), but the official evaluation as a whole fails, and a 0 in a
    /// table would look like a bad detector. Takes 4 bytes of memory per pixel.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there are no samples or a value is not finite, [`Error::Shape`] if a map has incomplete rows or a mask
    /// another size than its map.
    pub fn of(samples: &[Sample<'_>]) -> Result<Self> {
        for (i, sample) in samples.iter().enumerate() {
            let (pixels, width) = (sample.map.len(), sample.width);
            if width == 0 || !pixels.is_multiple_of(width) {
                let name = format!("anomaly map of photo {i}");
                return Err(Error::Shape {
                    name,
                    expected: vec![pixels.div_ceil(width.max(1)), width],
                    found: vec![pixels],
                });
            }
            if let Some(mask) = sample.mask.filter(|mask| mask.len() != pixels) {
                let name = format!("mask of photo {i}");
                return Err(Error::Shape { name, expected: vec![pixels / width, width], found: vec![mask.len()] });
            }
        }
        let (scores, labels): (Vec<f32>, Vec<bool>) = samples.iter().map(|s| (s.score, s.anomalous)).unzip();
        let images = by_rank(&Ranking::new("image scores", &[(&scores, Some(&labels))])?, "photos");

        let unmasked = samples.iter().filter(|s| s.anomalous && s.mask.is_none()).count();
        let [p_auroc, p_ap, p_f1max, aupro] = if unmasked > 0 {
            let reason =
                format!("{unmasked} of {} anomalous photos have no mask", labels.iter().filter(|&&l| l).count());
            std::array::from_fn(|_| Err(reason.clone()))
        } else {
            let parts: Vec<_> = samples.iter().map(|s| (s.map, s.mask)).collect();
            let pixels = Ranking::new("anomaly maps", &parts)?;
            let [p_auroc, p_ap, p_f1max] = by_rank(&pixels, "pixels");
            let widths: Vec<usize> = samples.iter().map(|s| s.width).collect();
            let aupro = ProCurve::new(&pixels, &parts, &widths).and_then(|curve| curve.area()).map_err(reason);
            [p_auroc, p_ap, p_f1max, aupro]
        };

        let mut undefined = Vec::new();
        let found = images.into_iter().chain([p_auroc, p_ap, p_f1max, aupro]);
        let mut values = found.zip(Self::NAMES).map(|(value, name)| defined(value, name, &mut undefined));
        let values = std::array::from_fn(|_| values.next().flatten());
        Ok(Self::from_values(values, undefined))
    }

    /// The three image metrics from scores and labels, for photos without maps or for parts with several photos. `items` names
    /// them in the plural.
    ///
    /// # Errors
    /// As [`Metrics::of`].
    pub fn of_scores(scores: &[f32], anomalous: &[bool], items: &str) -> Result<Self> {
        let mut undefined = Vec::new();
        let found = by_rank(&Ranking::new("image scores", &[(scores, Some(anomalous))])?, items);
        let mut values = found.into_iter().zip(Self::NAMES).map(|(value, name)| defined(value, name, &mut undefined));
        let values = std::array::from_fn(|_| values.next().flatten());
        Ok(Self::from_values(values, undefined))
    }

    /// Mean of each metric over the classes for which it is defined.
    pub fn mean(classes: &[Self]) -> Self {
        let mut undefined = Vec::new();
        let values = std::array::from_fn(|i| {
            let defined: Vec<f64> = classes.iter().filter_map(|class| class.values()[i]).collect();
            if defined.len() < classes.len() || defined.is_empty() {
                undefined.push(format!(
                    "{} is defined in {} of {} classes",
                    Self::NAMES[i],
                    defined.len(),
                    classes.len()
                ));
            }
            (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
        });
        Self::from_values(values, undefined)
    }

    /// The values, in the order of [`Metrics::NAMES`].
    pub fn values(&self) -> [Option<f64>; 7] {
        [self.i_auroc, self.i_ap, self.i_f1max, self.p_auroc, self.p_ap, self.p_f1max, self.aupro]
    }

    fn from_values(values: [Option<f64>; 7], undefined: Vec<String>) -> Self {
        let [i_auroc, i_ap, i_f1max, p_auroc, p_ap, p_f1max, aupro] = values;
        Self { i_auroc, i_ap, i_f1max, p_auroc, p_ap, p_f1max, aupro, undefined }
    }
}

/// A metric, or why it is undefined.
type Defined = std::result::Result<f64, String>;

/// The value, or `None` after adding the reason to `undefined`.
fn defined(value: Defined, name: &str, undefined: &mut Vec<String>) -> Option<f64> {
    value.map_err(|reason| undefined.push(format!("{name} is undefined: {reason}"))).ok()
}

/// AUROC, average precision and F1-max of a ranking of `items`.
fn by_rank(ranking: &Ranking, items: &str) -> [Defined; 3] {
    let needs_anomalous = |value: f64| match ranking.anomalous() {
        0 => Err(format!("none of the {} {items} is anomalous", ranking.normal())),
        _ => Ok(value),
    };
    [
        ranking.auroc().map_err(|e| format!("{} {items}", reason(e))),
        needs_anomalous(ranking.average_precision()),
        needs_anomalous(ranking.f1_max().value),
    ]
}

/// Reason of an error alone: its name of the metric is shorter than the one used here.
fn reason(error: Error) -> String {
    match error {
        Error::Metric { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: [f32; 6] = [0.1, 0.2, 0.3, 0.9, 0.8, 0.4];
    const MASK: [bool; 6] = [false, false, false, true, true, false];

    fn good(score: f32) -> Sample<'static> {
        Sample { map: &[0.1, 0.2, 0.1, 0.3, 0.2, 0.5], width: 3, mask: None, anomalous: false, score }
    }

    fn bad(score: f32) -> Sample<'static> {
        Sample { map: &MAP, width: 3, mask: Some(&MASK), anomalous: true, score }
    }

    #[test]
    fn a_perfect_detector_has_all_seven() {
        let metrics = Metrics::of(&[good(0.1), bad(0.9), good(0.2)]).unwrap();
        assert_eq!(metrics.undefined, [""; 0]);
        for (name, value) in Metrics::NAMES.iter().zip(metrics.values()) {
            assert!((value.unwrap() - 1.0).abs() < 1e-7, "{name}: {value:?}");
        }
    }

    #[test]
    fn maps_may_differ_in_size() {
        let wide = Sample { map: &[0.1, 0.2, 0.3, 0.4], width: 4, mask: None, anomalous: false, score: 0.1 };
        // One region of two pixels, whether rows have three pixels or, wrongly, four.
        let metrics = Metrics::of(&[wide, bad(0.9)]).unwrap();
        assert_eq!((metrics.p_auroc, metrics.aupro.is_some()), (Some(1.0), true));
    }

    #[test]
    fn without_anomalous_photos_all_is_undefined_and_says_so() {
        let metrics = Metrics::of(&[good(0.1), good(0.2)]).unwrap();
        assert_eq!(metrics.values(), [None; 7]);
        assert_eq!(metrics.undefined.len(), 7);
        assert_eq!(
            metrics.undefined[0],
            "I-AUROC is undefined: it compares anomalous with normal, found 0 anomalous and 2 normal photos"
        );
        assert_eq!(metrics.undefined[4], "P-AP is undefined: none of the 12 pixels is anomalous");
        assert_eq!(metrics.undefined[6], "AUPRO is undefined: the masks hold no anomalous pixel");
    }

    #[test]
    fn without_good_photos_the_rest_is_defined() {
        let metrics = Metrics::of(&[bad(0.8), bad(0.9)]).unwrap();
        assert!(metrics.i_auroc.is_none() && metrics.values()[1..].iter().all(Option::is_some));
        assert_eq!(metrics.undefined.len(), 1);
    }

    #[test]
    fn without_masks_the_image_metrics_are_defined() {
        let metrics = Metrics::of(&[good(0.1), bad(0.8), Sample { mask: None, ..bad(0.9) }]).unwrap();
        assert!(metrics.values()[..3].iter().all(Option::is_some) && metrics.values()[3..].iter().all(Option::is_none));
        assert_eq!(metrics.undefined[0], "P-AUROC is undefined: 1 of 2 anomalous photos have no mask");
    }

    #[test]
    fn scores_alone_have_the_same_image_metrics() {
        let photos = [good(0.1), bad(0.8), good(0.9), bad(0.7)];
        let (scores, labels): (Vec<f32>, Vec<bool>) = photos.iter().map(|s| (s.score, s.anomalous)).unzip();
        let (all, images) = (Metrics::of(&photos).unwrap(), Metrics::of_scores(&scores, &labels, "parts").unwrap());
        assert_eq!(images.values()[..3], all.values()[..3]);
        assert_eq!((images.values()[3..].to_vec(), images.undefined), (vec![None; 4], vec![]));
        let one_sided = Metrics::of_scores(&scores, &[false; 4], "parts").unwrap();
        assert_eq!(one_sided.undefined[1], "I-AP is undefined: none of the 4 parts is anomalous");
    }

    #[test]
    fn the_mean_is_over_the_classes_that_define_it() {
        let class = |i_auroc, aupro| Metrics { i_auroc, aupro, ..Metrics::default() };
        let mean = Metrics::mean(&[class(Some(0.5), None), class(Some(1.0), Some(0.25)), class(Some(0.75), None)]);
        assert_eq!((mean.i_auroc, mean.aupro, mean.p_ap), (Some(0.75), Some(0.25), None));
        assert!(mean.undefined.contains(&"AUPRO is defined in 1 of 3 classes".into()), "{:?}", mean.undefined);
        assert!(!mean.undefined.iter().any(|line| line.starts_with("I-AUROC")));
    }

    #[test]
    fn samples_that_do_not_fit_are_refused() {
        let message = |sample| Metrics::of(&[good(0.1), sample]).unwrap_err().to_string();
        assert!(
            message(Sample { width: 4, ..bad(0.9) })
                .contains("anomaly map of photo 1: expected shape [2, 4], found [6]")
        );
        let short = Sample { mask: Some(&MASK[..3]), ..bad(0.9) };
        assert!(message(short).contains("mask of photo 1: expected shape [2, 3], found [3]"));
        assert!(message(bad(f32::NAN)).contains("image scores: value 1 of part 0 is NaN"));
        let broken = Sample { map: &[f32::INFINITY; 6], ..bad(0.9) };
        assert!(message(broken).contains("anomaly maps: value 0 of part 1 is inf"));
        assert!(Metrics::of(&[]).is_err());
    }

    #[test]
    fn json_keeps_what_is_undefined() {
        let metrics = Metrics::of(&[bad(0.8), bad(0.9)]).unwrap();
        let json = serde_json::to_string(&metrics).unwrap();
        assert!(json.starts_with(r#"{"i_auroc":null,"i_ap":1.0"#), "{json}");
        assert_eq!(serde_json::from_str::<Metrics>(&json).unwrap(), metrics);
    }
}
