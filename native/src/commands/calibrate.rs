//! `dinomaly calibrate`: a model and photos of good parts → the same model with new thresholds.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Calibration;

use super::options::{LayoutOption, LookOption, Looking};
use crate::dataset::{Dataset, few};
use crate::model_dir;
use crate::publish;
use crate::publish::calibrate::{FalseAlarms, calibrate};
use crate::system::atomic::check_other;

/// Arguments of `dinomaly calibrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
    /// Data set with photos of good parts that the model was not trained on
    data: PathBuf,
    /// Folder to write the model to
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Classes to set the thresholds of [default: all]
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
    #[command(flatten)]
    false_alarms: FalseAlarms,
    #[command(flatten)]
    device: LookOption,
}

/// Scores the photos and writes the model with the resulting thresholds. They replace all earlier ones, unless classes were
/// chosen.
///
/// # Errors
/// If the model is unusable, a class has no good photos, a photo cannot be read, or the folder cannot be written.
pub fn run(args: &Args) -> Result<()> {
    check_other(&args.model, &args.out)?;
    model_dir::check_target(&args.out)?;
    let mut model = model_dir::read(&args.model)?;
    let dataset = Dataset::open_for_training(args.layout.layout, &args.data, &args.classes)?;
    let of_class = |class: crate::dataset::Class| class.train.into_iter().map(move |photo| (class.name.clone(), photo));
    let photos: Vec<(String, PathBuf)> = dataset.classes.into_iter().flat_map(of_class).collect();
    let rate = args.false_alarms.rate;
    let earlier = model.calibration.clone();
    if !args.classes.is_empty() && earlier.false_alarm_rate != rate {
        bail!(
            "--classes keeps the other classes' thresholds, which are for --false-alarm-rate {}: give the same rate, or all classes",
            earlier.false_alarm_rate
        );
    }
    model.calibration = match args.device.on(&model)? {
        Looking::Processor(detector) => calibrate(&detector, photos, rate, true)?,
        Looking::Gpu(detector) => calibrate(&detector, photos, rate, true)?,
        Looking::Cuda(detector) => calibrate(&detector, photos, rate, true)?,
    };
    println!("these photos count as held out: thresholds are too low if the model was trained on them");
    if args.classes.is_empty() {
        let gone: Vec<String> =
            earlier.classes.into_keys().filter(|class| !model.calibration.classes.contains_key(class)).collect();
        if !gone.is_empty() {
            println!("classes removed from the model, because there are no photos of them: {}", few(&gone));
        }
    } else {
        keep_others(&mut model.calibration, earlier);
    }
    model.name = args.out.file_name().context("--out names no folder")?.to_string_lossy().into_owned();
    model.card = publish::with_thresholds(&model.card, &model.calibration);
    model_dir::write(&args.out, &model)?;
    println!("model written to {}", args.out.display());
    Ok(())
}

/// Keeps the earlier calibration of the other classes, and that of photos of unknown class.
fn keep_others(calibration: &mut Calibration, earlier: Calibration) {
    for (name, class) in earlier.classes {
        calibration.classes.entry(name).or_insert(class);
    }
    calibration.overall = earlier.overall;
    calibration.held_out &= earlier.held_out;
}
