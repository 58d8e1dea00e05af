//! `dinomaly ablate`: a plan of variants and seeds → the model and metrics of each, and a table that compares them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use super::options::Looking;
use super::train;
use crate::ablation::plan::AblationPlan;
use crate::ablation::table::Table;
use crate::ablation::{self, Cell};
use crate::dataset::Dataset;
use crate::encoders::catalogue;
use crate::inference::evaluate::{Evaluation, evaluate};
use crate::model_dir;
use crate::system::atomic::{check_file, write_file};
use crate::system::interrupt::{Interrupt, Stopped};

/// Arguments of `dinomaly ablate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Plan: a TOML file with variants, seeds and options of `train`
    ///
    /// `seeds = [1, 2]`, options of `train` for all variants, and a `[[variant]]` table with a name and options for each.
    plan: PathBuf,
    /// Folder to write models, metrics and tables to
    ///
    /// The same command again resumes an unfinished ablation there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Data set [default: the plan's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Pretrained encoder [default: the plan's]
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
}

/// Parser of a cell's options: those of `train`.
#[derive(Parser)]
struct Train {
    #[command(flatten)]
    args: train::Args,
}

/// Trains and evaluates each unfinished cell, one after the other, and writes the tables after each.
///
/// # Errors
/// If the plan or an option is unusable, which is checked before the first training; if the folder holds a run with other settings;
/// if training or evaluation fails, with the cell's name; [`Stopped`] after Ctrl-C. Finished cells are kept.
pub fn run(args: &Args) -> Result<()> {
    let plan = AblationPlan::read(&args.plan)?;
    let refused = || format!("plan {} cannot be used", args.plan.display());
    let mut cells = plan.cells(args.data.as_deref(), args.backbone.as_deref()).with_context(refused)?;
    let trainings =
        cells.iter().map(|cell| training(cell, &args.out)).collect::<Result<Vec<_>>>().with_context(refused)?;
    check_models(&cells, &trainings).with_context(refused)?;
    ablation::check_folder(&args.out)?;
    check_file(&args.out.join("table.md"))?;
    let interrupt = Interrupt::listen("finishing this step")?;
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
        if interrupt.asked() {
            return Err(Stopped("stopped; the same command resumes".into())).context(name);
        }
        finish(&mut cells[i], training, &args.out).with_context(|| name.clone())?;
        write_tables(&Table::new(&cells), &args.out)?;
    }
    print!("{}", Table::new(&cells).text());
    Ok(())
}

/// A cell as options of `train`.
fn training(cell: &Cell, out: &Path) -> Result<train::Args> {
    let mut words: Vec<OsString> = vec!["train".into(), "--out".into(), cell.model(out).into()];
    words.push(format!("--seed={}", cell.seed).into());
    words.extend(cell.options.iter().map(OsString::from));
    words.extend(["--".into(), cell.data.clone().into()]);
    let parsed =
        Train::try_parse_from(words).map_err(|error| match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::UnknownArgument, Some(key)) => anyhow!("train has no option {key}"),
            // Only clap's first paragraph: the rest is usage and tips for a command line that nobody typed.
            _ => {
                let text = error.to_string();
                let sentence = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
                anyhow!("{}", sentence.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        });
    Ok(parsed.with_context(|| format!("variant {}", cell.variant))?.args)
}

/// Checks that each variant fits its encoder, before the first training. Each encoder is opened once.
fn check_models(cells: &[Cell], trainings: &[train::Args]) -> Result<()> {
    let mut encoders = Vec::new();
    for (cell, training) in cells.iter().zip(trainings) {
        let wanted = (&training.backbone, training.heads);
        if !encoders.iter().any(|(opened, _)| *opened == wanted) {
            encoders.push((wanted, catalogue::read(&training.backbone, training.heads)?.0.config));
        }
        let encoder = encoders.iter().find(|(opened, _)| *opened == wanted).map(|(_, encoder)| encoder.clone());
        let encoder = encoder.context("every backbone was opened")?;
        training
            .variant
            .model(encoder, training.geometry.into())
            .with_context(|| format!("variant {}", cell.variant))?;
    }
    Ok(())
}

/// Trains a cell's missing models and evaluates them.
fn finish(cell: &mut Cell, training: &train::Args, out: &Path) -> Result<()> {
    cell.save(out)?;
    let trainings = if cell.separate { by_class(training)? } else { vec![training.clone()] };
    let mut classes = Vec::new();
    for training in &trainings {
        if !training.out.is_dir() {
            train::run(training)?;
        }
        let model = model_dir::read(&training.out)?;
        let dataset = Dataset::open_as(training.layout.layout, &training.data, &training.classes)?;
        let geometry = model.preprocessor.geometry;
        let evaluation = match Looking::on(&model, training.devices.open_first()?)? {
            Looking::Processor(detector) => evaluate(&detector, geometry, &dataset)?,
            Looking::Gpu(detector) => evaluate(&detector, geometry, &dataset)?,
            Looking::Cuda(detector) => evaluate(&detector, geometry, &dataset)?,
        };
        classes.extend(evaluation.classes);
    }
    cell.evaluation = Some(Evaluation::of(classes));
    cell.save(out)
}

/// One training per class, each into a subfolder with the class's name.
fn by_class(training: &train::Args) -> Result<Vec<train::Args>> {
    std::fs::create_dir_all(&training.out).with_context(|| format!("{} cannot be created", training.out.display()))?;
    let dataset = Dataset::open_as(training.layout.layout, &training.data, &training.classes)?;
    Ok(dataset.classes.iter().map(|class| training.of_class(&class.name)).collect())
}

fn write_tables(table: &Table<'_>, out: &Path) -> Result<()> {
    write_file(&out.join("table.md"), table.markdown().as_bytes())?;
    write_file(&out.join("table.csv"), &table.csv()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every plan of the repository is valid for a folder of photos and the encoder that it names.
    #[test]
    fn the_plans_of_the_repository_hold() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ablations");
        let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let plans: Vec<PathBuf> =
            files(&folder).chain(files(&folder.join("full"))).filter(|path| path.is_file()).collect();
        assert!(plans.len() > 10, "{plans:?}");
        for path in plans {
            let cells = AblationPlan::read(&path).unwrap().cells(Some(&folder), None).unwrap();
            for cell in cells {
                let mut cell = cell;
                if !cell.options.iter().any(|option| option.starts_with("--backbone=")) {
                    cell.options.push("--backbone=deit-tiny".into());
                }
                let training =
                    training(&cell, Path::new("out")).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
                let backbone = catalogue::find(training.backbone.to_str().unwrap()).unwrap();
                let model = training.variant.model(backbone.shape(), training.geometry.into());
                model.unwrap_or_else(|e| panic!("{}: {}: {e:#}", path.display(), cell.variant));
                assert!(training.preset.check(if cell.separate { 1 } else { 2 }).is_ok(), "{}", path.display());
            }
        }
    }
}
