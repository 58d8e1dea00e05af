//! Detectors without training: a handful of good photos → a memory of their patches.
//!
//! [`FeatureEncoder`] gives the [`Features`] of photos on any executor, and [`make`] turns them into the parts of a published model
//! after a [`Recipe`]: a [`Memory`] by [`bank`], [`places`] or [`subspace`], and [`thresholds`] from the scores that
//! [`leave_one_out`] gives each photo with a memory of all others.

pub mod bank;
pub mod leave_one_out;
mod made;
mod measured;
pub mod places;
mod recipe;
mod student;
pub mod subspace;
pub mod thresholds;

pub use made::{GoodPhotos, Made, make};
pub use measured::Measured;
pub use recipe::{MemoryChoice, Recipe};

use sha2::{Digest, Sha256};

use crate::bundle::Arriving;
use crate::detector::TILES_AT_ONCE;
use crate::maps::score::{AnomalyMap, MapLayout, every};
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::encoder;
use crate::model::memory::{Memory, mean_of_units, unit_mean};
use crate::ops::Read;
use crate::photo::decode::Photo;
use crate::photo::preprocess::{Geometry, Preprocessor};
use crate::photo::tiles::TilePlan;
use crate::tensor::named::Weights;
use crate::{Error, Result};

/// Features of a good photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Of each group of layers the patches' features `[copies · patches, width]`, row by row of the grid: first the photo's own, then
    /// those of its turned copies.
    pub groups: Vec<Vec<f32>>,
    /// Number of copies of the photo, itself included.
    pub copies: usize,
    /// Unit vector of the class token in the last layer; of tiles, that of their mean.
    pub class_token: Vec<f32>,
    /// Tiles that the photo's own patches were stitched of, if it was looked at in tiles.
    pub plan: Option<TilePlan>,
    /// The photo.
    pub photo: PreparedPhoto,
}

impl Features {
    /// The photo's own patches `[patches, width]` in a group of layers.
    fn own(&self, group: usize) -> &[f32] {
        &self.groups[group][..self.groups[group].len() / self.copies]
    }

    /// Drops the pixels, which are needed only if there is no other photo of the class.
    pub fn drop_picture(&mut self) {
        self.photo.picture.rgb = Vec::new();
    }
}

/// A good photo as the encoder takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedPhoto {
    /// The square that the encoder sees, or all of a photo that is looked at in tiles.
    picture: Photo,
    /// SHA-256 of its file, by which photos are ordered: the same photos give the same memory, in any order and whatever their names.
    pub sha256: [u8; 32],
}

impl PreparedPhoto {
    /// A photo that was decoded from a file of this content.
    pub fn new(preprocessor: &Preprocessor, photo: Photo, file: &[u8]) -> Self {
        let picture = if preprocessor.tiles.is_some() { photo } else { square(preprocessor, &photo) };
        Self { picture, sha256: Sha256::digest(file).into() }
    }
}

/// The square that the encoder sees of a photo without tiles.
fn square(preprocessor: &Preprocessor, photo: &Photo) -> Photo {
    let side = preprocessor.geometry.crop as u32;
    Photo { width: side, height: side, rgb: preprocessor.geometry.cut(photo) }
}

/// Output of the encoder for a photo.
struct Encoded {
    /// Patches' features `[patches, width]` of each group of layers.
    groups: Vec<Vec<f32>>,
    class_token: Vec<f32>,
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
        let preprocessor =
            Preprocessor { geometry: Geometry { resize: side, crop: side }, ..model.preprocessor.clone() };
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
    fn grid(&self) -> usize {
        self.preprocessor.geometry.grid(self.patch())
    }

    /// Side of the encoder's input in pixels.
    fn side(&self) -> usize {
        self.preprocessor.geometry.crop
    }

    /// Side of a patch in pixels.
    fn patch(&self) -> usize {
        self.config.encoder.patch_size
    }

