//! Training reaches every trained tensor and no frozen one. candle loses gradients without a word in its fused layer
//! norm and softmax, so every kind of decoder is tried.

use std::cell::RefCell;

use candle_core::{Device, Tensor};
use dinomaly::features::encode;
use dinomaly::system::precision::TrainingPrecision;
use dinomaly::training::head::TrainableHead;
use dinomaly::training::schedule::Schedule;
use dinomaly::training::trainer::{Trainer, TrainingSettings};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::watched::{Seen, Watched};
use dinomaly_core::model::config::{BottleneckInput, Comparison, EncoderConfig, Mixer, ModelConfig};
use dinomaly_core::model::weights::{encoder_shapes, head_shapes};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Patches on a side, and photos in the batch.
const GRID: usize = 3;
const PHOTOS: usize = 2;

#[test]
fn gradients_reach_all_that_is_trained_and_nothing_that_is_frozen() {
    let both = [TrainingPrecision::F32, TrainingPrecision::Bf16];
    for (config, precision) in
        configs().into_iter().flat_map(|config| both.map(|precision| (config.clone(), precision)))
    {
        let mixer = (config.decoder.mixer, precision);
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let mut random = |shape: &[usize]| -> Vec<f32> {
            (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0)).collect()
        };
        let shapes = encoder_shapes(&config.encoder, config.encoder_blocks_run()).unwrap();
        let weights = shapes.into_iter().map(|(name, shape)| {
            let values = random(&shape);
            (name, HostTensor::f32(shape, values).unwrap())
        });
        let weights = Weights(weights.collect());

        let uploaded = RefCell::<Vec<Tensor>>::default();
        let candle = Watched::new(Candle::infer(Device::Cpu).storing(precision.element()), |seen| {
            if let Seen::Uploaded(tensor) = seen {
                uploaded.borrow_mut().push(tensor.clone());
            }
            Ok(())
        });
        let encoder = weights.encoder(&candle, config.taps(), GRID).unwrap();
        let frozen = uploaded.take();
        let patches = [PHOTOS, GRID * GRID, 3 * config.encoder.patch_size.pow(2)];
        let patches = Tensor::from_vec(random(&patches), &patches, &Device::Cpu).unwrap();
        let features = encode(&candle.ops, &encoder, &config, &patches).unwrap();

        let head = TrainableHead::fresh(&config, 0, &Device::Cpu).unwrap();
        let settings = TrainingSettings { precision, ..TrainingSettings::official(PHOTOS, Schedule::official(100)) };
        let trainer = Trainer::new(config.clone(), settings, head, Device::Cpu).unwrap();
        let (_, gradients) = trainer.loss(&features).unwrap();

        let trained = &trainer.head.variables;
        assert_eq!(trained.len(), head_shapes(&config).unwrap().len());
        for (name, var) in trained {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{mixer:?}: {name} has no gradient"));
            assert_eq!(gradient.dims(), var.dims(), "{mixer:?}: {name}");
            let values: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            // Row by row: without the softmax's gradient those of queries and keys would be zero, those of values not.
            let row = if var.rank() == 2 { var.dims()[1] } else { values.len() };
            for (i, row) in values.chunks_exact(row).enumerate() {
                let largest = row.iter().fold(0f32, |largest, v| largest.max(v.abs()));
                assert!(
                    largest > 0.0 && largest.is_finite(),
                    "{mixer:?}: the gradient of {name}, row {i}, is {largest}"
                );
            }
        }
        // Two for the patch embedding, prefix, positions, and twelve a block.
        assert_eq!(frozen.len(), 4 + 12 * config.encoder_blocks_run());
        let reached = frozen.iter().filter(|tensor| tensor.is_variable() || gradients.get(tensor).is_some()).count();
        assert_eq!(reached, 0, "{mixer:?}: {reached} of {} frozen tensors have a gradient", frozen.len());
        println!(
            "{mixer:?}: {} trained tensors have a gradient, {} frozen ones have none",
            trained.len(),
            frozen.len()
        );
    }
}

/// Every kind of decoder, with masks, and layers compared in groups and side by side.
fn configs() -> Vec<ModelConfig> {
    let with = |change: &dyn Fn(&mut ModelConfig)| {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap();
        config
    };
    vec![
        config(),
        with(&|c| c.decoder.mixer = Mixer::Softmax),
        with(&|c| (c.decoder.mixer, c.decoder.neighbour_mask) = (Mixer::Softmax, 1)),
        with(&|c| c.decoder.neighbour_mask = 1),
        with(&|c| (c.decoder.mixer, c.remove_class_token) = (Mixer::Convolution { kernel: 3 }, true)),
        with(&|c| (c.comparison, c.groups) = (Comparison::Concatenated, vec![vec![1, 3, 5]])),
        with(&|c| (c.bottleneck_input, c.decoder_groups) = (BottleneckInput::Last, Some(vec![vec![0], vec![3]]))),
    ]
}

fn config() -> ModelConfig {
    ModelConfig::published(EncoderConfig {
        intermediate_size: 20,
        num_register_tokens: 2,
        ..EncoderConfig::vit(12, 3, 4, 2)
    })
    .unwrap()
}
