//! Baselines without a model, which look at single pixels. They show that a data set needs a model.

use anyhow::{Context, Result, ensure};
use dinomaly_core::maps::metrics::Ranking;
use image::{GrayImage, RgbImage};

use crate::dataset::Class;

/// A detector that looks at single pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Absolute difference to the mean of the good photos; a photo's score is its mean.
    MeanDifference,
    /// The same; a photo's score is the mean of its largest 1 %.
    LargestDifference,
    /// How far brightness lies outside the range that holds 98 % of all good pixels; a photo's score is its mean.
    Threshold,
    /// Brightness; a photo's score is the mean of its largest 1 %.
    Bright,
    /// Darkness; likewise.
    Dark,
}

/// Metrics of a detector.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The detector.
    pub detector: Baseline,
    /// Image AUROC.
    pub image: f64,
    /// Pixel AUROC.
    pub pixel: f64,
}

impl Baseline {
    const ALL: [Self; 5] = [Self::MeanDifference, Self::LargestDifference, Self::Threshold, Self::Bright, Self::Dark];

    /// Name for a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::MeanDifference => "difference to the mean photo, mean",
            Self::LargestDifference => "difference to the mean photo, largest 1 %",
            Self::Threshold => "brightness outside the usual range",
            Self::Bright => "brightest 1 %",
            Self::Dark => "darkest 1 %",
        }
    }
}

/// Statistics of the good photos.
struct Good {
    mean: Vec<f32>,
    low: f32,
    high: f32,
}

fn brightness(photo: &RgbImage) -> impl Iterator<Item = f32> + '_ {
    photo.pixels().map(|p| (f32::from(p[0]) + f32::from(p[1]) + f32::from(p[2])) / 3.0)
}

impl Good {
    fn new(photos: &[RgbImage]) -> Result<Self> {
        let first = photos.first().context("the baseline needs at least one good photo")?;
        let same = photos.iter().all(|photo| photo.dimensions() == first.dimensions());
        ensure!(same, "the baseline needs photos of one size, found others than {:?}", first.dimensions());
        let mut sum = vec![0.0_f32; first.as_raw().len()];
        let mut histogram = [0_usize; 256];
        for photo in photos {
            sum.iter_mut().zip(photo.as_raw()).for_each(|(sum, &v)| *sum += f32::from(v));
            brightness(photo).for_each(|v| histogram[v as usize] += 1);
        }
        let total: usize = histogram.iter().sum();
        let quantile = |share: f32| {
            let mut left = (share * total as f32) as usize;
            histogram
                .iter()
                .position(|&n| {
                    n > left || {
                        left -= n;
                        false
                    }
                })
                .unwrap_or(255) as f32
        };
        let mean = sum.iter().map(|sum| sum / photos.len() as f32).collect();
        Ok(Self { mean, low: quantile(0.01), high: quantile(0.99) })
    }

    fn map(&self, detector: Baseline, photo: &RgbImage) -> Vec<f32> {
        match detector {
            Baseline::MeanDifference | Baseline::LargestDifference => {
                let difference: Vec<f32> =
                    photo.as_raw().iter().zip(&self.mean).map(|(&v, mean)| (f32::from(v) - mean).abs()).collect();
                difference.chunks_exact(3).map(|p| p.iter().sum::<f32>() / 3.0).collect()
            }
            Baseline::Threshold => brightness(photo).map(|v| (v - self.high).max(self.low - v).max(0.0)).collect(),
            Baseline::Bright => brightness(photo).collect(),
            Baseline::Dark => brightness(photo).map(|v| 255.0 - v).collect(),
        }
    }
}

fn score(detector: Baseline, map: &[f32]) -> f32 {
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    match detector {
        Baseline::MeanDifference | Baseline::Threshold => mean(map),
        _ => {
            let mut sorted = map.to_vec();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            mean(&sorted[..(map.len() / 100).max(1)])
        }
    }
}

/// Runs every detector on labelled photos of one size, `None` standing for the mask of a good one.
///
/// # Errors
/// If there is no good photo to learn from, photos differ in size, or the test photos are not both good and defective.
pub fn measure(train: &[RgbImage], test: &[(RgbImage, Option<GrayImage>)]) -> Result<Vec<Figures>> {
    let good = Good::new(train)?;
    let size = train[0].dimensions();
    for (photo, mask) in test {
        let fits = photo.dimensions() == size && mask.as_ref().is_none_or(|mask| mask.dimensions() == size);
        ensure!(fits, "the baseline needs photos and masks of one size, found others than {size:?}");
    }
    let defective: Vec<bool> = test.iter().map(|(_, mask)| mask.is_some()).collect();
    let masks: Vec<Option<Vec<bool>>> =
        test.iter().map(|(_, mask)| mask.as_ref().map(|mask| mask.as_raw().iter().map(|&v| v > 0).collect())).collect();
    let run = |&detector: &Baseline| {
        let maps: Vec<Vec<f32>> = test.iter().map(|(photo, _)| good.map(detector, photo)).collect();
        let scores: Vec<f32> = maps.iter().map(|map| score(detector, map)).collect();
        let parts: Vec<_> = maps.iter().zip(&masks).map(|(map, mask)| (map.as_slice(), mask.as_deref())).collect();
        Ok(Figures {
            detector,
            image: Ranking::new("scores", &[(&scores, Some(&defective))])?.auroc()?,
            pixel: Ranking::new("maps", &parts)?.auroc()?,
        })
    };
    Baseline::ALL.iter().map(run).collect()
}

/// Runs every detector on a class of a data set on disk.
///
/// # Errors
/// As [`measure`], and if a file cannot be read.
pub fn measure_class(class: &Class) -> Result<Vec<Figures>> {
    let read =
        |path: &std::path::Path| image::open(path).with_context(|| format!("photo {} cannot be read", path.display()));
    let train = class.train.iter().map(|path| Ok(read(path)?.into_rgb8())).collect::<Result<Vec<_>>>()?;
    let labelled = class.test.iter().map(|photo| {
        let mask = photo.masks.first().map(|path| Ok::<_, anyhow::Error>(read(path)?.into_luma8())).transpose()?;
        Ok((read(&photo.path)?.into_rgb8(), mask))
    });
    measure(&train, &labelled.collect::<Result<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Luma, Rgb};

    #[test]
    fn an_easy_defect_is_found() {
        let plain = |level: u8| RgbImage::from_pixel(20, 20, Rgb([level; 3]));
        let mut bad = plain(101);
        let mut mask = GrayImage::new(20, 20);
        (0..4).for_each(|x| {
            bad.put_pixel(x, 0, Rgb([255; 3]));
            mask.put_pixel(x, 0, Luma([255]));
        });
        let figures = measure(&[plain(100), plain(102)], &[(plain(101), None), (bad, Some(mask))]).unwrap();
        for found in &figures {
            let dark = found.detector == Baseline::Dark;
            assert_eq!(found.pixel > 0.99, !dark, "{found:?}");
            assert_eq!(found.image > 0.99, !dark, "{found:?}");
        }
        assert!(measure(&[], &[]).unwrap_err().to_string().contains("at least one good photo"));
    }
}
