//! Detectors without training from pixels to maps on every executor, against plain loops.
//!
//! Rows of a bank are unit vectors in half precision, as they are published. Measured: differences of up to 1.1e-6 of the largest value.

use candle_core::Device;
use dinomaly_core::bundle::SelfTest;
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::fewshot::bank::{self, Bank};
use dinomaly_core::fewshot::subspace::{self, Subspaces};
use dinomaly_core::fewshot::{FeatureEncoder, Features, PreparedPhoto};
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{Architecture, EncoderConfig, MemoryConfig, MemoryKind};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::named::Weights;
use dinomaly_tests::executors::webgpu;
use dinomaly_tests::{max_difference, random};
use pollster::block_on;

/// Ten times what was measured.
const TOLERANCE: f32 = 1.1e-5;

fn preprocessor() -> Preprocessor {
    Preprocessor::imagenet(Geometry { resize: 168, crop: 168 })
}

fn config(memory: MemoryKind) -> MemoryConfig {
    MemoryConfig {
        encoder: EncoderConfig { num_register_tokens: 2, ..EncoderConfig::vit(64, 1, 8, 7) },
        target_layers: vec![1, 3, 4],
        final_norm: false,
        groups: vec![vec![0, 1], vec![2]],
        memory,
        score_share: 0.003,
        map_border: MapBorder::Zero,
    }
}

/// A detector of these pictures, whose bank has several pieces.
fn made(memory: MemoryKind) -> (Architecture, Weights) {
    let config = config(memory);
    let backbone = random::backbone(&config.encoder, &preprocessor()).unwrap();
    let mut weights = backbone.weights;
    assert_eq!(weights.0.len(), encoder_shapes(&config.encoder, 12).unwrap().len());
    weights.prune(config.taps());
    let encoder = FeatureEncoder::new(Reference, &config, &preprocessor(), &weights).unwrap();
    let features = |seeds: [u64; 3]| -> Vec<Features> {
        let pictures = seeds.map(SelfTest::picture_of);
        let prepared = pictures.map(|picture| PreparedPhoto::new(&preprocessor(), picture.clone(), &picture.rgb));
        block_on(encoder.features(prepared.into())).unwrap()
    };
    let classes = [features([11, 12, 13]), features([14, 15, 16])];
    let classes = classes.each_ref().map(|class| class.iter().collect::<Vec<&Features>>());
    let (config, made) = match memory {
        MemoryKind::Bank { .. } => {
            let photos = classes.concat();
            bank::memory(&config, &photos, &Bank::of(&photos, 64, 1 << 20)).unwrap()
        }
        MemoryKind::Subspace { .. } => {
            subspace::memory(&config, &classes.each_ref().map(Vec::as_slice), &Subspaces::new(64, 0.9)).unwrap()
        }
    };
    weights.0.extend(made.0);
    (config.into(), weights)
}

fn maps<O: Read>(ops: O, (config, weights): &(Architecture, Weights)) -> Vec<f32> {
    let detector = Detector::of_parts(ops, config, &preprocessor(), weights).unwrap();
    let found = block_on(detector.detect(&[21, 22].map(SelfTest::picture_of))).unwrap();
    found.into_iter().flat_map(|found| found.map.values.into_iter().chain([found.score])).collect()
}

#[test]
fn every_executor_agrees() {
    for memory in [MemoryKind::Bank { rows: 1 }, MemoryKind::Subspace { subspaces: 1 }] {
        let made = made(memory);
        let Architecture::Memory(config) = &made.0 else { panic!("{:?}", made.0) };
        match config.memory {
            MemoryKind::Bank { rows } => assert_eq!(rows, 6 * 21 * 21, "two pieces"),
            MemoryKind::Subspace { subspaces } => assert_eq!(subspaces, 2),
        }
        let expected = maps(Reference, &made);
        let largest = expected.iter().fold(0_f32, |largest, v| largest.max(*v));
        let mut others = vec![
            ("processor", maps(Processor::new(ProcessorPrecision::F32), &made)),
            ("candle", maps(Candle::infer(Device::Cpu), &made)),
        ];
        others.extend(webgpu().map(|gpu| ("webgpu", maps(gpu, &made))));
        for (name, found) in others {
            let difference = max_difference(&found, &expected) / largest;
            println!("{}: {name} differs by {difference:.1e} of {largest:.3}", config.memory);
            assert!(difference <= TOLERANCE, "{} on {name}: {difference:e}", config.memory);
        }
    }
}
