//! Photo → result: the one flow that native programs and the page share, on any executor.

#[cfg(feature = "webgpu")]
mod on_gpu;
mod tiled;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

#[cfg(feature = "webgpu")]
pub use on_gpu::Opened;
pub use tiled::TILES_AT_ONCE;
#[cfg(feature = "fewshot")]
pub(crate) use tiled::add_rows;

use crate::bundle::{Arriving, Model, SelfTest};
use crate::maps::defects::{Defect, defects};
use crate::maps::heatmap::{overlay, range_around};
use crate::maps::scope::{Scope, Scoped};
use crate::maps::score::{AnomalyMap, MAP_SIDE, MapLayout, mean_of_highest};
use crate::model::config::Architecture;
use crate::model::network::{Looked, Network};
use crate::ops::Read;
use crate::photo::decode::Photo;
use crate::photo::preprocess::{Preprocessor, Region};
use crate::photo::tiles::TilePlan;
use crate::photo::window::Window;
use crate::tensor::named::Weights;
use crate::{Error, Result};

/// Seed of the picture that models are published with.
pub const SELF_TEST_SEED: u64 = 1;

/// Largest deviation of another device in score and map of the self-test picture. f32 executors differ by less than 1e-5; maps lie
/// in 0..=2, and defects stand out by a few hundredths.
pub const SELF_TEST_TOLERANCE: f32 = 1e-3;

/// Photo → the encoder's input, and map → score: the part of a detector that needs no executor and may run on other threads.
#[derive(Clone, Debug)]
pub struct Preparation {
    preprocessor: Preprocessor,
    patch: usize,
    /// Share of a map's values that its score averages.
    score_share: f64,
    layout: MapLayout,
}

impl Preparation {
    /// What the encoder sees of a photo without tiles: see [`Preprocessor::cut`].
    pub fn prepare(&self, photo: &Photo) -> Vec<u8> {
        self.preprocessor.cut(photo)
    }

    /// What becomes black and white of 16-bit grey.
    pub fn window(&self) -> Option<Window> {
        self.preprocessor.window
    }

    /// The photo's tiles, if the model looks at tiles.
    pub fn tile_plan(&self, photo: &Photo) -> Option<TilePlan> {
        self.preprocessor.tile_plan((photo.width, photo.height), self.patch)
    }

    /// Whether the model looks at tiles.
    pub fn is_tiled(&self) -> bool {
        self.preprocessor.tiles.is_some()
    }

    /// Scores what was seen of a photo. In a photo of tiles a defect counts as much as in one tile: the score is the mean of as many values
    /// as a tile's score is, the highest of the whole map.
    pub fn detection(&self, photo: &Photo, seen: Seen) -> Detection {
        let Seen { map, descriptor } = seen;
        let score = mean_of_highest(&map.values, self.score_share(photo));
        Detection { score, map, region: self.region(photo), descriptor }
    }

    /// Share of a photo's map that its score averages.
    fn score_share(&self, photo: &Photo) -> f64 {
        self.tile_plan(photo).map_or(1.0, |plan| plan.share()) * self.score_share
    }

    /// What a detection says if only a part of the photo counts, and the share of the map that does. The map is 0 elsewhere.
    ///
    /// # Errors
    /// [`Error::Area`] if the part was drawn on photos of another size, or nothing of what is looked at counts.
    pub fn within(&self, scope: &Scope, photo: &Photo, found: Detection) -> Result<(Detection, f64)> {
        let Detection { map, region, descriptor, .. } = found;
        let size = (photo.width, photo.height);
        let Scoped { map, score, counted } = scope.apply(map, region, size, self.score_share(photo))?;
        Ok((Detection { score, map, region, descriptor }, counted))
    }

    /// Ground-truth mask of a photo, in the shape of its map.
    pub fn mask(&self, mask: &Photo) -> Vec<bool> {
        match self.tile_plan(mask) {
            Some(plan) if plan.count() > 1 => plan.mask(mask, self.layout.stitched_size(plan.patches())),
            _ => self.preprocessor.geometry.mask(mask, MAP_SIDE),
        }
    }

    /// The part of a photo that is looked at.
    pub fn region(&self, photo: &Photo) -> Region {
        self.preprocessor.geometry.photo_region(photo.width, photo.height)
    }
}

/// A published model on one executor, ready for photos.
pub struct Detector<O: Read> {
    ops: O,
    network: Network<O::Tensor>,
    /// Number of the encoder's tokens before the first patch.
    prefix: usize,
    preparation: Preparation,
}

/// What a network sees of a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// How anomalous each place is.
    pub map: AnomalyMap,
    /// What the photo looks like as a whole, for [`Calibration::recognise`](crate::bundle::Calibration::recognise).
    pub descriptor: Vec<f32>,
}

