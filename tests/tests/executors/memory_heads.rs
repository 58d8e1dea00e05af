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
use dinomaly_core::fewshot::places::{self, PlacedBank};
use dinomaly_core::fewshot::subspace::{self, Subspaces};
use dinomaly_core::fewshot::{FeatureEncoder, Features, PreparedPhoto};
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{Architecture, EncoderConfig, MemoryConfig, MemoryKind};
use dinomaly_core::model::memory::Memory;
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use dinomaly_tests::executors::webgpu;
use dinomaly_tests::{fixtures, max_difference, random, read_golden};
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
        MemoryKind::Places { nearest, .. } => {
            let of_class = classes.each_ref().map(Vec::as_slice);
            // Five of six patches of each place.
            let bank = PlacedBank::of(&of_class, 64, 21, nearest, 5).unwrap();
            places::memory(&config, &classes.concat(), &bank).unwrap()
        }
        MemoryKind::Subspace { subspaces } => {
            let classes = classes.each_ref().map(Vec::as_slice);
            subspace::memory(&config, &classes[..subspaces], &Subspaces::new(64, 0.9)).unwrap()
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
    let places = MemoryKind::Places { photos: 1, grid: 21, nearest: 2, reach: 1 };
    let subspaces = [1, 2].map(|subspaces| MemoryKind::Subspace { subspaces });
    for memory in [MemoryKind::Bank { rows: 1 }, places].into_iter().chain(subspaces) {
        let made = made(memory);
        let Architecture::Memory(config) = &made.0 else { panic!("{:?}", made.0) };
        match config.memory {
            MemoryKind::Bank { rows } => assert_eq!(rows, 6 * 21 * 21, "two pieces"),
            MemoryKind::Places { photos, .. } => assert_eq!(photos, 5),
            MemoryKind::Subspace { .. } => assert_eq!(config.memory, memory),
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

/// anomalib's RAD on the same features, which `tests/peers/rad.py` wrote: equal but for rounding.
#[test]
fn places_give_the_scores_of_anomalibs_rad() {
    fn compare<O: Read>(name: &str, ops: &O) {
        let file = read_golden(&fixtures("rad").join("expected.safetensors"));
        let [photos, tokens, width] = file["good.0"].shape[..] else { panic!("{:?}", file["good.0"].shape) };
        let tests = file["test.0"].shape[0];
        // Unit vectors of all tokens, class tokens first.
        let good = |layer: &str| -> Vec<Vec<f32>> {
            let unit = |row: &[f32]| {
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.iter().map(|v| v / norm).collect()
            };
            file[&format!("good.{layer}")].values.chunks(width).map(unit).collect()
        };
        for reach in [0, 1, 2] {
            let memory = MemoryKind::Places { photos, grid: 5, nearest: 3, reach };
            let encoder = EncoderConfig { hidden_size: width, ..EncoderConfig::vit(width, 1, 8, 5) };
            let config =
                MemoryConfig { encoder, target_layers: vec![0, 1], groups: vec![vec![0], vec![1]], ..config(memory) };
            let memory = Memory::load(&config, &mut |name, shape| {
                let layer = if name == "memory.class_tokens" { "1" } else { &name["memory.".len()..][..1] };
                let rows = good(layer).into_iter().enumerate();
                let rows = rows.filter(|(i, _)| (i % tokens == 0) == (name == "memory.class_tokens"));
                let values = rows.flat_map(|(_, row)| row).collect();
                ops.upload_rows(&HostTensor::f32(shape, values)?)
            });
            let layers = ["test.0", "test.1"].map(|name| {
                ops.upload(&HostTensor::f32([tests, tokens, width], file[name].values.clone()).unwrap()).unwrap()
            });
            let distances = memory.unwrap().distances(ops, &layers).unwrap();
            let found = block_on(ops.read_back(&distances.iter().collect::<Vec<_>>())).unwrap();
            let is_patch = |i: &usize| !i.is_multiple_of(tokens);
            let mean = (0..tests * tokens).filter(is_patch).map(|i| (found[0][i] + found[1][i]) / 2.0);
            let expected = &file[&format!("scores.{reach}")].values;
            let difference = max_difference(&mean.collect::<Vec<_>>(), expected);
            println!("{name}, reach {reach}: {difference:.1e} of {:.3}", expected.iter().fold(0_f32, |a, &b| a.max(b)));
            assert!(difference <= 1e-6, "{name}, reach {reach}: {difference:e}");
        }
    }
    compare("reference", &Reference);
    compare("processor", &Processor::new(ProcessorPrecision::F32));
    compare("candle", &Candle::infer(Device::Cpu));
    if let Some(gpu) = webgpu() {
        compare("webgpu", &gpu);
    }
}
