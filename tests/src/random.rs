//! Models with random weights: for tests, which need some model, and for measurements, which need one of a size.

use anyhow::Result;
use candle_core::Device;
use dinomaly::encoders::backbone::Backbone;
use dinomaly_core::bundle::{Calibration, ClassCalibration, Model, ScoreStatistics};
use dinomaly_core::detector::{Detector, SELF_TEST_SEED, SELF_TEST_TOLERANCE};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::{Architecture, EncoderConfig, ModelConfig};
use dinomaly_core::model::weights::{encoder_shapes, model_shapes};
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::{Shapes, Weights};
use pollster::block_on;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A published size that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// ViT-Ti/16 at 224², as DeiT's.
    VitTi16,
    /// ViT-S/14 with four registers at 392², as DINOv2's.
    VitS14,
    /// ViT-B/14 with four registers at 392², as DINOv2's.
    VitB14,
}

impl Shape {
    /// The published Dinomaly of this size.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn config(self) -> Result<(ModelConfig, Preprocessor)> {
        let (width, patch, registers) = match self {
            Self::VitTi16 => (192, 16, 0),
            Self::VitS14 => (384, 14, 4),
            Self::VitB14 => (768, 14, 4),
        };
        let geometry = match self {
            Self::VitTi16 => Geometry { resize: 256, crop: 224 },
            Self::VitS14 | Self::VitB14 => Geometry { resize: 448, crop: 392 },
        };
        // A position table of the input's size: nothing to interpolate, also not for tests/peers/export_onnx.py.
        let encoder = EncoderConfig {
            num_register_tokens: registers,
            ..EncoderConfig::vit(width, width / 64, patch, geometry.grid(patch))
        };
        Ok((ModelConfig::published(encoder)?, Preprocessor::imagenet(geometry)))
    }
}

/// Weights that keep activations in their usual range, the same for the same seeds of encoder and head.
///
/// # Errors
/// If the configuration contradicts itself.
pub fn weights(config: &ModelConfig, encoder: u64, head: u64) -> Result<Weights> {
    of_shapes(model_shapes(&config.clone().into())?, encoder, head)
}

/// An encoder to train on, as a checkpoint would be read.
///
/// # Errors
/// If the configuration contradicts itself.
pub fn backbone(config: &EncoderConfig, preprocessor: &Preprocessor) -> Result<Backbone> {
    let weights = of_shapes(encoder_shapes(config, config.num_hidden_layers)?, 7, 7)?;
    let Preprocessor { mean, std, .. } = *preprocessor;
    Ok(Backbone { config: config.clone(), weights, mean, std })
}

fn of_shapes(shapes: Shapes, encoder: u64, head: u64) -> Result<Weights> {
    let mut tensors = Weights::default();
    for (tensor, shape) in shapes {
        let seed = if tensor.starts_with("encoder.") { encoder } else { head };
        let mut random = ChaCha8Rng::seed_from_u64(
            seed ^ tensor.bytes().fold(0_u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into())),
        );
        let inputs: usize = shape[1..].iter().product();
        let (centre, spread) = match () {
            _ if tensor.contains("norm") && tensor.ends_with("weight") => (1.0, 0.3),
            _ if tensor.ends_with("weight") => (0.0, 1.7 / (inputs as f32).sqrt()),
            _ => (0.0, 0.3),
        };
        let values =
            (0..shape.iter().product()).map(|_| centre + spread * random.random_range(-1.0_f32..1.0)).collect();
        tensors.0.insert(tensor, HostTensor::f32(shape, values)?);
    }
    Ok(tensors)
}

/// A whole model of these parts, with a self-test, and thresholds around its score: some photos are above, some below, the
/// class `strict` finds more of them defective than `usual`.
///
/// # Errors
/// If the parts contradict each other.
pub fn model(
    name: &str,
    config: impl Into<Architecture>,
    preprocessor: Preprocessor,
    weights: Weights,
) -> Result<Model> {
    let config = config.into();
    let detector = Detector::of_parts(Candle::infer(Device::Cpu), &config, &preprocessor, &weights)?;
    let self_test = block_on(detector.self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
    let around = |threshold| -> Result<ClassCalibration> {
        Ok(ClassCalibration {
            threshold,
            pixel_threshold: None,
            good_scores: ScoreStatistics::of(&[threshold])?,
            good_descriptors: None,
        })
    };
    let calibration = Calibration {
        classes: [
            ("strict".to_owned(), around(self_test.score * 0.5)?),
            ("usual".to_owned(), around(self_test.score)?),
        ]
        .into(),
        overall: around(self_test.score)?,
        held_out: true,
        false_alarm_rate: 0.01,
    };
    let card = "# Arbitrary weights, for tests".into();
    Ok(Model { name: name.into(), config, preprocessor, calibration, weights, self_test: Some(self_test), card })
}
