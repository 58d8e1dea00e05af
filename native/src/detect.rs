//! A published model at work on photos from disk: decoded on all cores, detected in batches.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::config::ModelConfig;
use dinomaly_core::detector::{Detection, Detector};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Precision, Processor};
use dinomaly_core::executors::webgpu::{Opened, WebGpu};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::Photo;
use dinomaly_core::preprocess::Preprocessor;
use dinomaly_core::weights::Weights;
use pollster::block_on;
use rayon::prelude::*;

use crate::batch::{self, BATCH};
use crate::dataset::read_photo;
use crate::device;
use crate::precision as training;
use crate::progress::Progress;

/// A model on an executor: the processor's unless it is on a GPU.
pub struct PhotoDetector<O: Read = Processor> {
    detector: Detector<O>,
    place: String,
    batch: usize,
}

impl PhotoDetector {
    /// Takes a model to the processor, in single precision.
    ///
    /// # Errors
    /// If it computes the model's self-test wrongly.
    pub fn new(model: &Model) -> Result<Self> {
        Self::in_precision(model, Precision::F32)
    }

    /// Takes a model to the processor, in a precision of choice.
    ///
    /// # Errors
    /// If it does not compute the model's self-test as closely as the model demands.
    pub fn in_precision(model: &Model, precision: Precision) -> Result<Self> {
        let detector =
            Detector::of_parts(Processor::new(precision), &model.config, &model.preprocessor, &model.weights)?;
        if let Some(expected) = &model.self_test {
            let rounding = if precision == Precision::Int8 { SelfTest::ROUNDED } else { 0.0 };
            block_on(detector.verify("processor", expected, rounding)).with_context(|| match precision {
                // What the model was made with: nothing but the model can be wrong.
                Precision::F32 => format!(
                    "model {} is damaged or was changed: publish or copy it again, any device finds the same",
                    model.name
                ),
                Precision::Int8 => format!("model {} cannot be computed in int8: leave --int8 out", model.name),
            })?;
        }
        Ok(Self { detector, place: device::name(&Device::Cpu), batch: BATCH })
    }

    /// A detector of what a model is made of, before it is calibrated and published.
    ///
    /// # Errors
    /// If the parts do not fit together.
    pub fn of_parts(config: &ModelConfig, preprocessor: &Preprocessor, weights: &Weights) -> Result<Self> {
        let processor = Processor::new(Precision::F32);
        let detector = Detector::of_parts(processor, config, preprocessor, weights)?;
        Ok(Self { detector, place: device::name(&Device::Cpu), batch: BATCH })
    }
}

impl PhotoDetector<WebGpu> {
    /// Takes a model to the fastest GPU there is, in the fastest precision that its self-test accepts, and says so on
    /// standard error.
    ///
    /// # Errors
    /// If there is no GPU, it has no room, or it computes the model's self-test wrongly.
    pub fn on_gpu(model: &Model) -> Result<Self> {
        let Opened { detector, refused } = block_on(block_on(WebGpu::new())?.open_model(model))?;
        let gpu = detector.ops();
        let software = if gpu.adapter().is_software { ", which a processor plays" } else { "" };
        eprintln!("dinomaly: on {}{software}, linear layers in {}", gpu.adapter().name, gpu.precision().name());
        for (precision, reason) in refused {
            eprintln!("dinomaly: not in {}: {reason}", precision.name());
        }
        let place = gpu.adapter().name.clone();
        Ok(Self { detector, place, batch: BATCH })
    }
}

impl PhotoDetector<Candle<'static>> {
    /// Takes a model to an NVIDIA GPU, in single precision.
    ///
    /// # Errors
    /// If the device has no room even for one photo, or computes the model's self-test wrongly.
    pub fn on_cuda(model: &Model, device: Device) -> Result<Self> {
        let Model { config, preprocessor, weights, self_test, .. } = model;
        Self::of_parts_on_cuda(config, preprocessor, weights, self_test.as_ref(), device)
    }

    /// The same of what a model is made of, before it is calibrated and published.
    ///
    /// # Errors
    /// As [`PhotoDetector::on_cuda`], and if the parts do not fit together.
    pub fn of_parts_on_cuda(
        config: &ModelConfig,
        preprocessor: &Preprocessor,
        weights: &Weights,
        self_test: Option<&SelfTest>,
        device: Device,
    ) -> Result<Self> {
        // Training may have left the device to round the factors of products.
        training::Precision::F32.begin(&device)?;
        let (place, batch) = (device::name(&device), batch::of_candle(&device, config, preprocessor.geometry)?);
        let detector = Detector::of_parts(Candle::infer(device), config, preprocessor, weights)?;
        if let Some(expected) = self_test {
            block_on(detector.verify("CUDA", expected, 0.0))?;
        }
        Ok(Self { detector, place, batch })
    }
}

impl<O: Read> PhotoDetector<O> {
    /// The detector itself.
    pub fn detector(&self) -> &Detector<O> {
        &self.detector
    }

    /// Where it computes, in words.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Photos that go through it at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Hands the result for every photo to `each`, in order: the photo with what was detected, or why it cannot be read.
    ///
    /// # Errors
    /// If the device fails, or `each` refuses.
    pub fn detect(
        &self,
        paths: &[PathBuf],
        mut each: impl FnMut(usize, Result<(Photo, Detection)>) -> Result<()>,
    ) -> Result<()> {
        for (number, batch) in paths.chunks(self.batch).enumerate() {
            let (detector, preparation) = (&self.detector, self.detector.preparation());
            let photos: Vec<Result<(Photo, Vec<u8>)>> = batch
                .par_iter()
                .map(|path| {
                    let photo = read_photo(path)?;
                    let prepared = preparation.prepare(&photo);
                    Ok((photo, prepared))
                })
                .collect();
            let mut prepared = Vec::new();
            let photos: Vec<Result<Photo>> = photos
                .into_iter()
                .map(|read| {
                    let (photo, cut) = read?;
                    prepared.push(cut);
                    Ok(photo)
                })
                .collect();
            let mut maps = block_on(detector.maps(&prepared))?.into_iter();
            for (i, photo) in photos.into_iter().enumerate() {
                let result = photo.map(|photo| {
                    let map = maps.next().expect("one map for each readable photo");
                    let detection = detector.detection(&photo, map);
                    (photo, detection)
                });
                each(number * self.batch + i, result)?;
            }
        }
        Ok(())
    }

    /// Scores of photos that must all be readable.
    ///
    /// # Errors
    /// As [`PhotoDetector::detect`], and for a photo that cannot be read.
    pub fn scores(&self, paths: &[PathBuf]) -> Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(paths.len());
        let progress = Progress::new("scoring", paths.len(), "photos");
        self.detect(paths, |_, result| {
            scores.push(result?.1.score);
            progress.advance(1, String::new);
            Ok(())
        })?;
        progress.finish();
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_model_that_scores_otherwise_on_the_processor_is_blamed_itself() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let mut model = crate::model_dir::read(&folder).unwrap();
        model.self_test.as_mut().unwrap().score += 0.1;
        let error = PhotoDetector::new(&model).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(&format!("model {} is damaged or was changed", model.name)), "{error}");
    }
}
