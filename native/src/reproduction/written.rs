//! Results as Markdown, as CSV and for a terminal.

use anyhow::Result;

use super::results::{Line, Results, State, found_costs, published_costs};
use crate::system::table::align;

/// What stands above figures that were found with stand-in encoders.
pub(super) const NO_RESULT: &str =
    "Stand-in encoders with random weights, two iterations: what stands as ours is no result.";

/// Word for what was found.
pub(super) fn ours(results: &Results<'_>) -> &'static str {
    if results.stand_in { "stand-in" } else { "ours" }
}

/// Title of a table.
pub(super) fn title(results: &Results<'_>) -> String {
    format!("Table {}: {}", results.table.number, results.table.title)
}

/// A line of a row: what it holds, and its cells from the first column on.
pub(super) struct Shown {
    /// Name, data set and cost of the row; empty cells in all but its first line.
    pub begin: Vec<String>,
    /// `published`, `ours` or `difference`.
    pub what: &'static str,
    /// The figures.
    pub figures: Vec<String>,
}

impl Shown {
    /// All cells.
    pub fn cells(self) -> impl Iterator<Item = String> {
        self.begin.into_iter().chain([self.what.to_owned()]).chain(self.figures)
    }
}

/// The lines of a row: what was published, and if there are figures, what was found and the difference.
pub(super) fn lines(results: &Results<'_>, line: &Line<'_>) -> Vec<Shown> {
    let metrics = 0..results.table.metrics.len();
    let begin = |is_first: bool, cost: String| {
        let cell = |text: &str| if is_first { text.to_owned() } else { String::new() };
        let data = results.names_data().then(|| cell(line.row.data.title()));
        let cost = results.has_costs().then_some(cost);
        data.into_iter().chain([cell(&line.row.name)]).chain(cost).collect()
    };
    let published = metrics.clone().map(|metric| results.published(line, metric)).collect();
    let mut rows = vec![Shown { begin: begin(true, published_costs(line.row)), what: "published", figures: published }];
    if line.state == State::Found {
        let [cost, difference] = found_costs(line);
        let found = metrics.clone().map(|metric| line.shown(metric)).collect();
        rows.push(Shown { begin: begin(false, cost), what: ours(results), figures: found });
        let figure = |metric| line.difference(metric).map_or_else(|| "–".to_owned(), |value| format!("{value:+.2}"));
        let figures = metrics.map(figure).collect();
        rows.push(Shown { begin: begin(false, difference), what: "difference", figures });
    }
    rows
}

/// Column heads before those of the metrics.
pub(super) fn heads(results: &Results<'_>) -> Vec<&'static str> {
    let mut heads = vec!["row"];
    if results.names_data() {
        heads.insert(0, "data set");
    }
    if results.has_costs() {
        heads.push("cost");
    }
    heads.push("");
    heads
}

/// Sentences below the table: notes, remarks, and why rows are not computed.
pub(super) fn sentences(results: &Results<'_>) -> Vec<String> {
    let mut found: Vec<String> = results.table.notes.clone();
    if results.lines.iter().any(|line| line.found.iter().flatten().any(|spread| spread.std.is_some())) {
        found.push("Deviations over seeds are divided by n / by n − 1.".into());
    }
    found.extend(results.remarks.iter().map(|remark| format!("Found: {remark}.")));
    found.extend(results.left.iter().map(|(reason, rows)| format!("Not computed: {}: {reason}.", rows.join(", "))));
    found
}

/// All lines of the table, aligned.
pub(super) fn text(results: &Results<'_>) -> String {
    let mut rows = vec![heads(results).into_iter().chain(results.metrics()).map(str::to_owned).collect::<Vec<_>>()];
    for line in &results.lines {
        rows.extend(lines(results, line).into_iter().map(|shown| shown.cells().collect()));
    }
    let warning = if results.stand_in { format!("{NO_RESULT}\n") } else { String::new() };
    format!("{}\n{warning}{}", title(results), align(&rows))
}

/// The table with its notes as Markdown.
pub(super) fn markdown(results: &Results<'_>) -> String {
    let row = |cells: Vec<String>| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let heads = heads(results);
    let mut text = format!("# {}\n\nIn percent; differences in points.\n\n", title(results));
    if results.stand_in {
        text += &format!("**{NO_RESULT}**\n\n");
    }
    text += &row(heads.iter().copied().chain(results.metrics()).map(str::to_owned).collect());
    text += &format!("|{}{}\n", "---|".repeat(heads.len()), "---:|".repeat(results.table.metrics.len()));
    for line in &results.lines {
        lines(results, line).into_iter().for_each(|shown| text += &row(shown.cells().collect()));
    }
    text.push('\n');
    sentences(results).iter().for_each(|sentence| text += &format!("- {sentence}\n"));
    text
}

/// A line for each row and metric. Empty are figures that are not there.
///
/// # Errors
/// None at present.
pub(super) fn csv(results: &Results<'_>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "table",
        "data set",
        "row",
        "metric",
        "published",
        "published deviation",
        ours(results),
        "difference",
        "deviation by n",
        "deviation by n - 1",
        "seeds",
    ])?;
    let number =
        |value: Option<f64>| value.filter(|value| !value.is_nan()).map_or(String::new(), |v| format!("{v:.4}"));
    for line in &results.lines {
        for (metric, name) in results.metrics().enumerate() {
            let found = line.found[metric].as_ref();
            writer.write_record([
                results.table.number.to_owned(),
                line.row.data.name().to_owned(),
                line.row.name.clone(),
                name.to_owned(),
                number(Some(line.row.published[metric])),
                number(line.row.deviation.get(metric).copied()),
                number(found.map(|spread| spread.mean)),
                number(line.difference(metric)),
                number(found.and_then(|spread| spread.std_by_n())),
                number(found.and_then(|spread| spread.std)),
                found.map_or(String::new(), |spread| spread.count.to_string()),
            ])?;
        }
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::super::results::testing::run;
    use super::*;

    #[test]
    fn each_row_has_published_ours_and_difference() {
        let (plan, cells) = run("1", &[[0.9, 1.0]]);
        let (table, rows) = &plan.tables[0];
        let found = Results::new(&plan, table, rows, &cells);
        let shown = markdown(&found);
        assert!(shown.starts_with("# Table 1: Performance under the multi-class setting\n"), "{shown}");
        assert!(shown.contains("| data set | row |  | I-AUROC | I-AP |"), "{shown}");
        assert!(shown.contains("| MVTec-AD | ViTAD | published | 98.3 | 99.4 |"), "{shown}");
        assert!(shown.contains("|  |  | ours | 95.00 | – |"), "{shown}");
        assert!(shown.contains("|  |  | difference | -3.30 | – |"), "{shown}");
        assert!(shown.contains("- Not computed: RD4AD on MVTec-AD, RD4AD on VisA"), "{shown}");
        assert!(shown.contains("VisA is not given: --data visa=PATH."), "{shown}");
        let csv = String::from_utf8(csv(&found).unwrap()).unwrap();
        assert_eq!(csv.lines().count(), 1 + 30 * 7);
        assert!(csv.contains("1,mvtec,ViTAD,I-AUROC,98.3000,,95.0000,-3.3000,,,1\n"), "{csv}");
        assert!(csv.contains("1,visa,Dinomaly,I-AUROC,98.7000,,,,,,\n"), "{csv}");
        assert!(text(&found).lines().any(|line| line.trim_start().starts_with("difference")), "{}", text(&found));
    }

    #[test]
    fn a_stand_in_never_reads_like_a_result() {
        let (mut plan, cells) = run("4", &[[0.9, 1.0]; 3]);
        plan.stand_in = true;
        let (table, rows) = &plan.tables[0];
        let found = Results::new(&plan, table, rows, &cells);
        let [shown, printed] = [markdown(&found), text(&found)];
        assert!(shown.contains(NO_RESULT) && printed.contains(NO_RESULT), "{shown}");
        assert!(shown.contains("|  |  | stand-in | 95.00 |") && !shown.contains("| ours |"), "{shown}");
        assert!(shown.contains("| ViT-Large | 413.5 M, 275.3 GMACs, 24.2/s | published | 99.77 |"), "{shown}");
        let csv = String::from_utf8(csv(&found).unwrap()).unwrap();
        assert!(csv.lines().next().unwrap().contains(",stand-in,difference"), "{csv}");
    }
}
