//! `dinomaly ablate`: a plan of variants and seeds → the model and metrics of each, and a table that compares them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use super::train;
use crate::ablation::plan::AblationPlan;
use crate::ablation::table::Table;
use crate::ablation::{Ablation, Cell};
use crate::system::interrupt::Interrupt;
use crate::training::TrainingPlan;

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

/// Trains and evaluates each unfinished cell, and prints the table.
///
/// # Errors
/// If the plan or an option is unusable, which is checked before the first training; as [`Ablation::run`].
pub fn run(args: &Args) -> Result<()> {
    let plan = AblationPlan::read(&args.plan)?;
    let begin = || -> Result<Ablation> {
        let cells = plan.cells(args.data.as_deref(), args.backbone.as_deref())?;
        let trainings = cells.iter().map(|cell| training(cell, &args.out)).collect::<Result<Vec<_>>>()?;
        Ablation::new(&args.out, cells.into_iter().zip(trainings).collect())
    };
    let ablation = begin().with_context(|| format!("plan {} cannot be used", args.plan.display()))?;
    let cells = ablation.run(&Interrupt::listen("finishing this step")?)?;
    print!("{}", Table::new(&cells).text());
    Ok(())
}

/// A cell as options of `train`.
fn training(cell: &Cell, out: &Path) -> Result<TrainingPlan> {
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
    Ok(parsed.with_context(|| format!("variant {}", cell.variant))?.args.plan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::catalogue;

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
                let name = training.backbone.as_deref().and_then(Path::to_str).unwrap();
                let geometry = training.geometry.unwrap_or(TrainingPlan::GEOMETRY);
                let model = training.variant.model(catalogue::find(name).unwrap().shape(), geometry);
                model.unwrap_or_else(|e| panic!("{}: {}: {e:#}", path.display(), cell.variant));
                let classes = if cell.separate { 1 } else { 2 };
                assert!(training.preset.is_none_or(|preset| preset.check(classes).is_ok()), "{}", path.display());
            }
        }
    }
}
