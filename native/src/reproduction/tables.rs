//! The paper's tables as data: `native/reproduction/NUMBER.toml`, one file for each. `tests/peers/paper_tables.py` compares them with a text
//! of the paper.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use dinomaly_core::maps::metrics::Metrics;
use serde::Deserialize;

use crate::dataset::published::DataSet;
use crate::training::Preset;

/// Number and contents of each table's file.
const FILES: [(&str, &str); 24] = [
    ("1", include_str!("../../reproduction/1.toml")),
    ("2", include_str!("../../reproduction/2.toml")),
    ("3", include_str!("../../reproduction/3.toml")),
    ("4", include_str!("../../reproduction/4.toml")),
    ("5", include_str!("../../reproduction/5.toml")),
    ("A1", include_str!("../../reproduction/A1.toml")),
    ("A2", include_str!("../../reproduction/A2.toml")),
    ("A3", include_str!("../../reproduction/A3.toml")),
    ("A4", include_str!("../../reproduction/A4.toml")),
    ("A5", include_str!("../../reproduction/A5.toml")),
    ("A6", include_str!("../../reproduction/A6.toml")),
    ("A7", include_str!("../../reproduction/A7.toml")),
    ("A8", include_str!("../../reproduction/A8.toml")),
    ("A9", include_str!("../../reproduction/A9.toml")),
    ("A10", include_str!("../../reproduction/A10.toml")),
    ("A11", include_str!("../../reproduction/A11.toml")),
    ("A12", include_str!("../../reproduction/A12.toml")),
    ("A13", include_str!("../../reproduction/A13.toml")),
    ("A14", include_str!("../../reproduction/A14.toml")),
    ("A15", include_str!("../../reproduction/A15.toml")),
    ("A16", include_str!("../../reproduction/A16.toml")),
    ("A17", include_str!("../../reproduction/A17.toml")),
    ("A18", include_str!("../../reproduction/A18.toml")),
    ("A19", include_str!("../../reproduction/A19.toml")),
];

/// What each figure shows, and how it is had here.
const FIGURES: &str = include_str!("../../reproduction/figures.toml");

/// The encoder of rows that do not name theirs.
const USUAL_ENCODER: &str = "dinov2-reg-base";

/// A table of the paper.
#[derive(Debug)]
pub struct Table {
    /// Its number in the paper, such as `3` or `A12`.
    pub number: &'static str,
    /// What it compares.
    pub title: String,
    /// Digits after the point in the paper.
    pub decimals: usize,
    /// Its metrics, as places in [`Metrics::NAMES`].
    pub metrics: Vec<usize>,
    /// What a reader must know to compare.
    pub notes: Vec<String>,
    /// Its rows, in the paper's order.
    pub rows: Vec<Row>,
}

/// A row of a table: what was trained, on what, and the published figures.
#[derive(Debug)]
pub struct Row {
    /// Name in the table; the same in several data sets.
    pub name: String,
    /// The data set.
    pub data: DataSet,
    /// Method that the paper compares with and that is not computed here; `None` for Dinomaly and ViTAD.
    pub method: Option<String>,
    /// Hyper-parameters.
    pub preset: Preset,
    /// Name of the encoder in the catalogue.
    pub encoder: String,
    /// Whether each class has a model of its own.
    pub separate: bool,
    /// Options of `train` that differ from the preset's.
    pub options: toml::Table,
    /// Seeds of its own; the usual one if empty.
    pub seeds: Vec<u64>,
    /// The only class that it tells of; the mean over all classes if omitted.
    pub class: Option<String>,
    /// Published figures in percent, one for each of the table's metrics; NaN where the paper has none.
    pub published: Vec<f64>,
    /// Published standard deviations over the seeds, or empty.
    pub deviation: Vec<f64>,
    /// Published number of parameters, in millions.
    pub parameters: Option<f64>,
    /// Published multiply-accumulates of a photo, in thousands of millions.
    pub macs: Option<f64>,
    /// Published photos a second.
    pub speed: Option<f64>,
}

/// A figure of the paper.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Its number in the paper.
    pub number: String,
    /// What it shows.
    pub title: String,
    /// How it is had here.
    pub how: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    title: String,
    decimals: usize,
    data: Option<DataSet>,
    metrics: Option<Vec<String>>,
    #[serde(default)]
    notes: Vec<String>,
    rows: Vec<RowInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowInFile {
    name: String,
    data: Option<DataSet>,
    method: Option<String>,
    preset: Option<String>,
    encoder: Option<String>,
    #[serde(default)]
    separate: bool,
    #[serde(default)]
    options: toml::Table,
    #[serde(default)]
    seeds: Vec<u64>,
    class: Option<String>,
    published: Vec<f64>,
    #[serde(default)]
    deviation: Vec<f64>,
    parameters: Option<f64>,
    macs: Option<f64>,
    speed: Option<f64>,
}

#[derive(Deserialize)]
struct FiguresFile {
    figures: Vec<Figure>,
}

/// Every table, in the paper's order.
///
/// # Panics
/// If a built-in file is malformed, which a test excludes.
pub fn all() -> &'static [Table] {
    static ALL: LazyLock<Vec<Table>> = LazyLock::new(|| {
        let read = |(number, text)| Table::read(number, text).unwrap_or_else(|e| panic!("Table {number}: {e:#}"));
        FILES.into_iter().map(read).collect()
    });
    &ALL
}

/// Every figure, in the paper's order.
///
/// # Panics
/// If the built-in file is malformed, which a test excludes.
pub fn figures() -> Vec<Figure> {
    toml::from_str::<FiguresFile>(FIGURES).expect("the built-in list of figures is well-formed").figures
}

