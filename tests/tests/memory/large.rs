//! The largest published size end to end, with random weights: that it runs, in which time and memory.

use std::time::Instant;

use candle_core::Device;
use dinomaly::costs::parts;
use dinomaly_core::bundle::SelfTest;
use dinomaly_core::detector::{Detector, SELF_TEST_SEED};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::model_shapes;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;

use crate::peak;

/// `cargo test --release -p dinomaly-tests --test memory -- --ignored --nocapture`
#[test]
#[ignore = "takes half a minute and several GiB; prints figures for BENCHMARKS.md"]
fn one_photo_through_dinov2_large_at_392() {
    let encoder =
        EncoderConfig { num_hidden_layers: 24, num_register_tokens: 4, ..EncoderConfig::vit(1024, 16, 14, 37) };
    let config = ModelConfig::published(encoder).unwrap().into();
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| 0.06 * random()).collect();
        (name, HostTensor::f32(shape, values).unwrap())
    };
    let weights = Weights(model_shapes(&config).unwrap().into_iter().map(tensor).collect());
    let preprocessor = Preprocessor::imagenet(Geometry { resize: 448, crop: 392 });
    let detector = Detector::of_parts(Candle::infer(Device::Cpu), &config, &preprocessor, &weights).unwrap();
    drop(weights);
    let begun = Instant::now();
    let found = pollster::block_on(detector.detect(&[SelfTest::picture_of(SELF_TEST_SEED)])).unwrap().remove(0);
    let seconds = begun.elapsed().as_secs_f64();
    assert!(found.score.is_finite() && found.score > 0.0 && found.map.values.iter().all(|v| v.is_finite()));

    // Weights as they were made included.
    let memory = peak().map_or("unknown memory".into(), |bytes| format!("{} kB", bytes / 1024));
    let parts = parts(&config, 28).unwrap();
    let macs = parts.iter().map(|part| part.linear + part.attention).sum::<u64>() as f64;
    println!(
        "{} M parameters, {:.0} GFLOP: {seconds:.1} s on {} threads, {:.0} GFLOP/s, {} at the peak",
        parts.iter().map(|part| part.parameters).sum::<usize>() / 1_000_000,
        2e-9 * macs,
        rayon::current_num_threads(),
        2e-9 * macs / seconds,
        memory
    );
}
