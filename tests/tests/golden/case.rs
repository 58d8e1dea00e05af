//! Golden model cases: which of them are understood, what they hold, and how closely they are met.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dinomaly::encoders::backbone;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::model::config::{
    BottleneckInput, Comparison, DecoderConfig, MaskedShare, Mixer, ModelConfig, Recentring,
};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use dinomaly_core::tensor::safetensors_io;
use dinomaly_tests::{Golden, fixtures, golden, max_difference, read_json};
use serde_json::{Value, json};

/// A case that can be run.
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub meta: Value,
    pub config: ModelConfig,
    /// Encoder and head under our names.
    pub weights: Weights,
}

/// The cases of the golden folder that are understood, and those of Dinomaly2 from its public code; the others are printed with the
/// reason.
///
/// # Panics
/// If there is no golden folder, or a case that is there cannot be read.
pub fn cases() -> Vec<Case> {
    let folder = golden();
    assert!(folder.is_dir(), "{} is no folder of golden data", folder.display());
    let folders = [entries(&folder.join("models")), entries(&fixtures("dinomaly2"))].concat();
    let folders = folders.into_iter().filter(|case| case.join("meta.json").is_file());
    let mut cases = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let meta = read_json(&folder.join("meta.json"));
        match unsupported(&meta["config"]) {
            Some(reason) => {
                assert!(!PUBLISHED.contains(&&*name), "{name} must be understood: {reason}");
                println!("not yet supported: {name} ({reason})");
            }
            None => cases.extend(Case::read(name, folder, meta)),
        }
    }
    cases
}

/// Cases that must run where they are: a slip in what is understood would leave them out without a failure.
const PUBLISHED: [&str; 22] = [
    "dinomaly2",
    "large-style",
    "reg-1group",
    "reg-batch5",
    "reg-cat",
    "reg-conv7",
    "reg-dense",
    "reg-dropout",
    "reg-globalcosine",
    "reg-jitter",
    "reg-linear-quadratic",
    "reg-nmask3-linear",
    "reg-nmask3-softmax",
    "reg-rmcls",
    "reg-rmcls-nmask3",
    "reg-softmax",
    "reg-sparse2",
    "reg-trained",
    "small-normaliser",
    "tiny-dino16",
    "tiny-noreg",
    "tiny-reg",
];

/// What a folder holds, sorted; nothing if it is missing.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// What a case's config asks for that no model has.
fn unsupported(config: &Value) -> Option<String> {
    const UNDERSTOOD: [&str; 25] = [
        "enc",
        "dim",
        "heads",
        "depth",
        "patch",
        "registers",
        "grid",
        "input",
        "batch",
        "target_layers",
        "dec",
        "dec_depth",
        "conv_kernel",
        "mask_n",
        "remove_class_token",
        "fuse_encoder",
        "fuse_decoder",
        "model",
        "bottleneck",
        "jitter_scale",
        "drop",
        "loss",
        "recentring",
        "bottleneck_width",
        "attention_eps",
    ];
    let fields = config.as_object().expect("config is an object");
    let unknown = fields.keys().find(|key| !UNDERSTOOD.contains(&key.as_str()) && !key.ends_with("_seed"));
    if let Some(key) = unknown {
        return Some(format!("{key} = {} is not understood", config[key]));
    }
    let choices = [
        ("enc", json!(["dinov2", "dinov1"])),
        ("model", json!(["ViTill", "ViTillCat"])),
        ("dec", json!(["linear", "linear_quadratic", "softmax", "conv"])),
        ("remove_class_token", json!([false, true])),
        ("bottleneck", json!(["bmlp", "jitter"])),
        ("loss", json!(["hm", "global_cosine"])),
        ("recentring", json!(["target"])),
    ];
    for (key, known) in choices {
        let value = config.get(key).filter(|value| !known.as_array().unwrap().contains(value));
        if let Some(value) = value {
            return Some(format!("{key} = {value}"));
        }
    }
    None
}

