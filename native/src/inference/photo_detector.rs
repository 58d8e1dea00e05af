//! A published model on photos from disk. All cores decode the next batch while the device computes one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::{Detection, Detector, Opened, Seen};
use dinomaly_core::executors::INT8_ERROR;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::maps::score::Heights;
use dinomaly_core::model::config::Architecture;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Preprocessor;
use dinomaly_core::tensor::named::Weights;
use pollster::block_on;
use rayon::prelude::*;

use crate::dataset::read_photo;
use crate::system::batch_size::{self, BATCH};
use crate::system::device;
use crate::system::listener::Listener;
use crate::system::precision::TrainingPrecision;
use crate::system::prefetch::prefetch;
use crate::system::progress::Progress;

/// A model on an executor, by default that of the processor.
pub struct PhotoDetector<O: Read = Processor> {
    detector: Detector<O>,
    place: String,
    batch: usize,
}

impl PhotoDetector {
    /// A detector on the processor, in single precision.
    ///
    /// # Errors
    /// If the model's self-test fails.
    pub fn new(model: &Model) -> Result<Self> {
        Self::in_precision(model, ProcessorPrecision::F32)
    }

    /// A detector on the processor, in the given precision.
    ///
    /// # Errors
    /// If the model's self-test fails in this precision.
    pub fn in_precision(model: &Model, precision: ProcessorPrecision) -> Result<Self> {
        let detector =
            Detector::of_parts(Processor::new(precision), &model.config, &model.preprocessor, &model.weights)?;
        if let Some(expected) = &model.self_test {
            let rounding = if precision == ProcessorPrecision::Int8 { INT8_ERROR } else { 0.0 };
            block_on(detector.verify("processor", expected, rounding)).with_context(|| match precision {
                // The model was made with this executor, so the model must be wrong.
                ProcessorPrecision::F32 => {
                    format!("model {} is damaged or was changed: publish or copy it again", model.name)
                }
                ProcessorPrecision::Int8 => {
                    format!("model {} is too inexact in int8: leave out --int8", model.name)
                }
            })?;
        }
        Ok(Self { detector, place: device::name(&Device::Cpu), batch: BATCH })
    }

    /// A detector from a model's parts, before calibration and publishing.
    ///
    /// # Errors
    /// If the parts do not fit together.
    pub fn of_parts(config: &Architecture, preprocessor: &Preprocessor, weights: &Weights) -> Result<Self> {
        let processor = Processor::new(ProcessorPrecision::F32);
        let detector = Detector::of_parts(processor, config, preprocessor, weights)?;
        Ok(Self { detector, place: device::name(&Device::Cpu), batch: BATCH })
    }
}

impl PhotoDetector<WebGpu> {
    /// A detector on the fastest GPU, in the fastest precision that passes the model's self-test. Prints both on standard
    /// error.
    ///
    /// # Errors
    /// If there is no GPU, it has not enough memory, or the model's self-test fails.
    pub fn on_gpu(model: &Model) -> Result<Self> {
        let Opened { detector, refused } = block_on(block_on(WebGpu::new())?.open_model(model))?;
        let gpu = detector.ops();
        let software = if gpu.adapter().is_software { " (software on the processor)" } else { "" };
        eprintln!("dinomaly: on {}{software}, linear layers in {}", gpu.adapter().name, gpu.precision().name());
        for (precision, reason) in refused {
            eprintln!("dinomaly: not in {}: {reason}", precision.name());
        }
        let place = gpu.adapter().name.clone();
        Ok(Self { detector, place, batch: BATCH })
    }
}

