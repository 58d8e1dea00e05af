//! What a model takes of a GPU's memory: the pool of a photo, and the largest buffers.

use std::time::Instant;

use dinomaly::costs::parts;
use dinomaly_core::bundle::SelfTest;
use dinomaly_core::detector::{Detector, SELF_TEST_SEED};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::model::config::{Architecture, EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::model_shapes;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use dinomaly_tests::executors::webgpu;
use dinomaly_tests::max_difference;
use pollster::block_on;

const MIB: u64 = 1 << 20;

/// Ten times the largest difference of a map from the reference's that was measured, of distances near 1.
const DETECTED: f32 = 2.5e-6;

/// DINOv2 with registers, of the given width.
fn config(width: usize, blocks: usize) -> Architecture {
    let encoder = EncoderConfig {
        num_hidden_layers: blocks,
        num_register_tokens: 4,
        ..EncoderConfig::vit(width, width / 64, 14, 37)
    };
    ModelConfig::published(encoder).unwrap().into()
}

/// Arbitrary ones.
fn weights(config: &Architecture) -> Weights {
    let tensor = |(i, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = (0..shape.iter().product()).map(|j: usize| 0.03 * ((i + j) as f32 * 0.37).sin()).collect();
        (name, HostTensor::f32(shape, values).unwrap())
    };
    Weights(model_shapes(config).unwrap().into_iter().enumerate().map(tensor).collect())
}

/// From pixels to maps: what the host computes of a batch is its scores.
#[test]
fn photos_are_one_submission() {
    let Some(gpu) = webgpu() else { return };
    let config = config(64, 12);
    let (weights, preprocessor) = (weights(&config), Preprocessor::imagenet(Geometry { resize: 80, crop: 70 }));
    let host = Detector::of_parts(Reference, &config, &preprocessor, &weights).unwrap();
    let detector = Detector::of_parts(gpu, &config, &preprocessor, &weights).unwrap();
    let photos = [1, 2, 3].map(SelfTest::picture_of);
    for photos in [&photos[..1], &photos] {
        let before = detector.ops().usage().submissions;
        let found = block_on(detector.detect(photos)).unwrap();
        assert_eq!(detector.ops().usage().submissions, before + 1, "{} photos", photos.len());
        for (found, expected) in found.iter().zip(block_on(host.detect(photos)).unwrap()) {
            let difference = max_difference(&found.map.values, &expected.map.values);
            println!("score {}, map differs by {difference:e}", expected.score);
            assert!(difference <= DETECTED, "{difference:e}");
        }
    }
}

/// Every binding must fit what every adapter allows. The widest activation of a block is its hidden layer.
#[test]
fn no_buffer_of_small_base_and_large_exceeds_128_mib() {
    for (name, width, blocks) in [("S", 384, 12), ("B", 768, 12), ("L", 1024, 24)] {
        let config = config(width, blocks);
        let values = |shape: &Vec<usize>| shape.iter().product::<usize>() as u64;
        let shapes = model_shapes(&config).unwrap();
        let weight = 4 * shapes.values().map(values).max().unwrap();
        let tokens = 28 * 28 + config.encoder().prefix_tokens() as u64;
        let activation = 4 * tokens * (4 * width).max(3 * 14 * 14) as u64;
        println!(
            "{name} at 392²: largest weight {:.1} MiB, largest activation {:.1} MiB",
            weight as f64 / MIB as f64,
            activation as f64 / MIB as f64
        );
        assert!(weight.max(activation) <= 128 * MIB);
    }
}

/// `cargo test --release -p dinomaly-tests --test executors gpu_memory:: -- --ignored --nocapture`
#[test]
#[ignore = "62 GFLOP, half a minute without a real GPU; prints figures for BENCHMARKS.md"]
fn activations_of_small_at_392_take_less_than_40_mib() {
    let Some(gpu) = webgpu() else { return };
    let config = config(384, 12);
    let weights = weights(&config);
    let preprocessor = Preprocessor::imagenet(Geometry { resize: 448, crop: 392 });
    let detector = Detector::of_parts(gpu, &config, &preprocessor, &weights).unwrap();
    let before = detector.ops().usage().bytes;
    let begun = Instant::now();
    let found = block_on(detector.detect(&[SelfTest::picture_of(SELF_TEST_SEED)])).unwrap().remove(0);
    assert!(found.score.is_finite());
    let seconds = begun.elapsed().as_secs_f64();
    let activations = detector.ops().usage().bytes - before;
    let macs = parts(&config, 28).unwrap().iter().map(|part| part.linear + part.attention).sum::<u64>();
    println!(
        "weights {:.1} MiB, activations {:.1} MiB, {seconds:.1} s, {:.1} GFLOP/s",
        before as f64 / MIB as f64,
        activations as f64 / MIB as f64,
        2e-9 * macs as f64 / seconds
    );
    assert!(activations < 40 * MIB, "{activations} bytes");
}
