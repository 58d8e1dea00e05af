//! Heights of the maps of photos on disk and their descriptors, and the calibration that good ones make.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly_core::bundle::Calibration;
use dinomaly_core::fewshot::Measured;
use dinomaly_core::fewshot::thresholds::{self, Scores};
use dinomaly_core::ops::Read;

use crate::inference::photo_detector::PhotoDetector;

/// Scores good photos, given with their class, and sets the thresholds. `held_out`: whether the model was not trained on them.
///
/// # Errors
/// If a photo cannot be read, or there are no photos.
pub(crate) fn calibration<O: Read>(
    detector: &PhotoDetector<O>,
    photos: Vec<(String, PathBuf)>,
    rate: f64,
    held_out: bool,
) -> Result<Calibration> {
    let source = if held_out { "held-out" } else { "training" };
    println!("calibrating on {} with {} {source} photos", detector.place(), photos.len());
    let good = by_class(detector, photos)?;
    say_doubts(&good.scores, rate);
    Ok(thresholds::of_measured(&good, rate, held_out)?)
}

/// Looks at photos, given with their class.
///
/// # Errors
/// If a photo cannot be read.
pub(super) fn by_class<O: Read>(detector: &PhotoDetector<O>, photos: Vec<(String, PathBuf)>) -> Result<Measured> {
    let (names, paths): (Vec<String>, Vec<PathBuf>) = photos.into_iter().unzip();
    let mut by_class = Measured::default();
    for (name, (heights, descriptor)) in names.iter().zip(detector.measured(&paths)?) {
        by_class.extend(name, [heights]);
        by_class.describe(name, [vec![descriptor]]);
    }
    Ok(by_class)
}

/// Says on standard error which classes have too few photos to tell their thresholds.
pub(super) fn say_doubts(by_class: &Scores, rate: f64) {
    for (name, doubt) in thresholds::doubts(by_class, rate) {
        eprintln!("dinomaly: threshold of {name}: {doubt}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path of an NVIDIA GPU, on the processor: candle in batches of eight, behind the model's self-test.
    #[test]
    fn thresholds_are_the_same_where_candle_looks_at_the_photos() {
        let folder = tempfile::tempdir().unwrap();
        let photo = |i: usize| {
            let path = folder.path().join(format!("{i}.png"));
            let colour = |x: u32, y: u32| [x * x / 40, y * (i as u32 + 3), (x * y) >> 5].map(|v| v as u8);
            image::RgbImage::from_fn(90 + i as u32, 80, |x, y| image::Rgb(colour(x, y))).save(&path).unwrap();
            (["large", "small"][i / 6].to_owned(), path)
        };
        let photos: Vec<(String, PathBuf)> = (0..11).map(photo).collect();
        let model =
            crate::model_dir::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model")).unwrap();
        let on_processor = calibration(&PhotoDetector::new(&model).unwrap(), photos.clone(), 0.2, true).unwrap();
        let candle = PhotoDetector::on_cuda(&model, candle_core::Device::Cpu).unwrap();
        let found = calibration(&candle, photos, 0.2, true).unwrap();
        assert_eq!(found.classes.len(), 2);
        for (class, expected) in &on_processor.classes {
            let found = found.classes[class].threshold;
            // Scores are about 0.1; of the two executors they differ by 1e-6.
            assert!((found - expected.threshold).abs() < 2e-5, "{class}: {found}, {}", expected.threshold);
        }
        assert!((on_processor.classes["large"].threshold - on_processor.classes["small"].threshold).abs() > 1e-3);
    }
}
