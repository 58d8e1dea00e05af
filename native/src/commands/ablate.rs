//! `dinomaly ablate`: a plan of variants and seeds → a model and metrics of each, and the table that compares them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use super::train;
use crate::ablation::Cell;
use crate::ablation::plan::Plan;
use crate::ablation::table::Table;
use crate::atomic::{check_file, write_file};
use crate::dataset::Dataset;
use crate::detect::PhotoDetector;
use crate::evaluate::evaluate;
use crate::interrupt::Interrupt;
use crate::model_dir;

/// Arguments of `dinomaly ablate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// TOML file: options of `train` for all variants, `seeds = [1, 2]`, and `[[variant]]` tables with a name and options
    plan: PathBuf,
    /// Folder to write models, metrics and tables to; with the same plan again an unfinished ablation goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Photos in place of the plan's
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Backbone in place of the plan's
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
}

/// A cell's options, read as `train` reads them.
#[derive(Parser)]
struct Train {
    #[command(flatten)]
    args: train::Args,
}

/// Trains and evaluates every cell that is not finished yet, one after the other, and writes the tables after each.
///
/// # Errors
/// An unusable plan or option, before anything is trained; settings other than an earlier run's in the same folder; whatever
/// training or evaluation refuses, naming the cell. What is finished is kept.
pub fn run(args: &Args) -> Result<()> {
    let plan = Plan::read(&args.plan)?;
    let refused = || format!("plan {} cannot be used", args.plan.display());
    let mut cells = plan.cells(args.data.as_deref(), args.backbone.as_deref()).with_context(refused)?;
    let trainings =
        cells.iter().map(|cell| training(cell, &args.out)).collect::<Result<Vec<_>>>().with_context(refused)?;
    check_file(&args.out.join("table.md"))?;
    let interrupt = Interrupt::listen("finishing this step; finished cells and what was trained are kept")?;
    for cell in &mut cells {
        cell.take_over(&args.out)?;
    }
    let count = cells.len();
    for (i, training) in trainings.iter().enumerate() {
        if cells[i].evaluation.is_some() {
            continue;
        }
        let name = format!("cell {} of {count}: {} seed {}", i + 1, cells[i].variant, cells[i].seed);
        println!("{name}");
        if interrupt.asked() || !finish(&mut cells[i], training, &args.out).context(name.clone())? {
            println!("stopped in {name}; the same command goes on from there");
            break;
        }
        write_tables(&Table::new(&cells), &args.out)?;
    }
    print!("{}", Table::new(&cells).text());
    Ok(())
}

/// The cell as a command to `train`.
fn training(cell: &Cell, out: &Path) -> Result<train::Args> {
    let mut words: Vec<OsString> = vec!["train".into(), "--out".into(), cell.model(out).into()];
    words.push(format!("--seed={}", cell.seed).into());
    words.extend(cell.options.iter().map(OsString::from));
    words.extend(["--".into(), cell.data.clone().into()]);
    let parsed =
        Train::try_parse_from(words).map_err(|error| match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::UnknownArgument, Some(key)) => anyhow!("train has no option {key}"),
            // clap's first paragraph says it; usage and tips for a command line that nobody typed follow.
            _ => {
                let text = error.to_string();
                let sentence = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
                anyhow!("{}", sentence.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        });
    Ok(parsed.with_context(|| format!("variant {}", cell.variant))?.args)
}

/// Trains, unless its model is there already, and evaluates; `false` if the user interrupted the training.
fn finish(cell: &mut Cell, training: &train::Args, out: &Path) -> Result<bool> {
    let folder = cell.model(out);
    cell.save(out)?;
    if !folder.is_dir() && !train::train(training)? {
        return Ok(false);
    }
    let model = model_dir::read(&folder)?;
    let detector = PhotoDetector::new(&model, training.device.open()?)?;
    let dataset = Dataset::open_as(training.layout.layout, &training.data, &training.classes)?;
    cell.evaluation = Some(evaluate(&detector, model.preprocessor.geometry, &dataset)?);
    cell.save(out)?;
    Ok(true)
}

fn write_tables(table: &Table<'_>, out: &Path) -> Result<()> {
    write_file(&out.join("table.md"), table.markdown().as_bytes())?;
    write_file(&out.join("table.csv"), &table.csv()?)
}
