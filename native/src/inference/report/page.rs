//! The page of a [`Report`].

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly_core::bundle::Model;
use dinomaly_core::maps::metrics::Metrics;
use dinomaly_core::model::config::{Architecture, Recentring};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::chart::{Line, curves, histogram};
use super::gallery::{Outcome, Picture};
use super::{ClassReport, Curves, Report};
use crate::inference::evaluation::{ClassMetrics, Evaluation};
use crate::system::shown::shown;

const STYLE: &str = include_str!("style.css");

/// Facts on the page besides the results.
pub struct Facts<'a> {
    /// The evaluated model.
    pub model: &'a Model,
    /// Folder of the photos.
    pub data: &'a Path,
    /// Duration of the evaluation in seconds, from reading the first photo to the last metric.
    pub seconds: f64,
}

/// The whole page.
///
/// # Errors
/// None at present.
pub fn page(report: &Report<'_>, evaluation: &Evaluation, facts: &Facts<'_>) -> Result<String> {
    let title = format!("Evaluation of {}", facts.model.name);
    let photos: usize = evaluation.classes.iter().map(|class| class.good + class.defective).sum();
    let speed = photos as f64 / facts.seconds;
    Ok(document(
        &title,
        html! {
            p.soft { (photos) " photos of " (evaluation.classes.len()) " classes in " (facts.data.display()) }
            dl.tiles {
                @let all = Metrics::NAMES.iter().zip(evaluation.mean.values());
                @for (name, value) in all.filter(|(name, _)| name.contains("AU")) {
                    div { dt { (name) ", mean" } dd { (percent(value)) } }
                }
                div { dt { "Photos per second" } dd { (format!("{speed:.1}")) } }
            }
        },
        html! {
            (metrics(evaluation))
            @for (i, (class, found)) in evaluation.classes.iter().zip(&report.classes).enumerate() {
                (class_section(i, class, found, report.gallery))
            }
            (model_section(facts, photos, speed)?)
        },
    ))
}

/// A page of this title, introduction and content. Its policy allows no requests and no scripts.
pub(crate) fn document(title: &str, introduction: Markup, content: Markup) -> String {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy =
        format!("default-src 'none'; img-src data:; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (title) } (introduction) }
                main { (content) }
            }
        }
    };
    shown(&page.into_string()).into_owned()
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.2}", 100.0 * value))
}

/// The table by class, as on the terminal.
fn metrics(evaluation: &Evaluation) -> Markup {
    let rows = evaluation.rows();
    let (head, rows) = rows.split_first().expect("a table has heads");
    let (mean, classes) = rows.split_last().expect("a table has a mean");
    html! {
        section {
            h2 { "Metrics" }
            div.scroll {
                table #metrics {
                    caption {
                        "In percent. I: image metrics, P: pixel metrics, AP: average precision, AUPRO: area under the "
                        "per-region overlap, AUPIMO: that of the per-image overlap at few false positives, I-F1: F1 of photos at the \
                         threshold, SegF1: F1 of pixels at the pixel threshold."
                    }
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody {
                        @for (i, row) in classes.iter().enumerate() {
                            tr {
                                th scope="row" { a href=(format!("#class-{i}")) { (row[0]) } }
                                @for cell in &row[1..] { td { (cell) } }
                            }
                        }
                    }
                    tfoot { tr { th scope="row" { (mean[0]) } @for cell in &mean[1..] { td { (cell) } } } }
                }
            }
            (intervals(evaluation))
            @for class in &evaluation.classes {
                @for reason in class.metrics.undefined.iter().chain(&class.aupimo_undefined).chain(&class.unseen()) { p.soft { (class.class) ": " (reason) } }
            }
        }
    }
}

/// The table of confidence intervals, if there are some.
fn intervals(evaluation: &Evaluation) -> Markup {
    let rows = evaluation.interval_rows();
    html! {
        @if let (Some((head, rows)), Some(of_mean)) = (rows.split_first(), &evaluation.intervals) {
            div.scroll {
                table #intervals {
                    caption { (of_mean.about()) }
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody {
                        @for row in rows { tr { th scope="row" { (row[0]) } @for cell in &row[1..] { td { (cell) } } } }
                    }
                }
            }
        }
    }
}

fn class_section(number: usize, class: &ClassMetrics, found: &ClassReport, gallery: usize) -> Markup {
    let photos = class.good + class.defective;
    let threshold = format!("{:.4}", found.threshold);
    html! {
        section id=(format!("class-{number}")) {
            h2 { (class.class) }
            p {
                "Threshold " (threshold)
                @if !found.known { " (that of all classes, because the model does not have this one)" }
                ": " (found.false_alarms()) " of " (class.good) " good photos above it (false alarms), "
                (found.misses()) " of " (class.defective) " defective ones not (misses)."
            }
            @if found.image.is_some() || found.pixel.is_some() {
                p.soft {
                    i.key {} span { "whole photos" }
                    i.key {} span { "pixels" }
                }
            }
            div.charts {
                @if found.image.is_some() || found.pixel.is_some() { (charts(class, found)) }
                (histogram(
                    &format!(
                        "Histogram of scores of {}: {} good and {} defective photos, threshold {threshold}",
                        class.class, class.good, class.defective
                    ),
                    &found.good, &found.defective, found.threshold,
                ))
            }
            @if gallery > 0 {
                h3 { "Worst errors first: " (found.pictures.len()) " of " (photos) " photos" }
                p.soft { "Photo, labelled defect in white, heatmap (hatched outside the model's crop)." }
                div.gallery { @for picture in &found.pictures { (shot(picture)) } }
            }
        }
    }
}