    /// Features of prepared photos, all of them as one batch; in tiles one by one.
    ///
    /// # Errors
    /// If the executor fails.
    pub async fn features(&self, prepared: Vec<PreparedPhoto>) -> Result<Vec<Features>> {
        let mut turned: Vec<Photo> = prepared.iter().map(|photo| photo.picture.clone()).collect();
        let mut features: Vec<Features> = std::iter::zip(prepared, self.encode(&turned).await?)
            .map(|(photo, Encoded { groups, class_token, plan })| Features {
                groups,
                copies: 1,
                class_token,
                plan,
                photo,
            })
            .collect();
        for _ in 0..if self.turns { 3 } else { 0 } {
            turned.iter_mut().for_each(|photo| *photo = quarter_turn(photo));
            for (features, turned) in std::iter::zip(&mut features, self.encode(&turned).await?) {
                std::iter::zip(&mut features.groups, turned.groups).for_each(|(own, more)| own.extend(more));
                features.copies += 1;
            }
        }
        Ok(features)
    }

    /// Encodes the pictures of prepared photos.
    async fn encode(&self, pictures: &[Photo]) -> Result<Vec<Encoded>> {
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
        let mut class_token = vec![0.0; width];
        for first in (0..plan.count()).step_by(self.batch) {
            let count = self.batch.min(plan.count() - first);
            let tiles = self.encode_squares(every(count, |i| plan.cut(photo, first + i))).await?;
            for (i, tile) in tiles.iter().enumerate() {
                for (patches, whole) in tile.groups.iter().zip(&mut groups) {
                    plan.stitch(first + i, patches, width, whole);
                }
                class_token.iter_mut().zip(&tile.class_token).for_each(|(sum, value)| *sum += value);
            }
        }
        let norm = class_token.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-8);
        class_token.iter_mut().for_each(|value| *value /= norm);
        Ok(Encoded { groups, class_token, plan: Some(plan) })
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
        let mut values = ops.read_back(&tensors.iter().collect::<Vec<_>>()).await?;
        let last = values.pop().unwrap_or_default();
        let (prefix, width) = (e.prefix_tokens() * e.hidden_size, e.hidden_size);
        let photo = |i: usize, values: &[f32]| {
            let tokens = values.len() / count;
            values[i * tokens..][..tokens].to_vec()
        };
        let of = |i: usize| Encoded {
            groups: values.iter().map(|group| photo(i, group).split_off(prefix)).collect(),
            class_token: photo(i, &last)[..width].to_vec(),
            plan: None,
        };
        Ok((0..count).map(of).collect())
    }

    /// Anomaly maps of prepared photos by a memory, all of them as one batch.
    ///
    /// # Errors
    /// If the executor fails.
    async fn maps(&self, memory: &Memory<O::Tensor>, prepared: &[Vec<u8>]) -> Result<Vec<AnomalyMap>> {
        let distances = memory.distances(&self.ops, &self.layers(prepared)?)?;
        let layout = self.layout(self.config.encoder.prefix_tokens());
        self.ops.read_maps(&distances, prepared.len(), &layout).await
    }

    /// The target layers' outputs, each `[batch, tokens, width]`.
    fn layers(&self, prepared: &[Vec<u8>]) -> Result<Vec<O::Tensor>> {
        let patches = self.ops.upload_photos(prepared, &self.preprocessor, self.patch())?;
        self.encoder.forward(&self.ops, &patches, &mut |_, _| {})
    }

    /// How the distances of a photo become its anomaly map, if `prefix` tokens come before the first patch.
    fn layout(&self, prefix: usize) -> MapLayout {
        MapLayout { prefix, grid: self.grid(), input_side: self.side(), border: self.config.map_border }
    }
}

