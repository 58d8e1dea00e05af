//! Memories of good photos against the published models that they make.

use pollster::block_on;

use super::bank::Bank;
use super::features::quarter_turn;
use super::places::PlacedBank;
use super::subspace::Subspaces;
use super::*;
use crate::detector::Detector;
use crate::executors::reference::Reference;
use crate::maps::score::Heights;
use crate::model::config::{Architecture, EncoderConfig, MemoryConfig, MemoryKind};
use crate::model::weights::model_shapes;
use crate::photo::decode::Photo;
use crate::photo::preprocess::{Geometry, Preprocessor};
use crate::photo::tiles::Tiles;
use crate::tensor::HostTensor;
use crate::tensor::named::Weights;

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
fn heights(of: &Preprocessor, config: MemoryConfig, mut weights: Weights, memory: Weights, photo: usize) -> Heights {
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
                let values: Vec<f32> = (0..width).map(|i| ((i * i * 7 + seed * 31 * i + seed) as f32).sin()).collect();
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
                memory: match memory {
                    MemoryKind::Bank { .. } => MemoryChoice::Bank,
                    _ => MemoryChoice::Subspace,
                },
                turns: true,
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
