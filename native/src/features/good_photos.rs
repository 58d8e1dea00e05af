//! Good photos → what a memory keeps of them, on any device.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::fewshot::{FeatureEncoder, Features, PreparedPhoto};
use dinomaly_core::model::config::MemoryConfig;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Preprocessor;
use dinomaly_core::tensor::named::Weights;
use pollster::block_on;

use crate::system::batch_size::{self, BATCH};
use crate::system::device::DeviceChoice;
use crate::system::listener::Listener;
use crate::system::prefetch::prefetch;
use crate::system::progress::Progress;

/// An encoder for good photos, before it is on a device.
pub(crate) struct GoodPhotoEncoder<'a> {
    pub(crate) config: &'a MemoryConfig,
    pub(crate) preprocessor: &'a Preprocessor,
    pub(crate) weights: &'a Weights,
    /// Whether features of quarter turns follow those of a photo.
    pub(crate) turns: bool,
}

/// Work with an encoder on any device.
pub(crate) trait EncoderTask {
    type Output;

    /// Does the work; photos are encoded `batch` at a time.
    fn run<O: Read>(self, encoder: &FeatureEncoder<O>, batch: usize) -> Result<Self::Output>;
}

impl GoodPhotoEncoder<'_> {
    /// Does a task with the encoder on a device.
    ///
    /// # Errors
    /// If there is no such device, or it has no room for the encoder; those of the task.
    pub(crate) fn on<T: EncoderTask>(&self, device: DeviceChoice, task: T) -> Result<T::Output> {
        match device {
            DeviceChoice::Gpu => self.with(block_on(WebGpu::new())?, BATCH, task),
            device => match device.open()? {
                device if device.is_cpu() => self.with(Processor::new(ProcessorPrecision::F32), BATCH, task),
                device => {
                    let geometry = self.preprocessor.geometry;
                    let batch = batch_size::of_candle(&device, &self.config.clone().into(), geometry)?;
                    self.with(Candle::infer(device), batch, task)
                }
            },
        }
    }

    fn with<O: Read, T: EncoderTask>(&self, ops: O, batch: usize, task: T) -> Result<T::Output> {
        let encoder = FeatureEncoder::new(ops, self.config, self.preprocessor, self.weights)?;
        task.run(&encoder.with_turns(self.turns).with_batch(batch), batch)
    }
}

/// Features of photos of a class. All cores decode and resize the next batch while one is encoded.
///
/// # Errors
/// If a photo cannot be read, or the device fails.
pub(crate) fn encode_good_photos<O: Read>(
    encoder: &FeatureEncoder<O>,
    photos: &[PathBuf],
    batch: usize,
) -> Result<Vec<Features>> {
    let progress = Progress::new("encoding photos", photos.len(), "photos");
    let mut features = Vec::with_capacity(photos.len());
    let preprocessor = encoder.preprocessor().clone();
    let read = |_, path: &PathBuf| -> Result<PreparedPhoto> {
        let bytes = fs::read(path).with_context(|| format!("photo {} cannot be read", path.display()))?;
        let photo = Photo::decode_in(&path.display().to_string(), &bytes, preprocessor.window)?;
        Ok(PreparedPhoto::new(&preprocessor, photo, &bytes))
    };
    // The tiles of a photo are batches of their own.
    let batch = if preprocessor.tiles.is_some() { 1 } else { batch };
    prefetch(photos, batch, read, |_, prepared| {
        let prepared = prepared.into_iter().collect::<Result<Vec<_>>>()?;
        let count = prepared.len();
        let mut encoded = block_on(encoder.features(prepared))?;
        if photos.len() > 1 {
            encoded.iter_mut().for_each(Features::drop_picture);
        }
        features.append(&mut encoded);
        progress.advance(count, String::new);
        Listener::check_stopped()?;
        Ok(true)
    })?;
    progress.finish();
    Ok(features)
}
