//! Published models: one of the JSON files changed, and the manifest's hash of it set right.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use dinomaly_core::Model;
use dinomaly_core::bundle::MANIFEST;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Choices, Outcome, json, outcome};
use crate::fixtures;

type Files = BTreeMap<String, Vec<u8>>;

pub fn model(choices: &mut Choices, _: &Path) -> Outcome {
    static SEEDS: LazyLock<Vec<Files>> = LazyLock::new(|| {
        let folders = ["model", "model-f16", "model-int8", "model-int4"];
        let files = |folder: &str| {
            let entries =
                fs::read_dir(fixtures("released/format-1").join(folder)).expect("fixtures are there").flatten();
            let file = |entry: fs::DirEntry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    fs::read(entry.path()).expect("fixtures can be read"),
                )
            };
            entries.map(file).collect()
        };
        folders.map(files).into()
    });
    let mut files = choices.pick(&SEEDS).clone();
    let names: Vec<String> = files.keys().filter(|name| name.ends_with(".json")).cloned().collect();
    let name = choices.pick(&names);
    let mut value: Value = serde_json::from_slice(&files[name]).expect("JSON");
    json::change(choices, &mut value);
    let bytes = serde_json::to_vec(&value).expect("JSON");
    if name != MANIFEST {
        let mut manifest: Value = serde_json::from_slice(&files[MANIFEST]).expect("JSON");
        let entries = manifest["files"].as_array_mut().into_iter().flatten();
        for entry in entries.filter(|entry| entry["name"] == name.as_str()) {
            entry["bytes"] = json!(bytes.len());
            entry["sha256"] =
                json!(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        files.insert(MANIFEST.into(), serde_json::to_vec(&manifest).expect("JSON"));
    }
    files.insert(name.clone(), bytes);
    let fetch = |name: &str| files.get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
    outcome(true, Model::read(fetch).map(drop).map_err(|error| error.to_string()))
}
