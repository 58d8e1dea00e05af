//! The tables of the Dinomaly paper (arXiv 2405.14325): [`tables`] holds their rows with the published figures, [`plan`] makes cells of an
//! ablation of them, and [`results`] puts published and found figures side by side, for written tables and a page. [`by_class`] compares
//! a model's evaluation with the tables by class.

pub mod by_class;
mod page;
pub mod plan;
pub mod results;
mod stand_in;
pub mod tables;
mod written;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::ablation::{self, Cell};
use crate::system::atomic::{check_file, write_file};

pub use by_class::{ByClass, Difference};
pub use plan::{Costs, Plan, PlannedRow, Request};
pub use stand_in::StandIns;
pub use tables::{Row, Table};

use results::Results;

/// The files of a table in a folder: Markdown, CSV and page.
fn files(folder: &Path, table: &Table) -> [PathBuf; 3] {
    ["md", "csv", "html"].map(|ending| folder.join(format!("table-{}.{ending}", table.number)))
}

/// Checks that a folder can take the tables and cells of a plan.
///
/// # Errors
/// If it holds something else, or cells of the other kind: those with stand-in encoders never stand beside real ones.
pub fn check_folder(folder: &Path, plan: &Plan) -> Result<()> {
    ablation::check_folder(folder)?;
    plan.tables.iter().flat_map(|(table, _)| files(folder, table)).try_for_each(|file| check_file(&file))?;
    let of_kind = |stand_in| if stand_in { "stand-in encoders" } else { "real encoders" };
    if let Some(other) = ablation::cells(folder).iter().find(|cell| cell.stand_in != plan.stand_in) {
        bail!(
            "{} holds runs with {} ({} seed {}), and these have {}: name another --out",
            folder.display(),
            of_kind(other.stand_in),
            other.variant,
            other.seed,
            of_kind(plan.stand_in)
        );
    }
    Ok(())
}

/// Writes every table of a plan with what its cells found.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, plan: &Plan, cells: &[Cell]) -> Result<()> {
    for (table, rows) in &plan.tables {
        let results = Results::new(plan, table, rows, cells);
        let [markdown, csv, page] = files(folder, table);
        write_file(&markdown, written::markdown(&results).as_bytes())?;
        write_file(&csv, &written::csv(&results)?)?;
        write_file(&page, page::page(&results).as_bytes())?;
    }
    Ok(())
}

/// The tables of a plan for a terminal.
pub fn text(plan: &Plan, cells: &[Cell]) -> String {
    let tables = plan.tables.iter().map(|(table, rows)| written::text(&Results::new(plan, table, rows, cells)));
    tables.collect::<Vec<_>>().join("\n")
}
