//! The card of a model on the hub: front matter for its search, thresholds and metrics, and the first lines of every way to use it.

use std::fmt::Write;

use anyhow::Result;
use dinomaly_core::bundle::{Model, percent};
use dinomaly_core::maps::metrics::Metrics;
use dinomaly_core::model::config::Architecture;
use serde_json::{Value, json};

use super::licence::Licence;
use crate::hub::Address;
use crate::inference::evaluation::Evaluation;

/// Task of the hub's list that fits best: the result is a map of the photo, with regions.
const TASK: &str = "image-segmentation";

/// Before and after what is written here, so that a card that was published before is not extended twice.
const BEGIN: &str = "<!-- dinomaly publish -->";
const END: &str = "<!-- end of dinomaly publish -->";

/// What a card says beside its model.
pub struct CardFacts<'a> {
    /// Where the model will be.
    pub place: &'a Address,
    /// Repository of its encoder, if it is known.
    pub base_model: Option<&'a str>,
    /// Licence of the model.
    pub licence: Option<&'a Licence>,
    /// Metrics, with the data set's name.
    pub metrics: Option<(&'a Evaluation, &'a str)>,
}

/// The card in Markdown: the model's own text with front matter before and sections after.
///
/// # Errors
/// If the facts cannot be written as JSON, which does not happen.
pub fn card(model: &Model, facts: &CardFacts<'_>) -> Result<String> {
    let own = own_text(&model.card);
    let sections = [thresholds(model), metrics_section(facts), usage(facts)].concat();
    Ok(format!("---\n{}---\n\n{own}\n\n{BEGIN}\n\n{sections}{END}\n", front_matter(model, facts)?))
}

/// A card without what an earlier publication wrote around it.
fn own_text(card: &str) -> String {
    let body = match card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")) {
        Some((_, body)) => body,
        None => card,
    };
    let (before, rest) = body.split_once(BEGIN).unwrap_or((body, ""));
    let after = rest.split_once(END).map_or("", |(_, after)| after);
    format!("{}\n{}", before.trim(), after.trim()).trim().to_owned()
}

/// YAML, whose texts are written as JSON's, which is a part of it.
fn front_matter(model: &Model, facts: &CardFacts<'_>) -> Result<String> {
    let mut lines = format!("library_name: dinomaly\npipeline_tag: {TASK}\ntags:\n");
    let kind = match model.config {
        Architecture::Dinomaly(_) => "dinomaly",
        Architecture::Memory(_) => "few-shot",
    };
    for tag in ["anomaly-detection", "anomaly-segmentation", "visual-inspection", kind] {
        writeln!(lines, "- {tag}")?;
    }
    if let Some(Licence { id, name }) = facts.licence {
        writeln!(lines, "license: {}", quoted(id)?)?;
        if let Some(name) = name {
            writeln!(lines, "license_name: {}", quoted(name)?)?;
            if let Some(base) = facts.base_model {
                writeln!(lines, "license_link: {}", quoted(&format!("https://huggingface.co/{base}"))?)?;
            }
        }
    }
    if let Some(base) = facts.base_model {
        writeln!(lines, "base_model: {}", quoted(base)?)?;
    }
    if let Some((evaluation, data)) = facts.metrics {
        let (_, name) = facts.place.owner_and_name();
        let index = json!([{"name": name, "results": results(evaluation, data)}]);
        writeln!(lines, "model-index: {}", serde_json::to_string(&index)?)?;
    }
    Ok(lines)
}

fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

/// Entries of the model index: the mean over classes, then each class of several.
fn results(evaluation: &Evaluation, data: &str) -> Vec<Value> {
    let classes = evaluation.classes.iter().filter(|_| evaluation.classes.len() > 1);
    let classes = classes.map(|class| (Some(class.class.as_str()), &class.metrics));
    let all = [(None, &evaluation.mean)].into_iter().chain(classes);
    all.map(|(class, metrics)| {
        let mut set = json!({"name": data, "type": slug(data), "split": "test"});
        if let Some(class) = class {
            set["config"] = class.into();
        }
        let values = Metrics::NAMES
            .iter()
            .zip(metrics.values())
            .filter_map(|(name, value)| Some(json!({"name": name, "type": name.to_lowercase(), "value": value?})));
        json!({
            "task": {"type": TASK, "name": "Anomaly detection"},
            "dataset": set,
            "metrics": values.collect::<Vec<_>>(),
        })
    })
    .filter(|result| result["metrics"].as_array().is_some_and(|metrics| !metrics.is_empty()))
    .collect()
}

