//! Photos → features of the frozen encoder, once each. All cores decode and resize the next batch while one is encoded.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::ModelConfig;
use dinomaly_core::model::encoder::Encoder;
use dinomaly_core::photo::preprocess::Preprocessor;
use dinomaly_core::tensor::named::Weights;
use rayon::prelude::*;

use crate::dataset::read_photo;
use crate::features::{FeatureCache, Features, encode};
use crate::system::batch_size;
use crate::system::interrupt::Interrupt;
use crate::system::precision::TrainingPrecision;
use crate::system::prefetch::prefetch;
use crate::system::progress::Progress;

/// The frozen encoder and its preprocessing.
pub struct PhotoEncoder {
    config: ModelConfig,
    preprocessor: Preprocessor,
    encoder: Encoder<Tensor>,
    ops: Candle<'static>,
    /// Photos per batch.
    batch: usize,
}

impl PhotoEncoder {
    /// An encoder with these weights, for the preprocessor's geometry.
    ///
    /// # Errors
    /// If the geometry does not fit the patches or is too large for the device, or a tensor is missing or has another shape.
    pub fn new(
        weights: &Weights,
        config: &ModelConfig,
        preprocessor: &Preprocessor,
        device: Device,
        precision: TrainingPrecision,
    ) -> Result<Self> {
        let patch = config.encoder.patch_size;
        preprocessor.validate(patch)?;
        let batch = batch_size::of_candle(&device, &config.clone().into(), preprocessor.geometry)?;
        let ops = Candle::infer(device).storing(precision.element());
        let encoder = weights.encoder(&ops, config.taps(), preprocessor.geometry.grid(patch))?;
        Ok(Self { config: config.clone(), preprocessor: preprocessor.clone(), encoder, ops, batch })
    }

    /// Tokens per photo in bottleneck and decoder.
    pub fn tokens(&self) -> usize {
        self.grid().pow(2) + self.config.kept_prefix_tokens()
    }

    /// Whether photos are looked at in tiles, of each of which the cache holds features of its own.
    pub fn is_tiled(&self) -> bool {
        self.preprocessor.tiles.is_some()
    }

    /// Geometry and normalisation.
    pub(super) fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Side of a patch in pixels.
    pub(super) fn patch(&self) -> usize {
        self.config.encoder.patch_size
    }

    /// Photos per batch.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// Features of photos, each given as its patches `[grid², 3·patch²]`.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn encode(&self, photos: Vec<Vec<f32>>) -> Result<Features> {
        let shape = (photos.len(), self.grid().pow(2), 3 * self.patch().pow(2));
        let patches = Tensor::from_vec(photos.concat(), shape, self.ops.device())?;
        Ok(encode(&self.ops, &self.encoder, &self.config, &patches)?)
    }

    fn grid(&self) -> usize {
        self.preprocessor.geometry.grid(self.patch())
    }

    /// Fills the cache with the features of all photos, in order; of tiles with those of each tile, photo by photo. `false` after Ctrl-C.
    /// Progress is shown if `shown`.
    ///
    /// # Errors
    /// If a photo cannot be read, which the error names, or the disk is full.
    pub fn fill(
        &self,
        cache: &mut FeatureCache,
        photos: &[PathBuf],
        interrupt: &Interrupt,
        shown: bool,
    ) -> Result<bool> {
        let progress = Progress::new("encoding photos", photos.len(), "photos").shown(shown);
        let patch = self.patch();
        let mut push = |rows| cache.push(&self.encode(rows)?);
        if self.preprocessor.tiles.is_some() {
            let read = |_, photo: &PathBuf| read_photo(photo, self.preprocessor.window);
            // A photo is a batch or several.
            let finished = prefetch(photos, 1, read, |_, photos| {
                for photo in photos {
                    let photo = photo?;
                    let plan = self.preprocessor.tile_plan((photo.width, photo.height), patch);
                    let plan = plan.context("photos are looked at in tiles")?;
                    for tiles in (0..plan.count()).collect::<Vec<_>>().chunks(self.batch) {
                        if interrupt.asked() {
                            return Ok(false);
                        }
                        let rows = |&tile: &usize| self.preprocessor.patches_of_cut(&plan.cut(&photo, tile), patch);
                        push(tiles.par_iter().map(rows).collect())?;
                    }
                    progress.advance(1, String::new);
                }
                Ok(true)
            })?;
            if finished {
                progress.finish();
            }
            return Ok(finished);
        }
        let rows = |_, photo: &PathBuf| -> Result<Vec<f32>> {
            Ok(self.preprocessor.patches(&read_photo(photo, self.preprocessor.window)?, patch))
        };
        let finished = prefetch(photos, self.batch, rows, |_, rows| {
            if interrupt.asked() {
                return Ok(false);
            }
            let rows = rows.into_iter().collect::<Result<Vec<_>>>()?;
            let count = rows.len();
            push(rows)?;
            progress.advance(count, String::new);
            Ok(true)
        })?;
        if finished {
            progress.finish();
        }
        Ok(finished)
    }
}
