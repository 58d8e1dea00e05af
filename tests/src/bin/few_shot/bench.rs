//! Encoded photos, and what detectors made of some of them say about the others.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use dinomaly::dataset::{Class, Dataset, TestPhoto, read_photo};
use dinomaly::encoders::backbone::Backbone;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision, ProcessorTensor};
use dinomaly_core::fewshot::{FeatureEncoder, Features, GoodPhotos, PreparedPhoto, Recipe, make};
use dinomaly_core::maps::metrics::{Metrics, Sample};
use dinomaly_core::maps::score::{AnomalyMap, Heights, MAP_SIDE, MapLayout};
use dinomaly_core::model::config::MemoryConfig;
use dinomaly_core::model::encoder::Encoder;
use dinomaly_core::model::memory::Memory;
use dinomaly_core::ops::{Ops, Read};
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};
use dinomaly_core::tensor::named::Weights;
use pollster::block_on;

/// An encoder and a recipe.
pub struct Bench {
    pub features: FeatureEncoder<Processor>,
    encoder: Encoder<ProcessorTensor>,
    pub config: MemoryConfig,
    /// Side of the input in pixels.
    pub side: usize,
    preprocessor: Preprocessor,
    layout: MapLayout,
    pub recipe: Recipe,
    /// Whether photos are made square by repeating their edges.
    padded: bool,
}

/// A photo as a memory takes it.
#[derive(Clone)]
pub struct Encoded {
    layers: Vec<ProcessorTensor>,
    /// Pixels of the defect, in the map's shape.
    mask: Option<Vec<bool>>,
    pub defective: bool,
    /// What a memory keeps of it.
    pub features: Features,
}

/// Encoded photos of a product.
pub struct Product {
    pub name: String,
    pub good: Vec<Encoded>,
    pub test: Vec<Encoded>,
}

/// Figures of a draw.
pub struct Found {
    pub metrics: Metrics,
    /// At the threshold.
    pub f1: f64,
    pub recall: f64,
    /// Rate of false alarms; one photo promises none.
    pub promised: Option<f64>,
    /// Numbers of good photos that are not in the memory: all, those above the threshold, those with a region.
    pub good: [usize; 3],
    /// Number of photos in the memory.
    pub photos: usize,
}

impl Bench {
    pub fn new(backbone: Backbone, recipe: Recipe, side: usize, padded: bool) -> Result<Self> {
        let Backbone { config: encoder, weights, mean, std, .. } = backbone;
        let side = side / encoder.patch_size * encoder.patch_size;
        let geometry = Geometry { resize: side, crop: side };
        let preprocessor = Preprocessor { geometry, tiles: None, mean, std, window: None, resized: Resized::Bytes };
        let blocks = encoder.num_hidden_layers;
        let mut config = recipe.config(encoder, blocks)?;
        config.final_norm &= weights.has_final_norm();
        let ops = Processor::new(ProcessorPrecision::F32);
        let grid = geometry.grid(config.encoder.patch_size);
        let encoder = weights.encoder(&ops, config.taps(), grid)?;
        let prefix = config.encoder.prefix_tokens();
        let layout = MapLayout { prefix, grid, input_side: side, border: config.map_border };
        let features = FeatureEncoder::new(ops, &config, &preprocessor, &weights)?;
        Ok(Self { features, encoder, config, side, preprocessor, layout, recipe, padded })
    }

    /// All photos of a product.
    pub fn encode(&self, folder: &Path) -> Result<Product> {
        let dataset = Dataset::open(folder, &[])?;
        let [Class { name, train, test, .. }] = &dataset.classes[..] else {
            bail!("{} is no folder of one product", folder.display())
        };
        eprintln!("encoding {name}");
        let good =
            train.iter().map(|path| self.encode_photo(&TestPhoto { path: path.clone(), ..TestPhoto::default() }));
        let good = good.collect::<Result<_>>()?;
        let test = test.iter().map(|photo| self.encode_photo(photo)).collect::<Result<_>>()?;
        Ok(Product { name: name.clone(), good, test })
    }

    fn encode_photo(&self, labelled: &TestPhoto) -> Result<Encoded> {
        let shaped = |photo| if self.padded { square(&photo) } else { photo };
        let photo = read_photo(&labelled.path, None)?;
        let mask = labelled.ground_truth((photo.width, photo.height))?;
        let mask = mask.map(|mask| self.preprocessor.geometry.mask(&shaped(mask), MAP_SIDE));
        let photo = shaped(photo);
        let ops = self.features.ops();
        let cut = self.preprocessor.geometry.cut(&photo);
        let patches = ops.upload_photos(&[cut], &self.preprocessor, self.config.encoder.patch_size)?;
        let layers = self.encoder.forward(ops, &patches, &mut |_, _| {})?;
        let prepared = PreparedPhoto::new(&self.preprocessor, photo, &fs::read(&labelled.path)?);
        let features = block_on(self.features.features(vec![prepared]))?.remove(0);
        Ok(Encoded { layers, mask, defective: labelled.defect.is_some(), features })
    }

