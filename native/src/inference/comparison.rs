//! The seven metrics of a model before and after a change, by class.

use dinomaly_core::maps::metrics::Metrics;

use crate::inference::evaluation::Evaluation;
use crate::system::table::align;

/// Two evaluations on the same data.
pub struct BeforeAfter<'a> {
    /// Name and metrics of the model before, such as `f32`.
    pub before: (&'a str, &'a Evaluation),
    /// Name and metrics of the model after.
    pub after: (&'a str, &'a Evaluation),
}

impl BeforeAfter<'_> {
    /// Column heads, and three rows for each class and the mean: before and after in percent, and the difference in points.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let [before, after] = [self.before.1, self.after.1].map(|evaluation| {
            let classes = evaluation.classes.iter().map(|class| (class.class.as_str(), &class.metrics));
            classes.chain([("mean", &evaluation.mean)]).collect::<Vec<_>>()
        });
        let mut rows = vec![["class", "weights"].into_iter().chain(Metrics::NAMES).map(str::to_owned).collect()];
        for ((class, before), (_, after)) in before.into_iter().zip(after) {
            let (before, after) = (before.values(), after.values());
            let percent =
                |values: [Option<f64>; 7]| values.map(|v| v.map_or("–".into(), |v| format!("{:.2}", 100.0 * v)));
            let points = std::array::from_fn(|i| match (before[i], after[i]) {
                (Some(before), Some(after)) => format!("{:+.2}", 100.0 * (after - before)),
                _ => "–".into(),
            });
            for (what, cells) in
                [(self.before.0, percent(before)), (self.after.0, percent(after)), ("difference", points)]
            {
                rows.push([class.to_owned(), what.to_owned()].into_iter().chain(cells).collect::<Vec<_>>());
            }
        }
        rows
    }

    /// The rows as an aligned table for a terminal.
    pub fn table(&self) -> String {
        align(&self.rows())
    }

    /// The rows as a Markdown table.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rows = self.rows();
        let rule = format!("|{}\n", "---|".repeat(rows[0].len()));
        line(&rows[0]) + &rule + &rows[1..].iter().map(|row| line(row)).collect::<String>()
    }
}