impl PhotoDetector<Candle<'static>> {
    /// A detector on an NVIDIA GPU, in single precision.
    ///
    /// # Errors
    /// If the device has not enough memory for one photo, or the model's self-test fails.
    pub fn on_cuda(model: &Model, device: Device) -> Result<Self> {
        let Model { config, preprocessor, weights, self_test, .. } = model;
        Self::of_parts_on_cuda(config, preprocessor, weights, self_test.as_ref(), device)
    }

    /// [`PhotoDetector::on_cuda`] from a model's parts, before calibration and publishing.
    ///
    /// # Errors
    /// As [`PhotoDetector::on_cuda`], and if the parts do not fit together.
    pub fn of_parts_on_cuda(
        config: &Architecture,
        preprocessor: &Preprocessor,
        weights: &Weights,
        self_test: Option<&SelfTest>,
        device: Device,
    ) -> Result<Self> {
        // Training may have set the device to a lower precision.
        TrainingPrecision::F32.begin(&device)?;
        let (place, batch) = (device::name(&device), batch_size::of_candle(&device, config, preprocessor.geometry)?);
        let detector = Detector::of_parts(Candle::infer(device), config, preprocessor, weights)?;
        if let Some(expected) = self_test {
            block_on(detector.verify("CUDA", expected, 0.0))?;
        }
        Ok(Self { detector, place, batch })
    }
}

impl<O: Read> PhotoDetector<O> {
    /// The detector without reading of files.
    pub fn detector(&self) -> &Detector<O> {
        &self.detector
    }

    /// Name of the device.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Photos per batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Calls `each` for every photo, in order, with the photo and its detection, or with the error of reading it.
    ///
    /// # Errors
    /// If the device or `each` fails.
    pub fn detect(
        &self,
        paths: &[PathBuf],
        mut each: impl FnMut(usize, Result<(Photo, Detection)>) -> Result<()>,
    ) -> Result<()> {
        self.detect_beside(paths, |_, _| Ok(()), |i, result| each(i, result.map(|(photo, found, ())| (photo, found))))
    }

    /// [`PhotoDetector::detect`] with the results of `beside`, which is called for each photo on other cores.
    ///
    /// # Errors
    /// As [`PhotoDetector::detect`]. An error of `beside` goes to `each` in place of the photo.
    pub fn detect_beside<T: Send>(
        &self,
        paths: &[PathBuf],
        beside: impl Fn(usize, &Photo) -> Result<T> + Sync,
        each: impl FnMut(usize, Result<(Photo, Detection, T)>) -> Result<()>,
    ) -> Result<()> {
        let window = self.detector.preparation().window();
        let read = |i: usize, path: &PathBuf| {
            let photo = read_photo(path, window)?;
            let more = beside(i, &photo)?;
            Ok((photo, more))
        };
        self.detect_read(paths, read, each)
    }

    /// [`PhotoDetector::detect_beside`] for photos from anywhere: `read` makes a photo of an item, with what `each` is to have beside it.
    /// Photos are read one batch ahead of the device; in tiles, of which a photo is a batch or several, one photo.
    ///
    /// # Errors
    /// As [`PhotoDetector::detect`]. An error of `read` goes to `each` in place of the photo.
    pub fn detect_read<I: Sync, T: Send>(
        &self,
        items: &[I],
        read: impl Fn(usize, &I) -> Result<(Photo, T)> + Sync,
        mut each: impl FnMut(usize, Result<(Photo, Detection, T)>) -> Result<()>,
    ) -> Result<()> {
        let preparation = self.detector.preparation();
        let tiled = preparation.is_tiled();
        let read = |i: usize, item: &I| {
            let (photo, more) = read(i, item)?;
            let prepared = if tiled { Vec::new() } else { preparation.prepare(&photo) };
            Ok((photo, prepared, more))
        };
        prefetch(items, if tiled { 1 } else { self.batch }, read, |first, photos| {
            for (i, result) in self.found(photos)?.into_iter().enumerate() {
                each(first + i, result)?;
            }
            Ok(true)
        })?;
        Ok(())
    }

