//! The cells of an ablation, trained and evaluated one after the other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};

use super::{Cell, check_folder};
use crate::dataset::Dataset;
use crate::encoders::backbone::Told;
use crate::encoders::opened::OpenedBackbone;
use crate::inference::AnyDetector;
use crate::inference::evaluation::{Evaluation, evaluate};
use crate::model_dir;
use crate::publish;
use crate::system::device::DeviceChoice;
use crate::system::interrupt::{Interrupt, Stopped};
use crate::system::output;
use crate::training::{self, TrainingPlan};

/// Configs of the encoders that trainings name. Each encoder is opened once.
#[derive(Debug, Default)]
pub struct Encoders(Vec<((Option<PathBuf>, Told), EncoderConfig)>);

impl Encoders {
    /// The model that a training makes.
    ///
    /// # Errors
    /// If its encoder cannot be read, or its variant does not fit the encoder.
    pub fn model(&mut self, training: &TrainingPlan) -> Result<ModelConfig> {
        let wanted = (training.backbone.clone(), training.told());
        let opened = self.0.iter().find(|(opened, _)| *opened == wanted).map(|(_, encoder)| encoder.clone());
        let encoder = match opened {
            Some(encoder) => encoder,
            None => {
                let encoder = OpenedBackbone::open(wanted.0.as_deref(), wanted.1)?.backbone.config;
                self.0.push((wanted, encoder.clone()));
                encoder
            }
        };
        training.variant.model(encoder, training.geometry())
    }
}

/// Cells with their trainings, and the folder that models and metrics go to.
pub struct Ablation {
    out: PathBuf,
    cells: Vec<Cell>,
    trainings: Vec<TrainingPlan>,
}

/// What became of an ablation.
#[derive(Debug)]
pub struct Ran {
    /// All cells. Those that failed have no evaluation.
    pub cells: Vec<Cell>,
    /// Name and error of each cell that failed.
    pub failures: Vec<(String, Error)>,
}

impl Ran {
    /// Success only if no cell failed.
    ///
    /// # Errors
    /// One that names the cells and what the first one failed of.
    pub fn check(&self) -> Result<()> {
        let Some((_, first)) = self.failures.first() else { return Ok(()) };
        let names: Vec<&str> = self.failures.iter().map(|(name, _)| name.as_str()).collect();
        let (failed, count) = (names.len(), self.cells.len());
        Err(Error::msg(format!(
            "{failed} of {count} cells failed ({}; the same command tries them again): {first:#}",
            names.join("; ")
        )))
    }
}

impl Ablation {
    /// Checks that each variant fits its encoder, before the first training.
    ///
    /// # Errors
    /// If a variant does not fit, or an encoder cannot be read; the error names it.
    pub fn new(out: &Path, cells: Vec<(Cell, TrainingPlan)>, encoders: &mut Encoders) -> Result<Self> {
        for (cell, training) in &cells {
            encoders.model(training).with_context(|| format!("variant {}", cell.variant))?;
        }
        let (cells, trainings) = cells.into_iter().unzip();
        Ok(Self { out: out.to_owned(), cells, trainings })
    }

    /// Trains and evaluates each unfinished cell, one after the other. A cell that fails is said and left; the others go on. `write` gets all cells
    /// before the first that is unfinished, if one is finished, and after each.
    ///
    /// # Errors
    /// If the folder holds a run with other settings, or `write` fails; [`Stopped`] after `interrupt`. Finished cells are kept.
    pub fn run(self, interrupt: &Interrupt, write: &mut dyn FnMut(&[Cell]) -> Result<()>) -> Result<Ran> {
        let Self { out, mut cells, trainings } = self;
        check_folder(&out)?;
        for cell in &mut cells {
            cell.take_over(&out)?;
        }
        if cells.iter().any(|cell| cell.evaluation.is_some()) {
            // A run may have been killed between a cell and its tables.
            write(&cells)?;
        }
        let (count, mut failures) = (cells.len(), Vec::new());
        for (i, training) in trainings.iter().enumerate() {
            if cells[i].evaluation.is_some() {
                continue;
            }
            let name = format!("{} seed {}", cells[i].variant, cells[i].seed);
            let numbered = format!("cell {} of {count}: {name}", i + 1);
            println!("{numbered}");
            if interrupt.asked() {
                return Err(Stopped("stopped; the same command resumes".into())).context(numbered);
            }
            match finish(&mut cells[i], training, &out, interrupt) {
                Ok(()) => write(&cells)?,
                Err(error) if error.is::<Stopped>() => return Err(error.context(numbered)),
                Err(error) => {
                    let rest = if i + 1 < count { "; the others go on" } else { "" };
                    output::print_error(format_args!("{numbered} failed{rest}: {error:#}\n"));
                    failures.push((name, error));
                }
            }
        }
        Ok(Ran { cells, failures })
    }
}

/// Trains a cell's unfinished models and evaluates them all.
fn finish(cell: &mut Cell, training: &TrainingPlan, out: &Path, interrupt: &Interrupt) -> Result<()> {
    cell.save(out)?;
    let trainings = if cell.separate { by_class(training)? } else { vec![training.clone()] };
    let mut classes = Vec::new();
    for training in &trainings {
        if let Some(trained) = training::train(training, interrupt)? {
            publish::publish(trained)?;
            println!("model written to {}", training.out.display());
        }
        let model = model_dir::read(&training.out)?;
        let dataset = Dataset::open_as(training.layout, &training.data, &training.classes)?;
        let device = training.devices.first().copied().unwrap_or(DeviceChoice::Cpu);
        let evaluation = match AnyDetector::on(&model, device.open()?)? {
            AnyDetector::Processor(detector) => evaluate(&detector, &dataset)?,
            AnyDetector::Gpu(detector) => evaluate(&detector, &dataset)?,
            AnyDetector::Cuda(detector) => evaluate(&detector, &dataset)?,
        };
        classes.extend(evaluation.classes);
    }
    cell.evaluation = Some(Evaluation::of(classes));
    cell.save(out)
}

/// One training per class, each into a subfolder with the class's name.
fn by_class(training: &TrainingPlan) -> Result<Vec<TrainingPlan>> {
    std::fs::create_dir_all(&training.out).with_context(|| format!("{} cannot be created", training.out.display()))?;
    let dataset = Dataset::open_as(training.layout, &training.data, &training.classes)?;
    Ok(dataset.classes.iter().map(|class| training.of_class(&class.name)).collect())
}