/// A data set's name as an identifier.
fn slug(name: &str) -> String {
    let words = name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

fn thresholds(model: &Model) -> String {
    let calibration = &model.calibration;
    let mut text = format!(
        "## Thresholds\n\nPhotos are {}. A photo whose score is above its class's threshold is defective; {} % of good ones are expected \
         to be.\n\n| class | threshold | pixel threshold | good photos |\n|---|---|---|---|\n",
        model.preprocessor.view(),
        percent(calibration.false_alarm_rate)
    );
    let classes = calibration.classes.iter().map(|(name, class)| (cell(name), class));
    for (name, class) in classes.chain([("any".into(), &calibration.overall)]) {
        let pixels = class.pixel_threshold.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
        text += &format!("| {name} | {:.4} | {pixels} | {} |\n", class.threshold, class.good_scores.count);
    }
    text + "\n"
}

fn metrics_section(facts: &CardFacts<'_>) -> String {
    let Some((evaluation, data)) = facts.metrics else { return String::new() };
    let mut text = format!("## Metrics\n\nOn {}, in percent:\n\n| class |", cell(data));
    text += &Metrics::NAMES.map(|name| format!(" {name} |")).concat();
    text += &format!("\n|---|{}\n", "---|".repeat(Metrics::NAMES.len()));
    let classes = evaluation.classes.iter().map(|class| (cell(&class.class), &class.metrics));
    let mean = [("mean".to_owned(), &evaluation.mean)].into_iter();
    for (name, metrics) in classes.chain(mean.filter(|_| evaluation.classes.len() != 1)) {
        let values =
            metrics.values().map(|value| value.map_or_else(|| "-".into(), |value| format!("{:.1}", 100.0 * value)));
        text += &format!("| {name} | {} |\n", values.join(" | "));
    }
    text + "\n"
}

/// A text of others in a cell of a table.
fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}

fn usage(facts: &CardFacts<'_>) -> String {
    let place = facts.place;
    format!(
        "## Use\n\nIn a browser, where photos stay on the visitor's device:\n\n```sh\ndinomaly site {place} --out public\ndinomaly serve \
         public\n# then open http://127.0.0.1:8080/\n```\n\nIn a command line:\n\n```sh\ndinomaly inspect {place}\ndinomaly detect {place} \
         photo.jpg\ndinomaly detect {place} photos --heatmaps heatmaps\n```\n\nIn Python:\n\n```python\nimport dinomaly\nresult = \
         dinomaly.Detector.load(\"{place}\").detect(\"photo.jpg\")\nprint(result.verdict, result.score)\n```\n\n"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inference::evaluation::ClassMetrics;

    fn demo() -> Model {
        crate::model_dir::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model")).unwrap()
    }

    fn class(name: &str, aupro: Option<f64>) -> ClassMetrics {
        let metrics = Metrics { i_auroc: Some(0.5), aupro, ..Metrics::default() };
        let (seg_f1, aupimo, aupimo_undefined, i_f1) = (None, None, None, None);
        let (intervals, samples, unseen) = (None, None, None);
        ClassMetrics {
            class: name.into(),
            good: 2,
            defective: 2,
            metrics,
            seg_f1,
            aupimo,
            aupimo_undefined,
            i_f1,
            intervals,
            samples,
            unseen,
        }
    }

    #[test]
    fn a_card_is_the_models_text_with_more_around_it_once() {
        let mut model = demo();
        let place = Address::parse("hf:acme/screws@v2").unwrap();
        let licence = Licence::of("DINOv3 License").unwrap();
        let evaluation = Evaluation {
            classes: vec![class("a|b", Some(0.25)), class("\"c\": #", None)],
            mean: class("", Some(0.25)).metrics,
            mean_of_samples: None,
            intervals: None,
        };
        let facts = CardFacts {
            place: &place,
            base_model: Some("facebook/dinov3"),
            licence: Some(&licence),
            metrics: Some((&evaluation, "My screws, 2026")),
        };
        let text = card(&model, &facts).unwrap();
        for part in [
            "---\nlibrary_name: dinomaly\npipeline_tag: image-segmentation\ntags:\n- anomaly-detection\n",
            "\nlicense: \"other\"\nlicense_name: \"dinov3-license\"\nlicense_link: \"https://huggingface.co/facebook/dinov3\"\n",
            "\nbase_model: \"facebook/dinov3\"\n",
            "\"type\":\"my-screws-2026\"",
            "\n---\n\n# demo\n",
            "| a\\|b | 50.0 | - | - | - | - | - | 25.0 |\n",
            "dinomaly detect hf:acme/screws@v2 photo.jpg\n",
            "Detector.load(\"hf:acme/screws@v2\")",
            "resized to 256 × 256",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let own = model.card.trim().to_owned();
        model.card = text.clone() + "\nA note of others.\n";
        assert_eq!(own_text(&model.card), format!("{own}\nA note of others."));
        let again = card(&model, &CardFacts { metrics: None, licence: None, base_model: None, ..facts }).unwrap();
        assert_eq!([again.matches("## Use").count(), again.matches("library_name").count()], [1, 1]);
        assert!(!again.contains("model-index") && !again.contains("license"), "{again}");
    }

    #[test]
    fn a_class_alone_is_not_listed_twice_and_undefined_metrics_are_left_out() {
        let one = Evaluation {
            classes: vec![class("a", None)],
            mean: class("a", None).metrics,
            mean_of_samples: None,
            intervals: None,
        };
        let found = results(&one, "A");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["metrics"], json!([{"name": "I-AUROC", "type": "i-auroc", "value": 0.5}]));
    }
}
