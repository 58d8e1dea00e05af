//! `dinomaly data`: contents and problems of a data set.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::options::{DeviceOption, LayoutOption};
use crate::dataset::Dataset;
use crate::dataset::check::{CheckReport, Purpose, Severity, check};
use crate::inference::{ClassSuspects, Suspect, Suspects, SuspectsPlan, suspects};
use crate::system::atomic::{check_file, write_file};
use crate::system::output;
use crate::system::shown::shown;

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
    /// Also rank the training photos by how odd the others of their class find them
    #[arg(long)]
    suspects: bool,
    /// Pretrained encoder for that: a file (.pth, .safetensors), or a name from `dinomaly backbone list` [default: the embedded one]
    #[arg(long, value_name = "FILE|NAME", requires = "suspects")]
    backbone: Option<PathBuf>,
    /// HTML file to write the oddest photos to
    #[arg(long, value_name = "FILE", requires = "suspects")]
    report: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceOption,
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
    args.report.as_deref().map_or(Ok(()), check_file)?;
    let (layout, dataset) = Dataset::list(args.layout.layout, &args.data, &args.classes)?;
    let report = check(layout, &dataset, Purpose::Everything);
    if !args.json {
        print!("{}", report.text());
    }
    let found = args.suspects.then(|| search(args, &dataset)).transpose()?;
    if args.json {
        let suspects = found.as_ref().map(|found| &found.classes);
        output::print_data(&(serde_json::to_string_pretty(&Checked { report: &report, suspects })? + "\n"));
    } else if let Some(found) = &found {
        print!("{}", text(found));
    }
    if let Some((file, found)) = args.report.as_deref().zip(found) {
        write_file(file, found.page()?.as_bytes())?;
    }
    match report.count(Severity::Error) {
        0 => Ok(()),
        errors => bail!("errors in {}: {errors}", args.data.display()),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    report: &'a CheckReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspects: Option<&'a Vec<ClassSuspects>>,
}

fn search(args: &CheckArgs, dataset: &Dataset) -> Result<Suspects> {
    suspects(dataset, &SuspectsPlan { backbone: args.backbone.clone(), heads: None, device: args.device.choice() })
}

/// The oddest photos of each class, a line for each.
fn text(found: &Suspects) -> String {
    let mut text = String::new();
    for class in &found.classes {
        if class.photos.is_empty() {
            text += &format!("{}: too few training photos to judge each other\n", class.class);
            continue;
        }
        let (first, all) = (class.first(), class.photos.len());
        text +=
            &format!("{}: the {} oddest of {all} training photos, by oddness (1: usual)\n", class.class, first.len());
        for Suspect { photo, oddness } in first {
            text += &format!("  {oddness:5.2}  {}\n", photo.display());
        }
    }
    shown(&text).into_owned()
}
