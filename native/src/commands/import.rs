//! `dinomaly import`: a Dinomaly checkpoint of another project → a published model folder.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{FalseAlarms, GeometryOption, LayoutOption};
use super::variant::VariantOptions;
use crate::publish::{self, ImportPlan};
use crate::training::Variant;

/// Arguments of `dinomaly import`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// State dict of the official implementation (.pth), or checkpoint of anomalib (.ckpt, .pt)
    checkpoint: PathBuf,
    /// Data set with photos of good parts to set the thresholds with
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Classes of the model; all of the data set without
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Vec<String>,
    /// Photos of each class to set its threshold with, spread over its folder
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    photos: u32,
    /// The model was not trained on these photos
    #[arg(long)]
    held_out: bool,
    #[command(flatten)]
    geometry: GeometryOption,
    /// Attention heads of the encoder, where they are not width / 64
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    layout: LayoutOption,
    #[command(flatten)]
    false_alarms: FalseAlarms,
    #[command(flatten)]
    variant: VariantOptions,
}

/// Imports, and prints where the model lies.
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
        geometry: args.geometry.into(),
        heads: args.heads,
        layout: args.layout.layout,
        false_alarm_rate: args.false_alarms.rate,
        variant: Variant::from(&args.variant),
    })?;
    println!("model written to {}", args.out.display());
    Ok(())
}
