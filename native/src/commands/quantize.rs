//! `dinomaly quantize`: a model → the same model with weights of fewer bits.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly_core::quant::Format;

use super::options::LayoutOption;
use crate::publish::{self, QuantizePlan};

/// Arguments of `dinomaly quantize`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Format of the weights
    #[arg(long, value_enum, default_value = "int8", value_name = "FORMAT")]
    to: To,
    /// Folder to write the quantized model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Data set to compensate rounding errors on [default: generated pictures]
    ///
    /// Photos of good parts, such as the training photos. For int8 and int4.
    #[arg(long, value_name = "DATA")]
    photos: Option<PathBuf>,
    /// Labelled data set to evaluate before and after, for the output and the model card
    #[arg(long, value_name = "DATA")]
    report: Option<PathBuf>,
    /// Classes of the data sets to use [default: all]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Text file to append to the model card
    ///
    /// For example the origin of photos and encoder, or measurements.
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
}

/// Format of quantized weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// 8 bits, one scale per output channel
    Int8,
    /// 4 bits, one scale per 32 values
    Int4,
    /// Half precision
    F16,
}

impl To {
    fn format(self) -> Format {
        match self {
            Self::Int8 => Format::Int8,
            Self::Int4 => Format::Int4,
            Self::F16 => Format::F16,
        }
    }
}

/// Quantizes a model and prints the changes.
///
/// # Errors
/// As [`publish::quantize`].
pub fn run(args: &Args) -> Result<()> {
    let quantized = publish::quantize(&QuantizePlan {
        model: args.model.clone(),
        to: args.to.format(),
        out: args.out.clone(),
        photos: args.photos.clone(),
        report: args.report.clone(),
        classes: args.classes.clone(),
        layout: args.layout.layout,
        note: args.note.clone(),
    })?;
    print!("{}", quantized.summary);
    if let Some([before, after]) = &quantized.self_tests {
        let largest = before.map.iter().zip(&after.map).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!(
            "self-test picture: score {:.5} → {:.5}, map differs by at most {largest:.5}",
            before.score, after.score
        );
    }
    if let Some(comparison) = quantized.comparison() {
        print!("{}", comparison.table());
    }
    println!("model written to {}", args.out.display());
    Ok(())
}
