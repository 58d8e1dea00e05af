//! `dinomaly ablate`: a plan of variants and seeds → the model and metrics of each, and a table that compares them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use super::options::within;
use super::train;
use crate::ablation::plan::{AblationPlan, Given};
use crate::ablation::table::Table;
use crate::ablation::{Ablation, Cell, Encoders};
use crate::system::atomic::check_file;
use crate::system::device::DeviceChoice;
use crate::system::interrupt::Interrupt;
use crate::training::Preset;

/// What a cell trains.
pub(super) use crate::training::TrainingPlan as Training;

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
    /// Paper's hyper-parameters for a data set [default: the plan's]
    #[arg(long, value_parser = super::preset::parser(), value_name = "NAME")]
    preset: Option<Preset>,
    /// Share of good photos held out to set thresholds [default: the plan's, else 0.1]
    #[arg(long, allow_negative_numbers = true, value_parser = within(0.0, 0.5), value_name = "SHARE")]
    holdout: Option<f64>,
    /// Seeds of every variant [default: the plan's, else 1]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    seeds: Vec<u64>,
    /// Device: cpu, cuda, cuda:NUMBER or auto [default: the plan's, else cpu]
    ///
    /// It is no setting of the cells: an ablation may go on on another device.
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
}

/// Parser of a cell's options: those of `train`.
#[derive(Parser)]
struct Train {
    #[command(flatten)]
    args: train::Args,
}

impl Args {
    /// What stands here in place of the plan's.
    fn given(&self) -> Given {
        let text = |text: String| toml::Value::String(text);
        let backbone = self.backbone.as_ref().map(|path| path.display().to_string());
        let options = [
            ("backbone", backbone),
            ("preset", self.preset.map(|preset| preset.name().to_owned())),
            ("holdout", self.holdout.map(|share| share.to_string())),
        ];
        let options = options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), text(value?)))).collect();
        Given { data: self.data.clone(), seeds: self.seeds.clone(), options }
    }
}

/// Trains and evaluates each unfinished cell, and prints the table.
///
/// # Errors
/// If the plan or an option is unusable, which is checked before the first training; as [`Ablation::run`]; if a cell failed, after all others.
pub fn run(args: &Args) -> Result<()> {
    let plan = AblationPlan::read(&args.plan)?;
    let begin = || -> Result<Ablation> {
        let cells = plan.cells(&args.given())?;
        let words: Vec<OsString> = args.device.iter().map(|device| format!("--device={device}").into()).collect();
        let trainings = cells.iter().map(|cell| training(cell, &args.out, &words)).collect::<Result<Vec<_>>>()?;
        Ablation::new(&args.out, cells.into_iter().zip(trainings).collect(), &mut Encoders::default())
    };
    let ablation = begin().with_context(|| format!("plan {} cannot be used", args.plan.display()))?;
    check_file(&args.out.join("table.md"))?;
    let interrupt = Interrupt::listen("finishing this step")?;
    let ran = ablation.run(&interrupt, &mut |cells| Table::new(cells).write(&args.out))?;
    print!("{}", Table::new(&ran.cells).text());
    ran.check()
}

/// A cell as options of `train`. `devices` is `--device` or `--devices`, in place of the cell's, or empty.
pub(super) fn training(cell: &Cell, out: &Path, devices: &[OsString]) -> Result<Training> {
    let is_device = |option: &str| ["--device", "--devices"].contains(&option.split('=').next().unwrap_or_default());
    let kept = |option: &&String| devices.is_empty() || !is_device(option);
    let mut words: Vec<OsString> = vec!["train".into(), "--out".into(), cell.model(out).into()];
    words.extend_from_slice(devices);
    words.push(format!("--seed={}", cell.seed).into());
    words.extend(cell.options.iter().filter(kept).map(OsString::from));
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
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let plans: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
        assert!(plans.len() >= 2, "{plans:?}");
        let given = Given { data: Some(folder), ..Given::default() };
        for path in plans {
            let cells = AblationPlan::read(&path).unwrap().cells(&given).unwrap();
            for cell in cells {
                let mut cell = cell;
                if !cell.options.iter().any(|option| option.starts_with("--backbone=")) {
                    cell.options.push("--backbone=deit-tiny".into());
                }
                let training =
                    training(&cell, Path::new("out"), &[]).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
                let name = training.backbone.as_deref().and_then(Path::to_str).unwrap();
                let geometry = training.geometry.unwrap_or(Training::GEOMETRY);
                let model = training.variant.model(catalogue::find(name).unwrap().shape(), geometry);
                model.unwrap_or_else(|e| panic!("{}: {}: {e:#}", path.display(), cell.variant));
                let classes = if cell.separate { 1 } else { 2 };
                assert!(training.preset.is_none_or(|preset| preset.check(classes).is_ok()), "{}", path.display());
            }
        }
    }

    #[test]
    fn what_the_command_line_gives_wins_over_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan.toml");
        let text = "device = 'cuda'\nholdout = 0.3\nseeds = [1, 2]\nbackbone = 'deit-tiny'\n[[variant]]\nname = 'a'\n";
        std::fs::write(&plan, text).unwrap();
        #[derive(Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let cells = |options: &str| {
            let line = format!("ablate plan.toml --out o --data . {options}");
            let Command { args } = Command::try_parse_from(line.split_whitespace()).unwrap();
            let devices: Vec<OsString> = args.device.iter().map(|device| format!("--device={device}").into()).collect();
            let cells = AblationPlan::read(&plan).unwrap().cells(&args.given()).unwrap();
            let trainings = cells.iter().map(|cell| training(cell, Path::new("o"), &devices).unwrap());
            (trainings.collect::<Vec<_>>(), cells)
        };
        let (trainings, _) = cells("");
        assert_eq!((trainings.len(), trainings[0].holdout), (2, 0.3));
        assert_eq!(trainings[0].devices, [DeviceChoice::Cuda(0)]);
        let (trainings, found) = cells("--device cpu --holdout 0 --seeds 5 --preset visa");
        assert_eq!((trainings.len(), trainings[0].seed, trainings[0].holdout), (1, 5, 0.0));
        assert_eq!((trainings[0].devices.clone(), trainings[0].iterations), (vec![DeviceChoice::Cpu], 10_000));
        assert_eq!(trainings[0].preset.as_ref().map(|choice| choice.preset), Some(Preset::Visa));
        // What is recorded of a cell, and compared when it goes on, is the plan's device.
        let expected = ["--backbone=deit-tiny", "--device=cuda", "--holdout=0", "--preset=visa"];
        assert_eq!(found[0].options, expected);
    }
}
