//! A model that stays on its device: loaded once, it looks at photos from anywhere, as often as it is asked.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dinomaly_core::bundle::Calibration;
use dinomaly_core::detector::Detection;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::window::Window;

use super::judging::{Judgement, Judging};
use super::photo_detector::PhotoDetector;
use super::{AnyDetector, DetectorDevice};
use crate::model_dir;

/// A model on its device, with the thresholds that it judges by. It stays on the thread that opened it.
pub struct LoadedModel {
    folder: PathBuf,
    name: String,
    calibration: Calibration,
    window: Option<Window>,
    detector: AnyDetector,
}

/// A photo with what a model says about it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The photo.
    pub photo: Photo,
    /// Score and anomaly map.
    pub detection: Detection,
    /// What the model's thresholds say.
    pub judgement: Judgement,
}

impl LoadedModel {
    /// Reads a model folder and puts the model on a device.
    ///
    /// # Errors
    /// As [`model_dir::read`] and [`DetectorDevice::open`].
    pub fn open(folder: &Path, place: DetectorDevice) -> Result<Self> {
        let model = model_dir::read(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            name: model.name.clone(),
            calibration: model.calibration.clone(),
            window: model.preprocessor.window,
            detector: place.open(&model)?,
        })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Classes and thresholds.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// What becomes black and white of 16-bit grey.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Checks that the model has what is asked for.
    ///
    /// # Errors
    /// As [`Judging::check`].
    pub fn check(&self, judging: &Judging) -> Result<()> {
        judging.check(&self.folder, &self.calibration)
    }

    /// Calls `each` for every item, in order, with what the model says about it or with the error of `read`, which makes a photo of an
    /// item and is called on all cores, a batch ahead of the device. Must not be called on a thread of rayon's pool.
    ///
    /// # Errors
    /// If the model has not what is asked for, or the device or `each` fails.
    pub fn detect<I: Sync>(
        &self,
        items: &[I],
        read: impl Fn(usize, &I) -> Result<Photo> + Sync,
        judging: &Judging,
        each: impl FnMut(usize, Result<Judged>) -> Result<()>,
    ) -> Result<()> {
        self.check(judging)?;
        match &self.detector {
            AnyDetector::Processor(detector) => self.look(detector, items, read, judging, each),
            AnyDetector::Gpu(detector) => self.look(detector, items, read, judging, each),
            AnyDetector::Cuda(detector) => self.look(detector, items, read, judging, each),
        }
    }

    fn look<O: Read, I: Sync>(
        &self,
        detector: &PhotoDetector<O>,
        items: &[I],
        read: impl Fn(usize, &I) -> Result<Photo> + Sync,
        judging: &Judging,
        mut each: impl FnMut(usize, Result<Judged>) -> Result<()>,
    ) -> Result<()> {
        let read = |i: usize, item: &I| Ok((read(i, item)?, ()));
        detector.detect_read(items, read, |i, result| {
            let judged = result.and_then(|(photo, detection, ())| {
                let judgement = judging.judge(&self.calibration, &detection)?;
                Ok(Judged { photo, detection, judgement })
            });
            each(i, judged)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{DetectionPlan, detect};

    #[test]
    fn photos_in_memory_have_the_verdicts_of_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let photos: Vec<Photo> = (0..11_u32)
            .map(|i| {
                let rgb: Vec<u8> = (0..3 * 70 * 50_u32).map(|at| (at * (i + 2) / 7) as u8).collect();
                image::RgbImage::from_raw(70, 50, rgb.clone())
                    .unwrap()
                    .save(folder.path().join(format!("{i:02}.png")))
                    .unwrap();
                Photo { width: 70, height: 50, rgb }
            })
            .collect();
        let mut of_files = Vec::new();
        detect(&DetectionPlan::new(&model, vec![folder.path().into()]), |verdict| {
            of_files.push(verdict?.judgement);
            Ok(())
        })
        .unwrap();

        let loaded = LoadedModel::open(&model, DetectorDevice::default()).unwrap();
        let mut in_memory = Vec::new();
        for photos in [&photos[..9], &photos[9..]] {
            let read = |_: usize, photo: &Photo| Ok(photo.clone());
            let keep = |_: usize, judged: Result<Judged>| {
                in_memory.push(judged?.judgement);
                Ok(())
            };
            loaded.detect(photos, read, &Judging::default(), keep).unwrap();
        }
        assert_eq!(in_memory, of_files);
        assert_eq!(in_memory.len(), photos.len());
        let of_no_class = Judging { class: Some("shoe".into()), regions: None };
        let refused = loaded.detect(&photos, |_, photo| Ok(photo.clone()), &of_no_class, |_, _| Ok(()));
        assert!(refused.unwrap_err().to_string().contains("has no class shoe: it has "));
    }
}
