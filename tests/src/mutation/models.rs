//! Published models: one of the files changed, and what the manifest says of it set right.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use dinomaly_core::Model;
use dinomaly_core::bundle::MANIFEST;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::backbones::{put_together, taken_apart};
use super::{Choices, Outcome, json, outcome};
use crate::fixtures;

type Files = BTreeMap<String, Vec<u8>>;

static SEEDS: LazyLock<Vec<Files>> = LazyLock::new(|| {
    let folders = ["model", "model-f16", "model-int8", "model-int4"];
    let files = |folder: &str| {
        let entries = fs::read_dir(fixtures("released/format-1").join(folder)).expect("fixtures are there").flatten();
        let file = |entry: fs::DirEntry| {
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("fixtures can be read"))
        };
        entries.map(file).collect()
    };
    folders.map(files).into()
});

/// One of the JSON files is changed.
pub fn model(choices: &mut Choices, _: &Path) -> Outcome {
    let mut files = choices.pick(&SEEDS).clone();
    let names: Vec<String> = files.keys().filter(|name| name.ends_with(".json")).cloned().collect();
    let name = choices.pick(&names);
    let mut value: Value = serde_json::from_slice(&files[name]).expect("JSON");
    json::change(choices, &mut value);
    put(&mut files, name, serde_json::to_vec(&value).expect("JSON"));
    read(true, &files)
}

/// The header of the encoder's or the head's weights is changed.
pub fn shard(choices: &mut Choices, _: &Path) -> Outcome {
    let mut files = choices.pick(&SEEDS).clone();
    let names: Vec<String> = files.keys().filter(|name| name.ends_with(".safetensors")).cloned().collect();
    let name = choices.pick(&names);
    let mut shard = taken_apart(&files[name]);
    json::change(choices, &mut shard.0);
    put(&mut files, name, put_together(&shard));
    read(shard.0.is_object(), &files)
}

/// Replaces a file. Those with weights are named by their content.
fn put(files: &mut Files, name: &str, bytes: Vec<u8>) {
    let mut own = name.to_owned();
    if name != MANIFEST {
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if let [kind, _, rest] = name.splitn(3, '-').collect::<Vec<_>>()[..] {
            own = format!("{kind}-{}-{rest}", &hash[..16]);
        }
        let mut manifest: Value = serde_json::from_slice(&files[MANIFEST]).expect("JSON");
        let entries = manifest["files"].as_array_mut().into_iter().flatten();
        for entry in entries.filter(|entry| entry["name"] == name) {
            entry["name"] = json!(own);
            entry["bytes"] = json!(bytes.len());
            entry["sha256"] = json!(hash);
        }
        files.insert(MANIFEST.into(), serde_json::to_vec(&manifest).expect("JSON"));
        files.remove(name);
    }
    files.insert(own, bytes);
}

fn read(parsed: bool, files: &Files) -> Outcome {
    let fetch = |name: &str| files.get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
    outcome(parsed, Model::read(fetch).map(drop).map_err(|error| error.to_string()))
}
