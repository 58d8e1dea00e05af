//! Ablations: variants × seeds of one training, as in the paper's tables. [`plan`] reads the plan, and [`table`] prints the results.
//! This file keeps the state of each run, so that an interrupted ablation resumes.

pub mod plan;
mod run;
pub mod table;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::inference::evaluation::Evaluation;
use crate::system::atomic::write_file;
use crate::system::ownership::walk;

pub use run::{Ablation, Encoders, Ran};

/// Name of the folder of cells, which is the first content of an ablation's folder.
pub const CELLS: &str = "cells";

/// Name of the folder of encoders with random weights, which may lie in an ablation's folder before any cell.
pub const STAND_INS: &str = "stand-ins";

/// Checks that an ablation may be written to a folder: it is missing, empty, or has the cells of an ablation.
///
/// # Errors
/// If the folder has other contents; the error names it.
pub fn check_folder(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    // A run that was killed at its beginning leaves a folder for cells without any.
    let mut entries = std::fs::read_dir(folder)?;
    let is_own = |name: &OsStr| name == CELLS || name == STAND_INS;
    let only_own = entries.all(|entry| entry.is_ok_and(|entry| is_own(&entry.file_name())));
    if only_own && (!folder.join(CELLS).is_dir() || walk(&folder.join(CELLS))?.is_empty()) {
        return Ok(());
    }
    if cells(folder).is_empty() {
        bail!("{} is not empty and not an ablation (it has no {CELLS}): choose another folder", folder.display());
    }
    Ok(())
}

/// The cells whose state stands in an ablation's folder, in no order.
pub fn cells(folder: &Path) -> Vec<Cell> {
    let files = std::fs::read_dir(folder.join(CELLS)).into_iter().flatten();
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    files.filter_map(|file| read(file.ok()?.path())).collect()
}

/// One training and its evaluation: a variant with a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the training.
    pub seed: u64,
    /// Folder of the photos.
    pub data: PathBuf,
    /// Options of `train` except the seed, such as `--dropout=0`, in alphabetical order.
    pub options: Vec<String>,
    /// Whether each class has its own model.
    #[serde(default)]
    pub separate: bool,
    /// Whether its encoder is one with random weights, so that its result says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stand_in: bool,
    /// Result of the evaluation; `None` until the cell is finished.
    pub evaluation: Option<Evaluation>,
}

impl Cell {
    /// Name of the cell's file and folder: `VARIANT-seed-N` in lower case, with hyphens for all but letters and digits.
    pub fn file_name(&self) -> String {
        format!("{}-seed-{}", plan::plain(&self.variant), self.seed)
    }

    /// The folder of its model in the ablation's folder, or of its classes' models.
    pub fn model(&self, folder: &Path) -> PathBuf {
        folder.join("models").join(self.file_name())
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(CELLS).join(self.file_name() + ".json")
    }

    /// Takes over the state of an earlier run of the cell from an ablation's folder.
    ///
    /// # Errors
    /// If the state is damaged or has other settings; the error names the cell and a setting that differs.
    pub fn take_over(&mut self, folder: &Path) -> Result<()> {
        let file = self.file(folder);
        if !file.exists() {
            return Ok(());
        }
        let read = || -> Result<Self> { Ok(serde_json::from_slice(&std::fs::read(&file)?)?) };
        let earlier =
            read().with_context(|| format!("{} is damaged: delete it to start the cell over", file.display()))?;
        if let Some(difference) = self.difference(&earlier) {
            bail!(
                "cell {} seed {} in {} was begun with other settings ({difference}): \
                 name another --out, or delete {} and {} to begin it anew",
                self.variant,
                self.seed,
                folder.display(),
                file.display(),
                self.model(folder).display(),
            );
        }
        self.evaluation = earlier.evaluation;
        Ok(())
    }

    /// Writes the state of the cell to an ablation's folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_file(&self.file(folder), &serde_json::to_vec_pretty(self)?)
    }

    /// A setting that differs in an earlier run of the cell.
    fn difference(&self, earlier: &Self) -> Option<String> {
        if self.data != earlier.data {
            return Some(format!("photos of {}, now of {}", earlier.data.display(), self.data.display()));
        }
        if self.separate != earlier.separate {
            let shown = |separate| if separate { "a model for each class" } else { "one model for all classes" };
            return Some(format!("{}, now {}", shown(earlier.separate), shown(self.separate)));
        }
        if self.stand_in != earlier.stand_in {
            let shown = |stand_in| if stand_in { "a stand-in encoder" } else { "a real encoder" };
            return Some(format!("{}, now {}", shown(earlier.stand_in), shown(self.stand_in)));
        }
        let other = |options: &[String], than: &[String]| options.iter().find(|o| !than.contains(o)).cloned();
        let (was, is) = (other(&earlier.options, &self.options), other(&self.options, &earlier.options));
        let shown = |option: Option<String>| option.unwrap_or_else(|| "its default".into());
        (was.is_some() || is.is_some()).then(|| format!("{}, now {}", shown(was), shown(is)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(options: &[&str]) -> Cell {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let (variant, data) = ("No noise!".into(), "photos".into());
        Cell { variant, seed: 2, data, options, separate: false, stand_in: false, evaluation: None }
    }

    #[test]
    fn a_cell_goes_on_with_its_own_settings_alone() {
        let folder = tempfile::tempdir().unwrap();
        let take_over = |cell: &Cell| cell.clone().take_over(folder.path()).map_err(|e| e.to_string());
        let usual = cell(&["--batch=4", "--dropout=0"]);
        assert_eq!(usual.file_name(), "no-noise--seed-2");
        take_over(&usual).unwrap();
        usual.save(folder.path()).unwrap();
        take_over(&usual).unwrap();
        let error = take_over(&cell(&["--batch=4", "--dropout=0.1"])).unwrap_err();
        assert!(error.contains("cell No noise! seed 2") && error.contains("--dropout=0, now --dropout=0.1"), "{error}");
        let error = take_over(&cell(&["--batch=4"])).unwrap_err();
        assert!(error.contains("--dropout=0, now its default"), "{error}");
        let error = take_over(&Cell { data: "others".into(), ..usual.clone() }).unwrap_err();
        assert!(error.contains("photos of photos, now of others"), "{error}");
        let error = take_over(&Cell { separate: true, ..usual.clone() }).unwrap_err();
        assert!(error.contains("one model for all classes, now a model for each class"), "{error}");
        let error = take_over(&Cell { stand_in: true, ..usual.clone() }).unwrap_err();
        assert!(error.contains("a real encoder, now a stand-in encoder"), "{error}");
        std::fs::write(folder.path().join("cells/no-noise--seed-2.json"), "{").unwrap();
        assert!(take_over(&usual).unwrap_err().contains("no-noise--seed-2.json is damaged"));
    }
}
