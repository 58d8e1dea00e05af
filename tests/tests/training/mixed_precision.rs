//! Training in bf16 on the processor, which rounds where a GPU does: how far its course is from that in f32.

use candle_core::{Device, Tensor};
use dinomaly::features::{FeatureCache, Features, Limits, encode};
use dinomaly::system::precision::TrainingPrecision;
use dinomaly::training::head::TrainableHead;
use dinomaly::training::schedule::Schedule;
use dinomaly::training::trainer::{Trainer, TrainingSettings};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const GRID: usize = 6;
const PHOTOS: usize = 4;
const STEPS: usize = 100;

fn config() -> ModelConfig {
    let encoder =
        EncoderConfig { intermediate_size: 128, num_register_tokens: 1, ..EncoderConfig::vit(64, 2, 4, GRID) };
    ModelConfig::published(encoder).unwrap()
}

fn random(generator: &mut ChaCha8Rng, shape: &[usize], size: f32) -> Vec<f32> {
    (0..shape.iter().product()).map(|_| size * (2.0 * generator.random::<f32>() - 1.0)).collect()
}

/// What an encoder of random weights says of random pictures, through the cache of this precision.
fn features(config: &ModelConfig, precision: TrainingPrecision) -> Features {
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let shapes = encoder_shapes(&config.encoder, config.encoder_blocks_run()).unwrap();
    let weights = shapes.into_iter().map(|(name, shape)| {
        let norm = name.contains("norm") && name.ends_with("weight");
        let values = if norm { vec![1.0; shape[0]] } else { random(&mut generator, &shape, 0.2) };
        (name, HostTensor::f32(shape, values).unwrap())
    });
    let weights = Weights(weights.collect());
    let ops = Candle::infer(Device::Cpu).storing(precision.element());
    let encoder = weights.encoder(&ops, config.taps(), GRID).unwrap();
    let patches = [PHOTOS, GRID * GRID, 3 * config.encoder.patch_size.pow(2)];
    let patches = Tensor::from_vec(random(&mut generator, &patches, 1.0), &patches, &Device::Cpu).unwrap();
    let features = encode(&ops, &encoder, config, &patches).unwrap();
    let (_, tokens, _) = features.fused.dims3().unwrap();
    let limits = Limits { device: 0, memory: u64::MAX };
    let folder = std::env::temp_dir();
    let mut cache = FeatureCache::new(config, tokens, precision.element(), limits, &folder).unwrap();
    cache.push(&features).unwrap();
    cache.batch(&(0..PHOTOS).collect::<Vec<_>>(), &Device::Cpu).unwrap()
}

/// Losses of a run, and what it trained.
fn course(precision: TrainingPrecision) -> (Vec<f64>, Weights) {
    let config = config();
    let features = features(&config, precision);
    let head = TrainableHead::fresh(&config, 1, &Device::Cpu).unwrap();
    let schedule = Schedule { warmup: 20, mining_warmup: 60, ..Schedule::official(STEPS) };
    let settings = TrainingSettings { precision, ..TrainingSettings::official(PHOTOS, schedule) };
    let mut trainer = Trainer::new(config, settings, head, Device::Cpu).unwrap();
    let losses = (0..STEPS).map(|_| trainer.step(&features).unwrap().loss).collect();
    (losses, trainer.head.weights().unwrap())
}

#[test]
fn bf16_follows_f32() {
    let ((single, of_single), (mixed, of_mixed)) = (course(TrainingPrecision::F32), course(TrainingPrecision::Bf16));
    let last = |losses: &[f64]| losses[STEPS - 20..].iter().sum::<f64>() / 20.0;
    assert!(last(&single) < 0.5 * single[0], "there is something to learn: {} to {}", single[0], last(&single));
    let apart: Vec<f64> = single.iter().zip(&mixed).map(|(s, m)| (s - m).abs()).collect();
    let worst = apart.iter().copied().fold(0.0, f64::max);
    let (mut moved, mut between) = (0.0, 0.0);
    let fresh = TrainableHead::fresh(&config(), 1, &Device::Cpu).unwrap().weights().unwrap();
    for (name, single) in &of_single.0 {
        let values = |weights: &Weights| weights.0[name].to_f32().into_owned();
        for ((single, mixed), fresh) in single.to_f32().iter().zip(values(&of_mixed)).zip(values(&fresh)) {
            moved += f64::from(single - fresh).powi(2);
            between += f64::from(single - mixed).powi(2);
        }
    }
    let weights = (between / moved).sqrt();
    println!(
        "{STEPS} steps: loss {:.4} to {:.4} in f32, {:.4} in bf16; largest difference of a step {worst:.4}; weights apart by {:.1} % of what they moved",
        single[0],
        last(&single),
        last(&mixed),
        100.0 * weights
    );
    // It does round: the same course would mean that bf16 was not used.
    assert!(worst > 1e-6, "{worst:e}");
    assert!(worst < 0.02, "{worst}, {single:?}, {mixed:?}");
    assert!((last(&single) - last(&mixed)).abs() < 0.02 * last(&single), "{} {}", last(&single), last(&mixed));
}