/// What a detector says about a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Image score: a photo above its class's threshold is called defective.
    pub score: f32,
    /// How anomalous each place of `region` is.
    pub map: AnomalyMap,
    /// The part of the photo that was looked at.
    pub region: Region,
    /// What the photo looks like as a whole: see [`Calibration::recognise`](crate::bundle::Calibration::recognise).
    pub descriptor: Vec<f32>,
}

impl Detection {
    /// The heatmap over its photo, in the photo's size. A score equal to `threshold` has the colour in the middle of the
    /// scale; `opacity`, 0 to 1, is that of the heatmap where something is unusual. The part of the photo that the
    /// detector does not see is grey and hatched.
    ///
    /// # Errors
    /// [`Error::Shape`] if photo or map do not hold what they should.
    pub fn heatmap(&self, photo: &Photo, threshold: f32, opacity: f32) -> Result<Photo> {
        let Region { x0, y0, x1, y1 } = self.region;
        let (width, height) = (photo.width, photo.height);
        let (region, range) = ((x0, y0, x1, y1), range_around(threshold));
        let rgb = overlay(&photo.rgb, width as usize, height as usize, &self.map, region, range, opacity)?;
        Ok(Photo { width, height, rgb })
    }

    /// The regions of the photo above a pixel threshold, highest first. Those below `min_area` pixels are left out.
    pub fn defects(&self, pixel_threshold: f32, min_area: f64) -> Vec<Defect> {
        defects(&self.map, self.region, pixel_threshold, min_area)
    }
}

impl<O: Read> Detector<O> {
    /// Uploads a model's weights; a quantized one stays so where the executor can compute with it. The model itself is
    /// not needed afterwards.
    ///
    /// # Errors
    /// If the model contradicts itself, or the executor has no room for it.
    pub fn new(ops: O, model: &Model) -> Result<Self> {
        Self::of_parts(ops, &model.config, &model.preprocessor, &model.weights)
    }

    /// A detector of what a model is made of, before it is calibrated and published.
    ///
    /// # Errors
    /// As [`Detector::new`].
    pub fn of_parts(
        ops: O,
        architecture: &Architecture,
        preprocessor: &Preprocessor,
        weights: &Weights,
    ) -> Result<Self> {
        let patch = architecture.encoder().patch_size;
        preprocessor.validate(patch)?;
        let network = weights.network(&ops, architecture, preprocessor.geometry.grid(patch))?;
        Ok(Self::of_network(ops, architecture, preprocessor, network))
    }

    /// A detector of a model that was loaded file by file; `ops` is the executor that its weights were uploaded to.
    ///
    /// # Errors
    /// [`Error::Model`] naming the missing file or tensor; as [`Ops`](crate::ops::Ops).
    pub fn of_arrived(ops: O, arrived: &Arriving<O::Tensor>) -> Result<Self> {
        let (model, network) = arrived.network(&ops)?;
        Ok(Self::of_network(ops, &model.config, &model.preprocessor, network))
    }

    /// A detector of a network that is on the executor, and was validated.
    fn of_network(
        ops: O,
        architecture: &Architecture,
        preprocessor: &Preprocessor,
        network: Network<O::Tensor>,
    ) -> Self {
        let patch = architecture.encoder().patch_size;
        Self {
            network,
            prefix: architecture.encoder().prefix_tokens(),
            preparation: Preparation {
                preprocessor: preprocessor.clone(),
                patch,
                score_share: architecture.score_share(),
                layout: MapLayout {
                    prefix: architecture.kept_prefix_tokens(),
                    grid: preprocessor.geometry.grid(patch),
                    input_side: preprocessor.geometry.crop,
                    border: architecture.map_border(),
                },
            },
            ops,
        }
    }

    /// Decodes a photo as the model is to see it: as [`Photo::decode`], with the model's window for 16-bit grey.
    ///
    /// # Errors
    /// As [`Photo::decode`].
    pub fn decode(&self, name: &str, bytes: &[u8]) -> Result<Photo> {
        Photo::decode_in(name, bytes, self.preparation.window())
    }

    /// What it runs on.
    pub fn ops(&self) -> &O {
        &self.ops
    }

