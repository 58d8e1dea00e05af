//! Results as one HTML page, without scripts, requests or other files: the table, and for each metric a drawing of published and found figures.

use maud::{Markup, html};

use super::results::{Line, Results, State};
use super::written::{NO_RESULT, heads, lines, ours, sentences, title};
use crate::inference::report::document;

/// Width of a drawing, of its names, and height of a row, in the SVG's units.
const WIDTH: f64 = 480.0;
const NAMES: f64 = 210.0;
const ROW: f64 = 20.0;

/// The page.
pub(super) fn page(results: &Results<'_>) -> String {
    let introduction = html! {
        @if results.stand_in { p { b { (NO_RESULT) } } }
        p.soft { "Dinomaly, arXiv 2405.14325. In percent; differences in points." }
    };
    let drawn = (0..results.table.metrics.len()).zip(results.metrics());
    let content = html! {
        section {
            div.scroll { (table(results)) }
            ul { @for sentence in sentences(results) { li { (sentence) } } }
        }
        section {
            h2 { "Published and " (ours(results)) }
            p.soft {
                svg.mark viewBox="0 0 12 12" aria-hidden="true" { circle.published cx="6" cy="6" r="4" {} }
                " published " svg.mark viewBox="0 0 12 12" aria-hidden="true" { circle.found cx="6" cy="6" r="4" {} } " " (ours(results))
                ", with the deviation over the seeds (n − 1)"
            }
            div.charts { @for (metric, name) in drawn { (chart(results, metric, name)) } }
        }
    };
    document(&title(results), introduction, content)
}

fn table(results: &Results<'_>) -> Markup {
    let heads = heads(results);
    html! {
        table #results {
            thead {
                tr { @for head in heads.iter().copied().chain(results.metrics()) { th scope="col" { (head) } } }
            }
            tbody {
                @for line in &results.lines {
                    @for shown in lines(results, line) {
                        tr {
                            @for cell in &shown.begin { th scope="row" { (cell) } }
                            td.soft { (shown.what) }
                            @for cell in &shown.figures { td { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// Figures of one metric, a row each. Rows that are not computed have their published figure alone.
fn chart(results: &Results<'_>, metric: usize, name: &str) -> Markup {
    let rows: Vec<&Line<'_>> = results.lines.iter().filter(|line| !line.row.published[metric].is_nan()).collect();
    let values = |line: &&Line<'_>| {
        let spread = line.found[metric].as_ref();
        let found = spread.into_iter().flat_map(|spread| {
            let std = spread.std.unwrap_or_default();
            [spread.mean - std, spread.mean + std]
        });
        found.chain([line.row.published[metric]]).collect::<Vec<_>>()
    };
    let all = rows.iter().flat_map(values);
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    // A little room, and a scale for a single value, too.
    let room = (0.05 * (high - low)).max(0.05);
    let (low, high) = (low - room, high + room);
    let x = |value: f64| NAMES + (WIDTH - NAMES - 12.0) * (value - low) / (high - low);
    let y = |row: usize| 14.0 + ROW * row as f64;
    let floor = y(rows.len());
    let found = rows.iter().filter(|line| line.state == State::Found).count();
    let label = format!("{name}: published figures of {} rows, {} of {found}", rows.len(), ours(results));
    html! {
        figure.chart.wide {
            figcaption { (name) }
            svg viewBox=(format!("0 0 {WIDTH} {}", floor + 20.0)) role="img" aria-label=(label) {
                @for value in [low + room, (low + high) / 2.0, high - room] {
                    path.grid d=(format!("M{:.1} 4V{floor}", x(value))) {}
                    text x=(format!("{:.1}", x(value))) y=(floor + 14.0) text-anchor="middle" { (format!("{value:.1}")) }
                }
                @for (i, line) in rows.iter().enumerate() {
                    text x=(NAMES - 8.0) y=(y(i) + 4.0) text-anchor="end" { (short(results, line)) }
                    circle.published cx=(format!("{:.1}", x(line.row.published[metric]))) cy=(y(i)) r="5" {
                        title { "published " (results.published(line, metric)) }
                    }
                    @if let Some(spread) = &line.found[metric] {
                        @if let Some(std) = spread.std {
                            path.spread d=(format!("M{:.1} {}H{:.1}", x(spread.mean - std), y(i), x(spread.mean + std))) {}
                        }
                        circle.found cx=(format!("{:.1}", x(spread.mean))) cy=(y(i)) r="4" {
                            title { (ours(results)) " " (line.shown(metric)) }
                        }
                    }
                }
            }
        }
    }
}

/// A row's name as far as there is room.
fn short(results: &Results<'_>, line: &Line<'_>) -> String {
    const LONGEST: usize = 34;
    let name = if results.names_data() {
        format!("{} {}", line.row.data.title(), line.row.name)
    } else {
        line.row.name.clone()
    };
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::testing::run;
    use super::*;

    #[test]
    fn a_page_has_the_table_and_a_drawing_for_each_metric() {
        let (mut plan, cells) = run("A12", &[[0.99, 0.98], [0.97, 0.98], [1.0, 1.0]]);
        let (table, rows) = &plan.tables[0];
        let shown = page(&Results::new(&plan, table, rows, &cells));
        assert_eq!(shown.matches("<figure").count(), 7);
        // Six published circles in each drawing, and one in the legend.
        assert_eq!(shown.matches("<circle class=\"published\"").count(), 6 * 7 + 1);
        // Three seeds and their mean have an image AUROC.
        assert_eq!(shown.matches("<circle class=\"found\"").count(), 4 + 1);
        assert_eq!(shown.matches("class=\"spread\"").count(), 1);
        assert!(shown.contains("98.67 ± 1.03 / 1.26") && shown.contains("<td>-1.10</td>"), "{shown}");
        assert!(!shown.contains("http://") && !shown.contains("https://") && !shown.contains("<script"), "{shown}");
        plan.stand_in = true;
        let (table, rows) = &plan.tables[0];
        let stand_in = page(&Results::new(&plan, table, rows, &cells));
        assert!(stand_in.contains(NO_RESULT) && !shown.contains(NO_RESULT));
    }
}