/// A photo, turned by a quarter.
fn quarter_turn(photo: &Photo) -> Photo {
    let (width, height) = (photo.width as usize, photo.height as usize);
    let source = |i: usize| 3 * ((i % height) * width + width - 1 - i / height);
    let rgb = (0..width * height).flat_map(|i| photo.rgb[source(i)..][..3].iter().copied()).collect();
    Photo { width: photo.height, height: photo.width, rgb }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::bank::Bank;
    use super::places::PlacedBank;
    use super::subspace::Subspaces;
    use super::*;
    use crate::detector::Detector;
    use crate::executors::reference::Reference;
    use crate::maps::score::Heights;
    use crate::model::config::{Architecture, EncoderConfig};
    use crate::model::weights::model_shapes;
    use crate::photo::tiles::Tiles;
    use crate::tensor::HostTensor;

    fn config(memory: MemoryKind) -> MemoryConfig {
        MemoryConfig {
            encoder: EncoderConfig::vit(8, 2, 2, 3),
            target_layers: vec![1, 3],
            final_norm: false,
            groups: vec![vec![0], vec![1]],
            memory,
            score_share: 0.003,
            map_border: crate::maps::score::MapBorder::Zero,
        }
    }

    fn preprocessor() -> Preprocessor {
        Preprocessor::imagenet(Geometry { resize: 8, crop: 8 })
    }

    /// Arbitrary tensors of the encoder.
    fn weights(config: &MemoryConfig) -> Weights {
        let tensor = |(i, (name, shape)): (usize, (String, Vec<usize>))| {
            let values = (0..shape.iter().product()).map(|j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.4).collect();
            (name, HostTensor::f32(shape, values).unwrap())
        };
        let shapes = model_shapes(&Architecture::Memory(config.clone())).unwrap().into_iter();
        Weights(shapes.filter(|(name, _)| name.starts_with("encoder.")).enumerate().map(tensor).collect())
    }

    fn refs(features: &[Features]) -> Vec<&Features> {
        features.iter().collect()
    }

    fn photos(count: usize) -> Vec<Photo> {
        let photo = |p: usize| Photo {
            width: 9,
            height: 11,
            rgb: (0..3 * 9 * 11).map(|i| ((i * i + 7 * p * i + 13 * p) % 251) as u8).collect(),
        };
        (0..count).map(photo).collect()
    }

    type Encoded = (FeatureEncoder<Reference>, MemoryConfig, Weights, Vec<Features>);

    fn encoded(memory: MemoryKind, count: usize) -> Encoded {
        encoded_as(&preprocessor(), memory, count)
    }

    fn encoded_as(preprocessor: &Preprocessor, memory: MemoryKind, count: usize) -> Encoded {
        let config = config(memory);
        let weights = weights(&config);
        let encoder = FeatureEncoder::new(Reference, &config, preprocessor, &weights).unwrap();
        let photos = photos(count);
        let prepare = |photo: Photo| PreparedPhoto::new(preprocessor, photo.clone(), &photo.rgb);
        let prepared = photos.into_iter().map(prepare).collect();
        let features = block_on(encoder.features(prepared)).unwrap();
        (encoder, config, weights, features)
    }

    /// Heights of a photo's map with the memory of some photos, by the published model.
    fn heights(
        of: &Preprocessor,
        config: MemoryConfig,
        mut weights: Weights,
        memory: Weights,
        photo: usize,
    ) -> Heights {
        weights.0.extend(memory.0);
        let detector = Detector::of_parts(Reference, &config.into(), of, &weights).unwrap();
        let found = detector.detect_now(&photos(photo + 1)[photo]).unwrap();
        Heights { score: found.score, peak: found.map.peak() }
    }

    fn score(config: MemoryConfig, weights: Weights, memory: Weights, photo: usize) -> f32 {
        heights(&preprocessor(), config, weights, memory, photo).score
    }

    /// Heights of photos' maps, each by the patches of all others.
    fn of_bank(encoder: &FeatureEncoder<Reference>, photos: &[&Features]) -> Vec<Heights> {
        let pieces = leave_one_out::Pieces::new(encoder, photos, &Bank::of(photos, 8, 1000)).unwrap();
        let heights = |(i, photo): (usize, &&Features)| block_on(pieces.heights(photo, Some(i))).unwrap().unwrap();
        photos.iter().enumerate().map(heights).collect()
    }

    #[test]
    fn a_photo_left_out_scores_as_with_a_memory_of_the_others() {
        left_out_scores(&preprocessor(), 16);
    }

    /// 9 · 4 / 6 = 6 patches across and 11 · 4 / 6 = 7.3 down, of six tiles.
    #[test]
    fn a_photo_left_out_scores_so_in_tiles_too() {
        left_out_scores(&Preprocessor { tiles: Some(Tiles::new(6)), ..preprocessor() }, 6 * 7);
    }

    fn left_out_scores(of: &Preprocessor, patches: usize) {
        let (encoder, config, weights, features) = encoded_as(of, MemoryKind::Bank { rows: 1 }, 4);
        let all = refs(&features);
        let found = of_bank(&encoder, &all);
        for (i, found) in found.iter().enumerate() {
            let others: Vec<&Features> = (0..4).filter(|&j| j != i).map(|j| &features[j]).collect();
            let (config, memory) = bank::memory(&config, &others, &Bank::of(&others, 8, 1000)).unwrap();
            assert_eq!(config.memory, MemoryKind::Bank { rows: 3 * patches });
            let expected = heights(of, config, weights.clone(), memory, i);
            let difference = (found.score - expected.score).abs().max((found.peak - expected.peak).abs());
            assert!(difference < 1e-6, "bank, photo {i}: {found:?}, not {expected:?}");
            assert!(found.score > 1e-4 && found.peak > found.score, "photo {i} is like the others");
        }

        let (encoder, config, weights, features) = encoded_as(of, MemoryKind::Subspace { subspaces: 1 }, 4);
        let subspaces = Subspaces::new(8, 0.9);
        let found = block_on(leave_one_out::of_subspace(&encoder, &refs(&features), &subspaces, || ())).unwrap();
        for (i, found) in found.iter().enumerate() {
            let others: Vec<&Features> = (0..4).filter(|&j| j != i).map(|j| &features[j]).collect();
            let (config, memory) = subspace::memory(&config, &[&others], &subspaces).unwrap();
            let expected = heights(of, config, weights.clone(), memory, i);
            for (found, expected) in [(found.score, expected.score), (found.peak, expected.peak)] {
                assert!((found - expected).abs() < 1e-5 * expected, "subspace, photo {i}: {found}, not {expected}");
            }
        }
        let one = block_on(leave_one_out::of_subspace(&encoder, &refs(&features[..1]), &subspaces, || ())).unwrap();
        assert!(one.is_empty(), "one photo has no others");
    }

    const PLACES: MemoryKind = MemoryKind::Places { photos: 1, grid: 1, nearest: 2, reach: 1 };

    #[test]
    fn a_photo_left_out_scores_as_with_the_places_of_the_others() {
        let (encoder, config, weights, features) = encoded(PLACES, 5);
        let all = refs(&features);
        // The last photo is of another class. With room for all, and with two and one for each place.
        let of = |photos: &[&Features], first: usize, most: usize| {
            PlacedBank::of(&[&photos[..first], &photos[first..]], 8, 4, 2, most).unwrap()
        };
        let bank = of(&all, 4, 1000);
        let found: Vec<f32> = block_on(leave_one_out::of_places(&encoder, &all, &bank, || ()))
            .unwrap()
            .into_iter()
            .map(|heights| heights.score)
            .collect();
        for (i, found) in found.iter().enumerate().take(4) {
            let others: Vec<&Features> = (0..5).filter(|&j| j != i).map(|j| &features[j]).collect();
            let (config, memory) = places::memory(&config, &others, &of(&others, 3, 1000)).unwrap();
            assert_eq!(config.memory, MemoryKind::Places { photos: 4, grid: 4, nearest: 2, reach: 1 });
            let expected = score(config, weights.clone(), memory, i);
            assert!((found - expected).abs() < 1e-6, "photo {i}: {found}, not {expected}");
            assert!(*found > 1e-4, "photo {i} is like the others");
        }
        let thinned = of(&all, 4, 3);
        let (config, memory) = places::memory(&config, &all, &thinned).unwrap();
        assert_eq!(config.memory, MemoryKind::Places { photos: 3, grid: 4, nearest: 2, reach: 1 });
        let found: Vec<f32> = block_on(leave_one_out::of_places(&encoder, &all, &thinned, || ()))
            .unwrap()
            .into_iter()
            .map(|heights| heights.score)
            .collect();
        for (i, found) in found.iter().enumerate().take(4) {
            // With its own patches in the memory a photo scores lower, with fewer patches of others no lower than with all.
            let with = score(config.clone(), weights.clone(), memory.clone(), i);
            assert!(*found >= with && *found > 1e-4, "photo {i}: {found}, with its own {with}");
        }
    }

    #[test]
    fn a_photo_of_the_memory_is_at_no_distance() {
        let (_, config, weights, features) = encoded(MemoryKind::Bank { rows: 1 }, 2);
        let all = refs(&features);
        let (config, memory) = bank::memory(&config, &all, &Bank::of(&all, 8, 1000)).unwrap();
        // Rows in half precision.
        assert!(score(config, weights, memory, 1) < 1e-3);
        let (_, config, weights, features) = encoded(PLACES, 2);
        let all = refs(&features);
        let bank = PlacedBank::of(&[&all], 8, 4, 1, 1000).unwrap();
        let (config, memory) = places::memory(&config, &all, &bank).unwrap();
        assert!(score(config, weights, memory, 1) < 1e-3);
        let (_, config, weights, features) = encoded(MemoryKind::Subspace { subspaces: 1 }, 2);
        let (config, memory) = subspace::memory(&config, &[&refs(&features)], &Subspaces::new(8, 1.0)).unwrap();
        assert!(score(config, weights, memory, 1) < 1e-6);
    }

    #[test]
    fn a_thinned_bank_is_as_large_as_allowed() {
        let (_, config, weights, features) = encoded(MemoryKind::Bank { rows: 1 }, 3);
        let all = refs(&features);
        let bank = Bank::of(&all, 8, 20);
        assert!(bank.loss > 0.0);
        let (config, memory) = bank::memory(&config, &all, &bank).unwrap();
        assert_eq!(config.memory, MemoryKind::Bank { rows: 20 });
        assert!(score(config, weights, memory, 0).is_finite());
    }

    #[test]
    fn a_class_has_its_own_subspace() {
        let (_, config, weights, features) = encoded(MemoryKind::Subspace { subspaces: 1 }, 2);
        let subspaces = Subspaces::new(8, 0.9);
        let classes = refs(&features);
        let classes: Vec<&[&Features]> = classes.chunks(1).collect();
        let (both, memory) = subspace::memory(&config, &classes, &subspaces).unwrap();
        assert_eq!(both.memory, MemoryKind::Subspace { subspaces: 2 });
        for photo in 0..2 {
            let found = score(both.clone(), weights.clone(), memory.clone(), photo);
            let of_class = |class: usize| {
                let (config, memory) = subspace::memory(&config, &classes[class..=class], &subspaces).unwrap();
                score(config, weights.clone(), memory, photo)
            };
            let (own, other) = (of_class(photo), of_class(1 - photo));
            assert!((found - own).abs() < 1e-6 * own && other > 1.1 * own, "photo {photo}: {found}, {own}, {other}");
        }
        assert!(subspace::memory(&config, &[&[]], &subspaces).is_err());
    }

    /// What is left of one patch after another is taken out of their sums is rounding error, whose directions may be no numbers.
    #[test]
    fn equal_patches_have_no_directions() {
        for width in [2, 8, 33, 144] {
            for seed in 1..40 {
                let unit = |seed: usize| -> Vec<f32> {
                    let values: Vec<f32> =
                        (0..width).map(|i| ((i * i * 7 + seed * 31 * i + seed) as f32).sin()).collect();
                    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
                    values.iter().map(|v| v / norm).collect()
                };
                let [one, other] = [unit(seed), unit(seed + 50)].map(|patch| subspace::Sums::of(&patch, width));
                let residual = one.with(&other).without(&other).residual(0.99).unwrap();
                assert!(residual.weight.iter().chain(&residual.bias).all(|v| v.is_finite()), "{width}, {seed}");
                let kept = residual.weight.iter().step_by(width + 1).sum::<f32>();
                assert_eq!(kept, width as f32, "{width}, {seed}: all of a patch is left");
            }
        }
    }

    #[test]
    fn turned_photos_are_known_and_no_photo_scores_itself() {
        let turned = |features: &Features| quarter_turn(&features.photo.picture);
        for memory in [MemoryKind::Bank { rows: 1 }, MemoryKind::Subspace { subspaces: 1 }] {
            let (encoder, _, _, features) = encoded(memory, 2);
            let encoder = encoder.with_turns(true);
            let prepared = features.iter().map(|features| features.photo.clone()).collect();
            let with_turns = block_on(encoder.features(prepared)).unwrap();
            assert_eq!((with_turns[0].copies, with_turns[0].own(1)), (4, &features[0].groups[1][..]));
            let once = block_on(encoder.encode(&[turned(&features[0])])).unwrap().remove(0).groups;
            assert_eq!(with_turns[0].groups[1][16 * 8..2 * 16 * 8], once[1][..]);
            let of_turned = |features: &[Features]| {
                let recipe = Recipe {
                    memory: if encoder.unit { MemoryChoice::Bank } else { MemoryChoice::Subspace },
                    variance: 0.9,
                    ..Recipe::default()
                };
                let classes = GoodPhotos::from([("one".to_owned(), refs(features))]);
                let made = block_on(make(&encoder, &classes, &recipe, || ())).unwrap();
                let memory = encoder.memory(&made.config, &made.weights).unwrap();
                let map = block_on(encoder.maps(&memory, &[turned(&features[0]).rgb])).unwrap().remove(0);
                (map.values.iter().sum::<f32>(), made.calibration.overall.good_scores.mean)
            };
            let mut others = features.clone();
            others.iter_mut().zip(1..).for_each(|(features, i)| features.photo.sha256 = [i; 32]);
            let mut turns = with_turns;
            turns.iter_mut().zip(1..).for_each(|(features, i)| features.photo.sha256 = [i; 32]);
            let ((before, _), (after, scores)) = (of_turned(&others), of_turned(&turns));
            assert!(after < 0.7 * before, "{memory:?}: {after} and {before}");
            assert!(scores > 1e-3, "{memory:?}: photos are scored by their own turned copies");
        }
        let photo = Photo { width: 4, height: 2, rgb: (0..24).collect() };
        assert_eq!((0..4).fold(photo.clone(), |photo, _| quarter_turn(&photo)), photo);
        let turned = quarter_turn(&photo);
        assert_eq!((turned.width, turned.height), (2, 4));
        assert_eq!(turned.rgb[..3], photo.rgb[9..12], "the upper right corner comes to the upper left");
    }

    #[test]
    fn moved_copies_are_moved_by_half_a_patch() {
        let photo = Photo { width: 4, height: 2, rgb: (0..24).collect() };
        let copies = made::moved(&photo, [2, 2]);
        assert_eq!(copies.len(), 4);
        // One pixel to the right and one down, the border repeated.
        assert_eq!(copies[0].rgb[..3], photo.rgb[15..18]);
        assert_eq!(copies[3].rgb[..3], photo.rgb[..3]);
    }
}
