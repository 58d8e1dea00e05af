//! Curves and histograms as SVG, coloured by the page's style.

use maud::{Markup, html};

/// Position of the unit square in a chart of curves, in the SVG's units.
const SQUARE: (f64, f64, f64) = (46.0, 10.0, 240.0);

/// A line of a chart.
pub(super) struct Line<'a> {
    /// `image` or `pixel`, for its colour and label.
    pub kind: &'static str,
    pub points: &'a [(f64, f64)],
    /// Whether the line has steps between points, not slopes.
    pub steps: bool,
}

/// A chart of lines over the unit square. `label` describes it in words.
pub(super) fn curves(title: &str, label: &str, axes: [&str; 2], lines: &[Line<'_>]) -> Markup {
    let (left, top, side) = SQUARE;
    let (right, bottom) = (left + side, top + side);
    html! {
        figure.chart {
            figcaption { (title) }
            svg viewBox="0 0 300 300" role="img" aria-label=(label) {
                @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                    @let (x, y) = (left + side * tick, bottom - side * tick);
                    path.grid d=(format!("M{left} {y}H{right}M{x} {top}V{bottom}")) {}
                    @if tick * 2.0 % 1.0 == 0.0 {
                        text x=(x) y=(bottom + 16.0) text-anchor="middle" { (tick) }
                        text x=(left - 6.0) y=(y + 4.0) text-anchor="end" { (tick) }
                    }
                }
                @for line in lines {
                    path.line.(line.kind) d=(path(line)) {}
                }
                text x=(left + side / 2.0) y=(bottom + 34.0) text-anchor="middle" { (axes[0]) }
                @let upward = format!("translate(12 {}) rotate(-90)", top + side / 2.0);
                text transform=(upward) text-anchor="middle" { (axes[1]) }
            }
        }
    }
}

/// The `d` of a line's path.
fn path(line: &Line<'_>) -> String {
    let (left, top, side) = SQUARE;
    let mut path = String::new();
    for (i, &(x, y)) in line.points.iter().enumerate() {
        let (x, y) = (left + side * x, top + side * (1.0 - y));
        path += &match (i, line.steps) {
            (0, true) => format!("M{left:.1} {y:.1}H{x:.1}"),
            (0, false) => format!("M{x:.1} {y:.1}"),
            (_, true) => format!("V{y:.1}H{x:.1}"),
            (_, false) => format!("L{x:.1} {y:.1}"),
        };
    }
    path
}

/// Number of bars in a histogram.
const BARS: usize = 40;

/// Numbers of scores in equal intervals of `low..=high`.
fn counts(scores: &[f32], low: f32, high: f32) -> [usize; BARS] {
    let mut counts = [0; BARS];
    let width = (high - low).max(f32::MIN_POSITIVE);
    for score in scores {
        counts[((((score - low) / width) * BARS as f32) as usize).min(BARS - 1)] += 1;
    }
    counts
}

/// Histograms of good photos above that of defective ones, with the threshold across both. Each shows shares of its own kind, so
/// that a few photos are visible beside many.
pub(super) fn histogram(label: &str, good: &[f32], defective: &[f32], threshold: f32) -> Markup {
    let all = good.iter().chain(defective).copied().chain([threshold]);
    let (low, high) = all.fold((f32::MAX, f32::MIN), |(low, high), score| (low.min(score), high.max(score)));
    let (left, right, height) = (10.0, 470.0, 100.0);
    let width = (right - left) / BARS as f64;
    let at = left + (right - left) * f64::from((threshold - low) / (high - low).max(f32::MIN_POSITIVE));
    html! {
        figure.chart.wide {
            figcaption { "Scores" }
            svg viewBox="0 0 480 300" role="img" aria-label=(label) {
                @for (kind, scores, floor) in [("good", good, 140.0), ("defective", defective, 260.0)] {
                    path.grid d=(format!("M{left} {floor}H{right}")) {}
                    @let counts = counts(scores, low, high);
                    @let most = counts.iter().copied().max().unwrap_or_default().max(1) as f64;
                    @for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                        @let tall = (height * count as f64 / most).max(1.5);
                        @let x = left + width * i as f64 + 0.5;
                        @let bar = format!("M{x:.1} {floor}v{:.1}h{:.1}v{tall:.1}z", -tall, width - 1.0);
                        path.(kind) d=(bar) { title { (count) " " (kind) } }
                    }
                    // Label on the side with more room.
                    @let (x, anchor) = if at > 240.0 { (left, "start") } else { (right, "end") };
                    text x=(x) y=(floor - height + 4.0) text-anchor=(anchor) { (scores.len()) " " (kind) }
                }
                path.threshold d=(format!("M{at:.1} 22V268")) {}
                text x=(format!("{:.1}", at.clamp(70.0, 410.0))) y="16" text-anchor="middle" {
                    "threshold " (format!("{threshold:.4}"))
                }
                text x=(left) y="284" { (format!("{low:.4}")) }
                text x=(right) y="284" text-anchor="end" { (format!("{high:.4}")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_up_with_their_values_and_steps_have_corners() {
        let points = [(0.0, 0.0), (0.5, 1.0)];
        let line = |steps| path(&Line { kind: "image", points: &points, steps });
        assert_eq!(line(false), "M46.0 250.0L166.0 10.0");
        assert_eq!(line(true), "M46.0 250.0H46.0V10.0H166.0");
    }

    #[test]
    fn every_score_is_counted_once() {
        let counts = counts(&[0.0, 0.01, 0.5, 1.0], 0.0, 1.0);
        assert_eq!((counts[0], counts[20], counts[39]), (2, 1, 1));
        assert_eq!(super::counts(&[0.3; 5], 0.3, 0.3).iter().sum::<usize>(), 5);
    }

    #[test]
    fn names_are_escaped() {
        let drawn = curves("<b>", "\"x\"", ["a", "b"], &[]).into_string();
        assert!(drawn.contains("&lt;b&gt;") && drawn.contains("aria-label=\"&quot;x&quot;\""), "{drawn}");
    }
}
