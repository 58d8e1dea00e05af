//! The widest listed encoder, DINOv2 giant, with one block of it: trained, saved, read, quantized and detected with. Some of its tensors
//! are larger than a shard is otherwise.

use std::path::Path;

use dinomaly::encoders::backbone::{self, Backbone};
use dinomaly::inference::photo_detector::PhotoDetector;
use dinomaly::model_dir;
use dinomaly::publish;
use dinomaly::system::interrupt::Interrupt;
use dinomaly::training::{self, Groups, TrainingPlan, Variant};
use dinomaly_core::bundle::{Model, SHARD_LIMIT};
use dinomaly_core::model::config::{EncoderConfig, Mlp};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::photo::preprocess::Geometry;
use dinomaly_core::quant;
use dinomaly_core::tensor::named::Weights;
use dinomaly_core::tensor::{Data, HostTensor};
use half::f16;

/// DINOv2 giant of one block, with small values that repeat.
fn giant() -> Backbone {
    let config = EncoderConfig {
        name: "giant".into(),
        num_hidden_layers: 1,
        intermediate_size: 4096,
        mlp: Mlp::SwiGlu,
        ..EncoderConfig::vit(1536, 24, 14, 4)
    };
    let value = |i: usize| f16::from_f32((i * 7919 % 8191) as f32 / 8191.0 * 0.08 - 0.04);
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(value).collect();
        (name, HostTensor { shape, data: Data::F16(values) })
    };
    let weights = Weights(encoder_shapes(&config, 1).unwrap().into_iter().map(tensor).collect());
    Backbone { config, weights, mean: [0.5; 3], std: [0.25; 3] }
}

fn largest_file(model: &Path) -> u64 {
    std::fs::read_dir(model).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
}

#[test]
fn the_widest_encoder_is_trained_saved_read_quantized_and_detected_with() {
    let folder = tempfile::tempdir().unwrap();
    let [photos, encoder, model, small] =
        ["photos", "giant.safetensors", "model", "int8"].map(|name| folder.path().join(name));
    std::fs::create_dir(&photos).unwrap();
    let mut paths = Vec::new();
    for i in 0..4u8 {
        let pixel = |x: u32, y: u32| image::Rgb([(x * 5) as u8, (y * 4) as u8 ^ (i * 16), 60 * i]);
        paths.push(photos.join(format!("{i}.png")));
        image::RgbImage::from_fn(48, 48, pixel).save(&paths[usize::from(i)]).unwrap();
    }
    backbone::write(&encoder, &giant()).unwrap();
    let plan = TrainingPlan {
        backbone: Some(encoder),
        geometry: Some(Geometry { resize: 56, crop: 56 }),
        batch: 2,
        iterations: 2,
        variant: Variant { layers: vec![0], groups: Groups::Equal(1), mining_rate: 0.0, ..Variant::default() },
        ..TrainingPlan::new(&photos, &model)
    };
    let trained = training::train(&plan, &Interrupt::default()).unwrap().expect("it is not trained yet");
    let published = publish::publish(trained).unwrap();
    assert!(largest_file(&model) > SHARD_LIMIT as u64, "a tensor of it is larger than a shard is otherwise");
    let read = model_dir::read(&model).unwrap();
    assert_eq!(read, published);
    let scores = PhotoDetector::new(&read).unwrap().scores(&paths).unwrap();

    // Without what `dinomaly quantize` does to compensate rounding, which takes minutes at this width.
    let (weights, _) = quant::quantize(&read.weights).unwrap();
    model_dir::write(&small, &Model { name: "int8".into(), weights, ..read }).unwrap();
    assert!(largest_file(&small) < SHARD_LIMIT as u64, "in int8 all tensors fit into usual shards");
    let quantized = PhotoDetector::new(&model_dir::read(&small).unwrap()).unwrap().scores(&paths).unwrap();
    println!("scores {scores:?}, in int8 {quantized:?}");
    for (whole, rounded) in scores.iter().zip(&quantized) {
        assert!(whole.is_finite() && (whole - rounded).abs() < 0.05 * whole.abs(), "{whole} and {rounded}");
    }
}
