//! The frozen encoder on any executor: good photos → their features, and maps by a memory of them.

use super::features::{Features, PreparedPhoto, quarter_turn};
use super::recipe::Recipe;
use crate::bundle::Arriving;
use crate::detector::{TILES_AT_ONCE, add_rows};
use crate::maps::score::{AnomalyMap, MapLayout, every};
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::descriptor::descriptor;
use crate::model::encoder;
use crate::model::memory::{Memory, mean_of_units, unit_mean};
use crate::ops::Read;
use crate::photo::decode::Photo;
use crate::photo::preprocess::{Geometry, Preprocessor, Resized};
use crate::photo::tiles::TilePlan;
use crate::tensor::named::Weights;
use crate::{Error, Result};

/// Output of the encoder for a photo.
pub(super) struct Encoded {
    /// Patches' features `[patches, width]` of each group of layers.
    pub(super) groups: Vec<Vec<f32>>,
    class_token: Vec<f32>,
    descriptor: Vec<f32>,
    plan: Option<TilePlan>,
}

/// The frozen encoder on an executor, for features of good photos.
pub struct FeatureEncoder<O: Read> {
    ops: O,
    encoder: encoder::Encoder<O::Tensor>,
    config: MemoryConfig,
    preprocessor: Preprocessor,
    /// Whether features are unit vectors.
    unit: bool,
    /// Whether features of quarter turns follow those of a photo.
    turns: bool,
    /// Number of a photo's tiles that are encoded at a time.
    batch: usize,
}

impl<O: Read> FeatureEncoder<O> {
    /// An encoder with these weights. Of `config.memory` only the kind matters, not its size.
    ///
    /// # Errors
    /// If config, geometry and weights do not fit together, or the executor has no room for them.
    pub fn new(ops: O, config: &MemoryConfig, preprocessor: &Preprocessor, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let patch = config.encoder.patch_size;
        preprocessor.validate(patch)?;
        config.check_tiles(preprocessor)?;
        let encoder = weights.encoder(&ops, config.taps(), preprocessor.geometry.grid(patch))?;
        Ok(Self::of_encoder(ops, encoder, config, preprocessor))
    }

    /// The encoder of a published model of any kind, as far as its head needs it, whose files arrived on this executor. `side`: side of the
    /// square that whole photos are resized to, in pixels; if omitted, that of the model's input.
    ///
    /// # Errors
    /// [`Error::Config`] if the recipe does not take the model's last layer, without which its files hold too much; as
    /// [`FeatureEncoder::new`]. The final norm is applied if the model's files have it, for the same reason.
    pub fn of_arrived(ops: O, arrived: &Arriving<O::Tensor>, recipe: &Recipe, side: Option<usize>) -> Result<Self> {
        let model = arrived.model().ok_or_else(|| Error::config("the model's description was not loaded"))?;
        let taps = model.config.taps();
        let blocks = taps.blocks_run();
        let mut config = recipe.config(taps.encoder.clone(), blocks)?;
        config.final_norm = taps.final_norm;
        if config.target_layers.last() != Some(&(blocks - 1)) {
            return Err(Error::config(format!(
                "layers {:?} must end with the model's last, {}",
                recipe.layers,
                blocks - 1
            )));
        }
        let side = side.unwrap_or(model.preprocessor.geometry.crop);
        let preprocessor = Preprocessor {
            geometry: Geometry { resize: side, crop: side },
            resized: Resized::Bytes,
            ..model.preprocessor.clone()
        };
        config.validate()?;
        preprocessor.validate(taps.encoder.patch_size)?;
        config.check_tiles(&preprocessor)?;
        let grid = preprocessor.geometry.grid(taps.encoder.patch_size);
        let encoder = arrived.encoder(&ops, config.taps(), grid)?;
        Ok(Self::of_encoder(ops, encoder, &config, &preprocessor).with_turns(recipe.turns))
    }

    /// An encoder that is on the executor, in blocks up to the last layer of `config`.
    fn of_encoder(
        ops: O,
        encoder: encoder::Encoder<O::Tensor>,
        config: &MemoryConfig,
        preprocessor: &Preprocessor,
    ) -> Self {
        let unit = !matches!(config.memory, MemoryKind::Subspace { .. });
        Self {
            ops,
            encoder,
            config: config.clone(),
            preprocessor: preprocessor.clone(),
            unit,
            turns: false,
            batch: TILES_AT_ONCE,
        }
    }

    /// The same, whether or not features of quarter turns follow those of a photo.
    #[must_use]
    pub fn with_turns(self, turns: bool) -> Self {
        Self { turns, ..self }
    }

