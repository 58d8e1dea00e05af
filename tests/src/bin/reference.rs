//! Repeats the official implementation's run on real photos and writes the metrics beside each other.
//!
//! `cargo run --release -p dinomaly-tests --bin reference [-- --backbone FILE] [--seed N] [--out DIR]` with `DINOMALY_DATA`,
//! `DINOMALY_WEIGHTS` and `DINOMALY_GOLDEN` set (its `reference_runs.json` holds protocol and figures). Takes about
//! twenty minutes on two cores; not part of `cargo verify`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use dinomaly_tests::{data, golden, read_json, weights};
use serde_json::Value;

const METRICS: [&str; 7] = ["i_auroc", "i_ap", "i_f1max", "p_auroc", "p_ap", "p_f1max", "aupro"];

/// The metrics that must be within a point of the reference.
const REQUIRED: [&str; 3] = ["i_auroc", "p_auroc", "aupro"];

/// How many points of them int8 may cost.
const INT8_COST: f64 = 0.3;

fn main() -> Result<()> {
    let option = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let data = data().context("set DINOMALY_DATA to the folder of real photos")?;
    let backbone = match option("--backbone") {
        Some(file) => PathBuf::from(file),
        None => weights().context("set DINOMALY_WEIGHTS")?.join("deit_tiny_patch16_224.safetensors"),
    };
    let seed = option("--seed").unwrap_or_else(|| "1".into());
    let out = PathBuf::from(option("--out").unwrap_or_else(|| "target/reference".into()));
    let reference = read_json(&golden().join("reference_runs.json"));
    let protocol = &reference["protocol"];
    let classes = protocol["data"].as_array().context("protocol.data")?.iter().filter_map(Value::as_str);
    let classes = classes.collect::<Vec<_>>().join(",");
    let iterations = protocol["iterations"].as_u64().context("protocol.iterations")?;

    std::fs::create_dir_all(&out)?;
    let path = |name: &str| out.join(name).display().to_string();
    let (data, backbone_text) = (data.display().to_string(), backbone.display().to_string());
    let (model, int8) = (path("model"), path("model-int8"));
    let geometry = ["--resize", "256", "--crop", "224", "--batch", "16", "--holdout", "0"];
    let train = ["train", &data, "--classes", &classes, "--backbone", &backbone_text, "--out", &model];
    // An earlier run's model says nothing about this program.
    let schedule = ["--iterations", &iterations.to_string(), "--seed", &seed, "--restart"];
    dinomaly(&[&train[..], &geometry, &schedule].concat())?;
    dinomaly(&["quantize", &model, "--out", &int8])?;
    let evaluate = |model: &str, json: &str| -> Result<BTreeMap<String, Value>> {
        dinomaly(&["evaluate", model, &data, "--classes", &classes, "--json", json])?;
        by_class(Path::new(json))
    };
    let (ours, quantized) = (evaluate(&model, &path("f32.json"))?, evaluate(&int8, &path("int8.json"))?);

    let table = table(&reference, iterations, &ours, &quantized)?;
    let file = out.join("table.md");
    std::fs::write(&file, &table)?;
    println!("\n{table}\nwritten to {}", file.display());
    let mean = final_mean(&reference, iterations, "mean")?;
    let behind = |metric: &&str| percent(&ours["mean"], metric) < mean[*metric] - 1.0;
    if let Some(metric) = REQUIRED.iter().find(|metric| behind(metric)) {
        bail!("{metric} is more than a point below the reference");
    }
    let costs = |metric: &&str| percent(&ours["mean"], metric) - percent(&quantized["mean"], metric) > INT8_COST;
    if let Some(metric) = REQUIRED.iter().find(|metric| costs(metric)) {
        bail!("int8 costs more than {INT8_COST} points of {metric}");
    }
    Ok(())
}

fn dinomaly(arguments: &[&str]) -> Result<()> {
    let cargo = ["run", "--quiet", "--release", "--package", "dinomaly", "--"];
    let status = Command::new("cargo").args(cargo).args(arguments).status()?;
    if !status.success() {
        bail!("dinomaly {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

fn by_class(json: &Path) -> Result<BTreeMap<String, Value>> {
    let evaluation = read_json(json);
    let classes = evaluation["classes"].as_array().context("classes")?;
    let mut metrics: BTreeMap<String, Value> = BTreeMap::new();
    for class in classes {
        metrics.insert(class["class"].as_str().context("class name")?.to_owned(), class["metrics"].clone());
    }
    metrics.insert("mean".into(), evaluation["mean"].clone());
    Ok(metrics)
}

/// Mean over the reference's seeds after the last iteration, in percent.
fn final_mean<'a>(reference: &Value, iterations: u64, class: &str) -> Result<BTreeMap<&'a str, f64>> {
    let runs = reference["runs"].as_array().context("runs")?;
    let last: Vec<&Value> =
        runs.iter().filter(|run| run["iteration"] == iterations).map(|run| &run["metrics_percent"][class]).collect();
    let mean = |metric: &str| last.iter().filter_map(|m| m[metric].as_f64()).sum::<f64>() / last.len() as f64;
    Ok(METRICS.map(|metric| (metric, mean(metric))).into())
}

fn percent(metrics: &Value, metric: &str) -> f64 {
    metrics[metric].as_f64().map_or(f64::NAN, |value| 100.0 * value)
}

fn table(
    reference: &Value,
    iterations: u64,
    ours: &BTreeMap<String, Value>,
    quantized: &BTreeMap<String, Value>,
) -> Result<String> {
    let mut text = String::from(
        "| class | | I-AUROC | I-AP | I-F1max | P-AUROC | P-AP | P-F1max | AUPRO |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for class in ours.keys() {
        let official = final_mean(reference, iterations, class)?;
        let rows = [
            ("official, mean of seeds", METRICS.map(|metric| official[metric])),
            ("ours, f32", METRICS.map(|metric| percent(&ours[class], metric))),
            ("ours, int8", METRICS.map(|metric| percent(&quantized[class], metric))),
        ];
        for (who, values) in rows {
            let cells = values.map(|value| format!("{value:.2}")).join(" | ");
            writeln!(text, "| {class} | {who} | {cells} |")?;
        }
    }
    Ok(text)
}
