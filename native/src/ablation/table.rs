//! Results of an ablation: mean and standard deviation over the seeds of each variant.

use std::path::Path;

use anyhow::Result;
use dinomaly_core::maps::metrics::Metrics;

use super::Cell;
use crate::system::atomic::write_file;
use crate::system::table::align;

/// Finished cells as tables, in percent.
pub struct Table<'a> {
    /// Variants in the plan's order, with their finished cells.
    rows: Vec<(&'a str, Vec<&'a Cell>)>,
    /// The mean over classes, then each class.
    parts: Vec<String>,
}

/// Name of the mean over classes in the list of parts.
const MEAN: &str = "mean";

/// Mean and sample standard deviation (divided by n − 1), which one value does not have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: Option<f64>,
    /// Number of values.
    pub count: usize,
}

impl Spread {
    /// Mean and deviation of values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, std, count: values.len() })
    }

    /// The standard deviation of the values alone (divided by n), which one value does not have.
    pub fn std_by_n(&self) -> Option<f64> {
        let count = self.count as f64;
        self.std.map(|std| std * ((count - 1.0) / count).sqrt())
    }
}

impl<'a> Table<'a> {
    /// The tables of the finished cells.
    pub fn new(cells: &'a [Cell]) -> Self {
        let mut rows: Vec<(&str, Vec<&Cell>)> = Vec::new();
        for cell in cells.iter().filter(|cell| cell.evaluation.is_some()) {
            match rows.iter_mut().find(|(variant, _)| *variant == cell.variant) {
                Some((_, row)) => row.push(cell),
                None => rows.push((&cell.variant, vec![cell])),
            }
        }
        let mut parts = vec![MEAN.to_owned()];
        for class in cells.iter().filter_map(|cell| cell.evaluation.as_ref()).flat_map(|found| &found.classes) {
            if !parts.contains(&class.class) {
                parts.push(class.class.clone());
            }
        }
        if parts.len() == 2 {
            // The mean over one class is enough.
            parts.truncate(1);
        }
        Self { rows, parts }
    }

    /// The table of means over classes, for a terminal.
    pub fn text(&self) -> String {
        let mut rows = vec![heads()];
        rows.extend(self.rows.iter().map(|row| shown(row, MEAN)));
        align(&rows)
    }

    /// Markdown tables: one of the means over classes, and one per class if there are several.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let mut text = String::from("Percent, mean ± standard deviation over seeds.\n");
        for part in &self.parts {
            let title = if part == MEAN { "Mean over classes".to_owned() } else { format!("Class {part}") };
            text += &format!("\n{title}:\n\n{}|---|{}\n", line(&heads()), "---:|".repeat(heads().len() - 1));
            self.rows.iter().for_each(|row| text += &line(&shown(row, part)));
        }
        text
    }

    /// Writes both tables to an ablation's folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_file(&folder.join("table.md"), self.markdown().as_bytes())?;
        write_file(&folder.join("table.csv"), &self.csv()?)
    }

    /// CSV with a line per variant and part: mean and standard deviation of each metric, empty if undefined.
    ///
    /// # Errors
    /// None at present.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let metrics = Metrics::NAMES.iter().flat_map(|name| [(*name).to_owned(), format!("{name} std")]);
        writer.write_record(["variant", "class", "seeds"].map(str::to_owned).into_iter().chain(metrics))?;
        for row in &self.rows {
            for part in &self.parts {
                let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{:.4}", 100.0 * value));
                let values = spreads(row, part).into_iter().flat_map(|spread| {
                    [number(spread.map(|spread| spread.mean)), number(spread.and_then(|spread| spread.std))]
                });
                let begin = [row.0.to_owned(), part.clone(), row.1.len().to_string()];
                writer.write_record(begin.into_iter().chain(values))?;
            }
        }
        Ok(writer.into_inner()?)
    }
}

fn heads() -> Vec<String> {
    ["variant", "seeds"].iter().chain(&Metrics::NAMES).map(|&name| name.to_owned()).collect()
}

/// A row for Markdown and the terminal.
fn shown(row: &(&str, Vec<&Cell>), part: &str) -> Vec<String> {
    let spread = |spread: Option<Spread>| match spread {
        None => "-".to_owned(),
        Some(Spread { mean, std: None, .. }) => format!("{:.2}", 100.0 * mean),
        Some(Spread { mean, std: Some(std), .. }) => format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * std),
    };
    let begin = [row.0.to_owned(), row.1.len().to_string()];
    begin.into_iter().chain(spreads(row, part).map(spread)).collect()
}

/// The seven metrics of a part over a variant's seeds. Each is over the seeds in which it is defined.
fn spreads((_, cells): &(&str, Vec<&Cell>), part: &str) -> [Option<Spread>; 7] {
    let metrics: Vec<&Metrics> = cells
        .iter()
        .filter_map(|cell| {
            let found = cell.evaluation.as_ref()?;
            let class = found.classes.iter().find(|class| class.class == part).map(|class| &class.metrics);
            if part == MEAN { Some(&found.mean) } else { class }
        })
        .collect();
    std::array::from_fn(|i| Spread::of(&metrics.iter().filter_map(|metrics| metrics.values()[i]).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::evaluation::{ClassMetrics, Evaluation};

    fn cell(variant: &str, seed: u64, i_auroc: Option<f64>) -> Cell {
        let class = |name: &str, i_auroc| ClassMetrics {
            unseen: None,
            class: name.into(),
            good: 1,
            defective: 1,
            metrics: Metrics { i_auroc, ..Metrics::default() },
            seg_f1: None,
            aupimo: None,
            aupimo_undefined: None,
            i_f1: None,
            intervals: None,
            samples: None,
        };
        let classes = vec![class("nut", i_auroc), class("bolt", Some(1.0))];
        let mean = Metrics { i_auroc, ..Metrics::default() };
        let evaluation = Some(Evaluation { classes, mean, mean_of_samples: None, intervals: None });
        let (variant, data, options) = (variant.into(), "photos".into(), Vec::new());
        Cell { variant, seed, data, options, separate: false, stand_in: false, evaluation }
    }

    #[test]
    fn a_spread_is_of_a_sample() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[0.5]), Some(Spread { mean: 0.5, std: None, count: 1 }));
        let spread = Spread::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!(spread, Spread { mean: 3.0, std: Some(7.0_f64.sqrt()), count: 3 });
        assert!((spread.std_by_n().unwrap() - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn variants_are_rows_and_what_is_unfinished_or_undefined_is_left_out() {
        let unfinished = Cell { evaluation: None, ..cell("b|c", 2, None) };
        let cells = [cell("a", 1, Some(0.5)), cell("b|c", 1, Some(0.25)), cell("a", 2, Some(0.75)), unfinished];
        let table = Table::new(&cells);
        let markdown = table.markdown();
        assert!(markdown.contains("| a | 2 | 62.50 ± 17.68 | - |") && markdown.contains("| b\\|c | 1 | 25.00 | - |"));
        assert!(markdown.contains("Class bolt:") && markdown.contains("| a | 2 | 100.00 ± 0.00 | - |"), "{markdown}");
        assert_eq!(table.text().lines().count(), 3);
        let csv = String::from_utf8(table.csv().unwrap()).unwrap();
        assert!(csv.contains("a,mean,2,62.5000,17.6777,,") && csv.contains("b|c,nut,1,25.0000,,,"), "{csv}");
        assert_eq!(csv.lines().count(), 7);
    }
}
