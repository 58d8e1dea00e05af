//! `dinomaly evaluate`: a model and labelled photos → the seven metrics.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{LayoutOption, LookOption};
use crate::inference::{self, EvaluationPlan, IntervalPlan};
use crate::system::atomic::{check_file, write_file};

/// Arguments of `dinomaly evaluate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Data set, one of its class folders, or a folder with subfolders good, bad and masks
    data: PathBuf,
    #[command(flatten)]
    layout: LayoutOption,
    /// Classes to evaluate [default: all]
    #[arg(long, value_name = "CLASS,…")]
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
    /// Confidence intervals of 95 % from this number of resamples of the photos: --intervals, or --intervals=N
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = IntervalPlan::USUAL,
        value_parser = super::options::within(20_usize, 1_000_000)
    )]
    intervals: Option<usize>,
    /// Seed of the resamples
    #[arg(long, default_value_t = 0, requires = "intervals", value_name = "NUMBER")]
    seed: u64,
    #[command(flatten)]
    device: LookOption,
}

/// Evaluates a model, prints the table and writes the files that were asked for.
///
/// # Errors
/// As [`inference::evaluate()`], and if a file cannot be written.
pub fn run(args: &Args) -> Result<()> {
    for path in args.json.iter().chain(&args.csv).chain(&args.report) {
        check_file(path)?;
    }
    let evaluated = inference::evaluate(&EvaluationPlan {
        model: args.model.clone(),
        data: args.data.clone(),
        layout: args.layout.layout,
        classes: args.classes.clone(),
        gallery: args.report.as_ref().map(|_| args.gallery),
        intervals: args.intervals.map(|resamples| IntervalPlan { resamples, seed: args.seed }),
        place: args.device.place(),
    })?;
    print!("{}", evaluated.evaluation.table());
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&evaluated.evaluation)?)?;
    }
    if let Some(path) = &args.csv {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in evaluated.evaluation.csv_rows() {
            writer.write_record(&row)?;
        }
        write_file(path, &writer.into_inner()?)?;
    }
    if let Some((path, page)) = args.report.as_ref().zip(evaluated.page) {
        write_file(path, page.as_bytes())?;
    }
    Ok(())
}
