//! Writes a model of a published size with random weights, the same ones each time: speed does not depend on their values.
//!
//! `cargo run --release -p dinomaly-tests --bin random_model -- --shape vit-s14 --out DIR [--precision int8]`; with `--backbone`
//! only its encoder, as a file to train on.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use dinomaly::model_dir;
use dinomaly_core::quant::quantize;
use dinomaly_tests::random::{self, Shape};

#[derive(Parser)]
struct Options {
    /// Size of the encoder.
    #[arg(long)]
    shape: Shape,
    /// The model's folder.
    #[arg(long)]
    out: PathBuf,
    /// Of the weights.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Write an encoder to train on instead: a file.
    #[arg(long, conflicts_with = "precision")]
    backbone: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
    Int8,
}

fn main() -> Result<()> {
    let Options { shape, out, precision, backbone } = Options::parse();
    let (config, preprocessor) = shape.config()?;
    if backbone {
        return dinomaly::encoders::backbone::write(&out, &random::backbone(&config.encoder, &preprocessor)?);
    }
    let mut weights = random::weights(&config, 7, 7)?;
    if let Precision::Int8 = precision {
        weights = quantize(&weights)?.0;
    }
    let model = random::model(&format!("{shape:?} with random weights"), config, preprocessor, weights)?;
    model_dir::write(&out, &model)?;
    println!("{}: {:.1} million parameters", out.display(), model.weights.parameters() as f64 / 1e6);
    Ok(())
}