    /// Looks at photos of any sizes, all of them as one batch, with one readback; in tiles one by one. None of them gives none.
    ///
    /// # Errors
    /// If the executor fails or computes something that is no number.
    pub async fn detect(&self, photos: &[Photo]) -> Result<Vec<Detection>> {
        if self.preparation.is_tiled() {
            let mut found = Vec::with_capacity(photos.len());
            for photo in photos {
                found.push(self.detect_in_tiles(photo, TILES_AT_ONCE).await?);
            }
            return Ok(found);
        }
        let patches = photos.iter().map(|photo| self.prepare(photo)).collect::<Vec<_>>();
        let seen = self.see(&patches).await?;
        Ok(photos.iter().zip(seen).map(|(photo, seen)| self.detection(photo, seen)).collect())
    }

    /// [`Detector::detect`] for one photo and an executor that never waits, such as the processor.
    ///
    /// # Errors
    /// As [`Detector::detect`], and [`Error::Device`] if the executor has to be waited for, as a GPU.
    pub fn detect_now(&self, photo: &Photo) -> Result<Detection> {
        let waits = || Error::Device {
            executor: "the executor",
            reason: "has to be waited for: use detect() in place of detect_now()".into(),
        };
        Ok(now(self.detect(std::slice::from_ref(photo))).ok_or_else(waits)??.remove(0))
    }

    /// Scores what was seen of a photo.
    pub fn detection(&self, photo: &Photo, seen: Seen) -> Detection {
        self.preparation.detection(photo, seen)
    }

    /// The executor alone, for another model or another way of running this one.
    pub fn into_ops(self) -> O {
        self.ops
    }

    /// What makes the encoder's input of a photo.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// What the encoder sees of a photo: see [`Preprocessor::cut`].
    pub fn prepare(&self, photo: &Photo) -> Vec<u8> {
        self.preparation.prepare(photo)
    }

    /// The part of a photo that is looked at.
    pub fn region(&self, photo: &Photo) -> Region {
        self.preparation.region(photo)
    }

    /// Prepared photos → their anomaly maps.
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub async fn maps(&self, prepared: &[Vec<u8>]) -> Result<Vec<AnomalyMap>> {
        Ok(self.see(prepared).await?.into_iter().map(|seen| seen.map).collect())
    }

    /// Prepared photos → what the network sees of them, with one readback.
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub async fn see(&self, prepared: &[Vec<u8>]) -> Result<Vec<Seen>> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let Looked { distances, descriptor } = self.look(prepared)?;
        let layout = &self.preparation.layout;
        let (maps, descriptors) = self.ops.read_maps(&distances, Some(&descriptor), prepared.len(), layout).await?;
        let descriptors = descriptors.chunks_exact(descriptors.len() / prepared.len());
        Ok(maps.into_iter().zip(descriptors).map(|(map, of)| Seen { map, descriptor: of.to_vec() }).collect())
    }

    /// Prepared photos or tiles → every group's distances, and their descriptors.
    fn look(&self, prepared: &[Vec<u8>]) -> Result<Looked<O::Tensor>> {
        let Preparation { preprocessor, patch, .. } = &self.preparation;
        let expected = preprocessor.cut_bytes();
        if let Some(photo) = prepared.iter().find(|photo| photo.len() != expected) {
            let (expected, found) = (vec![expected], vec![photo.len()]);
            return Err(Error::Shape { name: "prepared photo".into(), expected, found });
        }
        let patches = self.ops.upload_photos(prepared, preprocessor, *patch)?;
        self.network.look(&self.ops, &patches, self.prefix)
    }

    /// What this detector says about the picture of the self-test, to be published with the model.
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub async fn self_test(&self, seed: u64, tolerance: f32) -> Result<SelfTest> {
        let (score, map) = self.look_at(&SelfTest::picture_of(seed)).await?;
        SelfTest::new(seed, score, &map.values, tolerance)
    }

    /// Whether this device computes what the model's maker computed, within the model's tolerance or, as a whole, a part `rounding` of it.
    /// `executor` is named in the refusal.
    ///
    /// # Errors
    /// [`Error::Device`] if it does not, or the executor's own.
    pub async fn verify(&self, executor: &'static str, expected: &SelfTest, rounding: f32) -> Result<()> {
        let (score, map) = self.look_at(&expected.picture()).await?;
        expected.compare(executor, score, &map.values, rounding)
    }

    /// Score and map of the picture as one square: the self-test of a model that looks at tiles is that of a tile.
    async fn look_at(&self, picture: &Photo) -> Result<(f32, AnomalyMap)> {
        let map = self.maps(&[self.prepare(picture)]).await?.remove(0);
        Ok((mean_of_highest(&map.values, self.preparation.score_share), map))
    }
}

