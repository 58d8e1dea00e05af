//! What a photo looks like as a whole: on every executor, in int8, in tiles, and as the maker of models without training sees it.

use candle_core::Device;
use dinomaly::model_dir;
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::Detector;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::fewshot::{FeatureEncoder, PreparedPhoto, Recipe};
use dinomaly_core::model::config::Architecture;
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Geometry;
use dinomaly_core::photo::tiles::Tiles;
use dinomaly_tests::executors::webgpu;
use dinomaly_tests::{demo_model, max_difference};
use pollster::block_on;

/// Ten times what was measured, of values of unit vectors.
const TOLERANCE: f32 = 9e-7;

fn model() -> Model {
    model_dir::read(&demo_model()).unwrap()
}

fn descriptors<O: Read>(ops: O, model: &Model, photos: &[Photo]) -> Vec<Vec<f32>> {
    let detector = Detector::new(ops, model).unwrap();
    block_on(detector.detect(photos)).unwrap().into_iter().map(|found| found.descriptor).collect()
}

#[test]
fn every_executor_agrees() {
    let (model, photos) = (model(), [21, 22].map(SelfTest::picture_of));
    let expected = descriptors(Reference, &model, &photos);
    assert!(max_difference(&expected[0], &expected[1]) > 0.01, "photos differ");
    let mut others = vec![
        ("processor", descriptors(Processor::new(ProcessorPrecision::F32), &model, &photos)),
        ("candle", descriptors(Candle::infer(Device::Cpu), &model, &photos)),
    ];
    others.extend(webgpu().map(|gpu| ("webgpu", descriptors(gpu, &model, &photos))));
    for (name, found) in others {
        let difference = max_difference(&found.concat(), &expected.concat());
        println!("{name} differs by {difference:.1e}");
        assert!(difference <= TOLERANCE, "{name}: {difference:e}");
    }
    // Activations of eight bits round more, but nothing that a verdict would notice.
    let int8 = descriptors(Processor::new(ProcessorPrecision::Int8), &model, &photos);
    for class in model.calibration.classes.values() {
        let good = class.good_descriptors.as_ref().unwrap();
        for (int8, expected) in int8.iter().zip(&expected) {
            let [int8, expected] = [int8, expected].map(|of| good.distance(of).unwrap());
            assert!((int8 / expected - 1.0).abs() < 0.02, "{int8}, {expected}");
        }
    }
}

/// Of a model that looks at tiles it is the mean of theirs; photos that fit one tile are as without tiles.
#[test]
fn tiles_are_averaged() {
    let mut model = model();
    model.preprocessor.geometry = Geometry { resize: 224, crop: 224 };
    let photos = [SelfTest::picture_of(3), SelfTest::picture_of(4)];
    let wide = Photo { width: 192, height: 288, rgb: photos.iter().flat_map(|photo| photo.rgb.clone()).collect() };
    let whole = descriptors(Processor::default(), &model, std::slice::from_ref(&wide));
    model.preprocessor.tiles = Some(Tiles::new(300));
    let one = descriptors(Processor::default(), &model, std::slice::from_ref(&wide));
    assert_eq!(one, whole);
    model.preprocessor.tiles = Some(Tiles { overlap: 0.0, ..Tiles::new(96) });
    let detector = Detector::new(Processor::default(), &model).unwrap();
    let plan = detector.preparation().tile_plan(&wide).unwrap();
    assert_eq!(plan.count(), 6);
    let tiles: Vec<_> = (0..6).map(|i| plan.cut(&wide, i)).collect();
    let of_tiles = block_on(detector.see(&tiles)).unwrap();
    let mean = |i: usize| of_tiles.iter().map(|seen| seen.descriptor[i]).sum::<f32>() / 6.0;
    let expected: Vec<f32> = (0..144).map(mean).collect();
    for batch in [1, 4, 100] {
        let found = block_on(detector.detect_in_tiles(&wide, batch)).unwrap().descriptor;
        assert!(max_difference(&found, &expected) < 1e-6, "{batch}");
    }
}

/// Both are compared with each other: the model's class is made of the one, a new photo is seen by the other.
#[test]
fn good_photos_are_seen_as_new_ones() {
    let model = model();
    let Architecture::Dinomaly(config) = &model.config else { panic!("{:?}", model.config) };
    let recipe = Recipe { layers: config.target_layers.clone(), ..Recipe::default() };
    let config = recipe.config(config.encoder.clone(), 10).unwrap();
    let encoder = FeatureEncoder::new(Processor::default(), &config, &model.preprocessor, &model.weights).unwrap();
    let photo = SelfTest::picture_of(5);
    let prepared = PreparedPhoto::new(&model.preprocessor, photo.clone(), b"a file");
    let features = block_on(encoder.features(vec![prepared])).unwrap().remove(0);
    let expected = descriptors(Processor::default(), &model, &[photo]).remove(0);
    assert_eq!(features.descriptors.len(), 1);
    assert!(max_difference(&features.descriptors[0], &expected) < 1e-6);
}