/// A table by its number: `3`, `A12`.
///
/// # Errors
/// If there is none.
pub fn find(number: &str) -> Result<&'static Table> {
    let found = all().iter().find(|table| table.number.eq_ignore_ascii_case(number.trim()));
    found.with_context(|| format!("the paper has no Table {number}: expected 1 to 5 or A1 to A19"))
}

impl Table {
    fn read(number: &'static str, text: &str) -> Result<Self> {
        let file: TableFile = toml::from_str(text)?;
        let names = file.metrics.unwrap_or_else(|| Metrics::NAMES.map(str::to_owned).to_vec());
        let place = |name: &String| {
            let found = Metrics::NAMES.iter().position(|known| known == name);
            found.with_context(|| format!("there is no metric {name}"))
        };
        let metrics = names.iter().map(place).collect::<Result<Vec<_>>>()?;
        let row = |row: RowInFile| {
            let name = row.name.clone();
            row.resolve(file.data, metrics.len()).with_context(|| name)
        };
        let rows = file.rows.into_iter().map(row).collect::<Result<_>>()?;
        Ok(Self { number, title: file.title, decimals: file.decimals, metrics, notes: file.notes, rows })
    }

    /// The data sets of all rows, in the paper's order.
    pub fn data_sets(&self) -> Vec<DataSet> {
        self.rows.iter().map(|row| row.data).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The encoders of rows that are computed here, in the table's order.
    pub fn encoders(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| row.method.is_none()) {
            if !names.contains(&row.encoder.as_str()) {
                names.push(&row.encoder);
            }
        }
        names
    }
}

impl RowInFile {
    fn resolve(self, data: Option<DataSet>, metrics: usize) -> Result<Row> {
        let data = self.data.or(data).context("it names no data set")?;
        if self.published.len() != metrics || ![0, metrics].contains(&self.deviation.len()) {
            bail!("it has {} published figures, expected {metrics}", self.published.len());
        }
        let usual = format!("{}{}", data.name(), if self.separate { "-separate" } else { "" });
        let name = self.preset.unwrap_or(usual);
        let preset = Preset::ALL.into_iter().find(|preset| preset.name() == name);
        Ok(Row {
            name: self.name,
            data,
            method: self.method,
            preset: preset.with_context(|| format!("there is no preset {name}"))?,
            encoder: self.encoder.unwrap_or_else(|| USUAL_ENCODER.to_owned()),
            separate: self.separate,
            options: self.options,
            seeds: self.seeds,
            class: self.class,
            published: self.published,
            deviation: self.deviation,
            parameters: self.parameters,
            macs: self.macs,
            speed: self.speed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::catalogue;

    #[test]
    fn every_table_is_well_formed() {
        assert_eq!(all().len(), 24);
        let rows: usize = all().iter().map(|table| table.rows.len()).sum();
        assert_eq!(rows, 318);
        for table in all() {
            for (i, row) in table.rows.iter().enumerate() {
                let said = format!("Table {}, {}", table.number, row.name);
                // --rows separates names by commas.
                assert!(!row.name.contains(','), "{said}");
                let twin = table.rows[..i].iter().any(|other| (&other.name, other.data) == (&row.name, row.data));
                assert!(!twin, "{said}: twice");
                assert!(catalogue::find(&row.encoder).is_ok(), "{said}");
                assert!(row.published.iter().all(|value| value.is_nan() || (0.0..=100.0).contains(value)), "{said}");
                let class = row.class.as_deref();
                assert!(class.is_none_or(|class| row.data.classes().contains(&class)), "{said}");
            }
        }
        assert_eq!(find("a12").unwrap().rows.len(), 6);
        assert!(find("7").unwrap_err().to_string().contains("no Table 7: expected 1 to 5 or A1 to A19"));
        assert!(figures().len() >= 8);
    }

    /// The printed mean is that of the classes, as far as digits tell; each class of the data set has its row.
    #[test]
    fn classes_give_the_printed_mean() {
        let mut compared = 0;
        for table in all().iter().filter(|table| table.rows.iter().any(|row| row.class.is_some())) {
            let classes: Vec<&Row> = table.rows.iter().filter(|row| row.class.is_some()).collect();
            assert_eq!(classes.len(), classes[0].data.classes().len(), "Table {}", table.number);
            let mean = table.rows.iter().find(|row| row.class.is_none()).unwrap();
            for metric in 0..table.metrics.len() {
                let sum: f64 = classes.iter().map(|row| row.published[metric]).sum();
                let difference = sum / classes.len() as f64 - mean.published[metric];
                assert!(difference.abs() < 0.1001, "Table {}, metric {metric}: {difference}", table.number);
                compared += 1;
            }
        }
        assert_eq!(compared, 3 * 7);
    }

    /// Table A12: the published deviation is divided by n, not by n − 1.
    #[test]
    fn the_published_deviation_is_that_of_the_seeds() {
        let table = find("A12").unwrap();
        let all = table.rows.last().unwrap();
        assert_eq!(all.seeds, [1, 2, 3, 4, 5]);
        for metric in 0..7 {
            let values: Vec<f64> = table.rows[..5].iter().map(|row| row.published[metric]).collect();
            let spread = crate::ablation::table::Spread::of(&values).unwrap();
            assert!((spread.mean - all.published[metric]).abs() < 0.0051, "{metric}");
            assert!((spread.std_by_n().unwrap() - all.deviation[metric]).abs() < 0.0051, "{metric}");
        }
    }
}
