//! `dinomaly data`: what lies in a data set, and what is wrong with it.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::options::LayoutOption;
use crate::dataset::Dataset;
use crate::dataset::check::{Severity, check};

/// Arguments of `dinomaly data`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Count photos, and find unreadable, doubled and odd ones and masks that do not fit, before training on them
    Check(CheckArgs),
}

/// Arguments of `dinomaly data check`.
#[derive(Clone, Debug, clap::Args)]
struct CheckArgs {
    /// Data set, one of its class folders, or a folder of photos of good parts
    data: PathBuf,
    #[command(flatten)]
    layout: LayoutOption,
    /// Check these classes only
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Vec<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the chosen one.
///
/// # Errors
/// Its own.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Check(args) => run_check(args),
    }
}

/// Prints what is found.
///
/// # Errors
/// A folder that fits no layout; and the number of errors found, so that a script stops there.
fn run_check(args: &CheckArgs) -> Result<()> {
    let (layout, dataset) = Dataset::list(args.layout.layout, &args.data, &args.classes)?;
    let report = check(layout, &dataset);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    match report.count(Severity::Error) {
        0 => Ok(()),
        errors => bail!("errors in {}: {errors}", args.data.display()),
    }
}
