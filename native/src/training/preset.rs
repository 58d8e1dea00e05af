//! The paper's hyper-parameters for a data set. Options that are given with a preset win.
//!
//! The values are those of the official scripts, where they differ from the paper's text, too: `docs/paper.md` lists the differences.

use std::fmt;

use anyhow::{Result, bail};
use dinomaly_core::photo::preprocess::Geometry;

use crate::encoders::embedded;

/// A data set of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// MVTec-AD, all classes in one model
    Mvtec,
    /// VisA, all classes in one model
    Visa,
    /// Real-IAD, all classes in one model: 50,000 iterations, more dropout
    RealIad,
    /// MPDD, all classes in one model
    Mpdd,
    /// BTAD, all classes in one model
    Btad,
    /// Uni-Medical, all classes in one model: more dropout
    UniMedical,
    /// MVTec-AD, one model per class
    MvtecSeparate,
    /// VisA, one model per class
    VisaSeparate,
    /// Real-IAD, one model per class
    RealIadSeparate,
    /// MPDD, one model per class
    MpddSeparate,
    /// ViTAD, the paper's baseline: nine softmax decoder blocks on the last encoder layer, compared layer by layer
    Vitad,
    /// Dinomaly2, all classes in one model
    Dinomaly2,
}

/// An option of `train` (its field's name) and its value.
pub type Setting = (&'static str, &'static str);

/// Settings of all official scripts. Most are also defaults, but the presets must not change with the defaults.
const ALL: [Setting; 8] = [
    ("resize", "448"),
    ("crop", "392"),
    ("batch", "16"),
    ("lr", "2e-3"),
    ("groups", "2"),
    ("decoder", "linear"),
    ("mining_rate", "0.9"),
    ("mining_factor", "0.1"),
];

/// ViTAD's architecture from the official code (class `ViTAD`), at its authors' input size. Optimiser and schedule are Dinomaly's, so
/// that only the architecture differs.
const VITAD: [Setting; 14] = [
    ("layers", "2,5,8,11"),
    ("groups", "0/1/2"),
    ("decoder_blocks", "9"),
    ("decoder_groups", "2/5/8"),
    ("bottleneck_input", "last"),
    ("decoder", "softmax"),
    ("dropout", "0"),
    ("mining_rate", "0"),
    ("resize", "256"),
    ("crop", "256"),
    ("batch", "16"),
    ("lr", "2e-3"),
    ("iterations", "10000"),
    ("optimizer_eps", "1e-10"),
];

