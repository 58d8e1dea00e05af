//! `dinomaly calibrate`: a model and photos of good parts → the same model with new thresholds.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{FalseAlarms, LayoutOption, LookOption};
use crate::dataset::few;
use crate::publish::{self, CalibrationPlan};

/// Arguments of `dinomaly calibrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Data set with photos of good parts that the model was not trained on
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Classes to set the thresholds of [default: all]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
    #[command(flatten)]
    false_alarms: FalseAlarms,
    /// Folder of photos of defective parts, to report how many are found
    ///
    /// If the data set has several classes, in a subfolder for each of them.
    #[arg(long, value_name = "DIR")]
    defective: Option<PathBuf>,
    /// Choose the thresholds with the highest F1 on good and defective photos
    ///
    /// They then hold for as many defects as the folder has, not for a rate of false alarms.
    #[arg(long, requires = "defective", conflicts_with_all = ["rate", "classes"])]
    best_f1: bool,
    #[command(flatten)]
    device: LookOption,
}

/// Writes the model with the resulting thresholds, and prints how far they can be trusted.
///
/// # Errors
/// As [`publish::calibrate`].
pub fn run(args: &Args) -> Result<()> {
    let calibrated = publish::calibrate(&CalibrationPlan {
        model: args.model.clone(),
        data: args.data.clone(),
        out: args.out.clone(),
        classes: args.classes.clone(),
        layout: args.layout.layout,
        false_alarm_rate: args.false_alarms.rate,
        defective: args.defective.clone(),
        best_f1: args.best_f1,
        place: args.device.place(),
    })?;
    println!("these photos count as held out: thresholds are too low if the model was trained on them");
    if !calibrated.gone.is_empty() {
        println!("classes removed from the model, because there are no photos of them: {}", few(&calibrated.gone));
    }
    if let Some(recall) = &calibrated.recall {
        print!("{recall}");
    }
    println!("model written to {}", args.out.display());
    Ok(())
}
