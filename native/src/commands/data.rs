//! `dinomaly data`: contents and problems of a data set.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::options::LayoutOption;
use crate::dataset::Dataset;
use crate::dataset::check::{Purpose, Severity, check};
use crate::system::output;

/// Arguments of `dinomaly data`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Count photos, and find unreadable, duplicate and unusual photos and masks that do not fit
    ///
    /// Example: dinomaly data check photos
    Check(CheckArgs),
}

/// Arguments of `dinomaly data check`.
#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// Data set, one of its class folders, or a folder of photos of good parts
    data: PathBuf,
    #[command(flatten)]
    layout: LayoutOption,
    /// Classes to check [default: all]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the chosen subcommand.
///
/// # Errors
/// Those of the subcommand.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Check(args) => run_check(args),
    }
}

/// Prints the report.
///
/// # Errors
/// If the folder fits no layout, or if the report has errors, so that a script stops.
fn run_check(args: &CheckArgs) -> Result<()> {
    let (layout, dataset) = Dataset::list(args.layout.layout, &args.data, &args.classes)?;
    let report = check(layout, &dataset, Purpose::Everything);
    if args.json {
        output::print_data(&(serde_json::to_string_pretty(&report)? + "\n"));
    } else {
        print!("{}", report.text());
    }
    match report.count(Severity::Error) {
        0 => Ok(()),
        errors => bail!("errors in {}: {errors}", args.data.display()),
    }
}
