//! Encoders with random weights in place of the paper's, for a run of a plan from end to end in seconds. They have the patch, registers and
//! kind of positions of the encoder that they stand for, 64 channels, and as few blocks as the row's layers allow. What comes out says
//! nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dinomaly_core::model::config::{EncoderConfig, Positions};
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toml::Value;

use super::tables::Row;
use crate::ablation::STAND_INS;
use crate::encoders::backbone::{self, Backbone};
use crate::encoders::catalogue::{self, KnownBackbone};
use crate::training::Preset;

/// Channels of a token.
const WIDTH: usize = 64;

/// Blocks of the files: the most that a row needs.
const BLOCKS: usize = 4;

/// Optimiser steps.
const ITERATIONS: i64 = 2;

/// The folder of the files.
#[derive(Clone, Debug)]
pub struct StandIns(PathBuf);

impl StandIns {
    /// In the folder of an ablation.
    pub fn of(out: &Path) -> Self {
        Self(out.join(STAND_INS))
    }

    /// The file that stands for an encoder of the catalogue.
    pub fn file(&self, encoder: &str) -> PathBuf {
        self.0.join(format!("{encoder}.safetensors"))
    }

    /// Writes the files of these encoders. The same encoder has the same bytes each time.
    ///
    /// # Errors
    /// If a file cannot be written, or the catalogue lacks a name.
    pub fn write<'a>(&self, encoders: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for name in encoders {
            backbone::write(&self.file(name), &random(catalogue::find(name)?)?)?;
        }
        Ok(())
    }

    /// Options of a row that differ with a stand-in: layers that exist, and few iterations.
    pub fn options(row: &Row) -> toml::Table {
        let groups = row.options.get("groups").and_then(Value::as_str);
        // `every4` takes the last of four layers; ViTAD compares three, the second to last with its ninth block.
        let layers: &[i64] =
            if row.preset == Preset::Vitad || groups == Some("every4") { &[0, 1, 2, 3] } else { &[0, 1] };
        let layers = layers.iter().map(|&layer| Value::Integer(layer)).collect();
        toml::Table::from_iter([
            ("layers".to_owned(), Value::Array(layers)),
            ("iterations".to_owned(), Value::Integer(ITERATIONS)),
        ])
    }
}

/// An encoder with random weights.
fn random(known: &KnownBackbone) -> Result<Backbone> {
    let of_dinov2 = known.name.starts_with("dinov2");
    let grid = if of_dinov2 { 37 } else { 14 };
    let config = EncoderConfig {
        name: format!("stand-in for {}", known.name),
        num_hidden_layers: BLOCKS,
        intermediate_size: 2 * WIDTH,
        num_register_tokens: if known.name.starts_with("dinov2-reg") { 4 } else { 0 },
        positions: if known.name.starts_with("beit") { Positions::RelativeBias } else { Positions::Table },
        ..EncoderConfig::vit(WIDTH, 1, known.patch, grid)
    };
    // Another for each name.
    let seed = known.name.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    for (name, shape) in encoder_shapes(&config, BLOCKS)? {
        let count = shape.iter().product();
        let values = if name.contains("norm") && name.ends_with("weight") {
            vec![1.0; count]
        } else {
            (0..count).map(|_| generator.random_range(-0.1..0.1)).collect()
        };
        weights.0.insert(name, HostTensor::f32(shape, values)?);
    }
    Ok(Backbone { config, weights, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] })
}

#[cfg(test)]
mod tests {
    use super::super::tables::all;
    use super::*;

    /// Every encoder of the tables has a stand-in that is read like any file, with its patch.
    #[test]
    fn stand_ins_are_encoders() {
        let folder = tempfile::tempdir().unwrap();
        let stand_ins = StandIns::of(folder.path());
        let mut names: Vec<&str> = all().iter().flat_map(|table| table.encoders()).collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() >= 12, "{names:?}");
        stand_ins.write(names.iter().copied()).unwrap();
        for name in names {
            let read = backbone::read(&stand_ins.file(name), None).unwrap().config;
            assert_eq!(read.patch_size, catalogue::find(name).unwrap().patch, "{name}");
            let bytes = std::fs::read(stand_ins.file(name)).unwrap();
            stand_ins.write([name]).unwrap();
            assert_eq!(bytes, std::fs::read(stand_ins.file(name)).unwrap(), "{name}");
            assert_eq!(read.num_register_tokens, if name.contains("-reg-") { 4 } else { 0 }, "{name}");
        }
    }
}
