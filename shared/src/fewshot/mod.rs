//! Detectors without training: a handful of good photos → a memory of their patches.
//!
//! [`FeatureEncoder`] gives the [`Features`] of photos on any executor. A [`Memory`](crate::model::memory::Memory) is made of them on the
//! host, by [`bank`] or [`subspace`], and [`leave_one_out`] scores each photo with a memory of all others.

pub mod bank;
pub mod leave_one_out;
pub mod subspace;

use crate::Result;
use crate::maps::score::MapLayout;
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::encoder;
use crate::model::memory::{mean_of_units, unit_mean};
use crate::ops::Read;
use crate::photo::decode::Photo;
use crate::photo::preprocess::Preprocessor;
use crate::tensor::named::Weights;

/// Features of a good photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Of each group of layers the patches' features `[patches, width]`.
    pub groups: Vec<Vec<f32>>,
    /// Unit vector of the class token in the last layer.
    pub class_token: Vec<f32>,
}

/// The frozen encoder on an executor, for features of good photos.
pub struct FeatureEncoder<O: Read> {
    ops: O,
    encoder: encoder::Encoder<O::Tensor>,
    config: MemoryConfig,
    preprocessor: Preprocessor,
    /// Whether features are unit vectors.
    unit: bool,
}

impl<O: Read> FeatureEncoder<O> {
    /// An encoder with these weights. Of `config.memory` only the kind matters, not its size.
    ///
    /// # Errors
    /// If config, geometry and weights do not fit together, or the executor has no room for them.
    pub fn new(ops: O, config: &MemoryConfig, preprocessor: &Preprocessor, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let patch = config.encoder.patch_size;
        preprocessor.geometry.validate(patch)?;
        let encoder = weights.encoder(&ops, config.taps(), preprocessor.geometry.grid(patch))?;
        let unit = matches!(config.memory, MemoryKind::Bank { .. });
        Ok(Self { ops, encoder, config: config.clone(), preprocessor: preprocessor.clone(), unit })
    }

    /// The executor.
    pub fn ops(&self) -> &O {
        &self.ops
    }

    /// What the encoder sees of a photo, `[crop, crop, 3]`.
    pub fn prepare(&self, photo: &Photo) -> Vec<u8> {
        self.preprocessor.geometry.cut(photo)
    }

