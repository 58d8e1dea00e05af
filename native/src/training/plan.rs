//! What to train, on what and how: all that the options of `train` say.

use std::fmt::Debug;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use dinomaly_core::fewshot::thresholds::FALSE_ALARM_RATE;
use dinomaly_core::model::config::BottleneckInput;
use dinomaly_core::photo::preprocess::Geometry;

use super::checkpoint::Interval;
use super::optimizer::Optimizer;
use super::preset::{Preset, PresetChoice};
use super::schedule::{Schedule, WarmupEnd};
use super::trainer::TrainingSettings;
use super::variant::{RECENTRINGS, Variant, recentring_name};
use crate::dataset::{Layout, WindowChoice};
use crate::encoders::backbone::{Origin, Told};
use crate::encoders::embedded;
use crate::features::augmentation::Augmentation;
use crate::system::device::DeviceChoice;
use crate::system::precision::TrainingPrecision;

/// What to train, and how. [`TrainingPlan::new`] gives the published model and its training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingPlan {
    /// Data set, one of its class folders, or a folder of photos of good parts.
    pub data: PathBuf,
    /// Layout of the data; told from what lies there if omitted.
    pub layout: Option<Layout>,
    /// Classes to train on; all if empty.
    pub classes: Vec<String>,
    /// Checkpoint of a pretrained encoder, or the name of one that was fetched; the embedded encoder if omitted.
    pub backbone: Option<PathBuf>,
    /// Attention heads of the backbone; if omitted, what the files beside it say, or those of published encoders of its shape.
    pub heads: Option<usize>,
    /// The library whose way to fit the encoder's position table is taken; told by the tensors' names if omitted.
    pub origin: Option<Origin>,
    /// Folder to write the model to; the unfinished run lies beside it.
    pub out: PathBuf,
    /// Part of a photo that is looked at: [`TrainingPlan::GEOMETRY`] if omitted, or all of it at the size that the embedded encoder was made for.
    pub geometry: Option<Geometry>,
    /// Side of tiles in pixels of the photo, each of which is resized to the model's input; if omitted, the photo is one square.
    pub tile_size: Option<usize>,
    /// What becomes black and white of 16-bit grey.
    pub window: WindowChoice,
    /// Mean of the pixels that the backbone was trained with, 0..1; what its file says if omitted.
    pub mean: Option<[f32; 3]>,
    /// Their standard deviation, likewise.
    pub std: Option<[f32; 3]>,
    /// Photos in a batch.
    pub batch: usize,
    /// Optimiser steps.
    pub iterations: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Highest learning rate divided by the last; 1 keeps it.
    pub lr_fall: f64,
    /// Highest learning rate of the bottleneck's first layer; `lr` if omitted.
    pub first_layer_lr: Option<f64>,
    /// Learning rate of the last iteration of warm-up.
    pub warmup_end: WarmupEnd,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Added to the optimiser's denominator.
    pub optimizer_eps: f64,
    /// Seed of initial values, order of photos, dropout and held-out photos.
    pub seed: u64,
    /// Share of each class's good photos that is kept from training to set the threshold.
    pub holdout: f64,
    /// Number of photos of each class to train on; all if omitted.
    pub shots: Option<usize>,
    /// Augmentation of the training photos.
    pub augmentation: Augmentation,
    /// Share of good photos that the thresholds may call defective.
    pub false_alarm_rate: f64,
    /// Bytes of GPU memory for cached features; a share of what is free if omitted.
    pub cache_device: Option<u64>,
    /// Bytes of memory for cached features; what exceeds it goes to a file beside the model.
    pub cache_memory: u64,
    /// Precision of matrix products; the device's usual one if omitted.
    pub precision: Option<TrainingPrecision>,
    /// What lies between two checkpoints.
    pub checkpoints: Interval,
    /// Folder to write event files for TensorBoard to.
    pub tensorboard: Option<PathBuf>,
    /// Whether to discard an unfinished run and replace a model that stands there.
    pub restart: bool,
    /// One device, or several that share every batch; the processor if empty.
    pub devices: Vec<DeviceChoice>,
    /// The preset that some of these values come from.
    pub preset: Option<PresetChoice>,
    /// What differs from the published model.
    pub variant: Variant,
}

impl TrainingPlan {
    /// What the plan tells of the encoder.
    pub(crate) fn told(&self) -> Told {
        Told { heads: self.heads, origin: self.origin }
    }

    /// All of a photo, at the size of the published model's input. The presets resize to 448 pixels and look at the centre, as published.
    pub const GEOMETRY: Geometry = Geometry { resize: 392, crop: 392 };

