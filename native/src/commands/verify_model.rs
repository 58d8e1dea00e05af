//! `dinomaly verify-model`: a trained model's metrics beside the paper's figures by class.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::options::{LayoutOption, LookOption, named, within};
use crate::dataset::published::DataSet;
use crate::inference::{self, EvaluationPlan};
use crate::reproduction::{ByClass, by_class};

/// Arguments of `dinomaly verify-model`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Data set with labelled photos
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Data set of the paper: mvtec, visa or real-iad [default: told by the classes]
    #[arg(long, value_parser = named(&by_class::DATA_SETS, DataSet::name, DataSet::title), value_name = "NAME")]
    dataset: Option<DataSet>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Classes to compare [default: all]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    /// Points of percent by which a metric may differ
    ///
    /// Half of the published figures' last digit, 0.05, comes on top.
    #[arg(
        long, default_value_t = 1.0, allow_negative_numbers = true, value_parser = within(0.0, 100.0), value_name = "POINTS"
    )]
    tolerance: f64,
    #[command(flatten)]
    device: LookOption,
}

/// Evaluates the model and prints its metrics beside the published ones.
///
/// # Errors
/// As [`inference::evaluate()`]; if the data set cannot be told; if a class is off by more than the tolerance, so that a script stops.
pub fn run(args: &Args) -> Result<()> {
    let evaluated = inference::evaluate(&EvaluationPlan {
        layout: args.layout.layout,
        classes: args.classes.clone(),
        place: args.device.place(),
        ..EvaluationPlan::new(&args.model, &args.data)
    })?;
    let found = ByClass::of(&evaluated.evaluation, args.dataset)?;
    print!("{}", found.text(args.tolerance));
    let off = found.off(args.tolerance);
    if !off.is_empty() {
        let names: Vec<&str> = off.iter().map(|(name, _)| *name).collect();
        bail!(
            "{} of {} rows of {} are off by more than {} points: {}",
            off.len(),
            found.rows.len(),
            found.data.title(),
            args.tolerance,
            names.join(", ")
        );
    }
    println!("every class is within {} points of the paper's figures", args.tolerance);
    Ok(())
}
