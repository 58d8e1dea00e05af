//! Foundations whose blocks differ from DINOv2's: files in their published naming, run on every executor, against what
//! independent implementations made of the same picture (`peers/foundations.py`); and generated checkpoints of the published
//! names and shapes of each foundation, whole and damaged.

mod layouts;

use std::path::PathBuf;

use candle_core::Device;
use dinomaly::encoders::backbone::{self, Backbone, plan};
use dinomaly_core::executors::candle::{Candle, no_noise};
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::model::config::{DecoderConfig, Mlp, ModelConfig, Positions};
use dinomaly_core::model::encoder::Stage;
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::ops::Read;
use dinomaly_core::tensor::HostTensor;
use dinomaly_tests::{Golden, executors, fixtures, max_difference, read_golden};
use layouts::layouts;

/// File, expected values, kind of MLP and positions, epsilon.
const CASES: [(&str, &str, Mlp, Positions, f64); 7] = [
    ("dinov2_swiglu.safetensors", "dinov2_swiglu", Mlp::SwiGlu, Positions::Table, 1e-6),
    ("dinov3.safetensors", "dinov3", Mlp::Gelu, Positions::Rotary, 1e-5),
    ("dinov3_original.pth", "dinov3", Mlp::Gelu, Positions::Rotary, 1e-5),
    ("dinov3_gated.safetensors", "dinov3_gated", Mlp::SwiGlu, Positions::Rotary, 1e-5),
    ("beitv2.safetensors", "beitv2", Mlp::Gelu, Positions::RelativeBias, 1e-6),
    ("vit.safetensors", "vit", Mlp::Gelu, Positions::Table, 1e-6),
    ("mocov3.pth", "mocov3", Mlp::Gelu, Positions::Table, 1e-6),
];

/// Largest difference allowed, relative to a block's largest value: ten times what was measured, 4.8e-7.
const TOLERANCE: f32 = 5e-6;

fn fixture(name: &str) -> PathBuf {
    fixtures("foundations").join(name)
}

/// `[1, 3, side, side]` → `[1, grid², 3·patch²]`.
pub fn patches(picture: &Golden, patch: usize) -> (usize, HostTensor) {
    let side = picture.shape[3];
    let grid = side / patch;
    let mut values = Vec::new();
    for i in 0..grid * grid {
        for pixel in 0..3 * patch * patch {
            let (channel, y, x) = (pixel / (patch * patch), pixel / patch % patch, pixel % patch);
            let (row, column) = (i / grid * patch + y, i % grid * patch + x);
            values.push(picture.values[(channel * side + row) * side + column]);
        }
    }
    (grid, HostTensor::f32([1, grid * grid, 3 * patch * patch], values).unwrap())
}

/// Largest differences of the blocks of an encoder on a picture from `{prefix}block.i`, relative to each block's largest value.
pub fn differences<O: Read>(ops: &O, backbone: &Backbone, expected: &[(String, Golden)], prefix: &str) -> Vec<f32> {
    let find = |name: String| &expected.iter().find(|(found, _)| *found == name).unwrap().1;
    let (grid, picture) = patches(find(format!("{prefix}input")), backbone.config.patch_size);
    let blocks = backbone.config.num_hidden_layers;
    let decoder = DecoderConfig::published(&backbone.config, 1);
    let config = ModelConfig {
        target_layers: (0..blocks).collect(),
        ..ModelConfig::with_decoder(backbone.config.clone(), decoder)
    };
    let encoder = backbone.weights.encoder(ops, config.taps(), grid).unwrap();
    let layers = encoder.forward(ops, &ops.upload(&picture).unwrap(), &mut |_: Stage, _| {}).unwrap();
    let layers = pollster::block_on(ops.read_back(&layers.iter().collect::<Vec<_>>())).unwrap();
    let difference = |(i, found): (usize, &Vec<f32>)| {
        let expected = &find(format!("{prefix}block.{i}")).values;
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        max_difference(found, expected) / largest
    };
    layers.iter().enumerate().map(difference).collect()
}

