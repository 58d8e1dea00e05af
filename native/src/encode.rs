//! Photos → the frozen encoder's features, once each: decoded and resized on all cores, encoded in batches.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor};
use dinomaly_core::config::ModelConfig;
use dinomaly_core::dinomaly::Encoder;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::preprocess::Preprocessor;
use dinomaly_core::weights::Weights;
use rayon::prelude::*;

use crate::batch;
use crate::dataset::read_photo;
use crate::features::{FeatureCache, encode};
use crate::interrupt::Interrupt;
use crate::precision::Precision;
use crate::progress::Progress;

/// The frozen encoder with its preprocessing.
pub struct PhotoEncoder {
    config: ModelConfig,
    preprocessor: Preprocessor,
    encoder: Encoder<Tensor>,
    ops: Candle<'static>,
    /// Photos that go through it at once.
    batch: usize,
}

impl PhotoEncoder {
    /// An encoder of these weights for photos of the preprocessor's geometry.
    ///
    /// # Errors
    /// A geometry that does not fit the patches or is too large for the device, a missing or misshapen tensor.
    pub fn new(
        weights: &Weights,
        config: &ModelConfig,
        preprocessor: &Preprocessor,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let patch = config.encoder.patch_size;
        preprocessor.geometry.validate(patch)?;
        let batch = batch::of_candle(&device, config, preprocessor.geometry)?;
        let ops = Candle::infer(device).storing(precision.element());
        let encoder = weights.encoder(&ops, config, preprocessor.geometry.grid(patch))?;
        Ok(Self { config: config.clone(), preprocessor: preprocessor.clone(), encoder, ops, batch })
    }

    /// Tokens of a photo that bottleneck and decoder see.
    pub fn tokens(&self) -> usize {
        self.grid().pow(2) + self.config.kept_prefix_tokens()
    }

    fn grid(&self) -> usize {
        self.preprocessor.geometry.grid(self.config.encoder.patch_size)
    }

    /// Photos as `[batch, grid², 3·patch²]` rows on the encoder's device.
    ///
    /// # Errors
    /// A photo that cannot be read, by name.
    pub fn patches(&self, photos: &[PathBuf]) -> Result<Tensor> {
        let (patch, preprocessor) = (self.config.encoder.patch_size, &self.preprocessor);
        let rows = photos
            .par_iter()
            .map(|path| Ok(preprocessor.patches(&read_photo(path)?, patch)))
            .collect::<Result<Vec<_>>>()?;
        let shape = (photos.len(), self.grid().pow(2), 3 * patch * patch);
        Ok(Tensor::from_vec(rows.concat(), shape, self.ops.device())?)
    }

    /// Fills the cache with the features of all photos, in their order; `false` if the user interrupted. Progress is shown if
    /// `shown`.
    ///
    /// # Errors
    /// A photo that cannot be read, by name; a full disk.
    pub fn fill(
        &self,
        cache: &mut FeatureCache,
        photos: &[PathBuf],
        interrupt: &Interrupt,
        shown: bool,
    ) -> Result<bool> {
        let progress = Progress::new("encoding photos", photos.len(), "photos").shown(shown);
        for batch in photos.chunks(self.batch) {
            if interrupt.asked() {
                return Ok(false);
            }
            cache.push(&encode(&self.ops, &self.encoder, &self.config, &self.patches(batch)?)?)?;
            progress.advance(batch.len(), String::new);
        }
        progress.finish();
        Ok(true)
    }
}
