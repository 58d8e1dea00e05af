//! `dinomaly evaluate`: a model and labelled photos → the seven metrics.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use dinomaly_core::bundle::Model;
use dinomaly_core::ops::Read;

use super::options::{LayoutOption, LookOption, Looking};
use crate::dataset::Dataset;
use crate::inference::detect::PhotoDetector;
use crate::inference::evaluate::evaluate_observed;
use crate::inference::report::{Facts, Report, page};
use crate::model_dir;
use crate::system::atomic::{check_file, write_file};

/// Arguments of `dinomaly evaluate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
    /// Data set, one of its class folders, or a folder with subfolders good, bad and masks
    data: PathBuf,
    #[command(flatten)]
    layout: LayoutOption,
    /// Classes to evaluate [default: all]
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Vec<String>,
    /// JSON file to write the metrics to
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// CSV file to write the table to
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// HTML file to write a report to: table, curves, score histograms and the worst photos
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Number of photos per class in the report, worst first
    #[arg(long, default_value_t = 24, value_name = "COUNT")]
    gallery: usize,
    #[command(flatten)]
    device: LookOption,
}

/// Evaluates a model and prints the table.
///
/// # Errors
/// One sentence that names the missing or unusable file.
pub fn run(args: &Args) -> Result<()> {
    for path in args.json.iter().chain(&args.csv).chain(&args.report) {
        check_file(path)?;
    }
    let dataset = Dataset::open_as(args.layout.layout, &args.data, &args.classes)?;
    let model = model_dir::read(&args.model)?;
    match args.device.on(&model)? {
        Looking::Processor(detector) => measure(args, &dataset, &model, &detector),
        Looking::Gpu(detector) => measure(args, &dataset, &model, &detector),
        Looking::Cuda(detector) => measure(args, &dataset, &model, &detector),
    }
}

fn measure<O: Read>(args: &Args, dataset: &Dataset, model: &Model, detector: &PhotoDetector<O>) -> Result<()> {
    let mut report = args.report.as_ref().map(|_| Report::new(&model.calibration, args.gallery));
    let (begun, mut reporting) = (Instant::now(), Duration::ZERO);
    let evaluation = evaluate_observed(detector, model.preprocessor.geometry, dataset, &mut |class, found| {
        let begun = Instant::now();
        report.iter_mut().try_for_each(|report| report.add(class, found))?;
        reporting += begun.elapsed();
        Ok(())
    })?;
    let seconds = (begun.elapsed() - reporting).as_secs_f64();
    print!("{}", evaluation.table());
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&evaluation)?)?;
    }
    if let Some(path) = &args.csv {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in evaluation.rows() {
            writer.write_record(&row)?;
        }
        write_file(path, &writer.into_inner()?)?;
    }
    if let Some((path, report)) = args.report.as_ref().zip(report) {
        let facts = Facts { model, data: &args.data, seconds };
        write_file(path, page(&report, &evaluation, &facts)?.as_bytes())?;
    }
    Ok(())
}