impl Case {
    /// The case with its weights, or `None` after saying which of their files the folder lacks.
    fn read(name: String, folder: PathBuf, meta: Value) -> Option<Self> {
        let [encoder, trainable] =
            ["encoder", "trainable"].map(|part| folder.join(meta["files"][part].as_str().unwrap()));
        if let Some(missing) = [&encoder, &trainable].into_iter().find(|path| !path.is_file()) {
            println!("not run: {name} ({} is not there)", missing.display());
            return None;
        }
        let c = &meta["config"];
        let number = |key: &str| c[key].as_u64().unwrap_or_else(|| panic!("{name}: config.{key}")) as usize;
        let list = |key: &str| -> Vec<Vec<usize>> {
            serde_json::from_value(c[key].clone()).unwrap_or_else(|e| panic!("{name}: config.{key}: {e}"))
        };
        let concatenated = c["model"] == "ViTillCat";
        let groups = if concatenated {
            vec![serde_json::from_value(c["fuse_encoder"].clone()).unwrap()]
        } else {
            list("fuse_encoder")
        };

        let backbone = backbone::read(&encoder, Some(number("heads"))).unwrap();
        let mut encoder = backbone.config;
        let found = [encoder.hidden_size, encoder.patch_size, encoder.num_register_tokens, encoder.position_grid];
        assert_eq!(found, ["dim", "patch", "registers", "grid"].map(number), "{name}: the encoder that was read");
        // A file may hold the blocks that are run and no others.
        encoder.num_hidden_layers = number("depth");

        let config = ModelConfig {
            decoder: DecoderConfig {
                num_hidden_layers: number("dec_depth"),
                num_attention_heads: number("heads"),
                intermediate_size: 4 * number("dim"),
                mixer: match c["dec"].as_str() {
                    Some("softmax") => Mixer::Softmax,
                    Some("conv") => Mixer::Convolution { kernel: number("conv_kernel") },
                    _ => Mixer::Linear,
                },
                neighbour_mask: number("mask_n"),
                layer_norm_eps: 1e-8,
                attention_eps: c["attention_eps"].as_f64().unwrap_or(0.0),
            },
            target_layers: serde_json::from_value(c["target_layers"].clone()).unwrap(),
            decoder_groups: (!concatenated).then(|| list("fuse_decoder")),
            groups,
            comparison: if concatenated { Comparison::Concatenated } else { Comparison::Mean },
            recentring: if c["recentring"] == "target" { Recentring::Target } else { Recentring::None },
            bottleneck_input: BottleneckInput::Mean,
            bottleneck_width: c["bottleneck_width"].as_u64().map(|width| width as usize),
            remove_class_token: c["remove_class_token"] == true,
            feature_jitter: if c["bottleneck"] == "jitter" { c["jitter_scale"].as_f64().unwrap() } else { 0.0 },
            patch_masking: 0.0,
            masked_share: MaskedShare::Drawn,
            map_border: MapBorder::Zero,
            bottleneck_dropout: c["drop"].as_f64().unwrap_or(0.0),
            encoder,
        };
        config.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut weights = backbone.weights;
        weights.0.extend(safetensors_io::read(&trainable.to_string_lossy(), &fs::read(&trainable).unwrap()).unwrap().0);
        Some(Self { name, folder, meta, config, weights })
    }

    /// Patches on a side of an input `[batch, 3, side, side]`.
    pub fn grid(&self, input: &Golden) -> usize {
        input.shape[3] / self.config.encoder.patch_size
    }

    /// `input [batch, 3, side, side]` as the rows `[batch, grid², 3·patch²]` that the encoder takes.
    pub fn patches(&self, input: &Golden) -> HostTensor {
        let [batch, side] = [input.shape[0], input.shape[3]];
        let (patch, grid) = (self.config.encoder.patch_size, self.grid(input));
        let cut = || -> candle_core::Result<Vec<f32>> {
            let photos = Tensor::from_slice(&input.values, (batch, 3, side, side), &Device::Cpu)?;
            photos
                .reshape(vec![batch, 3, grid, patch, grid, patch])?
                .permute(vec![0, 2, 4, 1, 3, 5])?
                .flatten_all()?
                .to_vec1()
        };
        HostTensor::f32([batch, grid * grid, 3 * patch * patch], cut().unwrap()).unwrap()
    }
}

/// `[batch, channels, height, width]` → the values of `[batch, height·width, channels]`.
pub fn channels_last(stored: &Golden) -> Vec<f32> {
    let (channels, points) = (stored.shape[1], stored.shape[2] * stored.shape[3]);
    let photos = stored.values.chunks_exact(channels * points);
    photos.flat_map(|photo| (0..points).flat_map(move |p| (0..channels).map(move |c| photo[c * points + p]))).collect()
}

/// The largest difference between single and double precision that was recorded for a tensor.
pub fn recorded(stats: &Value) -> Option<f32> {
    stats["f32_noise_max"].as_f64().map(|noise| noise as f32)
}

/// Counts comparisons, remembers the closest call and every failure, so that one run shows them all.
#[derive(Default)]
pub struct Tally {
    pub compared: usize,
    closest: f32,
    closest_name: String,
    failures: Vec<String>,
}

impl Tally {
    /// Compares a tensor with tolerance ten times `noise`, and never less than two roundings of its largest value: the
    /// noise recorded for few numbers may by chance be smaller than one.
    pub fn compare(&mut self, name: &str, found: &[f32], expected: &[f32], noise: f32) {
        let largest = expected.iter().fold(0f32, |largest, v| largest.max(v.abs()));
        let noise = noise.max(0.2 * f32::EPSILON * largest);
        let difference = max_difference(found, expected);
        let ratio = if difference == 0.0 { 0.0 } else { difference / noise };
        self.compared += 1;
        if ratio > self.closest {
            (self.closest, self.closest_name) = (ratio, name.into());
        }
        if ratio.is_nan() || ratio > 10.0 {
            let lengths = (found.len(), expected.len());
            self.failures
                .push(format!("{name}: largest difference {difference:e}, noise {noise:e}, lengths {lengths:?}"));
        }
    }

    /// Notes a failure that is no difference of values.
    pub fn check(&mut self, name: &str, holds: bool) {
        self.compared += 1;
        if !holds {
            self.failures.push(name.into());
        }
    }

    /// Takes over what another one counted.
    pub fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.failures.extend(other.failures);
        if other.closest > self.closest {
            (self.closest, self.closest_name) = (other.closest, other.closest_name);
        }
    }

    /// Prints what was counted.
    pub fn print(&self, what: &str) {
        let Self { compared, closest, closest_name, .. } = self;
        println!("{what}: {compared} compared, largest difference {closest:.2} times the noise {closest_name}");
    }

    /// Prints the total.
    ///
    /// # Panics
    /// With all failures, if there are any.
    pub fn finish(self, what: &str) {
        self.print(what);
        assert!(
            self.failures.is_empty(),
            "{what}: {} of {} differ:\n{}",
            self.failures.len(),
            self.compared,
            self.failures.join("\n")
        );
    }
}