    /// Features of prepared photos, all of them as one batch.
    ///
    /// # Errors
    /// If the executor fails.
    pub async fn features(&self, prepared: &[Vec<u8>]) -> Result<Vec<Features>> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let (ops, e) = (&self.ops, &self.config.encoder);
        let patches = ops.upload_photos(prepared, &self.preprocessor, e.patch_size)?;
        let layers = self.encoder.forward(ops, &patches, &mut |_, _| {})?;
        let units = layers.iter().map(|layer| ops.normalize(layer)).collect::<Result<Vec<_>>>()?;
        let feature = if self.unit { unit_mean } else { mean_of_units };
        let mut tensors =
            self.config.groups.iter().map(|group| feature(ops, &units, group)).collect::<Result<Vec<_>>>()?;
        tensors.extend(units.last().cloned());
        let mut values = ops.read_back(&tensors.iter().collect::<Vec<_>>()).await?;
        let last = values.pop().unwrap_or_default();
        let (prefix, width) = (e.prefix_tokens() * e.hidden_size, e.hidden_size);
        let photo = |i: usize, values: &[f32]| {
            let tokens = values.len() / prepared.len();
            values[i * tokens..][..tokens].to_vec()
        };
        let of = |i: usize| Features {
            groups: values.iter().map(|group| photo(i, group).split_off(prefix)).collect(),
            class_token: photo(i, &last)[..width].to_vec(),
        };
        Ok((0..prepared.len()).map(of).collect())
    }

    /// How the distances of a photo become its anomaly map; without tokens before the first patch.
    fn layout(&self) -> MapLayout {
        let geometry = self.preprocessor.geometry;
        MapLayout {
            prefix: 0,
            grid: geometry.grid(self.config.encoder.patch_size),
            input_side: geometry.crop,
            border: self.config.map_border,
        }
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::bank::Bank;
    use super::subspace::Subspaces;
    use super::*;
    use crate::detector::Detector;
    use crate::executors::reference::Reference;
    use crate::model::config::{Architecture, EncoderConfig};
    use crate::model::weights::model_shapes;
    use crate::photo::preprocess::Geometry;
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

    fn photos(count: usize) -> Vec<Photo> {
        let photo = |p: usize| Photo {
            width: 9,
            height: 11,
            rgb: (0..3 * 9 * 11).map(|i| ((i * i + 7 * p * i + 13 * p) % 251) as u8).collect(),
        };
        (0..count).map(photo).collect()
    }

    fn encoded(memory: MemoryKind, count: usize) -> (FeatureEncoder<Reference>, MemoryConfig, Weights, Vec<Features>) {
        let config = config(memory);
        let weights = weights(&config);
        let encoder = FeatureEncoder::new(Reference, &config, &preprocessor(), &weights).unwrap();
        let prepared: Vec<Vec<u8>> = photos(count).iter().map(|photo| encoder.prepare(photo)).collect();
        let features = block_on(encoder.features(&prepared)).unwrap();
        (encoder, config, weights, features)
    }

    /// A photo's score with the memory of some photos, by the published model.
    fn score(config: MemoryConfig, mut weights: Weights, memory: Weights, photo: usize) -> f32 {
        weights.0.extend(memory.0);
        let detector = Detector::of_parts(Reference, &config.into(), &preprocessor(), &weights).unwrap();
        detector.detect_now(&photos(photo + 1)[photo]).unwrap().score
    }

    #[test]
    fn a_photo_left_out_scores_as_with_a_memory_of_the_others() {
        let (encoder, config, weights, features) = encoded(MemoryKind::Bank { rows: 1 }, 4);
        let all: Vec<&Features> = features.iter().collect();
        let found = block_on(leave_one_out::of_bank(&encoder, &all, &Bank::of(&all, 8, 1000), || ())).unwrap();
        for (i, found) in found.iter().enumerate() {
            let others: Vec<&Features> = (0..4).filter(|&j| j != i).map(|j| &features[j]).collect();
            let (config, memory) = bank::memory(&config, &others, &Bank::of(&others, 8, 1000)).unwrap();
            assert_eq!(config.memory, MemoryKind::Bank { rows: 3 * 16 });
            let expected = score(config, weights.clone(), memory, i);
            assert!((found - expected).abs() < 1e-6, "bank, photo {i}: {found}, not {expected}");
            assert!(*found > 1e-4, "photo {i} is like the others");
        }

        let (encoder, config, weights, features) = encoded(MemoryKind::Subspace { subspaces: 1 }, 4);
        let subspaces = Subspaces::new(8, 0.9);
        let found = block_on(leave_one_out::of_subspace(&encoder, &features, &subspaces, || ())).unwrap();
        for (i, found) in found.iter().enumerate() {
            let others: Vec<Features> = (0..4).filter(|&j| j != i).map(|j| features[j].clone()).collect();
            let (config, memory) = subspace::memory(&config, &[others], &subspaces).unwrap();
            let expected = score(config, weights.clone(), memory, i);
            assert!((found - expected).abs() < 1e-5 * expected, "subspace, photo {i}: {found}, not {expected}");
        }
        let one = block_on(leave_one_out::of_subspace(&encoder, &features[..1], &subspaces, || ())).unwrap();
        assert!(one.is_empty(), "one photo has no others");
    }

    #[test]
    fn a_photo_of_the_memory_is_at_no_distance() {
        let (_, config, weights, features) = encoded(MemoryKind::Bank { rows: 1 }, 2);
        let all: Vec<&Features> = features.iter().collect();
        let (config, memory) = bank::memory(&config, &all, &Bank::of(&all, 8, 1000)).unwrap();
        // Rows in half precision.
        assert!(score(config, weights, memory, 1) < 1e-3);
        let (_, config, weights, features) = encoded(MemoryKind::Subspace { subspaces: 1 }, 2);
        let (config, memory) = subspace::memory(&config, &[features], &Subspaces::new(8, 1.0)).unwrap();
        assert!(score(config, weights, memory, 1) < 1e-6);
    }

    #[test]
    fn a_thinned_bank_is_as_large_as_allowed() {
        let (_, config, weights, features) = encoded(MemoryKind::Bank { rows: 1 }, 3);
        let all: Vec<&Features> = features.iter().collect();
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
        let classes = features.iter().map(|photo| vec![photo.clone()]).collect::<Vec<_>>();
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
        assert!(subspace::memory(&config, &[vec![]], &subspaces).is_err());
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
    fn moved_copies_are_moved_by_half_a_patch() {
        let photo = Photo { width: 4, height: 2, rgb: (0..24).collect() };
        let copies = leave_one_out::moved(&photo, 2);
        assert_eq!(copies.len(), 4);
        // One pixel to the right and one down, the border repeated.
        assert_eq!(copies[0].rgb[..3], photo.rgb[15..18]);
        assert_eq!(copies[3].rgb[..3], photo.rgb[..3]);
    }
}
