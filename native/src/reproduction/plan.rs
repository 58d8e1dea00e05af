//! Rows of the paper's tables → cells of an ablation. A cell's name says all that is trained, so that rows of several tables that are the same
//! training share one cell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::{Architecture, ModelConfig};
use toml::Value;

use super::stand_in::StandIns;
use super::tables::{Row, Table};
use crate::ablation::Cell;
use crate::ablation::plan::option;
use crate::costs;
use crate::dataset::published::DataSet;
use crate::encoders::backbone::Origin;
use crate::encoders::catalogue;
use crate::training::Preset;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Folder of each data set that is there.
    pub data: BTreeMap<DataSet, PathBuf>,
    /// Names of the rows to compute; all if empty.
    pub rows: Vec<String>,
    /// Seeds of rows that have none of their own; 1, as in the paper, if empty.
    pub seeds: Vec<u64>,
    /// Files of encoders, by name in the catalogue.
    pub encoders: BTreeMap<String, PathBuf>,
    /// Options of `train` for every row, such as `precision`.
    pub options: toml::Table,
    /// Encoders with random weights in place of the real ones.
    pub stand_ins: Option<StandIns>,
}

/// Tables with what becomes of their rows.
#[derive(Debug)]
pub struct Plan {
    /// The tables, and for each of its rows what becomes of it.
    pub tables: Vec<(&'static Table, Vec<PlannedRow>)>,
    /// Whether encoders have random weights.
    pub stand_in: bool,
    /// The trainings, ordered by seed; each once.
    pub cells: Vec<Cell>,
    /// Costs of cells' models, by the names of their files, as far as they are known.
    pub costs: BTreeMap<String, Costs>,
}

/// Size of a model and its work on a photo, as the paper counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Parameters with all encoder blocks, in millions.
    pub parameters: f64,
    /// Multiply-accumulates without products in attention, in thousands of millions.
    pub macs: f64,
}

impl Costs {
    /// Of a model of photos of `grid × grid` patches.
    ///
    /// # Errors
    /// If the config contradicts itself.
    pub fn of(model: ModelConfig, grid: usize) -> Result<Self> {
        let model = Architecture::from(model);
        let parts = costs::parts(&model, grid)?;
        let parameters = parts.iter().map(|part| part.parameters).sum::<usize>() + costs::parameters_left_out(&model)?;
        let macs = parts.iter().map(|part| part.linear).sum::<u64>();
        Ok(Self { parameters: parameters as f64 / 1e6, macs: macs as f64 / 1e9 })
    }
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedRow {
    /// It is computed: names of its cells' files ([`Cell::file_name`]), by seed.
    Cells(Vec<String>),
    /// It is not, for this reason.
    Left(String),
}

/// Why a method that the paper compares with is not computed here.
fn missing(method: &str) -> &'static str {
    match method {
        "RD4AD" => {
            "the WideResNet50 encoder, its one-class bottleneck embedding and its convolutional decoder are missing"
        }
        "ReContrast" => "the two WideResNet50 encoders and their cross-reconstruction are missing",
        "UniAD" => "the EfficientNet encoder and the query decoder are missing",
        _ => "it is another method",
    }
}

impl Plan {
    /// What becomes of the rows of tables.
    ///
    /// # Errors
    /// If a folder of photos does not exist, or a row is asked for that no table has.
    pub fn new(tables: &[&'static Table], request: &Request) -> Result<Self> {
        check_names(tables, &request.rows)?;
        let mut folders = BTreeMap::new();
        for (&set, path) in &request.data {
            let found = path.canonicalize();
            folders.insert(set, found.with_context(|| format!("{} cannot be opened", path.display()))?);
        }
        let stand_in = request.stand_ins.is_some();
        let mut plan = Self { tables: Vec::new(), stand_in, cells: Vec::new(), costs: BTreeMap::new() };
        for &table in tables {
            let rows = table.rows.iter().map(|row| plan.row(row, request, &folders)).collect::<Result<_>>()?;
            plan.tables.push((table, rows));
        }
        plan.cells.sort_by_key(|cell| cell.seed);
        Ok(plan)
    }

    fn row(&mut self, row: &Row, request: &Request, folders: &BTreeMap<DataSet, PathBuf>) -> Result<PlannedRow> {
        if let Some(method) = &row.method {
            return Ok(PlannedRow::Left(format!("{method} is not computed here: {}", missing(method))));
        }
        if !request.rows.is_empty() && !request.rows.iter().any(|name| is_named(row, name)) {
            return Ok(PlannedRow::Left("not asked for (--rows)".into()));
        }
        let Some(data) = folders.get(&row.data) else {
            let (set, title) = (row.data.name(), row.data.title());
            return Ok(PlannedRow::Left(format!("{title} is not given: --data {set}=PATH")));
        };
        let usual: &[u64] = if request.seeds.is_empty() { &[1] } else { &request.seeds };
        let seeds: &[u64] = if row.seeds.is_empty() { usual } else { &row.seeds };
        let mut names = Vec::new();
        for &seed in seeds {
            let cell = cell(row, seed, data, request)?;
            names.push(cell.file_name());
            if !self.cells.iter().any(|other| other.file_name() == cell.file_name()) {
                self.cells.push(cell);
            }
        }
        Ok(PlannedRow::Cells(names))
    }

    /// Leaves out the cells of these names ([`Cell::file_name`]), each for its reason, and every row that needs one.
    pub fn leave(&mut self, reasons: &BTreeMap<String, String>) {
        self.cells.retain(|cell| !reasons.contains_key(&cell.file_name()));
        for row in self.tables.iter_mut().flat_map(|(_, rows)| rows) {
            let PlannedRow::Cells(names) = row else { continue };
            if let Some(reason) = names.iter().find_map(|name| reasons.get(name)) {
                *row = PlannedRow::Left(reason.clone());
            }
        }
    }

    /// Lines that say which rows of each table are computed and why the others are not.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (table, planned) in &self.tables {
            let computed = planned.iter().filter(|row| matches!(row, PlannedRow::Cells(_))).count();
            text += &format!("Table {}: {} ({computed} of {} rows)\n", table.number, table.title, table.rows.len());
            for (reason, rows) in left(table, planned) {
                text += &format!("  not computed: {}: {reason}\n", rows.join(", "));
            }
        }
        text
    }
}

