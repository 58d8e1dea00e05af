//! `dinomaly quantize`: a model → the same model with int8 weights.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::detector::SELF_TEST_SEED;
use dinomaly_core::quant;
use dinomaly_core::tensor::Data;
use pollster::block_on;

use crate::detect::PhotoDetector;
use crate::model_dir;
use crate::publish::SELF_TEST_TOLERANCE;

/// Arguments of `dinomaly quantize`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
    /// Folder to write the quantized model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Text file to append to the model card: where photos and encoder come from, what was measured
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
}

/// Quantizes the weights of all linear layers to int8 with one scale for each output channel.
///
/// # Errors
/// An unusable model, one that is quantized already, or an unwritable folder.
pub fn run(args: &Args) -> Result<()> {
    model_dir::check_target(&args.out)?;
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("note {}", path.display()));
    let note = args.note.as_ref().map(read).transpose()?;
    let mut model = model_dir::read(&args.model)?;
    if model.weights.0.values().any(|tensor| matches!(tensor.data, Data::Int8 { .. })) {
        bail!("model {} is quantized already: quantize the original", args.model.display());
    }
    let before = model.self_test.clone();
    let (weights, rounding) = quant::quantize(&model.weights)?;
    model.weights = weights;
    model.name = args.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    // What the quantized model computes is right by definition: devices are compared with it.
    let detector = PhotoDetector::of_parts(&model.config, &model.preprocessor, &model.weights)?;
    let self_test = block_on(detector.detector().self_test(SELF_TEST_SEED, SELF_TEST_TOLERANCE))?;
    let worst = rounding.iter().max_by(|a, b| a.relative.total_cmp(&b.relative)).context("no weight to quantize")?;
    let lines = format!(
        "\nWeights of {} linear layers are int8 with one scale for each output channel; largest relative rounding {:.4} ({}).\n",
        rounding.len(),
        worst.relative,
        worst.name
    );
    print!("{}", lines.trim_start());
    if let Some(before) = &before {
        let largest = before.map.iter().zip(&self_test.map).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!(
            "self-test picture: score {:.5} → {:.5}, map differs by at most {largest:.5}",
            before.score, self_test.score
        );
    }
    model.card += &lines;
    if let Some(note) = &note {
        model.card += &format!("\n{}\n", note.trim());
    }
    model.self_test = Some(self_test);
    model_dir::write(&args.out, &model)?;
    println!("model written to {}", args.out.display());
    Ok(())
}