/// All blocks of an encoder on a picture, against `{prefix}block.i`.
fn compare<O: Read>(what: &str, ops: &O, backbone: &Backbone, expected: &[(String, Golden)], prefix: &str) {
    for (i, difference) in differences(ops, backbone, expected, prefix).into_iter().enumerate() {
        println!("{what}, {prefix}block {i}: {difference:.1e}");
        assert!(difference <= TOLERANCE, "{what}, {prefix}block {i}: relative difference {difference:e}");
    }
}

fn run<O: Read>(executor: &str, ops: &O) {
    for (file, expected, mlp, positions, eps) in CASES {
        let backbone = backbone::read(&fixture(file), Some(2)).unwrap();
        let found = &backbone.config;
        assert_eq!((found.mlp, found.positions, found.layer_norm_eps), (mlp, positions, eps), "{file}");
        let expected = fixture(&format!("{expected}.expected.safetensors"));
        let expected: Vec<(String, Golden)> = read_golden(&expected).into_iter().collect();
        compare(&format!("{file} on {executor}"), ops, &backbone, &expected, "");
        if positions == Positions::RelativeBias {
            compare(&format!("{file} on {executor}"), ops, &backbone, &expected, "grid7.");
        }
    }
}

#[test]
fn reference() {
    run("reference", &Reference);
}

#[test]
fn candle() {
    run("candle", &Candle::infer(Device::Cpu));
    run("candle, training", &Candle::train(Device::Cpu, &no_noise));
}

#[test]
fn processor() {
    run("processor", &Processor::new(ProcessorPrecision::F32));
}

#[test]
fn webgpu() {
    if let Some(gpu) = executors::webgpu() {
        run("webgpu", &gpu);
    }
}

#[test]
fn every_published_layout_is_read() {
    for layout in layouts() {
        let (_, file) = layout.file();
        let plan = plan(&file, layout.what, None, None).unwrap_or_else(|e| panic!("{}: {e:#}", layout.what));
        assert_eq!(plan.config, layout.config(), "{}", layout.what);
        let ours = encoder_shapes(&plan.config, layout.depth).unwrap();
        let steps = plan.steps.iter().map(|step| &step.name);
        let (norm, steps): (Vec<_>, Vec<_>) = steps.partition(|name| name.starts_with("encoder.norm."));
        assert!(steps.into_iter().eq(ours.keys()), "{}", layout.what);
        assert_eq!(norm.len(), layout.final_norm().len(), "{}", layout.what);
        let config = ModelConfig::published(plan.config).unwrap();
        assert_eq!(config.target_layers.len(), 8, "{}", layout.what);
    }
}

#[test]
fn a_tensor_of_another_shape_is_named_in_every_layout() {
    let mut refused = 0;
    for layout in layouts() {
        let (used, file) = layout.file();
        // Of the blocks the last stands for all.
        let last = format!(".{}.", layout.depth - 1);
        let outside =
            |name: &str| !name.contains(".0.") && !(1..layout.depth - 1).any(|i| name.contains(&format!(".{i}.")));
        for (name, shape) in used.iter().filter(|(name, _)| name.contains(&last) || outside(name)) {
            // With another number of registers it is another encoder.
            let other_encoder = |at: usize| at == 1 && (name.contains("reg") || name.contains("storage"));
            for at in (0..shape.len()).filter(|&at| !other_encoder(at)) {
                let mut changed = file.clone();
                changed.get_mut(name).unwrap()[at] += 1;
                let error = plan(&changed, layout.what, None, None).map(|_| ()).expect_err(name);
                let error = format!("{error:#}");
                assert!(error.contains(&format!("tensor {name}")), "{}, {name} {at}: {error}", layout.what);
                refused += 1;
            }
        }
        let stray =
            used.keys().find(|name| name.contains(&last)).unwrap().rsplit_once(&last).unwrap().0.to_owned() + ".0.x";
        let mut more = file.clone();
        more.insert(stray.clone(), vec![1]);
        let error = format!("{:#}", plan(&more, layout.what, None, None).map(|_| ()).expect_err(&stray));
        assert!(error.contains(&stray) && error.contains("no such tensor"), "{}: {error}", layout.what);
    }
    println!("{refused} damaged checkpoints refused");
}
