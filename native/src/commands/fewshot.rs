//! `dinomaly fewshot`: a few photos of good parts → a model, without training.

use std::path::PathBuf;

use anyhow::{Result, bail};
use dinomaly_core::fewshot::{MemoryChoice, Recipe};
use dinomaly_core::photo::preprocess::Geometry;

use super::options::{DeviceOption, FalseAlarms, LayoutOption, named, parse_bytes, within};
use crate::dataset::WindowChoice;
use crate::publish::{self, FewShotPlan};

/// Arguments of `dinomaly fewshot`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data set, one of its class folders, or a folder of photos of good parts
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Pretrained encoder: a file (.pth, .safetensors), or a name from `dinomaly backbone list` [default: the embedded one]
    #[arg(long, value_name = "FILE|NAME")]
    backbone: Option<PathBuf>,
    /// Kind of memory
    #[arg(long, default_value = "subspace", value_parser = named(&MemoryChoice::ALL, MemoryChoice::name, about_memory))]
    memory: MemoryChoice,
    /// Classes [default: all]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Side of the square that whole photos are resized to, in pixels [default: 448, 320 for a bank, 224 for the embedded encoder]
    #[arg(long, value_parser = within(1, Geometry::MAX_SIDE), value_name = "PIXELS")]
    size: Option<usize>,
    /// Encoder blocks to compare, counted from 0 [default: all, every other one for a bank]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    layers: Vec<usize>,
    /// Largest size of a bank; more patches are thinned to those that cover the others best [default: 64MiB]
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    bank_size: Option<u64>,
    /// Share of the patches' variance that a subspace explains [default: 0.99]
    #[arg(long, value_parser = within(0.01, 0.9999), value_name = "SHARE")]
    variance: Option<f64>,
    /// Number of the encoder's attention heads [default: width / 64]
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Values of 16-bit grey that become black and white: range, percentile, clip or LOW..HIGH
    #[arg(long, default_value_t, value_name = "WINDOW")]
    window: WindowChoice,
    #[command(flatten)]
    false_alarms: FalseAlarms,
    #[command(flatten)]
    device: DeviceOption,
}

/// Help text of a memory.
fn about_memory(memory: MemoryChoice) -> &'static str {
    match memory {
        MemoryChoice::Subspace => "Principal directions of good patches (SubspaceAD): of one size, however many photos",
        MemoryChoice::Bank => "Good patches themselves (AnomalyDINO): grows with the photos, up to --bank-size",
    }
}

/// Makes a model and prints its folder.
///
/// # Errors
/// As [`publish::few_shot`].
pub fn run(args: &Args) -> Result<()> {
    match args.memory {
        MemoryChoice::Bank if args.variance.is_some() => bail!("--variance is for --memory subspace"),
        MemoryChoice::Subspace if args.bank_size.is_some() => bail!("--bank-size is for --memory bank"),
        _ => {}
    }
    let usual = Recipe::default();
    publish::few_shot(&FewShotPlan {
        layout: args.layout.layout,
        classes: args.classes.clone(),
        backbone: args.backbone.clone(),
        heads: args.heads,
        recipe: Recipe {
            memory: args.memory,
            layers: args.layers.clone(),
            bank_size: args.bank_size.unwrap_or(usual.bank_size),
            variance: args.variance.unwrap_or(usual.variance),
            false_alarm_rate: args.false_alarms.rate,
        },
        side: args.size,
        window: args.window,
        device: args.device.choice(),
        ..FewShotPlan::new(&args.data, &args.out)
    })?;
    println!("model written to {}", args.out.display());
    Ok(())
}
