//! `dinomaly quantize`: a model → the same model with weights in fewer bits.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly_core::quant::Format;

use super::options::LayoutOption;
use crate::publish::{self, QuantizePlan};

/// Arguments of `dinomaly quantize`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
    /// What weights become
    #[arg(long, value_enum, default_value = "int8")]
    to: To,
    /// Folder to write the quantized model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Data set with photos of good parts, such as the one trained on: rounding errors are made up for on them, and not on
    /// generated pictures (int8, int4)
    #[arg(long, value_name = "DATA")]
    photos: Option<PathBuf>,
    /// Evaluate before and after on this labelled data set, print what is lost, and add it to the model card
    #[arg(long, value_name = "DATA")]
    report: Option<PathBuf>,
    /// Look at these classes of the data sets only
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Text file to append to the model card: where photos and encoder come from, what was measured
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
}

/// What weights become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// A byte, one scale for each output channel
    Int8,
    /// Half a byte, a scale for each 32 values
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

/// Quantizes, and prints what that changed.
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
