//! Published figures of a table beside what its cells found.

use dinomaly_core::maps::metrics::Metrics;

use super::plan::{Costs, Plan, PlannedRow, left};
use super::tables::{Row, Table};
use crate::ablation::Cell;
use crate::ablation::table::Spread;

/// A table with the results of its rows.
pub struct Results<'a> {
    /// The table.
    pub table: &'a Table,
    /// Its rows.
    pub lines: Vec<Line<'a>>,
    /// Whether encoders had random weights, so that nothing found is a result.
    pub stand_in: bool,
    /// Reasons of rows that are not computed, with their names.
    pub left: Vec<(String, Vec<String>)>,
    /// What differs from the paper in what was found.
    pub remarks: Vec<String>,
}

/// A row with what its cells found.
pub struct Line<'a> {
    /// The row.
    pub row: &'a Row,
    /// What became of it.
    pub state: State,
    /// What its model costs, if it is known.
    pub costs: Option<Costs>,
    /// Found figures in percent, for each of the table's metrics: mean and deviation over the seeds that are finished.
    pub found: Vec<Option<Spread>>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Some of its cells have results.
    Found,
    /// None has yet, or all failed.
    Unfinished,
    /// It is not computed.
    Left,
}

impl<'a> Results<'a> {
    /// What cells of a plan found of the rows of one of its tables.
    pub fn new(plan: &Plan, table: &'a Table, planned: &'a [PlannedRow], cells: &[Cell]) -> Self {
        let (mut lines, mut remarks) = (Vec::new(), Vec::new());
        for (row, planned) in table.rows.iter().zip(planned) {
            let PlannedRow::Cells(names) = planned else {
                lines.push(Line { row, state: State::Left, costs: None, found: vec![None; table.metrics.len()] });
                continue;
            };
            let own: Vec<&Cell> = cells.iter().filter(|cell| names.contains(&cell.file_name())).collect();
            let evaluations: Vec<_> = own.iter().filter_map(|cell| cell.evaluation.as_ref()).collect();
            let metrics: Vec<&Metrics> = evaluations
                .iter()
                .filter_map(|found| match &row.class {
                    None => Some(&found.mean),
                    Some(class) => Some(&found.classes.iter().find(|found| found.class == *class)?.metrics),
                })
                .collect();
            let spread = |&metric: &usize| {
                let values: Vec<f64> =
                    metrics.iter().filter_map(|found| Some(100.0 * found.values()[metric]?)).collect();
                Spread::of(&values)
            };
            let state = if metrics.is_empty() { State::Unfinished } else { State::Found };
            let expected = row.data.classes().len();
            if let Some(found) = evaluations.first().filter(|found| found.classes.len() != expected) {
                let (title, classes) = (row.data.title(), found.classes.len());
                let remark = format!("means over {classes} classes of {title}, which has {expected}");
                if !remarks.contains(&remark) {
                    remarks.push(remark);
                }
            }
            if !evaluations.is_empty() && evaluations.len() < names.len() {
                remarks.push(format!("{}: {} of {} seeds are finished", row.name, evaluations.len(), names.len()));
            }
            let costs = names.first().and_then(|name| plan.costs.get(name)).copied();
            lines.push(Line { row, state, costs, found: table.metrics.iter().map(spread).collect() });
        }
        Self { table, lines, stand_in: plan.stand_in, left: left(table, planned), remarks }
    }

    /// Names of the table's metrics.
    pub fn metrics(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.table.metrics.iter().map(|&metric| Metrics::NAMES[metric])
    }

    /// Whether rows are of more than one data set.
    pub fn names_data(&self) -> bool {
        self.table.data_sets().len() > 1
    }

    /// Whether rows have published costs.
    pub fn has_costs(&self) -> bool {
        self.table.rows.iter().any(|row| row.parameters.is_some() || row.macs.is_some())
    }

    /// A published figure as in the paper.
    pub fn published(&self, line: &Line<'_>, metric: usize) -> String {
        let (value, digits) = (line.row.published[metric], self.table.decimals);
        match (value.is_nan(), line.row.deviation.get(metric)) {
            (true, _) => "n/a".to_owned(),
            (false, None) => format!("{value:.digits$}"),
            (false, Some(deviation)) => format!("{value:.digits$} ± {deviation:.digits$}"),
        }
    }
}

impl Line<'_> {
    /// Found minus published, in points of percent; `None` if either is missing.
    pub fn difference(&self, metric: usize) -> Option<f64> {
        let published = self.row.published[metric];
        let found = self.found[metric].as_ref()?.mean;
        (!published.is_nan()).then_some(found - published)
    }

    /// A found figure: `99.60`, or `99.60 ± 0.03 / 0.03`, deviations divided by n and by n − 1.
    pub fn shown(&self, metric: usize) -> String {
        match &self.found[metric] {
            None => "–".to_owned(),
            Some(spread) => match (spread.std_by_n(), spread.std) {
                (Some(by_n), Some(std)) => format!("{:.2} ± {by_n:.2} / {std:.2}", spread.mean),
                _ => format!("{:.2}", spread.mean),
            },
        }
    }
}

/// The published costs of a row: `148.0 M, 104.7 GMACs, 58.1/s`; empty without any.
pub fn published_costs(row: &Row) -> String {
    listed(row.parameters, row.macs, row.speed)
}

