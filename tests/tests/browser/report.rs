//! The report of an evaluation, opened in a real Chromium.

use std::fs;
use std::path::Path;

use clap::Parser;
use dinomaly::cli::Cli;
use dinomaly::inference::evaluation::Evaluation;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;
use dinomaly_tests::demo_model;
use dinomaly_tests::page::chrome::Chrome;
use serde_json::{Value, json};

use crate::turn;

/// A class of this name would run a script if names were not escaped.
const HOSTILE: &str = "gear & <img src=x onerror=console.log(1)>";

/// The embedded model on generated photos, of which it knows all but the renamed class.
#[test]
fn a_report_says_what_the_metrics_say_and_asks_for_nothing() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let classes = Class::ALL.to_vec();
    let plan = GenerationPlan { classes, size: 256, seed: 77, train: 0, good: 6, defective: 2 };
    plan.write(Path::new(&path("data")), || Ok(())).unwrap();
    let last = Class::ALL[Class::ALL.len() - 1].name();
    fs::rename(path(&format!("data/{last}")), path(&format!("data/{HOSTILE}"))).unwrap();
    let model = demo_model();
    let [data, html, json] = [path("data"), path("report.html"), path("m.json")];
    let evaluate = ["dinomaly", "evaluate", model.to_str().unwrap(), &data, "--report", &html, "--json", &json];
    Cli::parse_from([&evaluate[..], &["--gallery", "9"]].concat()).run().unwrap();
    let bytes = fs::metadata(&html).unwrap().len();
    println!("{} kB", bytes / 1000);
    let found: Evaluation = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert!(bytes < 35_000 * 9 * found.classes.len() as u64 + 100_000, "{bytes} bytes");

    let chrome = Chrome::launch();
    let page = chrome.open(&format!("file://{html}"));
    let text = |selector: &str| {
        page.eval(&format!("[...document.querySelectorAll({selector:?})].map((element) => element.textContent)"))
    };
    let cells = |selector: &str| {
        let rows = format!(
            "[...document.querySelectorAll({selector:?})].map((row) => [...row.cells].map((c) => c.textContent))"
        );
        serde_json::from_value::<Vec<Vec<String>>>(page.eval(&rows)).unwrap()
    };
    let percent = |value: &Option<f64>| value.map_or("-".to_owned(), |value| format!("{:.2}", 100.0 * value));
    let mut rows = cells("#metrics tbody tr");
    assert_eq!(rows.len(), found.classes.len());
    assert!(rows.iter().any(|row| row[0] == HOSTILE), "{rows:?}");
    rows.extend(cells("#metrics tfoot tr"));
    let classes = found.classes.iter().map(|class| (class.class.as_str(), &class.metrics));
    for (row, (name, metrics)) in rows.iter().zip(classes.chain([("mean", &found.mean)])) {
        assert_eq!(row[0], name);
        assert_eq!(row[3..10], metrics.values().each_ref().map(percent), "{name}");
    }
    // The model has thresholds.
    for (row, class) in rows.iter().zip(&found.classes) {
        let beside = class.aupimo.iter().map(|value| percent(&Some(*value)));
        let beside: Vec<String> = beside.chain([percent(&class.i_f1), percent(&class.seg_f1)]).collect();
        assert!(class.i_f1.is_some() && class.seg_f1.is_some() && row[10..] == beside, "{row:?}");
    }

    // Of every class two charts and a histogram, as many pictures as asked for, the largest errors first.
    let sections = page.eval(
        "[...document.querySelectorAll('section[id^=class]')].map((section) => ({
            title: section.querySelector('h2').textContent,
            charts: section.querySelectorAll('svg[role=img][aria-label]').length,
            lines: section.querySelectorAll('svg .line').length,
            threshold: +section.querySelector('p').textContent.match(/Threshold ([0-9.]+)/)[1],
            alarms: +section.querySelector('p').textContent.match(/: ([0-9]+) of/)[1],
            shots: [...section.querySelectorAll('.shot')].map((shot) => ({
                verdict: shot.querySelector('.badge').textContent,
                defective: !shot.textContent.includes('good/'),
                score: +shot.textContent.match(/score ([0-9.]+)/)[1],
            })),
        }))",
    );
    for (section, class) in sections.as_array().unwrap().iter().zip(&found.classes) {
        assert_eq!(
            (&section["title"], &section["charts"], &section["lines"]),
            (&json!(class.class), &json!(3), &json!(4))
        );
        let threshold = section["threshold"].as_f64().unwrap();
        let mut errors = Vec::new();
        for shot in section["shots"].as_array().unwrap() {
            let (score, defective) = (shot["score"].as_f64().unwrap(), shot["defective"] == true);
            let above = score > threshold;
            let expected = ["right", "false alarm", "miss"]
                [usize::from(above && !defective) + 2 * usize::from(!above && defective)];
            assert_eq!(shot["verdict"], expected, "{}: {shot}", class.class);
            errors.push((score - threshold) * if defective { -1.0 } else { 1.0 });
        }
        assert!(errors.len() == 9 && errors.windows(2).all(|pair| pair[0] >= pair[1] - 1.1e-4), "{errors:?}");
        let alarms =
            section["shots"].as_array().unwrap().iter().filter(|shot| shot["verdict"] == "false alarm").count();
        assert!(section["alarms"].as_u64().unwrap() as usize >= alarms);
    }
    page.wait_for("[...document.images].every((image) => image.complete)");
    let pictures = page.eval("[...document.images].map((image) => [image.alt !== '', image.naturalWidth])");
    let pictures = pictures.as_array().unwrap();
    assert!(pictures.len() > 2 * 9 * found.classes.len(), "{}", pictures.len());
    assert!(pictures.iter().all(|picture| picture[0] == true && picture[1] == 192), "{pictures:?}");
    assert_eq!(page.eval("[...document.querySelectorAll('th:not([scope])')].length"), Value::from(0));
    assert_eq!(text("title")[0], "Evaluation of demo-model");

    let height = |width: u32| {
        page.resize(width, 1000);
        page.eval("document.documentElement.scrollHeight").as_u64().unwrap() as u32
    };
    let overflow = "document.documentElement.scrollWidth > innerWidth";
    page.resize(1280, height(1280).min(5000));
    assert_eq!(page.eval(overflow), false);
    page.screenshot("report");
    page.prefer("dark");
    page.resize(420, height(420).min(5000));
    assert_eq!(page.eval(overflow), false);
    page.screenshot("report-dark-narrow");

    assert_eq!(page.complaints(), Vec::<String>::new());
    let asked = [page.requested(), chrome.requested()].concat();
    let foreign: Vec<_> =
        asked.iter().filter(|url| !url.starts_with("data:") && !url.starts_with("file:///")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(asked.iter().filter(|url| url.starts_with("file:")).count(), 1, "the page alone: {asked:?}");
}
