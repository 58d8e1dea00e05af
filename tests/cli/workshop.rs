//! A folder to work in: generated photos, a small encoder with random weights, and the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dinomaly::encoders::backbone::{self, Backbone};
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;
use dinomaly_core::model::config::EncoderConfig;
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use tempfile::TempDir;

/// Temporary, removed when dropped.
pub struct Workshop {
    folder: TempDir,
}

impl Workshop {
    /// Photos of two classes in `data`, and `encoder.safetensors`: width 64, twelve blocks, patch 16.
    pub fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().unwrap() };
        let classes = vec![Class::ALL[0], Class::ALL[1]];
        let plan = GenerationPlan { classes, size: 64, seed: 5, train: 10, good: 3, defective: 1 };
        plan.write(&workshop.path("data"), || Ok(())).unwrap();
        backbone::write(&workshop.path("encoder.safetensors"), &encoder()).unwrap();
        workshop
    }

    /// A place in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with arguments in which `@NAME` stands for a place in the folder.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dinomaly"));
        for argument in arguments.split_whitespace() {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(argument),
            };
        }
        command
    }

    /// Training of the small model to `out`; `options` come before what is usual here.
    pub fn train(&self, out: &str, options: &str) -> Command {
        let usual = ["--resize 72", "--crop 64", "--batch 4", "--holdout 0.2"];
        let given = |usual: &str| options.contains(usual.split(' ').next().unwrap());
        let usual = usual.into_iter().filter(|usual| !given(usual)).collect::<Vec<_>>().join(" ");
        self.command(&format!("train @data --backbone @encoder.safetensors --out @{out} {usual} {options}"))
    }

    /// Runs a command that must succeed; gives back its standard output.
    pub fn succeed(&self, mut command: Command) -> String {
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Runs a command that must fail with one sentence; gives it back, without this folder's name.
    pub fn refuse(&self, mut command: Command) -> String {
        let Output { status, stderr, .. } = command.output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{command:?}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.starts_with("dinomaly: ") && !text.contains("panicked"), "{command:?}: {text}");
        last.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// Shape of the small encoder.
fn encoder() -> Backbone {
    let config = EncoderConfig { intermediate_size: 128, ..EncoderConfig::vit(64, 1, 16, 4) };
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut weights = Weights::default();
    for (name, shape) in encoder_shapes(&config, 12).unwrap() {
        let count = shape.iter().product();
        let values = if name.contains("norm") && name.ends_with("weight") {
            vec![1.0; count]
        } else {
            (0..count).map(|_| 0.2 * random()).collect()
        };
        weights.0.insert(name, HostTensor::f32(shape, values).unwrap());
    }
    Backbone { config, weights, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
}

/// Names of what is in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let list = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
