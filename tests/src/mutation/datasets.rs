//! Lists of data sets: Real-IAD's JSON and VisA's CSV.

use std::fs;
use std::path::Path;

use dinomaly::dataset::{Dataset, Layout};
use serde_json::json;

use super::{Choices, Outcome, json, outcome};

fn open(layout: Layout, folder: &Path) -> Result<(), String> {
    Dataset::open_as(Some(layout), folder, &[]).map(drop).map_err(|error| format!("{error:#}"))
}

pub fn real_iad(choices: &mut Choices, folder: &Path) -> Outcome {
    let entry = |kind: &str, name: &str| {
        json!({
            "anomaly_class": kind,
            "image_path": format!("{kind}/S0001/{name}.jpg"),
            "mask_path": (kind != "OK").then(|| format!("{kind}/S0001/{name}.png")),
            "category": "nut",
        })
    };
    let mut list = json!({
        "meta": { "normal_class": "OK", "prefix": "nut/" },
        "train": [entry("OK", "nut_0001_OK_C1"), entry("OK", "nut_0002_OK_C1")],
        "test": [entry("OK", "nut_0003_OK_C1"), entry("AK", "nut_0003_AK_C1")],
    });
    json::change(choices, &mut list);
    fs::create_dir_all(folder.join("realiad_jsons")).expect("a temporary folder");
    fs::create_dir_all(folder.join("realiad_1024/nut")).expect("a temporary folder");
    fs::write(folder.join("realiad_jsons/nut.json"), list.to_string()).expect("a temporary file");
    outcome(true, open(Layout::RealIad, folder))
}

pub fn visa(choices: &mut Choices, folder: &Path) -> Outcome {
    let mut rows = [
        ["object", "split", "label", "image", "mask"].map(str::to_owned),
        ["nut", "train", "normal", "nut/Data/Images/Normal/0.JPG", ""].map(str::to_owned),
        ["nut", "test", "anomaly", "nut/Data/Images/Anomaly/0.JPG", "nut/Data/Masks/Anomaly/0.png"].map(str::to_owned),
    ];
    let texts = [
        "", "nut", "train", "test", "val", "..", "../..", "/", ".", "\"", "a,b", "normal", "\u{feff}", "mask", "ä",
        "\r",
    ];
    for _ in 0..choices.changes() {
        // The names of the columns less often: without them nothing is read.
        let row = if choices.one_in(8) { 0 } else { 1 + choices.below(rows.len() - 1) };
        rows[row][choices.below(5)] = match choices.below(5) {
            0 => "x".repeat(5000),
            _ => (*choices.pick(&texts)).to_owned(),
        };
    }
    let parsed =
        rows[0].join(",") == "object,split,label,image,mask" && !rows.concat().iter().any(|cell| cell.contains('"'));
    let text: String = rows.iter().map(|row| row.join(",") + "\n").collect();
    fs::create_dir_all(folder.join("split_csv")).expect("a temporary folder");
    fs::create_dir_all(folder.join("nut")).expect("a temporary folder");
    fs::write(folder.join("split_csv/1cls.csv"), text).expect("a temporary file");
    outcome(parsed, open(Layout::Visa, folder))
}