/// The output of a future that is ready when it is first asked; `None` if it is not.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::bundle::tests::model;
    use crate::executors::reference::Reference;
    use crate::maps::score::MapBorder;
    use crate::maps::score::anomaly_map;
    use crate::ops::Ops;
    use crate::tensor::HostTensor;

    fn photos() -> Vec<Photo> {
        let photo = |width: u32, height: u32| Photo {
            width,
            height,
            rgb: (0..3 * width * height).map(|i| (i * i % 251) as u8).collect(),
        };
        vec![photo(31, 17), photo(8, 8), photo(5, 40)]
    }

    #[test]
    fn a_batch_gives_what_each_photo_gives_alone() {
        let detector = Detector::new(Reference, &model()).unwrap();
        let together = block_on(detector.detect(&photos())).unwrap();
        assert_eq!(together.len(), 3);
        for (photo, detection) in photos().into_iter().zip(&together) {
            assert_eq!(detection.region, detector.region(&photo));
            assert_eq!(&detector.detect_now(&photo).unwrap(), detection);
            assert_eq!(block_on(detector.detect(&[photo])).unwrap(), std::slice::from_ref(detection));
            assert!(detection.score > 0.0 && detection.map.values.len() == 256 * 256);
        }
        assert_ne!(together[0].map, together[1].map);
        assert!(block_on(detector.detect(&[])).unwrap().is_empty());
    }

    #[test]
    fn what_has_to_be_waited_for_is_not_there_now() {
        assert_eq!(now(std::future::ready(3)), Some(3));
        assert_eq!(now(std::future::pending::<()>()), None);
    }

    #[test]
    fn a_heatmap_is_as_large_as_its_photo_and_shows_a_score_above_the_threshold() {
        let detector = Detector::new(Reference, &model()).unwrap();
        let photo = &photos()[0];
        let detection = detector.detect_now(photo).unwrap();
        let seen = detection.heatmap(photo, detection.score / 2.0, 0.5).unwrap();
        assert_eq!((seen.width, seen.height, seen.rgb.len()), (photo.width, photo.height, photo.rgb.len()));
        let unseen = detection.heatmap(photo, detection.score / 2.0, 0.0).unwrap();
        assert_ne!(seen, unseen);
    }

    /// The maps are made of patches alone: what class and register tokens say is dropped.
    #[test]
    fn maps_are_made_of_the_distances_of_patches() {
        let model = model();
        let detector = Detector::new(Reference, &model).unwrap();
        let photo = &photos()[0];
        let (grid, side) = (model.grid(), model.preprocessor.geometry.crop);
        let patch = model.config.encoder().patch_size;
        let patches = model.preprocessor.patches(photo, patch);
        let input = HostTensor::f32([1, grid * grid, 3 * patch * patch], patches).unwrap();
        let network = model.weights.network(&Reference, &model.config, grid).unwrap();
        let groups = network.distances(&Reference, &Reference.upload(&input).unwrap()).unwrap();
        let patches: Vec<&[f32]> = groups.iter().map(|g| &g.values[g.values.len() - grid * grid..]).collect();
        assert_eq!(groups[0].values.len() - grid * grid, 2, "class token and one register");
        assert_eq!(
            block_on(detector.maps(&[detector.prepare(photo)])).unwrap(),
            [anomaly_map(&patches, grid, side, MapBorder::Zero).unwrap()]
        );
        let error = block_on(detector.maps(std::slice::from_ref(&photo.rgb))).unwrap_err().to_string();
        assert!(error.contains(&format!("prepared photo: expected shape [{}]", 3 * side * side)), "{error}");
    }

    #[test]
    fn the_self_test_passes_where_it_was_made_and_not_with_other_weights() {
        let model = model();
        let detector = Detector::new(Reference, &model).unwrap();
        let published = block_on(detector.self_test(SELF_TEST_SEED, 1e-4)).unwrap();
        block_on(detector.verify("reference", &published, 0.0)).unwrap();

        let mut altered = model;
        let tensor = altered.weights.0.get_mut("decoder.3.mlp.fc2.weight").unwrap();
        *tensor = HostTensor::f32(tensor.shape.clone(), tensor.to_f32().iter().map(|v| v * 1.5).collect()).unwrap();
        let detector = Detector::new(Reference, &altered).unwrap();
        let error = block_on(detector.verify("reference", &published, 0.0)).unwrap_err().to_string();
        assert!(error.starts_with("reference: fails the model's self-test"), "{error}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let mut model = model();
        let bias = model.weights.0.get_mut("decoder.3.mlp.fc2.bias").unwrap();
        *bias = HostTensor::f32(bias.shape.clone(), vec![f32::NAN; bias.shape[0]]).unwrap();
        let detector = Detector::new(Reference, &model).unwrap();
        let error = block_on(detector.detect(&photos())).unwrap_err().to_string();
        assert!(error.contains("the distance NaN, expected a finite number"), "{error}");
    }
}