    /// Detects on the readable photos of a batch.
    fn found<T: Send>(&self, photos: Vec<Result<(Photo, Vec<u8>, T)>>) -> Result<Vec<Result<(Photo, Detection, T)>>> {
        if self.detector.preparation().is_tiled() {
            let one = |read: Result<(Photo, Vec<u8>, T)>| match read {
                Ok((photo, _, more)) => {
                    let detection = block_on(self.detector.detect_in_tiles(&photo, self.batch))?;
                    Ok(Ok((photo, detection, more)))
                }
                Err(error) => Ok(Err(error)),
            };
            return photos.into_iter().map(one).collect();
        }
        let mut prepared = Vec::new();
        let photos: Vec<Result<(Photo, T)>> = photos
            .into_iter()
            .map(|read| {
                let (photo, cut, more) = read?;
                prepared.push(cut);
                Ok((photo, more))
            })
            .collect();
        let mut seen = block_on(self.detector.see(&prepared))?.into_iter();
        let mut with_seen = |photo| (photo, seen.next().expect("something is seen of each readable photo"));
        let photos: Vec<Result<((Photo, T), Seen)>> =
            photos.into_iter().map(|photo| photo.map(&mut with_seen)).collect();
        let preparation = self.detector.preparation();
        let found = |((photo, more), seen)| {
            let detection = preparation.detection(&photo, seen);
            (photo, detection, more)
        };
        Ok(photos.into_par_iter().map(|photo| photo.map(found)).collect())
    }

    /// Scores of photos, which must all be readable.
    ///
    /// # Errors
    /// As [`PhotoDetector::detect`], and for a photo that cannot be read.
    pub fn scores(&self, paths: &[PathBuf]) -> Result<Vec<f32>> {
        Ok(self.measured(paths)?.into_iter().map(|(heights, _)| heights.score).collect())
    }

    /// Scores and highest values of photos, which must all be readable, and what they look like as a whole.
    ///
    /// # Errors
    /// As [`PhotoDetector::scores`].
    pub fn measured(&self, paths: &[PathBuf]) -> Result<Vec<(Heights, Vec<f32>)>> {
        let mut measured = Vec::with_capacity(paths.len());
        let progress = Progress::new("scoring", paths.len(), "photos");
        self.detect(paths, |_, result| {
            let (_, found) = result?;
            measured.push((Heights { score: found.score, peak: found.map.peak() }, found.descriptor));
            progress.advance(1, String::new);
            Ok(Listener::check_stopped()?)
        })?;
        progress.finish();
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_photo_has_its_own_result_in_order_and_the_first_bad_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let photo = |i: u32| {
            let path = folder.path().join(format!("{i}.png"));
            let colour = |x: u32, y: u32| [x * y / 40, y * (i + 3), (x * x) >> 5].map(|v| v as u8);
            image::RgbImage::from_fn(60 + i, 50, |x, y| image::Rgb(colour(x, y))).save(&path).unwrap();
            path
        };
        let mut paths: Vec<PathBuf> = (0..19).map(photo).collect();
        let absent = [(4, "gone"), (9, "absent")];
        for (i, name) in absent {
            paths[i] = folder.path().join(name);
        }
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let detector = PhotoDetector::new(&crate::model_dir::read(&model).unwrap()).unwrap();
        let mut seen = 0;
        let widths = |i: usize, photo: &Photo| Ok((i, photo.width));
        let each = |i: usize, result: Result<(Photo, Detection, (usize, u32))>| {
            assert_eq!(i, seen);
            seen += 1;
            match result {
                Ok((photo, found, beside)) => {
                    assert_eq!((photo.width, beside), (60 + i as u32, (i, 60 + i as u32)));
                    assert_eq!(block_on(detector.detector().detect(&[photo])).unwrap(), [found]);
                }
                Err(error) => {
                    let (_, name) = absent.into_iter().find(|&(at, _)| at == i).unwrap();
                    assert!(format!("{error:#}").contains(name), "{error:#}");
                }
            }
            Ok(())
        };
        detector.detect_beside(&paths, widths, each).unwrap();
        assert_eq!(seen, paths.len());
        let error = format!("{:#}", detector.scores(&paths).unwrap_err());
        assert!(error.contains("gone"), "{error}");
    }

    #[test]
    fn a_model_that_scores_otherwise_on_the_processor_is_blamed_itself() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let mut model = crate::model_dir::read(&folder).unwrap();
        model.self_test.as_mut().unwrap().score += 0.1;
        let error = PhotoDetector::new(&model).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(&format!("model {} is damaged or was changed", model.name)), "{error}");
    }
}