    /// The same, with so many of a photo's tiles encoded at a time.
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        Self { batch: batch.max(1), ..self }
    }

    /// The executor.
    pub fn ops(&self) -> &O {
        &self.ops
    }

    /// Configuration of the detector, but for the memory's size.
    pub fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// Geometry and normalisation.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Side of the encoder's input in patches.
    pub(super) fn grid(&self) -> usize {
        self.preprocessor.geometry.grid(self.patch())
    }

    /// Side of the encoder's input in pixels.
    pub(super) fn side(&self) -> usize {
        self.preprocessor.geometry.crop
    }

    /// Side of a patch in pixels.
    pub(super) fn patch(&self) -> usize {
        self.config.encoder.patch_size
    }

    /// Features of prepared photos, all of them as one batch; in tiles one by one.
    ///
    /// # Errors
    /// If the executor fails.
    pub async fn features(&self, prepared: Vec<PreparedPhoto>) -> Result<Vec<Features>> {
        let mut turned: Vec<Photo> = prepared.iter().map(|photo| photo.picture.clone()).collect();
        let mut features: Vec<Features> = std::iter::zip(prepared, self.encode(&turned).await?)
            .map(|(photo, Encoded { groups, class_token, descriptor, plan })| Features {
                groups,
                copies: 1,
                class_token,
                descriptors: vec![descriptor],
                plan,
                photo,
            })
            .collect();
        for _ in 0..if self.turns { 3 } else { 0 } {
            turned.iter_mut().for_each(|photo| *photo = quarter_turn(photo));
            for (features, turned) in std::iter::zip(&mut features, self.encode(&turned).await?) {
                std::iter::zip(&mut features.groups, turned.groups).for_each(|(own, more)| own.extend(more));
                features.descriptors.push(turned.descriptor);
                features.copies += 1;
            }
        }
        Ok(features)
    }

    /// Encodes the pictures of prepared photos.
    pub(super) async fn encode(&self, pictures: &[Photo]) -> Result<Vec<Encoded>> {
        if self.preprocessor.tiles.is_none() {
            return self.encode_squares(pictures.iter().map(|picture| picture.rgb.clone()).collect()).await;
        }
        let mut encoded = Vec::with_capacity(pictures.len());
        for picture in pictures {
            encoded.push(self.encode_in_tiles(picture).await?);
        }
        Ok(encoded)
    }

    /// Encodes a photo in tiles, some of them at a time.
    async fn encode_in_tiles(&self, photo: &Photo) -> Result<Encoded> {
        let width = self.config.encoder.hidden_size;
        let plan = self.preprocessor.tile_plan((photo.width, photo.height), self.patch());
        let plan = plan.ok_or_else(|| Error::config("the detector does not look at tiles"))?;
        let [rows, columns] = plan.patches();
        let mut groups = vec![vec![0.0; rows * columns * width]; self.config.groups.len()];
        let (mut class_token, mut descriptor) = (vec![0.0; width], Vec::new());
        for first in (0..plan.count()).step_by(self.batch) {
            let count = self.batch.min(plan.count() - first);
            let tiles = self.encode_squares(every(count, |i| plan.cut(photo, first + i))).await?;
            for (i, tile) in tiles.iter().enumerate() {
                for (patches, whole) in tile.groups.iter().zip(&mut groups) {
                    plan.stitch(first + i, patches, width, whole);
                }
                class_token.iter_mut().zip(&tile.class_token).for_each(|(sum, value)| *sum += value);
                add_rows(&mut descriptor, &tile.descriptor, 1);
            }
        }
        let norm = class_token.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-8);
        class_token.iter_mut().for_each(|value| *value /= norm);
        descriptor.iter_mut().for_each(|value| *value /= plan.count() as f32);
        Ok(Encoded { groups, class_token, descriptor, plan: Some(plan) })
    }

    /// Encodes squares `[crop, crop, 3]`, all of them as one batch.
    async fn encode_squares(&self, squares: Vec<Vec<u8>>) -> Result<Vec<Encoded>> {
        if squares.is_empty() {
            return Ok(Vec::new());
        }
        let (ops, e, count) = (&self.ops, &self.config.encoder, squares.len());
        let layers = self.layers(&squares)?;
        let units = layers.iter().map(|layer| ops.normalize(layer)).collect::<Result<Vec<_>>>()?;
        let feature = if self.unit { unit_mean } else { mean_of_units };
        let mut tensors =
            self.config.groups.iter().map(|group| feature(ops, &units, group)).collect::<Result<Vec<_>>>()?;
        tensors.extend(units.last().cloned());
        tensors.push(descriptor(ops, &layers, e.prefix_tokens())?);
        let mut values = ops.read_back(&tensors.iter().collect::<Vec<_>>()).await?;
        let descriptors = values.pop().unwrap_or_default();
        let last = values.pop().unwrap_or_default();
        let (prefix, width) = (e.prefix_tokens() * e.hidden_size, e.hidden_size);
        let photo = |i: usize, values: &[f32]| {
            let tokens = values.len() / count;
            values[i * tokens..][..tokens].to_vec()
        };
        let of = |i: usize| Encoded {
            groups: values.iter().map(|group| photo(i, group).split_off(prefix)).collect(),
            class_token: photo(i, &last)[..width].to_vec(),
            descriptor: photo(i, &descriptors),
            plan: None,
        };
        Ok((0..count).map(of).collect())
    }

    /// Anomaly maps of prepared photos by a memory, all of them as one batch.
    ///
    /// # Errors
    /// If the executor fails.
    pub(super) async fn maps(&self, memory: &Memory<O::Tensor>, prepared: &[Vec<u8>]) -> Result<Vec<AnomalyMap>> {
        let distances = memory.distances(&self.ops, &self.layers(prepared)?)?;
        let layout = self.layout(self.config.encoder.prefix_tokens());
        Ok(self.ops.read_maps(&distances, None, prepared.len(), &layout).await?.0)
    }

    /// The target layers' outputs, each `[batch, tokens, width]`.
    fn layers(&self, prepared: &[Vec<u8>]) -> Result<Vec<O::Tensor>> {
        let patches = self.ops.upload_photos(prepared, &self.preprocessor, self.patch())?;
        self.encoder.forward(&self.ops, &patches, &mut |_, _| {})
    }

    /// How the distances of a photo become its anomaly map, if `prefix` tokens come before the first patch.
    pub(super) fn layout(&self, prefix: usize) -> MapLayout {
        MapLayout { prefix, grid: self.grid(), input_side: self.side(), border: self.config.map_border }
    }
}