    /// The published model of the photos in `data`, on the embedded encoder and the processor.
    pub fn new(data: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            layout: None,
            classes: Vec::new(),
            backbone: None,
            heads: None,
            origin: None,
            out: out.into(),
            geometry: None,
            tile_size: None,
            window: WindowChoice::default(),
            mean: None,
            std: None,
            batch: 16,
            iterations: 10_000,
            lr: 2e-3,
            lr_fall: 10.0,
            first_layer_lr: None,
            warmup_end: WarmupEnd::AtPeak,
            optimizer: Optimizer::StableAdamwAmsgrad,
            optimizer_eps: 1e-10,
            seed: 1,
            holdout: 0.1,
            shots: None,
            augmentation: Augmentation::None,
            false_alarm_rate: FALSE_ALARM_RATE,
            cache_device: None,
            cache_memory: 4 << 30,
            precision: None,
            checkpoints: Interval::default(),
            tensorboard: None,
            restart: false,
            devices: Vec::new(),
            preset: None,
            variant: Variant::default(),
        }
    }

    /// The same with the values that the paper has for a data set.
    ///
    /// # Panics
    /// If a preset's value is not one of its option: a test sets them all.
    pub fn with_preset(mut self, preset: Preset) -> Self {
        fn read<T: FromStr<Err: Debug>>(value: &str) -> T {
            value.parse().expect("a preset's values are valid")
        }
        fn chosen<T: Copy, const N: usize>(all: [T; N], name: fn(T) -> &'static str, value: &str) -> T {
            all.into_iter().find(|&one| name(one) == value).expect("a preset's values are valid")
        }
        let Geometry { mut resize, mut crop } = self.geometry.unwrap_or(Self::GEOMETRY);
        let variant = &mut self.variant;
        for (option, value) in preset.settings() {
            match option {
                "resize" => resize = read(value),
                "crop" => crop = read(value),
                "batch" => self.batch = read(value),
                "iterations" => self.iterations = read(value),
                "lr" => self.lr = read(value),
                "lr_fall" => self.lr_fall = read(value),
                "first_layer_lr" => self.first_layer_lr = Some(read(value)),
                "warmup_end" => self.warmup_end = chosen(WarmupEnd::ALL, WarmupEnd::name, value),
                "optimizer" => self.optimizer = chosen(Optimizer::ALL, Optimizer::name, value),
                "recentring" => variant.recentring = chosen(RECENTRINGS, recentring_name, value),
                "bottleneck_width" => variant.bottleneck_width = Some(read(value)),
                "attention_eps" => variant.attention_eps = read(value),
                "optimizer_eps" => self.optimizer_eps = read(value),
                "layers" => variant.layers = value.split(',').map(read).collect(),
                "groups" => variant.groups = read(value),
                "decoder_groups" => variant.decoder_groups = Some(read(value)),
                "decoder_blocks" => variant.decoder_blocks = Some(read(value)),
                "bottleneck_input" => variant.bottleneck_input = BottleneckInput::Last,
                "decoder" => variant.decoder = read(value),
                "dropout" => variant.dropout = read(value),
                "mining_rate" => variant.mining_rate = read(value),
                "mining_factor" => variant.mining_factor = read(value),
                "mining_warmup" => variant.mining_warmup = read(value),
                _ => panic!("no preset sets {option}"),
            }
        }
        self.geometry = Some(Geometry { resize, crop });
        self.preset = Some(PresetChoice { preset, given: Vec::new() });
        self
    }

    /// Part of a photo that is looked at.
    pub fn geometry(&self) -> Geometry {
        let usual = if self.backbone.is_some() { Self::GEOMETRY } else { embedded::GEOMETRY };
        self.geometry.unwrap_or(usual)
    }

    /// The same of one class alone, to a folder of its name in the folder of this one.
    pub fn of_class(&self, name: &str) -> Self {
        Self { out: self.out.join(name), classes: vec![name.into()], ..self.clone() }
    }

    /// Rates, batch and seed.
    pub(super) fn settings(&self, precision: TrainingPrecision) -> Result<TrainingSettings> {
        Ok(TrainingSettings {
            batch: self.batch,
            seed: self.seed,
            schedule: self.variant.schedule(Schedule {
                peak: self.lr,
                last: self.lr / self.lr_fall,
                first_layer_peak: self.first_layer_lr,
                warmup_end: self.warmup_end,
                ..Schedule::official(self.iterations)
            })?,
            gradient_clip: 0.1,
            optimizer: self.optimizer,
            optimizer_eps: self.optimizer_eps,
            augmentation: self.augmentation,
            precision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinomaly_core::model::config::{EncoderConfig, Mixer, Recentring};

    /// As the golden cases of its public code are run.
    #[test]
    fn dinomaly2_has_the_settings_of_its_public_code() {
        let plan = TrainingPlan::new("data", "out").with_preset(Preset::Dinomaly2);
        let settings = plan.settings(TrainingPrecision::F32).unwrap();
        let schedule = Schedule {
            warmup_end: WarmupEnd::BelowPeak,
            first_layer_peak: Some(2e-4),
            last: 2e-3,
            ..Schedule::official(40_000)
        };
        let expected =
            TrainingSettings { optimizer: Optimizer::StableAdamw, ..TrainingSettings::official(16, schedule) };
        assert_eq!(settings, expected);
        let encoder = EncoderConfig { num_register_tokens: 4, ..EncoderConfig::vit(384, 6, 14, 37) };
        let config = plan.variant.model(encoder, plan.geometry()).unwrap();
        assert_eq!((config.recentring, config.bottleneck_width), (Recentring::Target, Some(256)));
        assert_eq!((config.bottleneck_dropout, config.kept_prefix_tokens()), (0.4, 5));
        assert_eq!((config.decoder.mixer, config.decoder.attention_eps), (Mixer::Linear, 1e-8));
    }

    /// Recipes are compared with those of earlier versions.
    #[test]
    fn settings_of_dinomaly_are_written_as_before() {
        let settings = TrainingPlan::new("data", "out").settings(TrainingPrecision::F32).unwrap();
        let expected = r#"{"batch":16,"seed":1,"schedule":{"iterations":10000,"warmup":100,"peak":0.002,"last":0.0002,"mining_rate":0.9,"mining_warmup":1000,"mining_factor":0.1},"gradient_clip":0.1,"optimizer_eps":1e-10,"precision":"f32"}"#;
        assert_eq!(serde_json::to_string(&settings).unwrap(), expected);
    }
}