/// Reasons why rows of a table are not computed, each with the names of its rows, in the table's order.
pub fn left(table: &Table, planned: &[PlannedRow]) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (row, planned) in table.rows.iter().zip(planned) {
        let PlannedRow::Left(reason) = planned else { continue };
        let name = if table.data_sets().len() > 1 {
            format!("{} on {}", row.name, row.data.title())
        } else {
            row.name.clone()
        };
        match found.iter_mut().find(|(other, _)| other == reason) {
            Some((_, rows)) => rows.push(name),
            None => found.push((reason.clone(), vec![name])),
        }
    }
    found
}

fn is_named(row: &Row, name: &str) -> bool {
    row.name.to_lowercase() == name.trim().to_lowercase()
}

fn check_names(tables: &[&Table], names: &[String]) -> Result<()> {
    let rows = || tables.iter().flat_map(|table| &table.rows);
    if let Some(unknown) = names.iter().find(|name| !rows().any(|row| is_named(row, name))) {
        let mut known: Vec<&str> = Vec::new();
        rows().for_each(|row| {
            if !known.contains(&row.name.as_str()) {
                known.push(&row.name)
            }
        });
        bail!("there is no row {unknown}: the rows are {}", known.join(", "));
    }
    Ok(())
}

/// The training of a row with a seed.
fn cell(row: &Row, seed: u64, data: &Path, request: &Request) -> Result<Cell> {
    let preset = row.preset.name();
    let mut own = row.options.clone();
    let mut name = format!("{} {}", row.data.name(), row.encoder);
    if row.separate {
        name += " separate";
    }
    if row.preset == Preset::Vitad {
        name += " vitad";
    }
    for (key, value) in &row.options {
        let said = option(key, value).with_context(|| format!("row {}", row.name))?.unwrap_or_default();
        name += &format!(" {}", said.trim_start_matches('-').replacen('=', " ", 1));
    }
    let backbone = match &request.stand_ins {
        Some(stand_ins) => {
            name = format!("stand-in {name}");
            own.extend(StandIns::options(row));
            stand_ins.file(&row.encoder)
        }
        None => match request.encoders.get(&row.encoder) {
            // Read as the catalogue reads it.
            Some(file) => {
                own.insert("origin".into(), Value::String(Origin::Original.name().into()));
                own.insert("heads".into(), Value::Integer(catalogue::find(&row.encoder)?.heads as i64));
                file.clone()
            }
            None => row.encoder.clone().into(),
        },
    };
    let mut options = toml::Table::from_iter([
        ("preset".to_owned(), Value::String(preset.to_owned())),
        ("backbone".to_owned(), Value::String(backbone.display().to_string())),
    ]);
    options.extend(request.options.clone());
    options.extend(own);
    let said = options.iter().map(|(key, value)| option(key, value)).collect::<Result<Vec<_>>>();
    let options = said.with_context(|| format!("row {}", row.name))?.into_iter().flatten().collect();
    Ok(Cell {
        variant: name,
        seed,
        data: data.to_owned(),
        options,
        separate: row.separate,
        stand_in: request.stand_ins.is_some(),
        evaluation: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tables::{all, find};
    use super::*;

    fn request(sets: &[DataSet]) -> Request {
        let data = sets.iter().map(|&set| (set, PathBuf::from("."))).collect();
        Request { data, ..Request::default() }
    }

    fn reason(table: &str, row: &str, request: &Request) -> String {
        let plan = Plan::new(&[find(table).unwrap()], request).unwrap();
        let (table, rows) = &plan.tables[0];
        let place = table.rows.iter().position(|other| other.name == row).unwrap();
        match &rows[place] {
            PlannedRow::Left(reason) => reason.clone(),
            PlannedRow::Cells(cells) => panic!("{cells:?}"),
        }
    }

    #[test]
    fn a_row_that_is_not_computed_says_why() {
        let mvtec = request(&[DataSet::Mvtec]);
        let rd4ad = "RD4AD is not computed here: the WideResNet50 encoder";
        assert!(reason("A9", "RD4AD + NB", &mvtec).starts_with(rd4ad));
        assert_eq!(reason("A4", "NB", &mvtec), "VisA is not given: --data visa=PATH");
        let some = Request { rows: vec!["nb + la".into()], ..mvtec.clone() };
        assert_eq!(reason("3", "NB", &some), "not asked for (--rows)");
        let plan = Plan::new(&[find("3").unwrap()], &some).unwrap();
        assert_eq!(plan.cells.len(), 1);
        let none = Request { rows: vec!["NX".into()], ..mvtec.clone() };
        let error = Plan::new(&[find("3").unwrap()], &none).unwrap_err().to_string();
        assert!(error.starts_with("there is no row NX: the rows are none, NB, LA"), "{error}");
        let nowhere = Request { data: [(DataSet::Mvtec, "nowhere".into())].into(), ..Request::default() };
        let error = format!("{:#}", Plan::new(&[find("3").unwrap()], &nowhere).unwrap_err());
        assert!(error.starts_with("nowhere cannot be opened"), "{error}");
    }

    #[test]
    fn the_same_training_is_one_cell_in_all_tables() {
        let numbers = ["3", "4", "A5", "A12"];
        let tables: Vec<&Table> = numbers.iter().map(|number| find(number).unwrap()).collect();
        let plan = Plan::new(&tables, &request(&[DataSet::Mvtec])).unwrap();
        // 10 + 3 + 6 + 5 seeds, of which the default is in each table.
        assert_eq!(plan.cells.len(), 10 + 2 + 5 + 4);
        let default = "mvtec-dinov2-reg-base-seed-1".to_owned();
        let shared = |number: usize, row: usize| plan.tables[number].1[row].clone();
        for (table, row) in [(0, 9), (1, 1), (2, 2), (3, 0)] {
            assert_eq!(shared(table, row), PlannedRow::Cells(vec![default.clone()]), "{table}");
        }
        assert!(matches!(shared(3, 5), PlannedRow::Cells(cells) if cells.len() == 5));
        let seeds = Request { seeds: vec![7, 8], ..request(&[DataSet::Mvtec]) };
        let plan = Plan::new(&[find("A5").unwrap(), find("A12").unwrap()], &seeds).unwrap();
        assert_eq!(plan.cells.len(), 12 + 5, "the rows of Table A12 keep their own seeds");
    }

    #[test]
    fn a_cell_that_is_left_out_takes_its_rows_with_it() {
        let mut plan = Plan::new(&[find("4").unwrap()], &request(&[DataSet::Mvtec])).unwrap();
        let name = plan.cells[2].file_name();
        plan.leave(&[(name, "dinov2-reg-large has not been fetched".to_owned())].into());
        assert_eq!(plan.cells.len(), 2);
        let summary = plan.summary();
        assert!(summary.contains("(2 of 3 rows)"), "{summary}");
        assert!(summary.contains("not computed: ViT-Large: dinov2-reg-large has not been fetched"), "{summary}");
    }

    #[test]
    fn a_given_file_is_read_as_the_encoder_of_its_name() {
        let encoders = [("ibot-base".to_owned(), "teacher.pth".into())].into();
        let request = Request { encoders, rows: vec!["iBOT R256-C224".into()], ..request(&[DataSet::Mvtec]) };
        let plan = Plan::new(&[find("A1").unwrap()], &request).unwrap();
        let expected = ["--backbone=teacher.pth", "--crop=224", "--heads=12", "--origin=original", "--preset=mvtec"];
        assert_eq!(plan.cells[0].options[..5], expected);
    }

    /// No two trainings have one name.
    #[test]
    fn cells_of_one_name_have_the_same_settings() {
        let plan = Plan::new(&all().iter().collect::<Vec<_>>(), &request(&DataSet::ALL)).unwrap();
        let mut computed = 0;
        for table in all() {
            for row in table.rows.iter().filter(|row| row.method.is_none()) {
                let name = cell(row, 1, Path::new("."), &request(&DataSet::ALL)).unwrap();
                let twin = plan.cells.iter().find(|other| other.file_name() == name.file_name());
                // Rows of Table A12 have other seeds.
                let twin = twin.unwrap_or_else(|| panic!("Table {}: {}", table.number, row.name));
                assert_eq!((&twin.options, twin.separate), (&name.options, name.separate), "{}", row.name);
                computed += 1;
            }
        }
        assert!(computed > 200, "{computed}");
    }
}
