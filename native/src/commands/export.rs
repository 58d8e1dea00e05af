//! `dinomaly export`: a model → a file for other programs.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::publish::onnx::{self, DEFAULT_OPSET, ExportPlan, FIRST_OPSET, Input, LAST_OPSET};

/// Arguments of `dinomaly export`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// File to write, which ends in .onnx
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Format of the file
    #[arg(long, value_enum, default_value = "onnx", value_name = "FORMAT")]
    to: To,
    /// Version of ONNX's set of operators
    #[arg(long, default_value_t = DEFAULT_OPSET, value_parser = clap::value_parser!(i64).range(FIRST_OPSET..=LAST_OPSET), value_name = "NUMBER")]
    opset: i64,
    /// Input of the graph
    #[arg(long, value_enum, default_value = "photo", value_name = "INPUT")]
    input: From,
    /// Compute linear layers in int8
    ///
    /// As ONNX Runtime's dynamic quantization: inputs are rounded to 256 steps. A model that is not in int8 is rounded first. The
    /// file is a quarter as large. Whether it is faster, and how much accuracy it costs, depends on the runtime: measure it.
    #[arg(long)]
    int8: bool,
    /// Write the weights to a file of their own, FILE.data, as is always done above 2 GB
    #[arg(long)]
    external_data: bool,
    /// Run the file on a generated picture, by an ONNX runtime, and compare it with the model
    #[arg(long)]
    check: bool,
}

/// Format of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Open Neural Network Exchange
    Onnx,
}

/// Input of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// Bytes of a photo, resized and cropped
    Photo,
    /// Normalised patches
    Patches,
}

/// Exports a model and says how to run it.
///
/// # Errors
/// As [`onnx::export`].
pub fn run(args: &Args) -> Result<()> {
    let To::Onnx = args.to;
    let exported = onnx::export(&ExportPlan {
        model: args.model.clone(),
        out: args.out.clone(),
        opset: args.opset,
        input: match args.input {
            From::Photo => Input::Photo,
            From::Patches => Input::Patches,
        },
        int8: args.int8,
        external: args.external_data,
        check: args.check,
    })?;
    for line in &exported.signature {
        println!("{line}");
    }
    if let Some(difference) = exported.difference {
        let [file, model] = difference.scores;
        println!(
            "check: score {file:.6}, the model's {model:.6}; largest difference of the map {:.1e} of its largest value",
            difference.map
        );
    }
    for (path, bytes) in &exported.files {
        println!("{} written: {:.1} MB", path.display(), *bytes as f64 / 1e6);
    }
    println!("{} operations of set {}", exported.operations, args.opset);
    Ok(())
}