    /// Figures of each product with a detector of these of its photos.
    pub fn draw(&self, products: &[Product], draw: &[Vec<usize>]) -> Result<Vec<Found>> {
        let mut good = GoodPhotos::new();
        for (product, draw) in products.iter().zip(draw) {
            good.insert(product.name.clone(), draw.iter().map(|&i| &product.good[i].features).collect());
        }
        let made = block_on(make(&self.features, &good, &self.recipe, || ()))?;
        let memory = self.memory(&made.config, &made.weights)?;
        let mut found = Vec::new();
        for (product, draw) in products.iter().zip(draw) {
            let mut unseen = Vec::new();
            for (_, photo) in product.good.iter().enumerate().filter(|(i, _)| !draw.contains(i)) {
                unseen.push(self.look(&memory, photo)?.1);
            }
            let test = product.test.iter().map(|photo| self.look(&memory, photo)).collect::<Result<Vec<_>>>()?;
            let limits = made.calibration.of_class(Some(&product.name));
            let of_test = std::iter::zip(&product.test, &test);
            let good = of_test.clone().filter(|(photo, _)| !photo.defective).map(|(_, (_, heights))| heights);
            let mut counts = [0; 3];
            for heights in good.chain(&unseen) {
                counts[0] += 1;
                counts[1] += usize::from(heights.score > limits.threshold);
                counts[2] += usize::from(limits.pixel_threshold.is_some_and(|threshold| heights.peak > threshold));
            }
            let above = |wanted: bool| {
                let is = |(photo, (_, heights)): &(&Encoded, &(AnomalyMap, Heights))| {
                    photo.defective == wanted && heights.score > limits.threshold
                };
                of_test.clone().filter(is).count() as f64
            };
            let defective = product.test.iter().filter(|photo| photo.defective).count() as f64;
            found.push(Found {
                metrics: metrics(&product.test, &test)?,
                f1: 2.0 * above(true) / (defective + above(true) + above(false)),
                recall: above(true) / defective,
                promised: made.calibration.held_out.then_some(made.calibration.false_alarm_rate),
                good: counts,
                photos: draw.len(),
            });
        }
        Ok(found)
    }

    fn memory(&self, config: &MemoryConfig, weights: &Weights) -> Result<Memory<ProcessorTensor>> {
        let ops = self.features.ops();
        Ok(Memory::load(config, &mut |name, _| {
            let tensor = weights.0.get(name).expect("a memory has its tensors");
            if name.contains(".places.") {
                ops.upload_rows(tensor)
            } else if name.ends_with(".weight") {
                ops.upload_weight(tensor)
            } else {
                ops.upload(tensor)
            }
        })?)
    }

    fn look(&self, memory: &Memory<ProcessorTensor>, photo: &Encoded) -> Result<(AnomalyMap, Heights)> {
        let ops = self.features.ops();
        let (mut maps, _) = block_on(ops.read_maps(&memory.distances(ops, &photo.layers)?, None, 1, &self.layout))?;
        let map = maps.remove(0);
        let heights = Heights::of(&map, self.config.score_share);
        Ok((map, heights))
    }
}

/// Metrics of photos with their maps.
fn metrics(photos: &[Encoded], found: &[(AnomalyMap, Heights)]) -> Result<Metrics> {
    let samples = std::iter::zip(photos, found).map(|(photo, (map, heights))| Sample {
        map: &map.values,
        width: map.width,
        mask: photo.mask.as_deref(),
        anomalous: photo.defective,
        score: heights.score,
    });
    Ok(Metrics::of(&samples.collect::<Vec<_>>())?)
}

/// A photo in the middle of a square, its edges repeated.
fn square(photo: &Photo) -> Photo {
    let side = photo.width.max(photo.height);
    let [left, top] = [(side - photo.width) / 2, (side - photo.height) / 2];
    let at = |x: u32, y: u32| {
        let (x, y) = (x.saturating_sub(left).min(photo.width - 1), y.saturating_sub(top).min(photo.height - 1));
        3 * (y as usize * photo.width as usize + x as usize)
    };
    let rgb =
        (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).flat_map(|(x, y)| photo.rgb[at(x, y)..][..3].to_vec());
    Photo { width: side, height: side, rgb: rgb.collect() }
}