/// Dinomaly2 (arXiv 2510.17611) as in its public code, beside [`ALL`]. Its few-shot script differs in `--shots` and `--augmentation`
/// alone.
const DINOMALY2: [Setting; 11] = [
    ("iterations", "40000"),
    ("dropout", "0.4"),
    ("mining_warmup", "1000"),
    ("optimizer", "stable-adamw"),
    ("optimizer_eps", "1e-10"),
    ("lr_fall", "1"),
    ("first_layer_lr", "2e-4"),
    ("warmup_end", "below-peak"),
    ("recentring", "target"),
    ("bottleneck_width", "256"),
    ("attention_eps", "1e-8"),
];

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 12] = [
        Self::Mvtec,
        Self::Visa,
        Self::RealIad,
        Self::Mpdd,
        Self::Btad,
        Self::UniMedical,
        Self::MvtecSeparate,
        Self::VisaSeparate,
        Self::RealIadSeparate,
        Self::MpddSeparate,
        Self::Vitad,
        Self::Dinomaly2,
    ];

    /// Source of the values.
    pub fn source(self) -> &'static str {
        match self {
            Self::Mvtec => "dinomaly_mvtec_uni.py",
            Self::Visa => "dinomaly_visa_uni.py",
            Self::RealIad => "dinomaly_realiad_uni.py",
            Self::MvtecSeparate => "dinomaly_mvtec_sep.py",
            Self::VisaSeparate => "dinomaly_visa_sep.py",
            Self::RealIadSeparate => "dinomaly_realiad_sep.py",
            Self::MpddSeparate => "dinomaly_mpdd_sep.py",
            Self::Vitad => "models/uad.py",
            Self::Dinomaly2 => "Dinomaly2's dinomaly_2D.py",
            Self::Mpdd | Self::Btad => "no script is published: as dinomaly_mvtec_uni.py",
            Self::UniMedical => "no script is published: as dinomaly_mvtec_uni.py, dropout of Appendix D",
        }
    }

    /// Options that the preset sets.
    pub fn settings(self) -> Vec<Setting> {
        let of = |iterations, dropout, eps| {
            let own =
                [("iterations", iterations), ("dropout", dropout), ("mining_warmup", "1000"), ("optimizer_eps", eps)];
            [&own[..], &ALL].concat()
        };
        match self {
            Self::Mvtec | Self::Visa | Self::Mpdd | Self::Btad => of("10000", "0.2", "1e-10"),
            // Appendix D: as MVTec-AD but for dropout.
            Self::UniMedical => of("10000", "0.4", "1e-10"),
            Self::RealIad => of("50000", "0.4", "1e-10"),
            Self::MvtecSeparate | Self::VisaSeparate | Self::MpddSeparate => of("5000", "0.2", "1e-8"),
            Self::RealIadSeparate => of("5000", "0.2", "1e-10"),
            Self::Vitad => VITAD.to_vec(),
            Self::Dinomaly2 => [&DINOMALY2[..], &ALL].concat(),
        }
    }

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mvtec => "mvtec",
            Self::Visa => "visa",
            Self::RealIad => "real-iad",
            Self::Mpdd => "mpdd",
            Self::Btad => "btad",
            Self::UniMedical => "uni-medical",
            Self::MvtecSeparate => "mvtec-separate",
            Self::VisaSeparate => "visa-separate",
            Self::RealIadSeparate => "real-iad-separate",
            Self::MpddSeparate => "mpdd-separate",
            Self::Vitad => "vitad",
            Self::Dinomaly2 => "dinomaly2",
        }
    }

    /// Why it does not go with the embedded encoder, whose patches differ from those of the paper's encoders.
    pub(super) fn needs_backbone(self) -> String {
        let Geometry { resize, crop } = embedded::GEOMETRY;
        format!(
            "--preset {} is for the paper's encoders: name one by --backbone, or add --resize {resize} --crop {crop} \
             for the embedded one",
            self.name()
        )
    }

    /// Whether each class gets its own model.
    fn is_for_one_class(self) -> bool {
        matches!(self, Self::MvtecSeparate | Self::VisaSeparate | Self::RealIadSeparate | Self::MpddSeparate)
    }
}

/// A preset, and what was given instead of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct PresetChoice {
    /// The preset.
    pub preset: Preset,
    /// Options of the preset that the command line sets.
    pub given: Vec<&'static str>,
}

impl PresetChoice {
    /// Checks that a one-class preset is used with one class.
    ///
    /// # Errors
    /// If there are more classes.
    pub fn check(&self, classes: usize) -> Result<()> {
        if self.preset.is_for_one_class() && classes > 1 {
            bail!(
                "--preset {} is for one-class models, but the data has {classes} classes: choose one with --classes",
                self.preset.name()
            );
        }
        Ok(())
    }
}

impl fmt::Display for PresetChoice {
    /// The options that the preset sets and those that the command line sets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preset = self.preset;
        let settings = preset.settings();
        let set = settings.iter().filter(|(option, _)| !self.given.contains(option));
        let set: Vec<String> = set.map(|(option, value)| format!("{} {value}", option.replace('_', "-"))).collect();
        writeln!(f, "preset {} ({}): {}", preset.name(), preset.source(), set.join(", "))?;
        if !self.given.is_empty() {
            writeln!(f, "given instead of the preset's: {}", self.given.join(", ").replace('_', "-"))?;
        }
        Ok(())
    }
}
