//! The cells of an ablation, trained and evaluated one after the other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::table::Table;
use super::{Cell, check_folder};
use crate::dataset::Dataset;
use crate::encoders::opened::OpenedBackbone;
use crate::inference::AnyDetector;
use crate::inference::evaluation::{Evaluation, evaluate};
use crate::model_dir;
use crate::publish;
use crate::system::atomic::{check_file, write_file};
use crate::system::device::DeviceChoice;
use crate::system::interrupt::{Interrupt, Stopped};
use crate::training::{self, TrainingPlan};

/// Cells with their trainings, and the folder that models, metrics and tables go to.
pub struct Ablation {
    out: PathBuf,
    cells: Vec<Cell>,
    trainings: Vec<TrainingPlan>,
}

impl Ablation {
    /// Checks that each variant fits its encoder, before the first training. Each encoder is opened once.
    ///
    /// # Errors
    /// If a variant does not fit, or an encoder cannot be read; the error names it.
    pub fn new(out: &Path, cells: Vec<(Cell, TrainingPlan)>) -> Result<Self> {
        let mut encoders = Vec::new();
        for (cell, training) in &cells {
            let wanted = (&training.backbone, training.told());
            if !encoders.iter().any(|(opened, _)| *opened == wanted) {
                encoders.push((
                    wanted,
                    OpenedBackbone::open(training.backbone.as_deref(), training.told())?.backbone.config,
                ));
            }
            let encoder = encoders.iter().find(|(opened, _)| *opened == wanted).map(|(_, encoder)| encoder.clone());
            let encoder = encoder.context("every backbone was opened")?;
            training
                .variant
                .model(encoder, training.geometry())
                .with_context(|| format!("variant {}", cell.variant))?;
        }
        let (cells, trainings) = cells.into_iter().unzip();
        Ok(Self { out: out.to_owned(), cells, trainings })
    }

    /// Trains and evaluates each unfinished cell, one after the other, and writes the tables after each.
    ///
    /// # Errors
    /// If the folder holds a run with other settings; if training or evaluation fails, with the cell's name; [`Stopped`] after
    /// `interrupt`. Finished cells are kept.
    pub fn run(self, interrupt: &Interrupt) -> Result<Vec<Cell>> {
        let Self { out, mut cells, trainings } = self;
        check_folder(&out)?;
        check_file(&out.join("table.md"))?;
        for cell in &mut cells {
            cell.take_over(&out)?;
        }
        if cells.iter().any(|cell| cell.evaluation.is_some()) {
            // A run may have been killed between a cell and its tables.
            write_tables(&Table::new(&cells), &out)?;
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
            finish(&mut cells[i], training, &out, interrupt).with_context(|| name.clone())?;
            write_tables(&Table::new(&cells), &out)?;
        }
        Ok(cells)
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

fn write_tables(table: &Table<'_>, out: &Path) -> Result<()> {
    write_file(&out.join("table.md"), table.markdown().as_bytes())?;
    write_file(&out.join("table.csv"), &table.csv()?)
}