/// The two charts with the curves of images and of pixels, if they are defined.
fn charts(class: &ClassMetrics, found: &ClassReport) -> Markup {
    let lines = |points: fn(&Curves) -> &[(f64, f64)], steps| -> Vec<Line<'_>> {
        let kinds = [("image", &found.image), ("pixel", &found.pixel)].into_iter();
        kinds.filter_map(|(kind, curves)| Some(Line { kind, points: points(curves.as_ref()?), steps })).collect()
    };
    let label = |title: &str, [photos, pixels]: [Option<f64>; 2]| {
        format!("{title} of {}: area {} % for photos, {} % for pixels", class.class, percent(photos), percent(pixels))
    };
    let m = &class.metrics;
    let roc = label("Receiver operating characteristic", [m.i_auroc, m.p_auroc]);
    let precision_recall = label("Precision over recall", [m.i_ap, m.p_ap]);
    html! {
        (curves("ROC", &roc, ["false positive rate", "true positive rate"], &lines(|c| &c.roc, false)))
        (curves(
            "Precision and recall", &precision_recall, ["recall", "precision"], &lines(|c| &c.precision_recall, true),
        ))
    }
}

fn shot(picture: &Picture) -> Markup {
    let (verdict, wrong) = match picture.verdict {
        Outcome::FalseAlarm => ("false alarm", true),
        Outcome::Miss => ("miss", true),
        Outcome::Right => ("right", false),
    };
    html! {
        figure.shot {
            div.strip {
                img src=(picture.photo) alt=(format!("Photo {}", picture.name));
                @match &picture.mask {
                    Some(mask) => { img src=(mask) alt=(format!("Labelled defect of {}", picture.name)); }
                    None => { div.none { (if picture.defective { "no mask" } else { "good" }) } }
                }
                img src=(picture.heatmap) alt=(format!("Heatmap of {}", picture.name));
            }
            figcaption {
                span.badge.wrong[wrong] { (verdict) }
                span { (picture.name) }
                span { "score " (format!("{:.4}", picture.score)) }
            }
        }
    }
}

/// What stands behind the encoder.
fn head(config: &Architecture) -> String {
    match config {
        Architecture::Dinomaly(config) => {
            let decoder = &config.decoder;
            let blocks = format!("{} decoder blocks, {:?}", decoder.num_hidden_layers, decoder.mixer).to_lowercase();
            let width =
                config.bottleneck_width.map_or(String::new(), |width| format!(", narrowed to {width} channels"));
            let target = match config.recentring {
                Recentring::None => "",
                Recentring::Target => "; reconstructed is the difference from the class token",
                Recentring::Layers => "; layers are differences from their class tokens",
            };
            format!("{blocks}; bottleneck dropout {}{width}{target}", config.bottleneck_dropout)
        }
        Architecture::Memory(config) => config.memory.to_string(),
    }
}

fn model_section(facts: &Facts<'_>, photos: usize, speed: f64) -> Result<Markup> {
    let Facts { model, seconds, .. } = facts;
    let config = &model.config;
    let (encoder, taps) = (config.encoder(), config.taps());
    let held_out = if model.calibration.held_out { "held-out good photos" } else { "the training photos" };
    let rows = [
        (
            "encoder",
            format!(
                "{}, {} of {} blocks, width {}, patch {}",
                encoder.name,
                taps.blocks_run(),
                encoder.num_hidden_layers,
                encoder.hidden_size,
                encoder.patch_size
            ),
        ),
        ("target layers", format!("{:?} in groups {:?}", taps.layers, config.groups())),
        ("head", head(config)),
        ("geometry", model.preprocessor.view()),
        ("thresholds", format!("from the scores of {held_out}")),
        ("time", format!("{photos} photos in {seconds:.1} s: {speed:.2} photos per second, with reading and metrics")),
        ("program", format!("dinomaly {}", env!("CARGO_PKG_VERSION"))),
    ];
    Ok(html! {
        section {
            h2 { "Model and time" }
            table.facts {
                tbody { @for (name, value) in &rows { tr { th scope="row" { (name) } td { (value) } } } }
            }
            details {
                summary { "Whole config" }
                pre { (serde_json::to_string_pretty(config)?) }
                pre { (serde_json::to_string_pretty(&model.preprocessor)?) }
            }
        }
    })
}
