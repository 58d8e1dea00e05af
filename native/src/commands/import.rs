//! `dinomaly import`: a Dinomaly checkpoint of another project → a model folder.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{EncoderOption, FalseAlarms, GeometryOption, LayoutOption};
use super::variant::VariantOptions;
use crate::publish::{self, ImportPlan};
use crate::training::Variant;

/// Arguments of `dinomaly import`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Checkpoint: a state dict of the official implementation (.pth), or anomalib's .ckpt or .pt
    checkpoint: PathBuf,
    /// Data set with photos of good parts, to set the thresholds
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Classes of the model [default: all of the data set]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    /// Number of photos per class to set its threshold, spread over its folder
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    photos: u32,
    /// State that the model was not trained on these photos
    #[arg(long)]
    held_out: bool,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    encoder: EncoderOption,
    #[command(flatten)]
    layout: LayoutOption,
    #[command(flatten)]
    false_alarms: FalseAlarms,
    #[command(flatten)]
    variant: VariantOptions,
}

/// Imports a checkpoint and prints the folder of the model.
///
/// # Errors
/// As [`publish::import`].
pub fn run(args: &Args) -> Result<()> {
    publish::import(&ImportPlan {
        checkpoint: args.checkpoint.clone(),
        data: args.data.clone(),
        out: args.out.clone(),
        classes: args.classes.clone(),
        photos: args.photos as usize,
        held_out: args.held_out,
        geometry: args.geometry.geometry(),
        heads: args.encoder.heads,
        origin: args.encoder.origin,
        layout: args.layout.layout,
        false_alarm_rate: args.false_alarms.rate,
        variant: Variant::from(&args.variant),
    })?;
    println!("model written to {}", args.out.display());
    Ok(())
}