/// The costs of a row's model that are published, as they are counted here, and their differences from the paper's.
pub fn found_costs(line: &Line<'_>) -> [String; 2] {
    let Some(costs) = line.costs else { return [String::new(), String::new()] };
    let (parameters, macs) = (line.row.parameters, line.row.macs);
    let found = listed(parameters.map(|_| costs.parameters), macs.map(|_| costs.macs), None);
    let difference = [(parameters, costs.parameters, " M"), (macs, costs.macs, " GMACs")]
        .into_iter()
        .filter_map(|(published, found, unit)| Some(format!("{:+.1}{unit}", found - published?)));
    [found, difference.collect::<Vec<_>>().join(", ")]
}

fn listed(parameters: Option<f64>, macs: Option<f64>, speed: Option<f64>) -> String {
    let parts = [
        parameters.map(|millions| format!("{millions:.1} M")),
        macs.map(|macs| format!("{macs:.1} GMACs")),
        speed.map(|speed| format!("{speed:.1}/s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::plan::{Plan, Request};
    use super::super::tables::find;
    use super::*;
    use crate::dataset::published::DataSet;
    use crate::inference::evaluation::{ClassMetrics, Evaluation};

    /// A plan of a table on MVTec-AD, and its cells, of which the first are finished with these image AUROC of two classes.
    pub fn run(number: &str, found: &[[f64; 2]]) -> (Plan, Vec<Cell>) {
        let data = [(DataSet::Mvtec, ".".into())].into();
        let plan = Plan::new(&[find(number).unwrap()], &Request { data, ..Request::default() }).unwrap();
        let mut cells = plan.cells.clone();
        for (cell, values) in cells.iter_mut().zip(found) {
            let class = |(name, i_auroc): (&str, f64)| ClassMetrics {
                class: name.into(),
                good: 1,
                defective: 1,
                metrics: Metrics { i_auroc: Some(i_auroc), ..Metrics::default() },
                aupimo: None,
                aupimo_undefined: None,
                i_f1: None,
                intervals: None,
                seg_f1: None,
                samples: None,
                unseen: None,
            };
            let classes = ["bottle", "screw"].into_iter().zip(*values).map(class).collect();
            cell.evaluation = Some(Evaluation::of(classes));
        }
        (plan, cells)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::run;
    use super::*;

    #[test]
    fn figures_stand_beside_the_published_ones() {
        let (plan, cells) = run("A12", &[[0.99, 0.98], [0.97, 0.98], [1.0, 1.0]]);
        let (table, rows) = &plan.tables[0];
        let results = Results::new(&plan, table, rows, &cells);
        let first = &results.lines[0];
        assert_eq!((first.state, first.shown(0)), (State::Found, "98.50".to_owned()));
        assert!((first.difference(0).unwrap() - (98.5 - 99.60)).abs() < 1e-9);
        assert_eq!((first.shown(3), first.difference(3)), ("–".to_owned(), None));
        assert_eq!(results.lines[3].state, State::Unfinished);
        // 98.5, 97.5 and 100: mean 98.67, deviations 1.03 and 1.26.
        let all = &results.lines[5];
        assert_eq!(all.shown(0), "98.67 ± 1.03 / 1.26");
        assert_eq!(results.published(all, 0), "99.60 ± 0.03");
        let expected =
            ["means over 2 classes of MVTec-AD, which has 15", "mean ± deviation: 3 of 5 seeds are finished"];
        assert_eq!(results.remarks, expected);
    }

    #[test]
    fn a_class_has_its_own_row_and_a_missing_one_none() {
        let (plan, cells) = run("A14", &[[0.99, 0.98]]);
        assert_eq!(cells.len(), 1);
        let (table, rows) = &plan.tables[0];
        let results = Results::new(&plan, table, rows, &cells);
        let line = |name: &str| results.lines.iter().find(|line| line.row.name == name).unwrap();
        assert_eq!(
            [line("Bottle"), line("Screw"), line("Mean")].map(|line| line.shown(0)),
            ["99.00", "98.00", "98.50"]
        );
        assert_eq!(line("Cable").state, State::Unfinished);
    }

    #[test]
    fn what_is_not_published_has_no_difference() {
        let (plan, cells) = run("2", &[]);
        let (table, rows) = &plan.tables[0];
        let results = Results::new(&plan, table, rows, &cells);
        let line = results.lines.iter().find(|line| line.row.published[1].is_nan()).unwrap();
        assert_eq!((results.published(line, 1), line.difference(1)), ("n/a".to_owned(), None));
        assert!(results.names_data() && !results.has_costs());
    }

    #[test]
    fn costs_are_compared_as_far_as_they_are_published() {
        let (mut plan, cells) = run("4", &[[0.9, 1.0]; 3]);
        for cell in &cells {
            plan.costs.insert(cell.file_name(), Costs { parameters: 147.91, macs: 104.96 });
        }
        let (table, rows) = &plan.tables[0];
        let results = Results::new(&plan, table, rows, &cells);
        let base = &results.lines[1];
        assert_eq!(published_costs(base.row), "148.0 M, 104.7 GMACs, 58.1/s");
        assert_eq!(found_costs(base), ["147.9 M, 105.0 GMACs", "-0.1 M, +0.3 GMACs"]);
        assert!(results.has_costs());
    }
}
